"""Value sets and code systems that a search asks for (FHIR R4 section 3.1.1.4.10, `:in` and `:below`): those stored here, before the standard's own."""

from collections.abc import Iterator
from typing import Any, Final

import orjson
from sqlalchemy import Connection, select

from profiles.fhir.query import All, AnyOf, Chain, Condition, Criterion, Not, Reverse, Search, Text, TokenValue
from profiles.r4.terminology import BUILT_IN, Terminology
from server.records import index_keys as keys
from server.records.fhir_search.matches import Allowed
from server.records.fhir_search.terms import RESOURCE, TEXT
from server.records.packing import unpacked

_MOST: Final = 100
"""Resources that one search may read for it."""
Json = dict[str, Any]


def terminology(connection: Connection, search: Search, allowed: Allowed) -> Terminology:
    """What the search has to know of codes; resources that the caller may not see are not looked at."""
    wanted = {each for criterion in criteria(search.condition) for each in _named(criterion)}
    if not wanted:
        return BUILT_IN
    found: dict[tuple[str, str], Json] = {}
    known = set(wanted)
    while wanted and len(known) <= _MOST:
        type_, url = wanted.pop()
        resource = _stored(connection, type_, url, allowed)
        if resource is not None:
            found[type_, url] = resource
            more = set(_composed(resource)) - known
            known |= more
            wanted |= more
    if not found:
        return BUILT_IN
    return Terminology(
        [each for (type_, _), each in found.items() if type_ == "CodeSystem"],
        [each for (type_, _), each in found.items() if type_ == "ValueSet"],
    )


def criteria(condition: Condition) -> Iterator[Criterion]:
    """Every single parameter in a tree."""
    match condition:
        case Criterion():
            yield condition
        case All() | AnyOf():
            for each in condition.conditions:
                yield from criteria(each)
        case Not() | Reverse():
            yield from criteria(condition.condition)
        case Chain():
            for _, each in condition.conditions:
                yield from criteria(each)


def _named(criterion: Criterion) -> Iterator[tuple[str, str]]:
    if criterion.parameter.type != "token":
        return
    if criterion.modifier in ("in", "not-in"):
        yield from (("ValueSet", each.text.partition("|")[0]) for each in criterion.values if isinstance(each, Text))
    elif criterion.modifier in ("above", "below"):
        yield from (("CodeSystem", each.system) for each in criterion.values if isinstance(each, TokenValue) and each.system)


def _composed(resource: Json) -> Iterator[tuple[str, str]]:
    """What a value set is made of."""
    compose = resource.get("compose", {})
    for part in (*compose.get("include", ()), *compose.get("exclude", ())):
        if "system" in part:
            yield "CodeSystem", part["system"]
        yield from (("ValueSet", url.partition("|")[0]) for url in part.get("valueSet", ()))


def _stored(connection: Connection, type_: str, url: str, allowed: Allowed) -> Json | None:
    """The resource of this canonical URL; of several the one that was changed last."""
    row = connection.execute(
        select(RESOURCE.c.body)
        .join(TEXT, TEXT.c.resource_pk == RESOURCE.c.pk)
        .where(
            TEXT.c.parameter == keys.parameter_hash(type_, "url"), TEXT.c.folded == keys.folded_key(url),
            TEXT.c.exact == keys.exact_key(url), RESOURCE.c.deleted == 0, allowed(type_, RESOURCE),
        )
        .order_by(RESOURCE.c.updated.desc())
        .limit(1)
    ).first()  # fmt: skip
    if row is None:
        return None
    found: Json = orjson.loads(unpacked(bytes(row.body)))
    return found

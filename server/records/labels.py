"""Which profiles, tags and security labels resources have (FHIR R4, OperationDefinition Resource-meta): a look into an index for each.

The index says which there are, the first resource that has one says how it is written.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Final

import orjson
from sqlalchemy import Connection, select

from server.records import index_keys as keys
from server.records.fhir_search.limits import limited
from server.records.fhir_search.matches import Allowed, TooCostly
from server.records.fhir_search.terms import RESOURCE, TEXT, Test
from server.records.packing import unpacked

MOST: Final = 1000
"""Of each that are told."""
_LISTS: Final = {"profile": "_profile", "security": "_security", "tag": "_tag"}
CODES: Final = tuple(_LISTS.values())
"""The search parameters whose rows are looked at."""


def types(connection: Connection) -> list[str]:
    """The types of which there are, or were, resources; in order."""
    found: list[str] = []
    later = select(RESOURCE.c.type).order_by(RESOURCE.c.type).limit(1)
    while each := connection.execute(later.where(RESOURCE.c.type > (found[-1] if found else ""))).scalar():
        found.append(each)
    return found


def in_use(connection: Connection, types: Sequence[str], allowed: Allowed) -> dict[str, list[Any]]:
    """By `profile`, `security` and `tag` what resources of the types have that are `allowed`, each once, as `Meta` has it.

    Raises `TooCostly` where one of the three has more than `MOST`, or it takes too long: what is told is always all.
    """
    with limited(connection):
        return {name: _of_all(connection, types, name, allowed) for name in _LISTS}


def _of_all(connection: Connection, types: Sequence[str], name: str, allowed: Allowed) -> list[Any]:
    found: dict[str, Any] = {}
    for type_ in types:
        for key, value in _of_type(connection, type_, name, allowed):
            found.setdefault(key, value)
            if len(found) > MOST:
                raise TooCostly(f"there are more than {MOST} of meta.{name}; ask for those of one type, or search for them")
    return [found[key] for key in sorted(found)]


def _of_type(connection: Connection, type_: str, name: str, allowed: Allowed) -> Iterator[tuple[str, Any]]:
    """(key, value), in the order of the index. What is folded alike stands together there."""
    code = _LISTS[name]
    parameter = keys.parameter_hash(type_, code if name == "profile" else code + keys.LISTED)
    having = (
        select(TEXT.c.folded, TEXT.c.exact, RESOURCE.c.body)
        .join(RESOURCE, RESOURCE.c.pk == TEXT.c.resource_pk)
        .where(TEXT.c.parameter == parameter, RESOURCE.c.deleted == 0, allowed(type_, RESOURCE))
    )

    def first(*tests: Test) -> Any:
        return connection.execute(having.where(*tests).order_by(TEXT.c.folded).limit(1)).first()

    row = first()
    while row is not None:
        folded, seen = row.folded, []
        while row is not None:
            seen.append(row.exact)
            yield from _written(row.body, name, row.exact)
            row = first(TEXT.c.folded == folded, TEXT.c.exact.not_in(seen))
        row = first(TEXT.c.folded > folded)


def _written(body: bytes, name: str, exact: str) -> Iterator[tuple[str, Any]]:
    """What of a resource's meta the row is of; a profile with its version has a row without it too, which is of nothing."""
    for value in orjson.loads(unpacked(bytes(body))).get("meta", {}).get(name, ()):
        key = value if isinstance(value, str) else f"{value.get('system', '')}|{value.get('code', '')}"
        if keys.exact_key(key) == exact:
            yield key, value

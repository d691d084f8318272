"""What goes with the matches of a search (FHIR R4 section 3.1.1.5.7): `_include` and `_revinclude`, each resource once."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, FromClause, Select, True_, and_, false, or_, select

from profiles.fhir.expression import targets
from profiles.fhir.query import Include
from profiles.r4.definitions import resource_types
from profiles.r4.search import Parameter, parameters
from server.records import index_keys as keys
from server.records.fhir_search.matches import Allowed, Match
from server.records.fhir_search.terms import REFERENCE, RESOURCE, TEXT, Test, probe
from server.records.packing import unpacked

MOST_INCLUDED: Final = 1000
_DEEPEST: Final = 10
"""How often `:iterate` goes on."""
_CUT: Final = f"more is included than fits: no more than {MOST_INCLUDED} resources, over no more than {_DEEPEST} references; ask for fewer matches"
_TOGETHER: Final = 400
_SOURCES: Final = 32
"""Types that are looked at in one statement."""


@dataclass(frozen=True, slots=True)
class Included:
    """Resources that go with matches, ordered by type and id of what led to them; `is_cut`: there are more than are given."""

    matches: tuple[Match, ...] = ()
    is_cut: bool = False

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the client has to know of them, in words."""
        return (_CUT,) if self.is_cut else ()


def included(
    connection: Connection,
    matches: Sequence[Match],
    includes: Sequence[Include],
    *,
    decision_where: Allowed,
    most: int = MOST_INCLUDED,
) -> Included:
    """What is included with these matches: none that is itself one, none that the caller may not see, `most` at the most.

    `:iterate` is followed over ten references; what leads round in a circle ends where it began.
    """
    seen = {match.pk for match in matches}
    found: list[Match] = []
    latest: Sequence[Match] = matches
    for depth in range(_DEEPEST):
        asked = [each for each in includes if each.iterate or not depth]
        room = most - len(found)
        reverse = _Reverse(connection, decision_where, len(seen) + room + 1)
        pks = sorted({pk for each in asked for pk in _led(connection, each, latest, reverse)} - seen) if latest else []
        latest = _visible(connection, pks, decision_where, room + 1)
        found += latest[:room]
        if len(latest) > room:
            return Included(tuple(found), True)
        seen |= set(pks)
    return Included(tuple(found), bool(latest) and any(each.iterate for each in includes))


def _led(connection: Connection, include: Include, matches: Sequence[Match], reverse: "_Reverse") -> Iterator[int]:
    """The rows of what one parameter includes with these."""
    by_type: dict[str, list[Match]] = {}
    for match in matches:
        by_type.setdefault(match.type, []).append(match)
    for type_, group in by_type.items():
        for start in range(0, len(group), _TOGETHER):
            part = group[start : start + _TOGETHER]
            if include.reverse:
                yield from reverse.rows(include, type_, [each.id for each in part])
            elif include.source in ("*", type_):
                yield from _forward(connection, include, type_, [each.pk for each in part])


def _forward(connection: Connection, include: Include, type_: str, pks: Sequence[int]) -> Iterator[int]:
    """`_include`: by reference to a resource, or by canonical URL to one that has it."""
    tests: list[Test] = [REFERENCE.c.resource_pk.in_(pks)]
    if include.parameter is not None:
        tests.append(REFERENCE.c.parameter == keys.parameter_hash(type_, include.parameter))
    if include.target:
        tests.append(REFERENCE.c.target_type.in_((include.target, "")))
    rows = connection.execute(select(REFERENCE.c.target_type, REFERENCE.c.target_id).where(*tests).distinct()).all()
    here: dict[str, list[str]] = {}
    for row in rows:
        here.setdefault(row.target_type, []).append(row.target_id)
    urls = here.pop("", [])
    yield from _named(connection, here)
    if urls:
        yield from _canonical(connection, include, type_, urls)


def _named(connection: Connection, ids: "dict[str, list[str]]") -> Iterator[int]:
    for type_, named in sorted(ids.items()):
        for start in range(0, len(named), _TOGETHER):
            part = named[start : start + _TOGETHER]
            yield from connection.execute(
                select(RESOURCE.c.pk).where(RESOURCE.c.type == type_, RESOURCE.c.id.in_(part))
            ).scalars()


def _canonical(connection: Connection, include: Include, type_: str, urls: Sequence[str]) -> Iterator[int]:
    """Resources with a `url` parameter of one of the types that the parameters lead to."""
    leads = {include.target} if include.target else {
        target for each in _references(type_, include.parameter) for target in targets(each, type_)
    }  # fmt: skip
    hashes = [keys.parameter_hash(target, "url") for target in sorted(leads) if "url" in parameters(target)]
    plain = sorted({url.partition("|")[0] for url in urls})[:_TOGETHER]
    found = select(TEXT.c.resource_pk).where(
        TEXT.c.parameter.in_(hashes), TEXT.c.folded.in_({keys.folded_key(url) for url in plain}), TEXT.c.exact.in_(plain)
    )
    if hashes:
        yield from connection.execute(found).scalars()


@dataclass(frozen=True, slots=True)
class _Reverse:
    """`_revinclude`: what leads here, of all that the caller may see `most` at the most, which is more than fits."""

    connection: Connection
    allowed: Allowed
    most: int

    def rows(self, include: Include, type_: str, ids: Sequence[str]) -> Iterator[int]:
        """The rows of what leads to these resources of a type."""
        if include.target not in ("", type_):
            return
        hashes = self._hashes(include, type_)
        for everybody in (True, False):
            sources = sorted(source for source in hashes if self._is_open(source) == everybody)
            for start in range(0, len(sources), _SOURCES):
                part = {source: hashes[source] for source in sources[start : start + _SOURCES]}
                led = self._of_everybody(part, type_, ids) if everybody else self._of_few(part, type_, ids)
                yield from self.connection.execute(led.limit(self.most)).scalars()

    def _hashes(self, include: Include, type_: str) -> dict[str, list[int]]:
        """Source type -> its parameters that lead to the type."""
        sources = resource_types() if include.source == "*" else (include.source,)
        found = {
            source: [keys.parameter_hash(source, each.code) for each in _references(source, include.parameter) if type_ in targets(each, source)]
            for source in sources
        }  # fmt: skip
        if include.parameter is not None and include.source != "*" and not any(found.values()):  # one that is not of the standard
            found = {include.source: [keys.parameter_hash(include.source, include.parameter)]}
        return {source: hashes for source, hashes in found.items() if hashes}

    def _is_open(self, source: str) -> bool:
        """Whether the caller may see everybody's."""
        return isinstance(self.allowed(source, RESOURCE), True_)

    def _of_everybody(self, hashes: Mapping[str, Sequence[int]], type_: str, ids: Sequence[str]) -> "Select[int]":
        tests = _leads(REFERENCE, [each for some in hashes.values() for each in some], type_, ids)
        return (
            select(RESOURCE.c.pk).join(REFERENCE, REFERENCE.c.resource_pk == RESOURCE.c.pk).where(*tests, RESOURCE.c.deleted == 0).distinct()
        )  # fmt: skip

    def _of_few(self, hashes: Mapping[str, Sequence[int]], type_: str, ids: Sequence[str]) -> "Select[int]":
        """Beginning with what the caller may see: what leads here may be everything that there is, such as every study to one Endpoint."""
        row = REFERENCE.alias()
        each = (
            and_(RESOURCE.c.type == source, self.allowed(source, RESOURCE), probe(row, RESOURCE, *_leads(row, some, type_, ids)))
            for source, some in hashes.items()
        )  # fmt: skip
        return select(RESOURCE.c.pk).where(RESOURCE.c.deleted == 0, or_(false(), *each))


def _leads(row: FromClause, hashes: Sequence[int], type_: str, ids: Sequence[str]) -> tuple[Test, ...]:
    return (row.c.parameter.in_(hashes), row.c.target_type == type_, row.c.target_id.in_(ids))


def _references(type_: str, code: str | None) -> Iterable[Parameter]:
    return (each for each in parameters(type_).values() if each.type == "reference" and code in (None, each.code))


def _visible(connection: Connection, pks: Sequence[int], allowed: Allowed, most: int) -> list[Match]:
    """Those that the caller may see, in the order of their rows."""
    found: list[Match] = []
    for start in range(0, len(pks), _TOGETHER):
        part = pks[start : start + _TOGETHER]
        types = connection.execute(select(RESOURCE.c.type).where(RESOURCE.c.pk.in_(part)).distinct()).scalars().all()
        may = or_(*(and_(RESOURCE.c.type == type_, allowed(type_, RESOURCE)) for type_ in sorted(types)))
        rows = connection.execute(
            select(RESOURCE.c.pk, RESOURCE.c.type, RESOURCE.c.id, RESOURCE.c.patient, RESOURCE.c.body)
            .where(RESOURCE.c.pk.in_(part), RESOURCE.c.deleted == 0, may)
            .order_by(RESOURCE.c.pk)
            .limit(most - len(found))
        )  # fmt: skip
        found += [Match(row.type, row.id, row.patient, unpacked(bytes(row.body)), row.pk) for row in rows]
        if len(found) >= most:
            break
    return found

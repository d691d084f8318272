"""Pages, totals and ids of searches (FHIR R4 sections 3.1.1.5.4 and 3.1.1.5.5)."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Final, Protocol

from sqlalchemy import Connection, select

from profiles.fhir.query import Search
from server.errors import NotSupported
from server.records.fhir_search import events, plain
from server.records.fhir_search.codes import terminology
from server.records.fhir_search.conditions import Conditions
from server.records.fhir_search.limits import limited
from server.records.fhir_search.matches import Allowed, Key, Match, Page, Position, cut
from server.records.fhir_search.terms import RESOURCE
from server.records.fhir_search.walks import Found, Walked
from server.records.packing import unpacked

MOST_COUNTED: Final = 10_000
"""How far an estimated total is counted."""


def page(
    connection: Connection,
    search: Search,
    *,
    decision_where: Allowed,
    confined: bool,
    count: int,
    began: int,
    after: Position | None = None,
    only: frozenset[str] | None = None,
) -> Page:
    """FHIR R4 section 3.1.1.5.4: up to `count` matches (at least 1) after `after`, in the search's order.

    `confined` says that the Decision leaves few patients; `only` is the one that it leaves, or empty where it leaves all, None for what is neither.
    What is new since `began` stays out, so that paging ends. A resource that has a new
    version since then is shown in that version: at its place, and once more after all others, for its place may have become one that lies
    behind; so paging loses nothing. In the order of updates it is shown there only. Raises `Refused` for what is not offered.
    """
    if _is_of_events(search):
        return events.page(connection, search, allowed=decision_where, confined=confined, count=count, began=began, after=after)
    with limited(connection):
        way: _Way

        def made() -> _One:
            conditions = Conditions(connection, decision_where, terminology(connection, search, decision_where))
            return _One(conditions, search, confined, began)

        plainly = plain.rows(connection, search, only, began, count + 1, after)
        if plainly is not None:
            way = _Plain(plainly, search, made)
        elif len(search.types) > 1:
            way = _Several(connection, decision_where, search, confined, began)
        else:
            way = made()
        return cut(_found(way, count + 1, began, after), count)


def total(connection: Connection, search: Search, *, decision_where: Allowed, confined: bool, began: int) -> int:
    """FHIR R4 section 3.1.1.5.5: how many matches there are on all pages; where an estimate is asked for, counted to 10,000 at most."""
    if _is_of_events(search):
        return events.total(connection, search, allowed=decision_where, confined=confined, began=began)
    most = MOST_COUNTED if search.total == "estimate" else None
    with limited(connection):
        conditions = Conditions(connection, decision_where, terminology(connection, search, decision_where))
        found = 0
        for type_ in search.types:
            walked = Walked(conditions, replace(search, sort=()), type_, confined=confined, began=began)
            if not walked.is_empty:
                found += int(connection.execute(walked.count(most)).scalar_one())
        return found


def ids(connection: Connection, search: Search, *, decision_where: Allowed, limit: int) -> list[str]:
    """At most `limit` ids of the resources of one type that a conditional interaction is about (FHIR R4 section 3.1.0.4.3)."""
    if _is_of_events(search) or len(search.types) != 1:
        raise NotSupported("a condition is on one type of resource, other than AuditEvent")
    with limited(connection):
        conditions = Conditions(connection, decision_where, terminology(connection, search, decision_where))
        walked = Walked(conditions, replace(search, sort=()), search.types[0], confined=False, began=None, columns=("id",))
        return [row.columns.id for row in walked.rows(limit, None)]


def _is_of_events(search: Search) -> bool:
    """AuditEvents are in the trail, not among the resources."""
    if "AuditEvent" in search.types and len(search.types) > 1:
        raise NotSupported("AuditEvents are searched by themselves: leave them out of _type")
    return search.types == ("AuditEvent",)


def _match(type_: str, pk: int, row: Any, search: Search) -> Match:
    short = search.summary == "true" and row.summary is not None
    return Match(type_, row.id, row.patient, unpacked(bytes(row.summary if short else row.body)), pk, short)


# --- the ways through one type, and through several


def _found(way: "_Way", limit: int, began: int, after: Position | None) -> Iterator[tuple[Position, Match]]:
    """Matches in their order; then what was changed meanwhile, as far as it is not among them. There a position has no keys."""
    shown: set[int] = set()
    if after is None or after.keys:
        for keys, match in way.rows(limit, after):
            shown.add(match.pk)
            yield Position(began, keys, match.pk), match
    if len(shown) < limit and (after is not None or way.in_order_of_updates):
        last = after.pk if after is not None and not after.keys else 0
        for _, match in way.changed(limit + len(shown), last):
            if match.pk not in shown:
                yield Position(began, (), match.pk), match


class _Way(Protocol):
    in_order_of_updates: bool

    def rows(self, limit: int, after: Position | None) -> Iterator[tuple[tuple[Key, ...], Match]]: ...

    def changed(self, limit: int, after: int) -> Iterator[tuple[tuple[Key, ...], Match]]: ...


class _Plain:
    """Rows of a statement that is known; `made` is asked for what was changed meanwhile."""

    def __init__(self, plainly: Iterator[plain.Row], search: Search, made: Callable[[], "_One"]) -> None:
        self._rows, self._search, self._made = plainly, search, made
        self.in_order_of_updates = any(key.parameter.code == "_lastUpdated" for key in search.sort)

    def rows(self, limit: int, after: Position | None) -> Iterator[tuple[tuple[Key, ...], Match]]:
        type_, summarized = self._search.types[0], self._search.summary == "true"
        for key, pk, id_, patient, body, summary in self._rows:
            short = summarized and summary is not None
            yield (key,), Match(type_, id_, patient, unpacked(bytes(summary if short else body)), pk, short)

    def changed(self, limit: int, after: int) -> Iterator[tuple[tuple[Key, ...], Match]]:
        return self._made().changed(limit, after)


class _One:
    """Rows come with their bodies, as far as the page has room."""

    def __init__(self, conditions: Conditions, search: Search, confined: bool, began: int) -> None:
        self._search, self._type = search, search.types[0]
        self._walked = Walked(conditions, search, self._type, confined=confined, began=began)
        self.in_order_of_updates = self._walked.in_order_of_updates

    def rows(self, limit: int, after: Position | None) -> Iterator[tuple[tuple[Key, ...], Match]]:
        return self._matches(self._walked.rows(limit, after))

    def changed(self, limit: int, after: int) -> Iterator[tuple[tuple[Key, ...], Match]]:
        return self._matches(self._walked.changed(limit, after))

    def _matches(self, rows: Iterator[Found]) -> Iterator[tuple[tuple[Key, ...], Match]]:
        return ((row.keys, _match(self._type, row.pk, row.columns, self._search)) for row in rows)


class _Several:
    """The page of each type, merged: keys first, then the bodies of those that are on it."""

    def __init__(self, connection: Connection, decision_where: Allowed, search: Search, confined: bool, began: int) -> None:
        self._connection, self._search = connection, search
        conditions = Conditions(connection, decision_where, terminology(connection, search, decision_where))
        self._walks = [
            (type_, Walked(conditions, search, type_, confined=confined, began=began, columns=()))
            for type_ in _there(conditions.connection, search.types)
        ]
        self.in_order_of_updates = any(walked.in_order_of_updates for _, walked in self._walks)

    def rows(self, limit: int, after: Position | None) -> Iterator[tuple[tuple[Key, ...], Match]]:
        found = [(type_, row) for type_, walked in self._walks for row in walked.rows(limit, after)]
        return self._matches(_merged(found, [key.descending for key in self._search.sort] or [True])[:limit])

    def changed(self, limit: int, after: int) -> Iterator[tuple[tuple[Key, ...], Match]]:
        found = [(type_, row) for type_, walked in self._walks for row in walked.changed(limit, after)]
        return self._matches(sorted(found, key=lambda each: each[1].pk)[:limit])

    def _matches(self, rows: Sequence[tuple[str, Found]]) -> Iterator[tuple[tuple[Key, ...], Match]]:
        bodies = _bodies(self._connection, [row.pk for _, row in rows])
        for type_, row in rows:
            if row.pk in bodies:
                yield row.keys, _match(type_, row.pk, bodies[row.pk], self._search)


def _there(connection: Connection, types: Sequence[str]) -> list[str]:
    """Those of the types of which there are resources: a look into an index for each."""
    if len(types) < 8:
        return list(types)
    found, last = [], ""
    while each := connection.execute(
        select(RESOURCE.c.type).where(RESOURCE.c.type > last).order_by(RESOURCE.c.type).limit(1)
    ).scalar():
        found.append(each)
        last = each
    return [type_ for type_ in types if type_ in set(found)]


def _merged(found: Sequence[tuple[str, Found]], descending: Sequence[bool]) -> list[tuple[str, Found]]:
    """In the order that each of the parts is in."""
    ordered = sorted(found, key=lambda each: each[1].pk, reverse=descending[0])
    for place, down in reversed(list(enumerate(descending))):

        def value(each: tuple[str, Found], place: int = place, down: bool = down) -> tuple[bool, Any]:
            key = each[1].keys[place]
            return (key is None) != down, key.encode() if isinstance(key, str) else key or 0

        ordered.sort(key=value, reverse=down)
    return ordered


def _bodies(connection: Connection, pks: Sequence[int]) -> dict[int, Any]:
    columns = select(RESOURCE.c.pk, RESOURCE.c.id, RESOURCE.c.patient, RESOURCE.c.body, RESOURCE.c.summary)
    return {row.pk: row for row in connection.execute(columns.where(RESOURCE.c.pk.in_(pks)))} if pks else {}

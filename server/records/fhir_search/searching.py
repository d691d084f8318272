"""Pages, totals and ids of searches (FHIR R4 sections 3.1.1.5.4 and 3.1.1.5.5)."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

from sqlalchemy import Connection, select

from profiles.fhir.query import Search
from server.errors import NotSupported
from server.records.fhir_search import events
from server.records.fhir_search.codes import terminology
from server.records.fhir_search.conditions import Conditions
from server.records.fhir_search.limits import limited
from server.records.fhir_search.matches import Allowed, Match, Page, Position, cut
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
) -> Page:
    """FHIR R4 section 3.1.1.5.4: up to `count` matches (at least 1) after `after`, in the search's order.

    `confined` says that the Decision leaves few patients. What is new since `began` stays out, so that paging ends; a resource that
    has a new version since then is shown in that version, so that paging loses nothing. Raises `Refused` for what is not offered.
    """
    if _is_of_events(search):
        return events.page(connection, search, allowed=decision_where, confined=confined, count=count, began=began, after=after)
    with limited(connection):
        conditions = Conditions(connection, decision_where, terminology(connection, search, decision_where))
        if len(search.types) > 1:
            return _of_several(conditions, search, confined, count, began, after)
        type_ = search.types[0]
        walked = Walked(conditions, search, type_, confined=confined, began=began)
        found = (
            (Position(began, row.keys, row.pk), _match(type_, row.pk, row.columns, search))
            for row in walked.rows(count + 1, after)
        )
        return cut(found, count)


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


# --- several types


def _of_several(conditions: Conditions, search: Search, confined: bool, count: int, began: int, after: Position | None) -> Page:
    """The page of each type, merged: keys first, then the bodies of those that are on it."""
    found: list[tuple[str, Found]] = []
    for type_ in _there(conditions.connection, search.types):
        walked = Walked(conditions, search, type_, confined=confined, began=began, columns=())
        found += ((type_, row) for row in walked.rows(count + 1, after))
    ordered = _merged(found, [key.descending for key in search.sort] or [True])[: count + 1]
    bodies = _bodies(conditions.connection, [row.pk for _, row in ordered])
    rows = ((type_, row, bodies[row.pk]) for type_, row in ordered if row.pk in bodies)
    return cut(((Position(began, row.keys, row.pk), _match(type_, row.pk, body, search)) for type_, row, body in rows), count)


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

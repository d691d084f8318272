"""What is in a compartment (FHIR R4 section 2.17), and what that refers to, in an order that pages can walk."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from sqlalchemy import ColumnElement, Connection, FromClause, Row, and_, exists, false, or_, select, true, tuple_

from server.records.fhir_search.matches import Match
from server.records.packing import unpacked
from server.store.tables import Compartment, ReferenceValue, Resource

RESOURCE = Resource.__table__  # type: ignore[attr-defined]
COMPARTMENT = Compartment.__table__  # type: ignore[attr-defined]
REFERENCE = ReferenceValue.__table__  # type: ignore[attr-defined]

Seen: TypeAlias = Mapping[tuple[str, ...], Callable[[FromClause], ColumnElement[bool]]]
"""Resource types -> which resources of them may be told, over the row of one. What is not in it may not be told."""
Place: TypeAlias = tuple[str, int, int]
"""Type, clinical date and row of the last resource of a page."""

CHANGED: Final = "~"
"""In a `Place`, for the type: behind all types there are, by their rows, the resources that were changed while pages were asked for."""
_CHUNK: Final = 64
"""Rows that are fetched at once: a page may end early."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Microseconds since 1970, half-open; None is no limit. `start` and `end` are of care, and what has no date of care is in any range."""

    start: int | None = None
    end: int | None = None
    since: int | None = None
    """When it was last changed, at the earliest."""
    began: int = 0
    """For pages after the first: when that was made. What was changed since is behind all else."""


def members(
    connection: Connection, name: str, id_: str, seen: Seen, wanted: Wanted, *, after: Place | None
) -> Iterator[tuple[Place, Match]]:
    """The resources in the compartment of `name`/`id_`, by type and date, without that resource itself.

    A resource that is changed between two pages may get another date, and so be on both or on neither: what was changed since the first page is
    told at the end, as it is then, whether or not it was told before; what is new, too.
    """
    if after is None or after[0] != CHANGED:
        for place, match in _in_order(connection, name, id_, seen, wanted, after):
            after = place
            yield place, match
        after = (CHANGED, 0, 0)
    if wanted.began:
        yield from _changed(connection, name, id_, seen, wanted, after[2])


def _changed(connection: Connection, name: str, id_: str, seen: Seen, wanted: Wanted, last: int) -> Iterator[tuple[Place, Match]]:
    within = select(COMPARTMENT.c.resource_pk).where(COMPARTMENT.c.name == name, COMPARTMENT.c.id == id_)
    query = (
        select(*_COLUMNS)
        .where(RESOURCE.c.pk.in_(within), RESOURCE.c.updated > wanted.began)
        .where(RESOURCE.c.type.in_(_types(seen)), _may(seen), _fits(wanted), or_(RESOURCE.c.type != name, RESOURCE.c.id != id_))
        .order_by(RESOURCE.c.pk)
        .limit(_CHUNK)
    )
    while True:
        rows = connection.execute(query.where(RESOURCE.c.pk > last)).all()
        for row in rows:
            last = row.pk
            yield (CHANGED, 0, last), _match(row)
        if len(rows) < _CHUNK:
            return


def _in_order(
    connection: Connection, name: str, id_: str, seen: Seen, wanted: Wanted, after: Place | None
) -> Iterator[tuple[Place, Match]]:
    """What has not been changed since the first page."""
    key = (COMPARTMENT.c.type, COMPARTMENT.c.date, COMPARTMENT.c.resource_pk)
    unchanged = RESOURCE.c.updated <= wanted.began if wanted.began else true()
    query = (
        select(*_COLUMNS, COMPARTMENT.c.date)
        .join(RESOURCE, RESOURCE.c.pk == COMPARTMENT.c.resource_pk)
        .where(
            COMPARTMENT.c.name == name,
            COMPARTMENT.c.id == id_,
            COMPARTMENT.c.type.in_(_types(seen)),
            _may(seen),
            _fits(wanted),
            unchanged,
        )
        .where(or_(RESOURCE.c.type != name, RESOURCE.c.id != id_))
        .order_by(*key)
        .limit(_CHUNK)
    )
    while True:
        beyond = tuple_(*key) > tuple_(*after) if after else true()
        rows = connection.execute(query.where(beyond)).all()
        for row in rows:
            after = (row.type, row.date, row.pk)
            yield after, _match(row)
        if len(rows) < _CHUNK:
            return


def of_all(
    connection: Connection, name: str, seen: Seen, wanted: Wanted, *, after: Place | None
) -> Iterator[tuple[Place, Match]]:
    """Everything that is in any compartment of the type `name`, and the resources of that type, in the order they were first stored."""
    within = exists().where(COMPARTMENT.c.resource_pk == RESOURCE.c.pk, COMPARTMENT.c.name == name)
    query = (
        select(*_COLUMNS)
        .where(RESOURCE.c.type.in_(_types(seen)), or_(RESOURCE.c.type == name, within), _may(seen), _fits(wanted))
        .order_by(RESOURCE.c.pk)
        .limit(_CHUNK)
    )
    last = after[2] if after else 0
    while True:
        rows = connection.execute(query.where(RESOURCE.c.pk > last)).all()
        for row in rows:
            last = row.pk
            yield ("", 0, last), _match(row)
        if len(rows) < _CHUNK:
            return


def one(connection: Connection, type_: str, id_: str) -> Match | None:
    """The current version of a resource; None where there is none."""
    row = connection.execute(
        select(*_COLUMNS).where(RESOURCE.c.type == type_, RESOURCE.c.id == id_, RESOURCE.c.deleted == 0)
    ).first()
    return _match(row) if row is not None else None


def supporting(connection: Connection, pks: Sequence[int], seen: Seen, *, limit: int) -> list[Match]:
    """The resources of the types in `seen` that the resources `pks` refer to, each once, at most `limit`."""
    found: dict[int, Match] = {}
    for start in range(0, len(pks), _CHUNK):
        query = (
            select(*_COLUMNS)
            .distinct()
            .join(REFERENCE, and_(REFERENCE.c.target_type == RESOURCE.c.type, REFERENCE.c.target_id == RESOURCE.c.id))
            .where(REFERENCE.c.resource_pk.in_(pks[start : start + _CHUNK]), REFERENCE.c.target_type.in_(_types(seen)))
            .where(_may(seen), RESOURCE.c.deleted == 0)
            .limit(limit)
        )
        found.update((row.pk, _match(row)) for row in connection.execute(query))
    return list(found.values())[:limit]


_COLUMNS: Final = (RESOURCE.c.pk, RESOURCE.c.type, RESOURCE.c.id, RESOURCE.c.patient, RESOURCE.c.body)


def _match(row: "Row[*tuple[Any, ...]]") -> Match:
    return Match(row.type, row.id, row.patient, unpacked(row.body), row.pk)


def _may(seen: Seen) -> ColumnElement[bool]:
    """The Decision as SQL."""
    return or_(false(), *(and_(RESOURCE.c.type.in_(types), where(RESOURCE)) for types, where in seen.items()))


def _types(seen: Seen) -> list[str]:
    return sorted(each for types in seen for each in types)


def _fits(wanted: Wanted) -> ColumnElement[bool]:
    conditions = [RESOURCE.c.deleted == 0]
    if wanted.since is not None:
        conditions.append(RESOURCE.c.updated >= wanted.since)
    undated = RESOURCE.c.date == 0
    if wanted.start is not None:
        conditions.append(or_(undated, RESOURCE.c.date_end > wanted.start))
    if wanted.end is not None:
        conditions.append(or_(undated, RESOURCE.c.date < wanted.end))
    return and_(*conditions)

"""What happened to resources (FHIR R4 section 3.1.0.10, history): versions of one, of a type, or of all, the newest first."""

from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, and_, exists, func, select, tuple_

from server.errors import NotFound
from server.records.packing import unpacked
from server.store.tables import Resource, ResourceVersion

_RESOURCE = Resource.__table__  # type: ignore[attr-defined]
_VERSION = ResourceVersion.__table__  # type: ignore[attr-defined]
_LATER = _VERSION.alias("later")
_BOTH = _VERSION.join(_RESOURCE, _VERSION.c.resource_pk == _RESOURCE.c.pk)
_KEY = (_VERSION.c.updated, _VERSION.c.resource_pk, _VERSION.c.version)

PAGE_BYTES = 16 << 20
"""A page ends early beyond this: a server may return fewer than asked."""

Allowed = Callable[[ColumnElement[str]], ColumnElement[bool]]
"""The Decision as SQL, over the column that holds the patient (`resource.patient`); for several types it looks at `resource.type` too."""


@dataclass(frozen=True, slots=True)
class Version:
    """One version as it was. `patient` is whose the resource is now; `body` is empty where `method` is DELETE."""

    type: str
    id: str
    version: int
    updated: int
    method: str
    patient: str
    body: bytes


@dataclass(frozen=True, slots=True)
class HistoryPosition:
    """Where a page ended. What is new comes before it, so paging loses and repeats nothing."""

    updated: int
    pk: int
    version: int


@dataclass(frozen=True, slots=True)
class HistoryPage:
    """`next` is None on the last page."""

    entries: tuple[Version, ...]
    next: HistoryPosition | None


def history(
    connection: Connection,
    *,
    type: str | None = None,
    id: str | None = None,
    since: int | None = None,
    at: tuple[int, int] | None = None,
    allowed: Allowed,
    count: int,
    after: HistoryPosition | None = None,
) -> HistoryPage:
    """One page of at most `count` versions: of all resources, of a type, or of the resource `type`/`id`.

    `since`: those from that moment on; `at`: those that were current at some time from the first moment to the one before the second.
    Raises `NotFound` for a resource that never was there.
    """
    conditions = _conditions(connection, type, id, since, at, allowed)
    if after is not None:
        conditions.append(tuple_(*_KEY) < tuple_(after.updated, after.pk, after.version))
    query = (
        select(*_KEY, _VERSION.c.type, _VERSION.c.method, _VERSION.c.body, _RESOURCE.c.id, _RESOURCE.c.patient)
        .select_from(_BOTH)
        .where(*conditions)
        .order_by(*(column.desc() for column in _KEY))
        .limit(count + 1)
    )
    entries: list[Version] = []
    position: HistoryPosition | None = None
    size = 0
    with connection.execute(query) as rows:
        for row in rows:
            if len(entries) == count or size > PAGE_BYTES:
                return HistoryPage(tuple(entries), position)
            body = unpacked(bytes(row.body)) if row.body else b""
            entries.append(Version(row.type, row.id, row.version, row.updated, row.method, row.patient, body))
            position = HistoryPosition(row.updated, row.resource_pk, row.version)
            size += len(body)
    return HistoryPage(tuple(entries), None)


def total(
    connection: Connection,
    *,
    type: str | None = None,
    id: str | None = None,
    since: int | None = None,
    at: tuple[int, int] | None = None,
    allowed: Allowed,
) -> int:
    """How many versions there are on all pages."""
    conditions = _conditions(connection, type, id, since, at, allowed)
    return int(connection.execute(select(func.count()).select_from(_BOTH).where(*conditions)).scalar_one())


def _conditions(
    connection: Connection, type_: str | None, id_: str | None, since: int | None, at: tuple[int, int] | None, allowed: Allowed
) -> list[ColumnElement[bool]]:
    conditions = [allowed(_RESOURCE.c.patient)]
    if id_ is not None:
        pk = connection.execute(select(_RESOURCE.c.pk).where(_RESOURCE.c.type == type_, _RESOURCE.c.id == id_)).scalar()
        if pk is None:
            raise NotFound(f"there is no {type_} with this id")
        conditions.append(_VERSION.c.resource_pk == pk)
    elif type_ is not None:
        conditions.append(_VERSION.c.type == type_)
    if since is not None:
        conditions.append(_VERSION.c.updated >= since)
    if at is not None:
        replaced = and_(
            _LATER.c.resource_pk == _VERSION.c.resource_pk, _LATER.c.version > _VERSION.c.version, _LATER.c.updated <= at[0]
        )
        conditions += [_VERSION.c.updated < at[1], ~exists(select(_LATER.c.version).where(replaced))]
    return conditions

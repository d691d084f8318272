"""What happened to resources (FHIR R4 section 3.1.0.12, history): versions of one, of a type, or of all, the newest first.

A version has the patient whose it was then, and its resource the one whose it is now: it is told to those who may see both.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from sqlalchemy import ColumnElement, Connection, FromClause, and_, exists, func, not_, or_, select, text, tuple_

from server.errors import NotFound
from server.records.catalogue import STUDY
from server.records.packing import unpacked
from server.records.rejections import QUALITY, REJECTION
from server.store.db import micros
from server.store.tables import Resource, ResourceVersion

_RESOURCE = Resource.__table__  # type: ignore[attr-defined]
_VERSION = ResourceVersion.__table__  # type: ignore[attr-defined]
_LATER = _VERSION.alias("later")
_BOTH = _VERSION.join(_RESOURCE, _VERSION.c.resource_pk == _RESOURCE.c.pk)
_KEY = (_VERSION.c.updated, _VERSION.c.resource_pk, _VERSION.c.version)
_REJECTED = exists().where(STUDY.c.id == _RESOURCE.c.id, REJECTION.c.study_uid == STUDY.c.uid, REJECTION.c.reason != QUALITY)
_WITHHELD = and_(
    _RESOURCE.c.type == "ImagingStudy",
    _VERSION.c.version < _RESOURCE.c.version,
    or_(_RESOURCE.c.status == "entered-in-error", _REJECTED),
)
"""What a study was before images of it were rejected or deleted, or all of it withdrawn: it lists them. Quality alone hides nothing from it."""

PAGE_BYTES = 16 << 20
"""A page ends early beyond this: a server may return fewer than asked."""

Allowed = Callable[[FromClause, FromClause], ColumnElement[bool]]
"""The Decision as SQL: over a resource's row, and that of one of its versions."""


@dataclass(frozen=True, slots=True)
class Version:
    """One version as it was. `patient` is whose it was then, `owner` whose the resource is now; `body` is empty where `method` is DELETE."""

    type: str
    id: str
    version: int
    updated: int
    method: str
    patient: str
    owner: str
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
    withholds: bool = False,
    count: int,
    after: HistoryPosition | None = None,
) -> HistoryPage:
    """One page of at most `count` versions: of all resources, of a type, or of the resource `type`/`id`.

    `since`: those from that moment on; `at`: those that were current at some time from the first moment to the one before the second.
    `withholds`: without what studies were before their images were withdrawn. Raises `NotFound` for a resource that never was there.
    """
    conditions = _conditions(connection, type, id, since, at, allowed, withholds)
    if after is not None:
        conditions.append(tuple_(*_KEY) < tuple_(after.updated, after.pk, after.version))
    query = (
        select(
            *_KEY,
            _VERSION.c.type,
            _VERSION.c.method,
            _VERSION.c.body,
            _VERSION.c.patient,
            _RESOURCE.c.id,
            _RESOURCE.c.patient.label("owner"),
        )
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
            entries.append(Version(row.type, row.id, row.version, row.updated, row.method, row.patient, row.owner, body))
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
    withholds: bool = False,
) -> int:
    """How many versions there are on all pages."""
    conditions = _conditions(connection, type, id, since, at, allowed, withholds)
    return int(connection.execute(select(func.count()).select_from(_BOTH).where(*conditions)).scalar_one())


def is_withheld(connection: Connection, type_: str, id_: str, version: int) -> bool:
    """Whether `history` would leave this version out as one of before images were withdrawn."""
    named = (_RESOURCE.c.type == type_, _RESOURCE.c.id == id_, _VERSION.c.version == version)
    found = select(_VERSION.c.version).select_from(_BOTH).where(*named, _WITHHELD)
    return type_ == "ImagingStudy" and connection.execute(found).first() is not None


def told(connection: Connection, type_: str, id_: str, version: int, allowed: Allowed) -> bool:
    """Whether `history` would have this version, as far as the Decision goes."""
    named = (_RESOURCE.c.type == type_, _RESOURCE.c.id == id_, _VERSION.c.version == version)
    found = select(_VERSION.c.version).select_from(_BOTH).where(*named, allowed(_RESOURCE, _VERSION))
    return connection.execute(found).first() is not None


_CLOCKS: Final = 1_000_000
"""Microseconds that the clocks of two machines may differ by."""
_OLDEST: Final = text(
    "SELECT least(now(), min(xact_start)) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() "
    "AND (backend_xid IS NOT NULL OR xact_start > now() - interval '1 minute')"
)
"""Since when the oldest transaction runs that may have written; what has not written for a minute will stamp with a later moment."""


def settled(connection: Connection, *, clocks: int = _CLOCKS) -> int:
    """The moment (microseconds) before which nothing is stamped any more that a transaction which begins after this one does not see.

    A version is stamped when it is written, and seen once its transaction has ended. SQLite's writers are alone, and stamp while they are, so
    that whoever is still at it stamps later than all that is seen; PostgreSQL's run at once, and say since when, by a clock that ours may differ
    from by `clocks`. To be asked before the transaction that reads: what is told with this moment is then whole up to it.
    """
    if connection.dialect.name == "sqlite":
        return int(connection.execute(select(func.coalesce(func.max(_VERSION.c.updated), 0))).scalar_one())
    return micros(connection.execute(_OLDEST).scalar_one()) - clocks


def _conditions(
    connection: Connection,
    type_: str | None,
    id_: str | None,
    since: int | None,
    at: tuple[int, int] | None,
    allowed: Allowed,
    withholds: bool,
) -> list[ColumnElement[bool]]:
    conditions = [allowed(_RESOURCE, _VERSION)]
    if withholds:
        conditions.append(not_(_WITHHELD))
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

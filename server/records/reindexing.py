"""Making the rows of searches anew for what is stored: after a search parameter was defined, or rows have another form than before."""

from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import Connection, select, update

from profiles.fhir.indexing import Indexer
from profiles.fhir.json import parse, serialize
from profiles.fhir.subset import summary
from server import telemetry
from server.records import index_rows, parameters, report_links
from server.records.packing import packed, unpacked
from server.store.tables import Reindexing, Resource, ResourceVersion

_RESOURCE = Resource.__table__  # type: ignore[attr-defined]
_VERSION = ResourceVersion.__table__  # type: ignore[attr-defined]
_REINDEXING = Reindexing.__table__  # type: ignore[attr-defined]
_NEEDED: Final = tuple(_RESOURCE.c[name] for name in ("pk", "id", "version", "patient", "body", "summary", "indexed"))


def settle(connection: Connection) -> None:
    """Waits for the writers that began before the parameters changed: they may not know the new ones. For a transaction of its own."""
    if connection.dialect.name != "sqlite":
        connection.exec_driver_sql("SELECT pg_advisory_xact_lock(%s)", (parameters.LOCK,))


def some(connection: Connection, type_: str, *, limit: int, base: str) -> bool:
    """Makes the rows of the next `limit` resources of a type anew. Returns whether more are to be done.

    Where it stands is kept with them in the transaction: who is killed goes on from there. `base` is our FHIR base URL.
    """
    state = connection.execute(select(_REINDEXING).where(_REINDEXING.c.type == type_).with_for_update()).first()
    if state is None:
        return False
    span = _RESOURCE.c.pk > state.position, _RESOURCE.c.pk <= state.last
    here = (
        select(*_NEEDED).where(_RESOURCE.c.type == type_, _RESOURCE.c.deleted == 0, *span).order_by(_RESOURCE.c.pk).limit(limit)
    )
    if type_ in report_links.TYPES:
        report_links.hold(connection, connection.execute(here.with_only_columns(_RESOURCE.c.patient)).scalars())
    rows = connection.execute(here.with_for_update()).all()
    parameters.indexer(connection, type_)  # from here on nobody defines others
    for row in rows:
        _one(connection, type_, row, parameters.indexer(connection, type_, row.id), base)
    if len(rows) < limit:
        parameters.ended(connection, type_)
        return False
    connection.execute(update(_REINDEXING).where(_REINDEXING.c.type == type_).values(position=rows[-1].pk))
    return True


def again(connection: Connection, pks: Sequence[int], *, base: str) -> None:
    """Makes the rows of these resources anew, for what they lead to is another now (`report_links`, which holds their patients)."""
    for pk in pks:
        found = select(_RESOURCE.c.type, *_NEEDED).where(_RESOURCE.c.pk == pk, _RESOURCE.c.deleted == 0).with_for_update()
        row = connection.execute(found).first()
        if row is not None:
            _one(connection, row.type, row, parameters.indexer(connection, row.type, row.id), base)


def lead_here(
    connection: Connection, id_: str, found: index_rows.Found, was: report_links.Keys, *, is_back: bool = False, base: str
) -> None:
    """Reports that name a study as it is named now, by `found`, lead to it from now on; those that named it as it was before no longer do.

    These are all that lead to it, however many, if it has lost a name or `is_back` after it was deleted: none must lead to another patient's.
    """
    named = report_links.keys_of(found)
    pks = set(report_links.concerned(connection, named - was))
    if is_back or was - named:
        pks.update(report_links.leading(connection, id_))
    again(connection, sorted(pks), base=base)


def _one(connection: Connection, type_: str, row: Any, indexer: Indexer, base: str) -> None:
    """One that can't be read any more keeps the rows that it has, and is told of without its content."""
    try:
        body = unpacked(bytes(row.body))
        resource = parse(body)
        found = index_rows.found(type_, indexer.index(resource, base))
    except Exception as error:  # noqa: BLE001 whatever it is: the others are not to wait for this one for ever
        telemetry.log().error("not_indexed", type=type_, pk=row.pk, error=type(error).__name__)
        return
    was = report_links.stored_keys(connection, row.pk) if type_ == report_links.STUDY else report_links.NO_KEYS
    found = report_links.linked(connection, resource, found, frozenset([row.patient]))
    indexed = index_rows.write(connection, row.pk, found, None)
    lead_here(connection, row.id, found, was, base=base)
    if found.patient != row.patient:  # the version that is the current one is whose the resource is
        same = (_VERSION.c.resource_pk == row.pk, _VERSION.c.version == row.version)
        connection.execute(update(_VERSION).where(*same).values(patient=found.patient))
    connection.execute(
        update(_RESOURCE)
        .where(_RESOURCE.c.pk == row.pk)
        .values(
            indexed=indexed,
            date=found.date,
            date_end=found.date_end,
            patient=found.patient,
            summary=row.summary or _summary(body, resource),
        )
    )


def _summary(body: bytes, resource: dict[str, Any]) -> bytes | None:
    made = summarized(body, resource)
    return packed(made) if made else None


SUMMARIZED: Final = 8192
"""Bytes of a body from which on its summary is kept beside it."""


def summarized(body: bytes, resource: dict[str, Any]) -> bytes | None:
    """What `_summary=true` sends, where the body is large and it is much smaller."""
    if len(body) < SUMMARIZED:
        return None
    made = serialize(summary(resource))
    return made if len(made) * 2 < len(body) else None

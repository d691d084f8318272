"""Whether rows and files agree, both ways, and the repairs that can lose nothing."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, exists, func, or_, select, update

from server.records import catalogue, rejections
from server.records.binaries import CONTENT
from server.records.catalogue import BLOB, INSTANCE, ORIGINAL, PUBLISHED, SERIES, STUDY, WAITING
from server.records.registry import DOCUMENT
from server.store import jobs
from server.store.blobs import BlobStore
from server.store.db import Database, micros
from server.work.ingest import PUBLISH
from server.work.reconcile import ERASE

_YOUNG: Final = 3600.0
_NAMING: Final = (INSTANCE.c.blob_id, ORIGINAL.c.blob_id, DOCUMENT.c.blob_id, CONTENT.c.blob_id)
"""What gives a blob its purpose."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One kind of disagreement: how many, and whether `repaired`."""

    what: str
    count: int
    repaired: bool = False


def disagreements(database: Database, blobs: BlobStore, *, repair: bool = False) -> list[Finding]:
    """What rows and files disagree in, only what there is of. With `repair` all is done about it that can lose nothing.

    A file without a row is set aside, not deleted; counts are counted anew; what waits without a job gets one. Rows that nothing
    names and bytes that are missing are only told of.
    """
    found = [_orphans(database, blobs, repair=repair)]
    for what, look, mend in _CHECKS:
        with database.read() as connection:
            pks = look(connection)
        if pks and repair and mend is not None:
            with database.write() as connection:
                for pk in pks:
                    mend(connection, pk)
        found.append(Finding(what, len(pks), repaired=bool(pks) and repair and mend is not None))
    return [one for one in found if one.count]


def _orphans(database: Database, blobs: BlobStore, *, repair: bool) -> Finding:
    before = time.time() - _YOUNG
    # The files are listed before the rows are read: what is committed in between is not taken for an orphan.
    files = [blob_id for blob_id, modified in blobs.list() if modified <= before]
    with database.read() as connection:
        known = catalogue.blob_ids(connection) | rejections.all_erasable(connection)
    orphans = [blob_id for blob_id in files if blob_id not in known]
    for blob_id in orphans if repair else ():
        blobs.delete(blob_id, aside=not blob_id.endswith(".part"))
    return Finding("files that no row names (set aside in quarantine by --repair)", len(orphans), repair and bool(orphans))


def _unnamed(connection: Connection) -> list[str]:
    named = or_(*(exists().where(column == BLOB.c.id) for column in _NAMING))
    return list(connection.execute(select(BLOB.c.id).where(~named)).scalars())


def _miscounted_studies(connection: Connection) -> list[int]:
    counted = select(func.count()).select_from(INSTANCE).where(INSTANCE.c.study_pk == STUDY.c.pk, PUBLISHED).scalar_subquery()
    return list(connection.execute(select(STUDY.c.pk).where(STUDY.c.instance_count != counted)).scalars())


def _miscounted_series(connection: Connection) -> list[int]:
    counted = select(func.count()).select_from(INSTANCE).where(INSTANCE.c.series_pk == SERIES.c.pk, PUBLISHED).scalar_subquery()
    return list(connection.execute(select(SERIES.c.pk).where(SERIES.c.instance_count != counted)).scalars())


def _forgotten(connection: Connection) -> list[int]:
    waiting = connection.execute(select(INSTANCE.c.study_pk).where(WAITING).distinct()).scalars()
    return [pk for pk in waiting if not jobs.is_known(connection, PUBLISH, str(pk))]


def _unerased(connection: Connection) -> list[str]:
    return [] if jobs.is_known(connection, ERASE, "blobs") else rejections.erasable(connection, 1)


def _unprepared(connection: Connection) -> list[int]:
    return list(connection.execute(select(INSTANCE.c.pk).where(PUBLISHED, INSTANCE.c.dicom_json.is_(None))).scalars())


def _recount_study(connection: Connection, pk: object) -> None:
    visible = select(INSTANCE.c.series_pk).where(INSTANCE.c.study_pk == pk, PUBLISHED).subquery()
    instances, series = connection.execute(
        select(func.count(), func.count(visible.c.series_pk.distinct())).select_from(visible)
    ).one()
    connection.execute(update(STUDY).where(STUDY.c.pk == pk).values(instance_count=instances, series_count=series))


def _recount_series(connection: Connection, pk: object) -> None:
    counted = select(func.count()).select_from(INSTANCE).where(INSTANCE.c.series_pk == pk, PUBLISHED).scalar_subquery()
    connection.execute(update(SERIES).where(SERIES.c.pk == pk).values(instance_count=counted))


def _publish(connection: Connection, pk: object) -> None:
    jobs.enqueue(connection, PUBLISH, str(pk), due=micros())


def _erase(connection: Connection, _: object) -> None:
    jobs.enqueue(connection, ERASE, "blobs", due=micros())


_Look = Callable[[Connection], list[int] | list[str]]
_CHECKS: Final[tuple[tuple[str, _Look, Callable[[Connection, object], None] | None], ...]] = (
    ("blobs that no instance, no document and no Binary names", _unnamed, None),
    ("studies whose count of instances is wrong", _miscounted_studies, _recount_study),
    ("series whose count of instances is wrong", _miscounted_series, _recount_series),
    ("studies that wait to be published without a job for it", _forgotten, _publish),
    ("purged blobs that wait to be erased without a job for it", _unerased, _erase),
    ("published instances without metadata", _unprepared, None),
)

"""The Document Repository's rows: which documents are here, whatever entries there are of them (ITI TF-1 section 10.1.1.3)."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from sqlalchemy import Connection, Join, delete, func, literal, or_, select, update

from server.records.belonging import MERGE
from server.records.catalogue import BLOB, PATIENT
from server.records.registry import DOCUMENT, OBJECT, owned
from server.store.blobs import Blob
from server.store.db import insert, micros
from server.store.tables import ForeignDocument

FOREIGN = ForeignDocument.__table__  # type: ignore[attr-defined]
_TOGETHER = 500
"""Engines limit how many values one statement may carry."""


@dataclass(frozen=True, slots=True)
class Held:
    """A document that is here. `patient` is the resource id that access is decided by, `sha1` is in hex."""

    unique_id: str
    blob_id: str
    patient: str
    mime_type: str
    size: int
    sha1: str


@dataclass(frozen=True, slots=True)
class New:
    """A document that is to be kept."""

    unique_id: str
    blob: Blob
    mime_type: str
    sha1: str


def held(connection: Connection, unique_ids: Iterable[str]) -> dict[str, Held]:
    """Those of these documents that are here, by uniqueId."""
    found = dict[str, Held]()
    for some in _portions(list(dict.fromkeys(unique_ids))):
        wanted = (
            select(
                DOCUMENT.c.unique_id, DOCUMENT.c.blob_id, PATIENT.c.id, DOCUMENT.c.mime_type, DOCUMENT.c.size, DOCUMENT.c.sha1
            )
            .select_from(_owned())
            .where(DOCUMENT.c.unique_id.in_(some))
        )  # fmt: skip
        found |= {row.unique_id: Held(*row) for row in connection.execute(wanted)}
    return found


def _owned() -> Join:
    """Documents with the patient whose they are now: the one into whom theirs was merged."""
    whose = func.coalesce(MERGE.c.target_pk, DOCUMENT.c.patient_pk)
    found: Join = DOCUMENT.outerjoin(MERGE, MERGE.c.source_pk == DOCUMENT.c.patient_pk).join(PATIENT, PATIENT.c.pk == whose)
    return found


class Entered(NamedTuple):
    """A document that is here, and an entry of it: `patient` is the resource id of whose that entry is now, which access is decided by."""

    entry_uuid: str
    unique_id: str
    blob_id: str
    mime_type: str
    size: int
    patient: str


def entered(connection: Connection, unique_ids: Iterable[str]) -> Iterator[Entered]:
    """Those of these documents that are here, once for each entry of each; once without, where the entries are at a foreign registry.

    What somebody has registered is an entry of the document if it has its hash: who merely knows the uniqueId of another's does not get it so. Of several
    versions of an entry (ITI-57) the newest is the one: a document that became another patient's is no longer the former one's.
    """
    later = OBJECT.alias()
    is_newest = ~select(later.c.pk).where(later.c.logical_id == OBJECT.c.logical_id, later.c.version > OBJECT.c.version).exists()
    joined = owned().join(DOCUMENT, DOCUMENT.c.unique_id == OBJECT.c.unique_id)
    columns = (OBJECT.c.entry_uuid, DOCUMENT.c.unique_id, DOCUMENT.c.blob_id, DOCUMENT.c.mime_type, DOCUMENT.c.size, PATIENT.c.id)
    for some in _portions(list(dict.fromkeys(unique_ids))):
        same = or_(OBJECT.c.origin != "xds", func.lower(OBJECT.c.hash) == DOCUMENT.c.sha1)
        wanted = (
            select(*columns).select_from(joined).where(OBJECT.c.kind == "document", OBJECT.c.unique_id.in_(some), same, is_newest)
        )
        yield from map(Entered._make, connection.execute(wanted).all())
        elsewhere = select(literal("").label("entry_uuid"), *columns[1:]).select_from(
            _owned().join(FOREIGN, FOREIGN.c.unique_id == DOCUMENT.c.unique_id)
        )
        yield from map(Entered._make, connection.execute(elsewhere.where(FOREIGN.c.unique_id.in_(some))).all())


def keep(connection: Connection, documents: Sequence[New], *, patient_pk: int, now: int) -> None:
    """New documents of a patient, none of which is here. `now` is in microseconds."""
    if not documents:
        return
    blobs = [{"id": each.blob.id, "size": each.blob.size, "sha256": each.blob.sha256, "created": now} for each in documents]
    connection.execute(BLOB.insert(), blobs)
    rows = [
        {
            "unique_id": each.unique_id, "blob_id": each.blob.id, "patient_pk": patient_pk, "mime_type": each.mime_type,
            "size": each.blob.size, "sha1": each.sha1.lower(), "created": now,
        }
        for each in documents
    ]  # fmt: skip
    connection.execute(DOCUMENT.insert(), rows)


def share(connection: Connection, unique_id: str, blob_id: str, mime_type: str, size: int, sha1: str, *, patient_pk: int) -> None:
    """A document whose blob is that of a Binary, which keeps it."""
    row = {
        "unique_id": unique_id,
        "blob_id": blob_id,
        "patient_pk": patient_pk,
        "mime_type": mime_type,
        "size": size,
        "sha1": sha1,
    }
    connection.execute(DOCUMENT.insert().values(**row, created=micros()))


def sha1s(connection: Connection) -> dict[str, str]:
    """The SHA-1 in lower-case hex of every document here, by the id of its blob."""
    return {row.blob_id: row.sha1.lower() for row in connection.execute(select(DOCUMENT.c.blob_id, DOCUMENT.c.sha1))}


def foreign(connection: Connection, unique_ids: Iterable[str], *, registered: int) -> None:
    """The entries of these documents are at a foreign registry, which has confirmed it at `registered` (microseconds), or not yet (0)."""
    for some in _portions(list(unique_ids)):
        adding = insert(connection, FOREIGN).values([{"unique_id": each, "registered": registered} for each in some])
        connection.execute(adding.on_conflict_do_nothing())
        if registered:
            connection.execute(update(FOREIGN).where(FOREIGN.c.unique_id.in_(some)).values(registered=registered))


def unconfirmed(connection: Connection, unique_ids: Iterable[str]) -> list[str]:
    """Those of these documents of which a foreign registry was told, and has not confirmed it."""
    found = list[str]()
    for some in _portions(list(unique_ids)):
        mine = select(FOREIGN.c.unique_id).where(FOREIGN.c.unique_id.in_(some), FOREIGN.c.registered == 0)
        found += connection.execute(mine).scalars()
    return found


def long_unconfirmed(connection: Connection, *, before: int, limit: int) -> list[Held]:
    """The same of documents that came before a moment (microseconds)."""
    columns = (DOCUMENT.c.unique_id, DOCUMENT.c.blob_id, PATIENT.c.id, DOCUMENT.c.mime_type, DOCUMENT.c.size, DOCUMENT.c.sha1)
    whose = _owned().join(FOREIGN, FOREIGN.c.unique_id == DOCUMENT.c.unique_id)
    wanted = select(*columns).select_from(whose).where(FOREIGN.c.registered == 0, DOCUMENT.c.created < before)
    return [Held(*row) for row in connection.execute(wanted.order_by(DOCUMENT.c.created).limit(limit))]


def remove(connection: Connection, unique_ids: Iterable[str]) -> None:
    """ITI-86: these documents are here no more. Their blobs are the caller's to forget."""
    for some in _portions(list(unique_ids)):
        connection.execute(delete(DOCUMENT).where(DOCUMENT.c.unique_id.in_(some)))


def _portions(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    return (ids[start : start + _TOGETHER] for start in range(0, len(ids), _TOGETHER))

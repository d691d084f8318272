"""Documents of this Repository, and the entries by which they are found: the manifests of studies, and what partners submit."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, delete, or_, select

from profiles import document as values
from server.records import registry
from server.records.registry import ASSOCIATION, DOCUMENT, OBJECT
from server.store.blobs import Blob
from server.store.db import micros
from server.store.tables import Blob as BlobRow

BLOB = BlobRow.__table__  # type: ignore[attr-defined]


@dataclass(frozen=True, slots=True)
class StoredDocument:
    """An entry with what it takes to send it: `blob_id` is empty where another Repository has the document.

    `patient` is the resource id that access is decided by.
    """

    entry: values.DocumentEntry
    patient: str
    blob_id: str


def submit(
    connection: Connection, entry: values.DocumentEntry, submission: values.SubmissionSet, associations: Sequence[values.Association],
    *, blob: Blob, patient_pk: int, study_pk: int | None,
) -> None:  # fmt: skip
    """Registers the manifest of a study with its Submission Set; a RPLC association deprecates its target (ITI TF-3 section 4.2.2.2.3)."""
    now = micros()
    keep(connection, entry, blob, patient_pk=patient_pk, now=now)
    registry.add(connection, entry, patient_pk=patient_pk, origin="study", now=now, study_pk=study_pk)
    registry.add(connection, submission, patient_pk=patient_pk, origin="study", now=now, study_pk=study_pk)
    registry.associate(connection, associations)
    registry.set_status(connection, [each.target for each in associations if each.type == values.RPLC], values.DEPRECATED)


def keep(connection: Connection, entry: values.DocumentEntry, blob: Blob, *, patient_pk: int, now: int) -> None:
    """The document of an entry is in this Repository, as `blob`. `now` is in microseconds."""
    connection.execute(BLOB.insert().values(id=blob.id, size=blob.size, sha256=blob.sha256, created=now))
    connection.execute(
        DOCUMENT.insert().values(
            unique_id=entry.unique_id, blob_id=blob.id, patient_pk=patient_pk, mime_type=entry.mime_type, size=blob.size,
            sha1=entry.hash, created=now,
        )
    )  # fmt: skip


def deprecate(connection: Connection, entry_uuid: str) -> None:
    """ITI TF-3 section 4.2.2.2.3: the entry is no longer current; it can still be asked for."""
    registry.set_status(connection, [entry_uuid], values.DEPRECATED)


def remove(connection: Connection, study_pk: int) -> list[tuple[str, str]]:
    """Removes the manifests of a study, with their submissions. Returns entryUUID and blob id of each."""
    mine = select(OBJECT.c.entry_uuid, OBJECT.c.unique_id, OBJECT.c.kind).where(OBJECT.c.study_pk == study_pk)
    uuids, documents = [], {}
    for uuid, unique_id, kind in connection.execute(mine):
        uuids.append(uuid)
        if kind == "document":
            documents[unique_id] = uuid
    kept = select(DOCUMENT.c.unique_id, DOCUMENT.c.blob_id).where(DOCUMENT.c.unique_id.in_(documents))
    removed = [(documents[unique_id], blob_id) for unique_id, blob_id in connection.execute(kept)]
    connection.execute(delete(DOCUMENT).where(DOCUMENT.c.unique_id.in_(documents)))
    touching = or_(ASSOCIATION.c.target.in_(uuids), ASSOCIATION.c.source.in_(uuids))
    registry.remove(connection, [*uuids, *connection.execute(select(ASSOCIATION.c.entry_uuid).where(touching)).scalars()])
    return removed


def current(connection: Connection, study_pk: int) -> values.DocumentEntry | None:
    """The approved manifest of a study, None before its first publication."""
    found = registry.objects(
        connection, OBJECT.c.study_pk == study_pk, OBJECT.c.kind == "document", OBJECT.c.status == values.APPROVED
    )
    return found[0].entry if found else None


def studies(connection: Connection) -> list[int]:
    """The rows of all studies that have a manifest which is approved."""
    mine = (OBJECT.c.origin == "study") & (OBJECT.c.kind == "document") & (OBJECT.c.status == values.APPROVED)
    found = select(OBJECT.c.study_pk).where(mine, OBJECT.c.study_pk.is_not(None)).order_by(OBJECT.c.study_pk)
    return list(connection.execute(found).scalars())


def by_uuid(connection: Connection, uuids: Sequence[str]) -> list[StoredDocument]:
    """The documents with these entryUUIDs (with `urn:uuid:`)."""
    return _documents(connection, registry.by_uuid(connection, uuids))


def by_unique_id(connection: Connection, unique_ids: Sequence[str]) -> list[StoredDocument]:
    """The documents with these uniqueIds (OIDs)."""
    return _documents(connection, registry.by_unique_id(connection, unique_ids))


def _documents(connection: Connection, found: Sequence[registry.Stored]) -> list[StoredDocument]:
    entries = [each for each in found if isinstance(each.value, values.DocumentEntry)]
    blobs = registry.blobs(connection, [each.value.unique_id for each in entries])
    return [StoredDocument(each.entry, each.patient, blobs.get(each.value.unique_id, "")) for each in entries]

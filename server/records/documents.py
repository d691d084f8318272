"""Documents: one row behind the ebRIM Document Entry and the FHIR DocumentReference (ITI TF-3 section 4.2)."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import orjson
from sqlalchemy import Connection, Select, delete, or_, select, update

from profiles import document as values
from server.store.blobs import Blob
from server.store.db import micros
from server.store.tables import Blob as BlobRow
from server.store.tables import DocumentAssociation, DocumentEntry, Patient, SubmissionSet

BLOB = BlobRow.__table__  # type: ignore[attr-defined]
ENTRY = DocumentEntry.__table__  # type: ignore[attr-defined]
SUBMISSION = SubmissionSet.__table__  # type: ignore[attr-defined]
ASSOCIATION = DocumentAssociation.__table__  # type: ignore[attr-defined]
PATIENT = Patient.__table__  # type: ignore[attr-defined]


@dataclass(frozen=True, slots=True)
class StoredDocument:
    """An entry with what it takes to send it. `patient` is the resource id that access is decided by."""

    entry: values.DocumentEntry
    patient: str
    blob_id: str


def submit(
    connection: Connection,
    entry: values.DocumentEntry,
    submission: values.SubmissionSet,
    associations: Sequence[values.Association],
    *,
    blob: Blob,
    patient_pk: int,
    study_pk: int | None,
) -> None:
    """Registers one document with its submission set; a RPLC association deprecates its target (ITI TF-3 section 4.2.2.2.3)."""
    now = micros()
    connection.execute(BLOB.insert().values(id=blob.id, size=blob.size, sha256=blob.sha256, created=now))
    connection.execute(
        ENTRY.insert().values(
            entry_uuid=entry.entry_uuid,
            unique_id=entry.unique_id,
            study_pk=study_pk,
            patient_pk=patient_pk,
            patient_cx=entry.patient_id,
            status=entry.status,
            created=now,
            blob_id=blob.id,
            body=orjson.dumps(entry),
        )
    )
    connection.execute(
        SUBMISSION.insert().values(
            entry_uuid=submission.entry_uuid,
            unique_id=submission.unique_id,
            patient_pk=patient_pk,
            body=orjson.dumps(submission),
        )
    )
    for association in associations:
        connection.execute(
            ASSOCIATION.insert().values(
                entry_uuid=association.entry_uuid,
                type=association.type,
                source=association.source,
                target=association.target,
                body=orjson.dumps(association),
            )
        )
        if association.type == values.RPLC:
            deprecate(connection, association.target)


def deprecate(connection: Connection, entry_uuid: str) -> None:
    """ITI TF-3 section 4.2.2.2.3: the entry is no longer current; it can still be asked for."""
    connection.execute(update(ENTRY).where(ENTRY.c.entry_uuid == entry_uuid).values(status=values.DEPRECATED))


def remove(connection: Connection, study_pk: int) -> list[tuple[str, str]]:
    """Removes the documents of a study from the registry, with their submissions. Returns entryUUID and blob id of each."""
    removed = [
        (uuid, blob_id)
        for uuid, blob_id in connection.execute(select(ENTRY.c.entry_uuid, ENTRY.c.blob_id).where(ENTRY.c.study_pk == study_pk))
    ]
    uuids = [uuid for uuid, _ in removed]
    touching = or_(ASSOCIATION.c.target.in_(uuids), ASSOCIATION.c.source.in_(uuids))
    members = (ASSOCIATION.c.type == values.HAS_MEMBER) & ASSOCIATION.c.target.in_(uuids)
    submissions = list(connection.execute(select(ASSOCIATION.c.source).where(members)).scalars())
    connection.execute(delete(SUBMISSION).where(SUBMISSION.c.entry_uuid.in_(submissions)))
    connection.execute(delete(ASSOCIATION).where(touching))
    connection.execute(delete(ENTRY).where(ENTRY.c.entry_uuid.in_(uuids)))
    return removed


def current(connection: Connection, study_pk: int) -> values.DocumentEntry | None:
    """The approved manifest of a study, None before its first publication."""
    found = _documents(connection, _select().where(ENTRY.c.study_pk == study_pk, ENTRY.c.status == values.APPROVED))
    return found[0].entry if found else None


def of_patient(connection: Connection, patient_cx: str, statuses: Sequence[str]) -> list[StoredDocument]:
    """A patient's documents with one of `statuses`, newest first."""
    return _documents(
        connection,
        _select()
        .where(ENTRY.c.patient_cx == patient_cx, ENTRY.c.status.in_(statuses))
        .order_by(ENTRY.c.created.desc(), ENTRY.c.pk),
    )


def by_uuid(connection: Connection, uuids: Sequence[str]) -> list[StoredDocument]:
    """The documents with these entryUUIDs (with `urn:uuid:`)."""
    return _documents(connection, _select().where(ENTRY.c.entry_uuid.in_(uuids)))


def by_unique_id(connection: Connection, unique_ids: Sequence[str]) -> list[StoredDocument]:
    """The documents with these uniqueIds (OIDs)."""
    return _documents(connection, _select().where(ENTRY.c.unique_id.in_(unique_ids)))


def patient_of(connection: Connection, patient_cx: str) -> str | None:
    """Resource id of the patient whose XDS id is `patient_cx`."""
    found = connection.execute(
        select(PATIENT.c.id).join(ENTRY, ENTRY.c.patient_pk == PATIENT.c.pk).where(ENTRY.c.patient_cx == patient_cx).limit(1)
    ).scalar_one_or_none()
    return str(found) if found is not None else None


def _select() -> "Select[bytes, str, str, str]":
    return select(ENTRY.c.body, ENTRY.c.status, PATIENT.c.id, ENTRY.c.blob_id).join(PATIENT, ENTRY.c.patient_pk == PATIENT.c.pk)


def _documents(connection: Connection, query: "Select[bytes, str, str, str]") -> list[StoredDocument]:
    return [StoredDocument(replace(_entry(row[0]), status=row[1]), row[2], row[3]) for row in connection.execute(query)]


def _entry(body: bytes) -> values.DocumentEntry:
    found = orjson.loads(body)
    for name in ("class_code", "type_code", "format_code", "facility_type", "practice_setting"):
        found[name] = values.Code(**found[name])
    for name in ("confidentiality", "event_codes"):
        found[name] = tuple(values.Code(**code) for code in found[name])
    for name in ("reference_ids", "source_patient_info"):
        found[name] = tuple(found[name])
    found["authors"] = tuple(
        values.Author(author["person"], *(tuple(author[name]) for name in ("institutions", "roles", "specialties")))
        for author in found["authors"]
    )
    return values.DocumentEntry(**found)

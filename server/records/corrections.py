"""What studies say otherwise than their senders did: corrected attributes, the original bytes, moved studies, merged patients."""

import uuid
from collections.abc import Collection
from dataclasses import dataclass
from dataclasses import replace as changed

import orjson
from sqlalchemy import Connection, delete, exists, select, update

from profiles import study as values
from profiles.correction import json_corrected, text
from profiles.dicom_json import Attributes
from profiles.identifiers import AssigningAuthority, PatientIdentifier
from profiles.person_name import folded
from server.errors import NotFound
from server.records import belonging
from server.records.belonging import FORMER, MERGE
from server.records.catalogue import BLOB, EMPTIED, INSTANCE, ORIGINAL, PATIENT, STUDY
from server.records.packing import packed, unpacked
from server.records.registry import DOCUMENT, OBJECT
from server.records.rejections import forget_blobs
from server.store.blobs import Blob
from server.store.db import insert, micros
from server.store.tables import Correction

CORRECTION = Correction.__table__  # type: ignore[attr-defined]

_COLUMNS = {
    "00080020": "date", "00080030": "time", "00080050": "accession_number", "00080090": "referring_physician",
    "00081030": "description", "00200010": "study_id",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Bytes:
    """An instance's original bytes: as they came, whatever was corrected since."""

    pk: int
    blob_id: str
    dataset_offset: int


@dataclass(frozen=True, slots=True)
class Copy:
    """The corrected copy of an instance; its Data Set begins where that of the original does."""

    pk: int
    blob: Blob
    frame_table: bytes | None


def of(connection: Connection, study_pk: int) -> Attributes:
    """The correction in force, empty where there is none."""
    found = connection.execute(select(CORRECTION.c.attributes).where(CORRECTION.c.study_pk == study_pk)).scalar_one_or_none()
    attributes: Attributes = orjson.loads(bytes(found)) if found is not None else {}
    return attributes


def corrected(connection: Connection, study_uids: Collection[str]) -> set[str]:
    """The studies among `study_uids` whose instances leave with other attributes than they came with."""
    wanted = sorted(study_uids)
    changed = exists().where(CORRECTION.c.study_pk == STUDY.c.pk) | exists().where(FORMER.c.study_pk == STUDY.c.pk)
    return {
        uid
        for start in range(0, len(wanted), 500)
        for uid in connection.execute(select(STUDY.c.uid).where(STUDY.c.uid.in_(wanted[start : start + 500]), changed)).scalars()
    }


def put(connection: Connection, study_pk: int, attributes: Attributes, *, who: str) -> None:
    """Makes `attributes` the whole correction of a study."""
    row = {"attributes": orjson.dumps(attributes), "at": micros(), "who": who}
    connection.execute(
        insert(connection, CORRECTION)
        .values(study_pk=study_pk, **row)
        .on_conflict_do_update(index_elements=["study_pk"], set_=row)
    )


def forget(connection: Connection, study_pk: int) -> None:
    """The study is purged: nothing is left to correct, and nobody's name stays in a correction."""
    connection.execute(delete(CORRECTION).where(CORRECTION.c.study_pk == study_pk))


def originals(connection: Connection, study_pk: int, *, late: bool = False) -> list[Bytes]:
    """The original bytes of every instance of a study; `late`: of those only that wait and are neither prepared nor corrected."""
    query = (
        select(INSTANCE.c.pk, INSTANCE.c.blob_id, INSTANCE.c.dataset_offset, ORIGINAL.c.blob_id, ORIGINAL.c.dataset_offset)
        .outerjoin(ORIGINAL, ORIGINAL.c.instance_pk == INSTANCE.c.pk)
        .where(INSTANCE.c.study_pk == study_pk)
        .order_by(INSTANCE.c.pk)
    )
    if late:
        query = query.where(INSTANCE.c.published == 0, INSTANCE.c.dicom_json.is_(None), ORIGINAL.c.blob_id.is_(None))
    return [
        Bytes(pk, first or now, first_offset if first is not None else offset)
        for pk, now, offset, first, first_offset in connection.execute(query)
    ]


def replace(connection: Connection, copy: Copy, attributes: Attributes) -> None:
    """Makes a corrected copy the instance's bytes, and its metadata agree. The original is kept, an earlier copy is not."""
    now = micros()
    before = connection.execute(
        select(INSTANCE.c.blob_id, INSTANCE.c.dataset_offset, INSTANCE.c.dicom_json)
        .where(INSTANCE.c.pk == copy.pk)
        .with_for_update()  # or it is made ready (`catalogue.prepare`) between this and the update
    ).one()
    connection.execute(BLOB.insert().values(id=copy.blob.id, size=copy.blob.size, sha256=copy.blob.sha256, created=now))
    made: dict[str, object] = {"blob_id": copy.blob.id}
    if before.dicom_json is not None:
        metadata = orjson.loads(unpacked(bytes(before.dicom_json)))
        made["dicom_json"] = packed(orjson.dumps(json_corrected(metadata, attributes)))
        made["frame_table"] = copy.frame_table
    connection.execute(update(INSTANCE).where(INSTANCE.c.pk == copy.pk).values(**made))
    kept = connection.execute(
        insert(connection, ORIGINAL)
        .values(instance_pk=copy.pk, blob_id=before.blob_id, dataset_offset=before.dataset_offset)
        .on_conflict_do_nothing(index_elements=["instance_pk"])
        .returning(ORIGINAL.c.instance_pk)
    ).first()
    if kept is None:
        forget_blobs(connection, [before.blob_id])


def change_study(connection: Connection, study_pk: int, attributes: Attributes) -> None:
    """The study's own columns and its stored attributes, as the correction says."""
    columns = {column: text(attributes[tag]) for tag, column in _COLUMNS.items() if tag in attributes}
    if "referring_physician" in columns:
        columns["referring_folded"] = folded(columns["referring_physician"])
    stored = orjson.loads(bytes(connection.execute(select(STUDY.c.attributes).where(STUDY.c.pk == study_pk)).scalar_one()))
    shown = {tag: value for tag, value in attributes.items() if tag in stored or value.get("Value")}
    connection.execute(
        update(STUDY).where(STUDY.c.pk == study_pk).values(**columns, attributes=orjson.dumps(json_corrected(stored, shown)))
    )


# --- patients


@dataclass(frozen=True, slots=True)
class StoredPatient:
    pk: int
    patient: values.Patient


def patient(connection: Connection, id_: str) -> StoredPatient:
    """The patient with this resource id. Raises `NotFound`."""
    row = connection.execute(select(PATIENT).where(PATIENT.c.id == id_)).mappings().first()
    if row is None:
        raise NotFound("there is no such patient")
    identifier = PatientIdentifier(row["value"], AssigningAuthority(row["authority"], row["namespace"]))
    return StoredPatient(row["pk"], values.Patient(identifier, row["name"], row["birth_date"], row["sex"], row["id"]))


def found_or_made(connection: Connection, wanted: values.Patient) -> StoredPatient:
    """The patient with this identifier, as she is known here, else made as `wanted`."""
    identifier = wanted.identifier
    known = (PATIENT.c.authority == identifier.authority.oid) & (PATIENT.c.value == identifier.value)
    connection.execute(
        insert(connection, PATIENT)
        .values(
            id=str(uuid.uuid4()), authority=identifier.authority.oid, value=identifier.value, namespace=identifier.authority.namespace,
            name=wanted.name, name_folded=folded(wanted.name), birth_date=wanted.birth_date, sex=wanted.sex,
        )
        .on_conflict_do_nothing()
    )  # fmt: skip
    pk, id_ = connection.execute(select(PATIENT.c.pk, PATIENT.c.id).where(known)).one()
    return patient(connection, id_) if (target := belonging.merged(connection, pk)) == pk else _by_pk(connection, target)


def of_study(connection: Connection, study_pk: int) -> StoredPatient:
    """The patient of a study."""
    return _by_pk(connection, connection.execute(select(STUDY.c.patient_pk).where(STUDY.c.pk == study_pk)).scalar_one())


def lock_patient(connection: Connection, pk: int, *, studies: bool = False) -> None:
    """Until the transaction ends nobody changes this patient, nor, with `studies`, stores a new study of hers (PostgreSQL).

    On SQLite a writer is alone anyway.
    """
    connection.execute(select(PATIENT.c.pk).where(PATIENT.c.pk == pk).with_for_update(key_share=not studies)).all()


def change_patient(connection: Connection, pk: int, now: values.Patient) -> None:
    """Name, birth date and sex of a patient."""
    connection.execute(
        update(PATIENT)
        .where(PATIENT.c.pk == pk)
        .values(name=now.name, name_folded=folded(now.name), birth_date=now.birth_date, sex=now.sex)
    )


def forgettable_patient(connection: Connection, study_pk: int) -> StoredPatient | None:
    """The patient of a study that was purged, whom the catalogue does not need any more; nobody else changes her until this ends.

    None where she stays as she is: she has another study or document, or was merged or had a study moved, and what comes late
    under the other identity is corrected to hers.
    """
    pk = connection.execute(select(STUDY.c.patient_pk).where(STUDY.c.pk == study_pk)).scalar_one()
    # A study of hers that is coming in, or being purged as well, is waited for.
    connection.execute(select(PATIENT.c.pk).where(PATIENT.c.pk == pk).with_for_update())
    hers = select(STUDY.c.pk).where(STUDY.c.patient_pk == pk)
    needed = (
        hers.where(STUDY.c.attributes != EMPTIED),
        select(OBJECT.c.pk).where(OBJECT.c.patient_pk == pk),
        select(DOCUMENT.c.created).where(DOCUMENT.c.patient_pk == pk),
        select(FORMER.c.study_pk).where((FORMER.c.patient_pk == pk) | FORMER.c.study_pk.in_(hers)),
        select(MERGE.c.at).where((MERGE.c.source_pk == pk) | (MERGE.c.target_pk == pk)),
    )
    if any(connection.execute(each.limit(1)).first() is not None for each in needed):
        return None
    return _by_pk(connection, pk)


def forget_patient(connection: Connection, found: StoredPatient) -> values.Patient:
    """Forgets name, birth date and sex. Returns what is left. `placing.place` says again who she is when a study of hers comes."""
    left = changed(found.patient, name="", birth_date="", sex="")
    change_patient(connection, found.pk, left)
    return left


def studies(connection: Connection, patient_pk: int) -> list[str]:
    """The Study Instance UIDs of a patient."""
    return list(connection.execute(select(STUDY.c.uid).where(STUDY.c.patient_pk == patient_pk).order_by(STUDY.c.pk)).scalars())


def _by_pk(connection: Connection, pk: int) -> StoredPatient:
    return patient(connection, str(connection.execute(select(PATIENT.c.id).where(PATIENT.c.pk == pk)).scalar_one()))

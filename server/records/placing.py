"""Placing what arrives in the catalogue: which patient, study and series an instance belongs to, and that it is there once.

The unique constraints decide, not the looking: two devices that send one study at once meet in one study.
"""

import unicodedata
import uuid
from dataclasses import dataclass

from sqlalchemy import Connection, Row, and_, select

from profiles import study as values
from server.errors import ContentConflict, PatientConflict
from server.records.catalogue import BLOB, INSTANCE, PATIENT, SERIES, STUDY
from server.store.blobs import Blob
from server.store.db import insert, micros


def folded(name: str) -> str:
    """A person name as it is matched: no case, no accents, one space, components kept (PS3.4 section C.2.2.2.1)."""
    plain = "".join(c for c in unicodedata.normalize("NFKD", name) if not unicodedata.combining(c))
    return " ".join(plain.casefold().split())


@dataclass(frozen=True, slots=True)
class Arrival:
    """One instance on its way in: its header as a study of one, QIDO attributes of study and series (JSON), its bytes."""

    study: values.Study
    study_attributes: bytes
    series_attributes: bytes
    blob: Blob
    dataset_offset: int
    source: str


@dataclass(frozen=True, slots=True)
class Place:
    """Where in the catalogue the instances of one series go. Remembered by a batch, so it is looked up once a series."""

    patient_pk: int
    study_pk: int
    series_pk: int


def place(connection: Connection, arrival: Arrival) -> Place:
    """Finds or makes the rows of patient, study and series. Raises `PatientConflict` where they contradict what is stored.

    The unique constraints decide, not the looking: two devices that send one study at once meet in one study.
    """
    study = arrival.study
    (series,) = study.series
    patient_pk = _patient(connection, study.patient)
    row = _study_row(connection, study.study_instance_uid)
    if row is None:
        connection.execute(
            insert(connection, STUDY)
            .values(
                id=str(uuid.uuid4()),
                uid=study.study_instance_uid,
                patient_pk=patient_pk,
                study_id=study.study_id,
                accession_number=study.accession_number,
                accession_authority=study.accession_authority,
                date=study.date,
                time=study.time,
                timezone=study.timezone,
                description=study.description,
                referring_physician=study.referring_physician,
                referring_folded=folded(study.referring_physician),
                institution=study.institution,
                attributes=arrival.study_attributes,
                received=micros(),
                version=0,
                updated=0,
                modalities="",
                series_count=0,
                instance_count=0,
            )
            .on_conflict_do_nothing()
        )
        row = _study_row(connection, study.study_instance_uid)
        assert row is not None
    if row.patient_pk != patient_pk:
        raise PatientConflict(
            "this Study Instance UID is stored for another Patient ID; correct the patient at the sender or merge first"
        )
    found = _series_row(connection, series.series_instance_uid)
    if found is None:
        connection.execute(
            insert(connection, SERIES)
            .values(
                uid=series.series_instance_uid,
                study_pk=row.pk,
                modality=series.modality,
                number=series.number,
                description=series.description,
                body_part=series.body_part,
                laterality=series.laterality,
                date=series.date,
                time=series.time,
                attributes=arrival.series_attributes,
                instance_count=0,
            )
            .on_conflict_do_nothing()
        )
        found = _series_row(connection, series.series_instance_uid)
        assert found is not None
    if found.study_pk != row.pk:
        raise PatientConflict("this Series Instance UID is stored in another study")
    return Place(patient_pk, row.pk, found.pk)


def admit(connection: Connection, arrival: Arrival, where: Place) -> None:
    """Adds the instance, unpublished. Raises `ContentConflict` when its UID came first from somebody else."""
    ((instance,),) = (series.instances for series in arrival.study.series)
    now = micros()
    connection.execute(BLOB.insert().values(id=arrival.blob.id, size=arrival.blob.size, sha256=arrival.blob.sha256, created=now))
    added = connection.execute(
        insert(connection, INSTANCE)
        .values(
            uid=instance.sop_instance_uid,
            series_pk=where.series_pk,
            study_pk=where.study_pk,
            sop_class=instance.sop_class_uid,
            transfer_syntax=instance.transfer_syntax_uid,
            number=instance.number,
            rows=instance.rows,
            columns=instance.columns,
            frames=instance.frames,
            title=instance.title,
            blob_id=arrival.blob.id,
            dataset_offset=arrival.dataset_offset,
            source=arrival.source,
            received=now,
            published=0,
        )
        .on_conflict_do_nothing(index_elements=["uid"])
        .returning(INSTANCE.c.pk)  # an INSERT's rowcount is not told by every driver
    )
    if added.first() is None:
        raise ContentConflict("this SOP Instance UID is stored already")


def _patient(connection: Connection, patient: values.Patient) -> int:
    identifier = patient.identifier
    wanted = and_(PATIENT.c.authority == identifier.authority.oid, PATIENT.c.value == identifier.value)
    found = connection.execute(select(PATIENT.c.pk).where(wanted)).scalar_one_or_none()
    if found is None:
        connection.execute(
            insert(connection, PATIENT)
            .values(
                id=str(uuid.uuid4()),
                authority=identifier.authority.oid,
                value=identifier.value,
                namespace=identifier.authority.namespace,
                name=patient.name,
                name_folded=folded(patient.name),
                birth_date=patient.birth_date,
                sex=patient.sex,
            )
            .on_conflict_do_nothing()
        )
        found = connection.execute(select(PATIENT.c.pk).where(wanted)).scalar_one()
    return int(found)


def _study_row(connection: Connection, uid: str) -> Row[int, int] | None:
    return connection.execute(select(STUDY.c.pk, STUDY.c.patient_pk).where(STUDY.c.uid == uid)).first()


def _series_row(connection: Connection, uid: str) -> Row[int, int] | None:
    return connection.execute(select(SERIES.c.pk, SERIES.c.study_pk).where(SERIES.c.uid == uid)).first()

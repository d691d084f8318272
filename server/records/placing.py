"""Placing what arrives in the catalogue: which patient, study and series an instance belongs to, and that it is there once.

The unique constraints decide, not the looking: two devices that send one study at once meet in one study.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, Row, and_, bindparam, delete, exists, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.sql.dml import ReturningInsert

from profiles import study as values
from profiles.person_name import folded
from server.errors import PatientConflict
from server.records import adoption, belonging
from server.records.catalogue import BLOB, EMPTIED, INSTANCE, PATIENT, SERIES, STUDY
from server.store.blobs import Blob
from server.store.db import insert, micros
from server.store.prepared import Prepared

SeriesKey = tuple[str, str, str, str]
"""Assigning authority and value of the patient's identifier, Study and Series Instance UID."""


@dataclass(frozen=True, slots=True)
class Setting:
    """What the rows of a patient, study and series are made of: a header as a study of one, QIDO attributes of both levels (JSON)."""

    study: values.Study
    study_attributes: bytes
    series_attributes: bytes

    @property
    def key(self) -> SeriesKey:
        """What a `Place` follows from."""
        identifier, (series,) = self.study.patient.identifier, self.study.series
        return identifier.authority.oid, identifier.value, self.study.study_instance_uid, series.series_instance_uid


@dataclass(frozen=True, slots=True)
class Arrival:
    """One instance on its way in: what its header says, its bytes, and the door and peer that it comes from."""

    instance: values.Instance
    blob: Blob
    dataset_offset: int
    source: str


@dataclass(frozen=True, slots=True)
class Place:
    """Where in the catalogue the instances of one series go."""

    patient_pk: int
    study_pk: int
    series_pk: int


def known(connection: Connection, settings: Iterable[Setting]) -> dict[SeriesKey, Place]:
    """The places of those that are stored as they say, by their keys. The others are new, or contradict what is stored."""
    uids = sorted({setting.study.series[0].series_instance_uid for setting in settings})
    rows = (row for uid in uids for row in _STANDING.rows(connection, {"uid": uid}))
    return {(authority, value, study, series): Place(*pks) for authority, value, study, series, *pks in rows}


_STANDING_SELECT = (
    select(
        PATIENT.c.authority, PATIENT.c.value, STUDY.c.uid.label("study_uid"), SERIES.c.uid.label("series_uid"),
        STUDY.c.patient_pk, SERIES.c.study_pk, SERIES.c.pk.label("series_pk"),
    )
    .join(STUDY, SERIES.c.study_pk == STUDY.c.pk)
    .join(PATIENT, STUDY.c.patient_pk == PATIENT.c.pk)
    .where(SERIES.c.uid == bindparam("uid"), SERIES.c.attributes != EMPTIED, STUDY.c.attributes != EMPTIED)
)  # fmt: skip
_STANDING = Prepared(lambda _: _STANDING_SELECT, ("uid",))


def place(connection: Connection, setting: Setting) -> tuple[Place, bool]:
    """Finds or makes the rows of patient, study and series; says also whether any was made here.

    Raises `PatientConflict` where they contradict what is stored. The unique constraints decide, not the looking: two devices that
    send one study at once meet in one study.
    """
    study = setting.study
    (series,) = study.series
    made = False
    of_study, of_series = _study_values(setting), _series_values(setting)
    named_pk = _patient(connection, study.patient)
    patient_pk = belonging.merged(connection, named_pk)
    row = _study_row(connection, study.study_instance_uid)
    if row is None:
        made = True
        counted = {"received": micros(), "version": 0, "updated": 0, "modalities": "", "series_count": 0, "instance_count": 0}
        connection.execute(
            insert(connection, STUDY)
            .values(
                id=adoption.study_id(connection, study.study_instance_uid, patient_pk),
                uid=study.study_instance_uid,
                patient_pk=patient_pk,
                **of_study,
                **counted,
            )
            .on_conflict_do_nothing()
        )
        # The new row waits for a merge of its patient that is under way; what that did is seen only now.
        if (owner_pk := belonging.merged(connection, named_pk)) != patient_pk:
            belonging.follow(connection, study.study_instance_uid, patient_pk, owner_pk)
            patient_pk = owner_pk
        row = _study_row(connection, study.study_instance_uid)
        assert row is not None
    new_study = made
    if row.patient_pk != patient_pk and not belonging.was_patient(connection, row.pk, patient_pk):
        raise PatientConflict(
            "this Study Instance UID is stored for another Patient ID; correct the patient at the sender or merge first"
        )
    if patient_pk != named_pk:
        belonging.note_former(connection, row.pk, named_pk)
    found = _series_row(connection, series.series_instance_uid)
    if found is None:
        made = True
        connection.execute(
            insert(connection, SERIES)
            .values(uid=series.series_instance_uid, study_pk=row.pk, instance_count=0, **of_series)
            .on_conflict_do_nothing()
        )
        found = _series_row(connection, series.series_instance_uid)
        assert found is not None
    if found.study_pk != row.pk:
        raise PatientConflict("this Series Instance UID is stored in another study")
    study_again, series_again = _refilled(connection, row.pk, found.pk, of_study, of_series)
    if (new_study or study_again) and row.patient_pk == named_pk:
        _named_again(connection, row.pk, row.patient_pk, study.patient)
    return Place(row.patient_pk, row.pk, found.pk), made or study_again or series_again


def _refilled(
    connection: Connection, study_pk: int, series_pk: int, of_study: dict[str, object], of_series: dict[str, object]
) -> tuple[bool, bool]:
    """What was purged (`catalogue.scrub`) and comes again says anew what it is about. Returns which of the two did."""
    study = update(STUDY).where(STUDY.c.pk == study_pk, STUDY.c.attributes == EMPTIED).values(received=micros(), **of_study)
    series = update(SERIES).where(SERIES.c.pk == series_pk, SERIES.c.attributes == EMPTIED).values(**of_series)
    return connection.execute(study).rowcount > 0, connection.execute(series).rowcount > 0


def _named_again(connection: Connection, study_pk: int, patient_pk: int, patient: values.Patient) -> None:
    """A patient whose studies were all purged (`corrections.forget_patient`) has one again, and with it her name."""
    others = exists().where(STUDY.c.patient_pk == patient_pk, STUDY.c.pk != study_pk, STUDY.c.attributes != EMPTIED)
    forgotten = and_(PATIENT.c.name == "", PATIENT.c.birth_date == "", PATIENT.c.sex == "")
    connection.execute(
        update(PATIENT)
        .where(PATIENT.c.pk == patient_pk, forgotten, ~others)
        .values(name=patient.name, name_folded=folded(patient.name), birth_date=patient.birth_date, sex=patient.sex)
    )


def _study_values(setting: Setting) -> dict[str, object]:
    study = setting.study
    return {
        "study_id": study.study_id, "accession_number": study.accession_number, "accession_authority": study.accession_authority,
        "date": study.date, "time": study.time, "timezone": study.timezone, "description": study.description,
        "referring_physician": study.referring_physician, "referring_folded": folded(study.referring_physician),
        "institution": study.institution, "attributes": setting.study_attributes,
    }  # fmt: skip


def _series_values(setting: Setting) -> dict[str, object]:
    (series,) = setting.study.series
    return {
        "modality": series.modality, "number": series.number, "description": series.description, "body_part": series.body_part,
        "laterality": series.laterality, "date": series.date, "time": series.time, "attributes": setting.series_attributes,
    }  # fmt: skip


def admit(connection: Connection, arrivals: Sequence[tuple[Arrival, Place]]) -> set[str]:
    """Adds instances, unpublished, at most some hundred. Returns the ids of the blobs that are theirs now.

    The others have a UID that came before, earlier in `arrivals` or from somebody else; of them nothing is kept here.
    """
    if not arrivals:
        return set()
    now = micros()
    blobs = [arrival.blob for arrival, _ in arrivals]
    _ADD_BLOB.run_each(connection, [{"id": blob.id, "size": blob.size, "sha256": blob.sha256, "created": now} for blob in blobs])
    kept: set[str] = set()
    for arrival, where in arrivals:
        # An INSERT's rowcount is not told by every driver.
        kept.update(blob_id for (blob_id,) in _ADD_INSTANCE.rows(connection, _instance_row(arrival, where, now)))
    if lost := [blob.id for blob in blobs if blob.id not in kept]:
        connection.execute(delete(BLOB).where(BLOB.c.id.in_(lost)))
    return kept


def _instance_row(arrival: Arrival, where: Place, now: int) -> dict[str, object]:
    instance = arrival.instance
    return {
        "uid": instance.sop_instance_uid,
        "series_pk": where.series_pk,
        "study_pk": where.study_pk,
        "sop_class": instance.sop_class_uid,
        "transfer_syntax": instance.transfer_syntax_uid,
        "number": instance.number,
        "rows": instance.rows,
        "columns": instance.columns,
        "frames": instance.frames,
        "title": instance.title,
        "blob_id": arrival.blob.id,
        "dataset_offset": arrival.dataset_offset,
        "source": arrival.source,
        "received": now,
        "published": 0,
    }


def _adding_instance(dialect: str) -> ReturningInsert[str]:
    statement = (sqlite if dialect == "sqlite" else postgresql).insert(INSTANCE)
    adding: ReturningInsert[str] = statement.on_conflict_do_nothing(index_elements=["uid"]).returning(INSTANCE.c.blob_id)
    return adding


_ADD_BLOB = Prepared(lambda _: BLOB.insert(), ("id", "size", "sha256", "created"))
_ADD_INSTANCE = Prepared(
    _adding_instance,
    (
        "uid", "series_pk", "study_pk", "sop_class", "transfer_syntax", "number", "rows", "columns", "frames", "title", "blob_id",
        "dataset_offset", "source", "received", "published",
    ),
)  # fmt: skip


def _patient(connection: Connection, patient: values.Patient) -> int:
    identifier = patient.identifier
    wanted = and_(PATIENT.c.authority == identifier.authority.oid, PATIENT.c.value == identifier.value)
    found = connection.execute(select(PATIENT.c.pk).where(wanted)).scalar_one_or_none()
    if found is None:
        connection.execute(
            insert(connection, PATIENT)
            .values(
                id=adoption.patient_id(connection, identifier.authority.oid, identifier.value),
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

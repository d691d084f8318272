"""The catalogue: which patients, studies, series and instances there are. Every face is a projection of it.

An instance is admitted when its bytes are safe, and published with its study after the quiet period. What is not
published is invisible to every face, so no face ever shows half a study or disagrees with another.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, func, or_, select, update

from profiles import study as values
from profiles.identifiers import AssigningAuthority, PatientIdentifier
from server.errors import NotFound
from server.store.tables import Blob as BlobRow
from server.store.tables import Instance, Patient, Series, Study

PATIENT = Patient.__table__  # type: ignore[attr-defined]
STUDY = Study.__table__  # type: ignore[attr-defined]
SERIES = Series.__table__  # type: ignore[attr-defined]
INSTANCE = Instance.__table__  # type: ignore[attr-defined]
BLOB = BlobRow.__table__  # type: ignore[attr-defined]

PUBLISHED = INSTANCE.c.published == 1


@dataclass(frozen=True, slots=True)
class StoredInstance:
    """One instance with what it takes to send it. `patient` is the resource id that access is decided by."""

    pk: int
    study_uid: str
    series_uid: str
    uid: str
    sop_class: str
    transfer_syntax: str
    frames: int
    blob_id: str
    size: int
    dataset_offset: int
    patient: str


_STORED = (
    INSTANCE.c.pk,
    STUDY.c.uid.label("study_uid"),
    SERIES.c.uid.label("series_uid"),
    INSTANCE.c.uid,
    INSTANCE.c.sop_class,
    INSTANCE.c.transfer_syntax,
    INSTANCE.c.frames,
    INSTANCE.c.blob_id,
    BLOB.c.size,
    INSTANCE.c.dataset_offset,
    PATIENT.c.id.label("patient"),
)
_JOINED = INSTANCE.join(SERIES, INSTANCE.c.series_pk == SERIES.c.pk).join(STUDY, INSTANCE.c.study_pk == STUDY.c.pk).join(
    PATIENT, STUDY.c.patient_pk == PATIENT.c.pk
).join(BLOB, INSTANCE.c.blob_id == BLOB.c.id)  # fmt: skip


def instances(
    connection: Connection, study_uid: str, series_uid: str | None = None, sop_uid: str | None = None
) -> list[StoredInstance]:
    """The published instances of a study, series, or the one named, in series and instance order. Empty where none is."""
    wanted = [PUBLISHED, STUDY.c.uid == study_uid]
    if series_uid is not None:
        wanted.append(SERIES.c.uid == series_uid)
    if sop_uid is not None:
        wanted.append(INSTANCE.c.uid == sop_uid)
    rows = connection.execute(
        select(*_STORED)
        .select_from(_JOINED)
        .where(*wanted)
        .order_by(_last_if_none(SERIES.c.number), SERIES.c.uid, _last_if_none(INSTANCE.c.number), INSTANCE.c.uid)
    )
    return [StoredInstance(*row) for row in rows]


def by_sop_uid(connection: Connection, uids: Sequence[str]) -> dict[str, StoredInstance]:
    """The published instances among `uids`, by their SOP Instance UID."""
    found: dict[str, StoredInstance] = {}
    for start in range(0, len(uids), 500):
        rows = connection.execute(
            select(*_STORED).select_from(_JOINED).where(PUBLISHED, INSTANCE.c.uid.in_(uids[start : start + 500]))
        )
        found.update((row.uid, StoredInstance(*row)) for row in rows)
    return found


def stored(connection: Connection, sop_uid: str) -> StoredInstance | None:
    """The instance of that UID, published or not. For the doors in, which must know what they would collide with."""
    row = connection.execute(select(*_STORED).select_from(_JOINED).where(INSTANCE.c.uid == sop_uid)).first()
    return StoredInstance(*row) if row else None


def study_patient(connection: Connection, study_uid: str) -> str:
    """Resource id of the patient of a published study. Raises `NotFound`."""
    found = connection.execute(
        select(PATIENT.c.id).join(STUDY, STUDY.c.patient_pk == PATIENT.c.pk).where(STUDY.c.uid == study_uid, STUDY.c.version > 0)
    ).scalar_one_or_none()
    if found is None:
        raise NotFound("no such study")
    return str(found)


def load(connection: Connection, study_pk: int, *, prepared: bool = False) -> values.Study:
    """The study as published; with `prepared`, as it will be once its prepared instances are published too."""
    row = connection.execute(
        select(STUDY, *(c.label(f"patient_{c.name}") for c in PATIENT.c))
        .join(PATIENT, STUDY.c.patient_pk == PATIENT.c.pk)
        .where(STUDY.c.pk == study_pk)
    ).one()
    visible: ColumnElement[bool] = or_(PUBLISHED, INSTANCE.c.dicom_json.is_not(None)) if prepared else PUBLISHED
    members: dict[int, list[values.Instance]] = {}
    for found in connection.execute(
        select(
            INSTANCE.c.series_pk, INSTANCE.c.uid, INSTANCE.c.sop_class, INSTANCE.c.transfer_syntax, INSTANCE.c.number,
            INSTANCE.c.rows, INSTANCE.c.columns, INSTANCE.c.frames, INSTANCE.c.title,
        )
        .where(INSTANCE.c.study_pk == study_pk, visible)
        .order_by(_last_if_none(INSTANCE.c.number), INSTANCE.c.uid)
    ):  # fmt: skip
        members.setdefault(found[0], []).append(values.Instance(*found[1:]))
    series = tuple(
        values.Series(
            series_instance_uid=found.uid, modality=found.modality, number=found.number, description=found.description,
            body_part=found.body_part, laterality=found.laterality, date=found.date, time=found.time,
            instances=tuple(members[found.pk]),
        )
        for found in connection.execute(
            select(SERIES).where(SERIES.c.study_pk == study_pk).order_by(_last_if_none(SERIES.c.number), SERIES.c.uid)
        )
        if found.pk in members
    )  # fmt: skip
    identifier = PatientIdentifier(row.patient_value, AssigningAuthority(row.patient_authority, row.patient_namespace))
    return values.Study(
        study_instance_uid=row.uid,
        patient=values.Patient(identifier, row.patient_name, row.patient_birth_date, row.patient_sex, row.patient_id),
        study_id=row.study_id,
        accession_number=row.accession_number,
        accession_authority=row.accession_authority,
        date=row.date,
        time=row.time,
        timezone=row.timezone,
        description=row.description,
        referring_physician=row.referring_physician,
        institution=row.institution,
        series=series,
        id=row.id,
        version=row.version,
        modalities=tuple(sorted({found.modality for found in series if found.modality})),
    )


def pending(connection: Connection, study_pk: int, *, prepared: bool) -> list[tuple[int, str]]:
    """(pk, blob id) of the study's unpublished instances that are, or are not yet, prepared."""
    state = INSTANCE.c.dicom_json.is_not(None) if prepared else INSTANCE.c.dicom_json.is_(None)
    rows = connection.execute(
        select(INSTANCE.c.pk, INSTANCE.c.blob_id)
        .where(INSTANCE.c.study_pk == study_pk, INSTANCE.c.published == 0, state)
        .order_by(INSTANCE.c.pk)
    )
    return [(row.pk, row.blob_id) for row in rows]


def prepare(connection: Connection, pk: int, *, attributes: bytes, dicom_json: bytes, frame_table: bytes | None) -> None:
    """Keeps what was made of an instance after the acknowledgement: DICOM JSON (zstd), QIDO attributes, frame offsets."""
    connection.execute(
        update(INSTANCE).where(INSTANCE.c.pk == pk).values(attributes=attributes, dicom_json=dicom_json, frame_table=frame_table)
    )


def publish(connection: Connection, study_pk: int, study: values.Study, instance_pks: Sequence[int], *, updated: int) -> bool:
    """Makes `instance_pks` visible and the study's counts those of `study`. False if somebody else published meanwhile."""
    moved = connection.execute(
        update(STUDY)
        .where(STUDY.c.pk == study_pk, STUDY.c.version == study.version)
        .values(
            version=study.version + 1,
            updated=updated,
            modalities="".join(f"\\{m}" for m in study.modalities) + "\\" if study.modalities else "",
            series_count=len(study.series),
            instance_count=study.instance_count,
        )
    )
    if not moved.rowcount:
        return False
    for start in range(0, len(instance_pks), 500):
        connection.execute(update(INSTANCE).where(INSTANCE.c.pk.in_(instance_pks[start : start + 500])).values(published=1))
    for series in study.series:
        connection.execute(
            update(SERIES).where(SERIES.c.uid == series.series_instance_uid).values(instance_count=len(series.instances))
        )
    return True


def blob_ids(connection: Connection) -> set[str]:
    """Every blob that a row names."""
    return set(connection.execute(select(BLOB.c.id)).scalars())


def names_blob(connection: Connection, blob_id: str) -> bool:
    """Whether a row names this blob."""
    return connection.execute(select(BLOB.c.id).where(BLOB.c.id == blob_id)).first() is not None


def counts(connection: Connection) -> dict[str, int]:
    """How many published studies and instances there are, and how many instances wait."""
    return {
        "studies": int(connection.execute(select(func.count()).select_from(STUDY).where(STUDY.c.version > 0)).scalar_one()),
        "instances": int(connection.execute(select(func.count()).select_from(INSTANCE).where(PUBLISHED)).scalar_one()),
        "pending": int(connection.execute(select(func.count()).select_from(INSTANCE).where(~PUBLISHED)).scalar_one()),
    }


def _last_if_none(column: ColumnElement[int | None]) -> ColumnElement[int]:
    # The engines put NULL at different ends.
    return func.coalesce(column, 1 << 62)


def patient_id(connection: Connection, patient_pk: int) -> str:
    """Resource id of a patient's row."""
    return str(connection.execute(select(PATIENT.c.id).where(PATIENT.c.pk == patient_pk)).scalar_one())


def study_id(connection: Connection, study_pk: int) -> str:
    """Resource id of a study's row: its ImagingStudy."""
    return str(connection.execute(select(STUDY.c.id).where(STUDY.c.pk == study_pk)).scalar_one())


def patient_pk(connection: Connection, study_pk: int) -> int:
    """Row of the patient of a study's row."""
    return int(connection.execute(select(STUDY.c.patient_pk).where(STUDY.c.pk == study_pk)).scalar_one())


def frame_table(connection: Connection, instance_pk: int) -> bytes | None:
    """The stored frame table (`profiles.frames.FrameTable`) of a prepared instance."""
    found = connection.execute(select(INSTANCE.c.frame_table).where(INSTANCE.c.pk == instance_pk)).scalar_one()
    return bytes(found) if found is not None else None


def dicom_json(connection: Connection, instance_pks: Sequence[int]) -> Iterator[bytes]:
    """The packed DICOM JSON of each of `instance_pks`, in their order."""
    for start in range(0, len(instance_pks), 100):
        part = instance_pks[start : start + 100]
        rows = connection.execute(select(INSTANCE.c.pk, INSTANCE.c.dicom_json).where(INSTANCE.c.pk.in_(part)))
        found = {pk: bytes(body) for pk, body in rows}
        yield from (found[pk] for pk in part)

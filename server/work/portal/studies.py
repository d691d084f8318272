"""Studies as pages show them: what of each the reader may know, newest first."""

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, and_, func, select, tuple_

from profiles.kinds import kind
from server.access.decisions import Decision, Interaction
from server.errors import NotFound
from server.records import belonging
from server.records.catalogue import INSTANCE, PATIENT, PUBLISHED, SERIES, STUDY

Place = tuple[str, str, int]
"""Where a study stands among others: date, time, row."""
MOST: Final = 200
NO_STUDY: Final = "there are no such images, or they are not yours to see"


@dataclass(frozen=True, slots=True)
class SeenSeries:
    """`kind` is image, video, document, report or other; `frames` are all of its images. Date is DICOM's."""

    uid: str
    modality: str
    number: int | None
    description: str
    body_part: str
    laterality: str
    kind: str
    instances: int
    frames: int


@dataclass(frozen=True, slots=True)
class SeenStudy:
    """`id` is the ImagingStudy's, `patient` her resource id; date and time are DICOM's DA and TM, `place` is where it stands in a list.

    Of the series those that the reader may know of; `is_whole` says whether these are all.
    """

    id: str
    uid: str
    patient: str
    patient_name: str
    birth_date: str
    sex: str
    date: str
    time: str
    description: str
    institution: str
    accession_number: str
    modalities: tuple[str, ...]
    received: int
    series: tuple[SeenSeries, ...]
    place: Place
    is_whole: bool = True

    @property
    def body_parts(self) -> tuple[str, ...]:
        """Body Part Examined of its series, each once."""
        return tuple(dict.fromkeys(each.body_part for each in self.series if each.body_part))

    @property
    def images(self) -> int:
        """How many there are to look at."""
        return sum(each.frames for each in self.series if each.kind == "image")

    @property
    def has_pictures(self) -> bool:
        return any(each.kind in ("image", "video") and each.frames for each in self.series)


def studies(
    connection: Connection,
    decision: Decision,
    *,
    patients: Collection[str] | None = None,
    before: Place | None = None,
    most: int = MOST,
) -> tuple[SeenStudy, ...]:
    """Those that the reader may know of, of these patients (resource ids) if any are named, after the one that stands at `before`."""
    where = [STUDY.c.version > 0, decision.studies_where(Interaction.SEARCH, SERIES.c.uid)]
    if patients is not None:
        where.append(PATIENT.c.id.in_(sorted(patients)))
    if before is not None:
        where.append(tuple_(STUDY.c.date, STUDY.c.time, STUDY.c.pk) < before)
    pks = (
        select(STUDY.c.pk)
        .join(PATIENT, STUDY.c.patient_pk == PATIENT.c.pk)
        .join(SERIES, SERIES.c.study_pk == STUDY.c.pk)
        .where(*where, SERIES.c.instance_count > 0)
        .distinct()
    )
    return _seen(connection, decision, Interaction.SEARCH, STUDY.c.pk.in_(pks), most)


def study(connection: Connection, decision: Decision, id_: str) -> SeenStudy:
    """The study of this ImagingStudy id. Raises `NotFound`, in the same words whether there is one."""
    found = _seen(connection, decision, Interaction.READ, and_(STUDY.c.id == id_, STUDY.c.version > 0), 1)
    if not found:
        raise NotFound(NO_STUDY)
    return found[0]


def of_uids(connection: Connection, decision: Decision, uids: Collection[str]) -> tuple[SeenStudy, ...]:
    """Those of these Study Instance UIDs that the reader may know of, newest first."""
    wanted = and_(STUDY.c.uid.in_(sorted(uids)), STUDY.c.version > 0)
    return _seen(connection, decision, Interaction.READ, wanted, max(1, len(uids)))


def of_accession_numbers(connection: Connection, decision: Decision, numbers: Collection[str]) -> tuple[SeenStudy, ...]:
    """The same by Accession Numbers, which are of one department: of several with the same number all."""
    return _seen(
        connection, decision, Interaction.READ, and_(STUDY.c.accession_number.in_(sorted(numbers)), STUDY.c.version > 0), MOST
    )


def of_patient(connection: Connection, patient: str) -> tuple[str, ...]:
    """Study Instance UIDs of all that is to be seen of a patient (resource id), and of those who were merged into her."""
    whose = belonging.same(connection, patient)
    theirs = (
        select(STUDY.c.uid).join(PATIENT, STUDY.c.patient_pk == PATIENT.c.pk).where(PATIENT.c.id.in_(whose), STUDY.c.version > 0)
    )
    return tuple(connection.execute(theirs).scalars())


def ids(connection: Connection, uids: Collection[str]) -> tuple[str, ...]:
    """The ImagingStudy ids of these Study Instance UIDs, whoever asks: for the trail."""
    return tuple(connection.execute(select(STUDY.c.id).where(STUDY.c.uid.in_(sorted(uids))).order_by(STUDY.c.id)).scalars())


_COLUMNS: Final = (
    STUDY.c.pk, STUDY.c.id, STUDY.c.uid, STUDY.c.date, STUDY.c.time, STUDY.c.description, STUDY.c.institution, STUDY.c.accession_number,
    STUDY.c.modalities, STUDY.c.received, STUDY.c.series_count, PATIENT.c.id.label("patient"), PATIENT.c.name, PATIENT.c.birth_date,
    PATIENT.c.sex,
)  # fmt: skip


def _seen(connection: Connection, decision: Decision, interaction: Interaction, wanted: Any, most: int) -> tuple[SeenStudy, ...]:
    rows = connection.execute(
        select(*_COLUMNS).join(PATIENT, STUDY.c.patient_pk == PATIENT.c.pk).where(wanted)
        .order_by(STUDY.c.date.desc(), STUDY.c.time.desc(), STUDY.c.pk.desc()).limit(most)
    ).all()  # fmt: skip
    series = _series(connection, decision, interaction, [row.pk for row in rows])
    return tuple(_of(row, series[row.pk]) for row in rows if series[row.pk])


def _of(row: Any, series: Sequence[SeenSeries]) -> SeenStudy:
    modalities = tuple(filter(None, row.modalities.split("\\")))
    return SeenStudy(
        id=row.id, uid=row.uid, patient=row.patient, patient_name=row.name, birth_date=row.birth_date, sex=row.sex, date=row.date,
        time=row.time, description=row.description, institution=row.institution, accession_number=row.accession_number,
        modalities=modalities, received=row.received, series=tuple(series), place=(row.date, row.time, row.pk),
        is_whole=len(series) == row.series_count,
    )  # fmt: skip


def _series(
    connection: Connection, decision: Decision, interaction: Interaction, study_pks: Sequence[int]
) -> dict[int, list[SeenSeries]]:
    """The series of these studies that the reader may know of, with what is in them."""
    found: dict[int, list[SeenSeries]] = defaultdict(list)
    if not study_pks:
        return found
    rows = connection.execute(
        select(
            SERIES.c.pk, SERIES.c.study_pk, SERIES.c.uid, SERIES.c.modality, SERIES.c.number, SERIES.c.description, SERIES.c.body_part,
            SERIES.c.laterality, func.count().label("instances"), func.sum(INSTANCE.c.frames).label("frames"),
            func.min(INSTANCE.c.sop_class).label("sop_class"), func.min(INSTANCE.c.transfer_syntax).label("syntax"),
        )
        .join(STUDY, SERIES.c.study_pk == STUDY.c.pk)
        .join(PATIENT, STUDY.c.patient_pk == PATIENT.c.pk)
        .join(INSTANCE, and_(INSTANCE.c.series_pk == SERIES.c.pk, PUBLISHED))
        .where(SERIES.c.study_pk.in_(study_pks), decision.studies_where(interaction, SERIES.c.uid))
        .group_by(SERIES.c.pk)
        .order_by(SERIES.c.number.is_(None), SERIES.c.number, SERIES.c.uid)
    ).all()  # fmt: skip
    for row in rows:
        found[row.study_pk].append(
            SeenSeries(
                row.uid, row.modality, row.number, row.description, row.body_part, row.laterality,
                kind(row.sop_class, row.syntax, int(row.frames or 0)), int(row.instances), int(row.frames or 0),
            )
        )  # fmt: skip
    return found

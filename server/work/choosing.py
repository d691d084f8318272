"""Which patients, and which of their studies, a person may choose for an app: labels for people, no more than is needed to tell them apart."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson
from sqlalchemy import ColumnElement, Connection, or_, select

from profiles.person_name import folded
from server.access.consents import NOTHING, Withheld
from server.records import belonging, resources
from server.records.catalogue import PATIENT, STUDY
from server.records.resources import RESOURCE

_MOST: Final = 50


@dataclass(frozen=True, slots=True)
class PatientChoice:
    """`id` is the resource id; `name` for people, `birth_date` as FHIR has it, both may be empty."""

    id: str
    name: str
    birth_date: str = ""
    sex: str = ""
    numbers: tuple[str, ...] = ()
    """By which images name the patient; for who sees many patients, to tell those of one name apart."""


@dataclass(frozen=True, slots=True)
class StudyChoice:
    """`id` is that of the ImagingStudy; `date` is YYYYMMDD or empty, `modalities` are DICOM's codes."""

    id: str
    uid: str
    description: str = ""
    date: str = ""
    modalities: tuple[str, ...] = ()
    institution: str = ""


@dataclass(frozen=True, slots=True)
class Choices:
    """`more` says that there are more patients than these: search for one. `more_studies`: there are older ones than these."""

    patients: tuple[PatientChoice, ...] = ()
    studies: tuple[StudyChoice, ...] = ()
    more: bool = False
    more_studies: bool = False


def choices(
    connection: Connection, reach: frozenset[str] | None, *, patient: str | None = None, search: str = "", kept: Withheld = NOTHING
) -> Choices:  # fmt: skip
    """The patients of `reach` (None: every one) that `search` finds, of whom it needs one where that is every one, and the newest studies of `patient` if it is one of them.

    With a `patient` that is the only one. What consents have `kept` from the person is not among them.
    """
    ids, more = _patients(connection, reach, search, kept) if patient is None else ([patient], False)
    found = tuple(filter(None, (choice(connection, id_, reach, kept) for id_ in ids)))
    studies = _studies(connection, patient, kept) if patient is not None and found else ()
    return Choices(found, studies[:_MOST], more, len(studies) > _MOST)


def choice(connection: Connection, id: str, reach: frozenset[str] | None, kept: Withheld = NOTHING) -> PatientChoice | None:
    """The patient of this id, where who has this `reach` may be told of it."""
    if (reach is not None and id not in reach) or not _is_told(connection, id, kept):
        return None
    return _choice(connection, id)


def is_patient(connection: Connection, id: str) -> bool:
    """Whether there is a Patient of this id."""
    return _choice(connection, id) is not None


def uids_of(connection: Connection, patient: str | None, studies: Sequence[str]) -> list[str]:
    """Study Instance UIDs of those ImagingStudy ids that are this patient's and are published."""
    if patient is None or not studies:
        return []
    mine = STUDY.c.id.in_(set(studies)), PATIENT.c.id == patient, STUDY.c.version > 0
    rows = connection.execute(select(STUDY.c.uid).join(PATIENT, STUDY.c.patient_pk == PATIENT.c.pk).where(*mine))
    return sorted(rows.scalars())


def encounter_of(connection: Connection, patient: str, kept: Withheld = NOTHING) -> str | None:
    """The patient's Encounter that was written last, of those that consents have not `kept` from the person; None where there is none."""
    mine = [RESOURCE.c.type == "Encounter", RESOURCE.c.patient == patient, RESOURCE.c.deleted == 0]
    if not kept.is_nothing:
        mine.append(kept.told("Encounter", RESOURCE))
    found: str | None = connection.execute(
        select(RESOURCE.c.id).where(*mine).order_by(RESOURCE.c.updated.desc(), RESOURCE.c.pk.desc()).limit(1)
    ).scalar()
    return found


def _patients(connection: Connection, reach: frozenset[str] | None, search: str, kept: Withheld) -> tuple[list[str], bool]:
    wanted = search.strip()
    if reach is not None and not wanted:
        return sorted(reach)[:_MOST], len(reach) > _MOST
    if not wanted:
        return [], True
    named = PATIENT.c.name_folded.startswith(folded(wanted), autoescape=True)
    either = or_(named, PATIENT.c.value == wanted, PATIENT.c.id == wanted)
    mine = select(PATIENT.c.id).where(either, *_of(reach), *_told(kept))
    found = list(connection.execute(mine.order_by(PATIENT.c.name_folded, PATIENT.c.id).limit(_MOST + 1)).scalars())
    return found[:_MOST], len(found) > _MOST


def _of(reach: frozenset[str] | None) -> list[ColumnElement[bool]]:
    return [] if reach is None else [PATIENT.c.id.in_(sorted(reach))]


def _told(kept: Withheld) -> list[ColumnElement[bool]]:
    """That a patient of the catalogue may be told of."""
    if kept.is_nothing:
        return []
    row = RESOURCE.alias()
    return [
        select(row.c.pk)
        .where(row.c.type == "Patient", row.c.id == PATIENT.c.id, kept.told("Patient", row))
        .correlate_except(row)
        .exists()
    ]


def _is_told(connection: Connection, id_: str, kept: Withheld) -> bool:
    if kept.is_nothing:
        return True
    found = select(RESOURCE.c.pk).where(RESOURCE.c.type == "Patient", RESOURCE.c.id == id_, kept.told("Patient", RESOURCE))
    return connection.execute(found).first() is not None


def _choice(connection: Connection, id: str) -> PatientChoice | None:
    stored = resources.last(connection, "Patient", id)
    if stored is None or stored.deleted:
        return None
    found: dict[str, Any] = orjson.loads(stored.body)
    return PatientChoice(id, _name(found), found.get("birthDate", ""), found.get("gender", ""), belonging.numbers(connection, id))


def _name(patient: dict[str, Any]) -> str:
    for name in patient.get("name", ()):
        said = name.get("text") or " ".join([*name.get("given", ()), name.get("family", "")]).strip()
        if said:
            return str(said)
    return ""


def _studies(connection: Connection, patient: str, kept: Withheld) -> tuple[StudyChoice, ...]:
    columns = STUDY.c.id, STUDY.c.uid, STUDY.c.description, STUDY.c.date, STUDY.c.modalities, STUDY.c.institution
    mine = [PATIENT.c.id == patient, STUDY.c.version > 0]
    if not kept.is_nothing:
        row = RESOURCE.alias()
        told = row.c.type == "ImagingStudy", row.c.id == STUDY.c.id, kept.told("ImagingStudy", row)
        mine.append(select(row.c.pk).where(*told).correlate_except(row).exists())
    rows = connection.execute(
        select(*columns).join(PATIENT, STUDY.c.patient_pk == PATIENT.c.pk).where(*mine)
        .order_by(STUDY.c.date.desc(), STUDY.c.time.desc(), STUDY.c.pk.desc()).limit(_MOST + 1)
    )  # fmt: skip
    return tuple(
        StudyChoice(row.id, row.uid, row.description, row.date, tuple(filter(None, row.modalities.split("\\"))), row.institution)
        for row in rows
    )

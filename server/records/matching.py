"""Searching the catalogue, in SQL: PS3.4 section C.4.1 as QIDO-RS (PS3.18 section 10.6) needs it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from sqlalchemy import ColumnElement, Connection, FromClause, RowMapping, func, select

from profiles import study as values
from profiles.identifiers import AssigningAuthority, PatientIdentifier
from profiles.query_attributes import Level
from server.records.catalogue import INSTANCE, PATIENT, PUBLISHED, SERIES, STUDY
from server.records.conditions import Condition, Path, conditions


@dataclass(frozen=True, slots=True)
class Query:
    """What is asked for: the level of the results, keys (an empty value matches everything), what they are under, which page."""

    level: Level
    keys: Mapping[Path, str] = field(default_factory=dict)
    study_uid: str | None = None
    series_uid: str | None = None
    limit: int = 100
    offset: int = 0


@dataclass(frozen=True, slots=True)
class Match:
    """One result. `attributes` are the stored JSON bytes from study level down to the level of the query."""

    patient: str
    study: values.Study
    series: values.Series | None
    instance: values.Instance | None
    attributes: tuple[bytes, ...]
    series_count: int
    instance_count: int
    series_instance_count: int


def search(connection: Connection, query: Query, allowed: Condition) -> tuple[list[Match], bool]:
    """PS3.18 section 10.6: the published studies, series or instances that match, in a stable order, and whether there are more.

    `allowed` is the caller's Decision over `PATIENT.c.id`. Raises `MalformedQuery` for a key or value that cannot be matched.
    """
    statement = select(*_columns(query.level)).select_from(_tables(query.level)).where(allowed, _published(query.level))
    if query.study_uid is not None:
        statement = statement.where(STUDY.c.uid == query.study_uid)
    if query.series_uid is not None:
        statement = statement.where(SERIES.c.uid == query.series_uid)
    statement = statement.where(
        *(condition for key, value in query.keys.items() for condition in conditions(connection, query.level, key, value))
    )
    rows = connection.execute(statement.order_by(*_order(query)).limit(query.limit + 1).offset(query.offset)).mappings().all()
    return [_match(row, query.level) for row in rows[: query.limit]], len(rows) > query.limit


def patient_ids(connection: Connection, ids: Iterable[str]) -> set[str]:
    """The Patient IDs (0010,0020) of the patients with these resource ids."""
    return set(connection.execute(select(PATIENT.c.value).where(PATIENT.c.id.in_(sorted(ids)))).scalars())


def patients_of(connection: Connection, value: str) -> frozenset[str]:
    """Resource ids of the patients with this Patient ID (0010,0020), whichever authority assigned it."""
    return frozenset(connection.execute(select(PATIENT.c.id).where(PATIENT.c.value == value)).scalars())


# --- statements


def _columns(level: Level) -> list[ColumnElement[object]]:
    told: list[ColumnElement[object]] = [
        *(STUDY.c[name].label(f"study_{name}") for name in _STUDY_COLUMNS),
        *(PATIENT.c[name].label(f"patient_{name}") for name in _PATIENT_COLUMNS),
    ]
    if level != "study":
        told += [SERIES.c[name].label(f"series_{name}") for name in _SERIES_COLUMNS]
    if level == "instance":
        told += [INSTANCE.c[name].label(f"instance_{name}") for name in _INSTANCE_COLUMNS]
    return told


_STUDY_COLUMNS = (
    "id", "uid", "version", "study_id", "accession_number", "accession_authority", "date", "time", "timezone", "description",
    "referring_physician", "institution", "modalities", "series_count", "instance_count", "attributes",
)  # fmt: skip
_PATIENT_COLUMNS = ("id", "authority", "value", "namespace", "name", "birth_date", "sex")
_SERIES_COLUMNS = (
    "uid",
    "modality",
    "number",
    "description",
    "body_part",
    "laterality",
    "date",
    "time",
    "instance_count",
    "attributes",
)
_INSTANCE_COLUMNS = ("uid", "sop_class", "transfer_syntax", "number", "rows", "columns", "frames", "title", "attributes")


def _tables(level: Level) -> FromClause:
    joined = STUDY.join(PATIENT, STUDY.c.patient_pk == PATIENT.c.pk)
    if level != "study":
        joined = joined.join(SERIES, SERIES.c.study_pk == STUDY.c.pk)
    if level == "instance":
        joined = joined.join(INSTANCE, INSTANCE.c.series_pk == SERIES.c.pk)
    found: FromClause = joined
    return found


def _published(level: Level) -> Condition:
    match level:
        case "study":
            found: Condition = STUDY.c.version > 0
        case "series":
            found = SERIES.c.instance_count > 0
        case "instance":
            found = PUBLISHED
    return found


def _order(query: Query) -> list[ColumnElement[object]]:
    """Newest study first, as lists are read; then as `catalogue.instances` orders, so that pages are stable."""
    order: list[ColumnElement[object]] = []
    if query.study_uid is None:
        order += [STUDY.c.date.desc(), STUDY.c.pk.desc()]
    if query.level != "study" and query.series_uid is None:
        order += [func.coalesce(SERIES.c.number, 1 << 62), SERIES.c.uid]
    if query.level == "instance":
        order += [func.coalesce(INSTANCE.c.number, 1 << 62), INSTANCE.c.uid]
    return order or [STUDY.c.pk]


# --- results


def _match(row: RowMapping, level: Level) -> Match:
    found = {name: row[f"study_{name}"] for name in _STUDY_COLUMNS}
    patient = {name: str(row[f"patient_{name}"]) for name in _PATIENT_COLUMNS}
    study = values.Study(
        study_instance_uid=str(found["uid"]),
        patient=values.Patient(
            PatientIdentifier(patient["value"], AssigningAuthority(patient["authority"], patient["namespace"])),
            patient["name"],
            patient["birth_date"],
            patient["sex"],
            patient["id"],
        ),
        modalities=tuple(part for part in str(found["modalities"]).split("\\") if part),
        version=_number(found["version"]),
        **{name: str(found[name]) for name in _STUDY_TEXTS},  # type: ignore[arg-type]
    )
    attributes = [row["study_attributes"]]
    series = instance = None
    if level != "study":
        series = values.Series(
            series_instance_uid=str(row["series_uid"]),
            number=_optional(row["series_number"]),
            **{name: str(row[f"series_{name}"]) for name in _SERIES_TEXTS},  # type: ignore[arg-type]
        )
        attributes.append(row["series_attributes"])
    if level == "instance":
        instance = values.Instance(
            str(row["instance_uid"]),
            str(row["instance_sop_class"]),
            str(row["instance_transfer_syntax"]),
            _optional(row["instance_number"]),
            _number(row["instance_rows"]),
            _number(row["instance_columns"]),
            _number(row["instance_frames"]),
            str(row["instance_title"]),
        )
        attributes.append(row["instance_attributes"])
    return Match(
        patient["id"],
        study,
        series,
        instance,
        tuple(bytes(body) if isinstance(body, bytes | memoryview) else b"{}" for body in attributes),
        _number(found["series_count"]),
        _number(found["instance_count"]),
        _number(row["series_instance_count"]) if series else 0,
    )


_STUDY_TEXTS = (
    "id", "study_id", "accession_number", "accession_authority", "date", "time", "timezone", "description", "referring_physician",
    "institution",
)  # fmt: skip
_SERIES_TEXTS = ("modality", "description", "body_part", "laterality", "date", "time")


def _number(value: object) -> int:
    assert isinstance(value, int)
    return value


def _optional(value: object) -> int | None:
    return None if value is None else _number(value)

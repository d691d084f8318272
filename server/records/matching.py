"""Searching the catalogue, in SQL: PS3.4 section C.4.1 as QIDO-RS (PS3.18 section 10.6) and C-FIND need it.

Results are in one order, newest study first. Studies are found first, by an index that has this order; what is in them is
looked for some studies at a time, until a page is full. So a page costs what is on it, however many instances there are; only a key that no
index knows makes it look through others, and then of `MOST_LOOKED_THROUGH` at most.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, lru_cache
from itertools import islice
from typing import Any

import orjson
from sqlalchemy import ColumnElement, Connection, FromClause, Row, Select, func, or_, select, true
from sqlalchemy.sql.elements import True_

from profiles import study as values
from profiles.identifiers import AssigningAuthority, PatientIdentifier
from profiles.query_attributes import Level
from server.errors import TooLarge
from server.records import plain_queries
from server.records.catalogue import INSTANCE, PATIENT, PUBLISHED, SERIES, STUDY
from server.records.comparing import Condition
from server.records.conditions import Path, Understood, understood
from server.records.item_matching import matches
from server.records.packing import unpacked
from server.records.results import TERM

MOST_LOOKED_THROUGH = 50_000
"""Stored JSON objects that one query may be compared with."""
_FIRST_STUDIES, _MOST_STUDIES = 8, 512
_Columns = tuple[ColumnElement[Any], ...]
_ALL = true()
_Row = Any
"""What SQLAlchemy gives: columns by position, and by the name that they were labelled with."""


@dataclass(frozen=True, slots=True)
class Query:
    """What is asked for: the level of the results, keys (an empty value matches everything), what they are under, which page.

    `fuzzy` and `combined` as in `conditions.understood`.
    """

    level: Level
    keys: Mapping[Path, str] = field(default_factory=dict)
    study_uid: str | None = None
    series_uid: str | None = None
    limit: int = 100
    offset: int = 0
    fuzzy: bool = False
    combined: bool = True


@dataclass(frozen=True, slots=True)
class Match:
    """One result. `attributes` are the stored JSON bytes from study level down to the level of the query.

    At patient level `study` has the patient and no UID, `attributes` are those of one of the patient's studies, and the counts are
    of all of them.
    """

    patient: str
    study: values.Study
    series: values.Series | None
    instance: values.Instance | None
    attributes: tuple[bytes, ...]
    series_count: int
    instance_count: int
    series_instance_count: int
    study_count: int = 1
    sop_classes: tuple[str, ...] = ()
    instance_pk: int = 0


def search(connection: Connection, query: Query, allowed: Condition) -> tuple[list[Match], bool]:
    """PS3.4 section C.4.1: the published patients, studies, series or instances that match, and whether there are more.

    `allowed` is the caller's Decision over `STUDY` and `PATIENT`. Raises `MalformedQuery` for a key or value that cannot be matched, `TooLarge`
    where too many would have to be looked through.
    """
    level = query.level
    rows = page(connection, query, allowed, _columns(level))
    if level == "patient":
        return [_patient_match(row._mapping, told) for row, told in rows[: query.limit]], len(rows) > query.limit
    found = [_match(row._mapping, level) for row in rows[: query.limit]]
    return found, len(rows) > query.limit


def page(connection: Connection, query: Query, allowed: Condition, columns: _Columns, within: Condition = _ALL) -> list[_Row]:
    """`columns` of the results of a page and, if there are more, of one after it; `within` is a condition on series. Raises as `search`.

    Statements are kept by `columns`, so these are to be the same objects each time.
    """

    def search(query: Query, allowed: Condition) -> _Search:
        asked = understood(connection, query.level, query.keys, fuzzy=query.fuzzy, combined=query.combined)
        return _Search(connection, query, allowed, asked, columns, within)

    if isinstance(allowed, True_) and isinstance(within, True_):
        found = plain_queries.rows(connection, query, columns, lambda marked: search(marked, allowed).at_once())
        if found is not None:
            return found
    return list(search(query, allowed).page())


def patient_ids(connection: Connection, ids: Iterable[str]) -> set[str]:
    """The Patient IDs (0010,0020) of the patients with these resource ids."""
    return set(connection.execute(select(PATIENT.c.value).where(PATIENT.c.id.in_(sorted(ids)))).scalars())


def patients_of(connection: Connection, value: str) -> frozenset[str]:
    """Resource ids of the patients with this Patient ID (0010,0020), whichever authority assigned it."""
    return frozenset(connection.execute(select(PATIENT.c.id).where(PATIENT.c.value == value)).scalars())


# --- statements

_STUDIES = STUDY.join(PATIENT, STUDY.c.patient_pk == PATIENT.c.pk)
_NEWEST_FIRST = (STUDY.c.date.desc(), STUDY.c.pk.desc())
_BY_SERIES = (func.coalesce(SERIES.c.number, 1 << 62), SERIES.c.uid)
_BY_INSTANCE = (func.coalesce(INSTANCE.c.number, 1 << 62), INSTANCE.c.uid)
_STORED_AT: Mapping[Level, ColumnElement[Any]] = {
    "series": SERIES.c.attributes.label("stored_series"),
    "instance": INSTANCE.c.dicom_json.label("stored_instance"),
}


@lru_cache(maxsize=64)
def _of_studies(columns: _Columns) -> Select[Any]:
    """`columns` of studies in order. The beginning of a statement is built once: to build it takes longer than to run it."""
    return select(*columns).select_from(_STUDIES).order_by(*_NEWEST_FIRST)


@lru_cache(maxsize=64)
def _of_members(level: Level, columns: _Columns) -> Select[Any]:
    """`columns` of series or instances, likewise."""
    joined: FromClause = _STUDIES.join(SERIES, SERIES.c.study_pk == STUDY.c.pk)
    if level == "instance":
        joined = joined.join(INSTANCE, INSTANCE.c.series_pk == SERIES.c.pk)
    return select(*columns).select_from(joined)


def _sorted_by(leader: tuple[str, str] | None) -> tuple[ColumnElement[Any], ColumnElement[Any]]:
    """Date and row of a study: of the study itself, or of the term that leads."""
    return (STUDY.c.date, STUDY.c.pk) if leader is None else (TERM.c.date, TERM.c.study_pk)


@dataclass(frozen=True, slots=True)
class _Place:
    """A study in the order of the results, and how many of them there are up to and with it."""

    date: str
    pk: int
    upto: int


class _Search:
    def __init__(
        self, connection: Connection, query: Query, allowed: Condition, asked: Understood, columns: _Columns, within: Condition
    ) -> None:
        self._connection, self._query, self._asked, self._columns = connection, query, asked, columns
        self._level = query.level
        self._allowed = [] if isinstance(allowed, True_) else [allowed]
        self._within = [] if isinstance(within, True_) else [within]
        self._looked_through = 0

    def page(self) -> Iterator[_Row]:
        query = self._query
        if self._level == "patient":
            return self._patients()
        if (statement := self.at_once()) is not None:
            return iter(self._connection.execute(statement).all())
        return islice(self._walk(), query.limit + 1)

    # --- in one statement

    def at_once(self) -> Select[Any] | None:
        """Studies, or what is in one study, in one statement: their order is that of an index, or they are few. None for what has none."""
        query = self._query
        if self._asked.rest or self._level == "patient" or (self._level != "study" and query.study_uid is None):
            return None
        if self._level != "study":
            found = self._in_study(_of_members(self._level, self._columns).where(*self._of_study()))
            return found.order_by(*self._order()).limit(query.limit + 1).offset(query.offset)
        if self._asked.selective:  # few enough to be sorted whole
            found = _of_studies(self._columns).where(*self._of_study(), *self._asked.terms(leader=None))
            return found.limit(query.limit + 1).offset(query.offset)
        wanted = self._studies(select(STUDY.c.pk), self._asked.leader()).limit(query.limit + 1).offset(query.offset)
        return _of_studies(self._columns).where(STUDY.c.pk.in_(wanted.subquery().select()))

    def _studies(self, statement: Select[Any], leader: tuple[str, str] | None) -> Select[Any]:
        """`statement` over the studies that are asked for, in their order."""
        tables: FromClause = STUDY
        if self._asked.about_patients or self._allowed:
            tables = _STUDIES
        wanted = [*self._of_study(), *self._asked.terms(leader=leader)]
        if leader is not None:
            tables = TERM.join(tables, STUDY.c.pk == TERM.c.study_pk)
            wanted += self._asked.leading(leader)
        return statement.select_from(tables).where(*wanted).order_by(*self._in_order(leader))

    @staticmethod
    def _in_order(leader: tuple[str, str] | None) -> Sequence[ColumnElement[Any]]:
        return tuple(column.desc() for column in _sorted_by(leader))

    def _of_study(self) -> list[Condition]:
        wanted: list[Condition] = [STUDY.c.version > 0, *self._allowed, *self._asked.studies]
        if self._query.study_uid is not None:
            wanted.append(STUDY.c.uid == self._query.study_uid)
        return wanted

    def _in_study(self, statement: Select[Any]) -> Select[Any]:
        """With the conditions of the levels below the study, and those on its terms."""
        wanted = [*self._asked.series, *self._within]
        if self._query.series_uid is not None:
            wanted.append(SERIES.c.uid == self._query.series_uid)
        if self._level == "series":
            wanted.append(SERIES.c.instance_count > 0)
        if self._level == "instance":
            wanted += [PUBLISHED, *self._asked.instances]
        return statement.where(*wanted, *self._asked.terms(leader=None))

    def _order(self) -> Sequence[ColumnElement[Any]]:
        """As `catalogue.instances` orders, so that pages are stable."""
        series = () if self._query.series_uid is not None else _BY_SERIES
        return (*series, *_BY_INSTANCE) if self._level == "instance" else series or (SERIES.c.pk,)

    # --- some studies at a time

    def _walk(self) -> Iterator[_Row]:
        """Every match in order from the offset on. Studies that lie before it are counted, not read, where their counts say enough."""
        asked, skip = self._asked, self._query.offset
        plain = self._level != "study" and not (asked.series or asked.instances or asked.rest)
        leader = asked.leader()
        size = _FIRST_STUDIES
        last: Row[Any] | _Place | None = None
        if plain and skip and (place := self._before(leader, skip)):
            last, skip = place, skip - place.upto
        while True:
            studies = self._connection.execute(self._some_studies(leader, last).limit(size)).all()
            some = [row for row in studies if self._fits("study", row.attributes)] if asked.rest else studies
            for row in self._members([row.pk for row in some], self._query.limit + 1 + skip) if some else ():
                if skip:
                    skip -= 1
                else:
                    yield row
            if len(studies) < size:
                return
            last = studies[-1]
            size = min(size * 4, _MOST_STUDIES)

    def _before(self, leader: tuple[str, str] | None, skip: int) -> "_Place | None":
        """The last of the studies whose members are all among the first `skip`, and how many these are: first by day, then in that day."""
        date, pk = _sorted_by(leader)
        counted, place = func.sum(self._counted()), None
        days = self._studies(select(date, func.min(pk), counted), leader).order_by(None).group_by(date).order_by(date.desc())
        found = self._connection.execute(days)
        for day, first, count in found:
            upto = (place.upto if place else 0) + int(count)
            if upto > skip:
                break
            place = _Place(day, first, upto)
        else:
            return place
        found.close()
        begun = place.upto if place else 0
        running = counted.over(order_by=pk.desc(), rows=(None, 0)).label("running")
        inside = self._studies(select(pk.label("pk"), running), leader).where(date == day).subquery()
        last = self._connection.execute(
            select(inside).where(inside.c.running <= skip - begun).order_by(inside.c.running.desc()).limit(1)
        ).first()
        return _Place(day, last.pk, begun + int(last.running)) if last is not None else place

    def _counted(self) -> ColumnElement[int]:
        """How many results a study has, where nothing more is asked for."""
        counted: ColumnElement[int] = STUDY.c.instance_count if self._level == "instance" else STUDY.c.series_count
        return counted

    def _some_studies(self, leader: tuple[str, str] | None, last: "Row[Any] | _Place | None") -> Select[Any]:
        stored = [STUDY.c.attributes] if self._asked.rest else []
        statement = self._studies(select(STUDY.c.pk, STUDY.c.date, *stored), leader)
        if last is None:
            return statement
        date, pk = _sorted_by(leader)
        # The first half is what an index can walk.
        return statement.where(date <= last.date, or_(date < last.date, pk < last.pk))

    def _members(self, studies: Sequence[int], most: int) -> Iterator[_Row]:
        """What is asked for in these studies, in order."""
        if self._level == "study":
            yield from self._connection.execute(_of_studies(self._columns).where(STUDY.c.pk.in_(studies)))
            return
        inside: list[Level] = [each for each in _STORED_AT if self._asked.rest.get(each)]
        more = [_STORED_AT[each] for each in inside]
        found: Select[Any] = self._in_study(_of_members(self._level, (*self._columns, *more)).where(STUDY.c.pk.in_(studies)))
        found = found.order_by(*_NEWEST_FIRST, *self._order())
        for row in self._connection.execute(found if inside else found.limit(most)):
            if all(self._fits(each, getattr(row, f"stored_{each}")) for each in inside):
                yield row

    def _fits(self, level: Level, stored: Any) -> bool:
        """Whether stored JSON is what the keys without an index ask for."""
        rest = self._asked.rest
        keys = [*rest.get("patient", ()), *rest.get("study", ())] if level == "study" else rest.get(level, [])
        if not keys:
            return True
        self._looked_through += 1
        if self._looked_through > MOST_LOOKED_THROUGH:
            raise TooLarge("too much would have to be looked through; ask for a patient, study, date or modality as well")
        body = bytes(stored) if stored else b""
        return matches(orjson.loads((unpacked(body) if level == "instance" else body) or b"{}"), keys)

    # --- patients

    def _patients(self) -> Iterator[_Row]:
        """Patients who have a published study, by their name."""
        query = self._query
        wanted = [STUDY.c.version > 0, *self._allowed, *self._asked.studies, *self._asked.terms(leader=None)]
        statement = (
            select(
                PATIENT.c.pk, func.max(STUDY.c.pk), func.count(), func.sum(STUDY.c.series_count), func.sum(STUDY.c.instance_count)
            )
            .select_from(_STUDIES)
            .where(*wanted)
            .group_by(PATIENT.c.pk, PATIENT.c.name_folded)
            .order_by(PATIENT.c.name_folded, PATIENT.c.pk)
        )
        rows = self._connection.execute(statement)
        found = islice(self._fitting_patients(rows), query.offset, query.offset + query.limit + 1)
        return iter(list(found))

    def _fitting_patients(self, rows: Iterable[Any]) -> Iterator[_Row]:
        for _, study_pk, studies, series, instances in rows:
            row = self._connection.execute(select(*self._columns).select_from(_STUDIES).where(STUDY.c.pk == study_pk)).one()
            if self._fits("study", row.study_attributes):
                yield row, (studies, int(series), int(instances))


# --- results


@cache
def _columns(level: Level) -> _Columns:
    told: list[ColumnElement[Any]] = [
        *(STUDY.c[name].label(f"study_{name}") for name in _STUDY_COLUMNS),
        *(PATIENT.c[name].label(f"patient_{name}") for name in _PATIENT_COLUMNS),
    ]
    if level in ("series", "instance"):
        told += [SERIES.c[name].label(f"series_{name}") for name in _SERIES_COLUMNS]
    if level == "instance":
        told += [INSTANCE.c[name].label(f"instance_{name}") for name in _INSTANCE_COLUMNS]
    return tuple(told)


_STUDY_COLUMNS = (
    "id", "uid", "version", "study_id", "accession_number", "accession_authority", "date", "time", "timezone", "description",
    "referring_physician", "institution", "modalities", "sop_classes", "series_count", "instance_count", "attributes",
)  # fmt: skip
_PATIENT_COLUMNS = ("id", "authority", "value", "namespace", "name", "birth_date", "sex")
_SERIES_COLUMNS = (
    "uid", "modality", "number", "description", "body_part", "laterality", "date", "time", "instance_count", "attributes",
)  # fmt: skip
_INSTANCE_COLUMNS = ("pk", "uid", "sop_class", "transfer_syntax", "number", "rows", "columns", "frames", "title", "attributes")
_STUDY_TEXTS = (
    "id", "study_id", "accession_number", "accession_authority", "date", "time", "timezone", "description", "referring_physician",
    "institution",
)  # fmt: skip
_SERIES_TEXTS = ("modality", "number", "description", "body_part", "laterality", "date", "time")


def _patient(row: Mapping[str, Any]) -> values.Patient:
    identifier = PatientIdentifier(row["patient_value"], AssigningAuthority(row["patient_authority"], row["patient_namespace"]))
    return values.Patient(identifier, row["patient_name"], row["patient_birth_date"], row["patient_sex"], row["patient_id"])


def _several(joined: str) -> tuple[str, ...]:
    return tuple(part for part in joined.split("\\") if part)


def _patient_match(row: Mapping[str, Any], counts: tuple[int, int, int]) -> Match:
    studies, series, instances = counts
    attributes = (bytes(row["study_attributes"]),)
    return Match(row["patient_id"], values.Study("", _patient(row)), None, None, attributes, series, instances, 0, studies)


def _match(row: Mapping[str, Any], level: Level) -> Match:
    study = values.Study(
        study_instance_uid=row["study_uid"],
        patient=_patient(row),
        modalities=_several(row["study_modalities"]),
        version=row["study_version"],
        **{name: row[f"study_{name}"] for name in _STUDY_TEXTS},
    )
    attributes, series, instance = [row["study_attributes"]], None, None
    if level in ("series", "instance"):
        series = values.Series(row["series_uid"], **{name: row[f"series_{name}"] for name in _SERIES_TEXTS})
        attributes.append(row["series_attributes"])
    if level == "instance":
        instance = values.Instance(
            row["instance_uid"], row["instance_sop_class"], row["instance_transfer_syntax"], row["instance_number"],
            row["instance_rows"], row["instance_columns"], row["instance_frames"], row["instance_title"],
        )  # fmt: skip
        attributes.append(row["instance_attributes"])
    return Match(
        row["patient_id"],
        study,
        series,
        instance,
        tuple(bytes(body) if body else b"{}" for body in attributes),
        row["study_series_count"],
        row["study_instance_count"],
        row["series_instance_count"] if series else 0,
        sop_classes=_several(row["study_sop_classes"]),
        instance_pk=row["instance_pk"] if instance else 0,
    )

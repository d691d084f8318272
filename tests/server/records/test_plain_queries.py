"""Statements that are made once for a shape of query find what those find that are made for the query."""

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from peers import many
from sqlalchemy import Connection, true

from profiles.query_attributes import Level
from server.errors import MalformedQuery
from server.records import matching, plain_queries
from server.records.catalogue import INSTANCE, PATIENT, SERIES, STUDY
from server.records.conditions import path, plain
from server.records.matching import Query
from server.store.db import Database
from server.store.migrations import migrate

STUDIES = 9
COLUMNS = {
    "study": (PATIENT.c.id, STUDY.c.result),
    "series": (PATIENT.c.id, SERIES.c.result),
    "instance": (PATIENT.c.id, INSTANCE.c.attributes),
}
EVERYBODY = PATIENT.c.id != "nobody"
"""Which `matching` does not know to be everybody: it makes its statement anew."""


@pytest.fixture
def connection(database_url: str) -> Iterator[Connection]:
    database = Database(database_url)
    migrate(database)
    many.fill(database, STUDIES, 2, 3)
    with database.read() as connection:
        yield connection
    database.close()


NUMBERS = st.integers(1, STUDIES + 1)
DATES = st.sampled_from(["20010101", "20150615", "20251231", "20150101-20251231", "20100101-", "-20150101", "20251231-20010101"])
VALUES: dict[str, st.SearchStrategy[str]] = {
    "PatientID": st.builds("P{:06}".format, NUMBERS),
    "AccessionNumber": st.builds(" A{:07} ".format, NUMBERS),
    "StudyID": st.builds(str, NUMBERS),
    "StudyInstanceUID": st.builds(many.uid, NUMBERS),
    "StudyDate": DATES,
    "StudyTime": st.just("0000-2359"),
    "StudyDescription": st.sampled_from(["CT Region 1", "CT Region 2", "100%", "MR Region 3"]),
    "PatientName": st.sampled_from(["müller1^anna", "Smith*", "NOWAK4^MAYA", "Rossi5^Eva^^", "x"]),
    "PatientBirthDate": st.builds(lambda number: f"19{number + 20}0{number % 9 + 1}15", NUMBERS) | DATES,
    "PatientSex": st.sampled_from(["F", "m", "F,M"]),
    "ModalitiesInStudy": st.sampled_from(["CT", "ct", "MR", "CT,MR", "C*"]),
    "InstitutionName": st.builds("Hospital {}".format, NUMBERS),
    "StudyComments": st.just(""),
}
MORE: dict[str, st.SearchStrategy[str]] = {
    "Modality": st.sampled_from(["CT", "mr", "CT\\MR"]),
    "SeriesInstanceUID": st.builds(many.uid, NUMBERS, st.integers(1, 3)),
    "SeriesDescription": st.sampled_from(["Series 1", "Series 2", "Series*"]),
}
MOST: dict[str, st.SearchStrategy[str]] = {
    "SOPInstanceUID": st.builds(many.uid, NUMBERS, st.integers(1, 2), st.integers(1, 4)),
    "SOPClassUID": st.sampled_from([*many.SOP.values(), "1.2,1.3"]),
    "InstanceNumber": st.just("2"),
}


@st.composite
def queries(draw: st.DrawFn) -> Query:
    level: Level = draw(st.sampled_from(["study", "series", "instance"]))
    known = {**VALUES, **(MORE if level != "study" else {}), **(MOST if level == "instance" else {})}
    names = draw(st.lists(st.sampled_from(sorted(known)), unique=True, max_size=3))
    keys = {path(name): draw(known[name] | st.sampled_from(["", "*"])) for name in names}
    study = draw(st.none() | st.builds(many.uid, NUMBERS)) if level != "study" else None
    series = draw(st.none() | st.just(f"{study}.1")) if study and level == "instance" else None
    limit, offset = draw(st.integers(1, 4) | st.just(100)), draw(st.integers(0, 2))
    return Query(level, keys, study, series, limit, offset, fuzzy=draw(st.booleans()), combined=draw(st.booleans()))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(queries())
def test_the_shape_finds_what_the_query_finds(connection: Connection, query: Query) -> None:
    for _ in range(2):  # the statement as it is made, and as it is kept
        assert _told(connection, query, true()) == _told(connection, query, EVERYBODY)


def _told(connection: Connection, query: Query, allowed: Any) -> list[tuple[Any, ...]] | str:
    try:
        return [tuple(row) for row in matching.page(connection, query, allowed, COLUMNS[query.level])]
    except MalformedQuery:
        return "malformed"  # of several mistakes either may be told


@pytest.mark.parametrize(
    ("level", "keys", "count"),
    [
        ("study", {}, 4),
        ("study", {"PatientID": "P000003", "StudyDescription": ""}, 1),
        ("study", {"PatientID": "P999999"}, 0),
        ("study", {"StudyDate": "19000101-20991231"}, 4),
        ("study", {"SOPClassesInStudy": "1.2.3"}, 0),
    ],
)
def test_plain_queries_have_one_statement(connection: Connection, level: Level, keys: dict[str, str], count: int) -> None:
    query = Query(level, {path(name): value for name, value in keys.items()}, limit=3)
    plain_queries._kept.clear()  # of the tests before
    found = plain_queries.rows(connection, query, COLUMNS[level], lambda _: None)
    assert found is None  # there is no statement for this shape, which is kept as well
    plain_queries._kept.clear()
    assert len(matching.page(connection, query, true(), COLUMNS[level])) == count
    again = plain_queries.rows(connection, query, COLUMNS[level], lambda _: pytest.fail("made again"))
    assert again is not None
    assert len(again) == count


@pytest.mark.parametrize(
    ("name", "value"),
    [("PatientID", "P*"), ("PatientID", "P?"), ("StudyInstanceUID", "1.2,1.3"), ("ModalitiesInStudy", "CT\\MR"), ("StudyTime", "10"), ("PatientID", "a\n"), ("PatientName", "山田＊"), ("PatientID", "*" * 2000)],
)  # fmt: skip
def test_what_is_not_plain(name: str, value: str) -> None:
    assert plain("study", path(name), value, fuzzy=False) is None


def test_no_more_shapes_are_kept_than_some(connection: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plain_queries, "_MOST_KEPT", 3)
    for name in ("PatientID", "AccessionNumber", "StudyID", "StudyDate", "InstitutionName"):
        matching.page(connection, Query("study", {path(name): "20200101"}), true(), COLUMNS["study"])
        assert len(plain_queries._kept) <= 3
    many_keys: dict[tuple[str, ...], str] = {(f"0010{number:04X}",): "" for number in range(100)}
    assert plain_queries.rows(connection, Query("study", many_keys), COLUMNS["study"], lambda _: None) is None


def test_an_offset_beyond_every_integer_is_an_empty_page(connection: Connection) -> None:
    query = Query("study", {path("PatientID"): "P000003"}, offset=3_000_000_000)
    assert list(matching.page(connection, query, true(), COLUMNS["study"])) == []

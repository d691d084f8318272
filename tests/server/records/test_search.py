"""Search results against a slow oracle in Python that knows no SQL, on both engines."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cmp_to_key
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import ColumnElement, Connection, event, true

from profiles.audit_event import FAILED, REFUSED, REST_READ, SUCCESS, Agent, Outcome
from profiles.search_parameters import DATE_PREFIXES, DateValue, TokenValue, date_range, date_value, token_value
from server.records import resources, search
from server.records.search import Position, Query, Sort
from server.records.trail import Trail
from server.store.db import Database
from server.store.migrations import migrate

DCM = "http://dicom.nema.org/resources/ontology/DCM"
LATER = 4_000_000_000_000_000
PATIENTS = ["p1", "p2", "p3"]
MODALITIES = ["CT", "MR", "XA"]
DATES = [
    "2025", "2026", "2026-01", "2026-01-07", "2026-01-08", "2026-01-07T23:30:00Z", "2026-01-07T23:30:00-02:00",
    "2026-01-07T23:30:00.123Z", "1969-12-31", "1970-01-01",
]  # fmt: skip


@contextmanager
def opened(database_url: str) -> Iterator[Database]:
    database = Database(database_url)
    migrate(database)
    try:
        yield database
    finally:
        database.close()


@contextmanager
def nothing_kept(database: Database) -> Iterator[Connection]:
    """A connection whose work is undone: each example begins empty."""

    class Undone(Exception):
        pass

    with suppress(Undone), database.write() as connection:
        yield connection
        raise Undone


def everybody(_: ColumnElement[str]) -> ColumnElement[bool]:
    return true()


def only(*patients: str) -> Callable[[ColumnElement[str]], ColumnElement[bool]]:
    return lambda column: column.in_(patients)


def ids(page: search.Page) -> list[str]:
    return [match.id for match in page.matches]


def study(id_: str, **content: Any) -> dict[str, Any]:
    return {
        "resourceType": "ImagingStudy",
        "id": id_,
        "identifier": [{"system": "urn:dicom:uid", "value": f"urn:oid:1.2.{id_[1:]}"}],
        "status": "available",
        "modality": [{"system": DCM, "code": "CT"}],
        "subject": {"reference": "Patient/p1"},
        **content,
    }


# --- the oracle


@dataclass(frozen=True)
class Kept:
    """A resource as the oracle sees it; `pk` counts from the first one stored."""

    pk: int
    json: dict[str, Any]
    updated: int


INFINITY = 10**20


def overlaps(a: tuple[int, int], b: tuple[int, int]) -> bool:
    return max(a[0], b[0]) < min(a[1], b[1])


def contains(outer: tuple[int, int], inner: tuple[int, int]) -> bool:
    return outer[0] <= inner[0] and inner[1] <= outer[1]


def date_matches(value: DateValue, target: tuple[int, int]) -> bool:
    """FHIR R4 section 3.1.1.4.5, word for word."""
    asked = (value.start, value.end)
    above, below = (value.end, INFINITY), (-INFINITY, value.start)
    match value.prefix:
        case "eq":
            return contains(asked, target)
        case "ne":
            return not contains(asked, target)
        case "gt":
            return overlaps(above, target)
        case "lt":
            return overlaps(below, target)
        case "ge":
            return overlaps(above, target) or contains(asked, target)
        case "le":
            return overlaps(below, target) or contains(asked, target)
        case "sa":
            return not overlaps(asked, target) and contains(above, target)
        case "eb":
            return not overlaps(asked, target) and contains(below, target)


def tokens(json: dict[str, Any], name: str) -> list[tuple[str, str]]:
    if name == "identifier":
        return [(each.get("system", ""), each["value"]) for each in json["identifier"]]
    if name == "modality":
        return [(each["system"], each["code"]) for each in json["modality"]]
    return [("http://hl7.org/fhir/imagingstudy-status", json["status"])]


def token_matches(value: TokenValue, found: tuple[str, str]) -> bool:
    return value.system in (None, found[0]) and value.code in (None, found[1])


def matches(query: Query, patients: list[str] | None, kept: Kept) -> bool:
    json = kept.json
    patient = json["subject"]["reference"].removeprefix("Patient/")
    seen = kept.updated // 1000 * 1000
    return (
        (patients is None or patient in patients)
        and all(json["id"] in group for group in query.ids)
        and all(patient in group for group in query.patients)
        and all(
            any(token_matches(value, found) for value in values for found in tokens(json, name)) for name, values in query.tokens
        )
        and all("started" in json and any(date_matches(v, date_range(json["started"])) for v in values) for values in query.dates)
        and all(any(date_matches(v, (seen, seen + 1000)) for v in values) for values in query.updated)
    )


def expected(query: Query, patients: list[str] | None, stored: list[Kept]) -> list[str]:
    def key(kept: Kept) -> tuple[int, int]:
        date = date_range(kept.json["started"])[0] if "started" in kept.json else 0
        return (kept.updated if query.sort.by_update else date), kept.pk

    found = [kept for kept in stored if matches(query, patients, kept)]
    found.sort(key=cmp_to_key(lambda a, b: (key(a) > key(b)) - (key(a) < key(b))), reverse=query.sort.descending)
    return [kept.json["id"] for kept in found]


# --- what is generated

MOMENTS = st.integers(1_790_000_000_000_000, 1_790_000_000_005_000)
CONTENTS = st.lists(
    st.fixed_dictionaries(
        {
            "subject": st.sampled_from([{"reference": f"Patient/{each}"} for each in PATIENTS]),
            "modality": st.lists(
                st.sampled_from([{"system": DCM, "code": each} for each in MODALITIES]), unique_by=str, max_size=3
            ),
            "status": st.sampled_from(["available", "cancelled"]),
        },
        optional={"started": st.sampled_from(DATES)},
    ),
    max_size=12,
)
TOKENS = st.one_of(
    st.tuples(
        st.just("modality"),
        st.lists(
            st.sampled_from(["CT", "MR", "XA", "US", f"{DCM}|CT", f"{DCM}|", "|CT", "http://other|CT"]), min_size=1, max_size=3
        ),
    ),
    st.tuples(st.just("status"), st.lists(st.sampled_from(["available", "cancelled", "|available"]), min_size=1, max_size=2)),
    st.tuples(
        st.just("identifier"),
        st.lists(
            st.sampled_from(["urn:oid:1.2.1", "urn:dicom:uid|urn:oid:1.2.2", "urn:dicom:uid|", "|A1", "A1"]),
            min_size=1,
            max_size=3,
        ),
    ),
)
DATE_VALUES = st.builds(lambda prefix, date: date_value(prefix + date), st.sampled_from(DATE_PREFIXES), st.sampled_from(DATES))
UPDATED_VALUES = st.builds(DateValue, st.sampled_from(DATE_PREFIXES), MOMENTS, st.just(0)).flatmap(
    lambda v: st.sampled_from([1, 1000, 2500]).map(lambda width: DateValue(v.prefix, v.start, v.start + width))
)


def groups(values: st.SearchStrategy[Any], most: int = 2) -> st.SearchStrategy[tuple[tuple[Any, ...], ...]]:
    return st.lists(st.lists(values, min_size=1, max_size=2).map(tuple), max_size=most).map(tuple)


# At most two kinds of criteria at once: what has all of them finds nothing, and nothing is easily right.
CRITERIA: dict[str, st.SearchStrategy[Any]] = {
    "ids": groups(st.sampled_from(["s1", "s2", "s3", "s99"]), 1),
    "patients": groups(st.sampled_from([*PATIENTS, "p99"]), 1),
    "tokens": st.lists(TOKENS.map(lambda each: (each[0], tuple(map(token_value, each[1])))), min_size=1, max_size=2).map(tuple),
    "dates": groups(DATE_VALUES, 1),
    "updated": groups(UPDATED_VALUES, 1),
}
QUERIES = st.lists(st.sampled_from(sorted(CRITERIA)), unique=True, max_size=2).flatmap(
    lambda names: st.builds(
        Query,
        type=st.just("ImagingStudy"),
        sort=st.builds(Sort, st.booleans(), st.booleans()),
        **{name: CRITERIA[name] for name in names},
    )
)


def everything(connection: Connection, query: Query, patients: list[str] | None, count: int) -> list[str]:
    """All pages, one after the other."""
    found: list[str] = []
    after: Position | None = None
    while True:
        page = search.page(
            connection,
            query,
            allowed=everybody if patients is None else only(*patients),
            confined=patients is not None,
            count=count,
            began=LATER,
            after=after,
        )
        assert len(page.matches) <= count
        found += ids(page)
        after = page.next
        if after is None:
            return found


def test_search_finds_what_the_standard_says(database_url: str) -> None:
    with opened(database_url) as database:

        @settings(suppress_health_check=[HealthCheck.too_slow])
        @given(
            contents=CONTENTS,
            moments=st.lists(MOMENTS, min_size=12, max_size=12),
            queries=st.lists(QUERIES, min_size=8, max_size=8),
            patients=st.none() | st.lists(st.sampled_from(PATIENTS), min_size=1, unique=True),
            count=st.integers(1, 5),
        )
        def finds(
            contents: list[dict[str, Any]], moments: list[int], queries: list[Query], patients: list[str] | None, count: int
        ) -> None:
            with nothing_kept(database) as connection:
                stored = []
                for number, content in enumerate(contents, 1):
                    made = study(f"s{number}", **content)
                    if number % 3 == 0:
                        made["identifier"].append({"value": "A1"})
                    resources.put(connection, made, now=moments[number - 1])
                    stored.append(Kept(number, made, moments[number - 1]))
                for query in queries:
                    wanted = expected(query, patients, stored)
                    assert everything(connection, query, patients, count) == wanted
                    allowed = everybody if patients is None else only(*patients)
                    total = search.total(connection, query, allowed=allowed, confined=patients is not None, began=LATER)
                    assert total == len(wanted)

        finds()


def test_every_prefix_against_every_date(database_url: str) -> None:
    """Each date is also the value of a study; one study has none."""
    with opened(database_url) as database, database.write() as connection:
        dated = [study(f"s{number}", started=date) for number, date in enumerate(DATES, 1)]
        stored = [Kept(number, made, number) for number, made in enumerate([*dated, study("s99")], 1)]
        for kept in stored:
            resources.put(connection, kept.json, now=kept.updated)
        for prefix in DATE_PREFIXES:
            for date in DATES:
                query = Query("ImagingStudy", dates=((date_value(prefix + date),),))
                assert everything(connection, query, None, 100) == expected(query, None, stored), prefix + date


def test_every_prefix_against_moments_within_a_millisecond(database_url: str) -> None:
    """A moment is kept in microseconds and told in milliseconds; what counts is what clients see."""
    base = 1_790_000_000_000_000
    with opened(database_url) as database, database.write() as connection:
        offsets = [0, 1, 999, 1000, 1500, 1999, 2000, 3001]
        stored = [Kept(number, study(f"s{number}"), base + offset) for number, offset in enumerate(offsets, 1)]
        for kept in stored:
            resources.put(connection, kept.json, now=kept.updated)
        for prefix in DATE_PREFIXES:
            for start in (-1, 0, 1, 500, 999, 1000, 1001, 2000):
                for width in (1, 500, 1000, 1001, 2000, 1_000_000):
                    query = Query("ImagingStudy", updated=((DateValue(prefix, base + start, base + start + width),),))
                    assert everything(connection, query, None, 100) == expected(query, None, stored), (prefix, start, width)


# --- paging


def filled(connection: Connection, count: int) -> list[str]:
    """`count` studies of a day each; their ids, newest first."""
    for number in range(1, count + 1):
        day = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(days=number)
        resources.put(connection, study(f"s{number}", started=f"{day:%Y-%m-%d}"), now=1_000_000 * number)
    return [f"s{number}" for number in range(count, 0, -1)]


def first(connection: Connection, query: Query, count: int, began: int, after: Position | None = None) -> search.Page:
    return search.page(connection, query, allowed=everybody, confined=False, count=count, began=began, after=after)


def test_a_study_that_comes_while_somebody_pages_stays_out(database_url: str) -> None:
    query = Query("ImagingStudy", sort=Sort(descending=False))
    with opened(database_url) as database, database.write() as connection:
        filled(connection, 4)
        page = first(connection, query, 2, 5_000_000)
        resources.put(connection, study("s5", started="2026-03-01"), now=6_000_000)
        rest = first(connection, query, 9, 5_000_000, page.next)
        assert ids(page) + ids(rest) == ["s1", "s2", "s3", "s4"]


def test_a_study_that_changes_while_somebody_pages_is_not_lost(database_url: str) -> None:
    query = Query("ImagingStudy")
    with opened(database_url) as database, database.write() as connection:
        wanted = filled(connection, 4)
        page = first(connection, query, 2, 5_000_000)
        changed = resources.put(connection, study("s2", started="2026-01-03", numberOfSeries=2), now=6_000_000)
        rest = first(connection, query, 9, 5_000_000, page.next)
        assert ids(page) + ids(rest) == wanted
        assert changed.version == 2
        assert rest.matches[0].body == changed.body


def test_a_page_has_the_stored_bytes(database_url: str) -> None:
    with opened(database_url) as database, database.write() as connection:
        stored = resources.put(connection, study("s1", description="ä" * 2000))
        (match,) = first(connection, Query("ImagingStudy"), 5, LATER).matches
        assert match == search.Match("ImagingStudy", "s1", "p1", stored.body)


def test_a_page_of_large_resources_ends_early(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "PAGE_BYTES", 3000)
    with opened(database_url) as database, database.write() as connection:
        for number in range(1, 6):
            resources.put(connection, study(f"s{number}", started=f"2026-01-0{number}", description="x" * 1000))
        page = first(connection, Query("ImagingStudy"), 5, LATER)
        assert ids(page) == ["s5", "s4"]
        assert ids(first(connection, Query("ImagingStudy"), 5, LATER, page.next)) == ["s3", "s2"]


def test_a_page_of_one_resource_beyond_the_limit_has_it(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "PAGE_BYTES", 10)
    with opened(database_url) as database, database.write() as connection:
        filled(connection, 2)
        assert everything(connection, Query("ImagingStudy"), None, 5) == ["s2", "s1"]


def test_an_identifier_that_many_have_is_walked(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "_SELECTIVE", 2)
    query = Query("ImagingStudy", tokens=(("identifier", (token_value("urn:dicom:uid|"),)),))
    with opened(database_url) as database, database.write() as connection:
        wanted = filled(connection, 5)
        assert everything(connection, query, None, 2) == wanted
        assert search.total(connection, query, allowed=everybody, confined=False, began=LATER) == 5


def test_more_values_than_branches_are_probed(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "_BRANCHES", 1)
    query = Query("ImagingStudy", tokens=(("modality", (token_value("CT"), token_value("MR"))),))
    with opened(database_url) as database, database.write() as connection:
        wanted = filled(connection, 3)
        assert everything(connection, query, None, 2) == wanted


def test_named_resources_are_those_that_are_there(database_url: str) -> None:
    with opened(database_url) as database, database.write() as connection:
        filled(connection, 2)
        assert [match.id for match in search.named(connection, "ImagingStudy", ["s2", "s9", "s1", "s2"])] == ["s1", "s2"]


# --- the trail


def test_events_are_found_by_patient_and_date_newest_first(database_url: str) -> None:
    with opened(database_url) as database:
        trail = Trail(database, Agent(identifier="server"))
        actions = [
            trail.action("read", REST_READ, Agent(identifier="app"), patient_id=patient) for patient in ("p1", "p2", "p1", "")
        ]
        trail.write(*actions)
        mine = [actions[2].id, actions[0].id]
        with database.read() as connection:
            query = Query("AuditEvent", patients=(("p1",),))
            page = search.page(connection, query, allowed=everybody, confined=False, count=1, began=LATER)
            rest = search.page(connection, query, allowed=everybody, confined=False, count=1, began=LATER, after=page.next)
            assert ids(page) + ids(rest) == mine
            assert rest.next is None
            confined = search.page(connection, Query("AuditEvent"), allowed=only("p2"), confined=True, count=9, began=LATER)
            assert ids(confined) == [actions[1].id]
            assert orjson.loads(confined.matches[0].body)["id"] == actions[1].id
            now = actions[0].recorded
            for prefix, count in (("ge", 4), ("sa", None), ("lt", 0), ("eb", 0)):
                dated = Query("AuditEvent", dates=((date_value(prefix + now),),))
                total = search.total(connection, dated, allowed=everybody, confined=False, began=LATER)
                assert count is None or total == count
            one = Query("AuditEvent", ids=((actions[3].id,),))
            assert ids(search.page(connection, one, allowed=everybody, confined=False, count=9, began=LATER)) == [actions[3].id]
            assert search.total(connection, query, allowed=everybody, confined=False, began=0) == 0


def test_events_are_found_by_outcome(database_url: str) -> None:
    with opened(database_url) as database:
        trail = Trail(database, Agent(identifier="server"))
        outcomes: tuple[Outcome, ...] = (SUCCESS, REFUSED, FAILED, REFUSED)
        actions = [trail.action("read", REST_READ, Agent(identifier="app"), outcome=each, patient_id="p") for each in outcomes]
        trail.write(*actions)
        newest = [action.id for action in reversed(actions)]
        with database.read() as connection:
            for text, wanted in (
                ("4", [newest[0], newest[2]]), ("8", [newest[1]]), ("12", []), ("4,8", newest[:3]), ("http://hl7.org/fhir/audit-event-outcome|", newest),
                ("http://terminology.hl7.org/CodeSystem/audit-event-outcome|0", newest[3:]), ("|4", []), ("urn:other|4", []),
            ):  # fmt: skip
                query = Query("AuditEvent", patients=(("p",),), tokens=(("outcome", tuple(map(token_value, text.split(",")))),))
                page = search.page(connection, query, allowed=everybody, confined=False, count=2, began=LATER)
                rest = (
                    search.page(connection, query, allowed=everybody, confined=False, count=2, began=LATER, after=page.next)
                    if page.next
                    else None
                )
                assert ids(page) + (ids(rest) if rest else []) == wanted, text
                assert search.total(connection, query, allowed=everybody, confined=False, began=LATER) == len(wanted)


# --- plans


def plan(database: Database, run: Callable[[Connection], object]) -> str:
    """SQLite's plan of the last statement that `run` executes."""
    seen: list[tuple[str, Any]] = []

    def note(_: Any, __: Any, statement: str, parameters: Any, *___: Any) -> None:
        seen.append((statement, parameters))

    event.listen(database.engine, "before_cursor_execute", note)
    with database.read() as connection:
        run(connection)
        event.remove(database.engine, "before_cursor_execute", note)
        rows = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {seen[-1][0]}", seen[-1][1])
        return "\n".join(row[3] for row in rows)


NEWEST_CT = Query("ImagingStudy", tokens=(("modality", (token_value("CT"),)),))


@pytest.mark.parametrize(
    ("query", "confined", "index"),
    [
        (NEWEST_CT, False, "sqlite_autoindex_token_1 (hash=?)"),
        (Query("ImagingStudy", tokens=(*NEWEST_CT.tokens, ("status", (token_value("available"),)))), False, "token_1 (hash=?)"),
        (NEWEST_CT, True, "ix_resource_patient (type=? AND patient=?)"),
        (Query("ImagingStudy"), True, "ix_resource_patient (type=? AND patient=?)"),
        (Query("ImagingStudy", patients=(("p1",),), dates=((date_value("ge2025"),),)), False, "ix_resource_patient (type=? AND patient=?"),
        (Query("ImagingStudy"), False, "ix_resource_date (type=?)"),
        (Query("ImagingStudy", sort=Sort(by_update=True)), False, "ix_resource_updated (type=?)"),
        (Query("ImagingStudy", tokens=NEWEST_CT.tokens, sort=Sort(by_update=True)), False, "ix_resource_updated (type=?)"),
    ],
)  # fmt: skip
def test_no_usual_search_sorts_the_table(sqlite: Database, query: Query, confined: bool, index: str) -> None:
    allowed = only("p1") if confined else everybody
    for after in (None, Position(LATER, 1_767_744_000_000_000, 7)):
        found = plan(
            sqlite,
            lambda connection, after=after: search.page(
                connection, query, allowed=allowed, confined=confined, count=50, began=LATER, after=after
            ),
        )
        assert index.removesuffix(")") in found
        assert "TEMP B-TREE" not in found
        assert "SCAN" not in found


def test_an_identifier_is_looked_up(sqlite: Database) -> None:
    query = Query("ImagingStudy", tokens=(("identifier", (token_value("urn:oid:1.2.3"),)),))
    found = plan(sqlite, lambda connection: first(connection, query, 50, LATER))
    assert "INTEGER PRIMARY KEY (rowid=?)" in found
    assert "SCAN" not in found


def test_several_modalities_are_walked_one_by_one(sqlite: Database) -> None:
    query = Query("ImagingStudy", tokens=(("modality", (token_value("CT"), token_value("MR"))),))
    found = plan(sqlite, lambda connection: first(connection, query, 50, LATER))
    assert found.count("sqlite_autoindex_token_1 (hash=?)") == 2


@pytest.fixture
def sqlite(tmp_path: Any) -> Iterator[Database]:
    with opened(f"sqlite:///{tmp_path / 'plans.sqlite3'}") as database:
        with database.write() as connection:
            filled(connection, 30)
        yield database

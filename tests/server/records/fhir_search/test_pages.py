"""Pages of searches: what stays stable while data change, which way they are walked, whose data they look at, and what they cost."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from peers.generated import CT, Made, send
from peers.imageshare import node, publish_all
from sqlalchemy import ColumnElement, Connection, event, select, true

from profiles.fhir.clinical_date import CLINICAL_DATE
from profiles.fhir.expression import compiled
from profiles.fhir.query import Search
from profiles.fhir.search_request import read
from profiles.r4.search import parameters
from server.errors import NotSupported, Refused
from server.records import fhir_search, resources
from server.records.fhir_search import Allowed, Page, Position, TooCostly, conditions, limits, matches, ordered
from server.records.fhir_search.terms import RESOURCE, TOKEN
from server.records.index_keys import token_hash
from server.store.db import Database
from server.store.many import many
from server.store.migrations import migrate

BASE = "https://here.example/fhir"
LATER = 4_000_000_000_000_000
DCM = "http://dicom.nema.org/resources/ontology/DCM"


@pytest.fixture(scope="module")
def database(module_database_url: str) -> Iterator[Database]:
    opened = Database(module_database_url, durable=False)
    migrate(opened)
    yield opened
    opened.close()


@pytest.fixture
def connection(database: Database) -> Iterator[Connection]:
    """What a test does in it is undone."""
    with database.write() as opened:
        nested = opened.begin_nested()
        yield opened
        nested.rollback()


def everybody(_: str, __: ColumnElement[str]) -> ColumnElement[bool]:
    return true()


def only(*patients: str) -> Allowed:
    return lambda _, column: column.in_(patients)


def asked(types: str, query: str = "") -> Search:
    pairs = [tuple(each.split("=", 1)) for each in query.split("&")] if query else []
    return read(tuple(types.split(",")), pairs, base=BASE, now=LATER)  # type: ignore[arg-type]


def page(
    connection: Connection,
    search: Search,
    count: int = 100,
    after: Position | None = None,
    began: int = LATER,
    may: Allowed = everybody,
) -> Page:
    found, plainly = (
        fhir_search.page(
            connection,
            search,
            decision_where=may,
            confined=may is not everybody,
            count=count,
            began=began,
            after=after,
            only=each,
        )
        for each in (None, frozenset[str]() if may is everybody else None)
    )
    assert plainly == found  # a statement that is known finds the same
    return found


def found(connection: Connection, types: str, query: str = "", may: Allowed = everybody) -> list[str]:
    return [match.id for match in page(connection, asked(types, query), may=may).matches]


def study(id_: str, **content: Any) -> dict[str, Any]:
    return {
        "resourceType": "ImagingStudy",
        "id": id_,
        "identifier": [{"system": "urn:dicom:uid", "value": f"urn:oid:1.2.{id_[1:]}"}],
        "status": "available",
        "series": [{"uid": f"1.2.{id_[1:]}.1", "modality": {"system": DCM, "code": "CT"}}],
        "subject": {"reference": "Patient/p1"},
        **content,
    }


def observation(id_: str, code: str = "x", **content: Any) -> dict[str, Any]:
    made = {"resourceType": "Observation", "id": id_, "status": "final", "code": {"coding": [{"system": "urn:c", "code": code}]}}
    return {**made, **content}


def filled(connection: Connection, count: int) -> list[str]:
    """`count` studies of a day each; their ids, newest first."""
    for number in range(1, count + 1):
        resources.put(connection, study(f"s{number}", started=f"2026-01-{number:02}"), now=1_000_000 * number)
    return [f"s{number}" for number in range(count, 0, -1)]


# --- pages

ORDERS = ["", "_sort=started", "_sort=-started", "_sort=_lastUpdated", "modality=CT&_sort=-started", "_sort=status,-started"]


@pytest.mark.parametrize("query", ORDERS)
def test_what_comes_while_somebody_pages_stays_out(connection: Connection, query: str) -> None:
    filled(connection, 4)
    whole = [match.id for match in page(connection, asked("ImagingStudy", query), began=5_000_000).matches]
    first = page(connection, asked("ImagingStudy", query), 2, began=5_000_000)
    resources.put(connection, study("s5", started="2026-01-20"), now=6_000_000)
    rest = page(connection, asked("ImagingStudy", query), 9, first.next, 5_000_000)
    assert [match.id for match in (*first.matches, *rest.matches)] == whole


def test_what_changes_while_somebody_pages_is_not_lost(connection: Connection) -> None:
    wanted = filled(connection, 4)
    first = page(connection, asked("ImagingStudy"), 2, began=5_000_000)
    changed = resources.put(connection, study("s2", started="2026-01-02", numberOfSeries=2), now=6_000_000)
    rest = page(connection, asked("ImagingStudy"), 9, first.next, 5_000_000)
    assert [match.id for match in (*first.matches, *rest.matches)] == wanted
    assert changed.version == 2
    assert rest.matches[0].body == changed.body


@pytest.mark.parametrize("types", ["ImagingStudy", "ImagingStudy,Basic"])
@pytest.mark.parametrize("query", ["_sort=-_lastUpdated", "_sort=_lastUpdated", ""])
def test_what_is_changed_while_somebody_pages_by_updates_is_on_a_later_page(
    connection: Connection, query: str, types: str
) -> None:
    """FHIR R4 section 3.1.1.5.4: its new place is one that lies behind, or at the end of all."""
    filled(connection, 6)
    late = "s5" if query == "_sort=_lastUpdated" else "s2"
    pages = list(paged(connection, asked(types, query), 2, {0: late, 1: late}))
    assert {each for page in pages for each in page} == {f"s{number}" for number in range(1, 7)}
    assert late not in pages[0]
    assert sum(page.count(late) for page in pages) == 1


@pytest.mark.parametrize("query", ["_sort=started", "_sort=-started", "_sort=identifier", "_sort=-identifier", "modality=CT"])
def test_what_changes_its_place_while_somebody_pages_is_not_lost(connection: Connection, query: str) -> None:
    """Its new place lies behind: it is told of after all others."""
    for number in range(1, 7):
        resources.put(connection, study(f"s{number}", started=f"2026-01-{number:02}"), now=1_000_000)
    search = asked("ImagingStudy", query)
    first = page(connection, search, 2, began=5_000_000)
    lost = "s5" if first.matches[0].id == "s1" else "s2"
    day, uid = ("2025-01-01", "0.1") if lost == "s5" else ("2027-01-01", "2.9")
    named = [{"system": "urn:dicom:uid", "value": f"urn:oid:{uid}"}]
    resources.put(connection, study(lost, started=day, identifier=named), now=6_000_000)
    rest = [each.id for each in rest_of(connection, search, 2, first)]
    assert sorted([*(match.id for match in first.matches), *rest]) == [f"s{number}" for number in range(1, 7)]
    assert rest[-1] == lost


def test_changes_of_many_are_paged_too(connection: Connection) -> None:
    """More of them than a page has; and a page ends among those that were shown at their place."""
    filled(connection, 9)
    search = asked("ImagingStudy", "_sort=-_lastUpdated")
    first = page(connection, search, 2, began=10_000_000)
    for number in range(1, 9):
        resources.put(connection, study(f"s{number}", started=f"2026-02-{number:02}"), now=11_000_000 + number)
    rest = [each.id for each in rest_of(connection, search, 2, first)]
    assert sorted(rest) == [f"s{number}" for number in range(1, 9)]


def test_what_is_changed_before_the_first_page_is_read_is_on_it(connection: Connection) -> None:
    """Between the moment that the search began and its view of the data."""
    filled(connection, 3)
    resources.put(connection, study("s1", started="2026-02-01"), now=9_000_000)
    assert sorted(each.id for each in page(connection, asked("ImagingStudy", "_sort=_lastUpdated"), began=5_000_000).matches) == [
        "s1", "s2", "s3",
    ]  # fmt: skip


def paged(connection: Connection, search: Search, count: int, changes: dict[int, str]) -> Iterator[list[str]]:
    """The ids on each page; `changes`: after which page which study has a new version."""
    number, after = 0, None
    while True:
        found = page(connection, search, count, after, 10_000_000)
        yield [match.id for match in found.matches]
        if found.next is None:
            return
        after = Position.from_plain(found.next.plain())
        if number in changes:
            more = study(changes[number], started="2026-01-02", numberOfSeries=number + 2)
            resources.put(connection, more, now=20_000_000 + number)
        number += 1


def rest_of(connection: Connection, search: Search, count: int, first: Page) -> Iterator[matches.Match]:
    found = first
    while found.next is not None:
        found = page(connection, search, count, Position.from_plain(found.next.plain()), found.next.began)
        yield from found.matches


@pytest.mark.parametrize("query", [*ORDERS, "_id=s2", "status:not=cancelled", "_lastUpdated=gt1970", "series:missing=true"])
def test_what_was_deleted_is_nowhere(connection: Connection, query: str) -> None:
    filled(connection, 3)
    resources.delete(connection, "ImagingStudy", "s2", now=9_000_000)
    assert "s2" not in found(connection, "ImagingStudy", query)
    assert "s2" not in found(connection, "ImagingStudy,Patient", "_lastUpdated=gt1970")


def test_a_page_of_large_resources_ends_early(connection: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matches, "PAGE_BYTES", 3000)
    for number in range(1, 6):
        resources.put(connection, study(f"s{number}", started=f"2026-01-0{number}", description="x" * 900))
    first = page(connection, asked("ImagingStudy"), 5)
    assert [match.id for match in first.matches] == ["s5", "s4"]
    assert [match.id for match in page(connection, asked("ImagingStudy"), 5, first.next).matches] == ["s3", "s2"]
    monkeypatch.setattr(matches, "PAGE_BYTES", 10)
    assert len(page(connection, asked("ImagingStudy"), 5).matches) == 1


def test_a_page_has_the_stored_bytes_and_where_it_is_asked_for_the_stored_summary(connection: Connection) -> None:
    series = [
        {"uid": f"1.2.{each}", "modality": {"code": "CT"}, "instance": [{"uid": "1", "sopClass": {"code": "a"}}] * 90}
        for each in range(9)
    ]
    stored = resources.put(connection, study("s1", series=series))
    (whole,) = page(connection, asked("ImagingStudy")).matches
    assert (whole.body, whole.patient, whole.summary) == (stored.body, "p1", False)
    (short,) = page(connection, asked("ImagingStudy", "_summary=true")).matches
    assert (short.body, short.summary) == (stored.summary, True)


def test_an_estimate_is_counted_to_a_limit(connection: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.records.fhir_search.searching.MOST_COUNTED", 3)
    filled(connection, 5)
    totals = [
        fhir_search.total(
            connection, asked("ImagingStudy", f"_total={each}"), decision_where=everybody, confined=False, began=LATER
        )
        for each in ("accurate", "estimate")
    ]
    assert totals == [5, 3]


# --- ways to walk


@contextmanager
def plans(connection: Connection) -> Iterator[list[str]]:
    """How SQLite finds each page: the lines of its plan."""
    told: list[str] = []

    def explain(_: Connection, cursor: Any, statement: str, values: Any, *__: Any) -> None:
        if statement.startswith("SELECT") and "resource.body" in statement:
            cursor.execute(f"EXPLAIN QUERY PLAN {statement}", values)
            told.extend(row[3] for row in cursor.fetchall())

    event.listen(connection, "before_cursor_execute", explain)
    yield told
    event.remove(connection, "before_cursor_execute", explain)


@pytest.mark.parametrize(
    ("types", "query", "index"),
    [
        ("ImagingStudy", "", "resource USING INDEX ix_resource_date (type=?"),
        ("ImagingStudy", "_sort=-started", "resource USING INDEX ix_resource_date (type=?"),
        ("ImagingStudy", "_sort=-_lastUpdated", "resource USING INDEX ix_resource_updated (type=?"),
        ("ImagingStudy", "_sort=_lastUpdated&status:not=cancelled", "resource USING INDEX ix_resource_updated (type=?"),
        (
            "ImagingStudy",
            "patient=p1&started=ge2026-01-02",
            "resource USING INDEX ix_resource_patient (type=? AND patient=? AND date>?",
        ),
        ("ImagingStudy", "modality=CT", "token_1 USING PRIMARY KEY (hash=?"),
        ("ImagingStudy", "modality=CT&_sort=-started&started=ge2026-01-01", "token_1 USING PRIMARY KEY (hash=? AND date>?"),
        ("ImagingStudy", "modality=CT&status=available", "token_1 USING PRIMARY KEY (hash=?"),
        (
            "Observation",
            "subject=Patient/p1",
            "reference_value_1 USING PRIMARY KEY (parameter=? AND target_type=? AND target_id=?",
        ),
        (
            "Observation",
            "subject=Patient/p1&code=x",
            "reference_value_1 USING PRIMARY KEY (parameter=? AND target_type=? AND target_id=?",
        ),
        ("Patient", "_sort=family", "text_value_1 USING PRIMARY KEY (parameter=?"),
        ("Patient", "_sort=-birthdate", "date_value_1 USING PRIMARY KEY (parameter=?"),
        ("Observation", "_sort=-code&status=final", "text_value_1 USING PRIMARY KEY (parameter=?"),
    ],
)
def test_an_index_has_the_order(
    connection: Connection, monkeypatch: pytest.MonkeyPatch, types: str, query: str, index: str
) -> None:
    """With more candidates than are looked up at once, nothing is sorted and no table scanned, on the first page and on the next."""
    if connection.dialect.name != "sqlite":
        pytest.skip("PostgreSQL plans by what it knows of its tables, which in a test is nothing")
    monkeypatch.setattr(conditions, "FEW", 2)
    filled(connection, 9)
    for number in range(9):
        resources.put(connection, observation(f"o{number}", subject={"reference": "Patient/p1"}))
        resources.put(connection, {"resourceType": "Patient", "id": f"p{number}", "name": [{"family": "A"}], "birthDate": "2000"})
    search = asked(types, query)
    for after in (None, page(connection, search, 3).next):
        with plans(connection) as told:
            assert len(page(connection, search, 3, after).matches) == 3
        assert any(index in line for line in told), told
        wrong = [line for line in told if line.startswith("SCAN") or line == "USE TEMP B-TREE FOR ORDER BY"]
        assert not wrong, told


# --- whose data are looked at


def test_conditions_look_only_at_what_the_caller_may_see(connection: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody learns by a chain, `_has`, `_list` or the order of what is somebody else's."""
    for number in (1, 2):
        resources.put(connection, {"resourceType": "Patient", "id": f"p{number}", "name": [{"family": f"Name{number}"}]})
        resources.put(connection, observation(f"o{number}", subject={"reference": f"Patient/p{number}"}))
    resources.put(connection, observation("o3", subject={"reference": "Patient/p1"}, hasMember=[{"reference": "Observation/o2"}]))
    resources.put(
        connection, observation("o4", code="y", subject={"reference": "Patient/p2"}, hasMember=[{"reference": "Observation/o3"}])
    )
    resources.put(
        connection,
        {
            "resourceType": "List", "id": "l", "status": "current", "mode": "working", "subject": {"reference": "Patient/p2"},
            "entry": [{"item": {"reference": "Observation/o1"}}],
        },
    )  # fmt: skip
    queries = ["has-member.subject.family=Name2", "has-member.code=x", "_has:Observation:has-member:code=y", "_list=l"]
    for few in (500, 0):
        monkeypatch.setattr(conditions, "FEW", few)
        for query in queries:
            assert found(connection, "Observation", query), query
            assert not found(connection, "Observation", query, only("p1")), query
        assert found(connection, "Observation", "", only("p1")) == ["o3", "o1"]


def test_a_list_has_its_members(connection: Connection) -> None:
    filled(connection, 3)
    entries = [{"item": {"reference": f"ImagingStudy/s{each}"}} for each in (3, 1, 9)]
    resources.put(connection, {"resourceType": "List", "id": "l", "status": "current", "mode": "working", "entry": entries})
    assert found(connection, "ImagingStudy", "_list=l") == ["s3", "s1"]
    assert found(connection, "ImagingStudy", "_list=nothing") == []


# --- codes


def test_codes_of_value_sets_and_hierarchies(connection: Connection) -> None:
    """The standard's own, and those that are stored here."""
    for id_, gender in (("p1", "male"), ("p2", "unknown"), ("p3", None)):
        resources.put(connection, {"resourceType": "Patient", "id": id_, **({"gender": gender} if gender else {})})
    for code in ("a", "b", "c"):
        resources.put(connection, observation(code, code))
    own = {"resourceType": "CodeSystem", "id": "c", "url": "urn:c", "status": "active", "content": "complete"}
    resources.put(connection, {**own, "concept": [{"code": "a", "concept": [{"code": "b"}]}, {"code": "c"}]})
    include = [{"system": "urn:c", "filter": [{"property": "concept", "op": "is-a", "value": "a"}]}]
    value_set = {
        "resourceType": "ValueSet",
        "id": "v",
        "url": "http://v.example/v",
        "status": "active",
        "compose": {"include": include},
    }
    resources.put(connection, value_set)
    genders = "http://hl7.org/fhir/ValueSet/administrative-gender"
    assert found(connection, "Patient", f"gender:in={genders}") == ["p2", "p1"]
    assert found(connection, "Patient", f"gender:not-in={genders}") == ["p3"]
    assert found(connection, "Observation", "code:in=http://v.example/v") == ["b", "a"]
    assert found(connection, "Observation", "code:not-in=http://v.example/v") == ["c"]
    assert found(connection, "Observation", "code:below=urn:c|a") == ["b", "a"]
    assert found(connection, "Observation", "code:above=urn:c|b") == ["b", "a"]
    for query in ("code:in=http://v.example/unknown", "code:below=a", "code:above=urn:unknown|a"):
        with pytest.raises(NotSupported):
            found(connection, "Observation", query)


def test_units_are_converted(connection: Connection) -> None:
    for id_, value, code in (("a", 5, "mg"), ("b", 0.005, "g"), ("c", 5, "g"), ("d", 5, "mL")):
        quantity = {"value": value, "unit": code, "system": "http://unitsofmeasure.org", "code": code}
        resources.put(connection, observation(id_, valueQuantity=quantity))
    ucum = "|http://unitsofmeasure.org|"
    assert found(connection, "Observation", f"value-quantity=5{ucum}mg") == ["b", "a"]
    assert found(connection, "Observation", f"value-quantity=gt0.1{ucum}g") == ["c"]
    assert found(connection, "Observation", f"value-quantity=5000{ucum}ug") == ["b", "a"]
    assert found(connection, "Observation", "value-quantity=5||mg") == ["a"]
    with pytest.raises(Refused, match="unit's code"):
        found(connection, "Observation", f"value-quantity=5{ucum}")


@pytest.mark.parametrize("query", ["_text=x", "_content=x", "code-value-quantity:missing=true"])
def test_what_is_not_offered_is_refused(connection: Connection, query: str) -> None:
    with pytest.raises(NotSupported):
        found(connection, "Observation", query)


@pytest.mark.parametrize(
    ("types", "parameter"),
    [("Patient", "name"), ("Patient", "family:contains"), ("ValueSet", "url:below"), ("Questionnaire", "title"), ("PlanDefinition", "depends-on:below")],
)  # fmt: skip
def test_a_part_of_a_text_that_no_index_has_is_refused(connection: Connection, types: str, parameter: str) -> None:
    """What an index does not have is neither there nor not there; the whole text can be asked for."""
    long = "http://x.example/" + "a" * 143
    resources.put(connection, {"resourceType": "ValueSet", "id": "v", "status": "active", "url": long + "b" * 300})
    text = long if "below" in parameter else "a" * 160
    assert found(connection, types, f"{parameter}={text}") == (["v"] if types == "ValueSet" else [])
    with pytest.raises(Refused, match="160") as told:
        found(connection, types, f"{parameter}={text}a")
    assert told.value.fhir_code == "too-long"
    assert found(connection, "ValueSet", f"url={long}{'b' * 300}") == ["v"]


def test_a_clinical_date_is_short_where_it_is_never_a_period() -> None:
    """From the definitions: media may be made over years (FHIR R4, Media.created[x] is dateTime or Period)."""
    for type_, code in CLINICAL_DATE.items():
        paths = compiled(parameters(type_)[code].expression, type_).paths
        assert ordered.is_short(type_) <= (not any(each.type in ("Period", "Timing") for each in paths)), type_
    assert [each for each in ("ImagingStudy", "DocumentReference", "Media", "Observation", "Encounter") if ordered.is_short(each)] == [
        "ImagingStudy", "DocumentReference",
    ]  # fmt: skip


def test_a_long_period_overlaps_what_is_asked_for_beyond_a_year(connection: Connection) -> None:
    """FHIR R4 section 3.1.1.4.5, gt, ge, ap: the range above the value overlaps the range of the resource."""
    period = {"start": "2010", "end": "2020"}
    media = {"resourceType": "Media", "id": "m", "status": "completed", "content": {"url": "http://x.example/m"}}
    resources.put(connection, {**media, "createdPeriod": period})
    for query in ("created=gt2019", "created=ge2019", "created=ap2019", "created=lt2011", "created=sa2009"):
        assert found(connection, "Media", query) == ["m"], query
    assert found(connection, "Media", "created=gt2020") == []


# --- the catalogue


def test_series_instances_and_sop_classes_are_found_in_the_catalogue(tmp_path: Path, database_url: str) -> None:
    one = Made()
    with node(tmp_path / "data", database_url) as opened:
        send(opened, one)
        with opened.database.read() as connection:
            assert found(connection, "ImagingStudy", f"series={one.series_uid}") == []  # not yet published
        publish_all(opened)
        with opened.database.read() as connection:
            (id_,) = found(connection, "ImagingStudy")
            rows = connection.execute(select(RESOURCE.c.pk).where(RESOURCE.c.id == id_)).scalar_one()
            assert not {row[0] for row in many(TOKEN).of(connection, rows)} & {
                token_hash("ImagingStudy", "series", None, one.series_uid)
            }
            series, instance, sop_class = one.series_uid, one.uid, CT
            for query in (f"series={series}", f"series=urn:oid:{series}", f"instance={instance}", f"instance=urn:dicom:uid|{instance}",
                          f"dicom-class=urn:ietf:rfc:3986|urn:oid:{sop_class}", "series:missing=false", "instance:not=1.2"):  # fmt: skip
                assert found(connection, "ImagingStudy", query) == [id_], query
            for query in (
                "series=1.2",
                "instance=urn:oid:1.2",
                f"dicom-class={sop_class}.1",
                "series:missing=true",
                f"series:not={series}",
            ):
                assert found(connection, "ImagingStudy", query) == [], query


@pytest.mark.parametrize("system", ["", "urn:oid:"])
def test_series_instances_and_sop_classes_of_a_study_without_images_here(connection: Connection, system: str) -> None:
    """FHIR R4 section 9.7.5: another system's study, as its client wrote it."""
    instance = {"uid": f"{system}1.2.3.4", "sopClass": {"system": "urn:ietf:rfc:3986", "code": f"urn:oid:{CT}"}}
    resources.put(connection, study("s1", series=[{"uid": f"{system}1.2.3", "modality": {"code": "CT"}, "instance": [instance]}]))
    resources.create_all(connection, [study("s2", series=[])])
    for query in ("series=1.2.3", "series=urn:oid:1.2.3", "series=urn:dicom:uid|1.2.3", "instance=1.2.3.4", f"dicom-class=urn:oid:{CT}",
                  "series:missing=false", "instance:missing=false", "series:not=1.2.4&series:missing=false"):  # fmt: skip
        assert found(connection, "ImagingStudy", query) == ["s1"], query
    for query in ("series=1.2", "instance=1.2.3", "dicom-class=1.2", "series=urn:other|1.2.3"):
        assert found(connection, "ImagingStudy", query) == [], query
    for query in ("series:missing=true", "series:not=1.2.3", "dicom-class:missing=true"):
        assert found(connection, "ImagingStudy", query) == ["s2"], query


# --- conditional interactions


def test_ids_are_those_that_match_just_now(connection: Connection) -> None:
    filled(connection, 3)
    search = asked("ImagingStudy", "identifier=urn:dicom:uid|urn:oid:1.2.2")
    assert fhir_search.ids(connection, search, decision_where=everybody, limit=2) == ["s2"]
    assert len(fhir_search.ids(connection, asked("ImagingStudy", "status=available"), decision_where=everybody, limit=2)) == 2
    resources.delete(connection, "ImagingStudy", "s2")
    assert fhir_search.ids(connection, search, decision_where=everybody, limit=2) == []
    with pytest.raises(NotSupported):
        fhir_search.ids(connection, asked("Patient,ImagingStudy", "_id=a"), decision_where=everybody, limit=2)


# --- hostile searches


def _many(connection: Connection) -> None:
    general = [{"reference": "Practitioner/d"}]
    made = [
        {"resourceType": "Patient", "id": f"p{each}", "name": [{"family": "Smith"}], "generalPractitioner": general}
        for each in range(60)
    ]
    measured = {"effectiveDateTime": "2026", "valueQuantity": {"value": 1, "unit": "mg"}, "issued": "2026-01-01T00:00:00Z"}
    made += [observation(f"o{each}", subject={"reference": f"Patient/p{each}"}, **measured) for each in range(60)]
    resources.create_all(connection, made)


HOSTILE: dict[str, Callable[[], tuple[str, str]]] = {
    "500 values": lambda: ("Patient", "name:contains=" + ",".join(f"x{each}" for each in range(499))),
    "500 tokens": lambda: ("Observation", "code:not=" + ",".join(f"urn:c|{each}" for each in range(499))),
    "500 dates": lambda: ("Observation", "date=" + ",".join(f"ne{year}" for year in range(1500, 1999))),
    "500 quantities": lambda: ("Observation", "value-quantity=" + ",".join(f"gt{each}||mg" for each in range(499))),
    "100 _has": lambda: ("Patient", "&".join(f"_has:Observation:subject:code=x,{each}" for each in range(99))),
    "8 chains": lambda: ("Observation", "has-member." * 7 + "subject:Patient.family=Smith"),
    "_filter": lambda: ("Patient", "_filter=" + " or ".join(f"family co a{each}" for each in range(150))),
    "like": lambda: ("Patient", "name:contains=" + "%_" * 2000),
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(HOSTILE))
@pytest.mark.parametrize("few", [0, 500])
def test_searches_that_ask_for_much_end(connection: Connection, monkeypatch: pytest.MonkeyPatch, name: str, few: int) -> None:
    """With what any statement of either engine takes: values, terms, nesting."""
    monkeypatch.setattr(conditions, "FEW", few)
    monkeypatch.setattr(limits, "SECONDS", 60.0)  # whatever else the machine does
    _many(connection)
    types, query = HOSTILE[name]()
    try:
        found(connection, types, query)
    except TooCostly:
        assert (name, few) == ("100 _has", 0)


@pytest.mark.parametrize("text", ["'", "';DROP TABLE resource;--", '"', "\\'", "%27", "a' OR '1'='1", "\x01", "😀"])
def test_no_value_is_sql(connection: Connection, text: str) -> None:
    filled(connection, 1)
    for query in (
        f"identifier={text}",
        f"description={text}",
        f"endpoint.name:contains={text}",
        f"patient.family:exact={text}",
        f"_source={text}",
    ):
        try:
            assert found(connection, "ImagingStudy", query) == []
        except ValueError:
            continue  # no parameter of that name
    assert found(connection, "ImagingStudy") == ["s1"]


def test_a_search_that_takes_too_long_is_refused(database: Database) -> None:
    slow = {
        "sqlite": "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n",
        "postgresql": "SELECT pg_sleep(60)",
    }
    with pytest.raises(TooCostly), database.read() as connection, limits.limited(connection, 0.05):
        connection.exec_driver_sql(slow[connection.dialect.name])
    with database.read() as connection:
        assert found(connection, "ImagingStudy") == []

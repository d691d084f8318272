"""Stored queries in SQL: what they find is what an oracle in Python finds, on both engines, by way of the right index."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from random import Random
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from peers import registry_objects as made
from peers.query_oracle import Registered, is_current, matches
from sqlalchemy import Connection, event, text

from ihe.criteria import Coded, Criterion, During, Like, OneOf, TimeRange
from ihe.iti18 import ObjectRef
from ihe.stored_queries import Subject
from profiles.document import APPROVED, DEPRECATED, OFFLINE, ON_DEMAND, ONLINE, STABLE, Author, Code, DocumentEntry, SubmissionSet
from server.records import belonging, registry, registry_queries
from server.records.catalogue import PATIENT
from server.records.registry import OBJECT
from server.store.db import Database

OID = "1.3.6.1.4.1.21367.2005.3.7"
CODES = [Code(code, scheme) for code in ("a", "b", "B", "O'Neill") for scheme in ("1.1", "1.2")]
TEXTS = [
    "",
    "Ford",
    "ford",
    "1^Ford^Henry",
    "100%",
    "a_b",
    "axb",
    "[a]",
    "a*b",
    "a?b",
    "back\\slash",
    "Ärzte^Käte",
    "' OR 1=1 --",
]
TIMES = ["", "2004", "200412", "20041224", "2004122410", "20041224103000", "20041225", "2005", "20050101000000", "2006"]
PATTERNS = [
    "%",
    "_",
    "",
    "%Ford%",
    "1^F_rd^%",
    "100%",
    "a_b",
    "[a]",
    "%*%",
    "%?_",
    "%\\%",
    "\\",
    "Ä%",
    "%ä%",
    "' OR %",
    "F%d",
    "%[%",
    "%]",
]
NOW = 1_700_000_000_000_000


def objects(random: Random) -> Iterator[Registered]:
    """Of every kind, from few values, so that queries find some of them."""

    def some(values: list[Any], most: int) -> tuple[Any, ...]:
        return tuple(random.sample(values, random.randint(0, most)))

    def uuid() -> str:
        return f"urn:uuid:{random.getrandbits(128):032x}"

    status = [APPROVED, APPROVED, DEPRECATED]
    for number in range(120):
        authors = tuple(map(Author, some(TEXTS, 2)))
        kind = random.choice([STABLE, ON_DEMAND])
        first = made.entry(
            uuid(), f"1.2.{number}", class_code=random.choice(CODES), type_code=random.choice([None, *CODES]), format_code=CODES[0],
            event_codes=some(CODES, 3), confidentiality=some(CODES, 2), facility_type=random.choice(CODES), authors=authors,
            creation_time="" if kind == ON_DEMAND else random.choice(TIMES), service_start=random.choice(TIMES), service_stop=random.choice(TIMES),
            title=random.choice(TEXTS), reference_ids=some(TEXTS[1:], 2), object_type=kind,
            status=random.choice(status), availability=random.choice(["", ONLINE, OFFLINE]),
        )  # fmt: skip
        yield first
        if number % 3 == 0:
            yield replace(first, entry_uuid=uuid(), logical_id=first.entry_uuid, version=2, status=APPROVED)
        yield made.submission_set(
            entry_uuid=uuid(), unique_id=f"1.3.{number}", source_id=f"1.9.{number % 3}", submission_time=random.choice(TIMES),
            content_type=random.choice(CODES), authors=authors,
        )  # fmt: skip
        folder = made.folder(
            entry_uuid=uuid(),
            unique_id=f"1.4.{number}",
            codes=some(CODES, 2),
            last_update=random.choice(TIMES),
            status=random.choice(status),
        )
        yield folder
        if number % 4 == 0:
            yield replace(folder, entry_uuid=uuid(), logical_id=folder.entry_uuid, version=2, status=APPROVED)


def patient(connection: Connection, value: str) -> int:
    added = PATIENT.insert().values(
        id=value, authority=OID, value=value, namespace="", name="", birth_date="", sex="", name_folded=""
    )
    pk: int = connection.execute(added.returning(PATIENT.c.pk)).scalar_one()
    return pk


@pytest.fixture(scope="module")
def filled(module_database_url: str) -> Iterator[tuple[Database, int, list[Registered]]]:
    """A database with the objects of one patient, half of them registered before another was merged into her, and some of a third one."""
    database, values = Database(module_database_url), list(objects(Random(7)))
    with database.write() as connection:
        mine, merged, other = (patient(connection, name) for name in ("mine", "merged", "other"))
        for number, value in enumerate(values):
            registry.add(connection, value, patient_pk=(mine, merged)[number % 2], origin="xds", now=NOW + number)
        stranger = made.entry("urn:uuid:stranger", "1.2.3.9", class_code=CODES[0])
        registry.add(connection, stranger, patient_pk=other, origin="xds", now=NOW)
        belonging.merge(connection, merged, mine)
    yield database, mine, values
    database.close()


codes = st.lists(st.sampled_from(CODES), min_size=1, max_size=3).map(tuple)
ranges = st.builds(TimeRange, st.sampled_from(TIMES), st.sampled_from(TIMES))
patterns = st.lists(st.one_of(st.sampled_from(PATTERNS), st.text("%_aFord[]*?\\^", max_size=5)), min_size=1, max_size=3).map(
    tuple
)
statuses = st.sampled_from([(APPROVED,), (DEPRECATED,), (APPROVED, DEPRECATED)]).map(lambda found: OneOf("status", found))


def coded(*attributes: str) -> st.SearchStrategy[Criterion]:
    return st.builds(Coded, st.sampled_from(attributes), codes)


def during(*attributes: str) -> st.SearchStrategy[Criterion]:
    return st.builds(During, st.sampled_from(attributes), ranges)


CRITERIA: dict[Subject, st.SearchStrategy[Criterion]] = {
    "document": st.one_of(
        coded("class_code", "type_code", "format_code", "event_codes", "confidentiality", "facility_type"),
        during("creation_time", "service_start", "service_stop"),
        st.builds(Like, st.sampled_from(["authors", "title", "reference_ids"]), patterns),
        st.sampled_from([OneOf("object_type", (STABLE,)), OneOf("object_type", (STABLE, ON_DEMAND)), OneOf("object_type", ("x",))]),
    ),
    "submission": st.one_of(
        coded("content_type"), during("submission_time"), st.builds(Like, st.just("authors"), patterns),
        st.sampled_from([OneOf("source_id", ("1.9.0", "1.9.1")), OneOf("source_id", ("' OR 1=1",))]),
    ),
    "folder": st.one_of(coded("codes"), during("last_update")),
}  # fmt: skip


@pytest.mark.parametrize("subject", get_args(Subject))
@given(data=st.data(), level=st.sampled_from([1, 2]), whole=st.booleans())
def test_a_query_finds_what_the_oracle_finds(
    filled: tuple[Database, int, list[Registered]], subject: Subject, data: st.DataObject, level: int, whole: bool
) -> None:
    database, mine, values = filled
    asked = data.draw(st.lists(CRITERIA[subject], max_size=3).flatmap(lambda found: st.tuples(statuses, *map(st.just, found))))
    kinds = {"document": "DocumentEntry", "submission": "SubmissionSet", "folder": "Folder"}
    values = _with_logical_ids(values)
    expected = {
        each.entry_uuid
        for each in values
        if type(each).__name__ == kinds[subject]
        and all(_matches(criterion, each) for criterion in asked)
        and (level == 2 or is_current(each, values))
    }
    with database.read() as connection:
        rows = belonging.rows(connection, mine)
        hers = registry_queries.selecting(connection, subject, asked, level=level, patients=rows)
        found = registry_queries.find(connection, *hers, whole=whole)
        of_all = registry_queries.find(
            connection, *registry_queries.selecting(connection, subject, asked, level=level), whole=whole
        )
    assert {each.value.entry_uuid for each in found} == expected
    assert {each.patient for each in found} <= {"mine"}
    assert {each.value.entry_uuid for each in of_all} - {"urn:uuid:stranger"} == expected
    if whole:
        assert all(each.value.patient_id == f"mine^^^&{OID}&ISO" for each in found if not isinstance(each.value, ObjectRef))


def _with_logical_ids(values: list[Registered]) -> list[Registered]:
    """What was never updated is version 1 of itself."""
    return [
        each if isinstance(each, SubmissionSet) or each.logical_id else replace(each, logical_id=each.entry_uuid)
        for each in values
    ]


def _matches(criterion: Criterion, value: Registered) -> bool:
    """A Like of what is absent matches nothing: an empty title is none."""
    if isinstance(criterion, Like) and criterion.attribute == "title" and isinstance(value, DocumentEntry) and not value.title:
        return False
    return matches(criterion, value)


@contextmanager
def statements(connection: Connection) -> Iterator[list[tuple[str, Any]]]:
    """The statements that are executed, with their values."""
    seen: list[tuple[str, Any]] = []

    def note(_: Any, __: Any, statement: str, values: Any, ___: Any, ____: Any) -> None:
        seen.append((statement, values))

    event.listen(connection, "before_cursor_execute", note)
    yield seen
    event.remove(connection, "before_cursor_execute", note)


def plan(connection: Connection, act: Callable[[], object]) -> str:
    """How the engine goes about the one statement that `act` executes."""
    with statements(connection) as seen:
        act()
    ((statement, values),) = seen
    if connection.dialect.name == "sqlite":
        return "\n".join(str(row[-1]) for row in connection.exec_driver_sql("EXPLAIN QUERY PLAN " + statement, values))
    connection.execute(text("SET LOCAL enable_seqscan = off"))  # there are too few rows to be worth an index
    connection.execute(text("SET LOCAL enable_hashjoin = off"))
    return "\n".join(row[0] for row in connection.exec_driver_sql("EXPLAIN " + statement, values))


@pytest.mark.parametrize("level", [1, 2])
def test_a_patients_documents_are_found_by_her_index_alone(filled: tuple[Database, int, list[Registered]], level: int) -> None:
    database, mine, _ = filled
    asked: list[Criterion] = [
        OneOf("status", (APPROVED,)), OneOf("object_type", (STABLE,)), Coded("class_code", tuple(CODES[:2])), Like("authors", ("%Ford%",)),
        During("creation_time", TimeRange("2004", "2006")),
    ]  # fmt: skip
    with database.read() as connection:
        rows = belonging.rows(connection, mine)
        where = registry_queries.selecting(connection, "document", asked, level=level, patients=rows)
        told = plan(connection, lambda: registry_queries.find(connection, *where, whole=True))
    assert "ix_registry_object_patient" in told, told
    assert "SCAN registry" not in told, told
    assert "Seq Scan on registry" not in told, told
    assert "ix_registry_term_value" not in told, f"a term of hers, not hers among all that have the term: {told}"


def test_without_a_patient_a_term_leads_to_the_objects(filled: tuple[Database, int, list[Registered]]) -> None:
    database, _, _ = filled
    asked: list[Criterion] = [OneOf("status", (APPROVED,)), Coded("event_codes", (CODES[1],))]
    with database.read() as connection:
        where = registry_queries.selecting(connection, "document", asked, level=1)
        told = plan(connection, lambda: registry_queries.find(connection, *where, whole=True))
    assert "ix_registry_term_value" in told
    assert "SCAN registry_object" not in told, told


@pytest.mark.parametrize("attribute", ["creation_time", "last_update"])
def test_without_a_patient_days_lead_to_the_objects(filled: tuple[Database, int, list[Registered]], attribute: str) -> None:
    database, _, _ = filled
    asked: list[Criterion] = [Coded("event_codes", (CODES[1],)), During(attribute, TimeRange("20050304", "20050306"))]
    with database.read() as connection:
        where = registry_queries.selecting(connection, "document", asked, level=1)
        told = plan(connection, lambda: registry_queries.find(connection, *where, whole=True))
    assert "ix_registry_object_time" in told, told
    assert "ix_registry_term_value" not in told, told


def test_no_more_than_the_limit_is_read(filled: tuple[Database, int, list[Registered]]) -> None:
    database, _, _ = filled
    with database.read() as connection:
        found = registry_queries.find(connection, OBJECT.c.kind == "document", whole=True, limit=3)
    assert len(found) == 3

"""Searches of AuditEvents, which are in the trail."""

from collections.abc import Iterator

import orjson
import pytest
from sqlalchemy import ColumnElement, true

from profiles.audit_event import FAILED, REFUSED, REST_READ, REST_SEARCH, SUCCESS, Agent, AuditedAction, Outcome
from profiles.fhir.search_request import in_compartment, read
from server.errors import NotSupported
from server.records import fhir_search
from server.records.fhir_search import Allowed, Position
from server.records.trail import Trail
from server.store.db import Database
from server.store.migrations import migrate

LATER = 4_000_000_000_000_000


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    opened = Database(database_url, durable=False)
    migrate(opened)
    yield opened
    opened.close()


@pytest.fixture
def trail(database: Database) -> Trail:
    return Trail(database, Agent(identifier="server"))


def everybody(_: str, __: ColumnElement[str]) -> ColumnElement[bool]:
    return true()


def found(
    database: Database,
    query: str = "",
    may: Allowed = everybody,
    count: int = 100,
    after: Position | None = None,
    patient: str = "",
) -> tuple[list[str], Position | None]:
    search = read(("AuditEvent",), [tuple(each.split("=")) for each in query.split("&") if each], base="", now=LATER)  # type: ignore[misc]
    if patient:
        search = in_compartment(search, "Patient", patient)
    confined = may is not everybody
    with database.read() as connection:
        page = fhir_search.page(connection, search, decision_where=may, confined=confined, count=count, began=LATER, after=after)
        total = fhir_search.total(connection, search, decision_where=may, confined=confined, began=LATER)
    assert total >= len(page.matches)
    assert [orjson.loads(match.body)["id"] for match in page.matches] == [match.id for match in page.matches]
    return [match.id for match in page.matches], page.next


def test_events_are_found_by_patient_and_date_newest_first(database: Database, trail: Trail) -> None:
    actions = [trail.action("read", REST_READ, Agent(identifier="app"), patient_id=each) for each in ("p1", "p2", "p1", "")]
    trail.write(*actions)
    ids = [action.id for action in actions]
    page, after = found(database, "patient=Patient/p1&_sort=-date", count=1)
    assert after is not None
    rest = found(database, "patient=Patient/p1&_sort=-date", count=1, after=Position.from_plain(after.plain()))
    assert (page, rest) == ([ids[2]], ([ids[0]], None))
    assert found(database, patient="p1")[0] == [ids[2], ids[0]]
    assert found(database, may=lambda _, column: column == "p2")[0] == [ids[1]]
    now = actions[0].recorded
    for prefix, some in (("ge", ids[::-1]), ("lt", []), ("eb", [])):
        assert found(database, f"date={prefix}{now}")[0] == some
    assert found(database, f"_id={ids[3]},{ids[0]}")[0] == [ids[3], ids[0]]
    assert found(database, f"_lastUpdated=lt{now}")[0] == []


def test_events_are_found_by_outcome_and_subtype(database: Database, trail: Trail) -> None:
    outcomes: list[Outcome] = [SUCCESS, REFUSED, FAILED]
    actions: dict[str, AuditedAction] = {
        each: trail.action("read", REST_READ, Agent(identifier="app"), outcome=each) for each in outcomes
    }
    query = trail.action("query", REST_SEARCH, Agent(identifier="app"))
    trail.write(*actions.values(), query)
    system = "http://terminology.hl7.org/CodeSystem/audit-event-outcome"
    assert found(database, f"outcome={REFUSED}")[0] == [actions[REFUSED].id]
    assert found(database, f"outcome={system}|{FAILED},{REFUSED}")[0] == [actions[FAILED].id, actions[REFUSED].id]
    assert found(database, f"outcome=urn:other|{FAILED}")[0] == []
    assert found(database, "subtype=http://hl7.org/fhir/restful-interaction|search")[0] == [query.id]
    assert found(database, "subtype=urn:other|search")[0] == []


@pytest.mark.parametrize("query", ["agent=Practitioner/a", "action=R", "outcome:not=0", "_sort=date", "_sort=outcome", "patient.name=a", "_filter=date gt 2025 or date lt 2000"])  # fmt: skip
def test_what_the_trail_has_no_index_for_is_refused(database: Database, query: str) -> None:
    with pytest.raises(NotSupported):
        found(database, query)


def test_events_are_searched_by_themselves(database: Database) -> None:
    search = read(("AuditEvent", "Patient"), [], base="", now=LATER)
    with pytest.raises(NotSupported), database.read() as connection:
        fhir_search.page(connection, search, decision_where=everybody, confined=False, count=1, began=LATER)

"""Searches of AuditEvents, which are in the trail."""

import orjson
import pytest
from peers.fhir_search import LATER, everybody

from profiles.audit_event import (
    FAILED,
    INSTANCES_TRANSFERRED,
    RAD_14,
    RAD_107,
    RAD_108,
    RAD_129,
    REFUSED,
    REST_READ,
    REST_SEARCH,
    SUCCESS,
    Agent,
    AuditedAction,
    AuditedEntity,
    Outcome,
)
from profiles.fhir.search_request import in_compartment, read
from profiles.vocabulary import IHE_TRANSACTION
from server.errors import NotSupported
from server.records import fhir_search
from server.records.fhir_search import Allowed, Position, TooCostly, events, whose
from server.records.trail import Trail
from server.records.trail import events as events_of
from server.store.db import Database


@pytest.fixture
def trail(database: Database) -> Trail:
    return Trail(database, Agent(identifier="server"))


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
    assert found(database, may=lambda _, row: whose(row) == "p2")[0] == [ids[1]]
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


def test_each_of_the_subtypes_of_an_event_finds_it(database: Database, trail: Trail) -> None:
    """FHIR R4 section 3.1.1.4.10: a value of several that an element has. An event of DICOMweb says the interaction and the transaction."""
    agent = Agent(identifier="app")
    retrieved, stored, queried = (
        trail.action("read", RAD_107, agent), trail.action("create", RAD_108, agent), trail.action("query", RAD_129, agent),
    )  # fmt: skip
    read, found_by_dicom = trail.action("read", REST_READ, agent), trail.action("query", RAD_14, agent, rest=False)
    trail.write(retrieved, stored, queried, read, found_by_dicom)
    rest, rad = "http://hl7.org/fhir/restful-interaction", IHE_TRANSACTION
    for query, expected in (
        ("read", [read, retrieved]),
        ("RAD-107", [retrieved]),
        (f"{rad}|RAD-107", [retrieved]),
        (f"{rest}|RAD-107", []),
        (f"{rest}|create", [stored]),
        (f"{rest}|search,create", [queried, stored]),
        (f"{rest}|", [read, queried, stored, retrieved]),
        (f"{rad}|", [found_by_dicom, queried, stored, retrieved]),
        ("RAD-14", [found_by_dicom]),
        ("RAD", []),
    ):
        assert found(database, f"subtype={query}")[0] == [each.id for each in expected], query
    with database.read() as connection:
        for one in events_of(connection, limit=10):  # the bodies say the same
            said = {(each["system"], each["code"]) for each in orjson.loads(one.body)["subtype"]}
            for system, code in said:
                assert one.id in found(database, f"subtype={system}|{code}")[0]
                assert one.id in found(database, f"subtype={code}&_id={one.id}")[0]


@pytest.mark.parametrize("query", ["type:above=rest", "policy:below=a", "_profile=a", "outcome:not=0", "_sort=date", "_sort=outcome", "patient.name=a", "_filter=date gt 2025 or date lt 2000"])  # fmt: skip
def test_what_neither_columns_nor_bodies_answer_is_refused(database: Database, query: str) -> None:
    with pytest.raises(NotSupported):
        found(database, query)


def test_events_are_searched_by_themselves(database: Database) -> None:
    search = read(("AuditEvent", "Patient"), [], base="", now=LATER)
    with pytest.raises(NotSupported), database.read() as connection:
        fhir_search.page(connection, search, decision_where=everybody, confined=False, count=1, began=LATER)


def test_what_only_bodies_say_is_looked_up_in_them(database: Database, trail: Trail) -> None:
    """FHIR R4, search parameters of AuditEvent: those that the trail has no column for."""
    study = AuditedEntity(system="urn:dicom:uid", identifier="urn:oid:1.2.3", details=(("attribute", "StudyInstanceUID"),))
    read_by_app = trail.action(
        "read", REST_READ, Agent(identifier="app", system="urn:clients", name="Ward Viewer", address="192.0.2.7"),
        patient_id="p1", entities=(AuditedEntity(reference="ImagingStudy/s1"),), token_id="jti-1", request_id="r-9",
    )  # fmt: skip
    searched = trail.action(
        "query", REST_SEARCH, Agent(reference="Device/ct", name="CT Scanner"), entities=(AuditedEntity(query=b"x=1"),)
    )
    stored = trail.action("create", INSTANCES_TRANSFERRED, Agent(identifier="MODALITY"), rest=False, entities=(study,))
    trail.write(read_by_app, searched, stored)
    first, second, third = read_by_app.id, searched.id, stored.id
    for query, expected in (
        ("action=R", [first]),
        ("action=E,C", [third, second]),
        ("action:not=R", [third, second]),
        ("action=http://hl7.org/fhir/audit-event-action|R", [first]),
        ("action=urn:other|R", []),
        ("agent=Device/ct", [second]),
        ("agent:Device=ct", [second]),
        ("agent=ct", [second]),
        ("agent=Practitioner/ct", []),
        ("agent:identifier=app", [first]),
        ("agent:identifier=urn:clients|app", [first]),
        ("agent:identifier=server", [third, second, first]),
        ("agent-name=ward", [first]),
        ("agent-name:contains=scan,view", [second, first]),
        ("agent-name:exact=ward", []),
        ("agent-name:exact=Ward Viewer", [first]),
        ("agent-name:missing=true", [third]),
        ("address=192.0.2", [first]),
        ("policy=jti-1", [first]),
        ("policy=jti", []),
        ("entity=ImagingStudy/s1", [first]),
        ("entity=Patient/p1", [first]),
        ("entity:identifier=urn:oid:1.2.3", [third]),
        ("entity:identifier=urn:dicom:uid|urn:oid:1.2.3&action=C", [third]),
        ("entity-type=http://terminology.hl7.org/CodeSystem/audit-entity-type|1", [first]),
        ("entity-type=XrequestId", [first]),
        ("entity-role=24", [second]),
        ("source:identifier=server", [third, second, first]),
        ("source=Device/ct", []),
        ("site=server", [third, second, first]),
        ("type=rest", [second, first]),
        ("type=http://dicom.nema.org/resources/ontology/DCM|110104", [third]),
        ("type=rest&patient=p1", [first]),
        ("type=rest&outcome=0&subtype=search", [second]),
        ("_filter=agent-name sw ct and type eq rest", [second]),
    ):
        assert found(database, query)[0] == expected, query


def test_a_page_that_looks_at_many_bodies_ends_early_and_the_next_goes_on(
    database: Database, trail: Trail, monkeypatch: pytest.MonkeyPatch
) -> None:
    """FHIR R4 section 3.1.1.5.4: a server may return fewer than asked."""
    monkeypatch.setattr(events, "MOST_LOOKED", 4)
    monkeypatch.setattr(events, "_AT_ONCE", 3)
    ids = []
    for number in range(11):
        one = trail.action("read", REST_READ, Agent(identifier="rare" if number % 5 == 0 else "app"))
        trail.write(one)
        ids.append(one.id)
    trail.write(trail.action("read", REST_READ, Agent(identifier="rare")), patients=["p1", "p2", "p3"])
    search = read(("AuditEvent",), [("agent:identifier", "rare")], base="", now=LATER)
    pages: list[list[str]] = []
    after: Position | None = None
    with database.read() as connection:
        while True:
            page = fhir_search.page(
                connection, search, decision_where=everybody, confined=False, count=2, began=LATER, after=after
            )
            pages.append([match.id for match in page.matches])
            if page.next is None:
                break
            after = Position.from_plain(page.next.plain())
        told = [each for page in pages for each in page]
        assert told[3:] == [ids[10], ids[5], ids[0]]
        assert len(set(told)) == 6
        assert [] in pages
        with pytest.raises(TooCostly, match="date or patient"):
            fhir_search.total(connection, search, decision_where=everybody, confined=False, began=LATER)
        bounded = read(("AuditEvent",), [("agent:identifier", "rare"), ("patient", "p1")], base="", now=LATER)
        assert fhir_search.total(connection, bounded, decision_where=everybody, confined=False, began=LATER) == 1


def test_a_limit_holds_while_bodies_are_looked_at(database: Database, trail: Trail) -> None:
    """Else a search of the trail would hold up all who share its turn."""
    trail.write(*(trail.action("read", REST_READ, Agent(identifier="app")) for _ in range(20)))
    search = read(("AuditEvent",), [("action", "U")], base="", now=LATER)
    with database.read() as connection, pytest.raises(TooCostly), fhir_search.limited(connection, 0):
        fhir_search.page(connection, search, decision_where=everybody, confined=False, count=1, began=LATER)

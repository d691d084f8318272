"""The audit trail: durable before `write` returns, one row each, and never silently lost."""

import base64
import uuid
from dataclasses import replace

import orjson
import pytest
from alembic import command
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from peers.together import together
from sqlalchemy import ColumnElement, delete, func, select, true

from profiles.audit_event import FAILED, ITI_18, RAD_129, REFUSED, REST_READ, Agent, AuditedAction, AuditedEntity, audit_event
from profiles.fhir.search_request import read
from server.records import fhir_search
from server.records.fhir_search import Match, ResourceRow, whose
from server.records.resources import unpacked
from server.records.trail import EVENT, EVERYTHING, PATIENT, RecordedEvent, Trail, Wanted, events, total
from server.store.db import Database
from server.store.migrations import configuration, migrate

WHO = Agent(identifier="app", address="127.0.0.1")


@pytest.fixture
def trail(database: Database) -> Trail:
    return Trail(database, Agent(identifier="urn:oid:1.2.3"))


def _ids(database: Database) -> list[str]:
    with database.read() as connection:
        return list(connection.execute(select(EVENT.c.id)).scalars())


def test_an_event_is_there_when_write_returns(database: Database, trail: Trail) -> None:
    action = trail.action("read", REST_READ, WHO, patient_id="p", request_id="r", token_id="t")
    trail.write(action)
    other = Database(database.url.render_as_string(hide_password=False))
    with other.read() as connection:
        (event,) = events(connection, limit=10)
    other.close()
    assert (event.id, event.patient) == (action.id, "p")
    body = orjson.loads(event.body)
    assert (body["resourceType"], body["id"], body["outcome"]) == ("AuditEvent", action.id, "0")


def test_an_event_in_the_callers_transaction_shares_its_fate(database: Database, trail: Trail) -> None:
    action = trail.action("query", ITI_18, WHO, rest=False)
    with pytest.raises(RuntimeError), database.write() as connection:
        trail.record(connection, action)
        raise RuntimeError
    assert _ids(database) == []
    with database.write() as connection:
        trail.record(connection, action)
        trail.record(connection)
    assert _ids(database) == [action.id]


def test_thirty_two_writers_have_each_their_row_when_they_go_on(database: Database, trail: Trail) -> None:
    wanted: list[str] = []
    missing: list[str] = []

    def write() -> None:
        for _ in range(5):
            actions = [trail.action("read", REST_READ, WHO, patient_id=str(n)) for n in range(2)]
            trail.write(*actions)
            with database.read() as connection:
                found = set(connection.execute(select(EVENT.c.id).where(EVENT.c.id.in_([a.id for a in actions]))).scalars())
            wanted.extend(action.id for action in actions)
            missing.extend(action.id for action in actions if action.id not in found)

    assert together(*[write] * 32) == []
    assert missing == []
    assert sorted(_ids(database)) == sorted(wanted)
    assert len(wanted) == 320


def test_nothing_may_be_disclosed_when_the_trail_cannot_be_written(database: Database, trail: Trail) -> None:
    with database.write() as connection:
        connection.exec_driver_sql("ALTER TABLE audit_event RENAME TO away")
    with pytest.raises(Exception, match="audit_event"):
        trail.write(trail.action("read", REST_READ, WHO))
    with database.write() as connection:
        connection.exec_driver_sql("ALTER TABLE away RENAME TO audit_event")
    after = trail.action("read", REST_READ, WHO)
    trail.write(after)
    assert _ids(database) == [after.id]


def test_events_are_newest_first_and_can_be_narrowed(database: Database, trail: Trail) -> None:
    made = []
    for patient in ("p", "q", "p"):
        made.append(trail.action("read", REST_READ, WHO, patient_id=patient, outcome=REFUSED, outcome_desc="why"))
        trail.write(made[-1])
    with database.read() as connection:
        assert [event.id for event in events(connection, limit=10)] == [action.id for action in reversed(made)]
        assert [event.id for event in events(connection, EVENT.c.patient == "p", limit=1)] == [made[2].id]


def test_one_action_is_written_for_each_patient_with_nothing_else_changed(database: Database, trail: Trail) -> None:
    query = AuditedEntity(query=b'/studies?PatientName="\\*')
    action = trail.action("query", RAD_129, WHO, entities=(query,), request_id="r", token_id="t")
    trail.write(action, patients=["a", 'b"\\'])
    with database.read() as connection:
        found = {event.patient: event for event in events(connection, limit=10)}
    assert set(found) == {"a", 'b"\\'}
    for patient, event in found.items():
        assert orjson.loads(event.body) == audit_event(replace(action, id=event.id, patient_id=patient))
        made = uuid.UUID(event.id)
        assert (made.version, made.variant, made.int >> 80) == (7, uuid.RFC_4122, event.recorded // 1000)
    assert len({event.id for event in found.values()} | {action.id}) == 3


@pytest.mark.parametrize(("patients", "told"), [(["", "a", "b"], ["", "a", "b"]), (["", "a"], ["", "a"]), ([""], [""])])
def test_somebody_whom_nobody_knows_is_an_event_without_a_patient(
    database: Database, trail: Trail, patients: list[str], told: list[str]
) -> None:
    action = trail.action("query", RAD_129, WHO)
    trail.write(action, patients=patients)
    with database.read() as connection:
        found = list(events(connection, limit=10))
    assert sorted(event.patient for event in found) == told
    assert len({event.id for event in found}) == len(told)
    for event in found:
        assert orjson.loads(event.body) == audit_event(replace(action, id=event.id, patient_id=event.patient))


def test_an_action_without_patients_is_one_event(database: Database, trail: Trail) -> None:
    action = trail.action("query", RAD_129, WHO)
    trail.write(action, patients=[])
    trail.write(patients=["a"])
    assert _ids(database) == [action.id]


# --- one action on several patients

PEOPLE = tuple("abcdef")
WRITTEN = st.lists(
    st.tuples(st.lists(st.sampled_from(PEOPLE), unique=True), st.sampled_from(["0", REFUSED, FAILED])), min_size=1, max_size=6
)


def _written(trail: Trail, mix: list[tuple[list[str], str]]) -> list[tuple[AuditedAction, str]]:
    """Writes an action for each. Returns the events that are to be read, as action and patient."""
    wanted: list[tuple[AuditedAction, str]] = []
    for patients, outcome in mix:
        query = AuditedEntity(query=f"/studies?limit={len(wanted)}".encode())
        action = trail.action("query", RAD_129, WHO, entities=(query,), outcome=outcome, request_id="r")  # type: ignore[arg-type]
        trail.write(action, patients=patients)
        wanted += [(action, patient) for patient in patients or [""]]
    return wanted


def _all(database: Database, query: str = "", *, people: str | None = None, count: int = 2) -> list[Match]:
    """What a search of AuditEvents finds, page after page. The caller may see `people` only."""
    search = read(("AuditEvent",), [tuple(each.split("=")) for each in query.split("&") if each], base="", now=0)  # type: ignore[misc]
    found: list[Match] = []
    after, began, confined = None, 1 << 60, people is not None

    def may(_: str, row: ResourceRow) -> ColumnElement[bool]:
        return true() if people is None else whose(row).in_(tuple(people))

    with database.read() as connection:
        while True:
            page = fhir_search.page(
                connection, search, confined=confined, count=count, began=began, after=after, decision_where=may
            )  # fmt: skip
            found += page.matches
            if (after := page.next) is None:
                told = fhir_search.total(connection, search, confined=confined, began=began, decision_where=may)
                assert told == len(found)
                return found
            assert len(page.matches) == count


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
@given(WRITTEN, st.sampled_from(["", "a", "abc"]))
def test_what_is_read_is_one_event_for_each_patient(
    database: Database, trail: Trail, mix: list[tuple[list[str], str]], people: str
) -> None:
    with database.write() as connection:
        connection.execute(delete(EVENT))
        assert connection.execute(select(func.count()).select_from(PATIENT)).scalar_one() == 0  # they went with their events
    wanted = _written(trail, mix)
    with database.read() as connection:
        found = list(events(connection, limit=1000))
        assert total(connection) == len(found) == len(wanted)
        assert list(events(connection, limit=1000, wanted=Wanted(ids=(tuple(one.id for one in found),)))) == found
        for one in found:
            assert list(events(connection, limit=2, wanted=Wanted(ids=((one.id,),)))) == [one]
    places = [(one.recorded, one.pk, one.number) for one in found]
    assert places == sorted(places, reverse=True)
    assert len({one.id for one in found}) == len(found)
    actions = {(action.entities[0].query, patient): action for action, patient in wanted}
    for one in found:
        told = _asked(one)
        action = actions.pop((told, one.patient))
        assert orjson.loads(one.body) == audit_event(replace(action, id=one.id, patient_id=one.patient))
    assert not actions
    ids = [one.id for one in found]
    assert [match.id for match in _all(database)] == ids
    mine = [one.id for one in found if one.patient and one.patient in people]
    assert [match.id for match in _all(database, people=people)] == mine
    if people:
        named = f"patient={','.join((*people, 'z'))}&outcome={REFUSED}"
        refused = [one.id for one in found if one.patient in people and one.patient and _outcome(one) == REFUSED]
        assert [match.id for match in _all(database, named, count=1)] == refused
        assert [match.id for match in _all(database, f"{named}&_id={','.join(ids[::2])}")] == [
            id_ for id_ in refused if id_ in ids[::2]
        ]


def _asked(event: RecordedEvent) -> bytes:
    return base64.b64decode(orjson.loads(event.body)["entity"][0]["query"])


def _outcome(event: RecordedEvent) -> str:
    return str(orjson.loads(event.body)["outcome"])


def test_ids_of_other_patients_cannot_be_told_from_ones_own(database: Database, trail: Trail) -> None:
    trail.write(trail.action("query", RAD_129, WHO), patients=PEOPLE)
    with database.read() as connection:
        first = next(events(connection, limit=1))
        row = connection.execute(select(EVENT.c.id)).scalar_one()
        last = int(first.id[-8:], 16)
        beside = [f"{first.id[:-8]}{(last + step) % (1 << 32):08x}" for step in (-2, -1, 1, 2)]
        for nothing in (row, *beside, first.id.upper(), "nothing", ""):
            assert list(events(connection, limit=9, wanted=Wanted(ids=((nothing,),)))) == [], nothing


def test_a_search_of_many_patients_is_one_row_of_json(database: Database, trail: Trail) -> None:
    people = [str(number) for number in range(700)]
    trail.write(trail.action("query", RAD_129, WHO), patients=people)
    trail.write(trail.action("query", RAD_129, WHO), patients=people[:2])
    assert len(_ids(database)) == 2
    with database.read() as connection:
        assert {event.patient for event in events(connection, limit=1000)} == set(people)
        assert total(connection, wanted=replace(EVERYTHING, patients=lambda column: [column == "1"], few=True)) == 2


def test_what_a_patient_had_alone_is_the_same_after_a_downgrade(database: Database, trail: Trail) -> None:
    _written(trail, [(["a"], "0"), (["b", 'c"\\'], "0"), ([], "8"), (["a", "c"], "4")])
    with database.read() as connection:
        before = {event.id: event.body for event in events(connection, limit=100)}
    with database.write() as connection:
        config = configuration()
        config.attributes["connection"] = connection
        command.downgrade(config, "0006")
    with database.read() as connection:
        after = {row.id: unpacked(bytes(row.body)) for row in connection.execute(select(EVENT.c.id, EVENT.c.body))}
    assert after == before
    migrate(database)
    with database.read() as connection:
        assert {event.id: event.body for event in events(connection, limit=100)} == before


def test_the_trail_goes_on_after_a_failed_write(database: Database, trail: Trail) -> None:
    """Its connection is kept: what failed on it must not stay open."""
    action = trail.action("query", RAD_129, WHO)
    trail.write(action, patients=["a", "b"])
    with pytest.raises(Exception, match=r"(?i)unique"):
        trail.write(action, patients=["a", "b"])
    trail.write(trail.action("query", RAD_129, WHO), patients=["a", "b"])
    assert len(_ids(database)) == 2

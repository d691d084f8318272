"""The audit trail: durable before `write` returns, one row each, and never silently lost."""

import uuid
from collections.abc import Iterator
from dataclasses import replace

import orjson
import pytest
from peers.together import together
from sqlalchemy import select

from profiles.audit_event import ITI_18, RAD_129, REFUSED, REST_READ, Agent, AuditedEntity, audit_event
from server.records.trail import EVENT, Trail, events
from server.store.db import Database
from server.store.migrations import migrate

WHO = Agent(identifier="app", address="127.0.0.1")


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    opened = Database(database_url)
    migrate(opened)
    yield opened
    opened.close()


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


def test_an_action_without_patients_is_one_event(database: Database, trail: Trail) -> None:
    action = trail.action("query", RAD_129, WHO)
    trail.write(action, patients=[])
    trail.write(patients=["a"])
    assert _ids(database) == [action.id]

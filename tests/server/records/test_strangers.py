"""Refusals of strangers: one event an address, reason and minute, with a count; a bounded memory; nothing when the disk is nearly full."""

from pathlib import Path

import orjson
import pytest

from profiles.audit_event import RAD_129, REFUSED, Agent, AuditedAction, AuditedEntity
from server.records import strangers
from server.records.strangers import Strangers
from server.records.trail import Trail, events
from server.store.db import Database
from server.store.room import Room


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1000.0]
    monkeypatch.setattr("server.records.strangers.time.monotonic", lambda: now[0])
    return now


@pytest.fixture
def trail(database: Database) -> Trail:
    return Trail(database, Agent(identifier="urn:oid:1.2.3"))


def refusal(trail: Trail, address: str = "10.0.0.1", reason: str = "a token is needed", query: bytes = b"") -> AuditedAction:
    client = Agent(identifier="anonymous", address=address)
    entities = (AuditedEntity(query=query),) if query else ()
    return trail.action("query", RAD_129, client, outcome=REFUSED, outcome_desc=reason, entities=entities)


def told(database: Database) -> list[str]:
    with database.read() as connection:
        return sorted(orjson.loads(event.body)["outcomeDesc"] for event in events(connection, limit=10_000))


def test_a_flood_is_one_event_a_minute_with_its_count(
    database: Database, trail: Trail, tmp_path: Path, clock: list[float]
) -> None:
    made = Strangers(trail, Room(tmp_path), 0)
    for _ in range(50):
        made.refused(refusal(trail))
    made.refused(refusal(trail, reason="another"))
    made.refused(refusal(trail, address="10.0.0.2"))
    assert told(database) == ["a token is needed", "a token is needed", "another"]
    clock[0] += 61
    made.refused(refusal(trail))
    assert told(database)[2:] == ["a token is needed (refused 49 more times)", "another"]
    made.flush()
    assert told(database)[2:4] == ["a token is needed (refused 1 more times)", "a token is needed (refused 49 more times)"]
    made.flush()
    assert len(told(database)) == 5


def test_many_addresses_take_neither_memory_nor_disk(
    database: Database, trail: Trail, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clock: list[float]
) -> None:
    monkeypatch.setattr(strangers, "MOST", 5)
    made = Strangers(trail, Room(tmp_path), 0)
    for number in range(100):
        made.refused(refusal(trail, address=f"10.0.0.{number}"))
    assert len(told(database)) == 6
    made.flush()
    assert told(database)[-1] == "a token is needed (refused 94 more times, from several addresses)"
    clock[0] += 61
    made.refused(refusal(trail))
    assert len(made._counted) == 1


def test_without_room_there_is_only_the_log(database: Database, trail: Trail, tmp_path: Path) -> None:
    Strangers(trail, Room(tmp_path), 1 << 60).refused(refusal(trail))
    assert told(database) == []


def test_of_a_query_its_beginning_is_kept(database: Database, trail: Trail, tmp_path: Path) -> None:
    Strangers(trail, Room(tmp_path), 0).refused(refusal(trail, query=b"x" * 60_000))
    with database.read() as connection:
        (event,) = events(connection, limit=2)
    assert len(event.body) < 4000

"""Who asks again and again what changed loses nothing, however long others write."""

import time

import pytest
from sqlalchemy import true

from server.records import history, resources
from server.store.db import Database, micros


@pytest.fixture
def own_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server and its database are on one machine here."""
    monkeypatch.setattr(history.settled, "__kwdefaults__", {"clocks": 0})


def _poll(database: Database, since: int) -> tuple[set[str], int]:
    """What came since then, and the moment to ask from the next time."""
    with database.read() as connection:
        settled = resources.settled(connection)
    with database.read() as connection:
        page = resources.history(connection, since=since // 1000 * 1000, allowed=lambda *_: true(), count=100)
    return {each.id for each in page.entries}, settled


def _put(database: Database, *ids: str) -> None:
    with database.write() as connection:
        for each in ids:
            resources.put(connection, {"resourceType": "Practitioner", "id": each})


@pytest.mark.usefixtures("own_clock")
def test_what_was_being_written_while_somebody_asked_is_told_the_next_time(database: Database) -> None:
    _put(database, "first")
    found, since = _poll(database, 0)
    assert found == {"first"}
    with database.write() as slow:
        resources.put(slow, {"resourceType": "Practitioner", "id": "slow"})
        if not database.is_sqlite:  # which has one writer
            _put(database, "fast")
        time.sleep(0.01)
        found, since = _poll(database, since)
        assert "slow" not in found
        found, since = _poll(database, since)
    assert "slow" in _poll(database, since)[0]


@pytest.mark.usefixtures("own_clock")
def test_who_asks_again_is_not_told_everything_again(database: Database) -> None:
    _put(database, "first")
    time.sleep(0.01)
    _put(database, "second")
    _, since = _poll(database, 0)
    _put(database, "third")
    found, _ = _poll(database, since)
    assert "third" in found
    assert "first" not in found


def test_of_nothing(database: Database) -> None:
    assert _poll(database, 0)[1] <= micros()


def test_no_version_is_stamped_ahead_of_the_clock(database: Database) -> None:
    with database.write() as connection:
        before = 0
        for number in range(20):
            stored = resources.put(connection, {"resourceType": "Patient", "id": "p", "active": number % 2 == 0})
            assert before + 1000 <= stored.updated <= micros()
            before = stored.updated
        assert before + 1000 <= resources.delete(connection, "Patient", "p").updated <= micros()

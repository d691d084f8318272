"""Counters that several threads and processes share."""

from pathlib import Path

import pytest
from peers.people import Town, town
from peers.together import together
from sqlalchemy import event, select

from server.access.people import throttles
from server.access.people.throttles import THROTTLE, Throttles, network, rate
from server.store.db import micros

TEN = rate(10, 60, "test")


def test_of_fifty_at_once_ten_are_let_through_by_two_processes(tmp_path: Path, database_url: str) -> None:
    with town(tmp_path, database_url) as one, town(tmp_path, database_url) as other:
        through: list[bool] = []

        def of(lively: Town) -> None:
            through.append(lively.people.throttles.take(TEN, "somebody"))

        assert together(*[lambda: of(one), lambda: of(other)] * 25) == []
        assert through.count(True) == 10
        assert one.people.throttles.is_spent(TEN, "somebody")
        assert not one.people.throttles.is_spent(TEN, "somebody else")
        assert other.people.throttles.take(TEN, "somebody else")


def test_a_window_ends_and_another_begins(lively: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    counted = lively.people.throttles
    assert [counted.take(TEN, "x") for _ in range(11)] == [True] * 10 + [False]
    assert 1 <= counted.wait(TEN, "x") <= 61
    over = micros() + 61_000_000
    monkeypatch.setattr(throttles, "micros", lambda: over)
    assert [counted.take(TEN, "x") for _ in range(11)] == [True] * 10 + [False]


def test_what_is_given_back_or_cleared_does_not_count(lively: Town) -> None:
    counted = lively.people.throttles
    for _ in range(30):
        assert counted.take(TEN, "x")
        counted.give_back(TEN, "x")
    counted.give_back(TEN, "y")
    assert [counted.take(TEN, "y") for _ in range(11)] == [True] * 10 + [False], "it is never below none"
    counted.clear(TEN, "y")
    assert counted.take(TEN, "y")


def test_who_is_beyond_the_rate_writes_nothing(lively: Town) -> None:
    """Or a flood that is refused would take the disk, and on SQLite the turns of all who write."""
    counted, said = lively.people.throttles, list[str]()
    assert [counted.take(TEN, "x") for _ in range(10)] == [True] * 10
    event.listen(lively.database.engine, "before_cursor_execute", lambda *args: said.append(args[2]))
    assert not counted.take(TEN, "x")
    assert said
    assert all(each.startswith("SELECT") for each in said), said


def test_who_was_beyond_it_is_known_for_a_moment_without_the_database(lively: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    counted, now = lively.people.throttles, micros()
    monkeypatch.setattr(throttles, "micros", lambda: now)
    assert [counted.take(TEN, "x") for _ in range(10)] == [True] * 10
    assert counted.was_beyond(TEN, "x") == 0, "the ten were within it"
    assert not counted.take(TEN, "x")
    event.listen(lively.database.engine, "before_cursor_execute", lambda *_: pytest.fail("the database was asked"))
    assert 1 <= counted.was_beyond(TEN, "x") <= 61
    assert counted.was_beyond(TEN, "y") == 0
    now += 1_000_001
    assert counted.was_beyond(TEN, "x") == 0, "another process may have given one back"


def test_who_is_counted_is_not_stored(lively: Town) -> None:
    lively.people.throttles.take(TEN, "anna@example.org")
    with lively.database.read() as connection:
        (key,) = connection.execute(select(THROTTLE.c.key)).scalars()
    assert "anna" not in key
    assert Throttles(lively.database, b"another key").take(TEN, "anna@example.org")
    with lively.database.read() as connection:
        assert len(connection.execute(select(THROTTLE.c.key)).all()) == 2, "nor to be found out by who has the table alone"


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("192.0.2.1", "::ffff:192.0.2.1", True), ("192.0.2.1", "192.0.2.2", False), ("2001:db8::1", "2001:db8::ffff", True),
        ("2001:db8::1", "2001:db8:0:1::1", False), ("fe80::1%eth0", "fe80::2", True), ("", "", True), ("testclient", "192.0.2.1", False),
    ],
)  # fmt: skip
def test_networks(one: str, other: str, same: bool) -> None:
    assert (network(one) == network(other)) is same

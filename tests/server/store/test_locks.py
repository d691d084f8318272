"""Locks by name: who comes second waits, and however many one wants, PostgreSQL has room for them."""

import threading

import pytest

from server.errors import Busy
from server.store import locks
from server.store.db import Database

ON_BOTH_ENGINES = True


@pytest.mark.parametrize(("first", "second"), [(1, 1), (1, 1000), (1000, 1), (1000, 1000)])
def test_the_second_waits_for_the_first(database: Database, first: int, second: int) -> None:
    """Also where one of them locks the whole space."""
    happened: list[str] = []
    held = threading.Event()

    def late() -> None:
        assert held.wait(60)
        with database.write() as connection:
            locks.hold(connection, "x", (str(number) for number in range(second)))
            happened.append("second")

    waiting = threading.Thread(target=late)
    waiting.start()
    with database.write() as connection:
        locks.hold(connection, "x", (str(number) for number in range(first)))
        held.set()
        if connection.dialect.name == "postgresql":  # until it waits
            while not connection.exec_driver_sql(
                "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
            ).scalar():
                pass
        happened.append("first")
    waiting.join()
    assert happened == ["first", "second"]


def test_a_few_names_do_not_wait_for_others_nor_for_another_space(postgresql_database: str) -> None:
    database = Database(postgresql_database)
    with database.write() as one, database.write() as other:
        locks.hold(one, "x", ["a", "b"])
        locks.hold(other, "x", ["c"])
        locks.hold(other, "y", (str(number) for number in range(1000)))
    database.close()


def test_many_names_are_few_locks(postgresql_database: str) -> None:
    database = Database(postgresql_database)
    with database.write() as connection:
        locks.hold(connection, "x", (str(number) for number in range(100_000)))
        assert connection.exec_driver_sql("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'").scalar() == 1
    database.close()


def test_a_full_table_of_locks_is_busy(postgresql_database: str) -> None:
    """It is full of what others hold: to try again helps."""
    database = Database(postgresql_database)
    with pytest.raises(Busy), database.write() as connection:
        connection.exec_driver_sql("SELECT pg_advisory_xact_lock(each) FROM generate_series(1, 10000000) AS each")
    database.close()

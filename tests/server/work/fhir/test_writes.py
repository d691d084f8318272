"""Writes of many threads: each all or nothing by itself, durable when it returns, whoever it shares a commit with."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager

import pytest
from sqlalchemy import Connection, text

from server.errors import Conflict, NotFound
from server.store.db import Database
from server.work.fhir.writes import Writes


def opened(url: str) -> Database:
    database = Database(url)
    with database.write() as connection:
        connection.execute(text("CREATE TABLE each_one (number BIGINT PRIMARY KEY, of_whom TEXT NOT NULL)"))
    return database


def adding(number: int, whom: str = "x") -> Callable[[Connection], int]:
    def work(connection: Connection) -> int:
        connection.execute(text("INSERT INTO each_one VALUES (:number, :whom)"), {"number": number, "whom": whom})
        return number

    return work


def failing(number: int) -> Callable[[Connection], int]:
    def work(connection: Connection) -> int:
        adding(number)(connection)
        raise NotFound("no")

    return work


def numbers(database: Database) -> list[int]:
    with database.read() as connection:
        return list(connection.execute(text("SELECT number FROM each_one ORDER BY number")).scalars())


def test_what_fails_takes_back_only_itself(databases: Callable[[], AbstractContextManager[str]]) -> None:
    with databases() as url:
        database = opened(url)
        writes = Writes(database)
        with ThreadPoolExecutor(20) as pool:
            good = [pool.submit(writes.run, adding(number)) for number in range(0, 40, 2)]
            bad = [pool.submit(writes.run, failing(number)) for number in range(1, 40, 2)]
        assert [each.result() for each in good] == list(range(0, 40, 2))
        assert {type(each.exception()) for each in bad} == {NotFound}
        assert numbers(database) == list(range(0, 40, 2))
        database.close()


def test_what_a_constraint_refuses_is_a_conflict(databases: Callable[[], AbstractContextManager[str]]) -> None:
    with databases() as url:
        database = opened(url)
        writes = Writes(database)
        writes.run(adding(1))
        for write in (writes.run, writes.alone):
            with pytest.raises(Conflict):
                write(adding(1))
        assert writes.run(adding(2)) == 2
        assert numbers(database) == [1, 2]
        database.close()


def test_a_deadlock_is_tried_again(postgresql_database: str) -> None:
    """Two that lock the same rows in opposite orders: PostgreSQL ends one of them, and it is not told."""
    database = opened(postgresql_database)
    writes = Writes(database)
    for number in (1, 2):
        writes.run(adding(number))
    both = threading.Barrier(2)
    first_time = threading.local()

    def crossing(*order: int) -> Callable[[Connection], int]:
        def work(connection: Connection) -> int:
            for place, number in enumerate(order):
                connection.execute(
                    text("UPDATE each_one SET of_whom = of_whom || 'y' WHERE number = :number"), {"number": number}
                )
                if place == 0 and not getattr(first_time, "over", False):
                    first_time.over = True
                    both.wait(30)
            return order[0]

        return work

    with ThreadPoolExecutor(2) as pool:
        found = [pool.submit(writes.run, crossing(*order)) for order in ((1, 2), (2, 1))]
    assert [each.result() for each in found] == [1, 2]
    with database.read() as connection:
        assert set(connection.execute(text("SELECT of_whom FROM each_one")).scalars()) == {"xyy"}
    database.close()

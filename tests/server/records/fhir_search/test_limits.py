"""One limit for all that a request asks: what is within another limit has no more than is left of that."""

import time

import pytest
from sqlalchemy import Connection, text

from server.errors import Busy, NotSupported
from server.records.fhir_search import TooCostly, limits
from server.records.fhir_search.limits import check, limited
from server.records.fhir_search.matches import Overtaken
from server.store.db import Database

ON_BOTH_ENGINES = True
ENDLESS = {
    "sqlite": "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n",
    "postgresql": "SELECT pg_sleep(60)",
}


def slowly(connection: Connection) -> None:
    connection.execute(text(ENDLESS[connection.dialect.name]))


def test_the_limit_within_has_what_is_left_of_the_outer_one(module_database: Database) -> None:
    with pytest.raises(TooCostly), module_database.read() as connection, limited(connection, 0.1), limited(connection, 3600):
        slowly(connection)


def test_an_inner_limit_that_is_kept_leaves_the_outer_one_in_force(module_database: Database) -> None:
    with pytest.raises(TooCostly), module_database.read() as connection, limited(connection, 0.2):
        with limited(connection, 0.1):
            connection.execute(text("SELECT 1"))
        slowly(connection)


def test_many_short_statements_share_it(module_database: Database) -> None:
    """PostgreSQL's own limit is of each statement."""
    short = {"sqlite": "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100000) SELECT max(i) FROM n"}
    with pytest.raises(TooCostly), module_database.read() as connection, limited(connection, 0.2):
        while True:
            connection.execute(text(short.get(connection.dialect.name, "SELECT pg_sleep(0.01)")))


def test_what_follows_in_the_transaction_has_no_limit(module_database: Database) -> None:
    """Neither after what went well nor after a refusal that the transaction lives on with."""
    with module_database.write() as connection:
        with limited(connection, 0.05):
            connection.execute(text("SELECT 1"))
        with pytest.raises(NotSupported), limited(connection, 0.05):
            connection.execute(text("SELECT 1"))
            raise NotSupported("not offered")
        time.sleep(0.1)
        if connection.dialect.name == "postgresql":
            assert connection.execute(text("SHOW statement_timeout")).scalar() == "0"
            connection.execute(text("SELECT pg_sleep(0.1)"))
        else:
            connection.execute(
                text("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000000) SELECT max(i) FROM n")
            )


def test_after_a_refusal_behind_a_savepoint_the_transaction_goes_on(module_database: Database) -> None:
    with module_database.write() as connection:
        with pytest.raises(TooCostly), connection.begin_nested(), limited(connection, 3600), limited(connection, 0.05):
            slowly(connection)
        if connection.dialect.name == "postgresql":
            assert connection.execute(text("SHOW statement_timeout")).scalar() == "0"
        assert connection.execute(text("SELECT 1")).scalar() == 1


def test_work_between_statements_is_limited_too(module_database: Database) -> None:
    with module_database.read() as connection:
        check(connection)  # without a limit it has no end
        with limited(connection, 60):
            check(connection)
            with pytest.raises(TooCostly), limited(connection, 0.01):
                while True:
                    check(connection)
            check(connection)


def test_what_is_slow_on_a_busy_machine_is_not_refused(module_database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """The usual limit is of work: by the clock it has patience."""
    monkeypatch.setattr(limits, "SECONDS", 1.0)
    with module_database.read() as connection, limited(connection):
        if connection.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_sleep(1.2)"))
        else:
            time.sleep(1.2)
        check(connection)
        assert connection.execute(text("SELECT 1")).scalar() == 1


def test_what_the_clock_ends_before_the_work_is_done_may_be_tried_again(module_database: Database) -> None:
    """On SQLite, where work is told apart from waiting; PostgreSQL has the clock alone, and says that it takes too long."""
    with pytest.raises(TooCostly) as told, module_database.read() as connection, limited(connection, 0.05):
        time.sleep(0.3)
        check(connection)
    is_sqlite = module_database.is_sqlite
    assert isinstance(told.value, Busy) == isinstance(told.value, Overtaken) == is_sqlite
    assert (told.value.http_status, told.value.fhir_code) == ((503, "throttled") if is_sqlite else (400, "too-costly"))

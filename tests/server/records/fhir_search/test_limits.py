"""One limit for all that a request asks: what is within another limit has no more than is left of that."""

import time
from collections.abc import Iterator

import pytest
from sqlalchemy import Connection, text

from server.errors import NotSupported
from server.records.fhir_search import TooCostly
from server.records.fhir_search.limits import check, limited
from server.store.db import Database
from server.store.migrations import migrate

ON_BOTH_ENGINES = True
ENDLESS = {
    "sqlite": "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n",
    "postgresql": "SELECT pg_sleep(60)",
}


@pytest.fixture(scope="module")
def database(module_database_url: str) -> Iterator[Database]:
    opened = Database(module_database_url, durable=False)
    migrate(opened)
    yield opened
    opened.close()


def slowly(connection: Connection) -> None:
    connection.execute(text(ENDLESS[connection.dialect.name]))


def test_the_limit_within_has_what_is_left_of_the_outer_one(database: Database) -> None:
    with pytest.raises(TooCostly), database.read() as connection, limited(connection, 0.1), limited(connection, 3600):
        slowly(connection)


def test_an_inner_limit_that_is_kept_leaves_the_outer_one_in_force(database: Database) -> None:
    with pytest.raises(TooCostly), database.read() as connection, limited(connection, 0.2):
        with limited(connection, 0.1):
            connection.execute(text("SELECT 1"))
        slowly(connection)


def test_many_short_statements_share_it(database: Database) -> None:
    """PostgreSQL's own limit is of each statement."""
    short = {"sqlite": "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100000) SELECT max(i) FROM n"}
    with pytest.raises(TooCostly), database.read() as connection, limited(connection, 0.2):
        while True:
            connection.execute(text(short.get(connection.dialect.name, "SELECT pg_sleep(0.01)")))


def test_what_follows_in_the_transaction_has_no_limit(database: Database) -> None:
    """Neither after what went well nor after a refusal that the transaction lives on with."""
    with database.write() as connection:
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


def test_after_a_refusal_behind_a_savepoint_the_transaction_goes_on(database: Database) -> None:
    with database.write() as connection:
        with pytest.raises(TooCostly), connection.begin_nested(), limited(connection, 3600), limited(connection, 0.05):
            slowly(connection)
        if connection.dialect.name == "postgresql":
            assert connection.execute(text("SHOW statement_timeout")).scalar() == "0"
        assert connection.execute(text("SELECT 1")).scalar() == 1


def test_work_between_statements_is_limited_too(database: Database) -> None:
    with database.read() as connection:
        check(connection)  # without a limit it has no end
        with limited(connection, 60):
            check(connection)
            with pytest.raises(TooCostly), limited(connection, 0.01):
                while True:
                    check(connection)
            check(connection)

"""The databases that tests run on are there, empty, and keep what is written."""

from pathlib import Path

import pytest
import sqlalchemy
from peers import imageshare
from sqlalchemy import Column, Integer, MetaData, String, Table

from server.store.db import Database
from server.store.migrations import require_current


def _studies() -> Table:
    return Table("studies", MetaData(), Column("pk", Integer, primary_key=True), Column("description", String, nullable=False))


def test_round_trip(bare_database_url: str) -> None:
    """A row written through one engine is read through another."""
    studies = _studies()
    writer = sqlalchemy.create_engine(bare_database_url)
    studies.metadata.create_all(writer)
    with writer.begin() as connection:
        connection.execute(studies.insert(), {"description": "Schädel, 頭部"})
    writer.dispose()

    reader = sqlalchemy.create_engine(bare_database_url)
    with reader.connect() as connection:
        assert connection.execute(sqlalchemy.select(studies)).all() == [(1, "Schädel, 頭部")]
    reader.dispose()


def test_each_test_begins_empty(bare_database_url: str) -> None:
    """What the test above has written is not here."""
    engine = sqlalchemy.create_engine(bare_database_url)
    assert sqlalchemy.inspect(engine).get_table_names() == []
    engine.dispose()


def test_each_test_begins_with_our_tables_where_it_does_not_ask_for_none(database_url: str) -> None:
    database = Database(database_url)
    require_current(database)
    with database.read() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM installation").scalar_one() == 0
    database.close()


def test_connection_left_open(bare_database_url: str) -> None:
    """A test that forgets a connection does not keep its database from being dropped."""
    engine = sqlalchemy.create_engine(bare_database_url)
    connection = engine.connect()
    assert connection.execute(sqlalchemy.text("SELECT 1")).scalar() == 1
    connection.detach()
    engine.dispose()
    connection.close()


def test_unicode_and_order_are_the_bytes(database_url: str) -> None:
    """Text sorts by code point on both engines, so that keyset paging means the same on both."""
    engine = sqlalchemy.create_engine(database_url)
    rows = sqlalchemy.text(
        "SELECT v FROM (SELECT 'b' AS v UNION ALL SELECT 'B' UNION ALL SELECT 'a' UNION ALL SELECT 'é') t ORDER BY v"
    )
    with engine.connect() as connection:
        assert list(connection.execute(rows).scalars()) == ["B", "a", "b", "é"]
    engine.dispose()


ON_BOTH_ENGINES = True


def test_a_node_that_names_no_database_is_on_the_engine_of_the_test(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    with imageshare.node(tmp_path / "data") as opened:
        assert opened.database.is_sqlite == (request.node.callspec.params["engine"] == "sqlite")

"""What SQLite's planner is told names tables and indexes that there are, and makes it take the right ones."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Connection, inspect

from server.store.db import Database
from server.store.migrations import migrate
from server.store.sqlite_statistics import STATISTICS


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[Connection]:
    url = f"sqlite:///{tmp_path / 'x.sqlite'}"
    made = Database(url)
    migrate(made)
    made.close()
    database = Database(url)  # plans are made by what was there when a connection was opened
    with database.read() as connection:
        yield connection
    database.close()


def test_a_new_database_has_them(connection: Connection) -> None:
    found = connection.exec_driver_sql("SELECT tbl, idx, stat FROM sqlite_stat1").all()
    assert {table: {idx: stat for tbl, idx, stat in found if tbl == table} for table in STATISTICS} == STATISTICS


def test_they_name_what_is_there_with_a_number_for_each_column(connection: Connection) -> None:
    for table, indexes in STATISTICS.items():
        columns = {each["name"]: len(each["column_names"]) for each in inspect(connection).get_indexes(table)}
        columns[table] = columns[f"sqlite_autoindex_{table}_1"] = sum(
            1 for row in connection.exec_driver_sql(f"PRAGMA table_info({table})") if row[5]
        )
        if table == "resource":  # whose key is its row's number; this is of (type, id)
            columns["sqlite_autoindex_resource_1"] = 2
        assert {index: len(numbers.split()) - 1 for index, numbers in indexes.items()} == {
            index: columns[index] for index in indexes
        }


@pytest.mark.parametrize(
    ("statement", "plan"),
    [
        ("SELECT pk FROM resource WHERE type = 'Patient' AND deleted = 0 AND pk IN (1, 2, 3)", "INTEGER PRIMARY KEY"),
        ("SELECT pk FROM resource WHERE type = 'Patient' AND id IN ('a', 'b')", "sqlite_autoindex_resource_1"),
        (
            "SELECT pk FROM resource WHERE type = 'ImagingStudy' AND patient IN ('a', 'b', 'c') ORDER BY date DESC LIMIT 20",
            "ix_resource_patient",
        ),
        (
            "SELECT target_id FROM reference_value WHERE resource_pk IN (1, 2, 3) AND parameter = 7",
            "ix_reference_value_resource_pk",
        ),
        ("SELECT resource_pk FROM token WHERE hash = 7 ORDER BY date DESC LIMIT 20", "PRIMARY KEY (hash=?)"),
        (
            "SELECT 1 FROM token WHERE hash = 7 AND date = 5 AND resource_pk = 3 AND exact + 0 IN (9, -10)",
            "PRIMARY KEY (hash=? AND date=? AND resource_pk=?)",
        ),
    ],
)
def test_few_rows_are_looked_up_and_not_walked_to(connection: Connection, statement: str, plan: str) -> None:
    (found,) = [str(row[3]) for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}") if "SEARCH" in row[3]]
    assert plan in found

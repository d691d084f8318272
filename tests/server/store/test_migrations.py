"""The migrations lead to the schema that the tables describe, on both engines."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from peers.together import together

from server.errors import SettingsError
from server.store.db import Database, ping
from server.store.migrations import migrate, require_current
from server.store.tables import METADATA


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    opened = Database(database_url)
    yield opened
    opened.close()


def test_the_migrated_schema_is_that_of_the_tables(database: Database) -> None:
    migrate(database)
    with database.read() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, METADATA) == []


def test_a_database_that_is_not_there_is_refused_and_not_made(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/database")
    with pytest.raises(SettingsError, match="there is no imageshare database"):
        require_current(database)
    assert list(tmp_path.iterdir()) == []


def test_an_empty_database_is_refused_with_what_to_do(database: Database) -> None:
    ping(database)  # which makes SQLite's file
    with pytest.raises(SettingsError, match="imageshare migrate"):
        require_current(database)
    migrate(database)
    require_current(database)


def test_a_database_of_another_version_is_refused(database: Database) -> None:
    migrate(database)
    with database.write() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(SettingsError, match="9999"):
        require_current(database)


def test_migrating_twice_changes_nothing(database: Database) -> None:
    migrate(database)
    with database.write() as connection:
        connection.exec_driver_sql("INSERT INTO installation (key, value) VALUES ('kept', 'yes')")
    migrate(database)
    with database.read() as connection:
        assert connection.exec_driver_sql("SELECT value FROM installation").scalar() == "yes"


def test_processes_that_start_together_wait_for_each_other(database: Database) -> None:
    def start() -> None:
        own = Database(database.url.render_as_string(hide_password=False))
        try:
            migrate(own)
        finally:
            own.close()

    assert together(*[start] * 4) == []
    require_current(database)

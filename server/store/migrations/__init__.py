"""Schema migrations (Alembic), run from code: `migrate()` on start or by `imageshare migrate`."""

import contextlib
from collections.abc import Iterator
from functools import cache
from importlib.metadata import version
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text
from sqlalchemy.exc import DatabaseError

from server.errors import Busy, SettingsError, StorageFull, Unavailable
from server.store import sqlite_statistics
from server.store.db import Database

_LOCK = 0x1AA6E5  # any constant that this application alone uses for its advisory lock

_NOT_OURS = (
    "the database of IMAGESHARE_DATABASE_URL, or imageshare.db in the data folder, is not one of imageshare's, or is damaged"
)


def configuration() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    config.set_main_option("path_separator", "os")
    return config


@cache
def newest() -> str | None:
    """The revision that this code was written for."""
    return ScriptDirectory.from_config(configuration()).get_current_head()


def migrate(database: Database) -> None:
    """Brings the schema to the newest revision, in one transaction; processes that start together wait for each other.

    Raises `SettingsError` for a database that cannot be reached, is none, is damaged, or is of a newer version.
    """
    with _reached(), database.rebuild() as connection:
        if not database.is_sqlite:
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
        found = revision(connection)
        if found == newest():
            return
        if is_newer(found):
            raise SettingsError(too_new(found))
        config = configuration()
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
        if not database.is_sqlite:
            return
        # Only after a change: it reads every table, which a start has no time for.
        if connection.execute(text("PRAGMA foreign_key_check")).first() is not None:
            raise SettingsError("the database is damaged: rows refer to others that are not there; it stays as it was")
        sqlite_statistics.tell(connection)


def sqlite_file(database: Database) -> Path | None:
    """The file of an SQLite database, whether or not it is there; None for any other."""
    return Path(database.url.database) if database.is_sqlite and database.url.database else None


def require_current(database: Database) -> None:
    """Raises `SettingsError` unless the database is there and its schema at the revision that this code was written for."""
    file = sqlite_file(database)
    if file is not None and not file.exists():  # SQLite would make an empty one
        raise SettingsError(
            f"there is no imageshare database at {file}; start `imageshare serve`, or name the data folder with --data"
        )
    with _reached(), database.read() as connection:
        found = revision(connection)
    if is_newer(found):
        raise SettingsError(too_new(found))
    if found != newest():
        raise SettingsError(
            f"the database schema is at revision {found or 'none'}, this version needs {newest()}: run `imageshare migrate`"
        )


def is_newer(found: str | None) -> bool:
    """Whether a database is of a revision that this code does not know, because a newer version of it has made that."""
    return found is not None and found not in {
        each.revision for each in ScriptDirectory.from_config(configuration()).walk_revisions()
    }


def too_new(found: str | None) -> str:
    """What to do about it: no version of the code goes back on a schema that it does not know."""
    return (
        f"the database schema is at revision {found}, of a newer version of imageshare; this one is {version('imageshare')} and knows "
        f"{newest()} at most: install that newer version again, or restore the backup from before it was installed"
    )


def revision(connection: Connection) -> str | None:
    """The revision that a database is at; None for an empty one."""
    return MigrationContext.configure(connection).get_current_revision()


@contextlib.contextmanager
def _reached() -> Iterator[None]:
    """What keeps a process from starting is told as a `SettingsError`; a full or busy database as what it is."""
    try:
        yield
    except (StorageFull, Busy):
        raise
    except Unavailable:
        raise SettingsError("the database cannot be reached or written; `imageshare doctor` shows which it is") from None
    except DatabaseError:
        raise SettingsError(_NOT_OURS) from None

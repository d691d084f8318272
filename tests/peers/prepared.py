"""Databases with our tables in them already. To migrate one takes longer than most tests; a copy of one that was takes little.

The migrations themselves are tested from an empty database on, in tests/server/store/test_migrations.py and wherever a real server
starts in an empty folder.
"""

import atexit
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from itertools import count
from pathlib import Path

import sqlalchemy
from sqlalchemy.engine import make_url

from server.store.db import Database
from server.store.migrations import migrate

_numbers = count(1)


def sqlite(file: Path) -> str:
    """The URL of a new SQLite database at `file`, migrated."""
    file.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(_sqlite_file(), file)
    return f"sqlite:///{file}"


@cache
def _sqlite_file() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="imageshare-prepared-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    migrated(f"sqlite:///{folder / 'prepared.db'}")
    return folder / "prepared.db"


@contextmanager
def postgresql(server_url: str, *, empty: bool = False) -> Iterator[str]:
    """The URL of a new database of this server, migrated unless it shall be `empty`; dropped afterwards, whoever is still connected."""
    name = f"test_{next(_numbers)}"
    url = _create(server_url, name, None if empty else _template(server_url))
    try:
        yield url
    finally:
        _administer(server_url, f"DROP DATABASE {name} WITH (FORCE)")


@cache
def _template(server_url: str) -> str:
    migrated(_create(server_url, "prepared", None))
    return "prepared"


def _create(server_url: str, name: str, template: str | None) -> str:
    server = make_url(server_url)
    _administer(server_url, f"CREATE DATABASE {name}" + (f" TEMPLATE {template}" if template else ""))
    return server.set(database=name).render_as_string(hide_password=False)


def _administer(server_url: str, statement: str) -> None:
    server = _server(server_url)
    with server.connect() as connection:
        # Copying files is quicker than the default (through the write-ahead log); older servers know only the first.
        copying = statement.startswith("CREATE") and (server.dialect.server_version_info or ()) >= (15,)
        connection.execute(sqlalchemy.text(f"{statement} STRATEGY file_copy" if copying else statement))


@cache
def _server(server_url: str) -> sqlalchemy.Engine:
    return sqlalchemy.create_engine(server_url, isolation_level="AUTOCOMMIT", poolclass=sqlalchemy.NullPool)


def migrated(url: str) -> None:
    """Brings that database to the newest revision, if it is not there."""
    database = Database(url)
    try:
        migrate(database)
    finally:
        database.close()

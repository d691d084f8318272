"""How long a search may take: what asks for too much is refused, whatever it looks like."""

import contextlib
import sqlite3
import time
from collections.abc import Iterator
from typing import Final

from sqlalchemy import Connection, text
from sqlalchemy.exc import OperationalError

from server.records.fhir_search.matches import TooCostly

SECONDS: Final = 5.0
_STEPS: Final = 50_000
"""Of SQLite's virtual machine, about a millisecond: how often it is asked whether to go on."""
_CANCELED: Final = "57014"
"""PostgreSQL, appendix A: query canceled."""


@contextlib.contextmanager
def limited(connection: Connection, seconds: float = SECONDS) -> Iterator[None]:
    """Statements within it end after `seconds` in all (PostgreSQL: each). Raises `TooCostly`."""
    try:
        with _on_sqlite(connection, seconds) if connection.dialect.name == "sqlite" else _on_postgresql(connection, seconds):
            yield
    except OperationalError as error:
        interrupted = getattr(error.orig, "sqlite_errorcode", None) == sqlite3.SQLITE_INTERRUPT
        if interrupted or getattr(error.orig, "sqlstate", None) == _CANCELED:
            raise TooCostly(
                "the search takes too long; ask for fewer values, or name what few resources have, such as a patient"
            ) from error
        raise


@contextlib.contextmanager
def _on_sqlite(connection: Connection, seconds: float) -> Iterator[None]:
    driver: sqlite3.Connection = connection.connection.dbapi_connection  # type: ignore[assignment]
    end = time.monotonic() + seconds
    driver.set_progress_handler(lambda: int(time.monotonic() > end), _STEPS)
    try:
        yield
    finally:
        driver.set_progress_handler(None, 0)


@contextlib.contextmanager
def _on_postgresql(connection: Connection, seconds: float) -> Iterator[None]:
    connection.execute(text(f"SET LOCAL statement_timeout = {int(seconds * 1000)}"))
    yield
    connection.execute(text("SET LOCAL statement_timeout TO DEFAULT"))

"""How long a search may take: what asks for too much is refused, whatever it looks like."""

import contextlib
import math
import sqlite3
import time
from collections.abc import Callable, Iterator
from typing import Any, Final

from sqlalchemy import Connection, event
from sqlalchemy.exc import OperationalError

from server.records.fhir_search.matches import TooCostly

SECONDS = 2.0
"""For everything that one request reads: its page, its total, what is included."""
_STEPS: Final = 50_000
"""Of SQLite's virtual machine, about a millisecond: how often it is asked whether to go on."""
_CANCELED: Final = "57014"
"""PostgreSQL, appendix A: query canceled."""
_END: Final = "imageshare.limited.end"
"""In `Connection.info`: when the limit that holds now ends, by the monotonic clock."""
_RENEWED: Final = 0.05
"""Seconds after which PostgreSQL is told anew how long a statement may take: not before each of many short ones."""


@contextlib.contextmanager
def limited(connection: Connection, seconds: float | None = None) -> Iterator[None]:
    """Statements within it end after `seconds` (`SECONDS`, if not given) in all; one limit within another shares what is left of it. Raises `TooCostly`."""
    outer: float = connection.info.get(_END, math.inf)
    end = min(time.monotonic() + (SECONDS if seconds is None else seconds), outer)
    connection.info[_END] = end
    limit = _on_sqlite if connection.dialect.name == "sqlite" else _on_postgresql
    try:
        with limit(connection, end, outer):
            yield
    except (OperationalError, sqlite3.OperationalError) as error:
        cause = error.orig if isinstance(error, OperationalError) else error
        interrupted = getattr(cause, "sqlite_errorcode", None) == sqlite3.SQLITE_INTERRUPT
        if interrupted or getattr(cause, "sqlstate", None) == _CANCELED:
            raise _too_long() from error
        raise
    finally:
        if outer == math.inf:
            connection.info.pop(_END, None)
        else:
            connection.info[_END] = outer


def _too_long() -> TooCostly:
    return TooCostly("the search takes too long; ask for fewer values, or name what few resources have, such as a patient")


@contextlib.contextmanager
def _on_sqlite(connection: Connection, end: float, outer: float) -> Iterator[None]:
    driver: sqlite3.Connection = connection.connection.dbapi_connection  # type: ignore[assignment]
    driver.set_progress_handler(_over(end), _STEPS)
    try:
        yield
    finally:
        if outer == math.inf:
            driver.set_progress_handler(None, 0)
        else:
            driver.set_progress_handler(_over(outer), _STEPS)


def _over(end: float) -> Callable[[], int]:
    return lambda: int(time.monotonic() > end)


@contextlib.contextmanager
def _on_postgresql(connection: Connection, end: float, outer: float) -> Iterator[None]:
    """It has a limit for each statement only: so that all together end in time, each is given what is left."""
    told = math.inf

    def tell(_: Connection, cursor: Any, *__: Any) -> None:
        nonlocal told
        left = end - time.monotonic()
        if left <= 0:
            raise _too_long()
        if told - left > _RENEWED:
            told = left
            cursor.execute(f"SET LOCAL statement_timeout = {max(1, int(left * 1000))}")

    event.listen(connection, "before_cursor_execute", tell)
    try:
        yield
    finally:
        event.remove(connection, "before_cursor_execute", tell)
        driver: Any = connection.connection.dbapi_connection
        if driver.info.transaction_status.name == "INTRANS":  # else it failed, and its end takes the setting back
            left = "DEFAULT" if outer == math.inf else max(1, int((outer - time.monotonic()) * 1000))
            connection.exec_driver_sql(f"SET LOCAL statement_timeout TO {left}")

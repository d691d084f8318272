"""How long a search may take: what asks for too much is refused, whatever it looks like."""

import contextlib
import math
import sqlite3
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, event
from sqlalchemy.exc import OperationalError

from server.records.fhir_search.matches import Overtaken, TooCostly

SECONDS = 2.0
"""Of work, for everything that one request reads: its page, its total, what is included."""
_STEPS: Final = 50_000
"""Of SQLite's virtual machine, about a millisecond: how often it is asked whether to go on."""
_CANCELED: Final = "57014"
"""PostgreSQL, appendix A: query canceled."""
_END: Final = "imageshare.limited.end"
"""In `Connection.info`: when the limit that holds now ends."""
_PATIENCE: Final = 5
"""Times that, by the clock: of a busy machine nobody shall ask for less than of one at rest."""
_RENEWED: Final = 0.05
"""Seconds after which PostgreSQL is told anew how long a statement may take: not before each of many short ones."""


@dataclass(frozen=True, slots=True)
class _End:
    """When a limit is over: by the CPU time of the thread, which SQLite works in, and by the clock."""

    work: float
    clock: float

    def earlier(self, other: "_End | None") -> "_End":
        return self if other is None else _End(min(self.work, other.work), min(self.clock, other.clock))

    def is_before(self, other: "_End") -> bool:
        return self.work <= other.work and self.clock <= other.clock

    @property
    def is_over(self) -> bool:
        return time.thread_time() > self.work or time.monotonic() > self.clock

    def error(self, connection: Connection) -> TooCostly:
        """What to say when it is over: only where SQLite has not worked that long, it is known that the machine was busy with something else."""
        if connection.dialect.name == "sqlite" and time.thread_time() <= self.work:
            return Overtaken("the server was too busy for the search; try again")
        return TooCostly("the search takes too long; ask for fewer values, or name what few resources have, such as a patient")


@contextlib.contextmanager
def limited(connection: Connection, seconds: float = SECONDS, *, awaited: bool = False) -> Iterator[None]:
    """Statements within it end after `seconds` in all; one limit within another shares what is left of it. Raises `TooCostly`.

    On SQLite these are seconds of work, so that a busy machine refuses no more than one at rest; by the clock it may take five times as long, and
    what has not worked long enough then is `Overtaken`. PostgreSQL does not tell how long it has worked: there the five times by the clock are
    all there is, or what was said if other requests are `awaited` behind it.
    """
    is_sqlite = connection.dialect.name == "sqlite"
    patience = 1 if awaited and not is_sqlite else _PATIENCE
    outer: _End | None = connection.info.get(_END)
    end = _End(time.thread_time() + seconds, time.monotonic() + patience * seconds)
    if outer is not None and outer.is_before(end):  # which holds anyway
        yield
        return
    end = end.earlier(outer)
    connection.info[_END] = end
    try:
        with (_on_sqlite if is_sqlite else _on_postgresql)(connection, end, outer):
            yield
    except (OperationalError, sqlite3.OperationalError) as error:
        cause = error.orig if isinstance(error, OperationalError) else error
        interrupted = getattr(cause, "sqlite_errorcode", None) == sqlite3.SQLITE_INTERRUPT
        if interrupted or getattr(cause, "sqlstate", None) == _CANCELED:
            raise end.error(connection) from error
        raise
    finally:
        connection.info[_END] = outer


def check(connection: Connection) -> None:
    """Raises `TooCostly` where the limit that holds now is over: for what is done between statements."""
    end: _End | None = connection.info.get(_END)
    if end is not None and end.is_over:
        raise end.error(connection)


def spent(connection: Connection) -> float:
    """Seconds as `limited` counts them, to be compared with each other."""
    return time.thread_time() if connection.dialect.name == "sqlite" else time.monotonic() / _PATIENCE


@contextlib.contextmanager
def _on_sqlite(connection: Connection, end: _End, outer: _End | None) -> Iterator[None]:
    driver: sqlite3.Connection = connection.connection.dbapi_connection  # type: ignore[assignment]
    driver.set_progress_handler(lambda: int(end.is_over), _STEPS)
    try:
        yield
    finally:
        if outer is None:
            driver.set_progress_handler(None, 0)
        else:
            driver.set_progress_handler(lambda: int(outer.is_over), _STEPS)


@contextlib.contextmanager
def _on_postgresql(connection: Connection, end: _End, outer: _End | None) -> Iterator[None]:
    """It has a limit for each statement only: so that all together end in time, each is given what is left."""
    told = math.inf

    def tell(_: Connection, cursor: Any, *__: Any) -> None:
        nonlocal told
        left = end.clock - time.monotonic()
        if left <= 0:
            raise end.error(connection)
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
            left = "DEFAULT" if outer is None else max(1, int((outer.clock - time.monotonic()) * 1000))
            connection.exec_driver_sql(f"SET LOCAL statement_timeout TO {left}")

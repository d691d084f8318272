"""Statements whose text is made once: for those that run for every instance, where to make the text costs more than to run it."""

import contextlib
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import psycopg
from sqlalchemy import Connection, CursorResult
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.sql.expression import ClauseElement


class Prepared:
    """A statement that `make` gives for an engine's name, with parameters called `names`.

    Values go to the driver as they are: plain text, numbers, bytes and None.
    """

    def __init__(self, make: Callable[[str], ClauseElement], names: tuple[str, ...]) -> None:
        self._make = make
        self._names = names
        self._made: dict[str, tuple[str, Mapping[str, Any], list[str] | None]] = {}

    def run(self, connection: Connection, values: Mapping[str, object]) -> CursorResult[Any]:
        """Executes it with `values` for its parameters."""
        text, given = self._given(connection, (values,))
        return connection.exec_driver_sql(text, given[0])

    def alone(self, connection: Connection, values: Mapping[str, object]) -> None:
        """As `run`, where the result is not wanted."""
        self.run_each(connection, (values,))

    def rows(self, connection: Connection, values: Mapping[str, object]) -> Sequence[Sequence[Any]]:
        """As `run`, for a statement that gives rows: all of them, as the driver has them.

        The driver is asked itself; its errors are the same all the same. To put a result around three rows takes ten times as long as to
        find them.
        """
        text, given = self._given(connection, (values,))
        if connection.dialect.name != "sqlite":
            found: Sequence[Sequence[Any]] = driven(connection, text, given[0]).fetchall()
            return found
        driver: sqlite3.Connection = connection.connection.dbapi_connection  # type: ignore[assignment]
        try:
            return driver.execute(text, given[0]).fetchall()
        except sqlite3.IntegrityError as error:
            raise IntegrityError(text, None, error) from error

    def run_each(self, connection: Connection, rows: Sequence[Mapping[str, object]]) -> None:
        """Executes it with the values of every row, one after the other."""
        if not rows:
            return
        text, given = self._given(connection, rows)
        if connection.dialect.name != "sqlite":
            driven(connection, text, given[0]) if len(given) == 1 else driven_each(connection, text, given)
            return
        try:  # past SQLAlchemy, as in `rows`
            connection.connection.cursor().executemany(text, given)
        except sqlite3.IntegrityError as error:
            raise IntegrityError(text, None, error) from error

    def _given(self, connection: Connection, rows: Sequence[Mapping[str, object]]) -> tuple[str, list[Any]]:
        text, defaults, order = self._made.get(connection.dialect.name) or self._compiled(connection)
        if order is None:
            return text, [{**defaults, **row} for row in rows]
        if defaults:
            rows = [{**defaults, **row} for row in rows]
        return text, [tuple(row[each] for each in order) for row in rows]

    def _compiled(self, connection: Connection) -> tuple[str, Mapping[str, Any], list[str] | None]:
        compiled = self._make(connection.dialect.name).compile(dialect=connection.dialect, column_keys=list(self._names))
        order = getattr(compiled, "positiontup", None)
        made = str(compiled), {key: value for key, value in compiled.params.items() if key not in self._names}, order
        self._made[connection.dialect.name] = made
        return made


def driven(connection: Connection, text: str, values: Any) -> "psycopg.Cursor[Any]":
    """What PostgreSQL's driver gives for a statement, past SQLAlchemy, which takes half as long around it as the driver itself."""
    with _told(connection, text):
        return _cursor(connection).execute(text, values)


def driven_each(connection: Connection, text: str, rows: Sequence[Any]) -> None:
    """The same with the values of each row, none of whose results is wanted."""
    with _told(connection, text):
        _cursor(connection).executemany(text, rows)


def _cursor(connection: Connection) -> "psycopg.Cursor[Any]":
    made: psycopg.Cursor[Any] = connection.connection.cursor()  # type: ignore[assignment]
    return made


@contextlib.contextmanager
def _told(connection: Connection, text: str) -> Iterator[None]:
    """The driver's errors as SQLAlchemy's, without the values."""
    try:
        yield
    except psycopg.Error as error:
        raise DBAPIError.instance(text, None, error, psycopg.Error, dialect=connection.dialect) from error

# ruff: noqa: S608 only names of our own tables are put into the text of statements
"""Rows by the dozen: one statement for all of them on PostgreSQL (`unnest`), few prepared ones on SQLite.

SQLite's driver lets other threads run at each row of `executemany`, and has to wait for them each time; of a statement with many rows once.
"""

from collections.abc import Collection, Mapping, Sequence
from functools import cache
from itertools import chain
from typing import Any

from sqlalchemy import BigInteger, Connection, Double, Insert, Integer, LargeBinary, Table
from sqlalchemy.dialects import sqlite

from server.store.prepared import Prepared, driven

_AT_ONCE = (32, 8, 2, 1)
"""Rows of one statement of SQLite."""
_SENT_TOGETHER = 100
"""Rows of one statement of PostgreSQL that may have bodies: the statement is made in memory."""


class Many:
    """Rows of a table as tuples in the order of the columns; `delete` and `of` are for those whose columns are all its key."""

    def __init__(self, table: Table) -> None:
        names = [column.name for column in table.columns]
        quoted = [f'"{name}"' for name in names]
        cast = ", ".join(f"%s::{_postgresql(column.type)}[]" for column in table.columns)
        into, row = f"INSERT INTO {table.name} ({', '.join(quoted)})", f"({', '.join('?' * len(names))})"
        self._insert = f"{into} SELECT * FROM unnest({cast})"
        self._insert_few = [(count, f"{into} VALUES {', '.join([row] * count)}") for count in _AT_ONCE]
        same = " AND ".join(f"{table.name}.{name} = given.{name}" for name in quoted)
        self._delete = (
            f"DELETE FROM {table.name} WHERE {' AND '.join(f'{name} = ?' for name in quoted)}",
            f"DELETE FROM {table.name} USING unnest({cast}) AS given({', '.join(quoted)}) WHERE {same}",
        )
        self._of = f"SELECT {', '.join(quoted)} FROM {table.name} WHERE resource_pk = "

    def insert(self, connection: Connection, rows: Collection[Sequence[Any]]) -> None:
        """Rows that are not there."""
        if connection.dialect.name != "sqlite":
            if rows:
                driven(connection, self._insert, _columns(rows))
            return
        execute, given, start = connection.connection.cursor().execute, list(rows), 0
        for count, statement in self._insert_few:
            while start + count <= len(given):
                execute(statement, list(chain.from_iterable(given[start : start + count])))
                start += count

    def delete(self, connection: Connection, rows: Collection[Sequence[Any]]) -> None:
        """Rows that may be there."""
        if not rows:
            return
        if connection.dialect.name == "sqlite":
            connection.connection.cursor().executemany(self._delete[0], list(rows))
        else:
            driven(connection, self._delete[1], _columns(rows))

    def of(self, connection: Connection, resource_pk: int) -> set[tuple[Any, ...]]:
        """All rows of a resource."""
        found = connection.exec_driver_sql(self._of + ("?" if connection.dialect.name == "sqlite" else "%s"), (resource_pk,))
        return {tuple(row) for row in found}


def _columns(rows: Collection[Sequence[Any]]) -> tuple[list[Any], ...]:
    return tuple(list(column) for column in zip(*rows, strict=True))


class Adding:
    """New rows of a table, known again by the values of their columns `by`; `told` is the column that is wanted of each, such as its number.

    With `unless_there` a row whose key is taken is left out; without, it is an error.
    """

    def __init__(self, table: Table, by: tuple[str, ...], told: str, *, unless_there: bool = False) -> None:
        self._names = tuple(column.name for column in table.columns if column.name != "pk")
        self._by = by
        cast = ", ".join(f"%s::{_postgresql(table.c[name].type)}[]" for name in self._names)
        columns, given = (", ".join(f'"{name}"' for name in names) for names in (self._names, (told, *by)))
        unless = " ON CONFLICT DO NOTHING" if unless_there else ""
        self._unnest = f"INSERT INTO {table.name} ({columns}) SELECT * FROM unnest({cast}){unless} RETURNING {given}"

        def one(_: str) -> Insert:
            statement = sqlite.insert(table)
            added: Insert = (statement.on_conflict_do_nothing() if unless_there else statement).returning(table.c[told])
            return added

        self._one = Prepared(one, self._names)

    def add(self, connection: Connection, rows: Sequence[Mapping[str, Any]]) -> list[Any]:
        """What each row is told by, in their order; None for one that is there, or came before among these."""
        if connection.dialect.name == "sqlite":
            return [found[0][0] if (found := self._one.rows(connection, row)) else None for row in rows]
        told: list[Any] = []
        for start in range(0, len(rows), _SENT_TOGETHER):
            some = rows[start : start + _SENT_TOGETHER]
            given = tuple([row[name] for row in some] for name in self._names)
            new = {tuple(by): pk for pk, *by in driven(connection, self._unnest, given).fetchall()}
            told += [new.pop(tuple(row[name] for name in self._by), None) for row in some]
        return told


_NAMES = (BigInteger, "bigint"), (Integer, "integer"), (Double, "double precision"), (LargeBinary, "bytea")


@cache
def many(table: Table) -> Many:
    """That of a table, made once."""
    return Many(table)


def _postgresql(type_: object) -> str:
    return next((name for kind, name in _NAMES if isinstance(type_, kind)), "text")

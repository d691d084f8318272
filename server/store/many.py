# ruff: noqa: S608 only names of our own tables are put into the text of statements
"""Rows by the dozen: one statement for all of them on PostgreSQL (`unnest`), one prepared statement for each on SQLite."""

from collections.abc import Collection, Sequence
from functools import cache
from typing import Any

from sqlalchemy import BigInteger, Connection, Double, Integer, Table


class Many:
    """Rows of a table as tuples in the order of the columns; `delete` and `of` are for those whose columns are all its key."""

    def __init__(self, table: Table) -> None:
        names = [column.name for column in table.columns]
        quoted = [f'"{name}"' for name in names]
        cast = ", ".join(f"%s::{_postgresql(column.type)}[]" for column in table.columns)
        self._insert = (
            f"INSERT INTO {table.name} ({', '.join(quoted)}) VALUES ({', '.join('?' * len(names))})",
            f"INSERT INTO {table.name} ({', '.join(quoted)}) SELECT * FROM unnest({cast})",
        )
        same = " AND ".join(f"{table.name}.{name} = given.{name}" for name in quoted)
        self._delete = (
            f"DELETE FROM {table.name} WHERE {' AND '.join(f'{name} = ?' for name in quoted)}",
            f"DELETE FROM {table.name} USING unnest({cast}) AS given({', '.join(quoted)}) WHERE {same}",
        )
        self._of = f"SELECT {', '.join(quoted)} FROM {table.name} WHERE resource_pk = "

    def insert(self, connection: Connection, rows: Collection[Sequence[Any]]) -> None:
        """Rows that are not there."""
        _run(connection, self._insert, rows)

    def delete(self, connection: Connection, rows: Collection[Sequence[Any]]) -> None:
        """Rows that may be there."""
        _run(connection, self._delete, rows)

    def of(self, connection: Connection, resource_pk: int) -> set[tuple[Any, ...]]:
        """All rows of a resource."""
        found = connection.exec_driver_sql(self._of + ("?" if connection.dialect.name == "sqlite" else "%s"), (resource_pk,))
        return {tuple(row) for row in found}


def _run(connection: Connection, texts: tuple[str, str], rows: Collection[Sequence[Any]]) -> None:
    if not rows:
        return
    if connection.dialect.name == "sqlite":
        connection.connection.cursor().executemany(texts[0], list(rows))
    else:
        connection.exec_driver_sql(texts[1], tuple(list(column) for column in zip(*rows, strict=True)))


_NAMES = (BigInteger, "bigint"), (Integer, "integer"), (Double, "double precision")


@cache
def many(table: Table) -> Many:
    """That of a table, made once."""
    return Many(table)


def _postgresql(type_: object) -> str:
    return next((name for kind, name in _NAMES if isinstance(type_, kind)), "text")

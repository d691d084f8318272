"""Locks by name that a transaction holds until it ends: PostgreSQL's advisory ones. SQLite has one writer, who needs none."""

import hashlib
from collections.abc import Iterable
from typing import Final

from sqlalchemy import Connection

from server.store.prepared import driven

MOST: Final = 256
"""Names that one transaction locks one by one: PostgreSQL's table of locks has room for some thousands, of all transactions together."""
_EACH: Final = "SELECT pg_advisory_xact_lock_shared(%s), pg_advisory_xact_lock(each) FROM unnest(%s::bigint[]) AS each"


def hold(connection: Connection, space: str, names: Iterable[str]) -> None:
    """Who wants one of these names of a space waits until this transaction ends.

    Names of one call are locked in one order, so that no two transactions wait for each other: ask for all at once. Who wants very many locks
    the whole space.
    """
    if connection.dialect.name != "postgresql":
        return
    whole, numbers = _number(space), sorted({_number(f"{space}\x1f{name}") for name in names})
    if len(numbers) > MOST:
        driven(connection, "SELECT pg_advisory_xact_lock(%s)", (whole,))
    elif numbers:  # the space is shared by all who lock some of its names
        driven(connection, _EACH, (whole, numbers))


def _number(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(errors="replace"), digest_size=8).digest(), "big", signed=True)

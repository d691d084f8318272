"""Fetches from other communities that are jobs: what is asked, how far each is, and what came of it."""

import uuid
from dataclasses import dataclass
from typing import Any, Literal

import orjson
from sqlalchemy import Connection, delete, select, update

from server.store.db import micros
from server.store.tables import Fetch

_FETCH = Fetch.__table__  # type: ignore[attr-defined]
State = Literal["waiting", "running", "done", "failed"]
"""`done`: nothing is missing. `failed`: `error` says why, or the result of a document does."""


@dataclass(frozen=True, slots=True)
class Fetching:
    """One fetch. `asked`, `requester` and `result` are JSON; `done` of `total` instances are here, as far as it is known."""

    id: str
    community: str
    asked: str
    requester: str
    state: State
    done: int
    total: int
    result: str
    error: str

    @property
    def documents(self) -> list[dict[str, Any]]:
        """What became of each document."""
        found: list[dict[str, Any]] = orjson.loads(self.result)
        return found


_COLUMNS = [_FETCH.c[name] for name in Fetching.__dataclass_fields__]


def begin(connection: Connection, *, community: str, asked: str, requester: str) -> str:
    """A fetch that waits; its id."""
    id_, now = str(uuid.uuid4()), micros()
    row = {"community": community, "asked": asked, "requester": requester, "state": "waiting", "done": 0, "total": 0}
    connection.execute(_FETCH.insert().values(id=id_, result="[]", error="", created=now, updated=now, **row))
    return id_


def find(connection: Connection, id_: str) -> Fetching | None:
    """How it stands."""
    row = connection.execute(select(*_COLUMNS).where(_FETCH.c.id == id_)).first()
    return None if row is None else Fetching(*row)


def progress(connection: Connection, id_: str, *, done: int, total: int) -> None:
    """It runs, and is so far."""
    _change(connection, id_, state="running", done=done, total=total)


def settle(connection: Connection, id_: str, state: State, result: str, error: str = "") -> None:
    """It is over."""
    _change(connection, id_, state=state, result=result, error=error)


def forget(connection: Connection, before: int) -> None:
    """Those that were over before that moment (microseconds)."""
    connection.execute(delete(_FETCH).where(_FETCH.c.updated < before, _FETCH.c.state.in_(["done", "failed"])))


def _change(connection: Connection, id_: str, **values: object) -> None:
    connection.execute(update(_FETCH).where(_FETCH.c.id == id_).values(updated=micros(), **values))

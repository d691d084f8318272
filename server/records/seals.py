"""Seals over the trail: a chain of hashes, so that an event that was changed, deleted or put in later shows.

A seal covers the events from where the seal before ended to its own `last`, and only what nobody can commit in between any more: on PostgreSQL an
event has its number before it is committed (`Horizon`). What the newest seal says also stands in the log: whoever can write the whole database can
make the chain anew, but not what was logged of it.
"""

import contextlib
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import orjson
from sqlalchemy import Connection, Row, Select, bindparam, func, select, text, update

from profiles.audit_event import RECORDS_DESTROYED
from server.records.packing import unpacked
from server.records.trail import EVENT, PATIENT
from server.store.db import insert
from server.store.tables import AuditSeal

SEAL = AuditSeal.__table__  # type: ignore[attr-defined]
MOST: Final = 2_000
"""Events under one seal: what a break is narrowed down to."""
_AT_ONCE: Final = 500
ERASED_SEALS: Final = "seals"
"""What the detail of an event is called that tells which seals' events were erased: `1-9`."""
_WRITERS = text(
    "SELECT DISTINCT virtualtransaction FROM pg_locks WHERE locktype = 'relation' AND relation = 'audit_event'::regclass "
    "AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) AND mode = 'RowExclusiveLock' AND granted"
)
_STILL = text("SELECT 1 FROM pg_locks WHERE virtualtransaction = ANY(:writers) LIMIT 1").bindparams(bindparam("writers"))


@dataclass(frozen=True, slots=True)
class Seal:
    """One seal: `count` events up to the one of number `last`. `digest` is of their rows, `hash` of that and the seal before."""

    number: int
    last: int
    count: int
    made: int
    digest: bytes
    hash: bytes = b""
    erased: int | None = None

    @property
    def name(self) -> str:
        """`17:0f3a...`, as it is logged: its number and its hash in hexadecimal."""
        return f"{self.number}:{self.hash.hex()}"

    def chained(self, before: "Seal | None") -> bytes:
        """The hash that it has as the one after `before`."""
        return hashlib.sha256(
            (before.hash if before else b"") + _fields((self.number, self.last, self.count, self.made, self.digest))
        ).digest()


@dataclass(frozen=True, slots=True)
class Horizon:
    """Nobody commits an event of a number up to `last` once the transactions that were writing to the trail have ended.

    An event's number is drawn by a transaction that has the lock for rows of the table; so whoever has drawn a lower one than what can be
    seen holds it still, or has ended. SQLite has one writer at a time, who draws at the end of what can be seen.
    """

    last: int
    writers: frozenset[str] = frozenset()


def horizon(connection: Connection) -> Horizon:
    """As of now. The number is read first: who has drawn a lower one is among the writers then, or can be seen."""
    last = int(connection.execute(select(func.coalesce(func.max(EVENT.c.pk), 0))).scalar_one())
    if connection.dialect.name == "sqlite":
        return Horizon(last)
    return Horizon(last, frozenset(connection.execute(_WRITERS).scalars()))


def is_reached(connection: Connection, found: Horizon) -> bool:
    """Whether those writers have ended. What they wrote is seen by a transaction that begins after this."""
    return not found.writers or connection.execute(_STILL, {"writers": sorted(found.writers)}).first() is None


def newest(connection: Connection) -> Seal | None:
    return _one(connection.execute(_SEALS.order_by(SEAL.c.number.desc()).limit(1)).first())


def following(connection: Connection, before: Seal | None, last: int, now: int) -> Seal | None:
    """The seal after `before`, over up to `MOST` events as far as `last`; None where there are none. It is not stored yet."""
    numbers = (
        select(EVENT.c.pk).where(EVENT.c.pk >= _first(before), EVENT.c.pk <= last).order_by(EVENT.c.pk).limit(MOST).subquery()
    )
    end = connection.execute(select(func.max(numbers.c.pk))).scalar_one()
    if end is None:
        return None
    count, digest = _digest(connection, _first(before), int(end))
    made = Seal(before.number + 1 if before else 1, int(end), count, now, digest)
    return replace(made, hash=made.chained(before))


def add(connection: Connection, seal: Seal) -> bool:
    """Stores it. False where another process has stored one of this number."""
    row = {
        "number": seal.number, "last": seal.last, "count": seal.count, "made": seal.made, "digest": seal.digest, "hash": seal.hash,
    }  # fmt: skip
    adding = insert(connection, SEAL).values(row).on_conflict_do_nothing().returning(SEAL.c.number)
    return connection.execute(adding).first() is not None


def after(connection: Connection, number: int, limit: int = 1000) -> list[Seal]:
    """Those with a higher number, in order."""
    found = connection.execute(_SEALS.where(SEAL.c.number > number).order_by(SEAL.c.number).limit(limit)).all()
    return [each for each in map(_one, found) if each is not None]


def unsealed(connection: Connection, last: int) -> tuple[int, int | None]:
    """How many events wait for their seal, which are those after number `last`, and when the oldest was (microseconds)."""
    count, oldest = connection.execute(select(func.count(), func.min(EVENT.c.recorded)).where(EVENT.c.pk > last)).one()
    return int(count), oldest


# --- checking


def fault(connection: Connection, before: Seal | None, seal: Seal, erased: Sequence[range]) -> str:
    """What is wrong with a seal and the events under it, empty for nothing. `erased` are the seals whose erasure the trail tells of."""
    if seal.number != (before.number + 1 if before else 1):
        return f"seals {before.number + 1 if before else 1} to {seal.number - 1} are missing, and what they covered is not known"
    if seal.hash != seal.chained(before):
        return "the seal was changed, or the one before it"
    count, digest = _digest(connection, _first(before), seal.last)
    if seal.erased is not None:
        if not any(seal.number in each for each in erased):
            return "its events are gone: it says that they were erased, but no event tells by whom"
        return "its events were erased, and there are some again" if count else ""
    if count != seal.count:
        return f"it covers {seal.count} events, and there are {count}"
    return "" if digest == seal.digest else "an event was changed, or its patients"


def erasures(connection: Connection) -> list[range]:
    """The numbers of the seals whose events were erased, as events in the trail tell."""
    found: list[range] = []
    for body in connection.execute(select(EVENT.c.body).where(EVENT.c.subtype == RECORDS_DESTROYED.code)).scalars():
        with contextlib.suppress(Exception):  # whatever somebody has made of it: its own seal does not hold then
            found += _erased(orjson.loads(unpacked(bytes(body))))
    return found


def _erased(event: dict[str, Any]) -> Iterator[range]:
    for entity in event.get("entity", ()):
        for detail in entity.get("detail", ()):
            if detail["type"] == ERASED_SEALS:
                first, _, last = detail["valueString"].partition("-")
                yield range(int(first), int(last) + 1)


# --- erasing


def erasable(connection: Connection, before: int) -> list[Seal]:
    """The seals that were made before this moment and still have their events. Not the newest one: numbers of events would be given again."""
    last = select(func.max(SEAL.c.number)).scalar_subquery()
    wanted = _SEALS.where(SEAL.c.made < before, SEAL.c.erased.is_(None), SEAL.c.number < last)
    return [each for each in map(_one, connection.execute(wanted.order_by(SEAL.c.number)).all()) if each is not None]


def erase(connection: Connection, seal: Seal, now: int) -> None:
    """Removes the events under a seal, and everything before them. The seal stays, and says so; who did it and why is the caller's to tell."""
    connection.execute(EVENT.delete().where(EVENT.c.pk <= seal.last))
    connection.execute(update(SEAL).where(SEAL.c.number == seal.number).values(erased=now))


# --- rows as bytes

_SEALS: "Select[int, int, int, int, bytes, bytes, int | None]" = select(
    SEAL.c.number, SEAL.c.last, SEAL.c.count, SEAL.c.made, SEAL.c.digest, SEAL.c.hash, SEAL.c.erased
)


def _one(row: "Row[int, int, int, int, bytes, bytes, int | None] | None") -> Seal | None:
    if row is None:
        return None
    number, last, count, made, digest, hash_, erased = row
    return Seal(number, last, count, made, bytes(digest), bytes(hash_), erased)


def _first(before: Seal | None) -> int:
    """The lowest number that the seal after this one covers."""
    return before.last + 1 if before else -(1 << 63)


def _digest(connection: Connection, first: int, last: int) -> tuple[int, bytes]:
    """How many events have numbers from `first` to `last`, and the hash of every column of them and of their patients."""
    events = select(EVENT).where(EVENT.c.pk >= first, EVENT.c.pk <= last).order_by(EVENT.c.pk)
    patients = (
        select(PATIENT).where(PATIENT.c.event >= first, PATIENT.c.event <= last).order_by(PATIENT.c.event, PATIENT.c.number)
    )
    digest, count = hashlib.sha256(), 0
    for row in _rows(connection, events):
        digest.update(_fields(row))
        count += 1
    for row in _rows(connection, patients):
        digest.update(b"P" + _fields(row))
    return count, digest.digest()


def _rows(connection: Connection, query: "Select[Any]") -> Iterator[Iterable[Any]]:
    yield from connection.execute(query.execution_options(yield_per=_AT_ONCE))


def _fields(values: Iterable[object]) -> bytes:
    """Values so that no two lists of them have the same bytes: each with its kind and its length."""
    parts = []
    for value in values:
        kind, content = _content(value)
        parts.append(kind + len(content).to_bytes(8, "big") + content)
    return b"".join(parts)


def _content(value: object) -> tuple[bytes, bytes]:
    match value:
        case str():
            return b"t", value.encode("utf-8", "surrogatepass")
        case bytes() | memoryview():
            return b"b", bytes(value)
        case int():
            return b"i", str(value).encode()
        case _:  # no column has it, unless somebody put it there past this program
            return b"?", repr(value).encode()

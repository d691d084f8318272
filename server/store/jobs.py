"""Durable work: a row says what is due and when, a lease says who has it. It survives kill -9 and a restart.

A job is named by (kind, key). `enqueue` in the transaction that makes the work necessary: both happen or neither. Asking
again moves the deadline and raises the generation, so a job that was asked for while it ran is run once more.
"""

import secrets
from dataclasses import dataclass, replace

from sqlalchemy import Connection, Insert, delete, func, select, update
from sqlalchemy.dialects import postgresql, sqlite

from server.store.db import Database, micros
from server.store.prepared import Prepared
from server.store.tables import Job as Row

_JOB = Row.__table__  # type: ignore[attr-defined]
_RETRY_SECONDS = (1, 5, 30, 120, 600, 3600)


@dataclass(frozen=True, slots=True)
class Job:
    """One piece of work in hand. `attempts` counts this one."""

    pk: int
    kind: str
    key: str
    generation: int
    attempts: int
    lease: int


def enqueue(connection: Connection, kind: str, key: str, *, due: int) -> None:
    """Makes (kind, key) due at `due` (microseconds), whether or not it was asked for before."""
    row = {"kind": kind, "key": key, "due": due, "generation": 1, "attempts": 0, "leased_until": 0, "error": ""}
    _ASK.run(connection, row)


def _asking(dialect: str) -> Insert:
    statement = (sqlite if dialect == "sqlite" else postgresql).insert(_JOB)
    asking: Insert = statement.on_conflict_do_update(
        index_elements=["kind", "key"],
        set_={"due": statement.excluded.due, "generation": _JOB.c.generation + 1, "attempts": 0, "error": ""},
    )
    return asking


_ASK = Prepared(_asking, ("kind", "key", "due", "generation", "attempts", "leased_until", "error"))


def claim(database: Database, kind: str, *, limit: int = 1, lease_seconds: float = 120.0) -> list[Job]:
    """Up to `limit` jobs of a kind that are due longest, leased to the caller. A lease that ran out is taken over."""
    now = micros()
    lease = _lease(now, lease_seconds)
    due = (
        select(_JOB.c.pk)
        .where(_JOB.c.kind == kind, _JOB.c.due <= now, _JOB.c.leased_until < now)
        .order_by(_JOB.c.due)
        .limit(limit)
    )
    # A look without a lock first: an idle worker must not take SQLite's write lock several times a second.
    with database.read() as connection:
        if connection.execute(due.limit(1)).first() is None:
            return []
    with database.write() as connection:
        pks = connection.execute(due.with_for_update(skip_locked=True)).scalars().all()
        rows = connection.execute(
            update(_JOB)
            .where(_JOB.c.pk.in_(pks))
            .values(leased_until=lease, attempts=_JOB.c.attempts + 1)
            .returning(_JOB.c.pk, _JOB.c.kind, _JOB.c.key, _JOB.c.generation, _JOB.c.attempts)
        ).all()
    return [Job(row.pk, row.kind, row.key, row.generation, row.attempts, lease) for row in rows]


def _lease(now: int, seconds: float) -> int:
    """The lease is also the ticket: its low digits make it unlike any other's."""
    return now + int(seconds * 1_000_000) + secrets.randbelow(1000)


def renew(connection: Connection, job: Job, *, seconds: float) -> Job | None:
    """The job with a lease from now on, or None where its lease is another's meanwhile. One that ran out is renewed if nobody took it."""
    lease = _lease(micros(), seconds)
    mine = (_JOB.c.pk == job.pk) & (_JOB.c.leased_until == job.lease)
    renewed = connection.execute(update(_JOB).where(mine).values(leased_until=lease))
    return replace(job, lease=lease) if renewed.rowcount else None


def done(connection: Connection, job: Job) -> None:
    """The work is finished, in the caller's transaction. If it was asked for again meanwhile, it stays due."""
    mine = (_JOB.c.pk == job.pk) & (_JOB.c.leased_until == job.lease)
    removed = connection.execute(delete(_JOB).where(mine, _JOB.c.generation == job.generation))
    if not removed.rowcount:
        connection.execute(update(_JOB).where(mine).values(leased_until=0))


def cancel(connection: Connection, kind: str, key: str) -> None:
    """The work is not needed any more; if somebody does it just now, it is not done again."""
    connection.execute(delete(_JOB).where(_JOB.c.kind == kind, _JOB.c.key == key))


def failed(database: Database, job: Job, error: str) -> float:
    """Puts the job back with a growing delay. `error` is a type and number. Returns the delay in seconds."""
    delay = _RETRY_SECONDS[min(job.attempts, len(_RETRY_SECONDS)) - 1]
    with database.write() as connection:
        connection.execute(
            update(_JOB)
            .where(_JOB.c.pk == job.pk, _JOB.c.leased_until == job.lease)
            .values(leased_until=0, due=micros() + delay * 1_000_000, error=error)
        )
    return float(delay)


def release(connection: Connection) -> None:
    """Ends every lease. Only for who knows that nobody works any more: a worker that was killed leaves its leases behind."""
    connection.execute(update(_JOB).where(_JOB.c.leased_until > 0).values(leased_until=0))


def is_known(connection: Connection, kind: str, key: str) -> bool:
    """Whether (kind, key) waits or runs."""
    return connection.execute(select(_JOB.c.pk).where(_JOB.c.kind == kind, _JOB.c.key == key)).first() is not None


def pending(connection: Connection) -> int:
    """How many jobs wait or run."""
    return int(connection.execute(select(func.count()).select_from(_JOB)).scalar_one())

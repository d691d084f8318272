"""Seals what is new in the trail, every few seconds, and walks the chain of seals (`server.records.seals`).

Nobody who writes an event waits for it: it reads what is committed, and adds one row.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection

from profiles.audit_event import RECORDS_DESTROYED, Agent, AuditedEntity
from server.records import seals
from server.records.seals import Horizon, Seal
from server.records.trail import Trail
from server.store.db import Database, micros
from server.telemetry import failure, log

SECONDS: Final = 5.0
_AHEAD: Final = 100
"""Seals that are read at once to be checked."""


class Sealer:
    """`run` is a thread of the worker. Several workers may run: a seal is stored by who is first."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._horizon = Horizon(0)

    def run(self, stop: threading.Event, seconds: float = SECONDS) -> None:
        """Seals until `stop` is set, and then once more. A database that is away is waited for."""
        ended = False
        while not ended:
            ended = stop.wait(seconds)
            try:
                self.seal()
            except Exception as error:  # noqa: BLE001 the worker outlives what it works on
                log().error("sealing", **failure(error))

    def seal(self) -> Seal | None:
        """Seals what is settled; on PostgreSQL what a transaction is still busy with waits for the next time. Returns the newest seal."""
        with self._database.read() as connection:
            newest = seals.newest(connection)
            if self._horizon.last <= (newest.last if newest else 0):
                self._horizon = seals.horizon(connection)
        with self._database.read() as connection:
            if not seals.is_reached(connection, self._horizon):
                return newest
        while made := self._next():
            newest = made
        return newest

    def _next(self) -> Seal | None:
        with self._database.read() as connection:  # which begins after those writers had ended, so that it sees what they wrote
            made = seals.following(connection, seals.newest(connection), self._horizon.last, micros())
        if made is None:
            return None
        with self._database.write() as connection:
            added = seals.add(connection, made)
        if added:
            log().info("trail sealed", seal=made.name, count=made.count)
        return made


@dataclass(frozen=True, slots=True)
class Break:
    """A seal that does not hold: the numbers of the events under it, from `first` to `last`, and what is wrong."""

    seal: int
    first: int
    last: int
    fault: str

    def __str__(self) -> str:
        return f"seal {self.seal}, events {self.first} to {self.last}: {self.fault}"


@dataclass(frozen=True, slots=True)
class Verified:
    """What came of a walk: the newest seal, how many events lie under seals and how many have none yet, how many seals were erased, and the breaks."""

    newest: Seal | None
    events: int
    waiting: int
    erased: int
    breaks: tuple[Break, ...]


def verify(database: Database, progress: Callable[[int, int], None] = lambda done, total: None, logged: str = "") -> Verified:
    """Walks every seal. `logged` is what the log or somebody's notes say of one, `17:0f3a...`: it has to be there as it was.

    `progress` gets the number of seals that were walked and of all.
    """
    with database.read() as connection:
        newest, known = seals.newest(connection), seals.erasures(connection)
    breaks: list[Break] = []
    events = erased = 0
    before: Seal | None = None
    last = newest.last if newest else 0
    found = ""
    for seal, fault in _walk(database, known, newest.number if newest else 0):
        events += 0 if seal.erased is not None else seal.count
        erased += seal.erased is not None
        if fault:
            breaks.append(Break(seal.number, (before.last if before else 0) + 1, seal.last, fault))
        if logged.partition(":")[0] == str(seal.number):
            found = seal.name
        before = seal
        progress(seal.number, newest.number if newest else 0)
    if logged and found != logged.lower():
        fault = "it is not the one that was logged" if found else "it was logged, and is not there"
        breaks.append(Break(int(logged.partition(":")[0]), 1, last, fault))
    with database.read() as connection:
        waiting, _ = seals.unsealed(connection, last)
    return Verified(newest, events, waiting, erased, tuple(breaks))


def _walk(database: Database, erased: Sequence[range], last: int) -> Iterator[tuple[Seal, str]]:
    """Every seal with what is wrong with it."""
    before: Seal | None = None
    while True:
        with database.read() as connection:
            batch = seals.after(connection, before.number if before else 0, _AHEAD)
            for seal in batch:
                if seal.number > last:  # made since
                    return
                yield seal, seals.fault(connection, before, seal, erased)
                before = seal
        if not batch:
            return


def erase(database: Database, trail: Trail, *, before: int, by: Agent, why: str) -> int:
    """Removes the events whose time is over: those under seals made before this moment (microseconds). Returns how many seals that were.

    That they are gone, by whom and why is in the trail before the first of them goes. Done again after an interruption, it goes on.
    """
    with database.read() as connection:
        due = seals.erasable(connection, before)
    if not due:
        return 0
    entity = AuditedEntity(identifier="audit trail", details=((seals.ERASED_SEALS, f"1-{due[-1].number}"), ("why", why)))
    trail.write(trail.action("delete", RECORDS_DESTROYED, by, rest=False, entities=(entity,)))
    for seal in due:
        with database.write() as connection:
            seals.erase(connection, seal, micros())
    return len(due)


def told(connection: Connection) -> str:
    """The last seal and what waits, for `imageshare doctor`."""
    newest = seals.newest(connection)
    waiting, _ = seals.unsealed(connection, newest.last if newest else 0)
    if newest is None:
        return f"not sealed yet; {waiting} events wait for the worker"
    return f"sealed up to event {newest.last}: {newest.name}; {waiting} events wait for the worker"

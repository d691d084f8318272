"""How the server is: what waits to be done, how much room there is, and what has arrived lately. Numbers alone, nothing of a patient."""

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo

from sqlalchemy import Connection, case, func, select

from server.records.catalogue import STUDY
from server.store.tables import Job

_JOB: Final = Job.__table__  # type: ignore[attr-defined]
DAYS: Final = 30
_SECOND: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Waiting:
    """Jobs of one kind: how many, how many of them are due, of which the oldest since `since` seconds, and how many have failed before, as `error` says."""

    kind: str
    count: int
    due: int
    since: int
    failed: int
    error: str


@dataclass(frozen=True, slots=True)
class Storage:
    """Bytes of the file system that the images are on. `reserve` is where the store begins to refuse."""

    free: int
    total: int
    reserve: int

    @property
    def is_short(self) -> bool:
        """Whether it is soon to be: a tenth, or twice the reserve."""
        return self.free < max(self.total // 10, 2 * self.reserve)


@dataclass(frozen=True, slots=True)
class Day:
    """How many studies were first seen on a day."""

    date: str
    studies: int


def waiting(connection: Connection, now: int) -> tuple[Waiting, ...]:
    """Of each kind that there is, the one with the oldest work first. `now` is in microseconds."""
    is_due = _JOB.c.due <= now
    rows = connection.execute(
        select(
            _JOB.c.kind, func.count(), func.sum(case((is_due, 1), else_=0)), func.min(case((is_due, _JOB.c.due))),
            func.sum(case((_JOB.c.error != "", 1), else_=0)), func.max(_JOB.c.error),
        ).group_by(_JOB.c.kind)
    ).all()  # fmt: skip
    found = (
        Waiting(kind, count, int(due), max(0, now - oldest) // _SECOND if oldest else 0, int(failed), error)
        for kind, count, due, oldest, failed, error in rows
    )
    return tuple(sorted(found, key=lambda each: (-each.since, each.kind)))


def storage(folder: Path, reserve: int) -> Storage:
    told = os.statvfs(folder)
    return Storage(told.f_bavail * told.f_frsize, told.f_blocks * told.f_frsize, reserve)


def arrived(connection: Connection, now: datetime, zone: ZoneInfo) -> tuple[Day, ...]:
    """The last `DAYS` days, the oldest first, by the site's clock; days without studies too."""
    today = now.astimezone(zone).date()
    first = today - timedelta(days=DAYS - 1)
    since = int(datetime(first.year, first.month, first.day, tzinfo=zone).timestamp()) * _SECOND
    moments: Sequence[int] = (
        connection.execute(select(STUDY.c.received).where(STUDY.c.received >= since, STUDY.c.version > 0)).scalars().all()
    )
    counts = Counter(datetime.fromtimestamp(each / _SECOND, zone).date() for each in moments)
    days = (first + timedelta(days=number) for number in range(DAYS))
    return tuple(Day(f"{each:%Y%m%d}", counts[each]) for each in days)

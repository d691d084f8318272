"""The feed of changes: an append-only table, one row per instance that appeared, changed or went.

Numbers have no gaps and grow in the order of the commits, so a reader who remembers the last number it saw misses nothing.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias, TypeVar

from sqlalchemy import Connection, RowMapping, func, select, text

from server.records.catalogue import INSTANCE, PATIENT, SERIES, STUDY
from server.store.db import micros
from server.store.tables import Change

CHANGE = Change.__table__  # type: ignore[attr-defined]

_K = TypeVar("_K")
Event: TypeAlias = Literal["create", "update", "delete", "reject", "restore", "merge"]
GONE: frozenset[str] = frozenset({"delete", "reject"})
"""Events after which the instance is not to be seen."""

# Any number that nothing else in this database locks.
_LOCK = 0x494D_5348
_TOGETHER = 500


@dataclass(frozen=True, slots=True)
class Changed:
    """One row: `at` in microseconds, `patient` a resource id, `version` the study's. `latest`: nothing newer is told of `uid`."""

    sequence: int
    at: int
    event: str
    patient: str
    study_uid: str
    series_uid: str
    uid: str
    version: int
    latest: bool


def record(connection: Connection, event: Event, instance_pks: Sequence[int]) -> None:
    """Tells of these instances, whose rows are as the transaction leaves them (before a delete: as they were).

    Call it last: until the transaction ends nobody else can add to the feed, so that numbers are in the order of the commits.
    """
    if not instance_pks:
        return
    told: list[RowMapping] = []
    for some in _portions(instance_pks):
        told += connection.execute(
            select(
                PATIENT.c.id.label("patient"), STUDY.c.uid.label("study_uid"), SERIES.c.uid.label("series_uid"), INSTANCE.c.uid,
                func.abs(STUDY.c.version).label("version"),
            )
            .join(SERIES, INSTANCE.c.series_pk == SERIES.c.pk)
            .join(STUDY, INSTANCE.c.study_pk == STUDY.c.pk)
            .join(PATIENT, STUDY.c.patient_pk == PATIENT.c.pk)
            .where(INSTANCE.c.pk.in_(some))
            .order_by(INSTANCE.c.pk)
        ).mappings().all()  # fmt: skip
    if not told:
        return
    if connection.dialect.name != "sqlite":  # where a writer is alone anyway
        connection.execute(text("SELECT pg_advisory_xact_lock(:number)"), {"number": _LOCK})
    last, before = connection.execute(select(func.coalesce(func.max(CHANGE.c.sequence), 0), func.max(CHANGE.c.at))).one()
    at = max(micros(), before or 0)
    connection.execute(
        CHANGE.insert(), [{"sequence": last + n, "at": at, "event": event, **row} for n, row in enumerate(told, 1)]
    )


def read(
    connection: Connection, *, offset: int = 0, limit: int = 100, start: int | None = None, end: int | None = None
) -> list[Changed]:
    """`limit` changes from `start` (microseconds, inclusive) until before `end`, oldest first, the first `offset` left out."""
    wanted = []
    if start is not None:
        wanted.append(CHANGE.c.at >= start)
    if end is not None:
        wanted.append(CHANGE.c.at < end)
    if not wanted:  # without gaps the number is the offset
        wanted.append(CHANGE.c.sequence > offset)
        offset = 0
    return _told(
        connection,
        connection.execute(select(CHANGE).where(*wanted).order_by(CHANGE.c.sequence).offset(offset).limit(limit))
        .mappings()
        .all(),
    )


def newest(connection: Connection, limit: int = 1, before: int | None = None) -> list[Changed]:
    """The newest `limit` changes, of those before the number `before`, the last one first."""
    wanted = [] if before is None else [CHANGE.c.sequence < before]
    found = select(CHANGE).where(*wanted).order_by(CHANGE.c.sequence.desc()).limit(limit)
    return _told(connection, connection.execute(found).mappings().all())


def _told(connection: Connection, rows: Iterable[RowMapping]) -> list[Changed]:
    found = [dict(row) for row in rows]
    newest: dict[str, int] = {}
    for some in _portions(sorted({row["uid"] for row in found})):
        newest.update(
            (uid, number)
            for uid, number in connection.execute(
                select(CHANGE.c.uid, func.max(CHANGE.c.sequence)).where(CHANGE.c.uid.in_(some)).group_by(CHANGE.c.uid)
            )
        )
    return [Changed(**row, latest=newest[row["uid"]] == row["sequence"]) for row in found]


def _portions(keys: Sequence[_K]) -> Iterable[Sequence[_K]]:
    return (keys[start : start + _TOGETHER] for start in range(0, len(keys), _TOGETHER))

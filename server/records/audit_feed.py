"""How far the trail has been sent to the audit repository: the trail itself is the spool (ITI TF-2 section 3.20.4.1.1, "store locally and send when able").

An event is committed before what it tells of; what has not been sent is what comes after the row of `audit_delivery`. Numbers are in the order of
events but for those that PostgreSQL has given to transactions that are still busy: see `server.records.seals.Horizon`.
"""

from typing import Final

from sqlalchemy import Connection, func, select, update

from server.records.catalogue import PATIENT
from server.records.trail import EVENT
from server.store.db import insert, micros
from server.store.tables import AuditDelivery

_DELIVERY = AuditDelivery.__table__  # type: ignore[attr-defined]
_SECOND: Final = 1_000_000
_BEFORE: Final = 60 * _SECOND
"""To a new repository goes what is recorded from now on, and what was while the processes of this server were starting."""


def last(connection: Connection, repository: str) -> int | None:
    """The number of the last event that was sent; None to a new repository."""
    found = connection.execute(select(_DELIVERY.c.last).where(_DELIVERY.c.repository == repository)).scalar_one_or_none()
    return None if found is None else int(found)


def begin(connection: Connection, repository: str) -> None:
    """Makes the repository known, if it is not."""
    old = select(func.coalesce(func.max(EVENT.c.pk), 0)).where(EVENT.c.recorded < micros() - _BEFORE)
    row = {"repository": repository, "last": connection.execute(old).scalar_one(), "leased_until": 0}
    connection.execute(insert(connection, _DELIVERY).values(row).on_conflict_do_nothing())


def lease(connection: Connection, repository: str, seconds: float) -> int | None:
    """The number of the last event that was sent, for the one who may send now; None for everybody else."""
    now = micros()
    mine = (_DELIVERY.c.repository == repository) & (_DELIVERY.c.leased_until < now)
    taken = update(_DELIVERY).where(mine).values(leased_until=now + int(seconds * _SECOND)).returning(_DELIVERY.c.last)
    found = connection.execute(taken).scalar_one_or_none()
    return None if found is None else int(found)


def sent(connection: Connection, repository: str, number: int) -> None:
    """The events up to this number were sent; somebody else may send."""
    connection.execute(update(_DELIVERY).where(_DELIVERY.c.repository == repository).values(last=number, leased_until=0))


def release(connection: Connection, repository: str) -> None:
    """Nothing was sent; somebody else may."""
    connection.execute(update(_DELIVERY).where(_DELIVERY.c.repository == repository).values(leased_until=0))


def release_all(connection: Connection) -> None:
    """Ends every lease; as `jobs.release`."""
    connection.execute(update(_DELIVERY).values(leased_until=0))


def waiting(connection: Connection, repository: str) -> tuple[int, int | None]:
    """How many events wait to be sent, and when the oldest was (microseconds)."""
    begins = last(connection, repository)
    if begins is None:
        return 0, None
    count, oldest = connection.execute(
        select(func.count(), func.min(EVENT.c.recorded)).where(EVENT.c.pk > begins)
    ).one()  # fmt: skip
    return int(count), oldest


def patient_ids(connection: Connection, ids: frozenset[str]) -> dict[str, tuple[str, str]]:
    """Resource id to Patient ID and OID of who assigned it, of those who are in the catalogue."""
    rows = connection.execute(select(PATIENT.c.id, PATIENT.c.value, PATIENT.c.authority).where(PATIENT.c.id.in_(sorted(ids))))
    return {row.id: (row.value, row.authority) for row in rows}

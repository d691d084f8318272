"""Manifests that are, or shall be, registered with a partner (RAD-68): each version of each study, at each of them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from sqlalchemy import Connection, delete, exists, func, select, update

from server.records.catalogue import STUDY
from server.store.db import micros
from server.store.tables import ForeignEntry

_ENTRY = ForeignEntry.__table__  # type: ignore[attr-defined]

State = Literal["waiting", "sent", "replaced", "withdrawn", "left", "refused", "given up"]
"""`waiting`: it may have arrived, or not. `left`: it is withdrawn here, and stands there still. `given up`: no answer came in a week."""
STATES: tuple[State, ...] = get_args(State)


@dataclass(frozen=True, slots=True)
class Foreign:
    """One version of a study's manifest at a partner. `entry_uuid` is its id there, `replaces` the one before; `error` is without patient data."""

    pk: int
    study_pk: int
    partner: str
    unique_id: str
    entry_uuid: str
    replaces: str
    patient_id: str
    state: State
    attempts: int
    error: str
    created: int


_COLUMNS = [_ENTRY.c[name] for name in Foreign.__dataclass_fields__]


def of_study(connection: Connection, partner: str, study_pk: int) -> list[Foreign]:
    """All of a study at a partner, oldest first."""
    mine = select(*_COLUMNS).where(_ENTRY.c.study_pk == study_pk, _ENTRY.c.partner == partner).order_by(_ENTRY.c.pk)
    return [Foreign(*row) for row in connection.execute(mine)]


def begin(
    connection: Connection, study_pk: int, partner: str, *, unique_id: str, entry_uuid: str, replaces: str, patient_id: str
) -> Foreign:
    """A version that is to be sent."""
    now = micros()
    added = _ENTRY.insert().values(
        study_pk=study_pk, partner=partner, unique_id=unique_id, entry_uuid=entry_uuid, replaces=replaces, patient_id=patient_id,
        state="waiting", attempts=0, error="", created=now, updated=now,
    )  # fmt: skip
    return Foreign(*connection.execute(added.returning(*_COLUMNS)).one())


def forget(connection: Connection, pk: int) -> None:
    """One that was never sent."""
    connection.execute(delete(_ENTRY).where(_ENTRY.c.pk == pk))


def tried(connection: Connection, pk: int) -> None:
    """It is sent now, once more: from here on it may have arrived."""
    connection.execute(update(_ENTRY).where(_ENTRY.c.pk == pk).values(attempts=_ENTRY.c.attempts + 1, updated=micros()))


def alone(connection: Connection, pk: int) -> None:
    """The partner has nothing that it could replace."""
    connection.execute(update(_ENTRY).where(_ENTRY.c.pk == pk).values(replaces="", updated=micros()))


def settle(connection: Connection, pk: int, state: State, error: str = "") -> None:
    """What became of it."""
    connection.execute(update(_ENTRY).where(_ENTRY.c.pk == pk).values(state=state, error=error, updated=micros()))


def failed(connection: Connection, pk: int, error: str) -> None:
    """It still waits, and why."""
    connection.execute(update(_ENTRY).where(_ENTRY.c.pk == pk).values(error=error, updated=micros()))


def counts(connection: Connection) -> Mapping[tuple[str, str], int]:
    """How many there are, by partner and state."""
    grouped = select(_ENTRY.c.partner, _ENTRY.c.state, func.count()).group_by(_ENTRY.c.partner, _ENTRY.c.state)
    return {
        (partner, state): int(count)
        for partner, state, count in connection.execute(grouped.order_by(*grouped.selected_columns[:2]))
    }


def troubled(connection: Connection, *, limit: int = 1000) -> list[tuple[Foreign, str]]:
    """Those that did not arrive, or stand there though they are withdrawn here, each with its Study Instance UID: newest first."""
    joined = select(*_COLUMNS, STUDY.c.uid).join(STUDY, STUDY.c.pk == _ENTRY.c.study_pk)
    other = _ENTRY.alias()
    mine = (other.c.study_pk == _ENTRY.c.study_pk) & (other.c.partner == _ENTRY.c.partner) & (other.c.pk > _ENTRY.c.pk)
    last = _ENTRY.c.state.in_(["waiting", "refused", "given up"]) & ~exists().where(mine)
    wanted = joined.where(last | (_ENTRY.c.state == "left")).order_by(_ENTRY.c.pk.desc()).limit(limit)
    return [(Foreign(*row), uid) for *row, uid in connection.execute(wanted)]


def reopen(connection: Connection, row: Foreign) -> None:
    """What did not succeed is to be tried anew."""
    if row.state == "refused":
        forget(connection, row.pk)
    elif row.state in ("left", "given up"):
        state = "sent" if row.state == "left" else "waiting"
        connection.execute(update(_ENTRY).where(_ENTRY.c.pk == row.pk).values(state=state, created=micros(), updated=micros()))

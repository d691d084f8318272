"""The audit trail: IHE BALP AuditEvents, committed before what they tell of is sent.

`record` writes in the caller's transaction; `write` waits for a commit that it shares with whoever else waits just then,
so that many small disclosures cost one disk sync.
"""

import re
import secrets
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import orjson
from sqlalchemy import ColumnElement, Connection, select

from profiles.audit_event import SUCCESS, Agent, AuditedAction, AuditedEntity, Kind, Outcome, Subtype, audit_event
from server.records.resources import packed, unpacked
from server.store.db import Database, instant, micros
from server.store.group_commit import GroupCommit
from server.store.tables import AuditEvent

EVENT = AuditEvent.__table__  # type: ignore[attr-defined]
_INSERT = EVENT.insert()
_TOGETHER = 256
_Row = dict[str, object]
_ANY_ID, _ANY_PATIENT = secrets.token_hex(), secrets.token_hex()
"""Where an event's id and patient go. Made for each process, so that no client can have them in what it sends."""


@dataclass(frozen=True, slots=True)
class RecordedEvent:
    """One event of the trail; `body` is the AuditEvent resource as JSON."""

    pk: int
    id: str
    recorded: int
    patient: str
    body: bytes


class Trail:
    """Writes the trail of one database. `server` is how this server is called in it."""

    def __init__(self, database: Database, server: Agent) -> None:
        self._database = database
        self._server = server
        self._together = GroupCommit(self._commit, limit=_TOGETHER)

    def action(
        self,
        kind: Kind,
        subtype: Subtype,
        client: Agent,
        *,
        rest: bool = True,
        outcome: Outcome = SUCCESS,
        outcome_desc: str = "",
        patient_id: str = "",
        entities: tuple[AuditedEntity, ...] = (),
        request_id: str = "",
        token_id: str = "",
    ) -> AuditedAction:
        """What `client` did here just now, or was refused; see `AuditedAction`."""
        now = micros()
        return AuditedAction(
            id=_new_id(now), recorded=instant(now), kind=kind, client=client, server=self._server, subtypes=(subtype,),
            rest=rest, outcome=outcome, outcome_desc=outcome_desc, patient_id=patient_id, entities=entities,
            request_id=request_id, token_id=token_id,
        )  # fmt: skip

    def record(self, connection: Connection, *actions: AuditedAction) -> None:
        """Adds events in the caller's transaction: they stand if and only if it commits."""
        if actions:
            connection.execute(_INSERT, [_row(action) for action in actions])

    def write(self, *actions: AuditedAction, patients: Collection[str] = ()) -> None:
        """Returns when the events are durable. Raises what the database raises: nothing may be disclosed then.

        With `patients` (resource ids) an action, which names none itself, is an event of each of them.
        """
        rows = [row for action in actions for row in (_rows(action, patients) if patients else (_row(action),))]
        if rows:
            self._together.join(rows)

    def _commit(self, rows: Sequence[_Row]) -> None:
        with self._database.write() as connection:
            connection.execute(_INSERT, rows)


def _new_id(recorded: int) -> str:
    """RFC 9562 section 5.7: a UUID that begins with the time, so that ids of one moment stand together in their index."""
    random = int.from_bytes(secrets.token_bytes(10), "big")
    digits = f"{recorded // 1000 << 80 | 7 << 76 | (random >> 68) << 64 | 2 << 62 | random & (1 << 62) - 1:032x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def _row(action: AuditedAction) -> _Row:
    return _row_of(action, action.id, action.patient_id, orjson.dumps(audit_event(action)), _recorded(action))


def _rows(action: AuditedAction, patients: Iterable[str]) -> Iterator[_Row]:
    """The event is written as JSON once: a search discloses hundreds of patients."""
    recorded = _recorded(action)
    head, middle, tail = re.split(b"|".join((_ANY_ID.encode(), _ANY_PATIENT.encode())), _template(action))
    for patient in patients:
        id_ = _new_id(recorded)
        yield _row_of(action, id_, patient, b"".join((head, id_.encode(), middle, orjson.dumps(patient)[1:-1], tail)), recorded)


def _template(action: AuditedAction) -> bytes:
    return orjson.dumps(audit_event(replace(action, id=_ANY_ID, patient_id=_ANY_PATIENT)))


def _recorded(action: AuditedAction) -> int:
    return micros(datetime.fromisoformat(action.recorded))


def _row_of(action: AuditedAction, id_: str, patient: str, body: bytes, recorded: int) -> _Row:
    return {
        "id": id_,
        "recorded": recorded,
        "patient": patient,
        "subtype": action.subtypes[-1].code,
        "outcome": action.outcome,
        "body": packed(body),
    }


def without_queries(body: bytes) -> bytes:
    """An AuditEvent as a patient may read it: what else a search named is somebody else's affair."""
    event = orjson.loads(body)
    event.get("meta", {}).pop("profile", None)  # BALP's patterns ask for what is left out here
    for entity in event.get("entity", ()):
        entity.pop("query", None)
    return orjson.dumps(event)


def events(connection: Connection, *conditions: ColumnElement[bool], limit: int) -> Iterator[RecordedEvent]:
    """Events newest first."""
    rows = connection.execute(
        select(EVENT.c.pk, EVENT.c.id, EVENT.c.recorded, EVENT.c.patient, EVENT.c.body)
        .where(*conditions)
        .order_by(EVENT.c.recorded.desc(), EVENT.c.pk.desc())
        .limit(limit)
    )
    return (RecordedEvent(row.pk, row.id, row.recorded, row.patient, unpacked(bytes(row.body))) for row in rows)

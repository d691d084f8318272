"""The audit trail: IHE BALP AuditEvents, committed before what they tell of is sent.

`record` writes in the caller's transaction; `write` waits for a commit that it shares with whoever else waits just then,
so that many small disclosures cost one disk sync.
"""

import queue
import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import datetime

import orjson
from sqlalchemy import ColumnElement, Connection, select

from profiles.audit_event import SUCCESS, Agent, AuditedAction, AuditedEntity, Kind, Outcome, Subtype, audit_event
from server.records.resources import packed, unpacked
from server.store.db import Database, instant, micros
from server.store.tables import AuditEvent

EVENT = AuditEvent.__table__  # type: ignore[attr-defined]
_TOGETHER = 256
_Row = dict[str, object]


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
        self._queue: queue.SimpleQueue[tuple[list[_Row], Future[None]] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

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
        return AuditedAction(
            id=str(uuid.uuid4()), recorded=instant(micros()), kind=kind, client=client, server=self._server, subtypes=(subtype,),
            rest=rest, outcome=outcome, outcome_desc=outcome_desc, patient_id=patient_id, entities=entities,
            request_id=request_id, token_id=token_id,
        )  # fmt: skip

    def record(self, connection: Connection, *actions: AuditedAction) -> None:
        """Adds events in the caller's transaction: they stand if and only if it commits."""
        if actions:
            connection.execute(EVENT.insert(), [_row(action) for action in actions])

    def write(self, *actions: AuditedAction) -> None:
        """Returns when the events are durable. Raises what the database raises: nothing may be disclosed then."""
        if not actions:
            return
        if self._thread is None:
            self._start()
        done: Future[None] = Future()
        self._queue.put(([_row(action) for action in actions], done))
        done.result()

    def close(self) -> None:
        """Ends the writer after what is queued."""
        with self._lock:
            if self._thread is not None:
                self._queue.put(None)
                self._thread.join()
                self._thread = None

    def _start(self) -> None:
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="trail", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        while (first := self._queue.get()) is not None:
            waiting = [first]
            last = False
            while len(waiting) < _TOGETHER:
                try:
                    more = self._queue.get_nowait()
                except queue.Empty:
                    break
                if more is None:
                    last = True
                    break
                waiting.append(more)
            self._commit(waiting)
            if last:
                return

    def _commit(self, waiting: list[tuple[list[_Row], "Future[None]"]]) -> None:
        try:
            with self._database.write() as connection:
                connection.execute(EVENT.insert(), [row for rows, _ in waiting for row in rows])
        except BaseException as error:  # noqa: BLE001 every waiter must be told, whatever it was
            for _, done in waiting:
                done.set_exception(error)
        else:
            for _, done in waiting:
                done.set_result(None)


def _row(action: AuditedAction) -> _Row:
    return {
        "id": action.id,
        "recorded": micros(datetime.fromisoformat(action.recorded)),
        "patient": action.patient_id,
        "subtype": action.subtypes[-1].code,
        "outcome": action.outcome,
        "body": packed(orjson.dumps(audit_event(action))),
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

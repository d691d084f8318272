"""The audit trail: IHE BALP AuditEvents, committed before what they tell of is sent.

`record` writes in the caller's transaction; `write` waits for a commit that it shares with whoever else waits just then,
so that many small disclosures cost one disk sync. What a search told of many patients is one row and a small one for each of
them; every patient has an AuditEvent of it all the same, which is made when it is read.
"""

import re
import secrets
import struct
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

import orjson
from sqlalchemy import (
    ARRAY,
    BigInteger,
    ColumnElement,
    Connection,
    Select,
    String,
    and_,
    bindparam,
    false,
    func,
    literal,
    or_,
    select,
    tuple_,
    union_all,
)

from profiles.audit_event import SUCCESS, Agent, AuditedAction, AuditedEntity, Kind, Outcome, Subtype, audit_event
from profiles.audit_forms import audit_event_json
from server.errors import ImageShareError
from server.records.packing import packed, unpacked
from server.store.db import Database, instant, micros
from server.store.group_commit import GroupCommit
from server.store.prepared import Prepared
from server.store.tables import AuditEvent, AuditPatient

EVENT = AuditEvent.__table__  # type: ignore[attr-defined]
PATIENT = AuditPatient.__table__  # type: ignore[attr-defined]
Condition = ColumnElement[bool]
Noted = tuple[AuditedAction, Collection[str]]
"""An action, which names no patient itself, and the ids of those whom it is about."""
_COLUMNS = ("id", "recorded", "patient", "subtype", "outcome", "body")
_ADD = Prepared(lambda _: EVENT.insert(), _COLUMNS)
_ADD_SEVERAL = Prepared(lambda _: EVENT.insert().returning(EVENT.c.pk), _COLUMNS)
_ADD_PATIENT = Prepared(lambda _: PATIENT.insert(), ("event", "number", "patient", "recorded"))
_ARRAYS = func.unnest(bindparam("numbers", type_=ARRAY(BigInteger)), bindparam("patients", type_=ARRAY(String)))
_ADD_PATIENTS = Prepared(
    lambda _: PATIENT.insert().from_select(
        ["event", "recorded", "number", "patient"],
        select(
            bindparam("event", type_=BigInteger),
            bindparam("recorded", type_=BigInteger),
            *_ARRAYS.table_valued("number", "patient").render_derived().c,
        ),
    ),
    ("event", "recorded", "numbers", "patients"),
)
_TOGETHER = 256
_ANY_ID, _ANY_PATIENT = secrets.token_hex(), secrets.token_hex()
"""Where an event's id and patient go. Made for each process, so that no client can have them in what it sends."""
_HERE: Final = b"\0"
"""The same in what is stored: JSON has no such byte."""
_DIGITS: Final = 8
"""Of an id, that say which of an event's patients it is about."""
_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@dataclass(frozen=True, slots=True)
class _Written:
    """An event's row, and the patients whom it is about where these are several: `row` names none then."""

    row: dict[str, object]
    patients: Collection[str] = ()


@dataclass(frozen=True, slots=True)
class RecordedEvent:
    """One event of the trail; `body` is the AuditEvent resource as JSON.

    `number` is 0, or which patient's it is of a row that is about several.
    """

    pk: int
    number: int
    id: str
    recorded: int
    patient: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Audited:
    """What the trail shall say of an interaction: `reference` is that of the version, `patient` the one whose it is, or empty.

    A search has the `query` as the client wrote it instead, and is one of these for each patient of whom it told. With an `error` it was refused,
    though the client is told that there was nothing to do.
    """

    kind: Kind
    subtype: Subtype
    reference: str
    patient: str = ""
    query: bytes = b""
    error: ImageShareError | None = None


class Trail:
    """Writes the trail of one database. `server` is how this server is called in it."""

    def __init__(self, database: Database, server: Agent) -> None:
        self._writer = database.writer()
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
        initiated: bool = True,
    ) -> AuditedAction:
        """What `client` did here just now, or was refused; see `AuditedAction`."""
        now = micros()
        return AuditedAction(
            id=_new_id(now), recorded=instant(now), kind=kind, client=client, server=self._server, subtypes=(subtype,),
            rest=rest, outcome=outcome, outcome_desc=outcome_desc, patient_id=patient_id, entities=entities,
            request_id=request_id, token_id=token_id, initiated=initiated,
        )  # fmt: skip

    def record(self, connection: Connection, *actions: AuditedAction) -> None:
        """Adds events in the caller's transaction: they stand if and only if it commits."""
        _add(connection, [_alone(action) for action in actions])

    def write(self, *actions: AuditedAction, patients: Collection[str] = ()) -> None:
        """Returns when the events are durable. Raises what the database raises: nothing may be disclosed then.

        With `patients` (resource ids) an action, which names none itself, is an event of each of them; an empty one stands for somebody
        whom the catalogue does not know.
        """
        if written := [each for action in actions for each in _written(action, patients)]:
            self._together.join(written)

    def note(self, noted: Iterable[Noted], connection: Connection | None = None) -> None:
        """Many actions, each an event of each of its patients, with one commit for all of them; with `connection` in its transaction."""
        written = [each for action, patients in noted for each in _written(action, patients)]
        if connection is not None:
            _add(connection, written)
        elif written:
            self._together.join(written)

    def _commit(self, written: Sequence[_Written]) -> None:
        with self._writer.write() as connection:
            _add(connection, written)


def _add(connection: Connection, written: Sequence[_Written]) -> None:
    _ADD.run_each(connection, [each.row for each in written if not each.patients])
    for each in written:
        if each.patients:
            event = _ADD_SEVERAL.run(connection, each.row).scalar_one()
            _add_patients(connection, {"event": event, "recorded": each.row["recorded"]}, each.patients)


def _add_patients(connection: Connection, event: dict[str, object], patients: Collection[str]) -> None:
    numbers = _numbers(len(patients))
    if connection.dialect.name == "postgresql":  # one statement takes half as long as many; for SQLite it is the other way round
        _ADD_PATIENTS.run(connection, {**event, "numbers": numbers, "patients": list(patients)})
    else:
        pairs = zip(numbers, patients, strict=True)
        _ADD_PATIENT.run_each(connection, [{**event, "number": number, "patient": patient} for number, patient in pairs])


def _numbers(count: int) -> list[int]:
    """Different ones from 1 to what `_DIGITS` can say, by chance."""
    found: set[int] = set()
    while len(found) < count:
        found.update(struct.unpack(f"{count - len(found)}I", secrets.token_bytes(4 * (count - len(found)))))
        found.discard(0)
    return list(found)


def _new_id(recorded: int) -> str:
    """RFC 9562 section 5.7: a UUID that begins with the time, so that ids of one moment stand together in their index."""
    random = int.from_bytes(secrets.token_bytes(10), "big")
    digits = f"{recorded // 1000 << 80 | 7 << 76 | (random >> 68) << 64 | 2 << 62 | random & (1 << 62) - 1:032x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def _written(action: AuditedAction, patients: Collection[str]) -> Iterator[_Written]:
    known = [patient for patient in patients if patient]
    if len(known) > 1:
        yield _Written(_row(action, _of_several(action.id), "", _template(action)), known)
    elif known:
        yield _alone(replace(action, patient_id=known[0]))
    if not known:
        yield _alone(action)
    elif len(known) < len(patients):
        yield _alone(replace(action, id=_new_id(_recorded(action))))


def _of_several(id_: str) -> str:
    """The id that the row of an event of several patients has; it is that of none of them."""
    return id_[:-_DIGITS] + "0" * _DIGITS


def _alone(action: AuditedAction) -> _Written:
    return _Written(_row(action, action.id, action.patient_id, audit_event_json(action)))


def _template(action: AuditedAction) -> bytes:
    """The event's body with marks where id and patient go."""
    body = orjson.dumps(audit_event(replace(action, id=_ANY_ID, patient_id=_ANY_PATIENT)))
    return body.replace(_ANY_ID.encode(), _HERE, 1).replace(_ANY_PATIENT.encode(), _HERE, 1)


def _recorded(action: AuditedAction) -> int:
    return micros(datetime.fromisoformat(action.recorded))


def _row(action: AuditedAction, id_: str, patient: str, body: bytes) -> dict[str, object]:
    return {
        "id": id_,
        "recorded": _recorded(action),
        "patient": patient,
        "subtype": action.subtypes[-1].code,
        "outcome": action.outcome,
        "body": packed(body),
    }


# --- reading


def _any(_: ColumnElement[Any]) -> Sequence[Condition]:
    return ()


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which events. `patients` and `moments` are conditions on a column that has the patient, or when it was (microseconds).

    Of each tuple of `ids` any may be the event's. `few` says that `patients` leaves few patients.
    """

    ids: tuple[tuple[str, ...], ...] = ()
    patients: Callable[[ColumnElement[str]], Sequence[Condition]] = _any
    moments: Callable[[ColumnElement[int]], Sequence[Condition]] = _any
    few: bool = False


EVERYTHING: Final = Wanted()
_Place = tuple[int, int, int]
_WHOM = func.coalesce(PATIENT.c.patient, EVENT.c.patient).label("patient")
_NUMBER = func.coalesce(PATIENT.c.number, 0).label("number")
_OF_EVENT = PATIENT.c.event == EVENT.c.pk
# When, which event, which of its patients, who that is.
_EACH = select(EVENT.c.recorded, EVENT.c.pk, _NUMBER, _WHOM).select_from(EVENT.outerjoin(PATIENT, _OF_EVENT))
_ALONE = select(EVENT.c.recorded, EVENT.c.pk, literal(0).label("number"), EVENT.c.patient)
_SEVERAL = select(PATIENT.c.recorded, PATIENT.c.event.label("pk"), PATIENT.c.number, PATIENT.c.patient).join(EVENT, _OF_EVENT)


def events(
    connection: Connection,
    *conditions: Condition,
    wanted: Wanted = EVERYTHING,
    limit: int,
    after: _Place | None = None,
) -> Iterator[RecordedEvent]:
    """Events newest first, after the one with this `place`. `conditions` are over `EVENT`, of what all patients of an event share."""
    yield from _read(
        connection, _of_few(wanted, conditions, limit, after) if wanted.few else _of_all(wanted, conditions, limit, after)
    )


def in_order(connection: Connection, *, after: int, last: int, rows: int) -> Iterator[RecordedEvent]:
    """The events of up to so many rows, oldest first: those with a number (`pk`) above `after`, up to `last`."""
    numbers = select(EVENT.c.pk).where(EVENT.c.pk > after, EVENT.c.pk <= last).order_by(EVENT.c.pk).limit(rows)
    found = _EACH.add_columns(EVENT.c.id, EVENT.c.body).where(EVENT.c.pk.in_(numbers)).order_by(EVENT.c.pk, _NUMBER)
    yield from _read(connection, found)


def _read(connection: Connection, found: Select[Any]) -> Iterator[RecordedEvent]:
    last, parts = 0, [b""]
    for row in connection.execute(found):
        if not row.number:
            yield RecordedEvent(row.pk, 0, row.id, row.recorded, row.patient, unpacked(bytes(row.body)))
            continue
        if row.pk != last:
            last, parts = row.pk, unpacked(bytes(row.body)).split(_HERE)
        id_ = f"{row.id[:-_DIGITS]}{row.number:0{_DIGITS}x}"
        body = b"".join((parts[0], id_.encode(), parts[1], orjson.dumps(row.patient)[1:-1], parts[2]))
        yield RecordedEvent(row.pk, row.number, id_, row.recorded, row.patient, body)


def total(connection: Connection, *conditions: Condition, wanted: Wanted = EVERYTHING) -> int:
    """How many events there are."""
    parts = _parts_of_few(wanted) if wanted.few else (_part_of_all(wanted),)
    return sum(int(connection.execute(part.with_only_columns(func.count()).where(*conditions)).scalar_one()) for part in parts)


def _of_all(wanted: Wanted, conditions: Sequence[Condition], limit: int, after: _Place | None) -> Select[Any]:
    """In the order of the index of all events, each with its patients."""
    return _page(_part_of_all(wanted).add_columns(EVENT.c.id, EVENT.c.body).where(*conditions), limit, after)


def _of_few(wanted: Wanted, conditions: Sequence[Condition], limit: int, after: _Place | None) -> Select[Any]:
    """In the order of the indexes that have a patient's own events, and the patient's part in those of several."""
    pages = [_page(part.where(*conditions), limit, after).subquery() for part in _parts_of_few(wanted)]
    found = union_all(*(select(page) for page in pages)).subquery()
    return (
        select(found, EVENT.c.id, EVENT.c.body)
        .join(EVENT, EVENT.c.pk == found.c.pk)
        .order_by(found.c.recorded.desc(), found.c.pk.desc(), found.c.number.desc())
        .limit(limit)
    )


def _page(part: Select[Any], limit: int, after: _Place | None) -> Select[Any]:
    recorded, pk, number = list(part.selected_columns)[:3]
    if after is not None:
        # The first condition is what an index can walk.
        part = part.where(recorded <= after[0], tuple_(recorded, pk, number) < tuple_(*after))
    return part.order_by(recorded.desc(), pk.desc(), number.desc()).limit(limit)


def _part_of_all(wanted: Wanted) -> Select[Any]:
    told = [
        and_(
            EVENT.c.id.in_({*ids, *(base for base, _ in _several(ids))}),
            or_(and_(PATIENT.c.number.is_(None), EVENT.c.id.in_(ids)), *_named(ids)),
        )
        for ids in wanted.ids
    ]
    return _EACH.where(*told, *wanted.patients(_WHOM), *wanted.moments(EVENT.c.recorded))


def _parts_of_few(wanted: Wanted) -> tuple[Select[Any], Select[Any]]:
    alone, several = (EVENT.c.id.in_(ids) for ids in wanted.ids), (or_(false(), *_named(ids)) for ids in wanted.ids)
    return (
        _ALONE.where(EVENT.c.patient != "", *alone, *wanted.patients(EVENT.c.patient), *wanted.moments(EVENT.c.recorded)),
        _SEVERAL.where(*several, *wanted.patients(PATIENT.c.patient), *wanted.moments(PATIENT.c.recorded)),
    )


def _named(ids: Sequence[str]) -> list[Condition]:
    return [and_(EVENT.c.id == event, PATIENT.c.number == number) for event, number in _several(ids)]


def _several(ids: Sequence[str]) -> list[tuple[str, int]]:
    """The ids as those of events of several patients, and the numbers of the patients."""
    return [(_of_several(id_), int(id_[-_DIGITS:], 16)) for id_ in ids if _ID.fullmatch(id_)]


_PRIVATE: Final = ("Patient/", "RelatedPerson/", "Person/")
"""Who is no professional, and whose affair it is what he tried."""


def as_patients_see(body: bytes, patient: str) -> bytes:
    """An AuditEvent as this patient may read it: what else a search named, and which other patient tried something, is somebody else's affair."""
    event = orjson.loads(body)
    event.get("meta", {}).pop("profile", None)  # BALP's patterns ask for what is left out here
    for entity in event.get("entity", ()):
        entity.pop("query", None)
    for agent in event.get("agent", ()):
        reference = agent.get("who", {}).get("reference", "")
        if reference.startswith(_PRIVATE) and reference != f"Patient/{patient}":
            agent["who"] = {"display": "another person"}
    return orjson.dumps(event)

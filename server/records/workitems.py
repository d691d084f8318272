"""Workitems: Unified Procedure Steps, each a row with the whole SOP Instance in DICOM JSON (PS3.4 annex CC).

Whose a workitem is follows from its Patient ID when it is asked for: the patient may become known here later, or be merged.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import orjson
from sqlalchemy import ColumnElement, Connection, Row, Select, delete, exists, func, select, tuple_, update

from profiles import workitem
from profiles.dicom_json import Attributes
from profiles.model_item import Item, text
from profiles.query_identifier import Key
from profiles.workitem import FINAL, START, STATE
from server.errors import Conflict, TooLarge
from server.records.belonging import MERGE
from server.records.catalogue import PATIENT
from server.records.item_matching import matches
from server.records.packing import packed, unpacked
from server.store.db import insert, micros
from server.store.tables import Workitem as Table
from server.store.tables import WorkitemSubscription

WORKITEM = Table.__table__  # type: ignore[attr-defined]
_SUBSCRIPTION = WorkitemSubscription.__table__  # type: ignore[attr-defined]
_INTO = PATIENT.alias("into")

PATIENT_OF: Final[ColumnElement[str]] = func.coalesce(_INTO.c.id, PATIENT.c.id, "")
"""Resource id of the patient of a row of `OWNED`; empty where nobody of that Patient ID is known here."""
OWNED: Final = (
    WORKITEM.outerjoin(PATIENT, (PATIENT.c.authority == WORKITEM.c.authority) & (PATIENT.c.value == WORKITEM.c.patient_id))
    .outerjoin(MERGE, MERGE.c.source_pk == PATIENT.c.pk)
    .outerjoin(_INTO, _INTO.c.pk == MERGE.c.target_pk)
)
_COLUMNS: Final = (
    WORKITEM.c.pk, WORKITEM.c.uid, WORKITEM.c.state, WORKITEM.c.transaction_uid, PATIENT_OF.label("patient"), WORKITEM.c.body,
    WORKITEM.c.start,
)  # fmt: skip
_PAGE: Final = 200
MOST_READ: Final = 50_000
"""Workitems that one search looks into."""


@dataclass(frozen=True, slots=True)
class Workitem:
    """One workitem. `patient` is a resource id or empty; `transaction_uid` is its lock and never told."""

    pk: int
    uid: str
    state: str
    transaction_uid: str
    patient: str
    item: Attributes


def add(connection: Connection, uid: str, item: Item, identity: tuple[str, str]) -> Workitem:
    """Keeps a new one; `identity` is the patient's authority and Patient ID. Raises `Conflict` for a UID that there is."""
    now = micros()
    row = {
        "uid": uid, "state": text(item, STATE), "transaction_uid": "", "authority": identity[0], "patient_id": identity[1],
        "start": text(item, START), "created": now, "updated": now, "ended": 0, "body": packed(orjson.dumps(item)),
    }  # fmt: skip
    made = insert(connection, WORKITEM).values(**row).on_conflict_do_nothing().returning(WORKITEM.c.pk)
    if connection.execute(made).scalar_one_or_none() is None:
        raise Conflict("there is a workitem of this UID already")
    found = get(connection, uid)
    assert found is not None
    return found


def patient_of(connection: Connection, identity: tuple[str, str]) -> str:
    """Resource id of the patient of an authority and a Patient ID, as `PATIENT_OF` has it."""
    known = PATIENT.outerjoin(MERGE, MERGE.c.source_pk == PATIENT.c.pk).outerjoin(_INTO, _INTO.c.pk == MERGE.c.target_pk)
    statement = select(func.coalesce(_INTO.c.id, PATIENT.c.id)).select_from(known)
    found = connection.execute(statement.where(PATIENT.c.authority == identity[0], PATIENT.c.value == identity[1]))
    return str(found.scalar_one_or_none() or "")


def get(connection: Connection, uid: str, *, for_update: bool = False) -> Workitem | None:
    """The workitem of that UID. With `for_update` nobody else changes it until the transaction ends."""
    statement = select(*_COLUMNS).select_from(OWNED).where(WORKITEM.c.uid == uid)
    row = connection.execute(statement.with_for_update(of=WORKITEM) if for_update else statement).first()
    return _read(row) if row is not None else None


def save(connection: Connection, before: Workitem, item: Item, transaction_uid: str | None = None) -> Workitem:
    """Keeps what became of `before`, which was read for update."""
    state, now = text(item, STATE), micros()
    lock = before.transaction_uid if transaction_uid is None else transaction_uid
    ended = {"ended": now} if state in FINAL else {}
    connection.execute(
        update(WORKITEM)
        .where(WORKITEM.c.pk == before.pk)
        .values(state=state, transaction_uid=lock, start=text(item, START), updated=now, body=packed(orjson.dumps(item)), **ended)
    )
    return Workitem(before.pk, before.uid, state, lock, before.patient, dict(item))


def find(
    connection: Connection, keys: Sequence[Key], allowed: ColumnElement[bool], *, limit: int, offset: int = 0
) -> list[Workitem]:
    """PS3.4 section CC.2.8: those that match, by start. `allowed` is a condition on `PATIENT_OF`.

    Raises `MalformedQuery`, and `TooLarge` where too many would have to be read.
    """
    statement = _narrowed(select(*_COLUMNS).select_from(OWNED).where(allowed), keys)
    statement = statement.order_by(WORKITEM.c.start, WORKITEM.c.pk)
    found: list[Workitem] = []
    page = statement
    for _ in range(0, MOST_READ, _PAGE):
        rows = connection.execute(page.limit(_PAGE)).all()
        found += [one for one in map(_read, rows) if matches(one.item, keys)]
        if len(found) >= offset + limit or len(rows) < _PAGE:
            return found[offset : offset + limit]
        page = statement.where(tuple_(WORKITEM.c.start, WORKITEM.c.pk) > (rows[-1].start, rows[-1].pk))
    raise TooLarge("the search would have to look into too many workitems; narrow it by state, start, Patient ID or UID")


def _narrowed(
    statement: Select[int, str, str, str, str, bytes, str], keys: Sequence[Key]
) -> Select[int, str, str, str, str, bytes, str]:
    """What SQL can leave out already. Only plain values: the rest is looked at item by item."""
    columns = {STATE: WORKITEM.c.state, workitem.SOP_INSTANCE: WORKITEM.c.uid, "00100020": WORKITEM.c.patient_id}
    for key in keys:
        column = columns.get(key.tag)
        if column is not None and key.value and not set(key.value) & set("*?"):
            statement = statement.where(column.in_([part.strip() for part in key.value.split("\\")]))
    return statement


def uids(connection: Connection, keys: Sequence[Key] = ()) -> list[str]:
    """UIDs of all that match, oldest first."""
    statement = select(*_COLUMNS).select_from(OWNED).order_by(WORKITEM.c.pk)
    if not keys:
        return list(connection.execute(select(WORKITEM.c.uid).order_by(WORKITEM.c.pk)).scalars())
    rows = connection.execute(_narrowed(statement, keys))
    return [one.uid for one in map(_read, rows) if matches(one.item, keys)]


def many(connection: Connection, wanted: Iterable[str]) -> list[Workitem]:
    """Those of these UIDs that are there."""
    return [one for uid in wanted if (one := get(connection, uid)) is not None]


def purge(connection: Connection, before: int) -> int:
    """PS3.4 section CC.2.1.3: removes what ended before that moment and has no deletion lock. Returns how many."""
    locked = exists().where(_SUBSCRIPTION.c.target == WORKITEM.c.uid, _SUBSCRIPTION.c.deletion_lock == 1)
    due = (
        connection.execute(select(WORKITEM.c.uid).where(WORKITEM.c.ended > 0, WORKITEM.c.ended < before, ~locked).limit(1000))
        .scalars()
        .all()
    )
    if due:
        connection.execute(delete(_SUBSCRIPTION).where(_SUBSCRIPTION.c.target.in_(due)))
        connection.execute(delete(WORKITEM).where(WORKITEM.c.uid.in_(due)))
    return len(due)


def _read(row: Row[int, str, str, str, str, bytes, str]) -> Workitem:
    return Workitem(
        row.pk, row.uid, row.state, row.transaction_uid, row.patient, orjson.loads(unpacked(bytes(row.body)))
    )  # fmt: skip

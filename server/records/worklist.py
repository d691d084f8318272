"""The modality worklist: Scheduled Procedure Steps, each a row with the whole item of PS3.4 table K.6-1 in DICOM JSON.

Whoever schedules (HL7 orders, UPS, `imageshare worklist add`) calls `put`; performed steps move an item on by `progress`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import orjson
from sqlalchemy import Connection, delete, select, tuple_, update

from profiles.dicom_json import Attributes
from profiles.identifiers import InvalidIdentifier, lenient_uid
from profiles.model_item import Item, items, said, text, values
from profiles.part10 import keyword
from profiles.query_identifier import Identifier, Key
from server.errors import MalformedInstance, NotFound
from server.records.item_matching import date_range, matches
from server.records.packing import packed, unpacked
from server.store.db import Database, insert, micros
from server.store.tables import ScheduledStep

STEP = ScheduledStep.__table__  # type: ignore[attr-defined]

STEP_SEQUENCE: Final = "00400100"
STATUS: Final = "00400020"
SCHEDULED, STARTED, COMPLETED, DISCONTINUED = "SCHEDULED", "STARTED", "COMPLETED", "DISCONTINUED"
_NOT_WAITING: Final = (STARTED, COMPLETED, DISCONTINUED, "CANCELED", "CANCELLED", "DEPARTED")
"""Scheduled Procedure Step Status (0040,0020) of what no modality waits for: shown only to who asks for a status."""

# PS3.4 table K.6-1: return keys of type 1, of the item and of its Scheduled Procedure Step
REQUIRED: Final = ("00100010", "00100020", "0020000D", "00401001")
REQUIRED_OF_STEP: Final = ("00080060", "00400001", "00400002", "00400003", "00400009")

_PAGE: Final = 200


@dataclass(frozen=True, slots=True)
class Step:
    """One entry: its row, and the item with exactly one Scheduled Procedure Step in its sequence."""

    pk: int
    item: Attributes

    @property
    def step(self) -> Attributes:
        return items(self.item, STEP_SEQUENCE)[0]


def put(connection: Connection, item: Item) -> int:
    """Adds a worklist item, or replaces those of the same study and step. Returns how many steps it has, each an entry of its own.

    Raises `MalformedInstance` naming the attribute of type 1 that is missing.
    """
    steps = items(item, STEP_SEQUENCE)
    if not steps:
        raise MalformedInstance(
            "a worklist item has a Scheduled Procedure Step Sequence (0040,0100) with an item (PS3.4 table K.6-1)"
        )
    _require(item, REQUIRED)
    try:
        lenient_uid(text(item, "0020000D"))
    except InvalidIdentifier as error:
        raise MalformedInstance(f"StudyInstanceUID: {error}") from None
    for step in steps:
        _require(step, REQUIRED_OF_STEP)
        _put(connection, dict(item), step)
    return len(steps)


def _require(item: Item, tags: Sequence[str]) -> None:
    for tag in tags:
        if not any(values(item, tag)):
            raise MalformedInstance(f"a worklist item has a value of {keyword(int(tag, 16))} (PS3.4 table K.6-1)")


def _put(connection: Connection, item: Attributes, step: Attributes) -> None:
    status = text(step, STATUS) or SCHEDULED
    item.pop("00080005", None)  # the text is Unicode here; each answer says what it is encoded in
    item[STEP_SEQUENCE] = said("SQ", {**step, STATUS: said("CS", status)})
    row = {
        "study_uid": text(item, "0020000D"),
        "step_id": text(step, "00400009"),
        "accession_number": text(item, "00080050"),
        "procedure_id": text(item, "00401001"),
        "stations": "".join(f"\\{str(each).strip()}" for each in values(step, "00400001")) + "\\",
        "modality": text(step, "00080060"),
        "date": text(step, "00400002"),
        "time": text(step, "00400003"),
        "patient_id": text(item, "00100020"),
        "status": status,
        "updated": micros(),
        "body": packed(orjson.dumps(item)),
    }
    made = insert(connection, STEP).values(**row)
    connection.execute(made.on_conflict_do_update(index_elements=["study_uid", "step_id"], set_=row))


def find(database: Database, wanted: Identifier) -> Iterator[list[Step]]:
    """PS3.4 section K.4.1: the entries that match, by start date and time, in pages; a page may be empty.

    Those that nobody waits for any more are left out unless a status is asked for. Raises `MalformedQuery`.
    """
    statement = (
        select(STEP.c.pk, STEP.c.date, STEP.c.time, STEP.c.body).order_by(STEP.c.date, STEP.c.time, STEP.c.pk).limit(_PAGE)
    )
    step_keys = next((key.items for key in wanted.keys if key.tag == STEP_SEQUENCE), ())
    if not any(key.tag == STATUS and key.value for key in step_keys):
        statement = statement.where(STEP.c.status.not_in(_NOT_WAITING))
    first, last = date_range(step_keys)
    if first:
        statement = statement.where(STEP.c.date >= first)
    if last:
        statement = statement.where(STEP.c.date <= last)
    for tag, column in (("00080050", STEP.c.accession_number), ("00100020", STEP.c.patient_id)):
        value = wanted.value(tag)
        if value and not set(value) & set("*?\\"):
            statement = statement.where(column == value.strip())
    after: tuple[str, str, int] | None = None
    while True:
        page = statement if after is None else statement.where(tuple_(STEP.c.date, STEP.c.time, STEP.c.pk) > after)
        with database.read() as connection:
            rows = connection.execute(page).all()
        read = [Step(row.pk, orjson.loads(unpacked(bytes(row.body)))) for row in rows]
        yield [each for each in read if matches(each.item, _within(wanted.keys))]
        if len(rows) < _PAGE:
            return
        after = (rows[-1].date, rows[-1].time, rows[-1].pk)


def _within(keys: tuple[Key, ...]) -> tuple[Key, ...]:
    """The keys of attributes; Query/Retrieve Level and the like are none of an item's."""
    return tuple(key for key in keys if key.tag not in ("00080052", "00080054"))


def progress(connection: Connection, study_uid: str, step_id: str, status: str) -> bool:
    """Moves an entry to another Scheduled Procedure Step Status. False where there is none; an ended one stays ended."""
    found = connection.execute(
        select(STEP.c.pk, STEP.c.status, STEP.c.body)
        .where(STEP.c.study_uid == study_uid, STEP.c.step_id == step_id)
        .with_for_update()
    ).first()
    if found is None:
        return False
    if found.status in (COMPLETED, DISCONTINUED) and status == STARTED:
        return True
    entry = Step(found.pk, orjson.loads(unpacked(bytes(found.body))))
    entry.item[STEP_SEQUENCE] = said("SQ", {**entry.step, STATUS: said("CS", status)})
    connection.execute(
        update(STEP).where(STEP.c.pk == found.pk).values(status=status, updated=micros(), body=packed(orjson.dumps(entry.item)))
    )
    return True


def entries(connection: Connection, *, ended: bool = False) -> list[Step]:
    """The worklist by start date and time; with `ended`, also what nobody waits for any more."""
    statement = select(STEP.c.pk, STEP.c.body).order_by(STEP.c.date, STEP.c.time, STEP.c.pk)
    if not ended:
        statement = statement.where(STEP.c.status.not_in(_NOT_WAITING))
    return [Step(row.pk, orjson.loads(unpacked(bytes(row.body)))) for row in connection.execute(statement)]


def remove(connection: Connection, *, study_uid: str = "", step_id: str = "", accession_number: str = "") -> int:
    """Takes entries off: those of a study, of a study and step, or of an order. Returns how many. Raises `NotFound` for none."""
    given = ((STEP.c.study_uid, study_uid), (STEP.c.step_id, step_id), (STEP.c.accession_number, accession_number))
    conditions = [column == value for column, value in given if value]
    if not study_uid and not accession_number:
        raise NotFound("a worklist entry is named by its study, by study and step, or by its accession number")
    gone = connection.execute(delete(STEP).where(*conditions)).rowcount
    if not gone:
        raise NotFound("no worklist entry is named so; `imageshare worklist list` shows them")
    return int(gone)

"""Modality Performed Procedure Steps: what a modality says that it does and has done (PS3.4 annex F.7), kept in DICOM JSON.

The attributes and what may be done with each stand in a table, as in PS3.4 table F.7.2-1. A step moves the worklist entries
that it names on, and is found by the studies that it names.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

import orjson
from sqlalchemy import Connection, select, update

from profiles.dicom_json import Attribute, Attributes
from profiles.model_item import Item, items, text, values
from profiles.part10 import keyword
from server.errors import Conflict, Forbidden, NotFound, StepEnded, WrongAttributes
from server.records import worklist
from server.records.packing import packed, unpacked
from server.store.db import insert, micros
from server.store.tables import PerformedStep as Row
from server.store.tables import PerformedStepStudy

STEP = Row.__table__  # type: ignore[attr-defined]
_STUDY = PerformedStepStudy.__table__  # type: ignore[attr-defined]

IN_PROGRESS, COMPLETED, DISCONTINUED = "IN PROGRESS", "COMPLETED", "DISCONTINUED"
STATUS: Final = "00400252"
_SCHEDULED_ATTRIBUTES: Final = "00400270"
_WORKLIST_STATUS: Final = {
    IN_PROGRESS: worklist.STARTED,
    COMPLETED: worklist.COMPLETED,
    DISCONTINUED: worklist.DISCONTINUED,
}

_MISSING, _NO_VALUE, _INVALID = 0x0120, 0x0121, 0x0106


@dataclass(frozen=True, slots=True)
class Rule:
    """One row of PS3.4 table F.7.2-1: the type at N-CREATE, whether N-SET may change it, the type in a final state."""

    create: str
    may_set: bool = False
    final: str = "3"
    inner: tuple[tuple[str, str], ...] = ()
    """Attributes of the sequence's items with their type."""


RULES: Final[Mapping[str, Rule]] = {
    # Performed Procedure Step Relationship
    "00400270": Rule("1", inner=(("0020000D", "1"), ("00080050", "2"), ("00401001", "2"), ("00400009", "2"))),
    "00100010": Rule("2"),  # Patient's Name
    "00100020": Rule("2"),  # Patient ID
    "00100030": Rule("2"),  # Patient's Birth Date
    "00100040": Rule("2"),  # Patient's Sex
    "00081120": Rule("2"),  # Referenced Patient Sequence
    # Performed Procedure Step Information
    "00400253": Rule("1"),  # Performed Procedure Step ID
    "00400241": Rule("1"),  # Performed Station AE Title
    "00400242": Rule("2"),  # Performed Station Name
    "00400243": Rule("2"),  # Performed Location
    "00400244": Rule("1"),  # Performed Procedure Step Start Date
    "00400245": Rule("1"),  # Performed Procedure Step Start Time
    "00400252": Rule("1", may_set=True, final="1"),  # Performed Procedure Step Status
    "00400254": Rule("2", may_set=True),  # Performed Procedure Step Description
    "00400255": Rule("2", may_set=True),  # Performed Procedure Type Description
    "00081032": Rule("2", may_set=True),  # Procedure Code Sequence
    "00400250": Rule("2", may_set=True, final="1"),  # Performed Procedure Step End Date
    "00400251": Rule("2", may_set=True, final="1"),  # Performed Procedure Step End Time
    # Image Acquisition Results
    "00080060": Rule("1"),  # Modality
    "00200010": Rule("2"),  # Study ID
    "00400260": Rule("2", may_set=True),  # Performed Protocol Code Sequence
    "00400340": Rule(  # Performed Series Sequence
        "2",
        may_set=True,
        final="1",
        inner=(("0020000E", "1"), ("00181030", "1"), ("00081050", "2"), ("00081070", "2"), ("0008103E", "2"), ("00080054", "2")),
    ),
}
"""Attributes that are not here are of type 3 and may be set. At N-CREATE those of type 2 may be absent too: many modalities do so."""


@dataclass(frozen=True, slots=True)
class PerformedStep:
    """One step. `item` is the whole SOP Instance, `source` the AE title that created it."""

    pk: int
    uid: str
    status: str
    source: str
    item: Attributes


def create(connection: Connection, uid: str, item: Item, *, source: str) -> PerformedStep:
    """PS3.4 section F.7.2.1: N-CREATE, always IN PROGRESS. Raises `WrongAttributes`, and `Conflict` for a UID that there is."""
    _check(item, {tag: rule.create for tag, rule in RULES.items()}, inner=("00400270",))
    if text(item, STATUS) != IN_PROGRESS:
        raise WrongAttributes("a performed step begins IN PROGRESS (PS3.4 section F.7.2.1.2)", _INVALID, tags=(int(STATUS, 16),))
    now = micros()
    kept = _unicode(item)
    made = insert(connection, STEP).values(
        uid=uid, status=IN_PROGRESS, source=source, created=now, updated=now, body=packed(orjson.dumps(kept))
    )
    pk = connection.execute(made.on_conflict_do_nothing().returning(STEP.c.pk)).scalar_one_or_none()
    if pk is None:
        raise Conflict("there is a performed step of this SOP Instance UID already")
    links = [
        {
            "performed_step_pk": pk, "number": number, "study_uid": text(each, "0020000D"),
            "accession_number": text(each, "00080050"), "step_id": text(each, "00400009"),
        }
        for number, each in enumerate(items(item, _SCHEDULED_ATTRIBUTES), 1)
    ]  # fmt: skip
    connection.execute(_STUDY.insert(), links)
    _move_on(connection, kept, IN_PROGRESS)
    return PerformedStep(pk, uid, IN_PROGRESS, source, kept)


def change(connection: Connection, uid: str, changes: Item, *, source: str) -> tuple[PerformedStep, tuple[int, ...]]:
    """PS3.4 section F.7.2.2: N-SET. Returns the step as it is now, and the attributes that were not taken as they may not change.

    Raises `NotFound`, `Forbidden` where another than `source` created it, `StepEnded` for a step in a final state, `WrongAttributes`
    for what a final state needs.
    """
    step = get(connection, uid, source=source, for_update=True)
    if step.status != IN_PROGRESS:
        raise StepEnded("Performed Procedure Step Object may no longer be updated")
    status = text(changes, STATUS) or IN_PROGRESS
    if status not in (IN_PROGRESS, COMPLETED, DISCONTINUED):
        raise WrongAttributes(
            "a performed step is IN PROGRESS, COMPLETED or DISCONTINUED (PS3.3 section C.4.14)", _INVALID, tags=(int(STATUS, 16),)
        )
    fixed = {tag for tag, rule in RULES.items() if not rule.may_set}
    merged = {**step.item, **{tag: value for tag, value in _unicode(changes).items() if tag not in fixed}}
    if status != IN_PROGRESS:
        _check(merged, {tag: rule.final for tag, rule in RULES.items()}, inner=("00400340",))
    merged[STATUS] = {"vr": "CS", "Value": [status]}
    connection.execute(
        update(STEP).where(STEP.c.pk == step.pk).values(status=status, updated=micros(), body=packed(orjson.dumps(merged)))
    )
    _move_on(connection, merged, status)
    refused = tuple(sorted(int(tag, 16) for tag in fixed & changes.keys() if not _same(changes[tag], step.item.get(tag))))
    return PerformedStep(step.pk, uid, status, step.source, dict(sorted(merged.items()))), refused


def get(connection: Connection, uid: str, *, source: str | None = None, for_update: bool = False) -> PerformedStep:
    """The step of that SOP Instance UID. Raises `NotFound`, and `Forbidden` where `source` is given and did not create it."""
    statement = select(STEP.c.pk, STEP.c.uid, STEP.c.status, STEP.c.source, STEP.c.body).where(STEP.c.uid == uid)
    row = connection.execute(statement.with_for_update() if for_update else statement).first()
    if row is None:
        raise NotFound("there is no performed step of this SOP Instance UID")
    if source is not None and row.source != source:
        raise Forbidden("this performed step is of another AE title")
    return PerformedStep(row.pk, row.uid, row.status, row.source, orjson.loads(unpacked(bytes(row.body))))


def of_study(connection: Connection, study_uid: str) -> list[PerformedStep]:
    """The steps that name a study, oldest first."""
    found = select(_STUDY.c.performed_step_pk).where(_STUDY.c.study_uid == study_uid)
    rows = connection.execute(
        select(STEP.c.pk, STEP.c.uid, STEP.c.status, STEP.c.source, STEP.c.body)
        .where(STEP.c.pk.in_(found))
        .order_by(STEP.c.created, STEP.c.pk)
    )
    return [PerformedStep(row.pk, row.uid, row.status, row.source, orjson.loads(unpacked(bytes(row.body)))) for row in rows]


def selected(step: PerformedStep, tags: Iterable[int]) -> Attributes:
    """PS3.7 section 10.1.2: the attributes that an N-GET asks for, all of them where it names none."""
    wanted = {f"{tag:08X}" for tag in tags}
    return {tag: value for tag, value in step.item.items() if not wanted or tag in wanted}


def study_uids(item: Item) -> tuple[str, ...]:
    """The studies that a step names, each once."""
    return tuple(dict.fromkeys(filter(None, (text(each, "0020000D") for each in items(item, _SCHEDULED_ATTRIBUTES)))))


def _move_on(connection: Connection, item: Item, status: str) -> None:
    for each in items(item, _SCHEDULED_ATTRIBUTES):
        study_uid, step_id = text(each, "0020000D"), text(each, "00400009")
        if study_uid and step_id:
            worklist.progress(connection, study_uid, step_id, _WORKLIST_STATUS[status])


def _check(item: Item, types: Mapping[str, str], inner: tuple[str, ...]) -> None:
    """Raises `WrongAttributes` for the first attribute of type 1 that is absent (0x0120) or empty (0x0121)."""
    for tag, kind in types.items():
        if kind == "1":
            _require(item, tag)
    for sequence in inner:
        for each in items(item, sequence):
            for tag, kind in RULES[sequence].inner:
                if kind == "1":
                    _require(each, tag)


def _require(item: Item, tag: str) -> None:
    if not any(value not in (None, "") for value in values(item, tag)):
        status = _NO_VALUE if tag in item else _MISSING
        name = keyword(int(tag, 16))
        raise WrongAttributes(f"{name} must have a value (PS3.4 table F.7.2-1)", status, tags=(int(tag, 16),))


def _unicode(item: Item) -> Attributes:
    """Without Specific Character Set: the text is Unicode here, and each answer says what it is encoded in."""
    return {tag: value for tag, value in item.items() if tag != "00080005"}


def _same(one: Attribute, other: Attribute | None) -> bool:
    return one.get("Value") == (other or {}).get("Value")

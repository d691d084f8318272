"""Stored queries in SQL: criteria (`ihe.criteria`) as conditions over registry objects and their terms.

What belongs to one patient walks her rows of `ix_registry_object_patient`; terms are looked up object by object. Where no patient is named, a time
with both its ends leads to the objects (`ix_registry_object_time`), or else the first term.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson
from sqlalchemy import ColumnElement, Connection, Select, and_, or_, select

from ihe.criteria import CURRENT, Coded, Criterion, During, Like, OneOf, seconds
from ihe.iti18 import ObjectRef
from ihe.stored_queries import Subject
from profiles.document import APPROVED, OFFLINE, ON_DEMAND, Code
from server.records import registry
from server.records.catalogue import PATIENT
from server.records.registry import OBJECT, TERM
from server.records.registry_values import Registered

Condition = ColumnElement[bool]

_COLUMNS: Final[dict[str, ColumnElement[Any]]] = {
    "entry_uuid": OBJECT.c.entry_uuid, "unique_id": OBJECT.c.unique_id, "logical_id": OBJECT.c.logical_id, "status": OBJECT.c.status,
    "object_type": OBJECT.c.object_type, "source_id": OBJECT.c.source_id, "creation_time": OBJECT.c.time,
    "submission_time": OBJECT.c.time, "last_update": OBJECT.c.time, "service_start": OBJECT.c.service_start,
    "service_stop": OBJECT.c.service_stop,
}  # fmt: skip
"""Attributes of `profiles.document` that have columns; the others are terms."""
_MAY_BE_ABSENT: Final = frozenset({"service_start", "service_stop"})
_INDEXED: Final = frozenset({"creation_time", "submission_time", "last_update"})
_WILDCARDS: Final = str.maketrans({"%": "*", "_": "?", "*": "[*]", "?": "[?]", "[": "[[]"})
"""SQL LIKE's as GLOB's, which SQLite compares with regard to case."""


@dataclass(frozen=True, slots=True)
class Found:
    """What a query found: the object, or its id where no more is wanted, and the patient whose it is (resource id and row)."""

    value: Registered | ObjectRef
    patient: str
    patient_pk: int


def find(connection: Connection, *where: Condition, whole: bool, limit: int | None = None) -> list[Found]:
    """The objects that meet the conditions, the newest first; of each its id alone unless they are wanted `whole`."""
    if whole:
        return [Found(each.value, each.patient, each.patient_pk) for each in registry.objects(connection, *where, limit=limit)]
    ids = select(OBJECT.c.entry_uuid, OBJECT.c.body, PATIENT.c.id, PATIENT.c.pk).select_from(registry.owned()).where(*where)
    rows = connection.execute(ids.order_by(OBJECT.c.created.desc(), OBJECT.c.pk.desc())).all()
    return [Found(ObjectRef(uuid, orjson.loads(body)["home_community_id"]), patient, pk) for uuid, body, patient, pk in rows]


def selecting(
    connection: Connection, subject: Subject, criteria: Iterable[Criterion], *, level: int, patients: Sequence[int] | None = None
) -> list[Condition]:
    """Criteria for objects of a kind as conditions; with `patients`, rows of these, for theirs alone, whoever was merged into whom.

    `level` is $MetadataLevel: at 1 what has a newer version, is offline, or is a deprecated Folder is not there (supplement XDS Metadata Update,
    section 3.18.4.1.2.3.5.1.1).
    """
    where: list[Condition] = [OBJECT.c.kind == subject]
    if patients is not None:
        where.append(OBJECT.c.patient_pk.in_(patients))
    asked = list(criteria)
    leading = _leading(asked) if patients is None else None
    where += (_condition(connection, each, leads=each is leading) for each in asked)
    if level == CURRENT:
        where += _current(subject)
    return where


def _leading(criteria: Sequence[Criterion]) -> Criterion | None:
    """What leads to the objects of all patients: days are fewer than what has a common code, and the beginning of a time alone may be years ago."""
    days = (
        each
        for each in criteria
        if isinstance(each, During) and each.attribute in _INDEXED and each.range.start and each.range.stop
    )
    terms = (each for each in criteria if isinstance(each, Coded | Like))
    return next(days, None) or next(terms, None)


def _current(subject: Subject) -> list[Condition]:
    if subject == "submission":
        return []
    return [_NEWEST, OBJECT.c.status == APPROVED] if subject == "folder" else [_NEWEST, _ONLINE]


def _condition(connection: Connection, criterion: Criterion, *, leads: bool) -> Condition:
    match criterion:
        case OneOf():
            found: Condition = _COLUMNS[criterion.attribute].in_(criterion.values)
            return found
        case During():
            return _during(criterion, leads=leads)
        case Coded():
            test = _is_code(criterion.codes)
        case Like():
            test = or_(*(_like(connection, TERM.c.value, pattern) for pattern in criterion.patterns))
    if leads:
        led: Condition = OBJECT.c.pk.in_(select(TERM.c.object_pk).where(TERM.c.kind == criterion.attribute, test))
        return led
    return _has_term(criterion.attribute, test)


def _has_term(attribute: str, test: Condition) -> Condition:
    """Among the terms of the object: `kind` is no bare column here, so that no engine looks through all objects' terms of this value."""
    mine = TERM.c.object_pk == OBJECT.c.pk
    return _there(select(TERM.c.number).where(mine, TERM.c.kind.concat("") == attribute, test))


def _there(rows: Select[Any]) -> Condition:
    """Whether there are such rows for the object: looked up for each, where EXISTS might be made a join that begins with all such rows."""
    found: Condition = rows.correlate(OBJECT).limit(1).scalar_subquery().is_not(None)
    return found


def _newest() -> Condition:
    newer = OBJECT.alias("newer")
    return ~_there(select(newer.c.pk).where(newer.c.logical_id == OBJECT.c.logical_id, newer.c.version > OBJECT.c.version))


_NEWEST: Final = _newest()
_ONLINE: Final = ~_has_term("availability", TERM.c.value == OFFLINE)


def _is_code(codes: Sequence[Code]) -> Condition:
    schemes: dict[str, list[str]] = {}
    for code in codes:
        schemes.setdefault(code.scheme, []).append(code.code)
    return or_(*(and_(TERM.c.scheme == scheme, TERM.c.value.in_(values)) for scheme, values in schemes.items()))


def _like(connection: Connection, column: ColumnElement[Any], pattern: str) -> Condition:
    """SQL LIKE where case counts, with no character that escapes (ITI TF-2 section 3.18.4.1.2.3.5)."""
    if not {"%", "_"} & set(pattern):
        return column == pattern
    if connection.dialect.name == "sqlite":
        matches: Condition = column.op("GLOB")(pattern.translate(_WILDCARDS))
        return matches
    return column.like(pattern.replace("\\", "\\\\"))


def _during(criterion: During, *, leads: bool) -> Condition:
    column = _COLUMNS[criterion.attribute]
    plain = column if leads else column.concat("")  # as in _has_term
    tests = [plain != ""]
    if criterion.range.start:
        tests.append(plain >= _shortest(criterion.range.start))
    if criterion.range.stop:
        tests.append(plain < _shortest(criterion.range.stop))
    within = and_(*tests)
    if criterion.attribute in _MAY_BE_ABSENT:
        return or_(column == "", within)
    return (
        or_(and_(column == "", OBJECT.c.object_type == ON_DEMAND), within) if criterion.attribute == "creation_time" else within
    )


def _shortest(time: str) -> str:
    """The DTM with the fewest digits for the same second, which no other time of that second or later precedes as text: `2005` of `20050101000000`."""
    second = seconds(time)
    return next(second[:length] for length in range(4, 15, 2) if seconds(second[:length]) == second)

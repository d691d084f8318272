"""AuditEvents (FHIR R4 section 6.4): they are in the trail, which has its own order and its own indexes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from sqlalchemy import ColumnElement, Connection, false, or_, true

from profiles.fhir.query import All, Condition, Criterion, DateValue, InCompartment, ReferenceValue, Search, TokenValue
from profiles.vocabulary import DCM_SYSTEM, IHE_TRANSACTION, RESTFUL_INTERACTION
from server.errors import NotSupported
from server.records import trail
from server.records.fhir_search.matches import Allowed, Match, Page, Position, cut
from server.records.fhir_search.ordered import on_instant

OFFERED: Final = ("_id", "_lastUpdated", "date", "outcome", "patient", "subtype")
"""The parameters by which the trail can be searched."""
_OUTCOMES: Final = (
    "http://hl7.org/fhir/audit-event-outcome",
    "http://terminology.hl7.org/CodeSystem/audit-event-outcome",
)
"""The code system of AuditEvent.outcome in R4, and as IHE BALP names it."""
_SUBTYPES: Final = tuple(sorted({RESTFUL_INTERACTION, IHE_TRANSACTION, DCM_SYSTEM}))
Moments = Callable[[ColumnElement[int]], ColumnElement[bool]]


@dataclass(slots=True)
class _Asked:
    """What a search asks of the trail. Of each inner tuple any may be."""

    ids: list[tuple[str, ...]] = field(default_factory=list)
    patients: list[tuple[str, ...]] = field(default_factory=list)
    moments: list[Moments] = field(default_factory=list)
    tests: list[ColumnElement[bool]] = field(default_factory=list)


def page(
    connection: Connection, search: Search, *, allowed: Allowed, confined: bool, count: int, began: int, after: Position | None
) -> Page:
    """Up to `count` events, newest first."""
    asked = _read(search)
    found = trail.events(
        connection,
        *asked.tests,
        wanted=_wanted(asked, allowed, confined, began),
        limit=count + 1,
        after=(int(after.keys[0] or 0), after.pk, after.number) if after is not None else None,
    )
    return cut(
        (
            (Position(began, (one.recorded,), one.pk, one.number), Match("AuditEvent", one.id, one.patient, one.body))
            for one in found
        ),
        count,
    )


def total(connection: Connection, search: Search, *, allowed: Allowed, confined: bool, began: int) -> int:
    """How many there are."""
    asked = _read(search)
    return trail.total(connection, *asked.tests, wanted=_wanted(asked, allowed, confined, began))


def _wanted(asked: _Asked, allowed: Allowed, confined: bool, began: int) -> trail.Wanted:
    def patients(column: ColumnElement[str]) -> list[ColumnElement[bool]]:
        return [allowed("AuditEvent", column), *(column.in_(ids) for ids in asked.patients)]

    def moments(column: ColumnElement[int]) -> list[ColumnElement[bool]]:
        return [column <= began, *(each(column) for each in asked.moments)]

    return trail.Wanted(tuple(asked.ids), patients, moments, few=confined or bool(asked.patients))


def _read(search: Search) -> _Asked:
    """Raises `NotSupported` for what the trail has no index for."""
    if any(each.parameter.code not in ("date", "_lastUpdated") or not each.descending or each.chain for each in search.sort[:1]):
        raise NotSupported("AuditEvents are sorted by -date only")
    asked = _Asked()
    for condition in search.condition.conditions:
        _take(asked, condition)
    return asked


def _take(asked: _Asked, condition: Condition) -> None:
    match condition:
        case All():
            for each in condition.conditions:
                _take(asked, each)
        case InCompartment(type="Patient"):
            asked.patients.append((condition.id,))
        case Criterion(modifier="" | "Patient" | "overlaps") if condition.parameter.code in OFFERED:
            _take_criterion(asked, condition)
        case _:
            raise NotSupported(
                f"AuditEvents are searched by {', '.join(OFFERED)}, without modifiers; leave out what else is asked for"
            )


def _take_criterion(asked: _Asked, criterion: Criterion) -> None:
    code, values = criterion.parameter.code, criterion.values
    tokens = [each for each in values if isinstance(each, TokenValue)]
    match code:
        case "_id":
            asked.ids.append(tuple(each.code for each in tokens if each.code and not each.system))
        case "patient":
            references = [each for each in values if isinstance(each, ReferenceValue) and not each.url]
            asked.patients.append(tuple(each.id for each in references if each.type in ("", "Patient")))
        case "outcome":
            asked.tests.append(or_(*(_coded(trail.EVENT.c.outcome, each, _OUTCOMES) for each in tokens)))
        case "subtype":
            asked.tests.append(or_(*(_coded(trail.EVENT.c.subtype, each, _SUBTYPES) for each in tokens)))
        case _:
            asked.moments.append(
                _moments([each for each in values if isinstance(each, DateValue)], criterion.modifier == "overlaps")
            )


def _moments(values: Sequence[DateValue], overlaps: bool) -> Moments:
    return lambda column: or_(*(on_instant(column, value, overlaps) for value in values))


def _coded(column: ColumnElement[str], value: TokenValue, systems: Sequence[str]) -> ColumnElement[bool]:
    """A column that has a code alone; `systems` are what it may be of."""
    if value.system is not None and value.system not in systems:
        return false()
    return column == value.code if value.code is not None else true()

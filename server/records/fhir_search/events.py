"""AuditEvents (FHIR R4 section 6.4): they are in the trail, which has its own order and its own indexes."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from sqlalchemy import ColumnElement, Connection, false, or_, true

from profiles.audit_event import subtypes_of
from profiles.fhir.query import All, Condition, Criterion, DateValue, InCompartment, ReferenceValue, Search, TokenValue
from server.errors import NotSupported
from server.records import trail
from server.records.fhir_search.event_bodies import LOOKED, is_offered, meets
from server.records.fhir_search.limits import check
from server.records.fhir_search.matches import PAGE_BYTES, Allowed, Match, Page, Position, TooCostly, Whose, cut
from server.records.fhir_search.ordered import on_instant

_INDEXED: Final = ("_id", "_lastUpdated", "date", "outcome", "patient", "subtype")
OFFERED: Final = tuple(sorted((*_INDEXED, *LOOKED)))
"""The parameters by which the trail can be searched: those that it has columns for, and those that only bodies answer."""
MOST_LOOKED: Final = 5_000
"""Bodies that one page or total looks at, which takes half a second."""
_AT_ONCE: Final = 500
_OUTCOMES: Final = (
    "http://hl7.org/fhir/audit-event-outcome",
    "http://terminology.hl7.org/CodeSystem/audit-event-outcome",
)
"""The code system of AuditEvent.outcome in R4, and as IHE BALP names it."""
Moments = Callable[[ColumnElement[int]], ColumnElement[bool]]


@dataclass(slots=True)
class _Asked:
    """What a search asks of the trail. Of each inner tuple any may be."""

    ids: list[tuple[str, ...]] = field(default_factory=list)
    patients: list[tuple[str, ...]] = field(default_factory=list)
    moments: list[Moments] = field(default_factory=list)
    tests: list[ColumnElement[bool]] = field(default_factory=list)
    bodies: list[Criterion] = field(default_factory=list)
    confined: bool = False
    """Whether a patient's own app asks, which is not told by what it finds either what it is not shown (`trail.as_patients_see`)."""

    def met(self, event: trail.RecordedEvent) -> bool:
        """Whether the event meets the conditions on its body."""
        return meets(trail.as_patients_see(event.body, event.patient) if self.confined else event.body, self.bodies)


def page(
    connection: Connection, search: Search, *, allowed: Allowed, confined: bool, count: int, began: int, after: Position | None
) -> Page:
    """Up to `count` events, newest first.

    Where bodies are looked at, a page has fewer of them when that takes too long, perhaps none, and a next one goes on from there (FHIR R4
    section 3.1.1.5.4).
    """
    asked = _read(search, confined)
    wanted = _wanted(asked, allowed, confined, began)
    place = (int(after.keys[0] or 0), after.pk, after.number) if after is not None else None
    if asked.bodies:
        return _looked(connection, asked, wanted, count, began, place)
    found = trail.events(connection, *asked.tests, wanted=wanted, limit=count + 1, after=place)
    return cut(((_position(one, began), _match(one)) for one in found), count)


def total(connection: Connection, search: Search, *, allowed: Allowed, confined: bool, began: int) -> int:
    """How many there are."""
    asked = _read(search, confined)
    wanted = _wanted(asked, allowed, confined, began)
    if not asked.bodies:
        return trail.total(connection, *asked.tests, wanted=wanted)
    met = [asked.met(one) for one in _walked(connection, asked, wanted, None, MOST_LOOKED + 1)]
    if len(met) > MOST_LOOKED:
        raise TooCostly(f"to count them more than {MOST_LOOKED} AuditEvents would be looked at; ask for fewer by date or patient")
    return sum(met)


def _looked(
    connection: Connection, asked: _Asked, wanted: trail.Wanted, count: int, began: int, place: tuple[int, int, int] | None
) -> Page:
    """The page of what meets conditions on its body."""
    matches: list[Match] = []
    size = 0
    last: Position | None = None
    looked = 0
    for one in _walked(connection, asked, wanted, place, MOST_LOOKED):
        looked += 1
        if asked.met(one):
            if len(matches) == count or size > PAGE_BYTES:
                return Page(tuple(matches), last)
            matches.append(_match(one))
            size += len(one.body)
        last = _position(one, began)
    return Page(tuple(matches), last if looked == MOST_LOOKED else None)


def _walked(
    connection: Connection, asked: _Asked, wanted: trail.Wanted, place: tuple[int, int, int] | None, most: int
) -> Iterator[trail.RecordedEvent]:
    """Events newest first, up to `most`, some at a time."""
    while most > 0:
        limit = min(most, _AT_ONCE)
        found = list(trail.events(connection, *asked.tests, wanted=wanted, limit=limit, after=place))
        for one in found:
            check(connection)
            yield one
        if len(found) < limit:
            return
        most -= limit
        place = (found[-1].recorded, found[-1].pk, found[-1].number)


def _position(one: trail.RecordedEvent, began: int) -> Position:
    return Position(began, (one.recorded,), one.pk, one.number)


def _match(one: trail.RecordedEvent) -> Match:
    return Match("AuditEvent", one.id, one.patient, one.body)


def _wanted(asked: _Asked, allowed: Allowed, confined: bool, began: int) -> trail.Wanted:
    def patients(column: ColumnElement[str]) -> list[ColumnElement[bool]]:
        return [allowed("AuditEvent", Whose(column)), *(column.in_(ids) for ids in asked.patients)]

    def moments(column: ColumnElement[int]) -> list[ColumnElement[bool]]:
        return [column <= began, *(each(column) for each in asked.moments)]

    return trail.Wanted(tuple(asked.ids), patients, moments, few=confined or bool(asked.patients))


def _read(search: Search, confined: bool) -> _Asked:
    """Raises `NotSupported` for what neither columns nor bodies answer."""
    if any(each.parameter.code not in ("date", "_lastUpdated") or not each.descending or each.chain for each in search.sort[:1]):
        raise NotSupported("AuditEvents are sorted by -date only")
    asked = _Asked(confined=confined)
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
        case Criterion(modifier="" | "Patient" | "overlaps") if condition.parameter.code in _INDEXED:
            _take_criterion(asked, condition)
        case Criterion() if is_offered(condition):
            asked.bodies.append(condition)
        case _:
            raise NotSupported(
                f"AuditEvents are searched by {', '.join(OFFERED)}; of modifiers {', '.join(_INDEXED)} have none here, others"
                " :missing, :not, :exact, :contains, :identifier and types; leave out what else is asked for"
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
            # The column has the last one; an event of a transaction that is REST says its interaction too
            last = {code for each in tokens for code in subtypes_of(each.system, each.code)}
            asked.tests.append(trail.EVENT.c.subtype.in_(sorted(last)))
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

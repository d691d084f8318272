"""Dates, numbers and quantities as SQL (FHIR R4 sections 3.1.1.4.5 to 3.1.1.4.7 and 3.1.1.4.11): ranges against ranges."""

from functools import cache
from typing import Final

from sqlalchemy import ColumnElement, FromClause, and_, or_

from profiles.fhir.clinical_date import CLINICAL_DATE
from profiles.fhir.expression import compiled
from profiles.fhir.query import Criterion, DateValue, NumberValue, QuantityValue
from profiles.fhir.units import asked
from profiles.r4.search import parameters
from server.errors import MalformedQuery
from server.records import index_keys as keys
from server.records.fhir_search.terms import DATE, QUANTITY, Term, Test, any_of, either, of_columns, pks, probe

LONGEST = 366 * 86_400_000_000
"""What the longest FHIR date, a leap year, covers in microseconds."""
_DATES: Final = frozenset({"date", "dateTime", "instant"})
_LONG: Final = frozenset({"Period", "Timing"})


@cache
def is_short(type_: str) -> bool:
    """Whether the type's clinical date is always one date and never a Period, so that it covers a year at most."""
    paths = compiled(parameters(type_)[CLINICAL_DATE[type_]].expression, type_).paths
    dates = [each for each in paths if each.type in _DATES]
    repeats = any(each.repeats or (each.element is not None and each.element.repeats) for each in dates)
    return len(dates) == 1 and not repeats and not any(each.type in _LONG for each in paths)


def date_term(criterion: Criterion, type_: str, r: FromClause) -> Term:
    """A date parameter: the resource's own columns, or a row for each date."""
    values = [each for each in criterion.values if isinstance(each, DateValue)]
    overlaps = criterion.modifier == "overlaps"
    code = criterion.parameter.code
    if code == "_lastUpdated":
        return any_of([_updated(value, overlaps, type_, r) for value in values])
    if code == CLINICAL_DATE.get(type_):
        return any_of([_started(value, overlaps, type_, r) for value in values])
    parameter = keys.parameter_hash(type_, code)

    def tests(row: FromClause) -> tuple[Test, ...]:
        return row.c.parameter == parameter, either(on_range(row.c.low, row.c.high, value, overlaps) for value in values)

    row = DATE.alias()
    return Term(probe(row, r, *tests(row)), lambda: pks(DATE, *tests(DATE)))


def _started(value: DateValue, overlaps: bool, type_: str, r: FromClause) -> Term:
    short = LONGEST if is_short(type_) else None
    return of_columns(
        type_,
        lambda row: on_range(row.c.date, row.c.date_end, value, overlaps, short),
        r,
        started=_bounds(value, overlaps, short),
    )


def _updated(value: DateValue, overlaps: bool, type_: str, r: FromClause) -> Term:
    return of_columns(type_, lambda row: on_instant(row.c.updated, value, overlaps), r)


def _bounds(value: DateValue, overlaps: bool, short: int | None) -> tuple[int | None, int | None]:
    """Between which a match begins, the second exclusive: what an index in the order of beginnings is walked between."""
    match "overlaps" if overlaps else value.prefix:
        case "eq":
            return value.start, value.end
        case "sa":
            return value.end, None
        case "lt" | "eb":
            return None, value.start
        case "le":
            return None, value.end
        case "gt":
            return (value.end - short, None) if short else (None, None)
        case "ge":
            return (min(value.end - short, value.start), None) if short else (None, None)
        case "overlaps" | "ap":
            return (value.start - short if short else None), value.end
    return None, None


def on_range(
    low: ColumnElement[int], high: ColumnElement[int], value: DateValue, overlaps: bool = False, short: int | None = None
) -> Test:
    """The table in section 3.1.1.4.5: `value` against the range [low, high) of the resource. An empty range matches nothing."""
    within = and_(low >= value.start, high <= value.end)
    match "ap" if overlaps else value.prefix:
        case "eq":
            found = within
        case "ne":
            found = ~within
        case "gt":
            found = high > value.end
        case "lt":
            found = low < value.start
        case "ge":
            found = or_(high > value.end, within)
        case "le":
            found = or_(low < value.start, within)
        case "sa":
            found = low >= value.end
        case "eb":
            found = and_(low < value.start, high <= value.start)
        case _:
            found = and_(low < value.end, high > value.start)
    first, last = _bounds(value, overlaps, short)
    bounds = [*([low >= first] if first is not None else ()), *([low < last] if last is not None else ())]
    return and_(high > low, found, *bounds)


def on_instant(column: ColumnElement[int], value: DateValue, overlaps: bool = False) -> Test:
    """The same for a moment in microseconds that is told in milliseconds: its range is the millisecond that clients see.

    Written as bounds of the bare column, so that an index can answer it.
    """
    # With whole milliseconds m: m >= x is column >= up(x); m + 1000 > x is column >= up(x - 999).
    first, last = _up(value.start), _up(value.end - 999)
    match "ap" if overlaps else value.prefix:
        case "eq":
            return and_(column >= first, column < last)
        case "ne":
            return or_(column < first, column >= last)
        case "gt":
            return column >= last
        case "lt":
            return column < first
        case "ge":
            return column >= min(first, last)
        case "le":
            return column < max(first, last)
        case "sa":
            return column >= _up(value.end)
        case "eb":
            return column < _up(value.start - 999)
    return and_(column < _up(value.end), column >= _up(value.start - 999))


def _up(micros: int) -> int:
    """The next whole millisecond, in microseconds."""
    return -(-micros // 1000) * 1000


def number_term(criterion: Criterion, type_: str, r: FromClause) -> Term:
    """A number or quantity parameter."""
    code = criterion.parameter.code
    by_unit: dict[int, list[NumberValue]] = {}
    for value in criterion.values:
        if isinstance(value, NumberValue | QuantityValue):
            form, number = unit_asked(code, value)
            by_unit.setdefault(keys.unit_hash(type_, code, form), []).append(number)

    def test(row: FromClause) -> Test:
        return or_(*(
            and_(row.c.unit == unit, either(on_number(row.c.low, row.c.high, each) for each in numbers))
            for unit, numbers in by_unit.items()
        ))  # fmt: skip

    row = QUANTITY.alias()
    return Term(probe(row, r, test(row)), lambda: pks(QUANTITY, test(QUANTITY)))


def unit_asked(code: str, value: NumberValue | QuantityValue) -> tuple[str, NumberValue]:
    """As `units.asked`. Raises `MalformedQuery`, which names the parameter."""
    try:
        return asked(value)
    except ValueError as error:
        raise MalformedQuery(f"{code}: {error}") from error


def on_number(low: ColumnElement[float], high: ColumnElement[float], value: NumberValue) -> Test:
    """Section 3.1.1.4.6, as `profiles.fhir.units.matches` has it: a point or a range [low, high] against what is asked for."""
    exact, least, most = float(value.value), float(value.low), float(value.high)
    within = and_(low >= least, high <= most, or_(high < most, low < high))
    match value.prefix:
        case "eq":
            return within
        case "ne":
            return ~within
        case "gt":
            return high > exact
        case "lt":
            return low < exact
        case "ge":
            return high >= exact
        case "le":
            return low <= exact
        case "sa":
            return low > exact
        case "eb":
            return high < exact
        case "ap":
            return and_(low <= most, high >= least)

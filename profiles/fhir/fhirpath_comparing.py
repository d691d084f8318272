"""How values of FHIRPath compare (sections 6.1 and 6.2): dates and times of any precision, quantities, and everything else."""

import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final

from profiles.fhir.fhirpath_syntax import UNITS, PathError
from profiles.fhir.fhirpath_values import Node, is_of

# --- dates and times: components from the year on, as many as were written

_MOMENT: Final = re.compile(
    r"(?:(\d{4})(?:-(\d\d)(?:-(\d\d))?)?)?(?:T?(\d\d)(?::(\d\d)(?::(\d\d(?:\.\d+)?))?)?(Z|[+-]\d\d:\d\d)?)?", re.ASCII
)
_TEMPORAL: Final = frozenset({"date", "dateTime", "instant", "time", "System.Date", "System.DateTime", "System.Time"})
Moment = tuple[Decimal | int, ...]


def is_temporal(node: Node) -> bool:
    """A date, a date with time, or a time."""
    return node.type in _TEMPORAL


def is_time(node: Node) -> bool:
    """A time of day."""
    return node.type in ("time", "System.Time")


def _moment(text: str, of_day: bool) -> tuple[Moment, bool] | None:
    """Components, in UTC where there is a zone, and whether there is one. None for text that is no time."""
    match = _MOMENT.fullmatch(f"T{text}" if of_day else text)
    if not match or not text or (match[1] is None) != of_day or (match[4] and not of_day and not match[3]):
        return None
    found: list[Decimal | int] = [int(part) for part in match.groups()[:5] if part is not None]
    if match[6]:
        found.append(Decimal(match[6]))
    zone = match[7]
    if zone and zone != "Z" and len(found) >= 5:
        minutes = int(zone[1:3]) * 60 + int(zone[4:6])
        try:
            whole = datetime(*(int(part) for part in found[:5]), tzinfo=UTC)  # type: ignore[arg-type,misc]
            whole -= timedelta(minutes=minutes if zone[0] == "+" else -minutes)
        except (ValueError, OverflowError):
            return None
        found[:5] = [whole.year, whole.month, whole.day, whole.hour, whole.minute]
    return tuple(found), bool(zone)


def _order_of_moments(left: Node, right: Node) -> int | None:
    """FHIRPath section 6.2: less, equal or greater as -1, 0, 1; None where one says less than would decide it."""
    if is_time(left) != is_time(right):
        return None
    one = _moment(str(left.value), is_time(left))
    other = _moment(str(right.value), is_time(right))
    if one is None or other is None:
        return None
    for mine, theirs in zip(one[0], other[0], strict=False):
        if mine != theirs:
            undecided = one[1] != other[1] and not is_time(left) and min(len(one[0]), len(other[0])) > 3
            return None if undecided else (-1 if mine < theirs else 1)
    if len(one[0]) != len(other[0]) or (one[1] != other[1] and len(one[0]) > 3):
        return None
    return 0


def is_moment(text: str, type_: str) -> bool:
    """Whether the text is a value of `System.Date`, `System.DateTime` or `System.Time`."""
    found = _moment(text, type_ == "System.Time")
    if found is None or (type_ == "System.Date" and (len(found[0]) > 3 or found[1])):
        return False
    parts = [int(part) for part in found[0]]
    try:
        datetime(*([2000, 1, 1, *parts] if type_ == "System.Time" else [*parts, 1, 1][: max(3, len(parts))]), tzinfo=UTC)  # type: ignore[misc,arg-type]
    except ValueError:
        return False
    return True


def shifted(moment: Node, amount: Decimal, unit: str) -> Node | None:
    """FHIRPath section 6.6.7: a date or time plus a number of units of the calendar, no more precise than it was."""
    of_day = is_time(moment)
    found = _moment(str(moment.value), of_day)
    unit = calendar_unit(unit)
    if found is None or unit not in UNITS:
        raise PathError(
            "what is added to a date is a quantity of years, months, weeks, days, hours, minutes, seconds or milliseconds"
        )
    text = str(moment.value)
    precision = len(found[0]) + (3 if of_day else 0)
    zone = re.search(r"(Z|[+-]\d\d:\d\d)$", text) if "T" in text else None
    local = _moment(text.removesuffix(zone[0]) if zone else text, of_day)
    assert local is not None
    try:
        whole = _moved(local[0], of_day, precision, amount, unit)
    except (ValueError, OverflowError):
        return None
    texts = [
        f"{whole.year:04}",
        f"-{whole.month:02}",
        f"-{whole.day:02}",
        f"T{whole.hour:02}",
        f":{whole.minute:02}",
        f":{whole.second:02}",
    ]
    if precision == 6 and ("." in text or whole.microsecond):
        texts[5] += f".{whole.microsecond // 1000:03}"
    written = "".join(texts[:precision])
    return Node(written.partition("T")[2] if of_day else written + (zone[0] if zone else ""), moment.type)


def _moved(parts: Moment, of_day: bool, precision: int, amount: Decimal, unit: str) -> datetime:
    seconds = {"week": 604800, "day": 86400, "hour": 3600, "minute": 60, "second": 1}
    numbers: list[int] = ([2000, 1, 1] if of_day else []) + [int(part) for part in parts]
    numbers += [1, 1][: max(0, 3 - len(numbers))]
    fraction = int(parts[-1] % 1 * 1_000_000) if precision == 6 else 0
    whole = datetime(*numbers, tzinfo=UTC).replace(microsecond=fraction)  # type: ignore[misc,arg-type]
    if unit in ("year", "month"):
        months = int(amount) * (12 if unit == "year" else 1)
        return _months_later(whole, months - (months % 12 if precision == 1 and months > 0 else 0))
    moved = Decimal(amount) / 1000 if unit == "millisecond" else Decimal(amount) * seconds[unit]
    if precision <= 2:  # a year or month moves by whole ones: 365 days, 30 days
        return _months_later(whole, int(moved / 86400 / (365 if precision == 1 else 30)) * (12 if precision == 1 else 1))
    if precision < 6 and precision > 2:
        step = {3: 86400, 4: 3600, 5: 60}[precision]
        moved = Decimal(int(moved / step) * step)
    return whole + timedelta(microseconds=int(moved * 1_000_000))


def _months_later(whole: datetime, months: int) -> datetime:
    years, month = divmod(whole.year * 12 + whole.month - 1 + months, 12)
    for day in range(whole.day, 27, -1):
        try:
            return whole.replace(year=years, month=month + 1, day=day)
        except ValueError:
            continue
    return whole.replace(year=years, month=month + 1)


# --- quantities

# Units of UCUM that can be told from each other here, as dimension and factor; what is not listed compares with its own unit only
_FACTORS: Final = {
    unit: (dimension, Decimal(factor))
    for dimension, units in {
        "T": {"ms": "0.001", "s": "1", "min": "60", "h": "3600", "d": "86400", "wk": "604800",
              "millisecond": "0.001", "second": "1", "minute": "60", "hour": "3600", "day": "86400", "week": "604800"},
        "M": {"ng": "1e-9", "ug": "1e-6", "mg": "0.001", "g": "1", "kg": "1000", "[lb_av]": "453.59237", "[oz_av]": "28.349523125"},
        "L": {"um": "1e-6", "mm": "0.001", "cm": "0.01", "dm": "0.1", "m": "1", "km": "1000", "[in_i]": "0.0254", "[ft_i]": "0.3048"},
        "V": {"uL": "1e-6", "mL": "0.001", "dL": "0.1", "L": "1", "ul": "1e-6", "ml": "0.001", "dl": "0.1", "l": "1"},
        "Gy": {"uGy": "1e-6", "mGy": "0.001", "cGy": "0.01", "Gy": "1"}, "Sv": {"uSv": "1e-6", "mSv": "0.001", "Sv": "1"},
        "1": {"1": "1", "%": "0.01"},
    }.items()
    for unit, factor in units.items()
}  # fmt: skip
_CALENDAR: Final = {
    "a": "year",
    "mo": "month",
    "wk": "week",
    "d": "day",
    "h": "hour",
    "min": "minute",
    "s": "second",
    "ms": "millisecond",
}


def calendar_unit(unit: str) -> str:
    """The word of the calendar for a unit: `s` and `seconds` are `second`. A year of UCUM (`a`) is none of the calendar's."""
    unit = _CALENDAR.get(unit, unit) if unit not in ("a", "mo") else unit
    return unit.removesuffix("s") if unit in UNITS else unit


def quantity(node: Node) -> tuple[Decimal, str] | None:
    """Number and unit of a Quantity (the coded one where it has one), None for what is not one."""
    if not isinstance(node.value, dict) or not (node.type == "System.Quantity" or is_of(node, "Quantity")):
        return None
    value = node.value.get("value")
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        return None
    return Decimal(str(value)), str(node.value.get("code") or node.value.get("unit") or "1")


def _order_of_quantities(left: tuple[Decimal, str], right: tuple[Decimal, str]) -> int | None:
    if calendar_unit(left[1]) == calendar_unit(right[1]):
        one, other = left[0], right[0]
    elif left[1] in _FACTORS and right[1] in _FACTORS and _FACTORS[left[1]][0] == _FACTORS[right[1]][0]:
        one, other = left[0] * _FACTORS[left[1]][1], right[0] * _FACTORS[right[1]][1]
    else:
        return None
    return (one > other) - (one < other)


# --- comparing


def order(left: Node, right: Node) -> int | None:
    """FHIRPath section 6.2: -1, 0 or 1, None where it can't be decided. Raises `PathError` for values of different kinds."""
    if (one := quantity(left)) and (other := quantity(right)):
        return _order_of_quantities(one, other)
    if left.value is None or right.value is None:
        return None
    if is_temporal(left) and is_temporal(right):
        return _order_of_moments(left, right)
    if is_number(left.value) and is_number(right.value):
        return int(left.value > right.value) - int(left.value < right.value)
    if isinstance(left.value, str) and isinstance(right.value, str):
        if is_temporal(left) != is_temporal(right):
            return _order_of_moments(_like(left, right), _like(right, left))
        return (left.value > right.value) - (left.value < right.value)
    raise PathError("values of these types are not ordered")


def _like(node: Node, other: Node) -> Node:
    """Text that stands beside a date as one."""
    return node if is_temporal(node) else Node(node.value, other.type)


def is_number(value: object) -> bool:
    """An integer or decimal."""
    return isinstance(value, int | float | Decimal) and not isinstance(value, bool)


def equal(left: Node, right: Node) -> bool | None:
    """FHIRPath section 6.1.1, `=` of two items: None where the precision of dates or the units of quantities do not let it be said."""
    if is_temporal(left) and is_temporal(right) and left.value is not None and right.value is not None:
        found = _order_of_moments(left, right)
        return None if found is None and is_time(left) == is_time(right) else found == 0
    if "System.Quantity" in (left.type, right.type) and (one := quantity(left)) and (other := quantity(right)):
        found = _order_of_quantities(one, other)
        return None if found is None else found == 0
    return key(left) == key(right)


def key(node: Node) -> object:
    """What two items that are equal have in common, to find one among many."""
    if node.value is None:
        return ("extra", _frozen(node.extra))
    return _frozen(node.value)


def _frozen(value: Any) -> object:
    if isinstance(value, dict):
        return frozenset((name, _frozen(each)) for name, each in value.items())
    if isinstance(value, list):
        return tuple(_frozen(each) for each in value)
    if isinstance(value, bool):
        return ("boolean", value)
    return value

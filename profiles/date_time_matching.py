"""Matching of DT values: PS3.4 section C.2.2.2.5.3, with the offset from UTC that a value or a bound may have."""

import re
from datetime import UTC, datetime, timedelta
from typing import Final

_MOMENT: Final = r"\d{4}(?:\d{2}){0,5}(?:\.\d{1,6})?(?:[+-](?:0\d|1[0-4])[0-5]\d)?"
_RANGE: Final = re.compile(rf"({_MOMENT})?-({_MOMENT})?", re.ASCII)
_PARTS: Final = re.compile(r"(\d{4})(\d\d)?(\d\d)?(\d\d)?(\d\d)?(\d\d)?(?:\.(\d{1,6}))?([+-](?:0\d|1[0-4])[0-5]\d)?", re.ASCII)

Bounds = tuple[datetime, datetime]


def asked(text: str) -> Bounds | None:
    """First and last moment of what is asked for: a moment, to its precision, or a range. None for what is neither.

    What has no offset is taken as UTC, so that values and bounds of one place agree.
    """
    if found := included(text):
        return found
    if (parts := _RANGE.fullmatch(text.strip())) is None or not any(parts.groups()):
        return None
    first = included(parts[1]) if parts[1] else (datetime.min.replace(tzinfo=UTC),) * 2
    last = included(parts[2]) if parts[2] else (datetime.max.replace(tzinfo=UTC),) * 2
    return (first[0], last[1]) if first and last else None


def included(text: str) -> Bounds | None:
    """First and last moment that a DT includes to its precision; None for what is none."""
    parts = _PARTS.fullmatch(text.strip())
    if parts is None:
        return None
    year, month, day, hour, minute, second = (int(part) if part else None for part in parts.groups()[:6])
    fraction = (parts[7] or "").ljust(6, "0")
    try:
        first = datetime(
            year or 0, month or 1, day or 1, hour or 0, minute or 0, min(second or 0, 59), int(fraction) if parts[7] else 0, UTC
        )
        offset = _offset(parts[8] or "+0000")
        return first - offset, first + _width(month, day, hour, minute, second, parts[7], first) - offset
    except (ValueError, OverflowError):
        return None


def _width(
    month: int | None,
    day: int | None,
    hour: int | None,
    minute: int | None,
    second: int | None,
    fraction: str | None,
    first: datetime,
) -> timedelta:
    """How long after `first` the last microsecond is that has the same parts."""
    tick = timedelta(microseconds=1)
    if fraction:
        return timedelta(microseconds=10 ** (6 - len(fraction))) - tick
    for part, width in (
        (second, timedelta(seconds=1)),
        (minute, timedelta(minutes=1)),
        (hour, timedelta(hours=1)),
        (day, timedelta(days=1)),
    ):
        if part is not None:
            return width - tick
    if month is not None:
        return (first.replace(day=28) + timedelta(days=4)).replace(day=1) - first - tick
    return first.replace(month=12, day=31) + timedelta(days=1) - first - tick


def _offset(text: str) -> timedelta:
    size = timedelta(hours=int(text[1:3]), minutes=int(text[3:5]))
    return -size if text[0] == "-" else size


def matches(value: str, wanted: Bounds) -> bool:
    """Whether a stored value, to its precision, begins within `wanted`."""
    found = included(value)
    return found is not None and wanted[0] <= found[0] <= wanted[1]

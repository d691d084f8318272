"""Values of query keys against columns: PS3.4 section C.2.2.2, as both engines have it."""

import re
from collections.abc import Callable
from typing import Final, Literal

from sqlalchemy import ColumnElement, Connection, Text, and_, cast, literal, or_

from profiles.identifiers import InvalidIdentifier, lenient_uid
from profiles.timestamps import dicom_date, dicom_time
from server.errors import MalformedQuery
from server.records.results import TERM

Kind = Literal["text", "date", "time", "uid", "code", "integer"]
Condition = ColumnElement[bool]

MOST_UIDS: Final = 500
_MOST_WILDCARDS: Final = 8
_INTEGER: Final = re.compile(r"[+-]?\d{1,18}", re.ASCII)
_LAST: Final = "\U0010ffff"
"""After every character, in the order of code points and of UTF-8."""


def has_wildcard(value: str) -> bool:
    return "*" in value or "?" in value


def listed(kind: Kind, value: str) -> list[str]:
    """The alternatives that a value of UIDs or codes has."""
    return uids(value) if kind == "uid" else codes(value)


def codes(value: str) -> list[str]:
    """Code Strings, several as alternatives; neither comma nor backslash can be part of one (PS3.5 table 6.2-1)."""
    return [one for part in re.split(r"[,\\]", value) if (one := part.strip(" ").upper())][:MOST_UIDS]


def uids(value: str) -> list[str]:
    """PS3.4 section C.2.2.2.2, PS3.18 section 8.3.4.1: one UID or several, joined by commas or backslashes."""
    parts = [part.strip() for part in re.split(r"[,\\]", value)]
    if len(parts) > MOST_UIDS:
        raise MalformedQuery(f"a list of UIDs may have at most {MOST_UIDS}")
    try:
        return [lenient_uid(part) for part in parts]
    except InvalidIdentifier as error:
        raise MalformedQuery(str(error)) from None


def beginning(column: ColumnElement[object], text: str) -> list[Condition]:
    """That a text begins so, as a stretch of an index."""
    return [column >= text, column < literal(text + _LAST)] if text else []


def stretch(value: str, bounds: Callable[[str], tuple[str, str]]) -> tuple[str, str]:
    """PS3.4 section C.2.2.2.5: least and greatest text of `a`, `a-b`, `a-` or `-b`; empty where a side is open."""
    first, dash, last = value.partition("-")
    first, last = first.strip(" "), last.strip(" ")
    if not dash:
        last = first
    if not (first or last):
        raise MalformedQuery("a range has a beginning or an end (PS3.4 section C.2.2.2.5)")
    return first and bounds(first)[0], last and bounds(last)[1]


def _between(column: ColumnElement[object], low: str, high: str) -> Condition:
    """What has no value matches no range."""
    told = [column != ""] if not low else [column >= low]
    return and_(*told, column <= high) if high else and_(*told)


def date_bounds(text: str) -> tuple[str, str]:
    """A date as least and greatest text of a day. Raises `MalformedQuery`."""
    found = dicom_date(text)
    if found is None:
        raise MalformedQuery("a date to match is YYYYMMDD, or a range of them with a hyphen (PS3.4 section C.2.2.2.5)")
    return found, found


def time_bounds(text: str) -> tuple[str, str]:
    """Least and greatest text of a time that `text`, to its precision, includes.

    Times are stored to the precision they came in, `1030` for 10:30; trailing zeros off the lower bound, text order is time order.
    """
    found = dicom_time(text)
    if found is None:
        raise MalformedQuery(
            "a time to match is HHMMSS.FFFFFF or the beginning of it, or a range with a hyphen (PS3.4 section C.2.2.2.5)"
        )
    # Seconds may be 60 (PS3.5 table 6.2-1, TM), here as in what is stored; asked for, they are 59.
    high = found.ljust(13, "9") if "." in found else found + "HH5960.999999"[len(found) :]
    if found[4:] == "59":
        high = found[:4] + "60.999999"
    low = found.rstrip("0").removesuffix(".") if "." in found else found
    return (low.rstrip("0") if "." not in low else low) or "0", high


class Comparing:
    """Comparisons, and what the two engines write differently: wildcard matching with regard to case, and the order of bytes."""

    def __init__(self, connection: Connection) -> None:
        self._sqlite = connection.dialect.name == "sqlite"

    def compare(self, kind: Kind, column: ColumnElement[object], value: str) -> Condition | None:
        """A column against a value; None where everything matches."""
        if not value:
            return None
        match kind:
            case "text":
                return self.like(column, value)
            case "date":
                return _between(column, *stretch(value, date_bounds))
            case "time":
                return _between(self.bytewise(column), *stretch(value, time_bounds))
            case "uid":
                found = uids(value)
                return column.in_(found) if len(found) > 1 else column == found[0]
            case "code":
                return or_(*(self.like(column, one) for one in codes(value)))
            case "integer":
                if not _INTEGER.fullmatch(value):
                    raise MalformedQuery("an integer attribute is matched by one integer (PS3.4 section C.2.2.2.1)")
                return column == int(value)

    def bytewise(self, column: ColumnElement[object]) -> ColumnElement[object]:
        """`column` in the order of its bytes, whatever the database's collation."""
        return column if self._sqlite else cast(column, Text).collate("C")  # type: ignore[return-value]

    def like(self, column: ColumnElement[object], pattern: str) -> Condition:
        """PS3.4 section C.2.2.2.4: `*` any characters, `?` any one. Without these, equality."""
        if not has_wildcard(pattern):
            return column == pattern
        if pattern.count("*") > _MOST_WILDCARDS:
            raise MalformedQuery(f"a value to match may have at most {_MOST_WILDCARDS} asterisks")
        start = re.split(r"[*?]", pattern, maxsplit=1)[0]
        # PostgreSQL's own order of texts is not that of their bytes, except in `study_term`.
        bounds = beginning(column, start) if self._sqlite or column.table is TERM else []
        if bounds and pattern == start + "*":
            return and_(*bounds)
        if self._sqlite:
            matched: Condition = column.op("GLOB")(pattern.replace("[", "[[]"))
        else:
            escaped = re.sub(r"[\\%_]", r"\\\g<0>", pattern).replace("*", "%").replace("?", "_")
            matched = column.like(escaped, escape="\\")
        return and_(*bounds, matched)

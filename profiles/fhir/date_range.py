"""What a FHIR date covers (FHIR R4 section 3.1.1.4.7): dates of every precision as ranges of microseconds."""

import calendar
import re
from datetime import UTC, datetime, timedelta, timezone

_FHIR_DATE = re.compile(
    r"(?P<year>\d{4})(-(?P<month>\d\d)(-(?P<day>\d\d)"
    r"(T(?P<hour>\d\d):(?P<minute>\d\d)(:(?P<second>\d\d)(\.(?P<fraction>\d+))?)?(?P<zone>Z|[+-]\d\d:\d\d)?)?)?)?",
    re.ASCII,
)


def date_range(text: str) -> tuple[int, int]:
    """The half-open range [start, end) in microseconds that a FHIR date, dateTime or instant covers, FHIR R4 section 3.1.1.4.7.

    No zone means UTC. Raises `ValueError` for what is not a date.
    """
    found = _FHIR_DATE.fullmatch(text)
    if not found:
        raise ValueError("not a FHIR date: YYYY, YYYY-MM, YYYY-MM-DD or YYYY-MM-DDThh:mm[:ss[.sss]][Z|+hh:mm]")
    part = found.groupdict()
    zone = UTC
    if part["zone"] and part["zone"] != "Z":
        sign = -1 if part["zone"][0] == "-" else 1
        zone = timezone(sign * timedelta(hours=int(part["zone"][1:3]), minutes=int(part["zone"][4:])))
    fraction = (part["fraction"] or "")[:6]
    start = datetime(
        int(part["year"]), int(part["month"] or 1), int(part["day"] or 1), int(part["hour"] or 0), int(part["minute"] or 0),
        int(part["second"] or 0), int(fraction.ljust(6, "0")) if fraction else 0, zone,
    )  # fmt: skip
    if part["month"] is None:
        width = timedelta(days=366 if calendar.isleap(start.year) else 365)
    elif part["day"] is None:
        width = timedelta(days=calendar.monthrange(start.year, start.month)[1])
    elif part["hour"] is None:
        width = timedelta(days=1)
    elif part["second"] is None:
        width = timedelta(minutes=1)
    elif not fraction:
        width = timedelta(seconds=1)
    else:
        width = timedelta(microseconds=10 ** (6 - len(fraction)))
    # Integer arithmetic: a float timestamp loses microseconds.
    first = (start - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    return first, first + width // timedelta(microseconds=1)

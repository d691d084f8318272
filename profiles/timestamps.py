"""Dates and times: DICOM DA, TM and timezone to FHIR date, dateTime and instant, and to HL7 DTM in UTC.

Real equipment writes what it likes, so everything here is tolerant: what cannot be read is None, never an error, and a
time that cannot be read leaves the date. A DICOM time without a timezone is local time of the site: callers say which zone.
"""

import re
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo

# DA as PS3.5 has it, and as ACR-NEMA had it (`YYYY.MM.DD`)
_DA = re.compile(r"(\d{4})(\.?)(\d{2})\2(\d{2})", re.ASCII)
# TM as PS3.5 has it (any prefix of HHMMSS.FFFFFF), and with colons as ACR-NEMA had it
_TM = re.compile(r"(\d{2})(?:(:?)(\d{2})(?:\2(\d{2})(?:\.(\d{1,6})\d*)?)?)?", re.ASCII)
_OFFSET = re.compile(r"([+-])(\d{2})(\d{2})", re.ASCII)
_DTM = re.compile(r"(\d{4})(\d{2})?(\d{2})?(\d{2})?(\d{2})?(\d{2})?(?:\.\d+)?", re.ASCII)


def dicom_date(da: str) -> str | None:
    """PS3.5 section 6.2, DA: `YYYYMMDD`, or None where it is not a day of the calendar."""
    day = _day(da)
    return f"{day.year:04}{day:%m%d}" if day else None


def dicom_time(tm: str) -> str | None:
    """PS3.5 section 6.2, TM: `HH[MM[SS[.F]]]` without separators, or None where it is not a time of day.

    A leap second (60) becomes 59, as everywhere here: TM allows it, few readers do.
    """
    found = _TM.fullmatch(tm.strip())
    if not found or _clock(tm) is None:
        return None
    hours, _, minutes, seconds, fraction = found.groups()
    return hours + (minutes or "") + ("59" if seconds == "60" else seconds or "") + (f".{fraction}" if fraction else "")


def dicom_offset(text: str) -> timezone | None:
    """PS3.3 C.12.1.1.8: `+HHMM` or `-HHMM` from -1200 to +1400 as a timezone, or None."""
    found = _OFFSET.fullmatch(text.strip())
    if not found or int(found[3]) > 59:
        return None
    offset = timedelta(hours=int(found[2]), minutes=int(found[3])) * (-1 if found[1] == "-" else 1)
    return timezone(offset) if timedelta(hours=-12) <= offset <= timedelta(hours=14) else None


def moment(da: str, tm: str, zone: tzinfo, offset: str = "") -> datetime | None:
    """The point in time of a DICOM date and time (to the minute at least), in `offset` if that can be read, else in `zone`."""
    day, clock = _day(da), _clock(tm)
    if day is None or clock is None or len(tm.strip()) < 4:
        return None
    return datetime.combine(day, clock, tzinfo=dicom_offset(offset) or zone)


def fhir_date(da: str) -> str | None:
    """FHIR R4 section 2.24.0.1, date: `YYYY-MM-DD`, or None."""
    day = _day(da)
    return day.isoformat() if day else None


def fhir_date_time(da: str, tm: str, zone: tzinfo, offset: str = "") -> str | None:
    """FHIR R4 section 2.24.0.1, dateTime: with offset where the time is known to the minute, else the date, else None."""
    when = moment(da, tm, zone, offset)
    if when is None:
        return fhir_date(da)
    return _with_whole_minutes(when) or fhir_date(da)


def fhir_instant(when: datetime) -> str:
    """FHIR R4 section 2.24.0.1, instant: UTC to the millisecond, `YYYY-MM-DDThh:mm:ss.sssZ`. `when` is aware."""
    return when.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def dtm(when: datetime) -> str:
    """ITI TF-3 table 4.2.3.1.7-2, DTM: `YYYYMMDDhhmmss` in UTC. `when` is aware."""
    utc = when.astimezone(UTC)
    return f"{utc.year:04}{utc:%m%d%H%M%S}"


def dtm_of_dicom(da: str, tm: str, zone: tzinfo, offset: str = "") -> str | None:
    """ITI TF-3 table 4.2.3.1.7-2, DTM in UTC of a DICOM date and time, no more precise than they are; None without a date.

    A date without a time stays that date: nobody knows on which day it falls in UTC.
    """
    when = moment(da, tm, zone, offset)
    if when is None:
        return dicom_date(da)
    try:
        text = dtm(when)
    except OverflowError:  # year 1 or 9999 at the edge of the calendar
        return dicom_date(da)
    return text if len(tm.strip().replace(":", "")) >= 6 else text[:12]


def fhir_date_time_of_dtm(text: str) -> str | None:
    """FHIR R4 dateTime of an HL7 DTM in UTC, with the precision that it has; None where it is not one."""
    found = _DTM.fullmatch(text.strip())
    if not found:
        return None
    year, month, day, hour, minute, second = found.groups()
    try:
        datetime(int(year), int(month or 1), int(day or 1), int(hour or 0), int(minute or 0), int(second or 0), tzinfo=UTC)
    except ValueError:
        return None
    if minute:
        return f"{year}-{month}-{day}T{hour}:{minute}:{second or '00'}Z"
    return "-".join(part for part in (year, month, day) if part)


def dtm_of_fhir(text: str) -> str | None:
    """ITI TF-3 table 4.2.3.1.7-2, DTM in UTC of a FHIR date, dateTime or instant, no more precise than that; None where it is none."""
    if "T" in text:
        try:
            when = datetime.fromisoformat(text)
            return dtm(when) if when.tzinfo is not None else None
        except (ValueError, OverflowError):
            return None
    found = text.replace("-", "")
    return found if fhir_date_time_of_dtm(found) == text else None


def _day(da: str) -> date | None:
    found = _DA.fullmatch(da.strip())
    if not found:
        return None
    try:
        return date(int(found[1]), int(found[3]), int(found[4]))
    except ValueError:
        return None


def _clock(tm: str) -> time | None:
    found = _TM.fullmatch(tm.strip())
    if not found:
        return None
    hours, _, minutes, seconds, fraction = found.groups()
    # TM allows a leap second (60), Python's clock does not
    second = 59 if seconds == "60" else int(seconds or 0)
    try:
        return time(int(hours), int(minutes or 0), second, int((fraction or "0").ljust(6, "0")))
    except ValueError:
        return None


def _with_whole_minutes(when: datetime) -> str | None:
    """ISO text whose offset has no seconds (local mean times before about 1900 do; FHIR has no way to write them)."""
    offset = when.utcoffset()
    if offset is not None and offset.total_seconds() % 60:
        try:
            when = when.astimezone(UTC)
        except OverflowError:
            return None
    text = when.isoformat()
    return text.removesuffix("+00:00") + "Z" if text.endswith("+00:00") else text

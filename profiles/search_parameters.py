"""R4 search parameters as data, and what a resource yields for them (FHIR R4 section 3.1.1).

Only what the server offers stands here; the CapabilityStatement is written from the same table.
"""

import calendar
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, Final, Literal, TypeAlias, get_args

Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class SearchParameter:
    """One row of a resource type's table of search parameters. `definition` is the canonical URL in R4."""

    name: str
    type: Literal["token", "date", "reference"]
    definition: str
    documentation: str = ""


@dataclass(frozen=True, slots=True)
class Extracted:
    """What searches need of one resource. Dates are microseconds since 1970, `date_end` exclusive; 0, 0 where there is none."""

    patient: str = ""
    date: int = 0
    date_end: int = 0
    status: str = ""
    tokens: tuple[tuple[str, str, str], ...] = ()
    """(parameter, system, code); system is empty where the resource names none."""
    identities: tuple[tuple[str, str], ...] = ()
    """(system, value) of identifiers that exist once per type."""


_R4 = "http://hl7.org/fhir/SearchParameter/"
_EVERY = (
    SearchParameter("_id", "token", f"{_R4}Resource-id"),
    SearchParameter("_lastUpdated", "date", f"{_R4}Resource-lastUpdated"),
)

OFFERED: Mapping[str, tuple[SearchParameter, ...]] = {
    "Patient": (*_EVERY, SearchParameter("identifier", "token", f"{_R4}Patient-identifier")),
    "ImagingStudy": (
        *_EVERY,
        SearchParameter("patient", "reference", f"{_R4}clinical-patient"),
        SearchParameter("identifier", "token", f"{_R4}clinical-identifier"),
        SearchParameter("started", "date", f"{_R4}ImagingStudy-started"),
        SearchParameter("modality", "token", f"{_R4}ImagingStudy-modality"),
        SearchParameter("status", "token", f"{_R4}ImagingStudy-status"),
    ),
    "DocumentReference": (
        *_EVERY,
        SearchParameter("patient", "reference", f"{_R4}clinical-patient"),
        SearchParameter("identifier", "token", f"{_R4}clinical-identifier"),
        SearchParameter("date", "date", f"{_R4}DocumentReference-date"),
        SearchParameter("status", "token", f"{_R4}DocumentReference-status"),
    ),
    "Endpoint": (
        *_EVERY,
        SearchParameter("identifier", "token", f"{_R4}Endpoint-identifier"),
        SearchParameter("status", "token", f"{_R4}Endpoint-status"),
    ),
    "AuditEvent": (
        SearchParameter("_id", "token", f"{_R4}Resource-id"),
        SearchParameter("patient", "reference", f"{_R4}AuditEvent-patient"),
        SearchParameter("date", "date", f"{_R4}AuditEvent-date"),
        SearchParameter("outcome", "token", f"{_R4}AuditEvent-outcome"),
    ),
}
"""Resource type -> its search parameters."""

DATE_PARAMETER: Mapping[str, str] = {"ImagingStudy": "started", "DocumentReference": "date", "AuditEvent": "date"}
"""Resource type -> the parameter that stands for its clinical date (`Extracted.date`), by which it is sorted."""

AUDIT_OUTCOMES: Final = ("http://hl7.org/fhir/audit-event-outcome", "http://terminology.hl7.org/CodeSystem/audit-event-outcome")
"""The code system of AuditEvent.outcome in R4, and as IHE BALP names it."""

INCLUDES: Mapping[str, tuple[str, ...]] = {"ImagingStudy": ("ImagingStudy:endpoint",)}
"""Resource type -> `_include` values."""

DatePrefix: TypeAlias = Literal["eq", "ne", "gt", "lt", "ge", "le", "sa", "eb"]
DATE_PREFIXES: Final[tuple[DatePrefix, ...]] = get_args(DatePrefix)
"""FHIR R4 section 3.1.1.4.5, all but `ap`: what is approximately the same is for people to say."""


@dataclass(frozen=True, slots=True)
class DateValue:
    """One value of a date parameter: a prefix and the half-open range of microseconds that the date covers."""

    prefix: DatePrefix
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class TokenValue:
    """One value of a token parameter. None means any; an empty system means that the resource names none."""

    system: str | None
    code: str | None


_UNIQUE: Mapping[str, Callable[[str], bool]] = {
    "Patient": lambda system: system.startswith("urn:oid:"),
    "ImagingStudy": lambda system: system == "urn:dicom:uid",
    "DocumentReference": lambda system: system == "urn:ietf:rfc:3986",
    "Endpoint": lambda system: True,
}


def extract(resource: Json) -> Extracted:
    """What `resource` yields for the parameters of its type. Unknown types yield nothing."""
    type_ = str(resource["resourceType"])
    if type_ not in _UNIQUE:
        return Extracted()
    status = str(resource.get("status", ""))
    dated = resource.get(DATE_PARAMETER.get(type_, ""))
    start, end = date_range(str(dated)) if dated else (0, 0)
    identifiers = list(_identifiers(type_, resource))
    tokens = [("identifier", system, value) for system, value in identifiers]
    if status:
        tokens.append(("status", _STATUS_SYSTEM.get(type_, ""), status))
    tokens += [("modality", str(coding.get("system", "")), str(coding.get("code", ""))) for coding in _modalities(resource)]
    unique = _UNIQUE[type_]
    return Extracted(
        patient=_patient(type_, resource),
        date=start,
        date_end=end,
        status=status,
        tokens=tuple(tokens),
        identities=tuple(i for i in identifiers if unique(i[0])),
    )


_STATUS_SYSTEM = {
    "ImagingStudy": "http://hl7.org/fhir/imagingstudy-status",
    "DocumentReference": "http://hl7.org/fhir/document-reference-status",
    "Endpoint": "http://hl7.org/fhir/endpoint-status",
}


def _patient(type_: str, resource: Json) -> str:
    if type_ == "Patient":
        return str(resource["id"])
    reference = str((resource.get("subject") or {}).get("reference", ""))
    return reference.removeprefix("Patient/") if reference.startswith("Patient/") else ""


def _modalities(resource: Json) -> Iterator[Json]:
    """R4 defines the parameter on the series: ImagingStudy.modality leaves out what acquired nothing."""
    yield from resource.get("modality", ())
    yield from (series["modality"] for series in resource.get("series", ()) if "modality" in series)


def _identifiers(type_: str, resource: Json) -> Iterator[tuple[str, str]]:
    found = list(resource.get("identifier", ()))
    if type_ == "DocumentReference" and "masterIdentifier" in resource:
        found.append(resource["masterIdentifier"])
    for identifier in found:
        yield str(identifier.get("system", "")), str(identifier.get("value", ""))


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


# --- what a query says


def alternatives(text: str) -> list[str]:
    """FHIR R4 section 3.1.1.4.4: the values joined by commas, any of which may match. Escapes stay as they are.

    Raises `ValueError` where one of them is empty.
    """
    found = _split(text, ",")
    if not all(found):
        raise ValueError("a value is empty")
    return found


def token_value(text: str) -> TokenValue:
    """FHIR R4 section 3.1.1.4.10: `code`, `system|code`, `system|` or `|code`. Raises `ValueError` for a lone bar."""
    parts = _split(text, "|")
    if len(parts) == 1:
        return TokenValue(None, _unescaped(parts[0]))
    system, code = _unescaped(parts[0]), _unescaped("|".join(parts[1:]))
    if not system and not code:
        raise ValueError("a token has a system, a code or both")
    return TokenValue(system, code or None)


def date_value(text: str) -> DateValue:
    """FHIR R4 section 3.1.1.4.7: a date with one of `DATE_PREFIXES` or none (`eq`). Raises `ValueError`.

    A blank in the place of the zone's plus sign is taken as one: forms decode an unescaped plus so.
    """
    prefix: DatePrefix = "eq"
    if text[:1].isalpha():
        for known in DATE_PREFIXES:
            if text.startswith(known):
                prefix = known
                break
        else:
            raise ValueError(f"a date may begin with {', '.join(DATE_PREFIXES)}")
        text = text[2:]
    return DateValue(prefix, *date_range(text.replace(" ", "+")))


def _split(text: str, separator: str) -> list[str]:
    """At each `separator` that no backslash stands before."""
    found, escaped = [""], False
    for character in text:
        if character == separator and not escaped:
            found.append("")
        else:
            found[-1] += character
        escaped = character == "\\" and not escaped
    return found


def _unescaped(text: str) -> str:
    return re.sub(r"\\([,|$\\])", r"\1", text)

"""Values of the primitive types (FHIR R4 section 2.24.0.1): what JSON has for each, its form, and its limits."""

import binascii
import re
from calendar import monthrange
from collections.abc import Callable, Mapping
from decimal import Decimal
from types import MappingProxyType
from typing import Any, Final

from profiles.fhir.faults import Around, Check, Found, mistyped, one
from profiles.fhir.narrative import problem
from profiles.r4.definitions import type_

LONGEST: Final = 1024 * 1024
"""Characters of a string (FHIR R4 section 2.24.0.1)."""
_ID: Final = re.compile(r"[A-Za-z0-9\-.]{1,64}")
_CONTROL: Final = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")
"""What strings of FHIR do not have, and what XML could not carry."""
_NO_URI: Final = re.compile("[\x00-\x20\x7f]")
_GREATEST: Final = 2**31 - 1


def is_valid_id(text: str) -> bool:
    """FHIR R4 section 2.24.0.1, id: 1 to 64 letters, digits, `-` and `.`."""
    return _ID.fullmatch(text) is not None


def string(value: Any, _: Around) -> Found:
    """Text of 1 to 1,048,576 characters, without control characters but tab and ends of lines. Also of type markdown."""
    if type(value) is str and value and len(value) <= LONGEST and (value.isprintable() or not _CONTROL.search(value)):
        return None
    if type(value) is not str or not value:
        return mistyped(value, "a string")
    if len(value) > LONGEST:
        return one("too-long", f"a string has at most {LONGEST} characters")
    return one("value", "a string has no control characters but tab, carriage return and line feed")


def uri(value: Any, around: Around) -> Found:
    """Also of types url and canonical. Local links are remembered, for the contained resources that they lead to."""
    if type(value) is not str or not value:
        return mistyped(value, "a string")
    if value[0] == "#":
        around.links.add(value)
    if _NO_URI.search(value):
        return one("value", "a URI has no spaces and no control characters")
    return None if len(value) <= LONGEST else one("too-long", f"a URI has at most {LONGEST} characters")


def boolean(value: Any, _: Around) -> Found:
    """true or false of JSON."""
    return None if type(value) is bool else mistyped(value, "true or false")


def decimal(value: Any, _: Around) -> Found:
    """A number of JSON; a float, which a program may have put there, only if it is finite."""
    if type(value) is int or isinstance(value, Decimal):
        return None
    if isinstance(value, float) and value - value == 0:
        return None
    return mistyped(value, "a number")


def base64(value: Any, _: Around) -> Found:
    """RFC 4648 section 4, with white space anywhere."""
    if type(value) is not str or not value:
        return mistyped(value, "a string")
    try:
        decoded = binascii.a2b_base64("".join(value.split()), strict_mode=True)
    except ValueError:
        decoded = b""
    return None if decoded else one("value", "the value is not base64 (RFC 4648 section 4)")


def xhtml(value: Any, _: Around) -> Found:
    """FHIR R4 section 2.4.2: the `div` of a narrative."""
    if type(value) is not str or not value:
        return mistyped(value, "a string")
    wrong = problem(value)
    return one("invariant", wrong) if wrong else None


def _integer(least: int) -> Check:
    text = f"a whole number from {least} to {_GREATEST} is wanted"

    def check(value: Any, _: Around) -> Found:
        if type(value) is int:
            return None if least <= value <= _GREATEST else one("value", text)
        return one("value", text) if isinstance(value, Decimal | float) else mistyped(value, "a number")

    return check


def _formed(name: str, wanted: str, is_real: Callable[[str], bool] | None = None) -> Check:
    """A check by the expression of the definition; `is_real` looks further, such as at the calendar."""
    pattern = type_(name).regex
    assert pattern is not None
    matches = re.compile(pattern.pattern, re.ASCII).fullmatch

    def check(value: Any, _: Around) -> Found:
        if type(value) is not str or not value:
            return mistyped(value, "a string")
        if matches(value) and (is_real is None or is_real(value)):
            return None
        return one("value", f"the value is no {name}: {wanted}")

    return check


def _is_text(text: str) -> bool:
    return len(text) <= LONGEST and not _CONTROL.search(text)


def _is_day(text: str) -> bool:
    """Whether the month has such a day. The form is right already."""
    day = text[8:10]
    return day < "29" or int(day) <= monthrange(int(text[:4]), int(text[5:7]))[1]


_DATE: Final = "YYYY, YYYY-MM or YYYY-MM-DD, a day of the calendar"
PRIMITIVES: Final[Mapping[str, Check]] = MappingProxyType(
    {
        "base64Binary": base64,
        "boolean": boolean,
        "canonical": uri,
        "code": _formed("code", "text without spaces around it, and single ones within", _is_text),
        "date": _formed("date", _DATE, _is_day),
        "dateTime": _formed("dateTime", f"{_DATE}, with a time only as YYYY-MM-DDThh:mm:ss and zone", _is_day),
        "decimal": decimal,
        "id": _formed("id", "1 to 64 letters, digits, '-' and '.'"),
        "instant": _formed("instant", "YYYY-MM-DDThh:mm:ss with zone, a day of the calendar", _is_day),
        "integer": _integer(-(2**31)),
        "markdown": string,
        "oid": _formed("oid", "urn:oid: and numbers with dots"),
        "positiveInt": _integer(1),
        "string": string,
        "time": _formed("time", "hh:mm:ss without zone"),
        "unsignedInt": _integer(0),
        "uri": uri,
        "url": uri,
        "uuid": _formed("uuid", "urn:uuid: and the UUID in lower case"),
        "xhtml": xhtml,
    }
)
"""By name of the type."""

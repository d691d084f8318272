"""What values of metadata attributes look like (ITI TF-3 table 4.2.3.1.7-2): one row for each data type of the table."""

import re
from collections.abc import Callable, Mapping
from datetime import date
from enum import StrEnum
from typing import Final

from profiles.document import APPROVED, DEPRECATED, OFFLINE, ONLINE


class Syntax(StrEnum):
    """Data types, by the names of the table where it has one."""

    TEXT = "text"
    CODE = "code"
    AUTHOR = "author"
    CX = "CX"
    CXI = "CXi"
    TIME = "DTM"
    SHA_1 = "SHA1"
    SIZE = "Integer"
    LANGUAGE = "Language Code"
    MIME_TYPE = "MIME Type"
    OID = "OID"
    OID_URN = "urn:oid:"
    DOCUMENT_ID = "Identifier"
    ID = "Id"
    UUID = "UUID"
    URI = "URI"
    XCN = "XCN"
    XON = "XON"
    XTN = "XTN"
    RECIPIENT = "XON|XCN|XTN"
    PATIENT_INFO = "sourcePatientInfo"
    AVAILABILITY = "documentAvailability"
    SUBMISSION_SET_STATUS = "SubmissionSetStatus"
    VERSION = "PreviousVersion"
    YES_NO = "yes or no"
    STATUS = "availabilityStatus"


# As the table has it: ISO's limit of the first number to 0, 1 and 2 is not in it, and ids that begin with an IP address are about.
_OID = re.compile(r"(?=.{1,64}\Z)(0|[1-9][0-9]*)(\.(0|[1-9][0-9]*))+", re.ASCII)
_UUID = re.compile(r"urn:uuid:[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII)
_TIME = re.compile(
    r"([0-9]{4})(?:(0[1-9]|1[0-2])(?:(0[1-9]|[12][0-9]|3[01])(?:([01][0-9]|2[0-3])(?:([0-5][0-9])([0-5][0-9])?)?)?)?)?", re.ASCII
)
_LANGUAGE = re.compile(r"[A-Za-z]{1,8}(-[A-Za-z0-9]{1,8})*", re.ASCII)
_MIME_TYPE = re.compile(r"[A-Za-z0-9][\w.+!#$&^-]*/[A-Za-z0-9][\w.+!#$&^-]*([ \t]*;[ -~]*)?", re.ASCII)
# ITI TF-3 section 4.2.3.2.23: any field of PID, but not the other ids, the country and the social security number
_PATIENT_INFO = re.compile(r"PID-(?!(?:2|4|12|19)\|)[1-9][0-9]?\|.*", re.DOTALL)
_MOST_ID: Final = 256

# ITI TF-3 table 4.2.3.1.7-2, CXi: types of which an id always has an assigning authority
_OF_AN_AUTHORITY: Final = frozenset(
    {"urn:ihe:iti:xds:2013:referral", "urn:ihe:iti:xds:2013:order", "urn:ihe:iti:xds:2015:encounterId"}
)


def _is_time(text: str) -> bool:
    """DTM in UTC, of any precision from the year on, and a day that there is."""
    found = _TIME.fullmatch(text)
    if found is None or text[:4] == "0000":
        return False
    year, month, day = (int(found[place] or 1) for place in (1, 2, 3))
    try:
        date(year, month, day)
    except ValueError:
        return False
    return True


def _authority_is_iso(text: str) -> bool:
    """`&oid&ISO`."""
    parts = text.split("&")
    return len(parts) == 3 and not parts[0] and parts[2] == "ISO" and _OID.fullmatch(parts[1]) is not None


def _is_cx(text: str) -> bool:
    """`id^^^&oid&ISO`, and nothing else: CX.1 and CX.4, of which HD.1 is empty."""
    fields = text.split("^")
    return len(fields) == 4 and bool(fields[0]) and fields[1] == fields[2] == "" and _authority_is_iso(fields[3])


def _is_cxi(text: str) -> bool:
    """`id^^^authority^type[^home]`: the authority is a local name, an OID or both; CXi.6 is from the first edition of the type."""
    fields = text.split("^")
    if not 5 <= len(fields) <= 6 or not fields[0] or fields[1] or fields[2] or not fields[4]:
        return False
    name, _, universal = fields[3].partition("&")
    if universal and not _authority_is_iso(f"&{universal}"):
        return False
    return bool(name or universal) or (not fields[3] and fields[4] not in _OF_AN_AUTHORITY)


def _is_xcn(text: str) -> bool:
    """An id or a name (the last name by the table; NIST's own data also has a first name alone); an authority is an OID."""
    fields = text.split("^")
    if not any(fields[:3]):
        return False
    authority = fields[8] if len(fields) > 8 else ""
    return not authority or _authority_is_iso(authority)


def _is_xon(text: str) -> bool:
    """A name; of an id with an authority the authority is an OID, and an id without one is an OID itself. Nothing else."""
    fields = text.split("^")
    id_, authority = (fields[place] if len(fields) > place else "" for place in (9, 5))
    if not fields[0] or any(field for place, field in enumerate(fields) if place not in (0, 5, 9)):
        return False
    if authority:
        return _authority_is_iso(authority)
    return not id_ or _OID.fullmatch(id_) is not None


def _is_xtn(text: str) -> bool:
    """`^^Internet^address`, or a telephone number by its parts: XTN.3 its type, XTN.7 the number."""
    fields = (text.split("^") + [""] * 8)[: max(8, text.count("^") + 1)]
    if fields[0] or any(fields[8:]):
        return False
    if fields[2] == "Internet":
        return bool(fields[3]) and fields[1] in ("", "NET")
    return bool(fields[2] and fields[6])


def _is_recipient(text: str) -> bool:
    """`XON|XCN|XTN`: an organization, a person, a way to reach them; at least one of them."""
    parts = text.split("|")
    if len(parts) > 3 or not any(parts):
        return False
    return all(not part or check(part) for part, check in zip(parts, (_is_xon, _is_xcn, _is_xtn), strict=False))


def _is_uri(text: str) -> bool:
    return 0 < len(text) <= _MOST_ID and not any(character.isspace() for character in text)


def _is_size(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 18


_CHECKS: Final[Mapping[Syntax, Callable[[str], bool]]] = {
    Syntax.CX: _is_cx,
    Syntax.CXI: _is_cxi,
    Syntax.TIME: _is_time,
    Syntax.SHA_1: lambda text: re.fullmatch(r"[0-9a-fA-F]{40}", text) is not None,
    Syntax.SIZE: _is_size,
    Syntax.LANGUAGE: lambda text: _LANGUAGE.fullmatch(text) is not None,
    Syntax.MIME_TYPE: lambda text: _MIME_TYPE.fullmatch(text) is not None,
    Syntax.OID: lambda text: _OID.fullmatch(text) is not None,
    Syntax.OID_URN: lambda text: text.startswith("urn:oid:") and _OID.fullmatch(text[8:]) is not None,
    Syntax.DOCUMENT_ID: lambda text: 0 < len(text) <= _MOST_ID,  # ITI TF-3 section 4.2.3.2.26: for all but its maker it is opaque
    Syntax.ID: lambda text: 0 < len(text) <= _MOST_ID,
    Syntax.UUID: lambda text: _UUID.fullmatch(text) is not None,
    Syntax.URI: _is_uri,
    Syntax.XCN: _is_xcn,
    Syntax.XON: _is_xon,
    Syntax.XTN: _is_xtn,
    Syntax.RECIPIENT: _is_recipient,
    Syntax.PATIENT_INFO: lambda text: _PATIENT_INFO.fullmatch(text) is not None,
    Syntax.AVAILABILITY: lambda text: text in (ONLINE, OFFLINE),
    Syntax.SUBMISSION_SET_STATUS: lambda text: text in ("Original", "Reference"),
    Syntax.VERSION: lambda text: text.isascii() and text.isdigit() and 0 < len(text) <= 9,
    Syntax.YES_NO: lambda text: text in ("yes", "no"),
    Syntax.STATUS: lambda text: text in (APPROVED, DEPRECATED),
}


FORMS: Final[Mapping[Syntax, str]] = {
    Syntax.CX: "an identifier id^^^&OID&ISO",
    Syntax.CXI: "a reference id^^^&OID&ISO^type",
    Syntax.TIME: "a time YYYY[MM[DD[hh[mm[ss]]]]] in UTC",
    Syntax.SHA_1: "a SHA-1 of 40 hexadecimal digits",
    Syntax.SIZE: "a number of bytes",
    Syntax.LANGUAGE: "a language tag of RFC 5646",
    Syntax.MIME_TYPE: "a MIME type",
    Syntax.OID: "an OID of at most 64 characters",
    Syntax.OID_URN: "an OID as urn:oid:...",
    Syntax.DOCUMENT_ID: "an identifier of at most 256 characters",
    Syntax.ID: "an id of at most 256 characters",
    Syntax.UUID: "a UUID as urn:uuid:... in lower case",
    Syntax.URI: "a URI",
    Syntax.XCN: "a person (XCN) with an id or a name, whose authority is &OID&ISO",
    Syntax.XON: "an organization (XON) of name, authority &OID&ISO and id alone",
    Syntax.XTN: "an address ^^Internet^name@example.org, or a telephone number (XTN) of type and number",
    Syntax.RECIPIENT: "an organization|person|address (XON|XCN|XTN)",
    Syntax.PATIENT_INFO: "a field PID-n|value, and not PID-2, PID-4, PID-12 or PID-19",
    Syntax.AVAILABILITY: "Online or Offline as a URN of IHE",
    Syntax.SUBMISSION_SET_STATUS: "Original or Reference",
    Syntax.VERSION: "a version number",
    Syntax.YES_NO: "yes or no",
    Syntax.STATUS: "Approved or Deprecated as a URN of ebRIM",
}
"""What each data type has to look like, for a person. A type that is not here is free text, or has parts with types of their own."""


def is_valid(syntax: Syntax, text: str) -> bool:
    """Whether a value that is there has the form of its data type."""
    check = _CHECKS.get(syntax)
    return check is None or check(text)

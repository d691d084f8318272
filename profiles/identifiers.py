"""Identifiers as values: UIDs, assigning authorities, patient identifiers, accession numbers, AE titles.

Every constructor checks the grammar of its standard and raises `InvalidIdentifier`; a value that exists is valid.
"""

import re
import uuid
from dataclasses import dataclass

_UID = re.compile(r"(0|[1-9][0-9]*)(\.(0|[1-9][0-9]*))+")
_AE_TITLE = re.compile(r"[\x20-\x5b\x5d-\x7e]{1,16}")


class InvalidIdentifier(ValueError):
    """A value that its standard's grammar refuses. The message names the rule and never repeats the value."""


def uid(value: str) -> str:
    """`value` as a DICOM UID (PS3.5 section 9.1): dotted decimal, at most 64 characters, no leading zeros.

    Raises `InvalidIdentifier`. Nothing else may become part of a path or a query.
    """
    if len(value) > 64:
        raise InvalidIdentifier("a UID has at most 64 characters (PS3.5 section 9.1)")
    if not _UID.fullmatch(value):
        raise InvalidIdentifier("a UID is numbers without leading zeros, joined by dots (PS3.5 section 9.1)")
    return value


def lenient_uid(value: str) -> str:
    """`value` as a UID that real equipment writes: PS3.5's characters and length, leading zeros allowed.

    Stored studies carry such UIDs, and a request for them must find them. Raises `InvalidIdentifier`.
    """
    if not 0 < len(value) <= 64 or not re.fullmatch(r"[0-9]+(\.[0-9]+)*", value):
        raise InvalidIdentifier("a UID is numbers joined by dots, at most 64 characters (PS3.5 section 9.1)")
    return value


def uuid_oid(value: uuid.UUID) -> str:
    """The OID of a UUID: `2.25.<integer>` (ITU-T X.667, PS3.5 annex B.2)."""
    return f"2.25.{value.int}"


def ae_title(value: str) -> str:
    """`value` as an AE title (PS3.5 table 6.2-1): 1 to 16 printable characters without backslash, not only spaces."""
    stripped = value.strip(" ")
    if not stripped or not _AE_TITLE.fullmatch(stripped):
        raise InvalidIdentifier("an AE title has 1 to 16 printable ASCII characters, no backslash (PS3.5 table 6.2-1)")
    return stripped


@dataclass(frozen=True, slots=True)
class AssigningAuthority:
    """Who gave out an identifier: an OID (XDS: HD.2 with ISO), and optionally the local name (HD.1) that DICOM carries."""

    oid: str
    namespace: str = ""

    def __post_init__(self) -> None:
        uid(self.oid)

    @property
    def system(self) -> str:
        """The FHIR `Identifier.system`: `urn:oid:<oid>`."""
        return f"urn:oid:{self.oid}"

    @classmethod
    def derived(cls, root: str, namespace: str) -> "AssigningAuthority":
        """A stable authority for a local name that nobody has mapped to an OID: a name-based UUID under `root`'s name.

        Two installations derive different OIDs from the same name, as they must: "HOSPITAL" here is not "HOSPITAL" there.
        """
        return cls(uuid_oid(uuid.uuid5(uuid.NAMESPACE_OID, f"{root}:{namespace}")), namespace)


@dataclass(frozen=True, slots=True)
class PatientIdentifier:
    """One patient's identifier in one assigning authority's domain (HL7 CX; FHIR Identifier)."""

    value: str
    authority: AssigningAuthority

    @property
    def cx(self) -> str:
        """XDS form, ITI TF-3 table 4.2.3.1.7-2: `id^^^&oid&ISO`, HL7 delimiters escaped."""
        return f"{hl7_escape(self.value)}^^^&{self.authority.oid}&ISO"

    @classmethod
    def from_cx(cls, text: str) -> "PatientIdentifier":
        """Reads `id^^^&oid&ISO` (also `id^^^name&oid&ISO`). Raises `InvalidIdentifier`."""
        fields = text.split("^")
        if len(fields) < 4 or not fields[0]:
            raise InvalidIdentifier("a patient id has the form id^^^&oid&ISO (ITI TF-3 table 4.2.3.1.7-2)")
        authority = fields[3].split("&")
        if len(authority) != 3 or authority[2] != "ISO":
            raise InvalidIdentifier("a patient id's assigning authority has the form &oid&ISO (ITI TF-3 table 4.2.3.1.7-2)")
        return cls(_hl7_unescape(fields[0]), AssigningAuthority(authority[1], authority[0]))

    def fhir(self) -> dict[str, str]:
        """FHIR R4 Identifier: `{"system": "urn:oid:...", "value": ...}`."""
        return {"system": self.authority.system, "value": self.value}


_ESCAPES = {"\\": "\\E\\", "|": "\\F\\", "^": "\\S\\", "&": "\\T\\", "~": "\\R\\"}


def oid_of(uri: str) -> str:
    """The OID of a `urn:oid:` URI; empty where it is none."""
    oid = uri.removeprefix("urn:oid:")
    return oid if oid != uri and _UID.fullmatch(oid) else ""


def hl7_escape(text: str) -> str:
    """`text` as part of an HL7 v2 field, its delimiters escaped."""
    return "".join(_ESCAPES.get(character, character) for character in text)


def _hl7_unescape(text: str) -> str:
    return re.sub(r"\\([EFSTR])\\", lambda found: {v[1]: k for k, v in _ESCAPES.items()}[found.group(1)], text)

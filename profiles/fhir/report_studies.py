"""By what reports and imaging studies name each other besides references: Study Instance UIDs and accession numbers.

An accession number is an Identifier of type ACSN (FHIR R4 section 8.30.5; IHE MHD: `DocumentReference.context.related.identifier`). It names
a study only together with its patient, and where both sides say who assigned it, only if they say the same.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from profiles.vocabulary import ACCESSION_IDENTIFIER_TYPE, DICOM_UID_SYSTEM, V2_IDENTIFIER_TYPE

PARAMETERS: Final[Mapping[str, str]] = MappingProxyType({"DiagnosticReport": "study", "DocumentReference": "related"})
"""Type of a report -> the search parameter that leads to its studies."""
_STUDY: Final = "ImagingStudy"


@dataclass(frozen=True, slots=True)
class Name:
    """A Study Instance UID (as `urn:oid:...`), or an accession number with the `system` of its identifier, empty where it has none."""

    value: str
    is_accession: bool = False
    system: str = ""


def names(resource: Mapping[str, Any]) -> frozenset[Name]:
    """By what an ImagingStudy is named, or a report names its studies; empty for other types.

    A report that says by a reference or UID which study it is of does not mean others of the same accession number.
    """
    match resource["resourceType"]:
        case "ImagingStudy":
            known = resource.get("identifier", ())
            return frozenset([*_uids(known), *_accessions([*known, *_logical(resource.get("basedOn", ()))])])
        case "DiagnosticReport":
            leads = resource.get("imagingStudy", ())
        case "DocumentReference":
            leads = resource.get("context", {}).get("related", ())
        case _:
            return frozenset()
    led = list(_logical(leads))
    uids = frozenset(_uids(led))
    if uids or any(_leads_to_study(each) for each in leads):
        return uids
    return frozenset(_accessions([*led, *resource.get("identifier", ()), *_logical(resource.get("basedOn", ()))]))


def _logical(references: Iterable[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    """Identifiers that stand in place of a reference (FHIR R4 section 2.3.0.2)."""
    return (each["identifier"] for each in references if "identifier" in each and "reference" not in each)


def _leads_to_study(reference: Mapping[str, Any]) -> bool:
    return "reference" in reference and (reference.get("type") == _STUDY or f"{_STUDY}/" in reference["reference"])


def _uids(identifiers: Iterable[Mapping[str, Any]]) -> Iterator[Name]:
    return (Name(each["value"]) for each in identifiers if each.get("system") == DICOM_UID_SYSTEM and "value" in each)


def _accessions(identifiers: Iterable[Mapping[str, Any]]) -> Iterator[Name]:
    for each in identifiers:
        codings = ((coding.get("system"), coding.get("code")) for coding in each.get("type", {}).get("coding", ()))
        value = each.get("value", "").strip()
        if value and (V2_IDENTIFIER_TYPE, ACCESSION_IDENTIFIER_TYPE) in codings:
            yield Name(value, True, each.get("system", ""))

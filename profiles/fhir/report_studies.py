"""By what reports and imaging studies name each other besides references: Study Instance UIDs and accession numbers.

An accession number is an Identifier of type ACSN (FHIR R4 section 8.30.5; IHE MHD: `DocumentReference.context.related.identifier`). It names
a study only together with its patient, and where both sides say who assigned it, only if they say the same.

A Study Instance UID is an Identifier with the system `urn:dicom:uid`. FHIR R4 section 8.30.5 has its value as `urn:oid:...`; many leave that out.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from profiles.vocabulary import ACCESSION_IDENTIFIER_TYPE, DICOM_UID_SYSTEM, V2_IDENTIFIER_TYPE

PARAMETERS: Final[Mapping[str, str]] = MappingProxyType({"DiagnosticReport": "study", "DocumentReference": "related"})
"""Type of a report -> the search parameter that leads to its studies."""
_STUDY: Final = "ImagingStudy"
_BARE_UID: Final = re.compile(r"[0-2](\.[0-9]+)+", re.ASCII)


@dataclass(frozen=True, slots=True)
class Name:
    """A Study Instance UID (as `urn:oid:...`), or an accession number with the `system` of its identifier, empty where it has none."""

    value: str
    is_accession: bool = False
    system: str = ""


def names(resource: Mapping[str, Any]) -> frozenset[Name]:
    """By what an ImagingStudy is named, or a report names its studies; empty for other types.

    A report that says by a reference or UID which study it is of does not mean others of the same accession number. Its own UID may be that of
    its study, or of the document that it was made of, so that it leads to a study if there is one, and says nothing of others.
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
    led, ordered = list(_logical(leads)), list(_logical(resource.get("basedOn", ())))
    own = resource.get("identifier", ())
    also = _uids(own) if resource["resourceType"] == "DiagnosticReport" else ()  # a DocumentReference's is the document's
    if any(_leads_to_study(each) for each in leads):
        return frozenset([*_uids(led), *also])
    return frozenset([*(list(_uids([*led, *ordered])) or _accessions([*led, *own, *ordered])), *also])


def _logical(references: Iterable[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    """Identifiers that stand in place of a reference (FHIR R4 section 2.3.0.2)."""
    return (each["identifier"] for each in references if "identifier" in each and "reference" not in each)


def _leads_to_study(reference: Mapping[str, Any]) -> bool:
    return "reference" in reference and (reference.get("type") == _STUDY or f"{_STUDY}/" in reference["reference"])


def _uids(identifiers: Iterable[Mapping[str, Any]]) -> Iterator[Name]:
    for each in identifiers:
        value = each.get("value", "").strip()
        if value and each.get("system") == DICOM_UID_SYSTEM:
            yield Name(f"urn:oid:{value}" if _BARE_UID.fullmatch(value) else value)


def _accessions(identifiers: Iterable[Mapping[str, Any]]) -> Iterator[Name]:
    for each in identifiers:
        codings = ((coding.get("system"), coding.get("code")) for coding in each.get("type", {}).get("coding", ()))
        value = each.get("value", "").strip()
        if value and (V2_IDENTIFIER_TYPE, ACCESSION_IDENTIFIER_TYPE) in codings:
            yield Name(value, True, each.get("system", ""))

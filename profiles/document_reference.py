"""Document Entry to FHIR R4 DocumentReference (IHE MHD, section "DocumentEntry mapped to DocumentReference")."""

import base64
import re

from profiles import timestamps
from profiles.document import APPROVED, Author, Code, DocumentEntry
from profiles.identifiers import InvalidIdentifier, PatientIdentifier
from profiles.imaging_study import accession_identifier, study_identifier
from profiles.patient import Json
from profiles.vocabulary import (
    CONFIDENTIALITY_OID,
    CONFIDENTIALITY_SYSTEM,
    DCM_OID,
    DCM_SYSTEM,
    DCM_UID_REGISTRY_OID,
    DCM_UID_REGISTRY_SYSTEM,
    FORMAT_CODE_OID,
    FORMAT_CODE_SYSTEM,
    LOINC_OID,
    LOINC_SYSTEM,
    REFERENCE_ACCESSION,
    SNOMED_OID,
    SNOMED_SYSTEM,
    URI_SYSTEM,
)

# Coding schemes that FHIR names by URL: HL7 FHIR R4 section 4.3, PS3.16 table 8-1
_SYSTEMS = {
    LOINC_OID: LOINC_SYSTEM,
    "LN": LOINC_SYSTEM,
    SNOMED_OID: SNOMED_SYSTEM,
    "SCT": SNOMED_SYSTEM,
    DCM_OID: DCM_SYSTEM,
    "DCM": DCM_SYSTEM,
    DCM_UID_REGISTRY_OID: DCM_UID_REGISTRY_SYSTEM,
    "DCMUID": DCM_UID_REGISTRY_SYSTEM,
    CONFIDENTIALITY_OID: CONFIDENTIALITY_SYSTEM,
    FORMAT_CODE_OID: FORMAT_CODE_SYSTEM,
}
_OID = re.compile(r"[0-2](\.(0|[1-9][0-9]*))+", re.ASCII)
_HL7_ESCAPES = {"\\E\\": "\\", "\\F\\": "|", "\\S\\": "^", "\\T\\": "&", "\\R\\": "~"}


def document_reference(
    entry: DocumentEntry,
    *,
    id: str,
    subject_id: str,
    content_url: str,
    context_study_id: str = "",
    study_instance_uid: str = "",
    replaces: str | None = None,
) -> Json:
    """FHIR R4 section 2.42, DocumentReference; MHD: every attribute of the Document Entry that FHIR has a place for.

    `content_url` is where the document's bytes are, `context_study_id` the ImagingStudy's id, `study_instance_uid` its UID,
    `replaces` the id of the DocumentReference that this one replaces. The SHA-1 goes as base64 of its 20 bytes.
    """
    resource: Json = {
        "resourceType": "DocumentReference",
        "id": id,
        "masterIdentifier": {"system": URI_SYSTEM, "value": _urn_oid(entry.unique_id)},
        "identifier": [{"use": "official", "system": URI_SYSTEM, "value": entry.entry_uuid}],
        "status": "current" if entry.status == APPROVED else "superseded",
    }
    if entry.type_code:
        resource["type"] = concept(entry.type_code)
    if entry.class_code:
        resource["category"] = [concept(entry.class_code)]
    resource["subject"] = {"reference": f"Patient/{subject_id}"}
    created = timestamps.fhir_date_time_of_dtm(entry.creation_time)
    if created and created.endswith("Z"):  # an instant needs a time
        resource["date"] = created
    if authors := [{"display": display} for author in entry.authors if (display := _author(author))]:
        resource["author"] = authors
    if replaces:
        resource["relatesTo"] = [{"code": "replaces", "target": {"reference": f"DocumentReference/{replaces}"}}]
    if entry.title:
        resource["description"] = entry.title
    if entry.confidentiality:
        resource["securityLabel"] = [concept(label) for label in entry.confidentiality]
    content: Json = {"attachment": _attachment(entry, content_url, created)}
    if entry.format_code:
        content["format"] = coding(entry.format_code)
    resource["content"] = [content]
    resource["context"] = _context(entry, context_study_id, study_instance_uid)
    return resource


def system(scheme: str) -> str:
    """The FHIR code system of a coding scheme: its URL where FHIR names one, `urn:oid:...` for another OID, empty if unknown."""
    if scheme in _SYSTEMS:
        return _SYSTEMS[scheme]
    if _OID.fullmatch(scheme):
        return f"urn:oid:{scheme}"
    return scheme if ":" in scheme else ""


def coding(code: Code) -> Json:
    """FHIR R4 Coding of a code."""
    named = {"system": system(code.scheme), "code": code.code, "display": code.display}
    return {key: value for key, value in named.items() if value}


def concept(code: Code) -> Json:
    """FHIR R4 CodeableConcept of a code."""
    return {"coding": [coding(code)]}


def _attachment(entry: DocumentEntry, content_url: str, created: str | None) -> Json:
    attachment: Json = {"contentType": entry.mime_type, "language": entry.language, "url": content_url, "size": entry.size}
    if entry.hash:
        attachment["hash"] = base64.b64encode(bytes.fromhex(entry.hash)).decode("ascii")
    if entry.title:
        attachment["title"] = entry.title
    if created:
        attachment["creation"] = created
    return {key: value for key, value in attachment.items() if value not in ("", None)}


def _context(entry: DocumentEntry, study_id: str, study_instance_uid: str) -> Json:
    context: Json = {}
    if entry.event_codes:
        context["event"] = [concept(code) for code in entry.event_codes]
    period = {"start": entry.service_start, "end": entry.service_stop}
    if bounds := {edge: at for edge, text in period.items() if (at := timestamps.fhir_date_time_of_dtm(text))}:
        context["period"] = bounds
    if entry.facility_type:
        context["facilityType"] = concept(entry.facility_type)
    if entry.practice_setting:
        context["practiceSetting"] = concept(entry.practice_setting)
    if source := _patient(entry.source_patient_id):
        context["sourcePatientInfo"] = {"type": "Patient", "identifier": source}
    related: list[Json] = []
    if study_id or study_instance_uid:
        related.append(_related_study(study_id, study_instance_uid))
    related += [{"identifier": found} for text in entry.reference_ids if (found := _accession(text))]
    if related:
        context["related"] = related
    return context


def _related_study(study_id: str, study_instance_uid: str) -> Json:
    study: Json = {"type": "ImagingStudy"}
    if study_id:
        study["reference"] = f"ImagingStudy/{study_id}"
    if study_instance_uid:
        study["identifier"] = study_identifier(study_instance_uid)
    return study


def _accession(cxi: str) -> Json | None:
    """The accession number in a CXi (ITI TF-3 table 4.2.3.1.7-2), or None where the CXi is of another kind."""
    fields = cxi.split("^")
    if len(fields) < 5 or fields[4] != REFERENCE_ACCESSION or not fields[0]:
        return None
    authority = fields[3].split("&")
    value = re.sub(r"\\[EFSTR]\\", lambda found: _HL7_ESCAPES[found[0]], fields[0])
    return accession_identifier(value, authority[1] if len(authority) == 3 else "")


def _patient(cx: str) -> Json | None:
    try:
        return dict(PatientIdentifier.from_cx(cx).fhir())
    except InvalidIdentifier:  # somebody else's entry: what is no CX is left out, the entry stays readable
        return None


def _author(author: Author) -> str:
    """For people: XCN without its numbers, or the name of the first institution (XON.1)."""
    fields = author.person.split("^")
    person = " ".join(part for part in (fields[2:3] + fields[1:2]) if part)
    return person or next((name for xon in author.institutions if (name := xon.split("^")[0])), "")


def _urn_oid(unique_id: str) -> str:
    """uniqueId as a URI: an OID, or an OID and an extension `oid^ext` as MHD writes it."""
    return f"urn:oid:{unique_id}" if re.fullmatch(r"[0-9.]+(\^.+)?", unique_id) else unique_id

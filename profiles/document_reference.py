"""Document Entry to FHIR R4 DocumentReference (IHE MHD 4.2, section "DocumentEntry mapped to DocumentReference")."""

import base64
import re
from collections.abc import Mapping, Sequence
from typing import Final

from profiles import timestamps
from profiles.document import (
    APND,
    APPROVED,
    IS_SNAPSHOT_OF,
    RPLC,
    SIGNS,
    XFRM,
    XFRM_RPLC,
    Author,
    Code,
    DocumentEntry,
    Folder,
)
from profiles.document_people import contained_author, contained_patient
from profiles.identifiers import InvalidIdentifier, PatientIdentifier, oid_of
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
    REFERENCE_STUDY_INSTANCE_UID,
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
_OIDS = {url: name for name, url in _SYSTEMS.items() if name[0].isdigit()}
RELATIONS: Final[Mapping[str, str]] = {
    RPLC: "replaces", XFRM_RPLC: "replaces", XFRM: "transforms", IS_SNAPSHOT_OF: "transforms", APND: "appends", SIGNS: "signs",
}  # fmt: skip
"""IHE MHD, ConceptMap AssociationTypeVsRelatesTo: what a relationship of documents is in FHIR."""
HOME_COMMUNITY: Final = "https://profiles.ihe.net/ITI/MHD/StructureDefinition/ihe-HomeCommunityId"
_SOURCE: Final = "source"
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
    relations: Sequence[tuple[str, str]] = (),
) -> Json:
    """FHIR R4 section 2.42, DocumentReference; MHD: every attribute of the Document Entry that FHIR has a place for.

    `content_url` is where the document's bytes are, empty where no URL leads there, `context_study_id` the ImagingStudy's id,
    `study_instance_uid` its UID, `relations` are types of Associations with the id of the DocumentReference that each leads to. The SHA-1 goes as
    base64 of its 20 bytes. An entry that was updated (ITI-57) has its logicalID as a further identifier.
    """
    resource: Json = {
        "resourceType": "DocumentReference",
        "id": id,
        "masterIdentifier": {"system": URI_SYSTEM, "value": urn(entry.unique_id)},
        "identifier": identifiers(entry),
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
    people, contained = _people(entry)
    source = contained_patient(entry.source_patient_id, entry.source_patient_info, _SOURCE)
    contained += [source] if source else []
    if contained:
        resource["contained"] = contained
    resource |= people
    if relations:
        resource["relatesTo"] = [
            {"code": RELATIONS[type_], "target": {"reference": f"DocumentReference/{target}"}} for type_, target in relations
        ]
    if entry.comments or entry.title:
        resource["description"] = entry.comments or entry.title
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


def scheme(system: str) -> str:
    """The way back of `system`: the OID of a code system that has one, else its URI as it is."""
    return _OIDS.get(system) or oid_of(system) or system


def coding(code: Code) -> Json:
    """FHIR R4 Coding of a code."""
    named = {"system": system(code.scheme), "code": code.code, "display": code.display}
    return {key: value for key, value in named.items() if value}


def concept(code: Code) -> Json:
    """FHIR R4 CodeableConcept of a code."""
    return {"coding": [coding(code)]}


def identifiers(value: DocumentEntry | Folder) -> list[Json]:
    """The entryUUID and, of what was updated (ITI-57), the logicalID."""
    found: list[Json] = [{"use": "official", "system": URI_SYSTEM, "value": value.entry_uuid}]
    if value.logical_id not in ("", value.entry_uuid):
        found.append({"use": "secondary", "system": URI_SYSTEM, "value": value.logical_id})
    return found


def author_reference(author: Author) -> Json:
    """FHIR R4 Reference to who wrote something, by what is known of them: identifier and name of the person (XCN), else of the institution (XON)."""
    return _person(author.person) or next((found for xon in author.institutions if (found := _institution(xon))), {})


def _people(entry: DocumentEntry) -> tuple[Json, list[Json]]:
    """Who wrote and signed it, and the resources to contain for what a Reference alone cannot say of them."""
    found: Json = {}
    authors, contained = [], []
    for number, author in enumerate(entry.authors, 1):
        reference = author_reference(author)
        if inside := contained_author(author, f"author{number}", system):
            contained += inside
            # its identifier and display stay: author:identifier finds by the one, people read the other
            reference = {**reference, "reference": f"#author{number}", "type": inside[0]["resourceType"]}
        if reference:
            authors.append(reference)
    if authors:
        found["author"] = authors
    if signer := _person(entry.legal_authenticator):
        found["authenticator"] = signer
    return found, contained


def _person(xcn: str) -> Json:
    fields = [_text(field) for field in xcn.split("^")] if xcn else []
    name = " ".join(part for part in (fields[2:3] + fields[1:2]) if part)
    found: Json = {}
    if identifier := _identifier(xcn, 0, 8):
        found = {"type": "Practitioner", "identifier": identifier}
    return {**found, "display": name} if name else found


def _institution(xon: str) -> Json:
    name = _text(xon.partition("^")[0])
    found: Json = {}
    if identifier := _identifier(xon, 9, 5):
        found = {"type": "Organization", "identifier": identifier}
    return {**found, "display": name} if name else found


def _identifier(text: str, value: int, authority: int) -> Json:
    """Of an HL7 v2 value: what it says as an id, by whom (component HD) it was given, by the numbers of their fields from 0."""
    fields = [*text.split("^"), *[""] * 10]
    given = _text(fields[value])
    parts = fields[authority].split("&")
    oid = parts[1] if len(parts) == 3 and parts[2] == "ISO" else ""
    if given and not oid and _OID.fullmatch(given):  # XON.10 may be an OID itself
        return {"system": URI_SYSTEM, "value": f"urn:oid:{given}"}
    return {"system": f"urn:oid:{oid}", "value": given} if given and oid else {}


def _text(field: str) -> str:
    return re.sub(r"\\[EFSTR]\\", lambda found: _HL7_ESCAPES[found[0]], field)


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
    source: Json = {"type": "Patient"}
    if contained_patient(entry.source_patient_id, entry.source_patient_info, _SOURCE):
        source["reference"] = f"#{_SOURCE}"
    if identifier := _patient(entry.source_patient_id):
        source["identifier"] = identifier
    if len(source) > 1:
        context["sourcePatientInfo"] = source
    related: list[Json] = []
    if study_id or study_instance_uid:
        related.append(_related_study(study_id, study_instance_uid))
    related += [found for text in entry.reference_ids if (found := _reference(text, study_instance_uid))]
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


def _reference(cxi: str, known: str) -> Json | None:
    """What a CXi (ITI TF-3 table 4.2.3.1.7-2) names; None where it names nothing, or the study whose UID is `known`."""
    fields = [*cxi.split("^"), *[""] * 5]
    value, kind = _text(fields[0]), fields[4]
    authority = fields[3].split("&")
    oid = authority[1] if len(authority) == 3 else ""
    match kind:
        case _ if not value or (kind == REFERENCE_STUDY_INSTANCE_UID and value == known):
            return None
        case _ if kind == REFERENCE_ACCESSION:
            return {"identifier": accession_identifier(value, oid)}
        case _ if kind == REFERENCE_STUDY_INSTANCE_UID:
            return _related_study("", value)
    named: Json = {"type": {"coding": [{"system": URI_SYSTEM, "code": kind}]}} if kind else {}
    return {"identifier": {**named, **({"system": f"urn:oid:{oid}"} if oid else {}), "value": value}}


def _patient(cx: str) -> Json | None:
    try:
        return dict(PatientIdentifier.from_cx(cx).fhir())
    except InvalidIdentifier:  # somebody else's entry: what is no CX is left out, the entry stays readable
        return None


def urn(unique_id: str) -> str:
    """A uniqueId as a URI: an OID, or an OID and an extension `oid^ext` as MHD writes it."""
    return f"urn:oid:{unique_id}" if re.fullmatch(r"[0-9.]+(\^.+)?", unique_id) else unique_id

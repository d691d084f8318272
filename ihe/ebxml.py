"""Document sharing metadata in ebRIM 3.0: DocumentEntry, SubmissionSet and Association (ITI TF-3 section 4.2).

Every `*_element` has its reader; reading what was written gives the same value. An attribute that is empty in the value is
absent in the XML. Where a mandatory attribute is missing, reading raises `RegistryError` XDSRegistryMetadataError.
"""

import uuid
from collections.abc import Iterable
from typing import Final

from lxml.etree import _Element

from ihe import xml
from ihe.ebrs import RegistryError
from profiles.document import APPROVED, STABLE, Association, Author, Code, DocumentEntry, SubmissionSet

REFERENCE_ID_LIST: Final = "urn:ihe:iti:xds:2013:referenceIdList"

_REGISTRY_OBJECT = "urn:oasis:names:tc:ebxml-regrep:ObjectType:RegistryObject:"

# ITI TF-3 table 4.3.1.1-2: classification schemes and external identifiers of a DocumentEntry.
ENTRY_AUTHOR: Final = "urn:uuid:93606bcf-9494-43ec-9b4e-a7748d1a838d"
CLASS_CODE: Final = "urn:uuid:41a5887f-8865-4c09-adf7-e362475b143a"
TYPE_CODE: Final = "urn:uuid:f0306f51-975f-434e-a61c-c59651d33983"
FORMAT_CODE: Final = "urn:uuid:a09d5840-386c-46f2-b5ad-9c3699a4309d"
CONFIDENTIALITY: Final = "urn:uuid:f4f85eac-e6cb-4883-b524-f2705394840f"
FACILITY_TYPE: Final = "urn:uuid:f33fb8ac-18af-42cc-ae0e-ed0b0bdb91e1"
PRACTICE_SETTING: Final = "urn:uuid:cccf5598-8b07-4b77-a05e-ae952c785ead"
EVENT_CODE: Final = "urn:uuid:2c6b8cb7-8b2a-4051-b291-b1ae6a575ef4"
ENTRY_PATIENT_ID: Final = "urn:uuid:58a6f841-87b3-4a3e-92fd-a8ffeff98427"
ENTRY_UNIQUE_ID: Final = "urn:uuid:2e82c1f6-a085-4c72-9da3-8640a32e42ab"

# The same of a SubmissionSet.
SUBMISSION_SET_NODE: Final = "urn:uuid:a54d6aa5-d40d-43f9-88c5-b4633d873bdd"
SET_AUTHOR: Final = "urn:uuid:a7058bb9-b4e4-4307-ba5b-e3f0ab85e12d"
CONTENT_TYPE: Final = "urn:uuid:aa543740-bdda-424e-8c96-df4873be8500"
SET_PATIENT_ID: Final = "urn:uuid:6b5aea1a-874d-4603-a4bc-96a0a7b38446"
SET_UNIQUE_ID: Final = "urn:uuid:96fdda7c-d067-4183-912e-bf5ee74998a8"
SET_SOURCE_ID: Final = "urn:uuid:554ac39e-e3fe-47fe-b233-965d2a147832"


def document_entry_element(entry: DocumentEntry) -> _Element:
    """ITI TF-3 section 4.2.3.2: a DocumentEntry as `rim:ExtrinsicObject`."""
    made = xml.element(
        xml.RIM,
        "ExtrinsicObject",
        id=entry.entry_uuid,
        mimeType=entry.mime_type,
        objectType=entry.object_type,
        status=entry.status,
    )
    if entry.home_community_id:
        made.set("home", xml.clean(entry.home_community_id))
    _slot(made, "creationTime", entry.creation_time)
    _slot(made, "languageCode", entry.language)
    _slot(made, "serviceStartTime", entry.service_start)
    _slot(made, "serviceStopTime", entry.service_stop)
    _slot(made, "hash", entry.hash)
    _slot(made, "size", str(entry.size))
    _slot(made, "repositoryUniqueId", entry.repository_unique_id)
    _slot(made, "sourcePatientId", entry.source_patient_id)
    _slot(made, "sourcePatientInfo", *entry.source_patient_info)
    _slot(made, REFERENCE_ID_LIST, *entry.reference_ids)
    _name(made, entry.title)
    _authors(made, ENTRY_AUTHOR, entry.authors)
    _codes(made, CLASS_CODE, (entry.class_code,))
    _codes(made, TYPE_CODE, (entry.type_code,))
    _codes(made, FORMAT_CODE, (entry.format_code,))
    _codes(made, CONFIDENTIALITY, entry.confidentiality)
    _codes(made, FACILITY_TYPE, (entry.facility_type,))
    _codes(made, PRACTICE_SETTING, (entry.practice_setting,))
    _codes(made, EVENT_CODE, entry.event_codes)
    _external_identifier(made, ENTRY_PATIENT_ID, entry.patient_id, "XDSDocumentEntry.patientId")
    _external_identifier(made, ENTRY_UNIQUE_ID, entry.unique_id, "XDSDocumentEntry.uniqueId")
    return made


def document_entry(element: _Element) -> DocumentEntry:
    """Reads `rim:ExtrinsicObject`. `hash`, `size`, `repositoryUniqueId` may be missing (a Source does not know them)."""
    size = _value(element, "size")
    if size and not (size.isascii() and size.isdigit()):
        raise _metadata_error("DocumentEntry.size must be a number of bytes")
    return DocumentEntry(
        entry_uuid=element.get("id", ""),
        unique_id=_identifier(element, ENTRY_UNIQUE_ID, "DocumentEntry.uniqueId"),
        patient_id=_identifier(element, ENTRY_PATIENT_ID, "DocumentEntry.patientId"),
        source_patient_id=_value(element, "sourcePatientId"),
        class_code=_code(element, CLASS_CODE, "DocumentEntry.classCode"),
        type_code=_code(element, TYPE_CODE, "DocumentEntry.typeCode"),
        format_code=_code(element, FORMAT_CODE, "DocumentEntry.formatCode"),
        confidentiality=_read_codes(element, CONFIDENTIALITY),
        facility_type=_code(element, FACILITY_TYPE, "DocumentEntry.healthcareFacilityTypeCode"),
        practice_setting=_code(element, PRACTICE_SETTING, "DocumentEntry.practiceSettingCode"),
        mime_type=element.get("mimeType", ""),
        language=_value(element, "languageCode"),
        creation_time=_value(element, "creationTime"),
        hash=_value(element, "hash"),
        size=int(size or 0),
        repository_unique_id=_value(element, "repositoryUniqueId"),
        home_community_id=element.get("home", ""),
        title=_read_name(element),
        service_start=_value(element, "serviceStartTime"),
        service_stop=_value(element, "serviceStopTime"),
        event_codes=_read_codes(element, EVENT_CODE),
        reference_ids=_values(element, REFERENCE_ID_LIST),
        source_patient_info=_values(element, "sourcePatientInfo"),
        authors=_read_authors(element, ENTRY_AUTHOR),
        object_type=element.get("objectType", STABLE),
        status=element.get("status", APPROVED),
    )


def submission_set_element(submission: SubmissionSet) -> _Element:
    """ITI TF-3 section 4.2.3.3: a SubmissionSet as `rim:RegistryPackage`."""
    made = xml.element(
        xml.RIM,
        "RegistryPackage",
        id=submission.entry_uuid,
        objectType=_REGISTRY_OBJECT + "RegistryPackage",
        status=submission.status,
    )
    _slot(made, "submissionTime", submission.submission_time)
    _name(made, submission.title)
    node = _classification(made, SUBMISSION_SET_NODE, 0)
    node.set("classificationNode", SUBMISSION_SET_NODE)
    _authors(made, SET_AUTHOR, submission.authors)
    _codes(made, CONTENT_TYPE, (submission.content_type,))
    _external_identifier(made, SET_PATIENT_ID, submission.patient_id, "XDSSubmissionSet.patientId")
    _external_identifier(made, SET_UNIQUE_ID, submission.unique_id, "XDSSubmissionSet.uniqueId")
    _external_identifier(made, SET_SOURCE_ID, submission.source_id, "XDSSubmissionSet.sourceId")
    return made


def submission_set(element: _Element) -> SubmissionSet:
    """Reads `rim:RegistryPackage` of a SubmissionSet."""
    return SubmissionSet(
        entry_uuid=element.get("id", ""),
        unique_id=_identifier(element, SET_UNIQUE_ID, "SubmissionSet.uniqueId"),
        patient_id=_identifier(element, SET_PATIENT_ID, "SubmissionSet.patientId"),
        source_id=_identifier(element, SET_SOURCE_ID, "SubmissionSet.sourceId"),
        submission_time=_value(element, "submissionTime"),
        content_type=_code(element, CONTENT_TYPE, "SubmissionSet.contentTypeCode"),
        title=_read_name(element),
        authors=_read_authors(element, SET_AUTHOR),
        status=element.get("status", APPROVED),
    )


def association_element(association: Association) -> _Element:
    """ITI TF-3 section 4.2.2: an Association as `rim:Association`."""
    made = xml.element(
        xml.RIM,
        "Association",
        id=association.entry_uuid,
        objectType=_REGISTRY_OBJECT + "Association",
        status=association.status,
        associationType=association.type,
        sourceObject=association.source,
        targetObject=association.target,
    )
    _slot(made, "SubmissionSetStatus", association.submission_set_status)
    return made


def association(element: _Element) -> Association:
    """Reads `rim:Association`."""
    return Association(
        entry_uuid=element.get("id", ""),
        type=element.get("associationType", ""),
        source=element.get("sourceObject", ""),
        target=element.get("targetObject", ""),
        submission_set_status=_value(element, "SubmissionSetStatus"),
        status=element.get("status", APPROVED),
    )


def _slot(parent: _Element, name: str, *values: str) -> None:
    # An empty Slot is an error to many registries, so what is empty is left out.
    if not any(values):
        return
    listed = xml.child(xml.child(parent, xml.RIM, "Slot", name=name), xml.RIM, "ValueList")
    for value in values:
        xml.child(listed, xml.RIM, "Value", value)


def _name(parent: _Element, text: str, *, always: bool = False) -> None:
    if text or always:
        xml.child(xml.child(parent, xml.RIM, "Name"), xml.RIM, "LocalizedString", value=text)


def _part_id(parent: _Element, scheme: str, number: int) -> str:
    # Derived, not random: the same entry always gives the same bytes.
    return uuid.uuid5(uuid.NAMESPACE_URL, f"{parent.get('id')} {scheme} {number}").urn


def _classification(parent: _Element, scheme: str, number: int) -> _Element:
    return xml.child(
        parent,
        xml.RIM,
        "Classification",
        id=_part_id(parent, scheme, number),
        objectType=_REGISTRY_OBJECT + "Classification",
        classifiedObject=parent.get("id", ""),
    )


def _codes(parent: _Element, scheme: str, codes: Iterable[Code]) -> None:
    for number, code in enumerate(codes):
        made = _classification(parent, scheme, number)
        made.set("classificationScheme", scheme)
        made.set("nodeRepresentation", xml.clean(code.code))
        _slot(made, "codingScheme", code.scheme)
        _name(made, code.display, always=True)


def _authors(parent: _Element, scheme: str, authors: Iterable[Author]) -> None:
    for number, author in enumerate(authors):
        made = _classification(parent, scheme, number)
        made.set("classificationScheme", scheme)
        made.set("nodeRepresentation", "")
        _slot(made, "authorPerson", author.person)
        _slot(made, "authorInstitution", *author.institutions)
        _slot(made, "authorRole", *author.roles)
        _slot(made, "authorSpecialty", *author.specialties)


def _external_identifier(parent: _Element, scheme: str, value: str, name: str) -> None:
    made = xml.child(
        parent,
        xml.RIM,
        "ExternalIdentifier",
        id=_part_id(parent, scheme, 0),
        objectType=_REGISTRY_OBJECT + "ExternalIdentifier",
        registryObject=parent.get("id", ""),
        identificationScheme=scheme,
        value=value,
    )
    _name(made, name)


def _values(parent: _Element, name: str) -> tuple[str, ...]:
    for slot in parent.iterfind(f"{{{xml.RIM}}}Slot"):
        if slot.get("name") == name:
            return tuple(value.text or "" for value in slot.iterfind(f"{{{xml.RIM}}}ValueList/{{{xml.RIM}}}Value"))
    return ()


def _value(parent: _Element, name: str) -> str:
    return next(iter(_values(parent, name)), "").strip()


def _read_name(parent: _Element) -> str:
    found = parent.find(f"{{{xml.RIM}}}Name/{{{xml.RIM}}}LocalizedString")
    return "" if found is None else found.get("value", "")


def _classifications(parent: _Element, scheme: str) -> Iterable[_Element]:
    for found in parent.iterfind(f"{{{xml.RIM}}}Classification"):
        if found.get("classificationScheme") == scheme:
            yield found


def _read_codes(parent: _Element, scheme: str) -> tuple[Code, ...]:
    return tuple(
        Code(found.get("nodeRepresentation", ""), _value(found, "codingScheme"), _read_name(found))
        for found in _classifications(parent, scheme)
    )


def _code(parent: _Element, scheme: str, attribute: str) -> Code:
    codes = _read_codes(parent, scheme)
    if len(codes) != 1:
        raise _metadata_error(f"{attribute} must be there exactly once")
    return codes[0]


def _read_authors(parent: _Element, scheme: str) -> tuple[Author, ...]:
    return tuple(
        Author(
            _value(found, "authorPerson"),
            _values(found, "authorInstitution"),
            _values(found, "authorRole"),
            _values(found, "authorSpecialty"),
        )
        for found in _classifications(parent, scheme)
    )


def _identifier(parent: _Element, scheme: str, attribute: str) -> str:
    for found in parent.iterfind(f"{{{xml.RIM}}}ExternalIdentifier"):
        if found.get("identificationScheme") == scheme and found.get("value"):
            return found.get("value", "")
    raise _metadata_error(f"{attribute} is missing")


def _metadata_error(context: str) -> RegistryError:
    return RegistryError("XDSRegistryMetadataError", context)

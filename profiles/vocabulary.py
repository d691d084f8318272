"""Codes, UIDs, OIDs and systems, each with the place that defines it.

SOP Class and Transfer Syntax UIDs that pydicom names (`pydicom.uid`) are used from there; what stands here is what
pydicom has no name for, or what FHIR and IHE say in their own words.
"""

from typing import Final

# --- images and FHIR

# SOP Classes, PS3.4 table B.5-1
KEY_OBJECT_SELECTION: Final = "1.2.840.10008.5.1.4.1.1.88.59"
CT_IMAGE_STORAGE: Final = "1.2.840.10008.5.1.4.1.1.2"

# Transfer syntaxes by their UID, PS3.6 table A-1
IMPLICIT_VR_LITTLE_ENDIAN: Final = "1.2.840.10008.1.2"
EXPLICIT_VR_LITTLE_ENDIAN: Final = "1.2.840.10008.1.2.1"
DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN: Final = "1.2.840.10008.1.2.1.99"
EXPLICIT_VR_BIG_ENDIAN: Final = "1.2.840.10008.1.2.2"
# Data sets that are one deflate stream (PS3.5 sections A.5, A.7 and A.13)
DEFLATED_TRANSFER_SYNTAXES: Final = frozenset(
    {DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN, "1.2.840.10008.1.2.4.95", "1.2.840.10008.1.2.4.205"}
)

# Universal Entity ID Type (0040,0033), PS3.3 section 10.14; the same word as HL7 v2 table 0301
UNIVERSAL_ID_ISO: Final = "ISO"
UNIVERSAL_ID_UUID: Final = "UUID"

# Document titles of a Key Object Selection, PS3.16 CID 7010
DCM_MANIFEST: Final = "113030"
DCM_MANIFEST_DISPLAY: Final = "Manifest"

# What a study is, as a document: LOINC 18748-4, IHE RAD TF-3 section 4.68.4.1.2.3
LOINC_DIAGNOSTIC_IMAGING_STUDY: Final = "18748-4"
LOINC_DIAGNOSTIC_IMAGING_STUDY_DISPLAY: Final = "Diagnostic imaging study"

# Code systems, HL7 FHIR R4 section 4.3 (terminologies-systems.html)
DCM_SYSTEM: Final = "http://dicom.nema.org/resources/ontology/DCM"
LOINC_SYSTEM: Final = "http://loinc.org"
SNOMED_SYSTEM: Final = "http://snomed.info/sct"
V2_IDENTIFIER_TYPE: Final = "http://terminology.hl7.org/CodeSystem/v2-0203"
ACCESSION_IDENTIFIER_TYPE: Final = "ACSN"
ENDPOINT_CONNECTION_TYPE: Final = "http://terminology.hl7.org/CodeSystem/endpoint-connection-type"
ENDPOINT_DICOM_WADO_RS: Final = "dicom-wado-rs"

# Identifier and code systems that are URI namespaces, HL7 FHIR R4 section 2.24.0.9 (identifier-registry.html)
DICOM_UID_SYSTEM: Final = "urn:dicom:uid"
URI_SYSTEM: Final = "urn:ietf:rfc:3986"
MIME_SYSTEM: Final = "urn:ietf:bcp:13"

# The DICOM UID registry as a coding scheme: PS3.16 table 8-1 (DCM and DCMUID)
DCM_OID: Final = "1.2.840.10008.2.16.4"
DCM_UID_REGISTRY_OID: Final = "1.2.840.10008.2.6.1"
LOINC_OID: Final = "2.16.840.1.113883.6.1"
SNOMED_OID: Final = "2.16.840.1.113883.6.96"

# Media types, PS3.18 tables 8.7.3-1, 8.7.3-4 and 8.7.3-5
DICOM: Final = "application/dicom"
DICOM_JSON: Final = "application/dicom+json"
DICOM_XML: Final = "application/dicom+xml"
OCTET_STREAM: Final = "application/octet-stream"
JPEG: Final = "image/jpeg"
JPEG_LS: Final = "image/jls"
JPEG_2000: Final = "image/jp2"
JPEG_2000_PART_2: Final = "image/jpx"
HTJ2K: Final = "image/jphc"
JPEG_XL: Final = "image/jxl"
DICOM_RLE: Final = "image/dicom-rle"
MPEG: Final = "video/mpeg"
MP4: Final = "video/mp4"
HEVC: Final = "video/H265"
PNG: Final = "image/png"
FHIR_JSON: Final = "application/fhir+json"


# --- documents and audit

# What this implementation calls itself in a Part 10 file (PS3.7 annex D.3.3.2): a UID under 2.25, a name of 16 characters at most
IMPLEMENTATION_CLASS_UID: Final = "2.25.156216889932926752340022758146693754375"
IMPLEMENTATION_VERSION_NAME: Final = "IMAGESHARE_0"

# Key Object Selection: TID 2010 in the DICOM Content Mapping Resource, PS3.16
CONTENT_MAPPING_RESOURCE: Final = "DCMR"
KEY_OBJECT_TEMPLATE: Final = "2010"

# Document Entry of a manifest: PS3.6 table A-1 as a coding scheme, IHE RAD TF-3 section 4.68.4.1.2.3.3
FORMAT_KEY_OBJECT_SELECTION_DISPLAY: Final = "Key Object Selection Document"
# classCode: the IHE connectathon affinity domain's class scheme (codes.xml of the NIST XDS toolkit, classCode "IMAGES")
CLASS_IMAGES: Final = "IMAGES"
CLASS_IMAGES_DISPLAY: Final = "Images"
CLASS_SCHEME_OID: Final = "1.3.6.1.4.1.19376.1.2.6.1"
# confidentialityCode: HL7 v3 Confidentiality
CONFIDENTIALITY_OID: Final = "2.16.840.1.113883.5.25"
CONFIDENTIALITY_SYSTEM: Final = "http://terminology.hl7.org/CodeSystem/v3-Confidentiality"
CONFIDENTIALITY_NORMAL: Final = "N"
CONFIDENTIALITY_NORMAL_DISPLAY: Final = "normal"
# healthcareFacilityTypeCode and practiceSettingCode: SNOMED CT, as in the same codes.xml
FACILITY_HOSPITAL: Final = "22232009"
FACILITY_HOSPITAL_DISPLAY: Final = "Hospital"
PRACTICE_RADIOLOGY: Final = "309964003"
PRACTICE_RADIOLOGY_DISPLAY: Final = "Radiology department (environment)"
# IHE format codes
FORMAT_CODE_OID: Final = "1.3.6.1.4.1.19376.1.2.3"
FORMAT_CODE_SYSTEM: Final = "http://ihe.net/fhir/ihe.formatcode.fhir/CodeSystem/formatcode"
# The DICOM UID registry as FHIR names it: PS3.16 table 8-1
DCM_UID_REGISTRY_SYSTEM: Final = "http://dicom.nema.org/resources/ontology/DCMUID"

# referenceIdList, CXi.5: ITI TF-3 table 4.2.3.1.7-2
REFERENCE_ACCESSION: Final = "urn:ihe:iti:xds:2013:accession"
REFERENCE_STUDY_INSTANCE_UID: Final = "urn:ihe:iti:xds:2016:studyInstanceUID"

# SMART Imaging Access, draft 0.1.0 of the Argonaut guide: extension on Endpoint
REQUIRES_ACCESS_TOKEN: Final = "http://fhir.org/argonaut/smart-imaging/StructureDefinition/requires-access-token"
# FHIR R4 extension on HumanName: which alphabet (ABC, SYL, IDE)
NAME_REPRESENTATION: Final = "http://hl7.org/fhir/StructureDefinition/iso21090-EN-representation"

# AuditEvent: HL7 FHIR R4 section 6.4, IHE BALP (profiles.ihe.net/ITI/BALP)
AUDIT_EVENT_TYPE: Final = "http://terminology.hl7.org/CodeSystem/audit-event-type"
AUDIT_ENTITY_TYPE: Final = "http://terminology.hl7.org/CodeSystem/audit-entity-type"
AUDIT_SOURCE_TYPE: Final = "http://terminology.hl7.org/CodeSystem/security-source-type"
OBJECT_ROLE: Final = "http://terminology.hl7.org/CodeSystem/object-role"
PARTICIPATION_TYPE: Final = "http://terminology.hl7.org/CodeSystem/v3-ParticipationType"
PROVENANCE_PARTICIPANT: Final = "http://terminology.hl7.org/CodeSystem/provenance-participant-type"
ACT_REASON: Final = "http://terminology.hl7.org/CodeSystem/v3-ActReason"
ACT_CODE: Final = "http://terminology.hl7.org/CodeSystem/v3-ActCode"
# The same code systems of HL7 v3 by their OIDs, and as FHIR STU3 named them: R4's name first
V3_SYSTEMS: Final = {
    CONFIDENTIALITY_SYSTEM: (CONFIDENTIALITY_SYSTEM, f"urn:oid:{CONFIDENTIALITY_OID}", "http://hl7.org/fhir/v3/Confidentiality"),
    ACT_CODE: (ACT_CODE, "urn:oid:2.16.840.1.113883.5.4", "http://hl7.org/fhir/v3/ActCode"),
    ACT_REASON: (ACT_REASON, "urn:oid:2.16.840.1.113883.5.8", "http://hl7.org/fhir/v3/ActReason"),
}
RESTFUL_INTERACTION: Final = "http://hl7.org/fhir/restful-interaction"
BALP_ENTITY_TYPE: Final = "https://profiles.ihe.net/ITI/BALP/CodeSystem/BasicAuditEntityType"
BALP_PROFILES: Final = "https://profiles.ihe.net/ITI/BALP/StructureDefinition/IHE.BasicAudit."
BALP_AGENT_TYPE: Final = "https://profiles.ihe.net/ITI/BALP/CodeSystem/UserAgentTypes"
BALP_AUTHORIZATION: Final = "https://profiles.ihe.net/ITI/BALP/CodeSystem/AuthZsubType"
BALP_GET_ACCESS_TOKEN: Final = "https://profiles.ihe.net/ITI/BALP/StructureDefinition/IHE.IUA.71"
IHE_TRANSACTION: Final = "urn:ihe:event-type-code"
LIFECYCLE: Final = "http://terminology.hl7.org/CodeSystem/iso-21089-lifecycle"
RESOURCE_TYPES: Final = "http://hl7.org/fhir/resource-types"
SECURITY_ROLE: Final = "http://terminology.hl7.org/CodeSystem/extra-security-role-type"
# DICOM audit codes: PS3.16 CID 400 and CID 402
DCM_EXPORT: Final = "110106"
DCM_IMPORT: Final = "110107"
DCM_INSTANCES_TRANSFERRED: Final = "110104"
DCM_QUERY: Final = "110112"
DCM_PATIENT_RECORD: Final = "110110"
DCM_APPLICATION_ACTIVITY: Final = "110100"
DCM_APPLICATION_START: Final = "110120"
DCM_APPLICATION_STOP: Final = "110121"
DCM_USER_AUTHENTICATION: Final = "110114"
DCM_SECURITY_ALERT: Final = "110113"
DCM_LOGIN: Final = "110122"
DCM_LOGOUT: Final = "110123"
DCM_USER_SECURITY_CHANGED: Final = "110137"
DCM_EMERGENCY_STARTED: Final = "110127"
DCM_EMERGENCY_STOPPED: Final = "110138"
DCM_APPLICATION: Final = "110150"
DCM_APPLICATION_LAUNCHER: Final = "110151"
DCM_DESTINATION_ROLE: Final = "110152"
DCM_SOURCE_ROLE: Final = "110153"

"""Study to the Document Entry and Submission Set of its manifest (IHE RAD TF-3 section 4.68, ITI TF-3 section 4.2.3)."""

from dataclasses import replace
from datetime import tzinfo

from profiles import anatomy, modalities, timestamps
from profiles.document import Author, Code, DocumentEntry, SubmissionSet
from profiles.identifiers import PatientIdentifier
from profiles.patient import person_names
from profiles.study import Patient, Study
from profiles.vocabulary import (
    CLASS_IMAGES,
    CLASS_IMAGES_DISPLAY,
    CLASS_SCHEME_OID,
    CONFIDENTIALITY_NORMAL,
    CONFIDENTIALITY_NORMAL_DISPLAY,
    CONFIDENTIALITY_OID,
    DCM_UID_REGISTRY_OID,
    DICOM,
    FACILITY_HOSPITAL,
    FACILITY_HOSPITAL_DISPLAY,
    FORMAT_KEY_OBJECT_SELECTION_DISPLAY,
    KEY_OBJECT_SELECTION,
    LOINC_DIAGNOSTIC_IMAGING_STUDY,
    LOINC_DIAGNOSTIC_IMAGING_STUDY_DISPLAY,
    LOINC_OID,
    PRACTICE_RADIOLOGY,
    PRACTICE_RADIOLOGY_DISPLAY,
    REFERENCE_ACCESSION,
    REFERENCE_STUDY_INSTANCE_UID,
    SNOMED_OID,
)

CLASS_CODE = Code(CLASS_IMAGES, CLASS_SCHEME_OID, CLASS_IMAGES_DISPLAY)
TYPE_CODE = Code(LOINC_DIAGNOSTIC_IMAGING_STUDY, LOINC_OID, LOINC_DIAGNOSTIC_IMAGING_STUDY_DISPLAY)
FORMAT_CODE = Code(KEY_OBJECT_SELECTION, DCM_UID_REGISTRY_OID, FORMAT_KEY_OBJECT_SELECTION_DISPLAY)
CONFIDENTIALITY = Code(CONFIDENTIALITY_NORMAL, CONFIDENTIALITY_OID, CONFIDENTIALITY_NORMAL_DISPLAY)
FACILITY_TYPE = Code(FACILITY_HOSPITAL, SNOMED_OID, FACILITY_HOSPITAL_DISPLAY)
PRACTICE_SETTING = Code(PRACTICE_RADIOLOGY, SNOMED_OID, PRACTICE_RADIOLOGY_DISPLAY)
# contentTypeCode says where the submission comes from, in the same code set as the facility (codes.xml, contentTypeCode)
CONTENT_TYPE = FACILITY_TYPE

# PID-8, HL7 v2 table 0001
_SEXES = frozenset({"M", "F", "O"})

# HL7 v2 section 2.7: the delimiters, and what stands for them
_HL7_ESCAPES = str.maketrans({"\\": "\\E\\", "|": "\\F\\", "^": "\\S\\", "&": "\\T\\", "~": "\\R\\"})


def manifest_entry(
    study: Study,
    *,
    entry_uuid: str,
    unique_id: str,
    sha1: str,
    size: int,
    created: str,
    repository_unique_id: str,
    zone: tzinfo,
    home_community_id: str = "",
    patient_id: PatientIdentifier | None = None,
    language: str = "en-US",
    facility_type: Code = FACILITY_TYPE,
    practice_setting: Code = PRACTICE_SETTING,
) -> DocumentEntry:
    """IHE RAD TF-3 section 4.68.4.1.2.3: the Document Entry of the study's manifest.

    `unique_id` is the manifest's SOP Instance UID, `sha1` (hex) and `size` (bytes) are of its file, `created` is DTM in UTC.
    `patient_id` is the patient in the affinity domain; by default the study's own identifier.
    """
    source = study.patient.identifier
    return DocumentEntry(
        entry_uuid=entry_uuid,
        unique_id=unique_id,
        patient_id=(patient_id or source).cx,
        source_patient_id=source.cx,
        class_code=CLASS_CODE,
        type_code=TYPE_CODE,
        format_code=FORMAT_CODE,
        confidentiality=(CONFIDENTIALITY,),
        facility_type=facility_type,
        practice_setting=practice_setting,
        mime_type=DICOM,
        language=language,
        creation_time=created,
        hash=sha1,
        size=size,
        repository_unique_id=repository_unique_id,
        home_community_id=home_community_id,
        title=_title(study),
        service_start=timestamps.dtm_of_dicom(study.date, study.time, zone, study.timezone) or "",
        event_codes=event_codes(study),
        reference_ids=reference_ids(study),
        source_patient_info=source_patient_info(study.patient),
        authors=_authors(study),
    )


def submission_set(
    entry: DocumentEntry,
    *,
    entry_uuid: str,
    unique_id: str,
    source_id: str,
    submission_time: str,
    content_type: Code = CONTENT_TYPE,
) -> SubmissionSet:
    """ITI TF-3 section 4.2.3.3: the Submission Set in which the Document Entry is published.

    `unique_id` and `source_id` are OIDs, of the submission and of who makes it; `submission_time` is DTM in UTC.
    """
    return SubmissionSet(
        entry_uuid=entry_uuid,
        unique_id=unique_id,
        patient_id=entry.patient_id,
        source_id=source_id,
        submission_time=submission_time,
        content_type=content_type,
        title=entry.title,
        authors=entry.authors,
    )


def event_codes(study: Study) -> tuple[Code, ...]:
    """IHE RAD TF-3 section 4.68.4.1.2.3.2, eventCodeList: each acquisition modality (DCM), then each body region (SNOMED CT) once.

    A modality that no standard names is its own display name, for registries ask for one (ITI TF-3 section 4.2.3.1.2).
    """
    known = (modalities.modality(term) for term in modalities.acquisition_modalities(study))
    terms = [replace(code, display=code.display or code.code) for code in known]
    regions = [found for series in study.series if (found := anatomy.region(series.body_part))]
    return tuple(dict.fromkeys(terms + regions))


def reference_ids(study: Study) -> tuple[str, ...]:
    """ITI TF-3 table 4.2.3.1.7-2, CXi: the Study Instance UID, and the accession number where there is one."""
    uid = f"{study.study_instance_uid}^^^^{REFERENCE_STUDY_INSTANCE_UID}"
    if not (accession := study.accession_number.strip()):
        return (uid,)
    authority = f"&{study.accession_authority}&ISO" if study.accession_authority else ""
    return (f"{accession.translate(_HL7_ESCAPES)}^^^{authority}^{REFERENCE_ACCESSION}", uid)


def source_patient_info(patient: Patient) -> tuple[str, ...]:
    """ITI TF-3 section 4.2.3.2.23, sourcePatientInfo: PID-3, PID-5, PID-7 and PID-8, each as `PID-n|value` where it is known."""
    fields = {
        "PID-3": patient.identifier.cx,
        "PID-5": xpn(patient.name),
        "PID-7": timestamps.dicom_date(patient.birth_date) or "",
        "PID-8": patient.sex if patient.sex in _SEXES else "",
    }
    return tuple(f"{name}|{value}" for name, value in fields.items() if value)


def xpn(pn: str) -> str:
    """A DICOM PN as HL7 v2 XPN: family, given, middle, suffix, prefix (PN has the last two the other way round)."""
    name = next((group for group in person_names(pn) if group), None)
    if name is None:
        return ""
    parts = (name.family, name.given, name.middle, name.suffix, name.prefix)
    return "^".join(part.translate(_HL7_ESCAPES) for part in parts).rstrip("^")


def _title(study: Study) -> str:
    """The study's description, or its acquisition modalities: at most 128 characters, as registries store it (ITI TF-3 section 4.2.3.2.25)."""
    named = study.description.strip() or " ".join((*modalities.acquisition_modalities(study), "imaging study"))
    return named[:128]


def _authors(study: Study) -> tuple[Author, ...]:
    """ITI TF-3 section 4.2.3.2.1: the institution (XON) that made the images; DICOM knows no author of a manifest as a person."""
    institution = study.institution.strip()
    return (Author(institutions=(institution.translate(_HL7_ESCAPES),)),) if institution else ()

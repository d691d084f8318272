"""Document sharing metadata as values: Document Entry, Submission Set, Association (ITI TF-3 section 4.2).

One Document Entry has two renderings: ebRIM (`ihe.ebxml`) and FHIR DocumentReference (`profiles.document_reference`).
Dates are HL7 v2 DTM strings in UTC (`YYYYMMDDhhmmss`), as ITI TF-3 table 4.2.3.1.7-2 stores them.
"""

from dataclasses import dataclass

APPROVED = "urn:oasis:names:tc:ebxml-regrep:StatusType:Approved"
DEPRECATED = "urn:oasis:names:tc:ebxml-regrep:StatusType:Deprecated"
STABLE = "urn:uuid:7edca82f-054d-47f2-a032-9b2a5b5186c1"
RPLC = "urn:ihe:iti:2007:AssociationType:RPLC"
HAS_MEMBER = "urn:oasis:names:tc:ebxml-regrep:AssociationType:HasMember"


@dataclass(frozen=True, slots=True)
class Code:
    """A coded value: code, coding scheme (an OID, or a name such as `DCM`), display text."""

    code: str
    scheme: str
    display: str = ""


@dataclass(frozen=True, slots=True)
class Author:
    """ITI TF-3 section 4.2.3.1.4. Each value is in its HL7 form: `person` XCN, `institutions` XON."""

    person: str = ""
    institutions: tuple[str, ...] = ()
    roles: tuple[str, ...] = ()
    specialties: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class DocumentEntry:
    """ITI TF-3 section 4.2.3.2. `hash` is the SHA-1 in hex, `size` in bytes; `patient_id`, `source_patient_id` are CX."""

    entry_uuid: str
    unique_id: str
    patient_id: str
    source_patient_id: str
    class_code: Code
    type_code: Code
    format_code: Code
    confidentiality: tuple[Code, ...]
    facility_type: Code
    practice_setting: Code
    mime_type: str
    language: str
    creation_time: str
    hash: str
    size: int
    repository_unique_id: str
    home_community_id: str = ""
    title: str = ""
    service_start: str = ""
    service_stop: str = ""
    event_codes: tuple[Code, ...] = ()
    reference_ids: tuple[str, ...] = ()
    source_patient_info: tuple[str, ...] = ()
    authors: tuple[Author, ...] = ()
    object_type: str = STABLE
    status: str = APPROVED


@dataclass(frozen=True, slots=True)
class SubmissionSet:
    """ITI TF-3 section 4.2.3.3."""

    entry_uuid: str
    unique_id: str
    patient_id: str
    source_id: str
    submission_time: str
    content_type: Code
    title: str = ""
    authors: tuple[Author, ...] = ()
    status: str = APPROVED


@dataclass(frozen=True, slots=True)
class Association:
    """ITI TF-3 section 4.2.2: `source` --`type`--> `target`, both entryUUIDs."""

    entry_uuid: str
    type: str
    source: str
    target: str
    submission_set_status: str = ""
    status: str = APPROVED

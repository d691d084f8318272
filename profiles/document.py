"""Document sharing metadata as values: Document Entry, Submission Set, Folder, Association, and a Submission of them (ITI TF-3 section 4.2).

One value has two renderings: ebRIM (`ihe.ebxml`) and FHIR (`profiles.document_reference`, `profiles.document_list`). What is absent is empty,
or None where it is a code or a number. Dates are HL7 v2 DTM strings in UTC (`YYYY[MM[DD[hh[mm[ss]]]]]`, ITI TF-3 table 4.2.3.1.7-2).
Which attributes have to be there says the table of `ihe.metadata_rules`, for each transaction; a value may lack any of them.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

APPROVED: Final = "urn:oasis:names:tc:ebxml-regrep:StatusType:Approved"
DEPRECATED: Final = "urn:oasis:names:tc:ebxml-regrep:StatusType:Deprecated"

# ITI TF-3 section 4.2.5.2: objectType of a Document Entry
STABLE: Final = "urn:uuid:7edca82f-054d-47f2-a032-9b2a5b5186c1"
ON_DEMAND: Final = "urn:uuid:34268e47-fdf5-41a6-ba33-82133c465248"

# ITI TF-3 section 4.2.2.2: kinds of Associations
HAS_MEMBER: Final = "urn:oasis:names:tc:ebxml-regrep:AssociationType:HasMember"
RPLC: Final = "urn:ihe:iti:2007:AssociationType:RPLC"
APND: Final = "urn:ihe:iti:2007:AssociationType:APND"
XFRM: Final = "urn:ihe:iti:2007:AssociationType:XFRM"
XFRM_RPLC: Final = "urn:ihe:iti:2007:AssociationType:XFRM_RPLC"
SIGNS: Final = "urn:ihe:iti:2007:AssociationType:signs"
IS_SNAPSHOT_OF: Final = "urn:ihe:iti:2010:AssociationType:IsSnapshotOf"
UPDATE_AVAILABILITY_STATUS: Final = "urn:ihe:iti:2010:AssociationType:UpdateAvailabilityStatus"
SUBMIT_ASSOCIATION: Final = "urn:ihe:iti:2010:AssociationType:SubmitAssociation"
RELATIONSHIPS: Final = frozenset({RPLC, APND, XFRM, XFRM_RPLC, SIGNS, IS_SNAPSHOT_OF})
"""Those between two Document Entries (ITI TF-3 table 4.2.2-1)."""
REPLACING: Final = frozenset({RPLC, XFRM_RPLC})
"""Those that deprecate what they point to (ITI TF-3 section 4.2.2.2.3)."""

# ITI TF-3 section 4.2.3.2.31: documentAvailability
ONLINE: Final = "urn:ihe:iti:2010:DocumentAvailability:Online"
OFFLINE: Final = "urn:ihe:iti:2010:DocumentAvailability:Offline"

Extra = tuple[tuple[str, tuple[str, ...]], ...]
"""Slots that no table names, each with its values (ITI TF-3 section 4.2.3.1.6, extra metadata). Kept and given back."""


@dataclass(frozen=True, slots=True)
class Code:
    """A coded value: code, coding scheme (an OID, or a name such as `DCM`), display text."""

    code: str
    scheme: str
    display: str = ""


@dataclass(frozen=True, slots=True)
class Author:
    """ITI TF-3 section 4.2.3.1.4. Each value is in its HL7 form: `person` XCN, `institutions` XON, `telecoms` XTN."""

    person: str = ""
    institutions: tuple[str, ...] = ()
    roles: tuple[str, ...] = ()
    specialties: tuple[str, ...] = ()
    telecoms: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class DocumentEntry:
    """ITI TF-3 section 4.2.3.2. `hash` is the SHA-1 in hex, `size` in bytes; `patient_id`, `source_patient_id` are CX.

    `legal_authenticator` is XCN, `reference_ids` are CXi. `logical_id` and `version` are those of Metadata Update (ITI-57): what was
    never updated is version 1 of its own entryUUID. `is_limited`: its metadata is limited (ITI TF-3 section 4.2.3.2, limitedMetadata).
    """

    entry_uuid: str
    unique_id: str
    patient_id: str = ""
    source_patient_id: str = ""
    class_code: Code | None = None
    type_code: Code | None = None
    format_code: Code | None = None
    confidentiality: tuple[Code, ...] = ()
    facility_type: Code | None = None
    practice_setting: Code | None = None
    mime_type: str = ""
    language: str = ""
    creation_time: str = ""
    hash: str = ""
    size: int | None = None
    repository_unique_id: str = ""
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
    comments: str = ""
    legal_authenticator: str = ""
    uri: str = ""
    availability: str = ""
    logical_id: str = ""
    version: int = 1
    is_limited: bool = False
    extra: Extra = ()


@dataclass(frozen=True, slots=True)
class SubmissionSet:
    """ITI TF-3 section 4.2.3.3. `intended_recipients` are `XON|XCN|XTN`."""

    entry_uuid: str
    unique_id: str
    patient_id: str
    source_id: str
    submission_time: str
    content_type: Code | None = None
    title: str = ""
    authors: tuple[Author, ...] = ()
    status: str = APPROVED
    comments: str = ""
    intended_recipients: tuple[str, ...] = ()
    home_community_id: str = ""
    is_limited: bool = False
    extra: Extra = ()


@dataclass(frozen=True, slots=True)
class Folder:
    """ITI TF-3 section 4.2.3.4. `last_update` is the registry's to say."""

    entry_uuid: str
    unique_id: str
    patient_id: str = ""
    codes: tuple[Code, ...] = ()
    title: str = ""
    comments: str = ""
    last_update: str = ""
    status: str = APPROVED
    home_community_id: str = ""
    logical_id: str = ""
    version: int = 1
    is_limited: bool = False
    extra: Extra = ()


@dataclass(frozen=True, slots=True)
class Association:
    """ITI TF-3 section 4.2.2: `source` --`type`--> `target`, both entryUUIDs, or symbolic ids within a Submission.

    `submission_set_status` is `Original` or `Reference` of a HasMember of a Submission Set. `documentation` says why (a code of XFRM and its
    like). Of Metadata Update: `previous_version`, `propagates` (AssociationPropagation), and the two statuses of a change of status.
    """

    entry_uuid: str
    type: str
    source: str
    target: str
    submission_set_status: str = ""
    status: str = APPROVED
    documentation: Code | None = None
    home_community_id: str = ""
    previous_version: str = ""
    propagates: bool | None = None
    original_status: str = ""
    new_status: str = ""
    extra: Extra = ()


RegistryObject = DocumentEntry | SubmissionSet | Folder | Association


@dataclass(frozen=True, slots=True)
class Submission:
    """What one message submits (ITI TF-3 section 4.2.1.4). Objects that the sender named symbolically have those names as ids.

    `references` are the ids of `rim:ObjectRef`: what is in the registry already.
    """

    submission_set: SubmissionSet | None = None
    documents: tuple[DocumentEntry, ...] = ()
    folders: tuple[Folder, ...] = ()
    associations: tuple[Association, ...] = ()
    references: tuple[str, ...] = ()

    def objects(self) -> Iterator[RegistryObject]:
        """All of it."""
        yield from filter(None, (self.submission_set,))
        yield from self.documents
        yield from self.folders
        yield from self.associations

    def versioned(self) -> "Iterator[DocumentEntry | Folder]":
        """What there are versions of (ITI-57)."""
        yield from self.documents
        yield from self.folders


def is_uuid(id_: str) -> bool:
    """Whether an id is a real one (`urn:uuid:...`) and not symbolic (ITI TF-3 section 4.2.3.1.5)."""
    return id_.startswith("urn:uuid:")

"""The stored queries as a table (ITI TF-2 section 3.18.4.1.2.3.7 and table 3.18.4.1.2.4-1).

One row per query, one `Parameter` per row of the standard's own parameter table. Parameters that are not listed are
ignored, as the standard demands.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Kind(StrEnum):
    """How a parameter's values are written: text and codes in quotes (`code^^scheme`), times as bare numbers."""

    TEXT = "text"
    CODE = "code"
    TIME = "time"


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter: `multiple` values mean any of them; `conjunctive` ones may be repeated, which means all of them."""

    name: str
    kind: Kind = Kind.TEXT
    required: bool = False
    multiple: bool = False
    conjunctive: bool = False


@dataclass(frozen=True, slots=True)
class StoredQueryDefinition:
    """One query: its `id` (`urn:uuid:`), its parameters, and the group of which exactly one must be given (may be empty)."""

    name: str
    id: str
    parameters: tuple[Parameter, ...]
    exactly_one_of: tuple[str, ...] = ()


def _text(name: str, *, required: bool = False, multiple: bool = False) -> Parameter:
    return Parameter(name, Kind.TEXT, required, multiple)


def _codes(name: str, *, conjunctive: bool = False) -> Parameter:
    return Parameter(name, Kind.CODE, False, True, conjunctive)


def _times(name: str) -> tuple[Parameter, Parameter]:
    return Parameter(f"{name}From", Kind.TIME), Parameter(f"{name}To", Kind.TIME)


_DOCUMENT_TYPE = _text("$XDSDocumentEntryType", multiple=True)
_FORMAT = _codes("$XDSDocumentEntryFormatCode")
_CONFIDENTIALITY = _codes("$XDSDocumentEntryConfidentialityCode", conjunctive=True)

_FIND_DOCUMENTS = (
    _text("$XDSDocumentEntryPatientId", required=True),
    _codes("$XDSDocumentEntryClassCode"),
    _codes("$XDSDocumentEntryTypeCode"),
    _codes("$XDSDocumentEntryPracticeSettingCode"),
    *_times("$XDSDocumentEntryCreationTime"),
    *_times("$XDSDocumentEntryServiceStartTime"),
    *_times("$XDSDocumentEntryServiceStopTime"),
    _codes("$XDSDocumentEntryHealthcareFacilityTypeCode"),
    _codes("$XDSDocumentEntryEventCodeList", conjunctive=True),
    _CONFIDENTIALITY,
    _text("$XDSDocumentEntryAuthorPerson", multiple=True),
    _FORMAT,
    _text("$XDSDocumentEntryStatus", required=True, multiple=True),
    _DOCUMENT_TYPE,
)

FIND_DOCUMENTS: Final = "urn:uuid:14d4debf-8f97-4251-9a74-a90016b0af0d"
FIND_DOCUMENTS_BY_REFERENCE_ID: Final = "urn:uuid:12941a89-e02e-4be5-967c-ce4bfc8fe492"
GET_DOCUMENTS: Final = "urn:uuid:5c4f972b-d56b-40ac-a5fc-c8ca9b40b9d4"


def _by_id(name: str, query_id: str, subject: str, multiple: bool, *others: Parameter) -> StoredQueryDefinition:
    keys = (_text(f"${subject}EntryUUID", multiple=multiple), _text(f"${subject}UniqueId", multiple=multiple))
    return StoredQueryDefinition(name, query_id, (*keys, *others), tuple(key.name for key in keys))


_DEFINITIONS = (
    StoredQueryDefinition("FindDocuments", FIND_DOCUMENTS, _FIND_DOCUMENTS),
    StoredQueryDefinition(
        "FindSubmissionSets",
        "urn:uuid:f26abbcb-ac74-4422-8a30-edb644bbc1a9",
        (
            _text("$XDSSubmissionSetPatientId", required=True),
            _text("$XDSSubmissionSetSourceId", multiple=True),
            *_times("$XDSSubmissionSetSubmissionTime"),
            _text("$XDSSubmissionSetAuthorPerson"),
            _codes("$XDSSubmissionSetContentType"),
            _text("$XDSSubmissionSetStatus", required=True, multiple=True),
        ),
    ),
    StoredQueryDefinition(
        "FindFolders",
        "urn:uuid:958f3006-baad-4929-a4de-ff1114824431",
        (
            _text("$XDSFolderPatientId", required=True),
            *_times("$XDSFolderLastUpdateTime"),
            _codes("$XDSFolderCodeList", conjunctive=True),
            _text("$XDSFolderStatus", required=True, multiple=True),
        ),
    ),
    StoredQueryDefinition(
        "GetAll",
        "urn:uuid:10b545ea-725c-446d-9b95-8aeb444eddf3",
        (
            _text("$patientId", required=True),
            _text("$XDSDocumentEntryStatus", required=True, multiple=True),
            _text("$XDSSubmissionSetStatus", required=True, multiple=True),
            _text("$XDSFolderStatus", required=True, multiple=True),
            _FORMAT,
            _CONFIDENTIALITY,
            _DOCUMENT_TYPE,
        ),
    ),
    _by_id("GetDocuments", GET_DOCUMENTS, "XDSDocumentEntry", True),
    _by_id("GetFolders", "urn:uuid:5737b14c-8a1a-4539-b659-e03a34a5e1e4", "XDSFolder", True),
    StoredQueryDefinition(
        "GetAssociations", "urn:uuid:a7ae438b-4bc2-4642-93e9-be891f7bb155", (_text("$uuid", required=True, multiple=True),)
    ),
    _by_id("GetDocumentsAndAssociations", "urn:uuid:bab9529a-4a10-40b3-a01f-f68a615d247a", "XDSDocumentEntry", True),
    StoredQueryDefinition(
        "GetSubmissionSets", "urn:uuid:51224314-5390-4169-9b91-b1980040715a", (_text("$uuid", required=True, multiple=True),)
    ),
    _by_id(
        "GetSubmissionSetAndContents",
        "urn:uuid:e8e3cb2c-e39c-46b9-99e4-c12f57260b83",
        "XDSSubmissionSet",
        False,
        _FORMAT,
        _CONFIDENTIALITY,
        _DOCUMENT_TYPE,
    ),
    _by_id(
        "GetFolderAndContents",
        "urn:uuid:b909a503-523d-4517-8acf-8e5834dfc4c7",
        "XDSFolder",
        False,
        _FORMAT,
        _CONFIDENTIALITY,
        _DOCUMENT_TYPE,
    ),
    _by_id("GetFoldersForDocument", "urn:uuid:10cae35a-c7f9-4cf5-b61e-fc3278ffb578", "XDSDocumentEntry", False),
    _by_id(
        "GetRelatedDocuments",
        "urn:uuid:d90e5407-b356-4d91-a89f-873917b4b0e6",
        "XDSDocumentEntry",
        False,
        _text("$AssociationTypes", required=True, multiple=True),
        _DOCUMENT_TYPE,
    ),
    StoredQueryDefinition(
        "FindDocumentsByReferenceId",
        FIND_DOCUMENTS_BY_REFERENCE_ID,
        (*_FIND_DOCUMENTS, Parameter("$XDSDocumentEntryReferenceIdList", Kind.TEXT, True, True, True)),
    ),
)

STORED_QUERIES: Final = {definition.id: definition for definition in _DEFINITIONS}

"""The stored queries as a table (ITI TF-2 section 3.18.4.1.2.3.7, table 3.18.4.1.2.4-1; section 3.51.4.1.2).

One row per query, one `Parameter` per row of the standard's own parameter table, with the parameters that Metadata Update adds (supplement XDS
Metadata Update, section 3.18.4.1.2.3.5.1). Parameters that are not listed are ignored, as the standard demands.
"""

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final, Literal

Subject = Literal["document", "submission", "folder"]
"""What a query selects."""

PREFIXES: Final[dict[Subject, str]] = {
    "document": "$XDSDocumentEntry", "submission": "$XDSSubmissionSet", "folder": "$XDSFolder",
}  # fmt: skip
"""What names of parameters begin with that are about each of them."""


class Kind(StrEnum):
    """How a parameter's values are written and compared.

    Text, patterns of SQL LIKE, statuses and codes (`code^^scheme`) stand in quotes, times and numbers do not. FROM and TO are the ends of a range
    of times.
    """

    TEXT = "text"
    PATTERN = "pattern"
    STATUS = "status"
    CODE = "code"
    FROM = "from"
    TO = "to"
    NUMBER = "number"


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter: `multiple` values mean any of them; `conjunctive` ones may be repeated, which means all of them.

    `attribute` is what it selects by, as `profiles.document` calls it; empty for what selects nothing by itself.
    """

    name: str
    kind: Kind = Kind.TEXT
    attribute: str = ""
    required: bool = False
    multiple: bool = False
    conjunctive: bool = False


@dataclass(frozen=True, slots=True)
class StoredQueryDefinition:
    """One query: its `id` (`urn:uuid:`), its parameters, and the groups of which exactly one, or at least one, must be given (may be empty)."""

    name: str
    id: str
    parameters: tuple[Parameter, ...]
    exactly_one_of: tuple[str, ...] = ()
    at_least_one_of: tuple[str, ...] = ()

    def parameter(self, name: str) -> Parameter | None:
        """Its row of this name."""
        return next((each for each in self.parameters if each.name == name), None)


def _text(name: str, attribute: str = "", *, required: bool = False, multiple: bool = False) -> Parameter:
    return Parameter(name, Kind.TEXT, attribute, required, multiple)


def _statuses(prefix: str) -> Parameter:
    return Parameter(f"{prefix}Status", Kind.STATUS, "status", True, True)


def _codes(name: str, attribute: str, *, conjunctive: bool = False) -> Parameter:
    return Parameter(name, Kind.CODE, attribute, False, True, conjunctive)


def _times(name: str, attribute: str) -> tuple[Parameter, Parameter]:
    return Parameter(f"{name}From", Kind.FROM, attribute), Parameter(f"{name}To", Kind.TO, attribute)


_LEVEL = Parameter("$MetadataLevel", Kind.NUMBER)
_ASSOCIATION_STATUS = Parameter("$XDSAssociationStatus", Kind.STATUS, "", False, True)
_DOCUMENT_TYPE = _text("$XDSDocumentEntryType", "object_type", multiple=True)
_FORMAT = _codes("$XDSDocumentEntryFormatCode", "format_code")
_CONFIDENTIALITY = _codes("$XDSDocumentEntryConfidentialityCode", "confidentiality", conjunctive=True)
_UUIDS = _text("$uuid", required=True, multiple=True)

_FIND_DOCUMENTS = (
    _text("$XDSDocumentEntryPatientId", "patient_id", required=True),
    _codes("$XDSDocumentEntryClassCode", "class_code"),
    _codes("$XDSDocumentEntryTypeCode", "type_code"),
    _codes("$XDSDocumentEntryPracticeSettingCode", "practice_setting"),
    *_times("$XDSDocumentEntryCreationTime", "creation_time"),
    *_times("$XDSDocumentEntryServiceStartTime", "service_start"),
    *_times("$XDSDocumentEntryServiceStopTime", "service_stop"),
    _codes("$XDSDocumentEntryHealthcareFacilityTypeCode", "facility_type"),
    _codes("$XDSDocumentEntryEventCodeList", "event_codes", conjunctive=True),
    _CONFIDENTIALITY,
    Parameter("$XDSDocumentEntryAuthorPerson", Kind.PATTERN, "authors", False, True),
    _FORMAT,
    _statuses("$XDSDocumentEntry"),
    _DOCUMENT_TYPE,
    _LEVEL,
)
_FIND_FOLDERS = (
    _text("$XDSFolderPatientId", "patient_id", required=True),
    *_times("$XDSFolderLastUpdateTime", "last_update"),
    _codes("$XDSFolderCodeList", "codes", conjunctive=True),
    _statuses("$XDSFolder"),
    _LEVEL,
)

FIND_DOCUMENTS: Final = "urn:uuid:14d4debf-8f97-4251-9a74-a90016b0af0d"
FIND_SUBMISSION_SETS: Final = "urn:uuid:f26abbcb-ac74-4422-8a30-edb644bbc1a9"
FIND_FOLDERS: Final = "urn:uuid:958f3006-baad-4929-a4de-ff1114824431"
GET_ALL: Final = "urn:uuid:10b545ea-725c-446d-9b95-8aeb444eddf3"
GET_DOCUMENTS: Final = "urn:uuid:5c4f972b-d56b-40ac-a5fc-c8ca9b40b9d4"
GET_FOLDERS: Final = "urn:uuid:5737b14c-8a1a-4539-b659-e03a34a5e1e4"
GET_ASSOCIATIONS: Final = "urn:uuid:a7ae438b-4bc2-4642-93e9-be891f7bb155"
GET_DOCUMENTS_AND_ASSOCIATIONS: Final = "urn:uuid:bab9529a-4a10-40b3-a01f-f68a615d247a"
GET_SUBMISSION_SETS: Final = "urn:uuid:51224314-5390-4169-9b91-b1980040715a"
GET_SUBMISSION_SET_AND_CONTENTS: Final = "urn:uuid:e8e3cb2c-e39c-46b9-99e4-c12f57260b83"
GET_FOLDER_AND_CONTENTS: Final = "urn:uuid:b909a503-523d-4517-8acf-8e5834dfc4c7"
GET_FOLDERS_FOR_DOCUMENT: Final = "urn:uuid:10cae35a-c7f9-4cf5-b61e-fc3278ffb578"
GET_RELATED_DOCUMENTS: Final = "urn:uuid:d90e5407-b356-4d91-a89f-873917b4b0e6"
FIND_DOCUMENTS_BY_REFERENCE_ID: Final = "urn:uuid:12941a89-e02e-4be5-967c-ce4bfc8fe492"
FIND_DOCUMENTS_BY_TITLE: Final = "urn:uuid:ab474085-82b5-402d-8115-3f37cb1e2405"
"""Not of IHE: gematik, gemSpec_DM_ePA A_17198. FindDocuments with a pattern for the title."""
FIND_DOCUMENTS_FOR_MULTIPLE_PATIENTS: Final = "urn:uuid:3d1bdb10-39a2-11de-89c2-2f44d94eaa9f"
FIND_FOLDERS_FOR_MULTIPLE_PATIENTS: Final = "urn:uuid:50d3f5ac-39a2-11de-a1ca-b366239e58df"


def _by_id(name: str, query_id: str, subject: Subject, multiple: bool, *others: Parameter) -> StoredQueryDefinition:
    endings = [("EntryUUID", "entry_uuid"), ("UniqueId", "unique_id")]
    if subject != "submission":  # which has no versions
        endings.append(("LogicalID", "logical_id"))
    keys = tuple(_text(PREFIXES[subject] + ending, attribute, multiple=multiple) for ending, attribute in endings)
    return StoredQueryDefinition(name, query_id, (*keys, *others, _LEVEL), tuple(key.name for key in keys))


def _for_multiple_patients(parameters: tuple[Parameter, ...]) -> tuple[Parameter, ...]:
    """ITI TF-2 section 3.51.4.1.2.1: the patient id may be absent, or there are several."""
    return tuple(replace(each, required=False, multiple=True) if each.attribute == "patient_id" else each for each in parameters)


_DEFINITIONS = (
    StoredQueryDefinition("FindDocuments", FIND_DOCUMENTS, _FIND_DOCUMENTS),
    StoredQueryDefinition(
        "FindSubmissionSets",
        FIND_SUBMISSION_SETS,
        (
            _text("$XDSSubmissionSetPatientId", "patient_id", required=True),
            _text("$XDSSubmissionSetSourceId", "source_id", multiple=True),
            *_times("$XDSSubmissionSetSubmissionTime", "submission_time"),
            Parameter("$XDSSubmissionSetAuthorPerson", Kind.PATTERN, "authors"),
            _codes("$XDSSubmissionSetContentType", "content_type"),
            _statuses("$XDSSubmissionSet"),
            _LEVEL,
        ),
    ),
    StoredQueryDefinition("FindFolders", FIND_FOLDERS, _FIND_FOLDERS),
    StoredQueryDefinition(
        "GetAll",
        GET_ALL,
        (
            _text("$patientId", "patient_id", required=True),
            _statuses("$XDSDocumentEntry"),
            _statuses("$XDSSubmissionSet"),
            _statuses("$XDSFolder"),
            _FORMAT,
            _CONFIDENTIALITY,
            _DOCUMENT_TYPE,
            _ASSOCIATION_STATUS,
            _LEVEL,
        ),
    ),
    _by_id("GetDocuments", GET_DOCUMENTS, "document", True),
    _by_id("GetFolders", GET_FOLDERS, "folder", True),
    StoredQueryDefinition("GetAssociations", GET_ASSOCIATIONS, (_UUIDS, _ASSOCIATION_STATUS, _LEVEL)),
    _by_id("GetDocumentsAndAssociations", GET_DOCUMENTS_AND_ASSOCIATIONS, "document", True, _ASSOCIATION_STATUS),
    StoredQueryDefinition("GetSubmissionSets", GET_SUBMISSION_SETS, (_UUIDS, _ASSOCIATION_STATUS, _LEVEL)),
    _by_id(
        "GetSubmissionSetAndContents", GET_SUBMISSION_SET_AND_CONTENTS, "submission", False,
        _FORMAT, _CONFIDENTIALITY, _DOCUMENT_TYPE, _ASSOCIATION_STATUS,
    ),
    _by_id(
        "GetFolderAndContents", GET_FOLDER_AND_CONTENTS, "folder", False,
        _FORMAT, _CONFIDENTIALITY, _DOCUMENT_TYPE, _ASSOCIATION_STATUS,
    ),
    _by_id("GetFoldersForDocument", GET_FOLDERS_FOR_DOCUMENT, "document", False, _ASSOCIATION_STATUS),
    _by_id(
        "GetRelatedDocuments", GET_RELATED_DOCUMENTS, "document", False,
        _text("$AssociationTypes", required=True, multiple=True), _DOCUMENT_TYPE, _ASSOCIATION_STATUS,
    ),
    StoredQueryDefinition(
        "FindDocumentsByReferenceId",
        FIND_DOCUMENTS_BY_REFERENCE_ID,
        (*_FIND_DOCUMENTS, Parameter("$XDSDocumentEntryReferenceIdList", Kind.PATTERN, "reference_ids", True, True, True)),
    ),
    StoredQueryDefinition(
        "FindDocumentsByTitle",
        FIND_DOCUMENTS_BY_TITLE,
        (*_FIND_DOCUMENTS, Parameter("$XDSDocumentEntryTitle", Kind.PATTERN, "title", True, True)),
    ),
)  # fmt: skip

STORED_QUERIES: Final = {definition.id: definition for definition in _DEFINITIONS}
"""Those of ITI-18."""

MULTI_PATIENT_QUERIES: Final = {
    definition.id: definition
    for definition in (
        StoredQueryDefinition(
            "FindDocumentsForMultiplePatients",
            FIND_DOCUMENTS_FOR_MULTIPLE_PATIENTS,
            _for_multiple_patients(_FIND_DOCUMENTS),
            at_least_one_of=(
                "$XDSDocumentEntryPatientId", "$XDSDocumentEntryClassCode", "$XDSDocumentEntryEventCodeList",
                "$XDSDocumentEntryHealthcareFacilityTypeCode",
            ),
        ),
        StoredQueryDefinition(
            "FindFoldersForMultiplePatients",
            FIND_FOLDERS_FOR_MULTIPLE_PATIENTS,
            _for_multiple_patients(_FIND_FOLDERS),
            at_least_one_of=("$XDSFolderPatientId", "$XDSFolderCodeList"),
        ),
    )
}  # fmt: skip
"""Those of ITI-51."""

"""Where each attribute of document sharing metadata stands in ebRIM, who has to give it, and what it looks like (ITI TF-3 sections 4.2.3 and 4.3.1).

One row for each row of the standard's tables; `ihe.ebxml` reads and writes by them, `ihe.metadata_rules` checks by them.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Literal

from ihe.metadata_syntax import Syntax

LIMITED_DOCUMENT: Final = "urn:uuid:ab9b591b-83ab-4d03-8f5d-f93b1fb92e85"
SUBMISSION_SET_NODE: Final = "urn:uuid:a54d6aa5-d40d-43f9-88c5-b4633d873bdd"
LIMITED_SUBMISSION_SET: Final = "urn:uuid:5003a9db-8d8d-49e6-bf0c-990e34ac7707"
FOLDER_NODE: Final = "urn:uuid:d9d542f3-6cc4-48b6-8870-ea235fbc94c2"
LIMITED_FOLDER: Final = "urn:uuid:2c144a76-29a9-4b7c-af54-b25409fe7d03"
ASSOCIATION_DOCUMENTATION: Final = "urn:uuid:abd807a3-4432-4053-87b4-fd82c643d1f3"
REFERENCE_ID_LIST: Final = "urn:ihe:iti:xds:2013:referenceIdList"


class By(StrEnum):
    """In which message an attribute has to be (ITI TF-3 table 4.3.1-3): the columns of the table that are answered here."""

    PROVIDE = "provide"
    """ITI-41, by a Document Source."""
    REGISTER = "register"
    """ITI-42, by a Document Repository."""
    UPDATE = "update"
    """ITI-57, by a Document Administrator: as ITI-42, or as ITI-61 for an on-demand entry."""
    ON_DEMAND = "on-demand"
    """ITI-61."""
    LIMITED = "limited"
    """ITI-41 by a Metadata-Limited Document Source: every object says that its metadata is limited."""


Place = Literal["attribute", "slot", "name", "description", "code", "author", "identifier"]
_ALL: Final = frozenset(By)
_FULL: Final = frozenset({By.PROVIDE, By.REGISTER, By.UPDATE, By.ON_DEMAND})
_STORED: Final = frozenset({By.PROVIDE, By.REGISTER, By.UPDATE})
_KNOWN: Final = frozenset({By.REGISTER, By.UPDATE})


@dataclass(frozen=True, slots=True)
class Attribute:
    """`name` is the standard's, `field` the one of `profiles.document`; `key` is the Slot's name, the scheme's UUID or the XML attribute.

    `label` is the Name of an ExternalIdentifier. `required` and `prohibited` say in which messages; `multiple`: it may have several values.
    """

    name: str
    field: str
    place: Place
    key: str = ""
    label: str = ""
    syntax: Syntax = Syntax.TEXT
    multiple: bool = False
    required: frozenset[By] = frozenset()
    prohibited: frozenset[By] = frozenset()


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of object: its name in error texts, its rows, and the classification nodes that say what it is and that it is limited."""

    name: str
    attributes: tuple[Attribute, ...]
    node: str = ""
    limited: str = ""


def _slot(name: str, field: str, syntax: Syntax, *, key: str = "", **more: bool | frozenset[By]) -> Attribute:
    return Attribute(name, field, "slot", key or name, syntax=syntax, **more)  # type: ignore[arg-type]


def _code(name: str, field: str, uuid: str, **more: bool | frozenset[By]) -> Attribute:
    return Attribute(name, field, "code", f"urn:uuid:{uuid}", syntax=Syntax.CODE, **more)  # type: ignore[arg-type]


def _identifier(name: str, field: str, of: str, uuid: str, syntax: Syntax, required: frozenset[By]) -> Attribute:
    return Attribute(name, field, "identifier", f"urn:uuid:{uuid}", f"{of}.{name}", syntax, required=required)


# ITI TF-3 tables 4.2.3.2-1 and 4.3.1-3
DOCUMENT_ENTRY: Final = Kind(
    "DocumentEntry",
    (
        Attribute("mimeType", "mime_type", "attribute", "mimeType", syntax=Syntax.MIME_TYPE, required=_ALL),
        Attribute("objectType", "object_type", "attribute", "objectType", syntax=Syntax.UUID, required=_ALL),
        Attribute("homeCommunityId", "home_community_id", "attribute", "home", syntax=Syntax.OID_URN),
        Attribute("logicalID", "logical_id", "attribute", "lid", syntax=Syntax.ID),
        _slot("creationTime", "creation_time", Syntax.TIME, required=_STORED, prohibited=frozenset({By.ON_DEMAND})),
        _slot("languageCode", "language", Syntax.LANGUAGE, required=_FULL),
        _slot("serviceStartTime", "service_start", Syntax.TIME),
        _slot("serviceStopTime", "service_stop", Syntax.TIME),
        _slot("hash", "hash", Syntax.SHA_1, required=_KNOWN, prohibited=frozenset({By.ON_DEMAND})),
        _slot("size", "size", Syntax.SIZE, required=_KNOWN, prohibited=frozenset({By.ON_DEMAND})),
        _slot("repositoryUniqueId", "repository_unique_id", Syntax.OID, required=_KNOWN | {By.ON_DEMAND}),
        _slot("sourcePatientId", "source_patient_id", Syntax.CX, required=_FULL),
        _slot("sourcePatientInfo", "source_patient_info", Syntax.PATIENT_INFO, multiple=True),
        _slot("legalAuthenticator", "legal_authenticator", Syntax.XCN),
        _slot("URI", "uri", Syntax.URI),
        _slot("referenceIdList", "reference_ids", Syntax.CXI, key=REFERENCE_ID_LIST, multiple=True),
        _slot("documentAvailability", "availability", Syntax.AVAILABILITY),
        Attribute("title", "title", "name"),
        Attribute("comments", "comments", "description"),
        Attribute("author", "authors", "author", "urn:uuid:93606bcf-9494-43ec-9b4e-a7748d1a838d", syntax=Syntax.AUTHOR, multiple=True),
        _code("classCode", "class_code", "41a5887f-8865-4c09-adf7-e362475b143a", required=_FULL),
        _code("typeCode", "type_code", "f0306f51-975f-434e-a61c-c59651d33983", required=_FULL),
        _code("formatCode", "format_code", "a09d5840-386c-46f2-b5ad-9c3699a4309d", required=_FULL),
        _code("confidentialityCode", "confidentiality", "f4f85eac-e6cb-4883-b524-f2705394840f", multiple=True, required=_FULL),
        _code("healthcareFacilityTypeCode", "facility_type", "f33fb8ac-18af-42cc-ae0e-ed0b0bdb91e1", required=_FULL),
        _code("practiceSettingCode", "practice_setting", "cccf5598-8b07-4b77-a05e-ae952c785ead", required=_FULL),
        _code("eventCodeList", "event_codes", "2c6b8cb7-8b2a-4051-b291-b1ae6a575ef4", multiple=True),
        _identifier(
            "patientId", "patient_id", "XDSDocumentEntry", "58a6f841-87b3-4a3e-92fd-a8ffeff98427", Syntax.CX, _FULL
        ),
        _identifier(
            "uniqueId", "unique_id", "XDSDocumentEntry", "2e82c1f6-a085-4c72-9da3-8640a32e42ab", Syntax.DOCUMENT_ID, _ALL
        ),
    ),
    limited=LIMITED_DOCUMENT,
)  # fmt: skip

# ITI TF-3 tables 4.2.3.3-1 and 4.3.1-3
SUBMISSION_SET: Final = Kind(
    "SubmissionSet",
    (
        Attribute("homeCommunityId", "home_community_id", "attribute", "home", syntax=Syntax.OID_URN),
        _slot("submissionTime", "submission_time", Syntax.TIME, required=_ALL),
        _slot("intendedRecipient", "intended_recipients", Syntax.RECIPIENT, multiple=True),
        Attribute("title", "title", "name"),
        Attribute("comments", "comments", "description"),
        Attribute("author", "authors", "author", "urn:uuid:a7058bb9-b4e4-4307-ba5b-e3f0ab85e12d", syntax=Syntax.AUTHOR, multiple=True),
        _code("contentTypeCode", "content_type", "aa543740-bdda-424e-8c96-df4873be8500", required=_FULL),
        _identifier(
            "patientId", "patient_id", "XDSSubmissionSet", "6b5aea1a-874d-4603-a4bc-96a0a7b38446", Syntax.CX, _FULL
        ),
        _identifier("uniqueId", "unique_id", "XDSSubmissionSet", "96fdda7c-d067-4183-912e-bf5ee74998a8", Syntax.OID, _ALL),
        _identifier("sourceId", "source_id", "XDSSubmissionSet", "554ac39e-e3fe-47fe-b233-965d2a147832", Syntax.OID, _ALL),
    ),
    SUBMISSION_SET_NODE,
    LIMITED_SUBMISSION_SET,
)  # fmt: skip

# ITI TF-3 tables 4.2.3.4-1 and 4.3.1-3
FOLDER: Final = Kind(
    "Folder",
    (
        Attribute("homeCommunityId", "home_community_id", "attribute", "home", syntax=Syntax.OID_URN),
        Attribute("logicalID", "logical_id", "attribute", "lid", syntax=Syntax.ID),
        _slot("lastUpdateTime", "last_update", Syntax.TIME),
        Attribute("title", "title", "name", required=_FULL),
        Attribute("comments", "comments", "description"),
        _code("codeList", "codes", "1ba97051-7806-41a8-a48b-8fce7af683c5", multiple=True, required=_FULL),
        _identifier("patientId", "patient_id", "XDSFolder", "f64ffdf0-4b97-4e06-b79f-a52b38ec2f8a", Syntax.CX, _FULL),
        _identifier("uniqueId", "unique_id", "XDSFolder", "75df8f67-9973-4fbe-a900-df66cefecc5a", Syntax.OID, _ALL),
    ),
    FOLDER_NODE,
    LIMITED_FOLDER,
)

# ITI TF-3 table 4.2.2.1-1, and ITI-57 for the last five
ASSOCIATION: Final = Kind(
    "Association",
    (
        Attribute("homeCommunityId", "home_community_id", "attribute", "home", syntax=Syntax.OID_URN),
        _slot("SubmissionSetStatus", "submission_set_status", Syntax.SUBMISSION_SET_STATUS),
        _slot("PreviousVersion", "previous_version", Syntax.VERSION),
        _slot("AssociationPropagation", "propagates", Syntax.YES_NO),
        _slot("OriginalStatus", "original_status", Syntax.STATUS),
        _slot("NewStatus", "new_status", Syntax.STATUS),
        Attribute("documentation", "documentation", "code", ASSOCIATION_DOCUMENTATION, syntax=Syntax.CODE),
    ),
)
KINDS: Final = (DOCUMENT_ENTRY, SUBMISSION_SET, FOLDER, ASSOCIATION)

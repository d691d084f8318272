"""The words of a test plan as tables: transactions with their endpoint and SOAP action, the instructions within them, and what cannot be run here.

The names are the toolkit's; `endpoint` is `actor.transaction` of the endpoints file.
"""

from dataclasses import dataclass
from enum import Enum
from typing import Final


class Form(Enum):
    """How a transaction is carried out."""

    SUBMISSION = "ids are assigned in its metadata, then it is sent"
    PROVISION = "a submission with documents, as MTOM"
    QUERY = "a plain SOAP request"
    RETRIEVE = "a request whose answer has documents, as MTOM"
    SIMPLE = "a SOAP request whose action the plan names"
    WADO = "HTTP GET"
    HTTP = "an HTTP body as it is"
    FEED = "HL7 v2 over MLLP"
    NOTHING = "nothing is sent; assertions over what was received before"


@dataclass(frozen=True, slots=True)
class Kind:
    """A transaction. `answer` is the local name of the answer's element."""

    form: Form
    endpoint: str = ""
    action: str = ""
    answer: str = "RegistryResponse"
    answer_action: str = ""

    @property
    def expected_action(self) -> str:
        """The wsa:Action that its answer has."""
        return self.answer_action or f"{self.action}Response"


_ITI: Final = "urn:ihe:iti:"
_RETRIEVED: Final = "RetrieveDocumentSetResponse"
_QUERIED: Final = "AdhocQueryResponse"
_RETRIEVE_ACTION: Final = f"{_ITI}2007:RetrieveDocumentSet"

KINDS: Final = {
    "RegisterTransaction": Kind(Form.SUBMISSION, "registry.register", f"{_ITI}2007:RegisterDocumentSet-b"),
    "RegisterODDETransaction": Kind(Form.SUBMISSION, "registry.register_on_demand", f"{_ITI}2010:RegisterOnDemandDocumentEntry"),
    "MuTransaction": Kind(Form.SUBMISSION, "registry.update", f"{_ITI}2010:UpdateDocumentSet"),
    "RmuTransaction": Kind(Form.SUBMISSION, "registry.restricted_update", f"{_ITI}2018:RestrictedUpdateDocumentSet"),
    "XCRmuTransaction": Kind(Form.SUBMISSION, "responding_gateway.restricted_update", f"{_ITI}2018:RestrictedUpdateDocumentSet"),
    "RemoveMetadataTransaction": Kind(Form.QUERY, "registry.remove_metadata", f"{_ITI}2010:DeleteDocumentSet"),
    "RdTransaction": Kind(Form.QUERY, "repository.remove_documents", f"{_ITI}2017:RemoveDocuments"),
    "RemoveDocumentsTransaction": Kind(Form.QUERY, "repository.remove_documents", f"{_ITI}2017:RemoveDocuments"),
    "ProvideAndRegisterTransaction": Kind(Form.PROVISION, "repository.provide", f"{_ITI}2007:ProvideAndRegisterDocumentSet-b"),
    "XDRProvideAndRegisterTransaction": Kind(Form.PROVISION, "recipient.provide", f"{_ITI}2007:ProvideAndRegisterDocumentSet-b"),
    "XCDRTransaction": Kind(Form.PROVISION, "responding_gateway.provide", f"{_ITI}2015:CrossGatewayDocumentProvide"),
    "StoredQueryTransaction": Kind(Form.QUERY, "registry.stored_query", f"{_ITI}2007:RegistryStoredQuery", _QUERIED),
    "MPQTransaction": Kind(Form.QUERY, "registry.multi_patient_query", f"{_ITI}2009:MultiPatientStoredQuery", _QUERIED),
    "XCQTransaction": Kind(Form.QUERY, "responding_gateway.query", f"{_ITI}2007:CrossGatewayQuery", _QUERIED),
    "IGQTransaction": Kind(Form.QUERY, "initiating_gateway.query", f"{_ITI}2007:RegistryStoredQuery", _QUERIED),
    "RetrieveTransaction": Kind(Form.RETRIEVE, "repository.retrieve", _RETRIEVE_ACTION, _RETRIEVED),
    "IGRTransaction": Kind(Form.RETRIEVE, "initiating_gateway.retrieve", _RETRIEVE_ACTION, _RETRIEVED),
    "XCRTransaction": Kind(Form.RETRIEVE, "responding_gateway.retrieve", f"{_ITI}2007:CrossGatewayRetrieve", _RETRIEVED),
    "ImagingDocSetRetrieveTransaction": Kind(
        Form.RETRIEVE,
        "imaging_source.retrieve",
        "urn:ihe:rad:2009:RetrieveImagingDocumentSet",
        _RETRIEVED,
        f"{_RETRIEVE_ACTION}Response",
    ),
    "ImagingDocSetIigRetrieveTransaction": Kind(
        Form.RETRIEVE,
        "initiating_imaging_gateway.retrieve",
        "urn:ihe:rad:2009:RetrieveImagingDocumentSet",
        _RETRIEVED,
        f"{_RETRIEVE_ACTION}Response",
    ),
    "ImagingDocSetRigRetrieveTransaction": Kind(
        Form.RETRIEVE,
        "responding_imaging_gateway.retrieve",
        "urn:ihe:rad:2011:CrossGatewayRetrieveImagingDocumentSet",
        _RETRIEVED,
    ),
    "SimpleTransaction": Kind(Form.SIMPLE, "registry.register"),
    "WADOTransaction": Kind(Form.WADO, "imaging_source.wado"),
    "HttpTransaction": Kind(Form.HTTP),
    "PatientIdentityFeedTransaction": Kind(Form.FEED),
    "PatientMergeTransaction": Kind(Form.FEED),
    "PatientMoveTransaction": Kind(Form.FEED),
    "NullTransaction": Kind(Form.NOTHING),
    "ImgDetailTransaction": Kind(Form.NOTHING),
    "XmlDetailTransaction": Kind(Form.NOTHING),
}
"""Every transaction that this runner carries out."""

_FHIR: Final = "it is of FHIR; this runner plays the transactions of XDS.b, XDS-I.b, XDR and XCA"
_DSUB: Final = "Document Metadata Subscription needs a receiver of notifications"
_INITIATOR: Final = "here the system under test is the one that sends, to a simulator of the toolkit"

CANNOT: Final = {
    "SqlQueryTransaction": "SQL queries were XDS.a",
    "GenericSoap11Transaction": "SOAP 1.1 is not in any transaction of XDS.b",
    "EpsosTransaction": "epSOS is another profile",
    "DsubSubscribeTransaction": _DSUB,
    "PublishTransaction": _DSUB,
    "XcpdTransaction": "Cross-Community Patient Discovery is not played here",
    "EchoV2Transaction": "it tests the toolkit itself",
    "EchoV3Transaction": "it tests the toolkit itself",
    "MockTransaction": "it tests the toolkit itself",
    "SocketTransaction": "it listens on a socket of the toolkit",
    "Gather": "it asks a person to fill in a form",
    "StsTransaction": "assertions come from the endpoints file, not from an STS",
    "EdgeServerTransaction": _INITIATOR,
    "FhirCreateTransaction": _FHIR,
    "FhirCreatePatientTransaction": _FHIR,
    "FhirReadTransaction": _FHIR,
    "FhirSearchTransaction": _FHIR,
    "MhdClientTransaction": _FHIR,
    "ProvideDocumentBundleTransaction": _FHIR,
}
"""Transactions of the toolkit that are not carried out, each with the reason."""

SIMULATOR: Final = f"{_INITIATOR}; run that part with the toolkit"

STEP_PARTS: Final = frozenset(
    [
        "ExpectedStatus",
        "ExpectedErrorCode",
        "ExpectedErrorMessage",
        "Goal",
        "Rule",
        "RegistryEndpoint",
        "NewPatientId",
        "AltPatientId",
        "Standard",
    ]
)
PLAN_PARTS: Final = frozenset(["Test", "Rule", "TestStep", "RegistryEndpoint", "PatientId"])

_ANY: Final = frozenset(
    [
        "MetadataFile",
        "AssignUuids",
        "AssignNewUuid",
        "NoAssignUids",
        "NoConvert",
        "Report",
        "UseReport",
        "ParseMetadata",
        "NoMetadata",
        "UseId",
        "UseXPath",
        "UseObjectRef",
        "UseRepositoryUniqueId",
        "Assertions",
        "XDSb",
        "NoPatientId",
        "SOAP12",
        "WaitBefore",
        "InteractionSequence",
        "CleanParams",
        "ExpectedContents",
        "SOAPHeader",
        "WSSECHeader",
    ]
)
_OF_FORM: Final = {
    Form.PROVISION: frozenset(["Document", "NoMTOM"]),
    Form.RETRIEVE: frozenset(
        ["ExpectedMimeType", "ReferenceDocument", "ReferenceMetadata", "URI", "URIRef", "RemoveHomeFromRequest"]
    ),
    Form.QUERY: frozenset(["homeCommunityId"]),
    Form.SIMPLE: frozenset(["Metadata", "Action", "Addressing", "Mtom"]),
    Form.WADO: frozenset(["Headers", "Parameters", "UIDFile"]),
    Form.HTTP: frozenset(["Headers", "BodyFile"]),
    Form.FEED: frozenset(["CreateNewPatientId", "PatientID"]),
}

CANNOT_PART: Final = {
    "XDSa": "XDS.a is no longer in the Technical Framework",
    "SOAP11": "SOAP 1.1 is not in any transaction of XDS.b",
    "ASync": "the asynchronous option needs a listener for answers",
    "UseSequoiaHeader": "the header of the Sequoia Project is not made here",
    "MetadataExL2MapKey": "it takes metadata from a form of the toolkit",
    "Target": "it sends to a simulator of the toolkit",
}


def parts_of(form: Form) -> frozenset[str]:
    """The instructions that a transaction of this form may have."""
    return _ANY | _OF_FORM.get(form, frozenset())


HTTP_TYPES: Final = {
    "pr.b": "repository.provide",
    "prb": "repository.provide",
    "r.b": "registry.register",
    "rb": "registry.register",
    "sq.b": "registry.stored_query",
    "ret.b": "repository.retrieve",
    "ret.ids": "imaging_source.retrieve",
    "": "repository.provide",
}
"""Which endpoint the `type` of an HttpTransaction means. Plans without one are Provide and Register."""

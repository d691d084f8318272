"""The Imaging Document Source: Retrieve Imaging Document Set."""

from collections import Counter
from functools import partial

from starlette.requests import Request

from ihe import rad69
from ihe.ebrs import RegistryError
from ihe.iti43 import DocumentRequest
from ihe.soap import Envelope
from profiles.audit_event import RAD_69, AuditedEntity
from profiles.vocabulary import DICOM_UID_SYSTEM
from server.access.decisions import Decision
from server.edges import context
from server.edges.soap import document_set
from server.edges.soap.document_set import Document
from server.edges.soap.transaction import Answer, Transaction
from server.records.catalogue import StoredInstance
from server.store.blobs import BlobStore
from server.work import retrieve


def _retrieve(request: Request, decision: Decision, envelope: Envelope) -> Answer:
    """RAD TF-2 section 4.69.4.1.3: each instance as it was stored, or an error that names it. Raises `RegistryRefusal`.

    The preamble is empty (`retrieve.part10`). Instances are not re-encoded: one whose transfer syntax is not on the consumer's list is an
    error.
    """
    node = context.node(request)
    asked = rad69.parse_request(envelope.body)
    documents = list(dict.fromkeys(asked.documents()))
    errors = document_set.refuse_foreign([wanted for _, _, wanted in documents], node.installation.imaging_source)
    ours = [each for each in documents if each[2].repository_unique_id == node.installation.imaging_source]
    with node.database.read() as connection:
        visible = retrieve.visible(connection, decision, list({wanted.document_unique_id: None for _, _, wanted in ours}))
    found: list[tuple[DocumentRequest, StoredInstance]] = []
    syntaxes = frozenset(asked.transfer_syntaxes)
    for study, series, wanted in ours:
        instance = visible.get(wanted.document_unique_id)
        if instance is None or (instance.study_uid, instance.series_uid) != (study, series):
            errors.append(
                RegistryError(
                    "XDSDocumentUniqueIdError", "there is no such instance in this study and series", wanted.document_unique_id
                )
            )
        elif instance.transfer_syntax not in syntaxes:
            errors.append(
                RegistryError(
                    "XDSRepositoryError",
                    f"the instance is stored in transfer syntax {instance.transfer_syntax}, which is not on the TransferSyntaxUIDList",
                    wanted.document_unique_id,
                )
            )
        else:
            found.append((wanted, instance))
    return document_set.answer(request, RAD_69, _documents(node.blobs, found), errors)


def _documents(blobs: BlobStore, found: list[tuple[DocumentRequest, StoredInstance]]) -> list[Document]:
    counts = Counter(study for _, study in {(instance.uid, instance.study_uid) for _, instance in found})
    told = {
        study: AuditedEntity(system=DICOM_UID_SYSTEM, identifier=f"urn:oid:{study}", details=(("instances", str(count)),))
        for study, count in counts.items()
    }
    return [
        Document(
            wanted,
            "application/dicom",
            instance.blob_id,
            instance.size,
            instance.patient,
            told[instance.study_uid],
            partial(retrieve.part10, blobs, instance),
        )
        for wanted, instance in found
    ]


RETRIEVE_IMAGING_DOCUMENT_SET = Transaction(
    action=rad69.REQUEST_ACTION,
    response_action=rad69.RESPONSE_ACTION,
    subtype=RAD_69,
    kind="export",
    actor="Repository",
    mtom=True,
    answer=_retrieve,
    failed=document_set.failed,
    asked=document_set.asked,
)

"""The Document Repository: Retrieve Document Set."""

from functools import partial

from starlette.requests import Request

from ihe import iti43
from ihe.ebrs import RegistryError
from ihe.soap import Envelope
from profiles.audit_event import ITI_43, AuditedEntity
from profiles.vocabulary import URI_SYSTEM
from server.access.decisions import Decision
from server.edges import context
from server.edges.soap import document_set
from server.edges.soap.document_set import Document
from server.edges.soap.transaction import Answer, Transaction
from server.work import documents


def _retrieve(request: Request, decision: Decision, envelope: Envelope) -> Answer:
    """ITI TF-2 section 3.43.4.1.3: each document that is asked for, or an error that names it. Raises `RegistryError`."""
    node = context.node(request)
    asked = list(dict.fromkeys(iti43.parse_request(envelope.body)))
    errors = document_set.refuse_foreign(asked, node.installation.repository)
    ours = [wanted for wanted in asked if wanted.repository_unique_id == node.installation.repository]
    with node.database.read() as connection:
        stored = documents.retrievable(connection, decision, [wanted.document_unique_id for wanted in ours])
    found = []
    for wanted in ours:
        document = stored.get(wanted.document_unique_id)
        if document is None:
            errors.append(RegistryError("XDSDocumentUniqueIdError", "there is no such document here", wanted.document_unique_id))
            continue
        entry = document.entry
        told = AuditedEntity(
            system=URI_SYSTEM, identifier=f"urn:oid:{entry.unique_id}", details=(("repositoryUniqueId", entry.repository_unique_id),)
        )  # fmt: skip
        read = partial(node.blobs.stream, document.blob_id)
        size = node.blobs.size(document.blob_id) if entry.size is None else entry.size
        found.append(Document(wanted, entry.mime_type, document.blob_id, size, document.patient, told, read))
    return document_set.answer(request, ITI_43, found, errors)


RETRIEVE_DOCUMENT_SET = Transaction(
    action=iti43.REQUEST_ACTION,
    response_action=iti43.RESPONSE_ACTION,
    subtype=ITI_43,
    kind="export",
    actor="Repository",
    mtom=True,
    answer=_retrieve,
    failed=document_set.failed,
    asked=document_set.asked,
)

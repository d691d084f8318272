"""The Document Repository: Retrieve Document Set, Remove Documents. How it receives stands in `server.edges.soap.provide`."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial

from lxml.etree import _Element
from sqlalchemy import Connection
from starlette.requests import Request

from ihe import ebrs, iti43, iti86
from ihe.ebrs import RegistryError
from ihe.soap import Envelope
from profiles.audit_event import ITI_43, ITI_86, AuditedEntity
from profiles.vocabulary import URI_SYSTEM
from server.access.decisions import Decision
from server.edges import context
from server.edges.context import Note
from server.edges.soap import document_set
from server.edges.soap.document_set import Document
from server.edges.soap.transaction import Answer, Transaction
from server.records.repository import Held
from server.work import documents, remove_documents
from server.work.remove_documents import Removal


def _retrieve(request: Request, decision: Decision, envelope: Envelope) -> Answer:
    """ITI TF-2 section 3.43.4.1.3: each document that is asked for, or an error that names it. Raises `RegistryError`."""
    node = context.node(request)
    asked = list(dict.fromkeys(iti43.parse_request(envelope.body)))
    errors = document_set.refuse_foreign(asked, node.installation.repository)
    ours = [wanted for wanted in asked if wanted.repository_unique_id == node.installation.repository]
    with node.database.read() as connection:
        uids = [wanted.document_unique_id for wanted in ours]
        stored = documents.retrievable(connection, decision, uids)
        withheld = documents.withheld(connection, [each for each in uids if each not in stored])
    found = []
    for wanted in ours:
        document = stored.get(wanted.document_unique_id)
        if document is None:
            errors.append(RegistryError("XDSDocumentUniqueIdError", "there is no such document here", wanted.document_unique_id))
            continue
        if not document_set.is_whole(node.blobs, document.blob_id, document.size):
            errors.append(document_set.damaged(wanted))
            continue
        told = _told(document.unique_id, node.installation.repository)
        read = partial(node.blobs.extent, document.blob_id)
        found.append(Document(wanted, document.mime_type, document.size, document.patient, told, document.blob_id, read))
    return replace(document_set.answer(request, ITI_43, found, errors), withheld=withheld)


def _told(unique_id: str, repository: str) -> AuditedEntity:
    """ITI TF-2 sections 3.43.5.1.2 and 3.86.5.1: a document as the trail names it."""
    return AuditedEntity(system=URI_SYSTEM, identifier=f"urn:oid:{unique_id}", details=(("repositoryUniqueId", repository),))


def _remove(request: Request, decision: Decision, envelope: Envelope) -> Answer:
    """ITI TF-2 section 3.86.4.1.3: what can be removed is removed, and each other document has its error. Raises `RegistryError`."""
    node = context.node(request)
    ours = node.installation.repository
    asked = list(dict.fromkeys(iti86.parse_request(envelope.body)))
    errors = document_set.refuse_foreign(asked, ours)
    wanted = [each.document_unique_id for each in asked if each.repository_unique_id == ours]

    def write(connection: Connection) -> Removal:
        removal = remove_documents.remove(connection, decision, wanted)
        context.noted(request, _removals(removal.documents.values(), ours), connection, rest=False)
        return removal

    removal = node.writes.run(write)
    for blob_id in removal.blobs:
        node.blobs.delete(blob_id)
    found = (*errors, *removal.errors)
    return Answer(ebrs.to_element(ebrs.response_to(found, bool(removal.documents))), found)


def _removals(removed: Iterable[Held], repository: str) -> list[Note]:
    """One for each patient, with her documents."""
    of: dict[str, list[AuditedEntity]] = {}
    for each in removed:
        of.setdefault(each.patient, []).append(_told(each.unique_id, repository))
    return [Note("delete", ITI_86, tuple(entities), frozenset([patient])) for patient, entities in of.items()]


def _failed_to_remove(errors: Sequence[RegistryError]) -> _Element:
    return ebrs.to_element(ebrs.response_to(errors, results=False))


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
REMOVE_DOCUMENTS = Transaction(
    action=iti86.REQUEST_ACTION,
    response_action=iti86.RESPONSE_ACTION,
    subtype=ITI_86,
    kind="delete",
    actor="Repository",
    mtom=False,
    answer=_remove,
    failed=_failed_to_remove,
    asked=document_set.asked,
)

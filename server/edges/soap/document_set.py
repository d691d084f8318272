"""Sending documents by RetrieveDocumentSetResponse: what ITI-43 and RAD-69 share.

Everything that can go wrong is found before the first byte, because the length of the whole answer is promised with it.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from starlette.requests import Request

from ihe import iti43
from ihe.ebrs import RegistryError
from ihe.iti43 import DocumentRequest, DocumentResponse
from ihe.mtom import Attachment
from ihe.soap import Envelope
from profiles.audit_event import AuditedEntity, Subtype
from profiles.identifiers import InvalidIdentifier, lenient_uid
from profiles.vocabulary import URI_SYSTEM
from server.edges import context
from server.edges.bodies import Piece
from server.edges.soap.transaction import Answer
from server.errors import NotFound
from server.store.blobs import Ahead, BlobStore

_NAMED = 100


@dataclass(frozen=True, slots=True)
class Document:
    """One document that was found: how many bytes it has, how the trail calls what it belongs to, the blob that it is made of, its bytes."""

    request: DocumentRequest
    mime_type: str
    size: int
    patient: str
    told: AuditedEntity
    blob_id: str
    read: Callable[[], Iterable[Piece]]


def refuse_foreign(asked: Sequence[DocumentRequest], repository: str) -> list[RegistryError]:
    """ITI TF-2 section 3.43.4.1.3: an error for each document of another repository."""
    return [
        RegistryError(
            "XDSUnknownRepositoryId", "the repositoryUniqueId is not that of this repository", wanted.document_unique_id
        )
        for wanted in asked
        if wanted.repository_unique_id != repository
    ]


def is_whole(blobs: BlobStore, blob_id: str, size: int) -> bool:
    """Whether the stored bytes are as many as they should be."""
    try:
        return blobs.size(blob_id) == size
    except NotFound:
        return False


def damaged(wanted: DocumentRequest) -> RegistryError:
    """What is said of a document that is not whole any more."""
    return RegistryError("XDSRepositoryError", "the stored bytes are missing or damaged", wanted.document_unique_id)


def answer(
    request: Request,
    subtype: Subtype,
    documents: Sequence[Document],
    errors: Sequence[RegistryError],
    close: Callable[[], None] = lambda: None,
) -> Answer:
    """ITI TF-2 section 3.43.4.2: `documents` as attachments, in the trail before they are sent; each goes once."""
    sent = {wanted.request.document_unique_id: wanted for wanted in documents}
    for patient in sorted({wanted.patient for wanted in sent.values()}):
        entities = tuple(dict.fromkeys(wanted.told for wanted in sent.values() if wanted.patient == patient))
        context.told(request, "export", subtype, patients=[patient], entities=entities, rest=False)
    responses = [
        DocumentResponse(wanted.request, wanted.mime_type, f"{number}@imageshare", wanted.size)
        for number, wanted in enumerate(sent.values(), 1)
    ]
    readers = {made.content_id: wanted.read for made, wanted in zip(responses, sent.values(), strict=True)}
    ahead = Ahead(context.node(request).blobs, [wanted.blob_id for wanted in sent.values()])

    def content(attachment: Attachment) -> Iterable[Piece]:
        ahead.step()
        return readers[attachment.content_id]()

    return Answer(iti43.response(responses, errors), tuple(errors), tuple(made.attachment for made in responses), content, close)


def failed(errors: Sequence[RegistryError]) -> bytes:
    """RetrieveDocumentSetResponse with status Failure."""
    return iti43.response((), errors)


def asked(envelope: Envelope) -> tuple[AuditedEntity, ...]:
    """The documents that a refused request named, the first hundred: an identifier is one only if it looks like one."""
    named = (_uid((found.text or "").strip()) for found in envelope.body.iterfind(".//{*}DocumentUniqueId"))
    wanted = list(dict.fromkeys(uid for uid in named if uid))
    return tuple(AuditedEntity(system=URI_SYSTEM, identifier=f"urn:oid:{uid}") for uid in wanted[:_NAMED])


def _uid(text: str) -> str:
    try:
        return lenient_uid(text)
    except InvalidIdentifier:
        return ""

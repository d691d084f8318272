"""Retrieve Document Set, ITI-43 (ITI TF-2 section 3.43): request and response, both ways.

RAD-69 (`ihe.rad69`) answers with the same response message.
"""

import binascii
from base64 import b64decode
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from lxml import etree
from lxml.etree import _Element

from ihe import ebrs, mtom, xml
from ihe.ebrs import RegistryError

REQUEST_ACTION: Final = "urn:ihe:iti:2007:RetrieveDocumentSet"
RESPONSE_ACTION: Final = "urn:ihe:iti:2007:RetrieveDocumentSetResponse"
_RESPONSE: Final = (
    "<xdsb:RetrieveDocumentSetResponse "
    + " ".join(f'xmlns:{prefix}="{namespace}"' for prefix, namespace in xml.PREFIXES.items())
    + ">{}</xdsb:RetrieveDocumentSetResponse>"
)


@dataclass(frozen=True, slots=True)
class DocumentRequest:
    """One document that is asked for. The ids are as sent; nothing but a search should be made with them."""

    repository_unique_id: str
    document_unique_id: str
    home_community_id: str = ""


@dataclass(frozen=True, slots=True)
class DocumentResponse:
    """One document of an answer: its bytes are the attachment `content_id` (without brackets) of `size` bytes."""

    request: DocumentRequest
    mime_type: str
    content_id: str
    size: int

    @property
    def attachment(self) -> mtom.Attachment:
        """What `mtom.chunks` needs to send it."""
        return mtom.Attachment(self.content_id, self.mime_type, self.size)


def parse_request(body: _Element) -> tuple[DocumentRequest, ...]:
    """ITI TF-2 section 3.43.4.1.2: the documents that are asked for, in order. Raises `RegistryError`."""
    if body.tag != f"{{{xml.XDS_B}}}RetrieveDocumentSetRequest":
        raise RegistryError("XDSRepositoryError", "the message must be RetrieveDocumentSetRequest")
    requests = read_document_requests(body)
    if not requests:
        raise RegistryError("XDSRepositoryError", "the request names no document")
    return requests


def read_document_requests(parent: _Element) -> tuple[DocumentRequest, ...]:
    """The DocumentRequest children of `parent`. Raises `RegistryError` where an id is missing."""
    requests = tuple(_named(found) for found in parent.iterfind("{*}DocumentRequest"))
    for wanted in requests:
        if not wanted.document_unique_id:
            raise RegistryError("XDSDocumentUniqueIdError", "a DocumentRequest has no DocumentUniqueId")
        if not wanted.repository_unique_id:
            raise RegistryError(
                "XDSUnknownRepositoryId", "a DocumentRequest has no RepositoryUniqueId", wanted.document_unique_id
            )
    return requests


def _named(element: _Element) -> DocumentRequest:
    """The three ids in `element`. One walk for all of them: an answer of a study has thousands of these."""
    texts = dict[str, str]()
    for each in element:
        texts.setdefault(each.tag.rpartition("}")[2], (each.text or "").strip())
    return DocumentRequest(
        texts.get("RepositoryUniqueId", ""), texts.get("DocumentUniqueId", ""), texts.get("HomeCommunityId", "")
    )


def write_document_request(parent: _Element, wanted: DocumentRequest) -> _Element:
    """A new child of `parent` with the three ids of `wanted`."""
    made = xml.child(parent, xml.XDS_B, "DocumentRequest")
    if wanted.home_community_id:
        xml.child(made, xml.XDS_B, "HomeCommunityId", wanted.home_community_id)
    xml.child(made, xml.XDS_B, "RepositoryUniqueId", wanted.repository_unique_id)
    xml.child(made, xml.XDS_B, "DocumentUniqueId", wanted.document_unique_id)
    return made


def request(documents: Sequence[DocumentRequest]) -> _Element:
    """ITI TF-2 section 3.43.4.1.2: `documents` as `RetrieveDocumentSetRequest`."""
    made = xml.element(xml.XDS_B, "RetrieveDocumentSetRequest")
    for wanted in documents:
        write_document_request(made, wanted)
    return made


def response(documents: Sequence[DocumentResponse], errors: Sequence[RegistryError] = ()) -> bytes:
    """ITI TF-2 section 3.43.4.2.2: `RetrieveDocumentSetResponse` in UTF-8; each Document is an `xop:Include` of its attachment.

    Text and no tree: an answer of a study has thousands of documents, and the first byte waits for it. The status follows from documents and errors: Success, PartialSuccess or Failure.
    """
    status = etree.tostring(ebrs.to_element(ebrs.response_to(errors, bool(documents))), encoding="unicode")
    return _RESPONSE.format(status + "".join(map(_written, documents))).encode()


def _written(document: DocumentResponse) -> str:
    wanted, text = document.request, xml.escaped
    home = f"<xdsb:HomeCommunityId>{text(wanted.home_community_id)}</xdsb:HomeCommunityId>" if wanted.home_community_id else ""
    return (
        f"<xdsb:DocumentResponse>{home}<xdsb:RepositoryUniqueId>{text(wanted.repository_unique_id)}</xdsb:RepositoryUniqueId>"
        f"<xdsb:DocumentUniqueId>{text(wanted.document_unique_id)}</xdsb:DocumentUniqueId>"
        f"<xdsb:mimeType>{text(document.mime_type)}</xdsb:mimeType>"
        f'<xdsb:Document><xop:Include href="{text(mtom.href(document.content_id))}"/></xdsb:Document></xdsb:DocumentResponse>'
    )


@dataclass(frozen=True, slots=True)
class RetrievedDocument:
    """One document as a client reads it: its attachment's Content-ID, or its bytes where they stood in the envelope."""

    request: DocumentRequest
    mime_type: str
    content_id: str = ""
    content: bytes = b""


@dataclass(frozen=True, slots=True)
class RetrieveResponse:
    """An answer as a client reads it."""

    status: str
    errors: tuple[RegistryError, ...]
    documents: tuple[RetrievedDocument, ...]


def parse_response(body: _Element) -> RetrieveResponse:
    """Reads `RetrieveDocumentSetResponse`. Raises `RegistryError` where it is none, `MtomError` for a wrong href."""
    answer = body.find(f"{{{xml.RS}}}RegistryResponse")
    if body.tag != f"{{{xml.XDS_B}}}RetrieveDocumentSetResponse" or answer is None:
        raise RegistryError("XDSRepositoryError", "the answer is not RetrieveDocumentSetResponse with a RegistryResponse")
    read = ebrs.read(answer)
    documents = tuple(_retrieved(found) for found in body.iterfind(f"{{{xml.XDS_B}}}DocumentResponse"))
    return RetrieveResponse(read.status, read.errors, documents)


def _retrieved(element: _Element) -> RetrievedDocument:
    wanted = _named(element)
    mime_type = xml.text_of(element, "mimeType")
    include = element.find(f"{{{xml.XDS_B}}}Document/{{{xml.XOP}}}Include")
    if include is not None:
        return RetrievedDocument(wanted, mime_type, content_id=mtom.content_id_of(include.get("href", "")))
    try:
        # Encoders break the lines of base64; the schema type allows white space anywhere.
        content = b64decode("".join(xml.text_of(element, "Document").split()), validate=True)
    except binascii.Error:
        raise RegistryError("XDSRepositoryError", "a Document is neither xop:Include nor base64") from None
    return RetrievedDocument(wanted, mime_type, content=content)

"""SOAP requests of the runner, and what comes back: bytes out, bytes in. MTOM where a transaction is; documents of answers as base64."""

from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from lxml import etree
from lxml.etree import _Element

from ihe import mtom, multipart, soap, xml
from ihe.mtom import Attachment
from ihe.multipart import PartData, PartStart

_FAULT: Final = f"{{{soap.ENV}}}Fault"
_WSSE: Final = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-secext-1.0.xsd"
_LIMIT: Final = 1 << 28


@dataclass(frozen=True, slots=True)
class Document:
    """A document to send: its id in the metadata, its media type, its bytes."""

    id: str
    content_type: str
    data: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Reply:
    """What an answer says. `status` is Success, Failure, PartialSuccess, Fault, or what else stood there; `problem` why it is no SOAP answer, if so."""

    status: str
    payload: _Element | None = None
    action: str = ""
    relates_to: str = ""
    parts: int = 0
    problem: str = ""

    @property
    def errors(self) -> list[tuple[str, str, str]]:
        """Code, context with location, and severity (`Error` or `Warning`) of each RegistryError."""
        found = [] if self.payload is None else self.payload.iter("{*}RegistryError")
        return [
            (
                each.get("errorCode", ""),
                " ".join(filter(None, (each.get("codeContext"), each.get("location"), each.text and each.text.strip()))),
                each.get("severity", "").rpartition(":")[2],
            )
            for each in found
        ]


def envelope(action: str, body: _Element, message_id: str, to: str, headers: Sequence[bytes] = ()) -> bytes:
    """A SOAP request; `headers` are further header blocks, put in as they are, for they may be signed."""
    made = soap.render_request(action, body, message_id, to)
    return made.replace(b"</env:Header>", b"".join(headers) + b"</env:Header>", 1)


def security(assertion: bytes) -> bytes:
    """The wsse:Security header with a SAML assertion (ITI TF-2 section 3.40.4.1.2)."""
    bare = assertion.strip()
    if bare.startswith(b"<?xml"):
        bare = bare.partition(b"?>")[2].strip()
    return (
        f'<wsse:Security xmlns:wsse="{_WSSE}" xmlns:e="{soap.ENV}" e:mustUnderstand="true">'.encode() + bare + b"</wsse:Security>"
    )


def packed(root: bytes, action: str, documents: Sequence[Document], boundary: str) -> tuple[str, bytes]:
    """An MTOM message: its Content-Type and its bytes."""
    by_id = {each.id: each for each in documents}
    attachments = [Attachment(content_id(each.id), each.content_type, len(each.data)) for each in documents]
    by_content = {content_id(each): by_id[each] for each in by_id}
    chunks = mtom.chunks(root, attachments, lambda each: [by_content[each.content_id].data], boundary)
    return mtom.content_type(boundary, action), b"".join(chunks)


def content_id(document: str) -> str:
    """The Content-ID of a document."""
    return f"{document.replace(':', '.')}@testkit"


def provide_and_register(submission: _Element, documents: Sequence[Document], *, inline: bool = False) -> _Element:
    """ITI TF-2 section 3.41.4.1.2: the request around a submission; documents are xop:Include, or base64 where `inline`."""
    made = xml.element(xml.XDS_B, "ProvideAndRegisterDocumentSetRequest")
    made.append(submission)
    for each in documents:
        holder = xml.child(made, xml.XDS_B, "Document", id=each.id)
        if inline:
            holder.text = b64encode(each.data).decode()
        else:
            xml.child(holder, xml.XOP, "Include", href=mtom.href(content_id(each.id)))
    return made


def read(content_type: str, body: bytes) -> Reply:
    """An answer, in whatever form it comes."""
    try:
        kind = multipart.media_type(content_type).type
        root, parts = _unpacked(content_type, body) if kind.startswith("multipart/") else (body, {})
        got = soap.parse(root, limit=_LIMIT, understood=_Anything())
        _inlined(got.body, parts)
    except (soap.SoapFault, multipart.MultipartError) as error:
        return Reply("no answer", problem=str(error))
    count = len(parts) + 1 if kind.startswith("multipart/") else 0
    return Reply(status_of(got.body), got.body, got.action, got.relates_to, count)


def status_of(payload: _Element) -> str:
    """The last word of the status that an answer's payload has; Fault for a SOAP fault."""
    if payload.tag == _FAULT:
        return "Fault"
    for each in payload.iter("{*}RegistryResponse", "{*}AdhocQueryResponse"):
        return each.get("status", "").rpartition(":")[2] or "no status"
    return "no status"


class _Anything(frozenset[str]):
    """Headers of an answer are not ours to judge."""

    def __contains__(self, _: object) -> bool:
        return True


def _unpacked(content_type: str, body: bytes) -> tuple[bytes, dict[str, bytes]]:
    reader = mtom.Reader(content_type, root_limit=_LIMIT)
    events = reader.feed(body)
    reader.close()
    root, parts, current = b"", dict[str, bytearray](), bytearray()
    for event in events:
        match event:
            case mtom.Root(data):
                root = data
            case PartStart():
                current = parts.setdefault(event.content_id, bytearray())
            case PartData(data):
                current += data
    return root, {name: bytes(data) for name, data in parts.items()}


def _inlined(payload: _Element, parts: dict[str, bytes]) -> None:
    """XOP 1.0 section 2: each Include becomes the base64 that it stands for."""
    for include in list(payload.iter(f"{{{xml.XOP}}}Include")):
        holder, wanted = include.getparent(), mtom.content_id_of(include.get("href", ""))
        if wanted not in parts:
            raise mtom.MtomError("an xop:Include names a part that is not there")
        if holder is not None:
            holder.remove(include)
            holder.text = b64encode(parts[wanted]).decode()


def described(payload: _Element) -> str:
    """A fault in words."""
    texts = [each.text.strip() for each in payload.iter(f"{{{soap.ENV}}}Value", f"{{{soap.ENV}}}Text") if each.text]
    return " ".join(texts) or etree.QName(payload).localname

"""MTOM and XOP, streaming both ways (SOAP MTOM section 3, XOP 1.0 section 4; ITI TF-2 appendix V.3.6).

The SOAP envelope is the root part and comes first; each document is a further part that the envelope's
`xop:Include href="cid:..."` points to.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from dataclasses import dataclass
from typing import Final, TypeVar
from urllib.parse import quote, unquote

from ihe import multipart
from ihe.multipart import End, MultipartError, PartData, PartEnd, PartStart

ROOT_ID: Final = "root@imageshare"
XOP_TYPE: Final = "application/xop+xml"
SOAP_TYPE: Final = "application/soap+xml"
B = TypeVar("B", bound=Sized)
_UNQUOTED = re.compile(r"[0-9A-Za-z.@_~-]*")


class MtomError(MultipartError):
    """A message that is multipart but not MTOM, or over a limit."""


@dataclass(frozen=True, slots=True)
class Root:
    """The root part is complete: `data` is the SOAP envelope. Always the first event."""

    data: bytes


Event = Root | PartStart | PartData | PartEnd | End


class Reader:
    """Push parser of one MTOM message: `feed` what arrives, then `close`.

    The events are Root, then PartStart, PartData ..., PartEnd for each attachment, then End. The root part is collected
    (at most `root_limit` bytes), attachments are not. Raises `MultipartError`, and `MtomError` where MTOM is broken.
    """

    def __init__(self, content_type: str, *, root_limit: int = 16_777_216, part_limit: int = 100_000) -> None:
        parameters = multipart.media_type(content_type).parameters
        self._splitter = multipart.Splitter(multipart.boundary_of(content_type), part_limit=part_limit)
        if parameters.get("type", XOP_TYPE).lower() != XOP_TYPE:
            raise MtomError(f'the Content-Type of an MTOM message has type="{XOP_TYPE}" (XOP 1.0 section 4.1)')
        self._start = parameters.get("start", "").removeprefix("<").removesuffix(">")
        self._root_limit = root_limit
        self._root: bytearray | None = None
        self._root_done = False
        self._content_ids: set[str] = set()

    def feed(self, data: bytes) -> list[Event]:
        """The events that `data` completes, in order."""
        events: list[Event] = []
        for event in self._splitter.feed(data):
            if self._root_done:
                if isinstance(event, PartStart):
                    self._attachment(event)
                events.append(event)
            else:
                self._collect(event, events)
        return events

    def close(self) -> None:
        """Says that no more bytes come. Raises `MultipartError` if the closing boundary is missing."""
        self._splitter.close()

    def _collect(self, event: multipart.Event, events: list[Event]) -> None:
        match event:
            case PartStart():
                if self._start and event.content_id != self._start:
                    raise MtomError("the first part must be the root part that the Content-Type's start parameter names")
                _check_encoding(event)
                self._content_ids.add(event.content_id)
                self._root = bytearray()
            case PartData(data) if self._root is not None:
                if len(self._root) + len(data) > self._root_limit:
                    raise MtomError(f"the root part has more than {self._root_limit} bytes")
                self._root += data
            case PartEnd() if self._root is not None:
                events.append(Root(bytes(self._root)))
                self._root, self._root_done = None, True
            case _:
                raise MtomError("the message has no root part")

    def _attachment(self, part: PartStart) -> None:
        _check_encoding(part)
        if not part.content_id:
            raise MtomError("an attachment has no Content-ID (XOP 1.0 section 4.1)")
        if part.content_id in self._content_ids:
            raise MtomError("two parts have the same Content-ID")
        self._content_ids.add(part.content_id)


def _check_encoding(part: PartStart) -> None:
    if part.headers.get("content-transfer-encoding", "binary").lower() not in ("binary", "8bit", "7bit"):
        raise MtomError("a part's Content-Transfer-Encoding must be binary (XOP 1.0 section 4.1)")


def href(content_id: str) -> str:
    """The `cid:` URL of a Content-ID (RFC 2392)."""
    return "cid:" + (content_id if _UNQUOTED.fullmatch(content_id) else quote(content_id, safe="@"))


def content_id_of(url: str) -> str:
    """The Content-ID that a `cid:` URL names (RFC 2392). Raises `MtomError` for another kind of URL."""
    if url[:4].lower() != "cid:":
        raise MtomError("an xop:Include has a href that is no cid: URL (XOP 1.0 section 3)")
    return unquote(url[4:])


@dataclass(frozen=True, slots=True)
class Attachment:
    """One document to send: Content-ID without brackets, MIME type, exact size in bytes."""

    content_id: str
    content_type: str
    size: int


@dataclass(frozen=True, slots=True)
class _Part(multipart.Part):
    attachment: Attachment | None


def content_type(boundary: str, action: str) -> str:
    """The Content-Type header of an MTOM message (SOAP MTOM section 3.2)."""
    return multipart.content_type(boundary, XOP_TYPE, start=f"<{ROOT_ID}>", start_info=SOAP_TYPE, action=action)


def content_length(root: bytes, attachments: Sequence[Attachment], boundary: str) -> int:
    """The exact size in bytes of the message that `chunks` gives for the same arguments."""
    length, of_type = multipart.content_length(boundary, _parts(root, ())), dict[str, int]()
    for each in attachments:  # which may be thousands, and differ by their Content-IDs
        if each.content_type not in of_type:
            empty = multipart.opening(boundary, _headers("", each.content_type))
            of_type[each.content_type] = len(empty) + len(multipart.CRLF)
        length += of_type[each.content_type] + len(each.content_id.encode()) + each.size
    return length


def chunks(
    root: bytes, attachments: Sequence[Attachment], body: Callable[[Attachment], Iterable[B]], boundary: str
) -> Iterator[bytes | B]:
    """The message, piece by piece; `body(attachment)`, bytes or what stands for them, is called when its turn comes.

    `boundary` must be new and unguessable for each message (a UUID's hex will do): a body that contains it ends too early.
    Raises `MultipartError` when an attachment's bytes are not as many as its size says.
    """

    def bytes_of(part: _Part) -> Iterable[bytes | B]:
        return (root,) if part.attachment is None else body(part.attachment)

    return multipart.chunks(boundary, _parts(root, attachments), bytes_of)


def _parts(root: bytes, attachments: Sequence[Attachment]) -> Iterator[_Part]:
    yield _Part(_headers(ROOT_ID, f'{XOP_TYPE}; charset=UTF-8; type="{SOAP_TYPE}"'), len(root), None)
    for attachment in attachments:
        yield _Part(_headers(attachment.content_id, attachment.content_type), attachment.size, attachment)


def _headers(content_id: str, part_type: str) -> dict[str, str]:
    told = part_type if part_type.isascii() and part_type.isprintable() else "application/octet-stream"  # what no header can say
    return {"Content-Type": told, "Content-Transfer-Encoding": "binary", "Content-ID": f"<{content_id}>"}

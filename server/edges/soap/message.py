"""The request's bytes as they arrive, and the envelope in them: plain SOAP 1.2 or MTOM, whichever the client sends."""

import threading
from collections.abc import Callable, Iterator
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from typing import Final

from lxml import etree
from starlette.requests import Request

from ihe import mtom, soap
from ihe.multipart import MultipartError, PartData, PartEnd, PartStart
from ihe.soap import Envelope, SoapFault
from server.edges.soap.transaction import Attachments
from server.errors import TooLarge, UnsupportedMediaType

_PARTS: Final = 100_000
_PIECE: Final = 1 << 20
_TURN: Final = threading.RLock()


@contextmanager
def in_turn(size: int) -> Iterator[None]:
    """While an envelope of so many bytes is looked at and answered, which takes many times as much memory: large ones are one after the other.

    It is work for the one processor that a process has, so none is late for it. Nothing that a client may be slow with is waited for meanwhile.
    """
    if size < _PIECE:
        yield
    else:
        with _TURN:
            yield


def check(request: Request, limit: int, *, attachments: bool) -> None:
    """What the headers tell of a body before it is read; with `attachments` it may be larger than `limit`.

    SOAP 1.2 part 2 section 7.1.4: raises `UnsupportedMediaType` (415) for what is not SOAP, `TooLarge` (413).
    """
    try:
        form = soap.request_format(request.headers.get("content-type", ""))
    except SoapFault as fault:
        raise UnsupportedMediaType(fault.reason) from None
    if request.headers.get("content-encoding", "identity") != "identity":
        raise UnsupportedMediaType("a compressed body is not taken: send it without Content-Encoding")
    announced = request.headers.get("content-length", "")
    if not (attachments and form.mtom) and announced.isdecimal() and int(announced) > limit:
        raise _too_large(limit)


class Incoming:
    """A message on its way in: `feed` its pieces, then `finish`. Neither raises anything but `SoapFault` and `TooLarge` of its own.

    `opened` is called with the envelope as soon as that is there, how many bytes it has, and whether it came as MTOM. The attachments go to
    what it gives; where that is None, none are wanted: then the whole message may have `limit` bytes, else the envelope alone.
    """

    def __init__(
        self,
        content_type: str,
        limit: int,
        understood: AbstractSet[str],
        opened: Callable[[Envelope, int, bool], Attachments | None],
    ) -> None:
        self._limit, self._understood, self._opened = limit, understood, opened
        self._form = soap.request_format(content_type)
        self._reader: mtom.Reader | None = None
        if self._form.mtom:
            try:
                self._reader = mtom.Reader(content_type, root_limit=limit + _PIECE, part_limit=_PARTS)
            except MultipartError as error:
                raise SoapFault("Sender", str(error)) from None
        self._plain = bytearray()
        self._size = self._root = 0
        self._attachments: Attachments | None = None

    def feed(self, data: bytes) -> None:
        """A piece of at most a few MiB."""
        self._size += len(data)
        if self._reader is None:
            self._plain += data
        else:
            try:
                events = self._reader.feed(data)
            except MultipartError as error:
                raise SoapFault("Sender", str(error)) from None
            for event in events:
                self._take(event)
        if self._attachments is None and self._size > self._limit:
            raise _too_large(self._limit)

    @property
    def size(self) -> int:
        """Bytes of the envelope so far, of one whose attachments nobody takes."""
        return (len(self._plain) or self._root) if self._attachments is None else 0

    def finish(self, data: bytes) -> None:
        """The last piece. Raises `SoapFault` also where the message was cut off."""
        self.feed(data)
        if self._reader is None:
            self._open(bytes(self._plain))
            return
        try:
            self._reader.close()
        except MultipartError as error:
            raise SoapFault("Sender", str(error)) from None

    def hold_to(self, limit: int, size: int) -> None:
        """The envelope, which is there and has `size` bytes, is one that may have `limit`. Raises `TooLarge`."""
        self._limit = limit
        if size > limit:
            raise _too_large(limit)

    def _take(self, event: mtom.Event) -> None:
        if isinstance(event, mtom.Root):
            self._root = len(event.data)
            with in_turn(self._root):
                self._open(event.data)
        elif self._attachments is not None:
            match event:
                case PartStart():
                    self._attachments.begin(event)
                case PartData():
                    self._attachments.take(event.data)
                case PartEnd():
                    self._attachments.end()

    def _open(self, root: bytes) -> None:
        """SOAP 1.2 part 1 section 5.

        The action of the Content-Type is not looked at, though WS-Addressing wants it to be that of the envelope: zeep sends
        `None` there with every WSDL that names no soapAction, as IHE's do, and wsa:Action alone says what is meant.
        """
        if len(root) > self._limit:
            raise _too_large(self._limit)
        found = soap.parse(root, limit=len(root), understood=self._understood)
        soap.require_anonymous(found)
        self._attachments = self._opened(found, len(root), self._form.mtom)


def _too_large(limit: int) -> TooLarge:
    return TooLarge(f"a SOAP envelope may have at most {limit} bytes here: ask for less, or submit fewer documents, at once")


def source(envelope: Envelope) -> bytes:
    """The payload as XML on its own, in UTF-8, for the trail."""
    return etree.tostring(envelope.body, encoding="UTF-8", xml_declaration=False)

"""Calling partners over SOAP 1.2 with WS-Addressing (ITI TF-2 appendix V), MTOM streamed both ways.

A partner's answer that is a fault raises `ihe.soap.SoapFault`; one that never came, or is none, `Unavailable` in words fit for whoever asked.
"""

import collections
import secrets
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Final, Self
from urllib.parse import urlsplit

import httpx2
from lxml.etree import _Element

from ihe import mtom, soap
from ihe.multipart import MultipartError, PartData, PartEnd, PartStart
from server.errors import Unavailable
from server.outbound import unreached
from server.outbound.partners import tls_context
from server.settings import Community, Settings

ENVELOPE_LIMIT: Final = 64 << 20
"""Bytes of an answer's envelope: some thousand whole Document Entries."""
_CONNECT_SECONDS: Final = 10.0

Contents = Callable[[mtom.Attachment], Iterable[bytes]]
"""The bytes of an attachment, when its turn comes."""


@dataclass(frozen=True, slots=True)
class Part:
    """A further part of an answer: its Content-ID without brackets, its type, and its bytes, which are read once and in order."""

    content_id: str
    content_type: str
    chunks: Iterator[bytes] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer whose envelope is there: `body` is its payload; `parts` come as they arrive, none of them held."""

    body: _Element
    parts: Iterator[Part] = field(repr=False)


class SoapClient:
    """One endpoint of a partner. Its connections are kept until `close`; for one thread at a time."""

    def __init__(self, settings: Settings, url: str, *, seconds: float = 60.0, community: Community | None = None) -> None:
        """`seconds` is for each step of an exchange, not for its whole. A `community` may have certificates of its own.

        Raises `SettingsError` for certificates that cannot be used.
        """
        verify = tls_context(settings, url, community) if urlsplit(url).scheme == "https" else True
        timeout = httpx2.Timeout(seconds, connect=min(seconds, _CONNECT_SECONDS))
        self._url = url
        self._web = httpx2.Client(verify=verify, timeout=timeout, follow_redirects=False, trust_env=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Ends the connections."""
        self._web.close()

    def call(self, action: str, body: _Element, *, expect: str) -> _Element:
        """ITI TF-2 appendix V.3: a simple SOAP request; the payload of its answer, whose action has to be `expect`. `body` is moved.

        Raises `SoapFault` and `Unavailable`.
        """
        with self._exchange(action, body, expect, None) as reply:
            return reply.body

    def provide(
        self, action: str, body: _Element, attachments: Sequence[mtom.Attachment], contents: Contents, *, expect: str
    ) -> _Element:
        """ITI TF-2 appendix V.3.6: as `call`, as MTOM with `attachments`, whose `contents` are read while they are sent. Raises as it does."""
        with self._exchange(action, body, expect, (attachments, contents)) as reply:
            return reply.body

    @contextmanager
    def retrieve(self, action: str, body: _Element, *, expect: str) -> Iterator[Reply]:
        """ITI TF-2 appendix V.3.6: an MTOM request without attachments, and its answer while it arrives. Raises as `call` does, its parts too."""
        with self._exchange(action, body, expect, ((), _nothing)) as reply:
            yield reply

    @contextmanager
    def _exchange(
        self, action: str, body: _Element, expect: str, attached: tuple[Sequence[mtom.Attachment], Contents] | None
    ) -> Iterator[Reply]:
        message_id = uuid.uuid4().urn
        root = soap.render_request(action, body, message_id, self._url)
        headers, content = _plain(root, action) if attached is None else _packed(root, action, *attached)
        try:
            with self._web.stream("POST", self._url, headers=headers, content=content) as answer:
                reply = _read(answer)
                envelope = next(reply)
                assert isinstance(envelope, soap.Envelope)
                _check(envelope, message_id, expect, answer.status_code)
                yield Reply(envelope.body, (each for each in reply if isinstance(each, Part)))
        except (httpx2.HTTPError, OSError) as error:
            raise Unavailable(unreached.why(error)) from None
        except MultipartError as error:
            raise Unavailable(f"the partner's answer cannot be read: {error}") from None
        finally:
            self._web.cookies.clear()


def _nothing(attachment: mtom.Attachment) -> Iterable[bytes]:
    return ()


def _plain(root: bytes, action: str) -> tuple[dict[str, str], bytes]:
    return _headers(soap.content_type(action), len(root)), root


def _packed(
    root: bytes, action: str, attachments: Sequence[mtom.Attachment], contents: Contents
) -> tuple[dict[str, str], Iterator[bytes]]:
    boundary = secrets.token_hex(24)
    length = mtom.content_length(root, attachments, boundary)
    return _headers(mtom.content_type(boundary, action), length), mtom.chunks(root, attachments, contents, boundary)


def _headers(content_type: str, length: int) -> dict[str, str]:
    accepted = f"{mtom.SOAP_TYPE}, multipart/related"
    return {"Content-Type": content_type, "Content-Length": str(length), "Accept": accepted, "Accept-Encoding": "identity"}


def _read(answer: httpx2.Response) -> Iterator[soap.Envelope | Part]:
    """The envelope, then each further part. Of a part that its reader leaves, the rest is passed over."""
    content_type = answer.headers.get("content-type", "")
    try:
        packed = soap.request_format(content_type).mtom
    except soap.SoapFault:
        raise Unavailable(f"the partner's server answered with HTTP {answer.status_code} and no SOAP message") from None
    if not packed:
        yield soap.parse(_whole(answer), limit=ENVELOPE_LIMIT)
        return
    events = _events(answer, mtom.Reader(content_type, root_limit=ENVELOPE_LIMIT))
    for event in events:
        if isinstance(event, mtom.Root):
            yield soap.parse(event.data, limit=ENVELOPE_LIMIT)
        elif isinstance(event, PartStart):
            chunks = _chunks(events)
            yield Part(event.content_id, event.content_type, chunks)
            collections.deque(chunks, maxlen=0)


def _events(answer: httpx2.Response, reader: mtom.Reader) -> Iterator[mtom.Event]:
    for data in answer.iter_bytes():
        yield from reader.feed(data)
    reader.close()


def _chunks(events: Iterator[mtom.Event]) -> Iterator[bytes]:
    for event in events:
        if isinstance(event, PartEnd):
            return
        if isinstance(event, PartData):
            yield bytes(event.data)
    raise MultipartError("the answer ends in the middle of a part")


def _whole(answer: httpx2.Response) -> bytes:
    found = bytearray()
    for data in answer.iter_bytes():
        found += data
        if len(found) > ENVELOPE_LIMIT:
            raise MultipartError(f"its envelope has more than {ENVELOPE_LIMIT} bytes")
    return bytes(found)


_ALSO: Final = {"urn:ihe:iti:2007:RetrieveDocumentSetResponse": "urn:ihe:rad:2009:RetrieveImagingDocumentSetResponse"}
"""What sources of images in the field answer RAD-69 with, where the standard has the action of ITI-43 (RAD TF-2 section 4.69.4.2.2)."""


def _check(envelope: soap.Envelope, message_id: str, expect: str, status: int) -> None:
    """WS-Addressing 1.0 core section 3.4: an answer relates to its request. Raises the `SoapFault` that it is, or `Unavailable`.

    An answer that names no message is taken, as several servers in the field leave that header out.
    """
    soap.response_of(envelope)
    if status != httpx2.codes.OK:
        raise Unavailable(f"the partner's server answered with HTTP {status}")
    if envelope.relates_to not in ("", message_id):
        raise Unavailable("the partner's answer is one to another message (wsa:RelatesTo)")
    if envelope.action not in (expect, _ALSO.get(expect)):
        raise Unavailable("the partner's answer has a wsa:Action that does not belong to the request")

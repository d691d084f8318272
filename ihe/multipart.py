"""multipart bodies, streaming both ways (RFC 2046 section 5.1, RFC 2387).

Reading: `Splitter` takes bytes as they arrive and gives events; it holds back no more than a possible piece of the next
boundary. Writing: `chunks` and `content_length` from the same parts, so the length is known before the first byte.
MTOM (`ihe.mtom`) and DICOMweb (STOW-RS in, WADO-RS out) both stand on this module.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from dataclasses import dataclass
from email.message import Message
from email.utils import collapse_rfc2231_value
from typing import Final, TypeVar

CRLF: Final = b"\r\n"
LF: Final = b"\n"

# RFC 2046 allows 70 characters; Orthanc sends 73 with STOW-RS.
_BOUNDARY = re.compile(r"[0-9A-Za-z'()+_,\-./:=? ]{0,199}[0-9A-Za-z'()+_,\-./:=?]")
_HEADER_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_PREAMBLE_LIMIT = 65_536
_BOUNDARY_LINE_LIMIT = 1_024


class MultipartError(ValueError):
    """A body or Content-Type that breaks RFC 2046, or a limit. The message names the rule and never repeats content."""


@dataclass(frozen=True, slots=True)
class MediaType:
    """A Content-Type value: `type` in lower case (`multipart/related`), parameter names in lower case, values unquoted."""

    type: str
    parameters: Mapping[str, str]


def media_type(content_type: str) -> MediaType:
    """Parses a Content-Type header value (RFC 9110 section 8.3). Unquoted values with a slash are accepted."""
    message = Message()
    message["Content-Type"] = content_type.replace("\r", " ").replace("\n", " ")
    parameters: dict[str, str] = {}
    for name, value in message.get_params(failobj=[])[1:]:
        parameters.setdefault(name.lower(), collapse_rfc2231_value(value))
    return MediaType(content_type.split(";", 1)[0].strip().lower(), parameters)


def boundary_of(content_type: str) -> bytes:
    """The boundary of a `multipart/*` Content-Type. Raises `MultipartError` where there is none, or a wrong one."""
    parsed = media_type(content_type)
    if not parsed.type.startswith("multipart/"):
        raise MultipartError("the Content-Type must be multipart/related")
    boundary = parsed.parameters.get("boundary", "")
    if not boundary:
        raise MultipartError("the Content-Type has no boundary parameter (RFC 2046 section 5.1.1)")
    if not _BOUNDARY.fullmatch(boundary):
        raise MultipartError("the boundary must be of the characters that RFC 2046 section 5.1.1 allows, and not too long")
    return boundary.encode("ascii")


@dataclass(frozen=True, slots=True)
class PartStart:
    """A part begins. `headers` have lower-case names; folded lines are joined."""

    headers: Mapping[str, str]

    @property
    def content_type(self) -> str:
        """The Content-Type as sent; empty if the part has none."""
        return self.headers.get("content-type", "")

    @property
    def content_id(self) -> str:
        """The Content-ID without its angle brackets; empty if the part has none."""
        return self.headers.get("content-id", "").removeprefix("<").removesuffix(">")


@dataclass(frozen=True, slots=True)
class PartData:
    """Bytes of the current part: a view on what was fed, valid as long as it is kept. Never empty."""

    data: memoryview


@dataclass(frozen=True, slots=True)
class PartEnd:
    """The current part is complete."""


@dataclass(frozen=True, slots=True)
class End:
    """The closing boundary was read; what follows (the epilogue) is ignored."""


Event = PartStart | PartData | PartEnd | End


class Splitter:
    """Push parser of one multipart body: `feed` what arrives, then `close`.

    Every part gives PartStart, any number of PartData, PartEnd; the closing boundary gives End. Limits: `header_limit`
    bytes of headers per part, `part_limit` parts. Part sizes are the caller's to limit. Raises `MultipartError`.

    A body whose first boundary line ends with a bare LF is taken as one that has LF wherever RFC 2046 asks for CRLF: some senders make
    their messages of text files. In any other body LF is content.
    """

    def __init__(self, boundary: bytes, *, header_limit: int = 16_384, part_limit: int = 100_000) -> None:
        # Until the first boundary line has ended, and shown how lines end here
        self._break = LF
        self._is_settled = False
        self._delimiter = LF + b"--" + boundary
        self._header_limit = header_limit
        self._part_limit = part_limit
        self._parts = 0
        self._preamble_size = 0
        # The first boundary may stand at the very start, where no line break precedes it.
        self._kept: bytes = LF
        # Bytes at the start of the body search that belong to the header block: see `_headers`.
        self._skip = 0
        self._in_part = False
        self.ended = False
        self._step: Callable[[bytes, int, list[Event]], int] = self._preamble

    def feed(self, data: bytes) -> list[Event]:
        """The events that `data` completes, in order. Bytes after the closing boundary are ignored."""
        if self.ended:
            return []
        if self._kept:
            data = self._kept + data
            self._kept = b""
        events: list[Event] = []
        at = 0
        while at >= 0 and not self.ended:
            at = self._step(data, at, events)
        return events

    def close(self) -> None:
        """Says that no more bytes come. Raises `MultipartError` if the closing boundary is missing."""
        if not self.ended:
            raise MultipartError("the multipart body ends before its closing boundary: the message was cut off")

    # Each step takes the data and where to start, and returns where the next step starts, or -1 when it needs more bytes.

    def _preamble(self, data: bytes, at: int, events: list[Event]) -> int:
        found = data.find(self._delimiter, at)
        if found < 0:
            safe = self._safe_end(data, at)
            self._preamble_size += safe - at
            if self._preamble_size > _PREAMBLE_LIMIT:
                raise MultipartError("the body does not contain the boundary that its Content-Type names")
            return self._wait(data, safe)
        self._step = self._boundary_line
        return found + len(self._delimiter)

    def _boundary_line(self, data: bytes, at: int, events: list[Event]) -> int:
        if data.startswith(b"--", at):
            self.ended = True
            self._finish_part(events)
            events.append(End())
            return -1
        if not self._is_settled:
            self._settle(data, at)
        end = data.find(self._break, at) if self._is_settled else -1
        if end < 0:
            if len(data) - at > _BOUNDARY_LINE_LIMIT:
                raise MultipartError("a boundary line does not end (RFC 2046 section 5.1.1)")
            return self._wait(data, at)
        if data[at:end].strip(b" \t"):
            raise MultipartError("a boundary is followed by other text on its line (RFC 2046 section 5.1.1)")
        self._finish_part(events)
        self._parts += 1
        if self._parts > self._part_limit:
            raise MultipartError(f"the body has more than {self._part_limit} parts")
        self._step = self._headers
        return end

    def _settle(self, data: bytes, at: int) -> None:
        """Looks how the first boundary line ends, once its end is there."""
        end = data.find(LF, at)
        if end >= 0:
            self._is_settled = True
            if data[at:end].endswith(b"\r"):
                self._break = CRLF
                self._delimiter = b"\r" + self._delimiter

    def _headers(self, data: bytes, at: int, events: list[Event]) -> int:
        # `at` is at the line break that ended the boundary line, so a part without headers is found the same way.
        end = data.find(self._break * 2, at)
        if (end if end >= 0 else len(data)) - at > self._header_limit:
            raise MultipartError(f"a part has more than {self._header_limit} bytes of headers")
        if end < 0:
            return self._wait(data, at)
        events.append(PartStart(_parse_headers(data[at:end].replace(self._break, CRLF))))
        self._in_part = True
        # The last line break of the headers may at once be the first of the next delimiter: a part without a body.
        self._skip = len(self._break)
        self._step = self._body
        return end + len(self._break)

    def _body(self, data: bytes, at: int, events: list[Event]) -> int:
        found = data.find(self._delimiter, at)
        end = found if found >= 0 else self._safe_end(data, at)
        start = at + self._skip
        if end > start:
            events.append(PartData(memoryview(data)[start:end]))
        if found < 0:
            self._skip = max(0, start - end)
            return self._wait(data, end)
        self._step = self._boundary_line
        return found + len(self._delimiter)

    def _safe_end(self, data: bytes, at: int) -> int:
        """Where the bytes end that cannot be the beginning of a delimiter. It starts with the only byte of this kind that it has."""
        last = data.rfind(self._delimiter[:1], max(at, len(data) - len(self._delimiter) + 1))
        return last if last >= 0 and self._delimiter.startswith(data[last:]) else len(data)

    def _wait(self, data: bytes, at: int) -> int:
        self._kept = data[at:]
        return -1

    def _finish_part(self, events: list[Event]) -> None:
        if self._in_part:
            self._in_part = False
            events.append(PartEnd())


def _parse_headers(block: bytes) -> dict[str, str]:
    headers: dict[str, str] = {}
    unfolded = re.sub(r"\r\n[ \t]+", " ", block.decode("latin-1"))
    for line in unfolded.split("\r\n"):
        if not line:
            continue
        name, colon, value = line.partition(":")
        if not colon or not _HEADER_NAME.fullmatch(name.rstrip()):
            raise MultipartError("a part has a header line that is not `name: value` (RFC 2046 section 5.1)")
        headers.setdefault(name.rstrip().lower(), value.strip())
    return headers


@dataclass(frozen=True, slots=True)
class Part:
    """One part to write: its headers, and its exact size in bytes."""

    headers: Mapping[str, str]
    size: int


P = TypeVar("P", bound=Part)
B = TypeVar("B", bound=Sized)


def opening(boundary: str, headers: Mapping[str, str]) -> bytes:
    """The boundary line and headers that go before a part's bytes; after them goes `CRLF`."""
    lines = [f"--{boundary}", *(f"{name}: {value}" for name, value in headers.items())]
    written, breaks = "\r\n".join([*lines, "", ""]), len(lines) + 1
    if written.count("\r") != breaks or written.count("\n") != breaks:
        raise MultipartError("a part's header must not contain a line break")
    return written.encode("utf-8")


def closing(boundary: str) -> bytes:
    """The closing boundary line, after the last part's `CRLF`."""
    return f"--{boundary}--\r\n".encode("ascii")


def content_length(boundary: str, parts: Iterable[Part]) -> int:
    """The exact size in bytes of what `chunks` gives for the same parts."""
    return sum(len(opening(boundary, part.headers)) + part.size + len(CRLF) for part in parts) + len(closing(boundary))


def chunks(boundary: str, parts: Iterable[P], body: Callable[[P], Iterable[B]]) -> Iterator[bytes | B]:
    """The multipart body, piece by piece; `body(part)` gives a part's bytes, or what stands for them, and is called when its turn comes.

    Raises `MultipartError` when a part's bytes are not as many as its size says: the length was already promised.
    """
    for part in parts:
        yield opening(boundary, part.headers)
        sent = 0
        for piece in body(part):
            sent += len(piece)
            if sent > part.size:
                break
            yield piece
        if sent != part.size:
            raise MultipartError(f"a part of {part.size} bytes gave {'more' if sent > part.size else sent} bytes")
        yield CRLF
    yield closing(boundary)


def content_type(boundary: str, part_type: str, **parameters: str) -> str:
    """The Content-Type of a multipart/related answer: `type`, `boundary`, then `parameters` (`start_info` as `start-info`)."""
    given = {"type": part_type, "boundary": boundary} | {name.replace("_", "-"): value for name, value in parameters.items()}
    return "; ".join(["multipart/related", *(f'{name}="{value}"' for name, value in given.items())])

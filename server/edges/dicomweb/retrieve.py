"""WADO-RS (PS3.18 section 10.4; IHE RAD-107): instances and frames, as they were stored or transcoded.

`server.edges.dicomweb.accept` has the rule of which transfer syntax is acceptable; each part's header names the one it is in. What is
sent as stored has a length that is known before the first byte; what is transcoded often has not.
"""

import re
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from ihe import multipart
from profiles.audit_event import RAD_107
from profiles.frames import FrameTable, media_type
from profiles.vocabulary import DEFLATED_TRANSFER_SYNTAXES, EXPLICIT_VR_LITTLE_ENDIAN, OCTET_STREAM
from server.edges import context
from server.edges.bodies import Piece, PiecesResponse, read
from server.edges.dicomweb import accept, targets
from server.edges.dicomweb.accept import Form
from server.edges.dicomweb.answers import answering
from server.errors import MalformedQuery, NotAcceptable, NotFound, TooLarge, Unavailable
from server.records import catalogue
from server.records.catalogue import StoredInstance
from server.store.blobs import Ahead, Extent
from server.work import transcode
from server.work.retrieve import frame, part10, part10_pieces

_FRAME_LIST = re.compile(r"[1-9]\d{0,9}(,[1-9]\d{0,9})*", re.ASCII)
_MOST_FRAMES = 100_000
_AT_ONCE = 2 << 20


@answering("read", RAD_107)
def instances(request: Request) -> Response:
    """PS3.18 section 10.4.1.1.1: all instances of a study or series, or one."""
    node = context.node(request)
    with context.reading(request) as connection:
        target = targets.located(request, connection, taking=True)
    single = "instance" in request.path_params
    form = accept.instances(request, ((each.transfer_syntax, each.frames > 0) for each in target.instances), single=single)
    syntaxes = [form.syntax_for(each.transfer_syntax, pixels=each.frames > 0) for each in target.instances]
    parts = [
        _InstancePart(
            _instance_headers(request, each, syntax or each.transfer_syntax), each.size, each, syntax or each.transfer_syntax
        )
        for each, syntax in zip(target.instances, syntaxes, strict=True)
    ]
    if all(part.syntax == part.instance.transfer_syntax for part in parts):
        targets.told(request, target)
        ahead = Ahead(node.blobs, [part.instance.blob_id for part in parts])

        def pieces_of(part: _InstancePart) -> Iterator[bytes | Extent]:
            ahead.step()
            return part10_pieces(node.blobs, part.instance)

        return answer(request, form, parts, pieces_of)
    if not form.multipart:
        length, pieces = transcode.transcoded(node.blobs, parts[0].instance, parts[0].syntax)
        targets.told(request, target)
        return _unmeasured(request, pieces, parts[0].headers, length)
    targets.told(request, target)
    boundary = secrets.token_hex(16)
    headers = {"Content-Type": multipart.content_type(boundary, form.type)}
    return _unmeasured(request, _each_transcoded(request, boundary, parts), headers)


def _instance_headers(request: Request, instance: StoredInstance, syntax: str) -> dict[str, str]:
    return {
        "Content-Type": f"{accept.DICOM}; transfer-syntax={syntax}",
        "Content-Location": targets.url(request, instance),
    }


def _each_transcoded(request: Request, boundary: str, parts: "list[_InstancePart]") -> Iterator[bytes]:
    """A multipart body. What turns out not to be decodable is sent as stored, and its header says so: the others are not lost for it."""
    blobs = context.node(request).blobs
    for part in parts:
        headers = part.headers
        try:
            _, pieces = transcode.transcoded(blobs, part.instance, part.syntax)
        except (NotAcceptable, TooLarge, Unavailable):
            headers = _instance_headers(request, part.instance, part.instance.transfer_syntax)
            pieces = part10(blobs, part.instance)
        yield multipart.opening(boundary, headers)
        yield from pieces
        yield multipart.CRLF
    yield multipart.closing(boundary)


@answering("read", RAD_107)
def frames(request: Request) -> Response:
    """PS3.18 section 10.4.1.1.6: frames by number, from 1, each in the media type of its transfer syntax (section 8.7.3)."""
    node = context.node(request)
    numbers = frame_numbers(request)
    with context.reading(request) as connection:
        target = targets.located(request, connection)
        (instance,) = target.instances
        stored = catalogue.frame_table(connection, instance.pk)
    table = FrameTable.from_bytes(stored) if stored is not None else None
    if table is None and instance.transfer_syntax not in DEFLATED_TRANSFER_SYNTAXES:
        raise NotFound("this instance has no frames that can be retrieved one by one")
    count = table.count if table is not None else instance.frames
    if max(numbers) > count:
        raise NotFound(f"this instance has frames 1 to {count}")
    form = _frame_form(request, instance, table, single=len(numbers) == 1)
    if table is not None and form.syntax == _label(instance, table):
        parts = frame_parts(request, instance, table, numbers, form)
        targets.told(request, target)
        return answer(request, form, parts, lambda part: frame(node.blobs, instance, table, part.number))
    length, made = transcode.frames_of(node.blobs, instance, numbers, form.syntax)
    targets.told(request, target)
    return _transcoded_frames(request, form, instance, numbers, length, made)


def _transcoded_frames(
    request: Request, form: Form, instance: StoredInstance, numbers: list[int], length: int | None, made: Iterator[bytes]
) -> Response:
    headers = [_frame_headers(request, instance, form, number) for number in numbers]
    if not form.multipart:
        body = next(made)
        return _unmeasured(request, [body], headers[0], len(body))
    boundary = secrets.token_hex(16)

    def body_parts() -> Iterator[bytes]:
        for part, data in zip(headers, made, strict=True):
            yield multipart.opening(boundary, part) + data + multipart.CRLF
        yield multipart.closing(boundary)

    sizes = [multipart.Part(part, length) for part in headers] if length is not None else []
    known = multipart.content_length(boundary, sizes) if sizes else None
    return _unmeasured(request, body_parts(), {"Content-Type": multipart.content_type(boundary, form.type)}, known)


def frame_numbers(request: Request) -> list[int]:
    """PS3.18 section 10.4.1.1.6: a list of frame numbers, joined by commas. Raises `MalformedQuery`."""
    text = request.path_params["frames"]
    if not _FRAME_LIST.fullmatch(text):
        raise MalformedQuery("frames are numbers from 1, joined by commas (PS3.18 section 10.4.1.1.6)")
    numbers = [int(number) for number in text.split(",")]
    if len(numbers) > _MOST_FRAMES:
        raise MalformedQuery(f"at most {_MOST_FRAMES} frames can be asked for at once")
    return numbers


@dataclass(frozen=True, slots=True)
class _InstancePart(multipart.Part):
    instance: StoredInstance
    syntax: str


@dataclass(frozen=True, slots=True)
class FramePart(multipart.Part):
    """A frame to send, by number."""

    number: int


def _label(instance: StoredInstance, table: FrameTable | None) -> str:
    """The transfer syntax that stored frames are labelled with; that of deflated ones is what they are once inflated."""
    if table is None:
        return EXPLICIT_VR_LITTLE_ENDIAN
    return instance.transfer_syntax if table.encapsulated else accept.native(instance.transfer_syntax)


def _frame_form(request: Request, instance: StoredInstance, table: FrameTable | None, *, single: bool) -> Form:
    stored_type = media_type(instance.transfer_syntax) if table is not None and table.encapsulated else OCTET_STREAM
    return accept.frames(request, stored_type, _label(instance, table), single=single)


def _frame_headers(request: Request, instance: StoredInstance, form: Form, number: int) -> dict[str, str]:
    return {
        "Content-Type": f"{form.type}; transfer-syntax={form.syntax}",
        "Content-Location": f"{targets.url(request, instance)}/frames/{number}",
    }


def frame_parts(request: Request, instance: StoredInstance, table: FrameTable, numbers: list[int], form: Form) -> list[FramePart]:
    """The parts of an answer with these frames as they are stored."""
    return [
        FramePart(_frame_headers(request, instance, form, number), sum(length for _, length in table.ranges(number)), number)
        for number in numbers
    ]


def stored_frames(request: Request, instance: StoredInstance, table: FrameTable) -> tuple[Form, list[FramePart]]:
    """All frames as they are stored, in the form that the client takes. Raises `NotAcceptable`."""
    single = table.count == 1
    form = accept.frames(request, media_type(instance.transfer_syntax), _label(instance, table), single=single, transcodes=False)
    return form, frame_parts(request, instance, table, list(range(1, table.count + 1)), form)


def answer(request: Request, form: Form, parts: list[multipart.P], body: Callable[[multipart.P], Iterator[Piece]]) -> Response:
    """An answer of exactly known length: the parts as multipart/related, or the only one by itself. Long ones are streamed."""
    if not form.multipart:
        (part,) = parts
        return _measured(request, body(part), part.headers, part.size)
    boundary = secrets.token_hex(16)
    headers = {"Content-Type": multipart.content_type(boundary, form.type)}
    return _measured(request, multipart.chunks(boundary, parts, body), headers, multipart.content_length(boundary, parts))


def _measured(request: Request, pieces: Iterator[Piece], headers: Mapping[str, str], length: int) -> Response:
    """An answer of stored bytes. A HEAD opens none; a short one is read at once, so that what cannot be read is still an error of its own."""
    told = {**headers, "Content-Length": str(length)}
    if request.method == "HEAD":
        return Response(headers=told)
    if length <= _AT_ONCE:
        return Response(b"".join(read(pieces)), headers=told)
    return PiecesResponse(pieces, headers=told)


def _unmeasured(request: Request, pieces: Iterable[bytes], headers: Mapping[str, str], length: int | None = None) -> Response:
    """An answer in pieces. A HEAD reads none; a short one is sent at once, without a change of thread for each piece."""
    told = dict(headers) if length is None else {**headers, "Content-Length": str(length)}
    if request.method == "HEAD":
        return Response(headers=told)
    if length is not None and length <= _AT_ONCE:
        return Response(b"".join(pieces), headers=told)
    return StreamingResponse(context.together(pieces), headers=told)

"""WADO-RS (PS3.18 section 10.4; IHE RAD-107): instances and frames, byte by byte as they were stored.

`server.edges.dicomweb.accept` has the rule of which transfer syntax is acceptable; each part's header names the one it is in.
"""

import re
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from ihe import multipart
from profiles.audit_event import RAD_107
from profiles.frames import FrameTable, media_type
from profiles.vocabulary import OCTET_STREAM
from server.edges import context
from server.edges.dicomweb import accept, targets
from server.edges.dicomweb.accept import Form
from server.edges.dicomweb.answers import answering
from server.errors import MalformedQuery, NotFound
from server.records.catalogue import StoredInstance
from server.work.retrieve import frame, frame_table, part10

_FRAME_LIST = re.compile(r"[1-9]\d{0,9}(,[1-9]\d{0,9})*", re.ASCII)
_MOST_FRAMES = 100_000


@answering("read", RAD_107)
def instances(request: Request) -> Response:
    """PS3.18 section 10.4.1.1.1: all instances of a study or series, or one."""
    node = context.node(request)
    with node.database.read() as connection:
        target = targets.located(request, connection)
    single = "instance" in request.path_params
    form = accept.instances(request, (instance.transfer_syntax for instance in target.instances), single=single)
    targets.told(request, target)
    parts = [
        _InstancePart(
            {
                "Content-Type": f"{accept.DICOM}; transfer-syntax={each.transfer_syntax}",
                "Content-Location": targets.url(request, each),
            },
            each.size,
            each,
        )
        for each in target.instances
    ]
    return answer(form, parts, lambda part: part10(node.blobs, part.instance))


@answering("read", RAD_107)
def frames(request: Request) -> Response:
    """PS3.18 section 10.4.1.1.6: frames by number, from 1, each in the media type of its transfer syntax (section 8.7.3)."""
    node = context.node(request)
    numbers = frame_numbers(request)
    with node.database.read() as connection:
        target = targets.located(request, connection)
        (instance,) = target.instances
        table = frame_table(connection, instance)
    for number in numbers:
        if number > table.count:
            raise NotFound(f"this instance has frames 1 to {table.count}")
    form, parts = frame_parts(request, instance, table, numbers)
    targets.told(request, target)
    return answer(form, parts, lambda part: frame(node.blobs, instance, table, part.number))


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


@dataclass(frozen=True, slots=True)
class FramePart(multipart.Part):
    """A frame to send, by number."""

    number: int


def frame_parts(
    request: Request, instance: StoredInstance, table: FrameTable, numbers: list[int]
) -> tuple[Form, list[FramePart]]:
    """The parts of an answer with these frames, in the form that the client takes. Raises `NotAcceptable`."""
    stored_type = media_type(instance.transfer_syntax) if table.encapsulated else OCTET_STREAM
    syntax = instance.transfer_syntax if table.encapsulated else accept.native(instance.transfer_syntax)
    form = accept.frames(request, stored_type, syntax, single=len(numbers) == 1)
    url = targets.url(request, instance)
    return form, [
        FramePart(
            {"Content-Type": f"{form.type}; transfer-syntax={syntax}", "Content-Location": f"{url}/frames/{number}"},
            sum(length for _, length in table.ranges(number)),
            number,
        )
        for number in numbers
    ]


def answer(form: Form, parts: list[multipart.P], body: Callable[[multipart.P], Iterator[bytes]]) -> Response:
    """A streamed answer of exactly known length: the parts as multipart/related, or the only one by itself."""
    if not form.multipart:
        (part,) = parts
        headers = {**part.headers, "Content-Length": str(part.size)}
        return StreamingResponse(context.together(body(part)), headers=headers)
    boundary = secrets.token_hex(16)
    return StreamingResponse(
        context.together(multipart.chunks(boundary, parts, body)),
        headers={
            "Content-Type": multipart.content_type(boundary, form.type),
            "Content-Length": str(multipart.content_length(boundary, parts)),
        },
    )

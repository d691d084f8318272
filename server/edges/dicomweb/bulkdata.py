"""WADO-RS bulk data (PS3.18 section 10.4.1.1.5): single values of an instance, under the URIs that its metadata gives."""

import contextlib
import hashlib
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from starlette.requests import Request
from starlette.responses import Response

from ihe import multipart
from profiles import part10
from profiles.audit_event import RAD_107
from profiles.vocabulary import DEFLATED_TRANSFER_SYNTAXES, OCTET_STREAM
from server.edges import context
from server.edges.bodies import Piece
from server.edges.dicomweb import accept, targets
from server.edges.dicomweb.accept import Form
from server.edges.dicomweb.answers import answering, problem
from server.edges.dicomweb.retrieve import answer, stored_frames
from server.edges.dicomweb.targets import Target
from server.errors import MalformedQuery, NotFound, Refused
from server.records.catalogue import StoredInstance
from server.store.blobs import CHUNK, BlobStore
from server.work.retrieve import frame, frame_table

_PATH = re.compile(r"[0-9A-F]{8}(/[1-9]\d{0,8}/[0-9A-F]{8})*", re.ASCII)
_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})", re.ASCII)
_PIXEL_DATA = "7FE00010"
_UNDEFINED = 0xFFFFFFFF


@answering("read", RAD_107)
def bulkdata(request: Request) -> Response:
    """PS3.18 section 10.4.1.1.5: one value by the path of its attribute; encapsulated pixels are answered frame by frame."""
    node = context.node(request)
    path: str = request.path_params["path"]
    if not _PATH.fullmatch(path):
        raise MalformedQuery("a bulk data URI ends as the metadata has it: a tag, in sequences after tag/item/")
    with context.reading(request) as connection:
        target = targets.located(request, connection)
        (instance,) = target.instances
        value = _value(node.blobs, instance, path)
        table = frame_table(connection, instance) if value is None else None
    if table is not None:
        form, parts = stored_frames(request, instance, table)
        targets.told(request, target)
        return answer(request, form, parts, lambda part: frame(node.blobs, instance, table, part.number))
    assert value is not None
    form = accept.frames(request, OCTET_STREAM, accept.native(instance.transfer_syntax), single=True, transcodes=False)
    location = f"{targets.url(request, instance)}/bulkdata/{path}"
    headers = {"Content-Type": OCTET_STREAM, "Content-Location": location}
    if form.multipart:
        targets.told(request, target)
        return answer(request, form, [multipart.Part(headers, value.length)], lambda _: value.pieces(node.blobs, instance))
    return _ranged(request, target, value, headers)


def _ranged(request: Request, target: Target, value: "_Value", headers: dict[str, str]) -> Response:
    """RFC 9110 sections 13 and 14: one value, or one range of it. Bytes are written once, so their place is what the ETag needs."""
    (instance,) = target.instances
    named = f"{instance.blob_id}/{request.path_params['path']}"
    etag = f'"{hashlib.sha256(named.encode()).hexdigest()[:32]}"'
    headers |= {"ETag": etag, "Cache-Control": "private, no-cache", "Vary": "Accept, Authorization", "Accept-Ranges": "bytes"}
    if etag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    blobs, form = context.node(request).blobs, Form(multipart=False, type=OCTET_STREAM)
    found = _RANGE.fullmatch(request.headers.get("range", "").strip())
    if request.method != "GET" or found is None or request.headers.get("if-range", etag) != etag or not any(found.groups()):
        targets.told(request, target)
        return answer(request, form, [multipart.Part(headers, value.length)], lambda _: value.pieces(blobs, instance))
    start, end = _bounds(found, value.length)
    if start >= end:
        response = problem(request, 416, f"the value has {value.length} bytes (RFC 9110 section 15.5.17)", Refused.number)
        response.headers["Content-Range"] = f"bytes */{value.length}"
        return response
    targets.told(request, target)
    headers["Content-Range"] = f"bytes {start}-{end - 1}/{value.length}"
    part = value.part(start, end - start)
    response = answer(request, form, [multipart.Part(headers, part.length)], lambda _: part.pieces(blobs, instance))
    response.status_code = 206
    return response


def _bounds(found: re.Match[str], length: int) -> tuple[int, int]:
    """RFC 9110 section 14.1.2: where a range starts and ends; it ends before it starts where there is no such."""
    first, last = found.groups()
    if not first:
        return (max(0, length - int(last)), length) if int(last) else (length, length)
    return int(first), min(int(last) + 1, length) if last else length


@dataclass(frozen=True, slots=True)
class _Value:
    """A value that is in the header already (`data`), or `length` bytes from `offset` in the file, inflated where it is deflated."""

    data: bytes | None
    offset: int
    length: int

    def part(self, start: int, length: int) -> "_Value":
        if self.data is not None:
            return _Value(self.data[start : start + length], 0, length)
        return _Value(None, self.offset + start, length)

    def pieces(self, blobs: BlobStore, instance: StoredInstance) -> Iterator[Piece]:
        if self.data is not None:
            return (piece for piece in (self.data,))
        if instance.transfer_syntax in DEFLATED_TRANSFER_SYNTAXES:
            return _inflated(blobs.stream(instance.blob_id, instance.dataset_offset), self.offset, self.length)
        return blobs.extent(instance.blob_id, self.offset, self.length)


def _value(blobs: BlobStore, instance: StoredInstance, path: str) -> _Value | None:
    """Where the value is; None for encapsulated pixels. Raises `NotFound`."""
    with contextlib.closing(blobs.open(instance.blob_id)) as file:
        parsed = part10.parse(file)
    if path == _PIXEL_DATA and parsed.pixels is not None and parsed.pixels.fragments is not None:
        return None
    *steps, last = path.split("/")
    dataset = parsed.dataset
    for tag, number in zip(steps[::2], steps[1::2], strict=True):
        dataset = _item(dataset, int(tag, 16), int(number))
    element = part10.stored(dataset, int(last, 16))
    if not isinstance(element, RawDataElement) or element.length == _UNDEFINED:
        raise NotFound("this instance has no bulk data of this name")
    if isinstance(element.value, bytes):
        return _Value(element.value, 0, len(element.value))
    return _Value(None, element.value_tell, element.length)


def _item(dataset: Dataset, tag: int, number: int) -> Dataset:
    element = part10.stored(dataset, tag)
    items = element.value if element is not None and element.VR == "SQ" else None
    found = items[number - 1] if isinstance(items, Sequence) and number <= len(items) else None
    if not isinstance(found, Dataset):
        raise NotFound("this instance has no bulk data of this name")
    return found


def _inflated(pieces: Iterator[bytes], offset: int, length: int) -> Iterator[bytes]:
    """`length` bytes from `offset` of a deflated data set (PS3.5 section A.5), a piece at a time."""
    inflate, skip, left = zlib.decompressobj(-zlib.MAX_WBITS), offset, length
    for piece in pieces:
        while piece and left and not inflate.eof:
            data = inflate.decompress(piece, CHUNK)
            piece = inflate.unconsumed_tail
            kept = data[skip : skip + left]
            skip = max(0, skip - len(data))
            left -= len(kept)
            if kept:
                yield kept

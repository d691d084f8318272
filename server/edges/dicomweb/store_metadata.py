"""Store requests of metadata with bulk data apart (PS3.18 sections 8.6.1.2 and 10.5.2), made into PS3.10 instances.

All parts go to one spool file first, in whatever order they come; then each model object is written as an instance, with its
bulk data copied from the spool. A part of bulk data belongs to one attribute of one instance, so that what is written is never
more than what was sent.
"""

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import BinaryIO, Final

import orjson

from ihe.multipart import PartStart, media_type
from profiles import code_stream, dicom_xml
from profiles.code_stream import CodeStream
from profiles.data_set_writer import Bulk, Extent, ModelError, encode, part10_head
from profiles.frames import media_type as frame_type
from profiles.identifiers import InvalidIdentifier, lenient_uid
from profiles.vocabulary import DICOM_JSON, DICOM_XML, EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN, OCTET_STREAM
from server.edges.dicomweb.store_intake import Intake, Parts
from server.edges.dicomweb.store_response import Failure
from server.errors import ImageShareError, MalformedInstance, StorageFull, TooLarge, UnsupportedMediaType
from server.store.blobs import CHUNK, Writer
from server.work.ingest import Announced, Batch

METADATA: Final = frozenset({DICOM_JSON, "application/json", DICOM_XML})
_LARGEST = 32 << 20
_MOST_MARKS = 2_000_000
_MARKS = ((b"{", b"[", b","), (b"<", b"="))  # of JSON, of XML: there are no more objects than these
_MOST_PARTS = 100_000
_LONGEST_URI = 1024
_PIXEL_DATA = "7FE00010"

Attributes = dict[str, object]


@dataclass(slots=True)
class _Values:
    """The parts of one Content-Location: one value, or one frame each."""

    type: str
    syntax: str
    extents: list[Extent] = field(default_factory=list)
    used: bool = False


@dataclass(slots=True)
class _Part:
    """The part that is open: where it begins in the spool, and what it is."""

    type: str
    syntax: str
    location: str
    offset: int


class MetadataIntake(Intake):
    """Model objects and bulk data into a spool, and from there into instances."""

    def __init__(self, batch: Batch, parts: Parts, announced: Announced) -> None:
        super().__init__(batch, parts, announced)
        self._spool: Writer | None = None
        self._part: _Part | None = None
        self._count = 0
        self._models: list[tuple[str, Extent]] = []
        self._values: dict[str, _Values] = {}

    def begin(self, part: PartStart) -> None:
        """Raises what makes the whole request impossible: too many parts, no room."""
        self._count += 1
        if self._count > _MOST_PARTS:
            raise self._impossible(TooLarge(f"a store request may have at most {_MOST_PARTS} parts of metadata and bulk data"))
        parsed = media_type(part.content_type or OCTET_STREAM)
        location = part.headers.get("content-location", "")
        if parsed.type not in METADATA and not 0 < len(location) <= _LONGEST_URI:
            self._refused(MalformedInstance(f"a part of bulk data has no Content-Location of at most {_LONGEST_URI} letters"))
            return
        if self._spool is None:
            try:
                self._spool = self._batch.receive()
            except ImageShareError as error:
                raise self._impossible(error) from None
        syntax = parsed.parameters.get("transfer-syntax", "").strip()
        self._part = _Part(parsed.type, syntax, location, self._spool.size)

    def take(self, data: memoryview) -> None:
        if self._part is None or self._spool is None:
            return
        if self._part.type in METADATA and self._spool.size - self._part.offset + len(data) > _LARGEST:
            raise self._impossible(
                TooLarge(f"a part of metadata may have at most {_LARGEST >> 20} MiB; send long values as bulk data")
            )
        try:
            self._spool.write(data)
        except ImageShareError as error:
            raise self._impossible(error) from None

    def end(self) -> None:
        part, self._part = self._part, None
        if part is None or self._spool is None:
            return
        extent = Extent(part.offset, self._spool.size - part.offset)
        if part.type in METADATA:
            self._models.append((part.type, extent))
            return
        values = self._values.setdefault(part.location, _Values(part.type, part.syntax))
        if (values.type, values.syntax) == (part.type, part.syntax):
            values.extents.append(extent)
        else:
            self._refused(MalformedInstance("parts of bulk data with one Content-Location have different media types"))

    def complete(self) -> None:
        """Every instance that the metadata describe; then a failure for each value that no metadata refer to."""
        if self._spool is None:
            return
        self._gather_frames()
        with contextlib.closing(self._spool.reader()) as spool:
            for type_, extent in self._models:
                spool.seek(extent.offset)
                for model in self._read(type_, spool.read(extent.length)):
                    self._make(model, spool)
        self.settle()
        for _ in range(sum(not values.used for values in self._values.values())):
            self._failures.append(Failure(MalformedInstance("no metadata refer to a part of bulk data by its Content-Location")))

    def abort(self) -> None:
        super().abort()
        if self._spool is not None:
            self._spool.abort()
            self._spool = None

    def _impossible(self, error: ImageShareError) -> ImageShareError:
        """For what ends the whole request: it is in the trail before it is raised."""
        self._batch.refused(error, self._announced)
        return error

    def _gather_frames(self) -> None:
        """PS3.18 section 8.6.1.2.2: frames may be named apart, as `{BulkDataURI}/frames/{number}`; they are one value."""
        found: dict[str, list[tuple[int, str]]] = {}
        for location in self._values:
            uri, mark, number = location.rpartition("/frames/")
            if mark and number.isascii() and number.isdecimal() and len(number) <= 9 and uri not in self._values:
                found.setdefault(uri, []).append((int(number), location))
        for uri, frames in found.items():
            parts = [self._values[location] for _, location in sorted(frames)]
            numbered = [number for number, _ in sorted(frames)] == list(range(1, len(frames) + 1))
            if numbered and len({(part.type, part.syntax) for part in parts}) == 1:
                for _, location in frames:
                    del self._values[location]
                self._values[uri] = _Values(parts[0].type, parts[0].syntax, [each for part in parts for each in part.extents])

    def _read(self, type_: str, data: bytes) -> Iterator[Attributes]:
        """The model objects of a part of metadata; what is none is a failure."""
        try:
            if sum(map(data.count, _MARKS[type_ == DICOM_XML])) > _MOST_MARKS:
                raise TooLarge("a part of metadata has too many values; send them in several parts or requests")
            found: object = dicom_xml.parse(data) if type_ == DICOM_XML else orjson.loads(data)
        except TooLarge as error:
            self._refused(error)
            return
        except dicom_xml.DicomXmlError as error:
            self._refused(MalformedInstance(str(error)))
            return
        except ValueError:
            self._refused(MalformedInstance(f"a part of metadata is not {type_} (PS3.18 annex F)"))
            return
        for model in found if isinstance(found, list) else [found]:
            if isinstance(model, dict):
                yield model
            else:
                self._refused(MalformedInstance("metadata are an array of DICOM JSON Model objects (PS3.18 section F.2.1)"))

    def _make(self, model: Attributes, spool: BinaryIO) -> None:
        named = _value(model, "00080016"), _value(model, "00080018")
        writer: Writer | None = None
        try:
            sop_class, instance = _uid(model, "00080016", "SOPClassUID"), _uid(model, "00080018", "SOPInstanceUID")
            syntax, bulk = self._resolved(model, spool)
            pieces = encode(model, bulk)
            writer = self._batch.receive()
            writer.write(part10_head(sop_class, instance, syntax))
            for piece in pieces:
                if isinstance(piece, bytes):
                    writer.write(piece)
                else:
                    _copy(spool, piece, writer)
        except (ModelError, ImageShareError) as error:
            if writer is not None:
                writer.abort()
            told = error if isinstance(error, ImageShareError) else MalformedInstance(str(error))
            self._refused(told, named if all(named) else ("", ""))
            return
        self.store(writer, (sop_class, instance))

    def _resolved(self, model: Attributes, spool: BinaryIO) -> tuple[str, Mapping[str, Bulk]]:
        """The transfer syntax of an instance and the values that it refers to; fills in what its frames say of themselves."""
        bulk: dict[str, Bulk] = {}
        syntax = EXPLICIT_VR_LITTLE_ENDIAN
        pixels = model.get(_PIXEL_DATA)
        pixel_uri = pixels.get("BulkDataURI") if isinstance(pixels, dict) else None
        for uri in list(_references(model)):
            values = self._values.get(uri)
            if values is None:
                continue
            if values.used:
                raise MalformedInstance("a part of bulk data is referred to twice; send it once for each attribute")
            values.used = True
            stream = _stream(values, spool) if uri == pixel_uri else None
            if stream is not None:
                _check_frames(model, values)
                syntax = stream.transfer_syntax_uid
                for tag, attribute in code_stream.pixel_attributes(stream).items():
                    model.setdefault(tag, attribute)
            bulk[uri] = Bulk(tuple(values.extents), encapsulated=stream is not None)
        return syntax, bulk


def _stream(values: _Values, spool: BinaryIO) -> CodeStream | None:
    """PS3.18 tables 8.7.3-4 and 8.7.3-5: the compressed stream that pixels come as, None where they are native."""
    if values.type == OCTET_STREAM:
        if values.syntax in ("", EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN):
            return None
        if frame_type(values.syntax) == OCTET_STREAM:
            raise UnsupportedMediaType(
                "pixels as octet streams are Explicit VR Little Endian, or of a compressed transfer syntax"
            )
    first = values.extents[0]
    spool.seek(first.offset)
    type_ = frame_type(values.syntax) if values.type == OCTET_STREAM else values.type
    try:
        found = code_stream.describe(type_, values.syntax, spool.read(min(first.length, code_stream.HEAD)))
    except ValueError as error:
        raise UnsupportedMediaType(str(error)) from None
    if found is None:
        raise UnsupportedMediaType("Pixel Data are of a media type that is none of PS3.18 table 8.7.3-5")
    return found


def _check_frames(model: Attributes, values: _Values) -> None:
    """PS3.18 section 8.6.1.2.2: one part a frame, or one for a whole video."""
    if frame_type(values.syntax) in code_stream.VIDEO or values.type in code_stream.VIDEO:
        return
    if str(len(values.extents)) != (_value(model, "00280008") or "1"):
        raise MalformedInstance("compressed Pixel Data come as one part a frame, each with the BulkDataURI as Content-Location")


def _references(attributes: Mapping[str, object]) -> Iterator[str]:
    """Every BulkDataURI of a model object, those inside sequences too."""
    waiting: list[object] = [attributes]
    while waiting:
        found = waiting.pop()
        if not isinstance(found, dict):
            continue
        for attribute in found.values():
            if not isinstance(attribute, dict):
                continue
            if isinstance(uri := attribute.get("BulkDataURI"), str):
                yield uri
            elif attribute.get("vr") == "SQ" and isinstance(items := attribute.get("Value"), list):
                waiting.extend(items)


def _value(attributes: Attributes, tag: str) -> str:
    """The only value of an attribute as text, empty where there is none."""
    attribute = attributes.get(tag)
    values = attribute.get("Value") if isinstance(attribute, dict) else None
    return str(values[0]) if isinstance(values, list) and len(values) == 1 and isinstance(values[0], str | int) else ""


def _uid(attributes: Attributes, tag: str, name: str) -> str:
    try:
        return lenient_uid(_value(attributes, tag))
    except InvalidIdentifier:
        raise MalformedInstance(f"the metadata have no {name} that is a UID (PS3.5 section 9.1)") from None


def _copy(spool: BinaryIO, extent: Extent, writer: Writer) -> None:
    spool.seek(extent.offset)
    left = extent.length
    while left:
        data = spool.read(min(CHUNK, left))
        if not data:
            raise StorageFull("the request's bulk data could not be read again; try again later")
        writer.write(data)
        left -= len(data)

"""A DICOM file as an untrusted stream: PS3.10 section 7.1 around PS3.5 section 7.

`parse` walks the elements once, without recursion, and keeps what a header needs: short values as pydicom's raw elements,
long ones only as tag, VR and length. Every length is held against the bytes that are really there before anything is
allocated, so that a file can cost neither memory nor stack that it does not bring itself.
"""

import os
import zlib
from array import array
from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO
from struct import Struct
from typing import BinaryIO, Final

from pydicom import config
from pydicom.datadict import dictionary_VR, keyword_for_tag, private_dictionary_VR
from pydicom.dataelem import DataElement, RawDataElement, empty_value_for_VR
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.tag import BaseTag
from pydicom.uid import UID
from pydicom.valuerep import EXPLICIT_VR_LENGTH_16, EXPLICIT_VR_LENGTH_32

from profiles import character_sets
from profiles.byte_source import MAX_HEADER, ByteSource, FileBytes, HeaderError, InflatedBytes
from profiles.identifiers import InvalidIdentifier, lenient_uid
from profiles.vocabulary import DEFLATED_TRANSFER_SYNTAXES, EXPLICIT_VR_BIG_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN

# pydicom warns about an illegal value by repeating it, in warnings and in its log: patient data. Values are judged here.
config.settings.reading_validation_mode = config.IGNORE

__all__ = ["HeaderError", "Part10", "PixelElement", "data_set", "keyword", "parse", "represented", "stored"]

MAX_DEPTH: Final = 64
MAX_FRAGMENTS: Final = 1_000_000
MAX_WEIGHT: Final = 2_000_000
BINARY_KEPT: Final = 4096
TEXT_KEPT: Final = 1 << 20

_ITEM_WEIGHT: Final = 8
_ITEM: Final = 0xFFFEE000
_ITEM_END: Final = 0xFFFEE00D
_SEQUENCE_END: Final = 0xFFFEE0DD
_UNDEFINED: Final = 0xFFFFFFFF
_PIXELS: Final = frozenset({0x7FE00008, 0x7FE00009, 0x7FE00010})
_CHARACTER_SET: Final = 0x00080005
_TRANSFER_SYNTAX: Final = 0x00020010
_BINARY: Final = frozenset({"OB", "OD", "OF", "OL", "OV", "OW", "UN", "OB or OW", "US or OW", "US or SS or OW"})
_LONG: Final = {str(vr).encode(): str(vr) for vr in EXPLICIT_VR_LENGTH_32}
_SHORT: Final = {str(vr).encode(): str(vr) for vr in EXPLICIT_VR_LENGTH_16}
_LITTLE_TAG, _BIG_TAG = Struct("<HH"), Struct(">HH")
_LITTLE_LENGTH, _BIG_LENGTH = Struct("<L"), Struct(">L")
_LITTLE_SHORT, _BIG_SHORT = Struct("<H"), Struct(">H")


@dataclass(frozen=True, slots=True)
class PixelElement:
    """The top-level element that holds pixels: (7FE0,0010), or (7FE0,0008/0009) for floating point.

    `offset` and `length` in bytes are those of the value in the file. `fragments` is None for native pixels; for
    encapsulated ones (PS3.5 section A.4) it is offset, length, offset, length ... of every item, the Basic Offset Table first.
    """

    tag: int
    offset: int
    length: int
    fragments: "array[int] | None" = None


@dataclass(frozen=True, slots=True)
class Part10:
    """A parsed file. `dataset_offset` is where the Data Set begins; `pixels` is None where there are none, or deflated.

    A value longer than `BINARY_KEPT` (binary) or `TEXT_KEPT` (else), and all pixel data, stays in the file: its element is
    present, and `stored` gives its VR and length and the value None. Converting such an element by `dataset[tag]` raises.
    """

    dataset: Dataset
    transfer_syntax_uid: str
    dataset_offset: int
    pixels: PixelElement | None


def parse(file: BinaryIO) -> Part10:
    """PS3.10 section 7.1: reads the File Meta Information and the Data Set's header from a seekable binary file.

    Raises `HeaderError` for anything but a complete DICOM file within this module's limits.
    """
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    if file.read(132)[128:] != b"DICM":
        raise HeaderError("a DICOM file begins with 128 bytes of preamble and the letters DICM (PS3.10 section 7.1)")
    source = FileBytes(file, size)
    try:
        meta = _Walk(source, 132, implicit=False, little=True, meta=True)
        meta.run()
        syntax = _transfer_syntax(meta.root)
        body: ByteSource = source
        start = offset = meta.position
        if syntax in DEFLATED_TRANSFER_SYNTAXES:
            body, start = InflatedBytes(file, offset), 0
        implicit, little = syntax == IMPLICIT_VR_LITTLE_ENDIAN, syntax != EXPLICIT_VR_BIG_ENDIAN
        walk = _Walk(body, start, implicit=implicit, little=little)
        walk.run()
    except zlib.error as error:
        raise HeaderError("the deflated data set is damaged (PS3.5 section A.5)") from error
    dataset = walk.root
    dataset.file_meta = FileMetaDataset(meta.root)
    return Part10(dataset, syntax, offset, walk.pixels if body is source else None)


def data_set(data: bytes, transfer_syntax_uid: str) -> Dataset:
    """PS3.5 section 7: the elements of a Data Set without a file around it, such as an Identifier; kept as `parse` keeps them.

    Raises `HeaderError` for anything but a complete one, within this module's limits. Not for deflated transfer syntaxes.
    """
    implicit, little = transfer_syntax_uid == IMPLICIT_VR_LITTLE_ENDIAN, transfer_syntax_uid != EXPLICIT_VR_BIG_ENDIAN
    walk = _Walk(FileBytes(BytesIO(data), len(data)), 0, implicit=implicit, little=little)
    walk.run()
    return walk.root


def elements(data: bytes, *, implicit: bool) -> Dataset:
    """PS3.5 section 7: a run of whole little endian elements without pixel data, read as `parse` reads them within a file.

    Raises `HeaderError` where `data` is anything else.
    """
    walk = _Walk(FileBytes(BytesIO(data), len(data)), 0, implicit=implicit, little=True)
    walk.run()
    return walk.root


def _transfer_syntax(meta: Dataset) -> str:
    raw = stored(meta, _TRANSFER_SYNTAX)
    value = raw.value.rstrip(b" \0").decode("ascii", "replace") if raw is not None and isinstance(raw.value, bytes) else ""
    if not value:
        raise HeaderError("the File Meta Information has no TransferSyntaxUID (PS3.10 section 7.1)", _TRANSFER_SYNTAX)
    try:
        lenient_uid(value)
    except InvalidIdentifier as error:
        raise HeaderError(f"TransferSyntaxUID: {error}", _TRANSFER_SYNTAX) from error
    if UID(value).type not in ("", "Transfer Syntax"):
        raise HeaderError("TransferSyntaxUID names something else than a transfer syntax (PS3.6 table A-1)", _TRANSFER_SYNTAX)
    return value


@dataclass(slots=True)
class _Level:
    """An open data set or item (`items` is None), or an open sequence (`items` is what it has so far)."""

    dataset: Dataset
    end: int | None
    implicit: bool
    little: bool
    codecs: tuple[str, ...]
    items: list[Dataset] | None = None
    tag: int = 0
    at: int = 0


class _Walk:
    """One pass over a Data Set. `root` is what it found, `position` where it stopped, `pixels` the pixel element."""

    def __init__(self, source: ByteSource, position: int, *, implicit: bool, little: bool, meta: bool = False) -> None:
        self._source, self.position, self._meta = source, position, meta
        self.root = self._dataset(implicit, little, character_sets.DEFAULT)
        self._stack = [_Level(self.root, None, implicit, little, character_sets.DEFAULT)]
        self._weight, self._kept, self._tags = 0, 0, dict[int, BaseTag]()
        self.pixels: PixelElement | None = None

    def run(self) -> None:
        stack = self._stack
        while stack:
            level = stack[-1]
            if level.end is not None and self.position >= level.end:
                self._close(level)
            elif level.items is not None:
                self._item(level)
            elif len(stack) == 1 and self._at_end():
                stack.pop()
            elif not self._element(level):
                return

    def _at_end(self) -> bool:
        """At the end of the Data Set, or in the zeros that some writers pad it with."""
        left = self._source.left(self.position)
        return left < 8 and not self._source.take(self.position, left).strip(b"\0")

    def _close(self, level: _Level) -> None:
        self._stack.pop()
        if level.items is not None:
            sequence = Sequence(level.items)
            sequence.is_undefined_length = level.end is None
            element = DataElement(self._tag(level.tag), "SQ", sequence, level.at, level.end is None, already_converted=True)
            level.dataset._dict[element.tag] = element

    def _item(self, level: _Level) -> None:
        """PS3.5 section 7.5: the next Item of a sequence, or its end."""
        head = self._source.take(self.position, 8)
        tag, length = _tag_of(head, level.little), _length_of(head, 4, level.little)
        self.position += 8
        if tag == _SEQUENCE_END:
            if level.end is None:
                self._close(level)
            return
        if tag != _ITEM or level.items is None:
            raise HeaderError("a sequence holds something else than items (PS3.5 section 7.5)", level.tag)
        self._weigh(_ITEM_WEIGHT)
        end = None if length == _UNDEFINED else self._end(self.position, length, level.tag)
        implicit = level.implicit
        if not implicit and self._source.left(self.position) >= 8 and (end is None or end - self.position >= 8):
            # Some writers, and all values of VR UN, hold implicit VR inside explicit VR: PS3.5 section 6.2.2 note 4.
            first = self._source.take(self.position, 8)
            implicit = _tag_of(first, level.little) != _ITEM_END and first[4:6] not in _LONG and first[4:6] not in _SHORT
        dataset = self._dataset(implicit, level.little, level.codecs)
        dataset.is_undefined_length_sequence_item = end is None
        level.items.append(dataset)
        self._stack.append(_Level(dataset, end, implicit, level.little, level.codecs))

    def _element(self, level: _Level) -> bool:
        """PS3.5 section 7.1: one Data Element. False where this walk ends before it."""
        source, position, little = self._source, self.position, level.little
        head = source.take(position, 8)
        tag = _tag_of(head, little)
        if self._meta and tag >> 16 != 2:
            return False
        if tag == _ITEM_END and len(self._stack) > 1:
            self.position += 8
            if level.end is None:
                self._close(level)
            return True
        if tag >> 16 == 0xFFFE:
            raise HeaderError("an item or delimiter stands where a data element belongs (PS3.5 section 7.5)", tag)
        vr, implicit, size = None, level.implicit, 8
        if not implicit:
            code = head[4:6]
            if (vr := _SHORT.get(code)) is not None:
                length = _short_of(head, 6, little)
            elif (vr := _LONG.get(code)) is not None:
                length, size = _length_of(source.take(position + 8, 4), 0, little), 12
            elif code.isalpha() and code.isupper():
                vr, length = code.decode("ascii"), _short_of(head, 6, little)
            else:
                implicit, length = True, _length_of(head, 4, little)
        else:
            length = _length_of(head, 4, little)
        if tag == 0 and length == 0 and len(self._stack) == 1:
            self._stack.pop()
            return True
        self._weigh(1)
        self.position = position + size
        self._value(level, tag, vr, length, implicit)
        return True

    def _value(self, level: _Level, tag: int, vr: str | None, length: int, implicit: bool) -> None:
        at, undefined = self.position, length == _UNDEFINED
        known = vr if vr is not None and vr != "UN" else represented(level.dataset, tag)
        top = len(self._stack) == 1 and not self._meta
        if top and tag in _PIXELS:
            self._source.pixels_begin()
        if (undefined and known in ("UN", "SQ")) or (known == "SQ" and length and self._starts_item(at, length)):
            self._open_sequence(level, tag, length, implicit)
            return
        value: bytes | None = None
        fragments: array[int] | None = None
        if undefined:
            fragments = self._fragments(tag, level.little)
        else:
            end = self._end(at, length, tag)
            self.position = end
            if length == 0:
                value = b"" if empty_value_for_VR(vr, raw=True) == b"" else None
            elif length <= (BINARY_KEPT if known in _BINARY else TEXT_KEPT) and not (top and tag in _PIXELS):
                self._keep(length)
                value = self._source.take(at, length)
            elif self._source.left(at) < length or not self._skippable(end):
                raise self._source.too_short(at, tag)
        if top and tag in _PIXELS:
            self.pixels = PixelElement(tag, at, self.position - at if undefined else length, fragments)
        if tag == _CHARACTER_SET and value:
            level.codecs = character_sets.encodings(value)
            level.dataset._read_charset = list(level.codecs)
        key = self._tag(tag)
        level.dataset._dict[key] = RawDataElement(key, vr, length, value, at, implicit, level.little)

    def _open_sequence(self, level: _Level, tag: int, length: int, implicit: bool) -> None:
        if len(self._stack) // 2 >= MAX_DEPTH:
            raise HeaderError(f"sequences nested deeper than {MAX_DEPTH} levels are refused", tag)
        end = None if length == _UNDEFINED else self._end(self.position, length, tag)
        # The Item tag itself tells the byte order: a value of VR UN is little endian whatever the file (PS3.5 section 6.2.2).
        little = level.little
        if self._source.left(self.position) >= 4:
            little = not level.little if self._source.take(self.position, 4) == _item_bytes(not level.little) else level.little
        self._stack.append(_Level(level.dataset, end, implicit, little, level.codecs, [], tag, self.position))

    def _starts_item(self, at: int, length: int) -> bool:
        if length < 8 or self._source.left(at) < 8:
            return False
        return self._source.take(at, 4) in (_item_bytes(True), _item_bytes(False))

    def _fragments(self, tag: int, little: bool) -> "array[int]":
        """PS3.5 section A.4: the items of an encapsulated value, up to and with its delimiter. Reads only their heads."""
        found: array[int] = array("Q")
        while True:
            try:
                head = self._source.take(self.position, 8, ahead=8)
            except HeaderError as error:
                raise HeaderError("truncated: an encapsulated value has no Sequence Delimitation Item", tag) from error
            item, length = _tag_of(head, little), _length_of(head, 4, little)
            self.position += 8
            if item == _SEQUENCE_END:
                return found
            if item != _ITEM or length == _UNDEFINED:
                raise HeaderError("an encapsulated value holds something else than items (PS3.5 section A.4)", tag)
            if len(found) >= 2 * MAX_FRAGMENTS:
                raise HeaderError(f"more than {MAX_FRAGMENTS} fragments are refused", tag)
            found.extend((self.position, length))
            self.position = self._end(self.position, length, tag)

    def _end(self, at: int, length: int, tag: int) -> int:
        """Where a value of `length` bytes from `at` ends. Raises where that is beyond what encloses it."""
        if length > self._source.left(at):
            raise self._source.too_short(at, tag)
        limit = next((level.end for level in reversed(self._stack) if level.end is not None), None)
        if limit is not None and at + length > limit:
            raise HeaderError("an element is longer than the item or sequence that holds it (PS3.5 section 7.5)", tag)
        return at + length

    def _skippable(self, end: int) -> bool:
        return end == 0 or bool(self._source.take(end - 1, 1, ahead=1))

    def _keep(self, length: int) -> None:
        self._kept += length
        if self._kept > MAX_HEADER:
            raise HeaderError(f"a header of more than {MAX_HEADER >> 20} MiB is refused")

    def _weigh(self, weight: int) -> None:
        self._weight += weight
        if self._weight > MAX_WEIGHT:
            raise HeaderError("a header of this many elements and items is refused")

    def _tag(self, tag: int) -> BaseTag:
        found = self._tags.get(tag)
        if found is None:
            found = self._tags[tag] = BaseTag(tag)
        return found

    @staticmethod
    def _dataset(implicit: bool, little: bool, codecs: tuple[str, ...]) -> Dataset:
        dataset = Dataset({}, parent_encoding=list(codecs))
        dataset.set_original_encoding(implicit, little, list(codecs))
        return dataset


def stored(dataset: Dataset, tag: int) -> RawDataElement | DataElement | None:
    """An element as it is kept, without converting it; a `RawDataElement` when it was read from a file, None where absent."""
    return dataset._dict.get(BaseTag(tag))


def represented(dataset: Dataset, tag: int) -> str:
    """The VR that the data dictionary gives an element (PS3.6 section 6, PS3.5 section 7.8.1 for private ones), or `UN`.

    May be one of pydicom's ambiguous ones, such as `US or SS`.
    """
    if not tag >> 16 & 1:
        return _public(tag)
    element = tag & 0xFFFF
    if element == 0:
        return "UL"
    if 0x10 <= element <= 0xFF:
        return "LO"
    creator = stored(dataset, tag & 0xFFFF0000 | element >> 8)
    value: object = creator.value if creator is not None else None
    if isinstance(value, bytes):
        value = value.decode("ascii", "replace").strip(" \0")
    return _private(tag, value) if isinstance(value, str) and value else "UN"


@lru_cache(maxsize=8192)
def _public(tag: int) -> str:
    try:
        return dictionary_VR(tag)
    except KeyError:
        return "UL" if not tag & 0xFFFF else "UN"


@lru_cache(maxsize=1024)
def _private(tag: int, creator: str) -> str:
    try:
        return private_dictionary_VR(tag, creator)
    except KeyError:
        return "UN"


def keyword(tag: int) -> str:
    """The keyword of a standard element (PS3.6 section 6), for messages."""
    return keyword_for_tag(tag) or f"({tag >> 16:04X},{tag & 0xFFFF:04X})"


def _tag_of(head: bytes, little: bool) -> int:
    group, element = (_LITTLE_TAG if little else _BIG_TAG).unpack_from(head)
    return int(group << 16 | element)


def _length_of(head: bytes, at: int, little: bool) -> int:
    return int((_LITTLE_LENGTH if little else _BIG_LENGTH).unpack_from(head, at)[0])


def _short_of(head: bytes, at: int, little: bool) -> int:
    return int((_LITTLE_SHORT if little else _BIG_SHORT).unpack_from(head, at)[0])


def _item_bytes(little: bool) -> bytes:
    return b"\xfe\xff\x00\xe0" if little else b"\xff\xfe\xe0\x00"

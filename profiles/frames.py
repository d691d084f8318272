"""Where each frame lies in a DICOM file, so that one is served by reading its bytes alone (PS3.5 section 8, annex A.4).

Made once, from heads and offset tables; the pixels themselves are never read. A file whose frames cannot be told apart for
certain has no table: then the frame must be found by decoding.
"""

import sys
from array import array
from dataclasses import dataclass, field
from itertools import pairwise
from struct import Struct
from typing import BinaryIO, Final

from pydicom.dataelem import RawDataElement

from profiles import part10
from profiles.part10 import Part10, PixelElement
from profiles.vocabulary import (
    DICOM_RLE,
    HEVC,
    HTJ2K,
    JPEG,
    JPEG_2000,
    JPEG_2000_PART_2,
    JPEG_LS,
    JPEG_XL,
    MP4,
    MPEG,
    OCTET_STREAM,
)

_EXTENDED_OFFSETS: Final = 0x7FE00001
_EXTENDED_LENGTHS: Final = 0x7FE00002
_BITS: Final = {0x7FE00008: 32, 0x7FE00009: 64}
_VERSION: Final = 1
_HEAD: Final = Struct("<BBHHHQQII")

# PS3.18 tables 8.7.3-2 and 8.7.3-5: the media type of a frame in each transfer syntax; all others are octet streams.
_JPEG = "1.2.840.10008.1.2.4."
_MEDIA_TYPES: Final = {
    **{f"{_JPEG}{number}": JPEG for number in (*range(50, 67), 70)},
    **{f"{_JPEG}{number}": JPEG_LS for number in (80, 81)},
    **{f"{_JPEG}{number}": JPEG_2000 for number in (90, 91)},
    **{f"{_JPEG}{number}": JPEG_2000_PART_2 for number in (92, 93)},
    **{f"{_JPEG}{number}": JPEG_XL for number in (110, 111, 112)},
    **{f"{_JPEG}{number}": HTJ2K for number in (201, 202, 203)},
    **{f"{_JPEG}{number}": MPEG for number in ("100", "100.1", "101", "101.1")},
    **{f"{_JPEG}{number}": MP4 for number in ("102", "102.1", "103", "103.1", "104", "104.1", "105", "105.1", "106", "106.1")},
    **{f"{_JPEG}{number}": HEVC for number in (107, 108)},
    "1.2.840.10008.1.2.5": DICOM_RLE,
}


def media_type(transfer_syntax_uid: str) -> str:
    """PS3.18 section 8.7.3: the media type of a frame as it is stored."""
    return _MEDIA_TYPES.get(transfer_syntax_uid, OCTET_STREAM)


@dataclass(frozen=True, slots=True)
class FrameTable:
    """The byte ranges of the frames of one file.

    Native pixels: frame n is `frame_length` bytes from `offset + (n - 1) * frame_length`, and `fragments` is empty.
    Encapsulated ones: `fragments` is offset, length, offset, length ... in bytes, and `starts[n - 1]` is the number of the first
    fragment of frame n; `offset` and `frame_length` are 0.
    """

    count: int
    bits_allocated: int
    samples_per_pixel: int
    rows: int
    columns: int
    offset: int = 0
    frame_length: int = 0
    fragments: "array[int]" = field(default_factory=lambda: array("Q"))
    starts: "array[int]" = field(default_factory=lambda: array("I"))

    @property
    def encapsulated(self) -> bool:
        return bool(self.starts)

    def ranges(self, n: int) -> list[tuple[int, int]]:
        """Offset and length in bytes, in the file, of the pieces of frame `n`, counted from 1. Raises `IndexError`."""
        if not 1 <= n <= self.count:
            raise IndexError(f"frame numbers go from 1 to {self.count}")
        if not self.encapsulated:
            return [(self.offset + (n - 1) * self.frame_length, self.frame_length)]
        first = self.starts[n - 1]
        last = self.starts[n] if n < self.count else len(self.fragments) // 2
        return [(self.fragments[2 * index], self.fragments[2 * index + 1]) for index in range(first, last)]

    def to_bytes(self) -> bytes:
        """A compact form for storage: 32 bytes, and 16 a fragment and 4 a frame where encapsulated. Little endian."""
        head = _HEAD.pack(
            _VERSION,
            self.samples_per_pixel,
            self.bits_allocated,
            self.rows,
            self.columns,
            self.offset,
            self.frame_length,
            self.count,
            len(self.starts),
        )
        return head + _packed(self.starts) + _packed(self.fragments)

    @classmethod
    def from_bytes(cls, data: bytes) -> "FrameTable":
        """Reads `to_bytes`. Raises `ValueError` for anything else."""
        if len(data) < _HEAD.size or data[0] != _VERSION:
            raise ValueError("this is not a frame table of version 1")
        _, samples, bits, rows, columns, offset, length, count, started = _HEAD.unpack_from(data)
        rest = data[_HEAD.size :]
        if not started and not rest and count:
            return cls(count, bits, samples, rows, columns, offset, length)
        if not started or started != count or len(rest) < 4 * started or (len(rest) - 4 * started) % 16:
            raise ValueError("an encapsulated frame table has one start a frame and whole fragments")
        starts, fragments = _unpacked("I", rest[: 4 * started]), _unpacked("Q", rest[4 * started :])
        if starts[-1] > len(fragments) // 2 or any(later < earlier for earlier, later in pairwise(starts)):
            raise ValueError("the starts of a frame table grow and stay among its fragments")
        return cls(count, bits, samples, rows, columns, fragments=fragments, starts=starts)


def frame_table(file: BinaryIO, dataset_offset: int) -> FrameTable | None:
    """PS3.5 section 8 and annex A.4: the frame table of a Part 10 file whose Data Set begins at `dataset_offset`.

    None where there are no pixels, the data set is deflated, or the frames cannot be told apart. Raises
    `profiles.part10.HeaderError` for a damaged file.
    """
    parsed = part10.parse(file)
    if parsed.dataset_offset != dataset_offset:
        raise ValueError("the Data Set of this file begins elsewhere")
    return table(parsed, file)


def table(parsed: Part10, file: BinaryIO) -> FrameTable | None:
    """As `frame_table`, for a file that is parsed already; `file` is only read for a JPEG's first bytes and offset tables."""
    pixels = parsed.pixels
    if pixels is None:
        return None
    rows, columns = number(parsed, 0x00280010), number(parsed, 0x00280011)
    shape = _Shape(
        count=max(1, number(parsed, 0x00280008) or 1),
        bits=_BITS.get(pixels.tag) or number(parsed, 0x00280100),
        samples=number(parsed, 0x00280002) or 1,
        rows=rows,
        columns=columns,
    )
    if max(shape.rows, shape.columns, shape.bits) > 0xFFFF or shape.samples > 0xFF or shape.count > 0xFFFFFFFF:
        return None
    if pixels.fragments is None:
        return _native(shape, pixels, text(parsed, 0x00280004))
    return _encapsulated(shape, parsed, pixels, file)


@dataclass(frozen=True, slots=True)
class _Shape:
    count: int
    bits: int
    samples: int
    rows: int
    columns: int

    def table(self) -> tuple[int, int, int, int, int]:
        return self.count, self.bits, self.samples, self.rows, self.columns


def _native(shape: _Shape, pixels: PixelElement, photometric: str) -> FrameTable | None:
    """PS3.5 section 8.1.1: frames one after the other. Bits of a frame that does not fill its last byte have no range."""
    bits = shape.rows * shape.columns * shape.samples * shape.bits
    if photometric == "YBR_FULL_422":
        bits = bits // 3 * 2 if shape.samples == 3 else 0
    if not bits or (bits % 8 and shape.count > 1):
        return None
    length = (bits + 7) // 8
    if length * shape.count > pixels.length:
        return None
    return FrameTable(*shape.table(), offset=pixels.offset, frame_length=length)


def _encapsulated(shape: _Shape, parsed: Part10, pixels: PixelElement, file: BinaryIO) -> FrameTable | None:
    items = pixels.fragments
    if items is None or len(items) < 4:
        return None
    fragments = items[2:]
    if found := _extended(parsed, fragments, shape.count, file):
        return FrameTable(*shape.table(), fragments=found, starts=array("I", range(shape.count)))
    starts = _basic(items, shape.count, file) or _by_rule(parsed, fragments, shape.count, file)
    return FrameTable(*shape.table(), fragments=fragments, starts=starts) if starts else None


def _extended(parsed: Part10, fragments: "array[int]", count: int, file: BinaryIO) -> "array[int] | None":
    """PS3.3 section C.7.6.3.1.8: the Extended Offset Table, one fragment a frame; None where absent or untrue."""
    offsets, lengths = _table(parsed, _EXTENDED_OFFSETS, file), _table(parsed, _EXTENDED_LENGTHS, file)
    if len(offsets) != count or len(lengths) != count:
        return None
    origin = fragments[0] - 8
    known = dict(zip(fragments[::2], fragments[1::2], strict=True))
    found = array("Q")
    for offset, length in zip(offsets, lengths, strict=True):
        at = origin + offset + 8
        # A frame of odd length has one byte of padding in its fragment.
        if not 0 <= known.get(at, -1) - length <= 1:
            return None
        found.extend((at, length))
    return found


def _basic(items: "array[int]", count: int, file: BinaryIO) -> "array[int] | None":
    """PS3.5 section A.4: the Basic Offset Table; None where empty or untrue."""
    if items[1] != 4 * count:
        return None
    file.seek(items[0])
    offsets = _unpacked("I", file.read(items[1]))
    origin = items[2] - 8
    numbers = {at - 8 - origin: number for number, at in enumerate(items[2::2])}
    starts = array("I", (numbers.get(offset, 0) for offset in offsets))
    true = len(offsets) == count and offsets[0] == 0 and all(offset in numbers for offset in offsets)
    return starts if true and all(later > earlier for earlier, later in pairwise(starts)) else None


def _by_rule(parsed: Part10, fragments: "array[int]", count: int, file: BinaryIO) -> "array[int] | None":
    """PS3.5 section A.4, without offset tables: one frame has all fragments, or each frame one, or each begins a new stream."""
    total = len(fragments) // 2
    if count == 1:
        return array("I", [0])
    if total == count:
        return array("I", range(count))
    marks = _BEGINNINGS.get(media_type(parsed.transfer_syntax_uid))
    if total < count or marks is None:
        return None
    starts = array("I")
    for number, (at, length) in enumerate(zip(fragments[::2], fragments[1::2], strict=True)):
        file.seek(at)
        if file.read(min(length, 12)).startswith(marks):
            starts.append(number)
    return starts if len(starts) == count and starts[0] == 0 else None


# The bytes that a frame's stream begins with, and a continuing fragment practically never: SOI + marker, SOC + SIZ, JP2 box.
_J2K: Final = (b"\xff\x4f\xff\x51", b"\x00\x00\x00\x0cjP  ")
_BEGINNINGS: Final = {JPEG: (b"\xff\xd8\xff",), JPEG_LS: (b"\xff\xd8\xff",), JPEG_2000: _J2K, JPEG_2000_PART_2: _J2K, HTJ2K: _J2K}


def _table(parsed: Part10, tag: int, file: BinaryIO) -> "array[int]":
    """An offset table's 64-bit words, from the header or, where it is long, from the file."""
    element = part10.stored(parsed.dataset, tag)
    if not isinstance(element, RawDataElement) or element.length % 8 or element.length == 0xFFFFFFFF:
        return array("Q")
    value = element.value
    if value is None:
        file.seek(element.value_tell)
        value = file.read(element.length)
    return _unpacked("Q", value)


def number(parsed: Part10, tag: int) -> int:
    """The first value of a binary (US, UL) or textual (IS) attribute of the header, 0 where it is none or negative."""
    element = part10.stored(parsed.dataset, tag)
    if not isinstance(element, RawDataElement) or not element.value:
        return 0
    vr = element.VR if element.VR not in (None, "UN") else part10.represented(parsed.dataset, tag)
    if vr in ("US", "UL"):
        return int.from_bytes(element.value[: 2 if vr == "US" else 4], "little" if element.is_little_endian else "big")
    digits = element.value.decode("ascii", "replace").split("\\")[0].strip(" \0")
    return int(digits) if digits.isdecimal() and len(digits) <= 10 else 0


def text(parsed: Part10, tag: int) -> str:
    """A value of the header as ASCII, without padding; empty where there is none."""
    element = part10.stored(parsed.dataset, tag)
    value: object = element.value if element is not None else None
    return value.decode("ascii", "replace").strip(" \0") if isinstance(value, bytes) else ""


def _packed(words: "array[int]") -> bytes:
    if sys.byteorder == "big":
        words = words[:]
        words.byteswap()
    return words.tobytes()


def _unpacked(code: str, data: bytes) -> "array[int]":
    words = array(code)
    words.frombytes(data[: len(data) - len(data) % words.itemsize])
    if sys.byteorder == "big":
        words.byteswap()
    return words

"""A Data Set written anew in another encoding: implicit or explicit VR, little endian (PS3.5 section 7, annex A).

What goes in is a parsed file (`profiles.part10.Part10`), what comes out is a list of pieces: bytes, or ranges of the file that
are copied when their turn comes, so that a long value costs no memory. Values keep their bytes; only their order within a
number changes where the source is big endian. Group lengths (gggg,0000) are left out: they are retired, and would be wrong.
"""

import zlib
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from struct import Struct
from typing import BinaryIO, Final

from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.valuerep import EXPLICIT_VR_LENGTH_32

from profiles import part10
from profiles.byte_source import MAX_INFLATED, HeaderError
from profiles.part10 import Part10
from profiles.vocabulary import EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN

_LONG: Final = frozenset(str(vr) for vr in EXPLICIT_VR_LENGTH_32)
_WIDTHS: Final = {
    **dict.fromkeys(("US", "SS", "OW", "AT"), 2),
    **dict.fromkeys(("UL", "SL", "FL", "OL", "OF"), 4),
    **dict.fromkeys(("FD", "OD", "OV", "SV", "UV"), 8),
}
_NULL_PADDED: Final = frozenset({"OB", "UN", "UI"})
_CODES: Final = {2: "H", 4: "I", 8: "Q"}
_UNDEFINED: Final = 0xFFFFFFFF
_TAG, _LENGTH, _SHORT = Struct("<HH"), Struct("<L"), Struct("<H")
_ITEM, _ITEM_END, _SEQUENCE_END = b"\xfe\xff\x00\xe0", b"\xfe\xff\x0d\xe0\0\0\0\0", b"\xfe\xff\xdd\xe0\0\0\0\0"
_SIGNED, _ALLOCATED, _WAVEFORM_BITS, _LUT_DESCRIPTOR = 0x00280103, 0x00280100, 0x54001004, 0x00283002
_CHUNK: Final = 1 << 18


@dataclass(frozen=True, slots=True)
class Copied:
    """`length` bytes of the file from `offset`; the bytes of each word of `width` are turned around where it is above 1."""

    offset: int
    length: int
    width: int = 1

    def read(self, file: BinaryIO) -> Iterator[bytes]:
        """The bytes, in pieces of at most 256 KiB."""
        at, left = self.offset, self.length
        while left:
            file.seek(at)
            data = file.read(min(_CHUNK, left))
            if not data:
                raise EOFError("the file ends early")
            at, left = at + len(data), left - len(data)
            yield swapped(data, self.width)


Piece = bytes | Copied


def size(pieces: Sequence[Piece]) -> int:
    """The bytes that `pieces` have together."""
    return sum(len(piece) if isinstance(piece, bytes) else piece.length for piece in pieces)


def swapped(data: bytes, width: int) -> bytes:
    """PS3.5 section 7.3: numbers of `width` bytes with their bytes turned around; a rest that is no whole number stays."""
    whole = len(data) - len(data) % width
    if width == 1 or not whole:
        return data
    numbers = array(_CODES[width], data[:whole])
    numbers.byteswap()
    return numbers.tobytes() + data[whole:]


def file_meta(parsed: Part10, syntax: str) -> bytes:
    """PS3.10 section 7.1: an empty preamble and the File Meta Information, as it was but for its transfer syntax and length."""
    meta = parsed.dataset.file_meta
    body = b""
    for tag in sorted(meta._dict):
        if tag == 0x00020000:
            continue
        element = meta._dict[tag]
        value: object = element.value
        if tag == 0x00020010:
            value = _even(syntax.encode("ascii"), b"\0")
        if not isinstance(element, RawDataElement) or not isinstance(value, bytes | None):
            continue
        vr = element.VR or "UN"
        body += head(int(tag), vr, len(value or b""), implicit=False) + (value or b"")
    return bytes(128) + b"DICM" + head(0x00020000, "UL", 4, implicit=False) + _LENGTH.pack(len(body)) + body


def dataset(
    parsed: Part10, changes: Mapping[int, bytes], *, implicit: bool, first: int = 0, last: int = 0xFFFFFFFF
) -> list[Piece]:
    """PS3.5 section 7.1: the elements from tag `first` to tag `last` in pieces.

    `changes` are whole elements to write in place of those of a tag, or where there is none; empty ones leave theirs out. The
    values of the file are raw elements, as `part10.parse` leaves them.
    """
    found: list[Piece] = []
    writer = _Writer(implicit)
    for tag in sorted(set(parsed.dataset._dict) | set(changes)):
        if not first <= tag <= last:
            continue
        if tag in changes:
            found.append(changes[tag])
        else:
            writer.element(parsed.dataset, int(tag), (parsed.dataset,), found)
    return _joined(found)


def element(tag: int, vr: str, value: bytes, *, implicit: bool) -> bytes:
    """PS3.5 section 7.1: one whole element; a value of odd length is padded."""
    value = _even(value, b"\0" if vr in _NULL_PADDED else b" ")
    return head(tag, vr, len(value), implicit=implicit) + value


def head(tag: int, vr: str, length: int, *, implicit: bool) -> bytes:
    """PS3.5 section 7.1: what stands before a value. `length` may be 0xFFFFFFFF, undefined."""
    packed = _TAG.pack(tag >> 16, tag & 0xFFFF)
    if implicit:
        return packed + _LENGTH.pack(length)
    if vr in _LONG:
        return packed + vr.encode("ascii") + b"\0\0" + _LENGTH.pack(length)
    if length > 0xFFFF:  # section 6.2.2 note 2: too long for its own VR
        return packed + b"UN\0\0" + _LENGTH.pack(length)
    return packed + vr.encode("ascii") + _SHORT.pack(length)


def inflate(parsed: Part10, file: BinaryIO, output: BinaryIO) -> None:
    """PS3.5 section A.5: writes a file that is stored deflated as one with explicit VR little endian, a piece at a time.

    Raises `HeaderError` where it is damaged or larger than `byte_source.MAX_INFLATED`.
    """
    output.write(file_meta(parsed, EXPLICIT_VR_LITTLE_ENDIAN))
    file.seek(parsed.dataset_offset)
    stream, written = zlib.decompressobj(-zlib.MAX_WBITS), 0
    try:
        while not stream.eof and (data := stream.unconsumed_tail or file.read(_CHUNK)):
            written += output.write(stream.decompress(data, _CHUNK))
            if written > MAX_INFLATED:
                raise HeaderError("the deflated data set is too large")
    except zlib.error:
        raise HeaderError("the deflated data set is damaged (PS3.5 section A.5)") from None


def syntax_is_implicit(syntax: str) -> bool:
    """PS3.5 section A.1: only one transfer syntax has implicit VR."""
    return syntax == IMPLICIT_VR_LITTLE_ENDIAN


class _Writer:
    def __init__(self, implicit: bool) -> None:
        self._implicit = implicit

    def element(self, owner: Dataset, tag: int, above: tuple[Dataset, ...], out: list[Piece]) -> None:
        element = part10.stored(owner, tag)
        if element is None or not tag & 0xFFFF:
            return
        if not isinstance(element, RawDataElement):
            self._sequence(element.value, tag, above, out)
            return
        vr = _vr(element, owner, tag, above)
        width = _WIDTHS.get(vr, 1) if not element.is_little_endian else 1
        if element.length == _UNDEFINED:
            return  # encapsulated outside of the pixel element: there is no such thing (PS3.5 section A.4)
        length = element.length if element.value is None else len(element.value)
        out.append(head(tag, vr, length + length % 2, implicit=self._implicit))
        if element.value is None and length:
            out.append(Copied(element.value_tell, length, width))
        elif element.value:
            out.append(swapped(element.value, width))
        if length % 2:
            out.append(b"\0" if vr in _NULL_PADDED else b" ")

    def _sequence(self, items: Sequence[Dataset], tag: int, above: tuple[Dataset, ...], out: list[Piece]) -> None:
        """PS3.5 section 7.5: with undefined lengths, so that nothing needs to be measured first."""
        out.append(head(tag, "SQ", _UNDEFINED, implicit=self._implicit))
        for item in items:
            out.append(_ITEM + _LENGTH.pack(_UNDEFINED))
            for inner in sorted(item._dict):
                self.element(item, int(inner), (item, *above), out)
            out.append(_ITEM_END)
        out.append(_SEQUENCE_END)


def _vr(element: RawDataElement, owner: Dataset, tag: int, above: tuple[Dataset, ...]) -> str:
    """PS3.5 annex A.1: the VR of an element, also of one that is stored without, or with one that another attribute decides."""
    vr = element.VR
    if not vr:
        vr = part10.represented(owner, tag)
    if " or " not in vr:
        return vr
    if vr in ("US or SS", "US or SS or OW"):
        return "SS" if _number(above, _SIGNED) == 1 else "US"
    if vr == "US or OW":
        return "US" if _number((owner,), _LUT_DESCRIPTOR) == 1 else "OW"
    if tag >> 16 == 0x5400:
        return "OB" if _number(above, _WAVEFORM_BITS) == 8 else "OW"
    return "OW"  # PS3.5 section A.1: pixels and overlays of implicit VR are OW


def _number(owners: tuple[Dataset, ...], tag: int) -> int:
    """The first number of a US attribute of the nearest data set that has it; -1 where none has."""
    for owner in owners:
        element = part10.stored(owner, tag)
        if isinstance(element, RawDataElement) and element.value and len(element.value) >= 2:
            return int.from_bytes(element.value[:2], "little" if element.is_little_endian else "big")
    return -1


def _even(value: bytes, padding: bytes) -> bytes:
    return value + padding * (len(value) % 2)


def _joined(pieces: list[Piece]) -> list[Piece]:
    """The same with bytes that follow each other in one."""
    found: list[Piece] = []
    waiting: list[bytes] = []
    for piece in pieces:
        if isinstance(piece, bytes):
            waiting.append(piece)
            continue
        if waiting:
            found.append(b"".join(waiting))
            waiting = []
        found.append(piece)
    return [*found, b"".join(waiting)] if waiting else found

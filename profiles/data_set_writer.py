"""The DICOM JSON Model (PS3.18 annex F) as a Part 10 file: explicit VR little endian, text in UTF-8 (ISO_IR 192).

Bulk data stay where they are: an `Extent` stands for their bytes, so a data set of any size is a short list of pieces. Nothing
is fetched, whatever a BulkDataURI names. Strict, unlike the reader: who sends a model can still be asked to correct it.
"""

import base64
import binascii
import re
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from pydicom.valuerep import EXPLICIT_VR_LENGTH_32, format_number_as_ds

from profiles.part10 import MAX_DEPTH, keyword
from profiles.vocabulary import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME

PIXEL_DATA: Final = 0x7FE00010

_TAG = re.compile(r"[0-9A-Fa-f]{8}")
_CHARACTER_SET: Final = 0x00080005
_UTF8: Final = "ISO_IR 192"
_UNDEFINED: Final = 0xFFFFFFFF
_LONGEST: Final = 0xFFFFFFFE
_LONG: Final = frozenset(str(vr) for vr in EXPLICIT_VR_LENGTH_32)
_BINARY: Final = frozenset({"OB", "OD", "OF", "OL", "OV", "OW", "UN"})
_NUMBERS: Final = {"US": "H", "SS": "h", "UL": "I", "SL": "i", "UV": "Q", "SV": "q", "FL": "f", "FD": "d"}
_TEXTS: Final = frozenset({"AE", "AS", "CS", "DA", "DT", "LO", "LT", "SH", "ST", "TM", "UC", "UI", "UR", "UT"})
_GROUPS: Final = ("Alphabetic", "Ideographic", "Phonetic")
_KINDS: Final = ("Value", "BulkDataURI", "InlineBinary")
_ITEM, _ITEM_END, _SEQUENCE_END = (struct.pack("<HHL", 0xFFFE, element, 0) for element in (0xE000, 0xE00D, 0xE0DD))
_OPEN_ITEM: Final = _ITEM[:4] + b"\xff\xff\xff\xff"


class ModelError(ValueError):
    """Attributes that are no DICOM JSON Model object. The message names attribute and rule, never a value."""


@dataclass(frozen=True, slots=True)
class Extent:
    """`length` bytes from `offset` of wherever the caller keeps bulk data."""

    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class Bulk:
    """A bulk value. `encapsulated`: each extent is one frame's (or video's) stream, for a compressed transfer syntax."""

    extents: tuple[Extent, ...]
    encapsulated: bool = False


Piece = bytes | Extent


def encode(attributes: Mapping[str, object], bulk: Mapping[str, Bulk]) -> list[Piece]:
    """PS3.18 section F.2: a model object as the bytes of a Data Set, with the values of `bulk` by their BulkDataURI.

    Group lengths and File Meta Information among the attributes are left out. Raises `ModelError`.
    """
    writer = _Writer(bulk)
    writer.data_set(attributes, 0)
    pieces = writer.pieces()
    if not writer.ascii and f"{_CHARACTER_SET:08X}" not in attributes:
        return encode({**attributes, f"{_CHARACTER_SET:08X}": {"vr": "CS"}}, bulk)
    return pieces


def part10_head(sop_class_uid: str, sop_instance_uid: str, transfer_syntax_uid: str) -> bytes:
    """PS3.10 section 7.1: preamble, prefix and File Meta Information. The UIDs must have been checked."""
    elements = b"".join(
        (
            element(0x00020001, "OB", b"\x00\x01"),
            element(0x00020002, "UI", sop_class_uid.encode("ascii")),
            element(0x00020003, "UI", sop_instance_uid.encode("ascii")),
            element(0x00020010, "UI", transfer_syntax_uid.encode("ascii")),
            element(0x00020012, "UI", IMPLEMENTATION_CLASS_UID.encode("ascii")),
            element(0x00020013, "SH", IMPLEMENTATION_VERSION_NAME.encode("ascii")),
        )
    )
    return b"\0" * 128 + b"DICM" + element(0x00020000, "UL", struct.pack("<L", len(elements))) + elements


def element(tag: int, vr: str, value: bytes) -> bytes:
    """PS3.5 section 7.1.2: one Data Element with explicit VR, little endian, padded to an even length."""
    if len(value) % 2:
        value += b"\0" if vr in _BINARY or vr == "UI" else b" "
    return _head(tag, vr, len(value)) + value


def size(pieces: Iterable[Piece]) -> int:
    """How many bytes the pieces make."""
    return sum(piece.length if isinstance(piece, Extent) else len(piece) for piece in pieces)


def _head(tag: int, vr: str, length: int) -> bytes:
    group, number = tag >> 16, tag & 0xFFFF
    if vr not in _LONG:
        if length <= 0xFFFF:
            return struct.pack("<HH2sH", group, number, vr.encode("ascii"), length)
        vr = "UN"  # PS3.5 section 6.2.2 note 1: a value that its own VR has no room for
    return struct.pack("<HH2sHL", group, number, vr.encode("ascii"), 0, length)


class _Writer:
    """One data set in the making."""

    def __init__(self, bulk: Mapping[str, Bulk]) -> None:
        self._bulk = bulk
        self._made: list[Piece] = []
        self._open = bytearray()
        self.ascii = True

    def pieces(self) -> list[Piece]:
        self._put_extent(None)
        return self._made

    def data_set(self, attributes: Mapping[str, object], depth: int) -> None:
        if depth > MAX_DEPTH:
            raise ModelError(f"sequences nested deeper than {MAX_DEPTH} levels are refused")
        for tag, attribute in sorted((_number(name), attribute) for name, attribute in _distinct(attributes)):
            if tag >> 16 == 0x0002 or not tag & 0xFFFF:
                continue
            if tag >> 16 in (0x0000, 0x0001, 0x0003, 0x0005, 0x0007, 0xFFFF) or tag >> 16 == 0xFFFE:
                raise _wrong(tag, "is of a group that data sets do not have (PS3.5 section 7.1)")
            if not isinstance(attribute, dict):
                raise _wrong(tag, "is not an object with a vr (PS3.18 section F.2.2)")
            self._attribute(tag, attribute, depth)

    def _attribute(self, tag: int, attribute: Mapping[str, object], depth: int) -> None:
        vr = attribute.get("vr")
        if not isinstance(vr, str) or vr not in _TEXTS | _BINARY | _NUMBERS.keys() | {"AT", "DS", "IS", "PN", "SQ"}:
            raise _wrong(tag, "has no vr of PS3.5 section 6.2 (PS3.18 section F.2.2)")
        given = [kind for kind in _KINDS if kind in attribute]
        if len(given) > 1:
            raise _wrong(tag, f"has more than one of {', '.join(_KINDS)} (PS3.18 section F.2.2)")
        kind = given[0] if given else ""
        if kind == "BulkDataURI":
            self._reference(tag, vr, attribute[kind], depth)
        elif vr == "SQ":
            self._sequence(tag, attribute.get("Value", []) if kind != "InlineBinary" else None, depth)
        elif kind == "InlineBinary":
            self._open += _element(tag, vr, _inline(tag, attribute[kind]))
        elif tag == _CHARACTER_SET:
            self._open += element(tag, "CS", _UTF8.encode())
        else:
            self._open += _element(tag, vr, self._value(tag, vr, attribute.get("Value", [])))

    def _sequence(self, tag: int, items: object, depth: int) -> None:
        if not isinstance(items, list):
            raise _wrong(tag, "has a Value that is no array of items (PS3.18 section F.2.5)")
        if not items:
            self._open += _head(tag, "SQ", 0)
            return
        self._open += _head(tag, "SQ", _UNDEFINED)
        for item in items:
            if item is not None and not isinstance(item, dict):
                raise _wrong(tag, "has an item that is no object (PS3.18 section F.2.5)")
            self._open += _OPEN_ITEM
            self.data_set(item or {}, depth + 1)
            self._open += _ITEM_END
        self._open += _SEQUENCE_END

    def _reference(self, tag: int, vr: str, uri: object, depth: int) -> None:
        found = self._bulk.get(uri) if isinstance(uri, str) else None
        if found is None:
            raise _wrong(tag, "has a BulkDataURI that no part of the request has as its Content-Location")
        if vr == "SQ":
            raise _wrong(tag, "is a sequence, which is never bulk data (PS3.18 section F.2.2)")
        if found.encapsulated:
            if tag != PIXEL_DATA or depth:
                raise _wrong(tag, "is compressed, which only Pixel Data can be (PS3.5 section A.4)")
            self._encapsulated(found)
            return
        length = sum(extent.length for extent in found.extents)
        if length + length % 2 > _LONGEST:
            raise _wrong(tag, "is longer than a value of defined length may be (PS3.5 section 7.1.1)")
        self._open += _head(tag, vr, length + length % 2)
        for extent in found.extents:
            self._put_extent(extent)
        self._open += b"\0" * (length % 2)

    def _encapsulated(self, found: Bulk) -> None:
        """PS3.5 section A.4: one fragment a frame, with a Basic Offset Table where there are several and it can hold them."""
        self._open += struct.pack("<HH2sHL", 0x7FE0, 0x0010, b"OB", 0, _UNDEFINED)
        offsets, at = [], 0
        for extent in found.extents:
            if extent.length > _LONGEST - 1:
                raise _wrong(PIXEL_DATA, "has a frame that is longer than a fragment may be (PS3.5 section A.4)")
            offsets.append(at)
            at += 8 + extent.length + extent.length % 2
        table = struct.pack(f"<{len(offsets)}L", *offsets) if len(offsets) > 1 and offsets[-1] < 1 << 32 else b""
        self._open += _ITEM[:4] + struct.pack("<L", len(table)) + table
        for extent in found.extents:
            self._open += _ITEM[:4] + struct.pack("<L", extent.length + extent.length % 2)
            self._put_extent(extent)
            self._open += b"\0" * (extent.length % 2)
        self._open += _SEQUENCE_END

    def _put_extent(self, extent: Extent | None) -> None:
        if self._open:
            self._made.append(bytes(self._open))
            self._open.clear()
        if extent is not None and extent.length:
            self._made.append(extent)

    def _value(self, tag: int, vr: str, values: object) -> bytes:
        if not isinstance(values, list):
            raise _wrong(tag, "has a Value that is no array (PS3.18 section F.2.2)")
        if vr in _BINARY and any(values):
            raise _wrong(tag, f"has VR {vr}, whose value is InlineBinary or bulk data (PS3.18 section F.2.7)")
        if vr in _NUMBERS or vr == "AT":
            return b"".join(_binary(tag, vr, value) for value in values if value is not None)
        if vr in _BINARY:
            return b""
        text = "\\".join(_text(tag, vr, value) for value in values)
        self.ascii = self.ascii and text.isascii()
        try:
            return text.encode("utf-8")
        except UnicodeEncodeError:
            raise _wrong(tag, "has text that is no Unicode (a lone surrogate)") from None


def _distinct(attributes: Mapping[str, object]) -> Iterable[tuple[str, object]]:
    if len({name.upper() for name in attributes}) != len(attributes):
        raise ModelError("an attribute is given twice")
    return attributes.items()


def _number(name: str) -> int:
    if not _TAG.fullmatch(name):
        raise ModelError("an attribute is not named by its tag, eight hexadecimal digits (PS3.18 section F.2.2)")
    return int(name, 16)


def _wrong(tag: int, rule: str) -> ModelError:
    return ModelError(f"{keyword(tag)} {rule}")


def _element(tag: int, vr: str, value: bytes) -> bytes:
    if len(value) > _LONGEST - 1:
        raise _wrong(tag, "is longer than a value may be (PS3.5 section 7.1.1)")
    return element(tag, vr, value)


def _inline(tag: int, value: object) -> bytes:
    try:
        if isinstance(value, str):
            return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        pass
    raise _wrong(tag, "has an InlineBinary that is no base64 (PS3.18 section F.2.7)")


def _binary(tag: int, vr: str, value: object) -> bytes:
    try:
        if vr == "AT" and isinstance(value, str) and _TAG.fullmatch(value):
            return struct.pack("<HH", int(value[:4], 16), int(value[4:], 16))
        if vr in ("UV", "SV") and isinstance(value, str):
            value = int(value)
        if vr != "AT" and isinstance(value, int | float) and not isinstance(value, bool):
            return struct.pack(f"<{_NUMBERS[vr]}", value)
    except (struct.error, OverflowError, ValueError):
        pass
    raise _wrong(tag, f"has a value that VR {vr} has not (PS3.18 section F.2.3)")


def _text(tag: int, vr: str, value: object) -> str:
    if value is None:
        return ""
    if vr == "PN" and isinstance(value, dict):
        groups = [value.get(group, "") for group in _GROUPS]
        if all(isinstance(group, str) for group in groups) and value.keys() <= set(_GROUPS):
            return "=".join(groups).rstrip("=")
    elif isinstance(value, str):
        return value
    elif vr in ("IS", "DS") and isinstance(value, int | float) and not isinstance(value, bool):
        if isinstance(value, int) or value.is_integer():
            text = str(int(value))
            if len(text) <= (12 if vr == "IS" else 16):
                return text
        if vr == "DS":
            return format_number_as_ds(float(value))
    raise _wrong(tag, f"has a value that VR {vr} has not (PS3.18 section F.2.3)")

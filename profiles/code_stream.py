"""What the head of a compressed frame says of itself: its transfer syntax, and the Image Pixel attributes that it carries.

For images that come with a media type only (PS3.18 section 10.5.2): `image/jpeg` may be any of five transfer syntaxes. Only
markers are read, each held against the bytes that are there.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from profiles.frames import media_type
from profiles.vocabulary import DICOM_RLE, HEVC, HTJ2K, JPEG, JPEG_2000, JPEG_2000_PART_2, JPEG_LS, JPEG_XL, MP4, MPEG

HEAD: Final = 65_536
"""Bytes of a frame that are enough; a marker beyond them is not found."""
VIDEO: Final = frozenset({MPEG, MP4, HEVC})

_JPEG: Final = "1.2.840.10008.1.2.4."
# PS3.18 table 8.7.3-5: the transfer syntax of a media type where neither its parameter nor the stream names one.
_DEFAULTS: Final = {
    JPEG: f"{_JPEG}70", JPEG_LS: f"{_JPEG}80", JPEG_2000: f"{_JPEG}90", JPEG_2000_PART_2: f"{_JPEG}92", HTJ2K: f"{_JPEG}201",
    JPEG_XL: f"{_JPEG}110", DICOM_RLE: "1.2.840.10008.1.2.5", MPEG: f"{_JPEG}100", MP4: f"{_JPEG}102", HEVC: f"{_JPEG}107",
}  # fmt: skip
_BASELINE, _EXTENDED, _LOSSLESS, _LS = 0xC0, 0xC1, 0xC3, 0xF7
_SCAN: Final = 0xDA


@dataclass(frozen=True, slots=True)
class Shape:
    """What a stream says of its frame. `components` of `precision` bits, `transformed` where colours are not stored as RGB."""

    rows: int
    columns: int
    components: int
    precision: int
    transformed: bool = False


@dataclass(frozen=True, slots=True)
class CodeStream:
    """A frame's transfer syntax and, where its head could be read, its shape."""

    transfer_syntax_uid: str
    shape: Shape | None


def describe(type_: str, named: str, head: bytes) -> CodeStream | None:
    """PS3.18 section 8.7.3.3.2: the stream of media type `type_` that begins with `head`; None where the type is no compressed one.

    `named` is the media type's `transfer-syntax` parameter or empty; it must be one of that media type. Raises `ValueError`.
    """
    if type_ not in _DEFAULTS:
        return None
    if named and media_type(named) != type_:
        raise ValueError(f"the transfer-syntax parameter is not one of {type_} (PS3.18 table 8.7.3-5)")
    found, shape = "", None
    if type_ in (JPEG, JPEG_LS):
        found, shape = _jpeg(head)
    elif type_ in (JPEG_2000, HTJ2K):
        found, shape = _jpeg_2000(head, type_)
    return CodeStream(named or (found if media_type(found) == type_ else "") or _DEFAULTS[type_], shape)


def pixel_attributes(stream: CodeStream) -> dict[str, dict[str, object]]:
    """PS3.3 table C.7-11c: the Image Pixel Description Macro as far as the stream carries it, in the DICOM JSON Model."""
    shape = stream.shape
    if shape is None:
        return {}
    allocated = 8 if shape.precision <= 8 else 16
    attributes: dict[str, dict[str, object]] = {
        "00280002": {"vr": "US", "Value": [shape.components]},
        "00280004": {"vr": "CS", "Value": [_photometric(stream.transfer_syntax_uid, shape)]},
        "00280010": {"vr": "US", "Value": [shape.rows]},
        "00280011": {"vr": "US", "Value": [shape.columns]},
        "00280100": {"vr": "US", "Value": [allocated]},
        "00280101": {"vr": "US", "Value": [shape.precision]},
        "00280102": {"vr": "US", "Value": [shape.precision - 1]},
        "00280103": {"vr": "US", "Value": [0]},
    }
    if shape.components > 1:
        attributes["00280006"] = {"vr": "US", "Value": [0]}
    return attributes


def _photometric(syntax: str, shape: Shape) -> str:
    """PS3.5 section 8.2: what each codec's colours are called."""
    if shape.components < 3:
        return "MONOCHROME2"
    if media_type(syntax) in (JPEG_2000, HTJ2K):
        return ("YBR_ICT" if syntax == f"{_JPEG}91" else "YBR_RCT") if shape.transformed else "RGB"
    return "YBR_FULL_422" if syntax in (f"{_JPEG}50", f"{_JPEG}51") and shape.transformed else "RGB"


def _jpeg(head: bytes) -> tuple[str, Shape | None]:
    """ITU-T T.81 annex B, T.87 annex C: frame and scan headers."""
    found, shape, adobe_rgb = "", None, False
    for marker, segment in _segments(head):
        if marker == 0xEE and segment[:5] == b"Adobe" and len(segment) >= 12:
            adobe_rgb = segment[11] == 0
        if marker in (_BASELINE, _EXTENDED, _LOSSLESS, _LS) and len(segment) >= 6:
            precision, rows, columns, components = struct.unpack_from(">BHHB", segment)
            shape = Shape(rows, columns, components, precision, transformed=not adobe_rgb)
            found = {_BASELINE: f"{_JPEG}50", _EXTENDED: f"{_JPEG}51", _LOSSLESS: f"{_JPEG}57", _LS: f"{_JPEG}80"}[marker]
        if marker == _SCAN and segment and len(segment) >= 4 + 2 * segment[0]:
            # Ss of a lossless scan is its predictor, NEAR of JPEG-LS stands in the same place.
            third = segment[1 + 2 * segment[0]]
            if found == f"{_JPEG}57" and third == 1:
                found = f"{_JPEG}70"
            if found == f"{_JPEG}80" and third:
                found = f"{_JPEG}81"
            break
    return found, _plausible(shape)


def _jpeg_2000(head: bytes, type_: str) -> tuple[str, Shape | None]:
    """ITU-T T.800 annex A: the SIZ and COD segments of a code stream."""
    found, shape = "", None
    for marker, segment in _segments(head):
        if marker == 0x51 and len(segment) >= 39:
            right, lower, left, upper = struct.unpack_from(">4L", segment, 2)
            (components,) = struct.unpack_from(">H", segment, 34)
            shape = Shape(lower - upper, right - left, components, (segment[36] & 0x7F) + 1)
        if marker == 0x52 and len(segment) >= 10:
            if shape is not None:
                shape = Shape(shape.rows, shape.columns, shape.components, shape.precision, transformed=bool(segment[4]))
            lossy = segment[9] == 0
            found = (f"{_JPEG}203" if lossy else f"{_JPEG}201") if type_ == HTJ2K else f"{_JPEG}91" if lossy else f"{_JPEG}90"
            break
    return found, _plausible(shape)


def _segments(head: bytes) -> Iterator[tuple[int, bytes]]:
    """(marker, what follows its length) from the second marker on, as far as whole segments go."""
    at = 2 if head[:1] == b"\xff" else len(head)
    while at + 4 <= len(head) and head[at] == 0xFF:
        marker, length = head[at + 1], int.from_bytes(head[at + 2 : at + 4], "big")
        if marker == 0xFF:  # a fill byte
            at += 1
            continue
        if length < 2 or at + 2 + length > len(head):
            return
        yield marker, head[at + 4 : at + 2 + length]
        at += 2 + length


def _plausible(shape: Shape | None) -> Shape | None:
    """None where DICOM could not say it: PS3.3 section C.7.6.3.1 has 16 bits for rows and columns."""
    if shape is None or not (0 < shape.rows <= 0xFFFF and 0 < shape.columns <= 0xFFFF):
        return None
    return shape if shape.components in (1, 3) and 1 < shape.precision <= 16 else None

"""Transfer syntaxes by what can be done with their pixels (PS3.5 annex A, PS3.6 table A-1)."""

from typing import Final

from profiles.pixel_description import PixelDescription
from profiles.vocabulary import (
    DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
    EXPLICIT_VR_BIG_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
)

_JPEG: Final = "1.2.840.10008.1.2.4."
RLE_LOSSLESS: Final = "1.2.840.10008.1.2.5"
JPEG_BASELINE, JPEG_EXTENDED = _JPEG + "50", _JPEG + "51"
JPEG_LOSSLESS: Final = (_JPEG + "57", _JPEG + "70")
JPEG_LS_LOSSLESS, JPEG_LS_NEAR_LOSSLESS = _JPEG + "80", _JPEG + "81"
JPEG_2000_LOSSLESS, JPEG_2000 = _JPEG + "90", _JPEG + "91"
HTJ2K_LOSSLESS, HTJ2K_LOSSLESS_RPCL, HTJ2K = _JPEG + "201", _JPEG + "202", _JPEG + "203"
DEFLATED_FRAMES: Final = "1.2.840.10008.1.2.8.1"

NATIVE: Final = frozenset(
    {EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN, EXPLICIT_VR_BIG_ENDIAN, DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN}
)
"""Pixels are not compressed (PS3.5 section A.4 is about all others)."""
LOSSY_JPEG: Final = frozenset({JPEG_BASELINE, JPEG_EXTENDED})
DECODED: Final = NATIVE | LOSSY_JPEG | {
    RLE_LOSSLESS, *JPEG_LOSSLESS, JPEG_LS_LOSSLESS, JPEG_LS_NEAR_LOSSLESS, JPEG_2000_LOSSLESS, JPEG_2000, HTJ2K_LOSSLESS,
    HTJ2K_LOSSLESS_RPCL, HTJ2K, DEFLATED_FRAMES,
}  # fmt: skip
"""What can be turned into something else here."""
ENCODED: Final = (
    EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN, HTJ2K_LOSSLESS, JPEG_LS_LOSSLESS, RLE_LOSSLESS, JPEG_2000_LOSSLESS,
)  # fmt: skip
"""What other syntaxes can be turned into here, without loss."""

_UNDONE: Final = frozenset({"YBR_RCT", "YBR_ICT", "YBR_FULL_422", "YBR_PARTIAL_420"})


def decoded_photometric(syntax: str, shape: PixelDescription) -> str:
    """PS3.5 sections 8.2.1 and 8.2.4: the Photometric Interpretation of the pixels once they are decoded.

    The colour transforms of a lossy JPEG and of JPEG 2000 are undone by decoding; subsampled colours are given back in full.
    """
    if shape.samples == 3 and (syntax in LOSSY_JPEG or shape.photometric in _UNDONE):
        return "RGB"
    return shape.photometric


def encoded_photometric(syntax: str, photometric: str) -> str:
    """PS3.5 section 8.2.4: the Photometric Interpretation once pixels of `photometric` are encoded; JPEG 2000 transforms RGB."""
    transforms = syntax in (JPEG_2000_LOSSLESS, HTJ2K_LOSSLESS, HTJ2K_LOSSLESS_RPCL)
    return "YBR_RCT" if transforms and photometric == "RGB" else photometric

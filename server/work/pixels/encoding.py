"""From stored values to a frame of another transfer syntax, without loss (PS3.5 annex A). Runs in a process that may die."""

from typing import Final

import imagecodecs
import jpeg_ls
import numpy as np
import rle

from profiles.pixel_description import PixelDescription
from profiles.transfer_syntaxes import HTJ2K_LOSSLESS, JPEG_2000_LOSSLESS, JPEG_LS_LOSSLESS, NATIVE, RLE_LOSSLESS
from server.work.pixels.decoding import Pixels, Undecodable

_COLOUR_BY_PIXEL: Final = 2
_TINY: Final = 1024


def encode(values: Pixels, syntax: str, shape: PixelDescription) -> bytes:
    """Stored values as `decoding.decode` gives them, as one frame of `syntax`. Raises `Undecodable` where it cannot hold them.

    `shape` describes `values`: its photometric interpretation decides whether colours may be transformed (`photometric_of`).
    """
    if syntax in NATIVE:
        if shape.allocated == 1:
            return np.packbits(values.reshape(-1), bitorder="little").tobytes()
        return np.ascontiguousarray(values).tobytes()
    values = np.ascontiguousarray(values)
    if syntax == RLE_LOSSLESS:
        return bytes(rle.rle.encode_frame(values.tobytes(), shape.rows, shape.columns, shape.samples, shape.allocated, "<"))
    if shape.allocated > 16:
        raise Undecodable
    colours = shape.samples == 3
    if syntax == JPEG_LS_LOSSLESS:
        return _jpeg_ls(values, shape)
    mixed = colours and shape.photometric == "RGB"
    if syntax == JPEG_2000_LOSSLESS:
        bits = _bits(values, shape)
        return bytes(
            imagecodecs.jpeg2k_encode(values, level=0, codecformat="j2k", reversible=True, mct=mixed, bitspersample=bits)
        )
    if syntax == HTJ2K_LOSSLESS:
        if colours and not mixed:
            values = np.ascontiguousarray(values.transpose(2, 0, 1))
        return bytes(imagecodecs.htj2k_encode(values, reversible=True, rgb=mixed))
    raise Undecodable


def _jpeg_ls(values: Pixels, shape: PixelDescription) -> bytes:
    """PS3.5 section 8.2.3: JPEG-LS knows no sign; negative numbers go as the bits that they have."""
    bits = _bits(values, shape)
    plain = values.view(f"u{values.dtype.itemsize}")
    if plain.size < _TINY:  # for which pyjpegls reserves too little memory
        return bytes(imagecodecs.jpegls_encode(plain))
    if shape.signed and bits < shape.allocated:
        plain = plain & np.array((1 << bits) - 1, plain.dtype)
    return bytes(
        jpeg_ls.encode_pixel_data(
            plain.tobytes(),
            rows=shape.rows,
            columns=shape.columns,
            samples_per_pixel=shape.samples,
            bits_allocated=shape.allocated,
            bits_stored=bits,
            photometric_interpretation=shape.photometric,
            pixel_representation=0,
            planar_configuration=0,
            lossy_error=0,
            interleave_mode=_COLOUR_BY_PIXEL if shape.samples == 3 else 0,
        )
    )


def _bits(values: Pixels, shape: PixelDescription) -> int:
    """Bits of a sample: those stored, or all where a file holds more than it says, such as overlays in the bits above."""
    if not values.size or not 1 < shape.stored < shape.allocated:
        return shape.allocated
    low, high = int(values.min()), int(values.max())
    half = 1 << (shape.stored - 1)
    fits = -half <= low and high < half if shape.signed else high < 2 * half
    return shape.stored if fits else shape.allocated

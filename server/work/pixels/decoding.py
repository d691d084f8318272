"""From a frame as it is stored to its numbers (PS3.5 section 8, annex A). Runs in a process that may die.

Each transfer syntax has the fastest decoder at hand, and pydicom's own choice behind it for what that one refuses. All give the
stored values: no Modality LUT, no window; only colours that the compression itself made (YBR of a lossy JPEG or of JPEG 2000) are RGB.
"""

import contextlib
import zlib
from collections.abc import Callable
from typing import Any, Final

import gdcm
import imagecodecs
import numpy as np
import rle
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import UID

from profiles.pixel_description import PixelDescription
from profiles.reencoding import swapped
from profiles.transfer_syntaxes import (
    DEFLATED_FRAMES,
    HTJ2K,
    HTJ2K_LOSSLESS,
    HTJ2K_LOSSLESS_RPCL,
    JPEG_2000,
    JPEG_2000_LOSSLESS,
    JPEG_BASELINE,
    JPEG_EXTENDED,
    JPEG_LOSSLESS,
    JPEG_LS_LOSSLESS,
    JPEG_LS_NEAR_LOSSLESS,
    LOSSY_JPEG,
    NATIVE,
    RLE_LOSSLESS,
    decoded_photometric,
)

Pixels = NDArray[Any]


class Undecodable(Exception):
    """No decoder takes this frame."""


def decode(data: bytes, syntax: str, shape: PixelDescription) -> tuple[Pixels, str]:
    """One frame's stored values, `(rows, columns)` or `(rows, columns, 3)`, and the photometric interpretation they have now.

    Raises `Undecodable`, and whatever the decoders raise.
    """
    photometric = decoded_photometric(syntax, shape)
    if syntax in NATIVE and photometric == shape.photometric:
        return native(data, shape), photometric
    decoder = _DECODERS.get(syntax)
    if decoder is not None:
        with contextlib.suppress(Exception):  # the next decoder may be able to; each is somebody else's program
            return _fitting(decoder(data, shape), shape), photometric
    return _fitting(_by_pydicom(data, syntax, shape), shape), photometric


def native(data: bytes | memoryview, shape: PixelDescription) -> Pixels:
    """PS3.5 section 8.1.1: pixels as they are, one after the other; single bits from the lowest."""
    count = shape.rows * shape.columns * shape.samples
    if shape.allocated not in (1, 8, 16, 32, 64) or len(data) * 8 < count * shape.allocated:
        raise Undecodable
    if shape.word > 1:
        data = swapped(bytes(data), shape.word)
    if shape.allocated == 1:
        bits = np.unpackbits(np.frombuffer(data, np.uint8), bitorder="little")[:count]
        return bits.reshape(shape.rows, shape.columns)
    return _arranged(np.frombuffer(data, f"<{'i' if shape.signed else 'u'}{shape.allocated // 8}", count), shape)


def _arranged(values: Pixels, shape: PixelDescription) -> Pixels:
    if shape.samples == 1:
        return values.reshape(shape.rows, shape.columns)
    if shape.planar:
        return np.ascontiguousarray(values.reshape(shape.samples, shape.rows, shape.columns).transpose(1, 2, 0))
    return values.reshape(shape.rows, shape.columns, shape.samples)


def _rle(data: bytes, shape: PixelDescription) -> Pixels:
    """PS3.5 annex G. Samples come out as planes."""
    raw = rle.rle.decode_frame(data, shape.rows * shape.columns, shape.allocated, "<")
    values = np.frombuffer(raw, f"<{'i' if shape.signed else 'u'}{shape.allocated // 8}")
    if shape.samples == 1:
        return values.reshape(shape.rows, shape.columns)
    planes = values.reshape(shape.samples, shape.rows, shape.columns)
    return np.ascontiguousarray(planes.transpose(1, 2, 0))


def _jpeg(data: bytes, shape: PixelDescription) -> Pixels:
    """PS3.5 section 8.2.1: baseline and extended. What is YCbCr comes out as RGB; an Adobe marker is believed before the header."""
    if b"\xff\xd9" not in data[-64:]:
        raise Undecodable  # cut off: this decoder would fill up what is missing
    if shape.samples == 1:
        return imagecodecs.jpeg8_decode(data)
    kept = shape.photometric == "RGB" and not _transformed(data)
    return imagecodecs.jpeg8_decode(data, colorspace="RGB" if kept else "YCBCR", outcolorspace="RGB")


def _transformed(data: bytes) -> bool:
    """Whether an Adobe APP14 marker says YCbCr."""
    at = data.find(b"\xff\xee\x00\x0eAdobe", 0, 4096)
    return at >= 0 and data[at + 15 : at + 16] == b"\x01"


def _jpeg_lossless(data: bytes, shape: PixelDescription) -> Pixels:
    """PS3.5 section 8.2.1: numbers as they are, whatever colours they stand for."""
    if b"\xff\xd9" not in data[-64:]:
        raise Undecodable
    if shape.samples == 3:
        return imagecodecs.jpeg8_decode(data, colorspace="RGB", outcolorspace="RGB")
    return imagecodecs.jpeg8_decode(data)


def _jpeg_ls(data: bytes, shape: PixelDescription) -> Pixels:
    return imagecodecs.jpegls_decode(data)


def _jpeg_2000(data: bytes, shape: PixelDescription) -> Pixels:
    return imagecodecs.jpeg2k_decode(data)


def _htj2k(data: bytes, shape: PixelDescription) -> Pixels:
    values = imagecodecs.htj2k_decode(data)
    if shape.samples == 3 and values.ndim == 3 and values.shape[0] == 3 and values.shape[2] != 3:
        values = np.ascontiguousarray(values.transpose(1, 2, 0))
    return values


def _deflated(data: bytes, shape: PixelDescription) -> Pixels:
    limit = shape.frame_length + 1
    return native(zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, limit), shape)


_Decoder = Callable[[bytes, PixelDescription], Pixels]
_DECODERS: Final[dict[str, _Decoder]] = {
    RLE_LOSSLESS: _rle,
    JPEG_BASELINE: _jpeg,
    JPEG_EXTENDED: _jpeg,
    **dict.fromkeys(JPEG_LOSSLESS, _jpeg_lossless),
    **dict.fromkeys((JPEG_LS_LOSSLESS, JPEG_LS_NEAR_LOSSLESS), _jpeg_ls),
    # HTJ2K that may be lossy as well: the quicker decoder lets what lossy compression overshoots wrap around, and white becomes black.
    **dict.fromkeys((JPEG_2000_LOSSLESS, JPEG_2000, HTJ2K), _jpeg_2000),
    **dict.fromkeys((HTJ2K_LOSSLESS, HTJ2K_LOSSLESS_RPCL), _htj2k),
    DEFLATED_FRAMES: _deflated,
}


def _fitting(values: Pixels, shape: PixelDescription) -> Pixels:
    """The numbers in the size and sign that the header gives them. Raises `Undecodable` for another image than it describes."""
    expected = (shape.rows, shape.columns) if shape.samples == 1 else (shape.rows, shape.columns, shape.samples)
    if values.shape != expected:
        raise Undecodable
    if shape.allocated == 1:
        return values
    wanted = np.dtype(f"{'i' if shape.signed else 'u'}{shape.allocated // 8}")
    if values.dtype == wanted:
        return values
    if values.dtype.itemsize > wanted.itemsize:
        if values.size and int(values.max()) >> shape.allocated:
            raise Undecodable
        return values.astype(wanted)
    if not shape.signed or values.dtype.kind == "i":
        return values.astype(wanted)
    return signed(values.astype(f"u{wanted.itemsize}"), shape.stored).view(wanted)


def signed(values: Pixels, bits: int) -> Pixels:
    """Unsigned numbers of which the highest of `bits` is a sign, with that sign in all bits above it too."""
    spare = values.dtype.itemsize * 8 - bits
    if spare <= 0 or (values.size and int(values.max()) >> bits):  # the sign is there already
        return values
    kind = np.dtype(f"i{values.dtype.itemsize}")
    found: Pixels = ((values << spare).view(kind) >> spare).view(values.dtype)
    return found


def _by_pydicom(data: bytes, syntax: str, shape: PixelDescription) -> Pixels:
    if syntax == JPEG_EXTENDED and shape.allocated == 16 and shape.samples == 1 and not shape.signed:
        return _by_gdcm(data, shape)
    image = Dataset()
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = UID(syntax)
    image.Rows, image.Columns, image.SamplesPerPixel = shape.rows, shape.columns, shape.samples
    image.BitsAllocated, image.BitsStored, image.HighBit = shape.allocated, shape.stored, shape.stored - 1
    image.PixelRepresentation, image.PhotometricInterpretation = int(shape.signed), shape.photometric
    if shape.samples > 1:
        image.PlanarConfiguration = int(shape.planar)
    native_ = syntax in NATIVE
    image.PixelData = data + b"\0" * (len(data) % 2) if native_ else encapsulate([data])
    image["PixelData"].VR = "OW" if native_ and shape.allocated > 8 else "OB"
    image["PixelData"].is_undefined_length = not native_
    try:
        decoder = get_decoder(UID(syntax))
    except NotImplementedError:
        raise Undecodable from None
    coloured = syntax in LOSSY_JPEG or decoded_photometric(syntax, shape) != shape.photometric
    values, _ = decoder.as_array(image, index=0, raw=not coloured)
    return values


def _by_gdcm(data: bytes, shape: PixelDescription) -> Pixels:
    """JPEG Extended with 12 bits: GDCM decodes it, but pydicom 3.0 does not let it."""
    fragment = gdcm.Fragment()
    fragment.SetByteStringValue(data)
    fragments = gdcm.SequenceOfFragments.New()
    fragments.AddFragment(fragment)
    element = gdcm.DataElement(gdcm.Tag(0x7FE0, 0x0010))
    element.SetValue(fragments.__ref__())
    image = gdcm.Image()
    image.SetNumberOfDimensions(2)
    image.SetDimensions((shape.columns, shape.rows, 1))
    image.SetDataElement(element)
    kind = gdcm.PhotometricInterpretation.GetPIType(shape.photometric)
    image.SetPhotometricInterpretation(gdcm.PhotometricInterpretation(kind))
    image.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.GetTSType(JPEG_EXTENDED)))
    image.SetPixelFormat(gdcm.PixelFormat(1, 16, shape.stored, shape.stored - 1, 0))
    text: str | None = image.GetBuffer()
    if text is None:
        raise Undecodable
    # Its bytes come as text, those that are no UTF-8 as surrogates.
    return np.frombuffer(text.encode("utf-8", "surrogateescape"), "<u2").reshape(shape.rows, shape.columns)

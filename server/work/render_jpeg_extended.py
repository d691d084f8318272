"""A decoder of JPEG Extended with 12 bits (1.2.840.10008.1.2.4.51; PS3.5 section 8.2.1), as a plugin of pydicom.

GDCM decodes it, sample for sample as libjpeg-turbo does, but pydicom 3.0 does not let it: its own plugin refuses more than 8 bits.
"""

import gdcm
from pydicom.pixels.decoders.base import DecodeRunner, get_decoder
from pydicom.uid import JPEGExtended12Bit

DECODER_DEPENDENCIES = {JPEGExtended12Bit: ("gdcm>=3.0.24",)}
_LABEL = "gdcm, 12 bits"


def install() -> None:
    """Has pydicom use this where its own plugins refuse. Once a process."""
    get_decoder(JPEGExtended12Bit).add_plugin(_LABEL, (__name__, "decode_frame"))


def is_available(uid: str) -> bool:
    return uid in DECODER_DEPENDENCIES


def decode_frame(src: bytes, runner: DecodeRunner) -> bytes:
    """One frame of unsigned grey values, 16 bits each, little endian. Raises for anything else and for a damaged frame."""
    if (runner.samples_per_pixel, runner.bits_allocated, runner.pixel_representation) != (1, 16, 0):
        raise NotImplementedError("only unsigned grey values in 16 bits are decoded here")
    fragment = gdcm.Fragment()
    fragment.SetByteStringValue(src)
    fragments = gdcm.SequenceOfFragments.New()
    fragments.AddFragment(fragment)
    element = gdcm.DataElement(gdcm.Tag(0x7FE0, 0x0010))
    element.SetValue(fragments.__ref__())
    image = gdcm.Image()
    image.SetNumberOfDimensions(2)
    image.SetDimensions((runner.columns, runner.rows, 1))
    image.SetDataElement(element)
    kind = gdcm.PhotometricInterpretation.GetPIType(str(runner.photometric_interpretation))
    image.SetPhotometricInterpretation(gdcm.PhotometricInterpretation(kind))
    image.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.GetTSType(str(JPEGExtended12Bit))))
    image.SetPixelFormat(gdcm.PixelFormat(1, 16, runner.bits_stored, runner.bits_stored - 1, 0))
    text: str | None = image.GetBuffer()
    if text is None:
        raise ValueError("the frame is damaged")
    # Its bytes come as text, those that are no UTF-8 as surrogates.
    return text.encode("utf-8", "surrogateescape")

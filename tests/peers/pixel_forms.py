"""Small images in every form that a viewer has to show: how their numbers are stored, and how they are compressed. Each shows something in every corner."""

import io
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.pixels.utils import set_pixel_data
from pydicom.sequence import Sequence
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

ROWS, COLUMNS = 48, 64
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
CT = "1.2.840.10008.5.1.4.1.1.2"
Pixels = NDArray[Any]


def ramp(low: int, high: int) -> Pixels:
    """From one corner to the other, each row another shade."""
    y, x = np.mgrid[0:ROWS, 0:COLUMNS]
    made: Pixels = low + (x + y) * (high - low) // (ROWS + COLUMNS - 2)
    return made


def made(number: int, pixels: Pixels, photometric: str, stored: int, *, signed: bool = False, **more: Any) -> Dataset:
    """One image as a study of its own, Explicit VR Little Endian."""
    dataset = Dataset()
    root = f"2.25.777.{number}"
    dataset.file_meta = FileMetaDataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID = CT if photometric.startswith("MONO") else SECONDARY_CAPTURE, f"{root}.1.1"
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = root, f"{root}.1"
    dataset.PatientID, dataset.PatientName, dataset.PatientBirthDate, dataset.PatientSex = "FORMS", "Forms^Fred", "19600229", "O"
    dataset.StudyDate, dataset.StudyTime, dataset.Modality, dataset.SeriesNumber, dataset.InstanceNumber = (
        "20260101",
        "120000",
        "OT",
        1,
        1,
    )
    dataset.StudyDescription = dataset.SeriesDescription = f"form {number}"
    if photometric != "PALETTE COLOR":
        set_pixel_data(dataset, pixels, photometric, stored)
    else:
        _set(dataset, pixels, photometric, stored)
    dataset.SOPInstanceUID = f"{root}.1.1"
    if signed:
        dataset.PixelRepresentation = 1
    for name, value in more.items():
        setattr(dataset, name, value)
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return dataset


def _set(dataset: Dataset, pixels: Pixels, photometric: str, stored: int) -> None:
    dataset.Rows, dataset.Columns, dataset.SamplesPerPixel, dataset.PhotometricInterpretation = ROWS, COLUMNS, 1, photometric
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 8, stored, stored - 1, 0
    dataset.PixelData = pixels.astype(np.uint8).tobytes()


def _palette() -> dict[str, Any]:
    curve = np.arange(256, dtype=np.uint16)
    tables = {"Red": curve * 257, "Green": (255 - curve) * 257, "Blue": (curve // 2) * 257}
    given: dict[str, Any] = {}
    for colour, table in tables.items():
        given[f"{colour}PaletteColorLookupTableDescriptor"] = [256, 0, 16]
        given[f"{colour}PaletteColorLookupTableData"] = table.astype("<u2").tobytes()
    return given


def _lut() -> Sequence:
    item = Dataset()
    item.LUTDescriptor = [4096, 0, 16]
    item.LUTData = (65535 * np.sqrt(np.arange(4096) / 4095)).astype("<u2").tobytes()
    return Sequence([item])


def forms() -> Iterator[tuple[str, Callable[[int], Dataset]]]:
    """Name, and how it is made with a number of its own."""
    colours = np.stack([ramp(0, 255), ramp(255, 0), ramp(40, 90)], -1).astype(np.uint8)
    many = np.stack([ramp(0, 4000), ramp(4000, 0), ramp(1000, 3000)]).astype(np.uint16)
    yield (
        "unsigned, a window of its own",
        lambda n: made(n, ramp(0, 4095).astype(np.uint16), "MONOCHROME2", 12, WindowCenter=1500, WindowWidth=1800),
    )
    yield "8 bits, no window", lambda n: made(n, ramp(10, 240).astype(np.uint8), "MONOCHROME2", 8)
    yield "signed, rescaled", lambda n: made(
        n, ramp(-1000, 1200).astype(np.int16), "MONOCHROME2", 16, signed=True, RescaleSlope="1", RescaleIntercept="-24", WindowCenter=40, WindowWidth=400,
    )  # fmt: skip
    yield (
        "MONOCHROME1",
        lambda n: made(n, ramp(0, 4095).astype(np.uint16), "MONOCHROME1", 12, WindowCenter=2048, WindowWidth=4096),
    )
    yield "padded, no window", lambda n: made(
        n, np.where(ramp(0, 100) < 10, -2000, ramp(-900, 900)).astype(np.int16), "MONOCHROME2", 16, signed=True, PixelPaddingValue=-2000,
    )  # fmt: skip
    yield "VOI LUT sequence", lambda n: made(n, ramp(0, 4095).astype(np.uint16), "MONOCHROME2", 12, VOILUTSequence=_lut())
    yield (
        "sigmoid",
        lambda n: made(
            n, ramp(0, 4095).astype(np.uint16), "MONOCHROME2", 12, WindowCenter=2000, WindowWidth=900, VOILUTFunction="SIGMOID"
        ),
    )
    yield "RGB", lambda n: made(n, colours, "RGB", 8)
    yield "palette", lambda n: made(n, ramp(0, 255), "PALETTE COLOR", 8, **_palette())
    yield "several frames", lambda n: made(n, many, "MONOCHROME2", 12, WindowCenter=2000, WindowWidth=3000)


COMPRESSED: tuple[UID, ...] = (RLELossless, JPEGLSLossless, JPEG2000Lossless)
"""What pydicom itself can write."""
WRITTEN: tuple[UID, ...] = (ExplicitVRLittleEndian, ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian)


def in_syntax(dataset: Dataset, syntax: UID) -> Dataset:
    """The same image in another transfer syntax."""
    if syntax in COMPRESSED:
        dataset.compress(syntax, generate_instance_uid=False)
    else:
        dataset.file_meta.TransferSyntaxUID = syntax
    return dataset


def renamed(dataset: Dataset, number: int) -> Dataset:
    """An image of others as a study of its own, of the one patient."""
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = f"2.25.777.{number}", f"2.25.777.{number}.1"
    dataset.SOPInstanceUID = f"2.25.777.{number}.1.1"
    dataset.file_meta.MediaStorageSOPInstanceUID = UID(dataset.SOPInstanceUID)
    dataset.PatientID, dataset.PatientName, dataset.PatientBirthDate = "FORMS", "Forms^Fred", "19600229"
    return dataset


OF_OTHERS = {
    "Explicit VR Big Endian": "MR_small_bigendian.dcm", "JPEG baseline": "SC_rgb_jpeg_dcmtk.dcm", "JPEG 2000": "JPEG2000.dcm",
    "YBR": "examples_ybr_color.dcm", "16-bit RGB": "SC_rgb_rle_16bit.dcm",
}  # fmt: skip
"""Files that pydicom brings, for what it cannot write."""
OF_SHARED = {"HTJ2K": "HTJ2K_08_RGB.dcm", "JPEG lossless": "JPGLosslessP14SV1_1s_1f_8b.dcm"}


def encoded(dataset: Dataset) -> bytes:
    file = io.BytesIO()
    dataset.save_as(file, enforce_file_format=True)
    return file.getvalue()

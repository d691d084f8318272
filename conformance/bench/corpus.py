"""What is sent: generated CT studies (see `profiles.phantom`), the same bytes for every peer."""

import uuid
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    UID,
    CTImageStorage,
    DigitalXRayImageStorageForPresentation,
    ExplicitVRLittleEndian,
    MultiFrameGrayscaleWordSecondaryCaptureImageStorage,
)

from profiles.identifiers import uuid_oid
from profiles.phantom import phantom_study


def ct_study(folder: Path, instances: int) -> list[Path]:
    """A CT study of `instances` images of 512 x 512 x 16 bit as files, some 0.5 MB each."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for number, dataset in enumerate(phantom_study(-(-instances // 4), 512)):
        if number == instances:
            break
        paths.append(folder / f"{number:05}.dcm")
        dataset.save_as(paths[-1], enforce_file_format=True)
    return paths


def ct_series(folder: Path, slices: int, seed: int, issuer: str = "") -> list[Path]:
    """A CT study of one series with that many slices of 512 x 512 x 16 bit, as files. `issuer` is who assigned the Patient ID."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for number, dataset in zip(range(slices), phantom_study(slices, 512, seed, issuer=issuer), strict=False):
        paths.append(folder / f"{number:05}.dcm")
        dataset.save_as(paths[-1], enforce_file_format=True)
    return paths


def small_studies(count: int, seed: int = 11) -> Iterator[bytes]:
    """`count` Part 10 files, each a study of its own with one 16 x 16 image; a patient has four of them."""
    modalities = ("CT", "MR", "DX", "US", "MG")
    for number in range(count):
        dataset = Dataset()
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = CTImageStorage
        name = f"{seed}-{number}"
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = _uid(f"{name}-instance")
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID = _uid(f"{name}-study"), _uid(f"{name}-series")
        dataset.PatientID, dataset.PatientName = f"BENCH-{number // 4}", f"Bench^{number // 4}"
        dataset.StudyDate, dataset.StudyTime = (
            f"{2006 + number % 20}{1 + number % 12:02}{1 + number % 28:02}",
            f"{number % 24:02}3000",
        )
        dataset.AccessionNumber, dataset.Modality = f"A{number}", modalities[number % 5]
        dataset.SeriesNumber = dataset.InstanceNumber = 1
        dataset.Rows = dataset.Columns = 16
        dataset.BitsAllocated = dataset.BitsStored = 16
        dataset.HighBit, dataset.PixelRepresentation, dataset.SamplesPerPixel = 15, 0, 1
        dataset.PhotometricInterpretation = "MONOCHROME2"
        dataset.PixelData = np.full((16, 16), number % 4096, dtype="<u2").tobytes()
        yield _bytes(dataset)


def archive(studies: int, series: int, instances: int, seed: int = 23) -> Iterator[bytes]:
    """Part 10 files of `studies` studies with `series` series of `instances` images of 64 x 64 each (8 kB); a patient has one study."""
    for number, data in enumerate(small_studies(studies, seed)):
        dataset = pydicom.dcmread(pydicom.filebase.DicomBytesIO(data))
        dataset.PatientID, dataset.PatientName = f"ARC-{number:05}", f"Archive{number % 10}^Person{number}"
        dataset.StudyDate = f"2020{1 + number // 28 % 12:02}{1 + number % 28:02}"
        dataset.Rows = dataset.Columns = 64
        dataset.PixelData = np.full((64, 64), number % 4096, dtype="<u2").tobytes()
        for row in range(series):
            dataset.SeriesNumber, dataset.SeriesInstanceUID = row + 1, _uid(f"{seed}-{number}-{row}")
            for column in range(instances):
                dataset.InstanceNumber = column + 1
                dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = _uid(f"{seed}-{number}-{row}-{column}")
                yield _bytes(dataset)


def radiograph(side: int = 2700) -> bytes:
    """A digital radiograph of `side` x `side` pixels, 12 of 16 bits: a smooth picture with noise, as a detector gives it."""
    down, across = np.mgrid[0:side, 0:side] / side
    noise = np.random.default_rng(5).normal(0, 12, (side, side))
    pixels = np.clip(2000 + 1500 * np.sin(5 * down) * np.cos(4 * across) + noise, 0, 4095).astype("<u2")
    dataset = pydicom.dcmread(pydicom.filebase.DicomBytesIO(next(small_studies(1, seed=31))))
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = DigitalXRayImageStorageForPresentation
    dataset.Modality, dataset.BitsStored, dataset.HighBit = "DX", 12, 11
    dataset.WindowCenter, dataset.WindowWidth = 2000, 4000
    dataset.Rows = dataset.Columns = side
    dataset.PixelData = pixels.tobytes()
    return _bytes(dataset)


def deep(frames: int = 200) -> bytes:
    """One multi-frame instance of `frames` frames of 512 x 512 x 16 bit."""
    dataset = pydicom.dcmread(pydicom.filebase.DicomBytesIO(next(small_studies(1, seed=37))))
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = MultiFrameGrayscaleWordSecondaryCaptureImageStorage
    dataset.Modality, dataset.NumberOfFrames = "OT", frames
    dataset.Rows = dataset.Columns = 512
    dataset.PixelData = np.random.default_rng(6).integers(0, 4096, (frames, 512, 512), dtype="<u2").tobytes()
    return _bytes(dataset)


def data_set(dataset: Dataset) -> bytes:
    """A Data Set as it goes over an association: Explicit VR Little Endian, without preamble and File Meta Information."""
    buffer = pydicom.filebase.DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = True, False
    pydicom.filewriter.write_dataset(buffer, dataset)
    return buffer.getvalue()


def _bytes(dataset: Dataset) -> bytes:
    buffer = pydicom.filebase.DicomBytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def _uid(name: str) -> UID:
    return UID(uuid_oid(uuid.uuid5(uuid.NAMESPACE_OID, name)))

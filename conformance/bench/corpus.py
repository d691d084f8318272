"""What is sent: generated CT studies (see `profiles.phantom`), the same bytes for every peer."""

import uuid
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian

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
        buffer = pydicom.filebase.DicomBytesIO()
        dataset.save_as(buffer, enforce_file_format=True)
        yield buffer.getvalue()


def _uid(name: str) -> UID:
    return UID(uuid_oid(uuid.uuid5(uuid.NAMESPACE_OID, name)))

"""Tiny instances, made for a test: whole Part 10 files of a few hundred bytes, by whoever a test says."""

from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING

from pydicom import Dataset, dcmwrite
from pydicom.dataset import FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian

from profiles.audit_event import INSTANCES_TRANSFERRED
from server.work.ingest import Receipt, Sender

if TYPE_CHECKING:
    from server.edges.context import Node

CT = "1.2.840.10008.5.1.4.1.1.2"
MR = "1.2.840.10008.5.1.4.1.1.4"
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
SOP_CLASSES = {"CT": CT, "MR": MR, "OT": SECONDARY_CAPTURE}
ROOT = "1.2.826.0.1.3680043.8.498"


@dataclass(frozen=True)
class Made:
    """One instance; its UIDs follow from the numbers: `study`, `series` of it, `number` of that."""

    study: int = 1
    series: int = 1
    number: int = 1
    patient: str = "P1"
    modality: str = "CT"
    accession: str = "A1"
    name: str = "Test^Thea"
    pixel: int = 0
    """The value of all pixels: other content under the same UID."""
    size: int = 4

    @property
    def study_uid(self) -> str:
        return f"{ROOT}.{self.study}"

    @property
    def series_uid(self) -> str:
        return f"{self.study_uid}.{self.series}"

    @property
    def uid(self) -> str:
        return f"{self.series_uid}.{self.number}"

    def dataset(self) -> Dataset:
        made = Dataset()
        made.SpecificCharacterSet = "ISO_IR 192"
        made.SOPClassUID = SOP_CLASSES[self.modality]
        made.SOPInstanceUID = self.uid
        made.StudyDate, made.StudyTime = "20260105", "093000"
        made.AccessionNumber = self.accession
        made.Modality = self.modality
        made.StudyDescription = "GENERATED"
        made.PatientName = self.name
        made.PatientID = self.patient
        made.PatientBirthDate, made.PatientSex = "19600229", "F"
        made.StudyInstanceUID = self.study_uid
        made.SeriesInstanceUID = self.series_uid
        made.StudyID = str(self.study)
        made.SeriesNumber = self.series
        made.InstanceNumber = self.number
        made.SamplesPerPixel, made.PhotometricInterpretation = 1, "MONOCHROME2"
        made.Rows = made.Columns = self.size
        made.BitsAllocated = made.BitsStored = 8
        made.HighBit, made.PixelRepresentation = 7, 0
        made.add_new(0x7FE00010, "OB", bytes([self.pixel]) * (self.size * self.size))
        made.file_meta = FileMetaDataset()
        made.file_meta.MediaStorageSOPClassUID = UID(made.SOPClassUID)
        made.file_meta.MediaStorageSOPInstanceUID = UID(self.uid)
        made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        return made

    def part10(self) -> bytes:
        """The same bytes every time."""
        buffer = BytesIO()
        dcmwrite(buffer, self.dataset(), enforce_file_format=True)
        return buffer.getvalue()


def send(node: "Node", *instances: Made | bytes, name: str = "DEVICE", authority: str | None = None) -> list[Receipt]:
    """Takes them in through one batch, as a C-STORE association of the device `name` would."""
    batch = node.ingest.batch(Sender(INSTANCES_TRANSFERRED, name, "127.0.0.1", authority))
    receipts = []
    for instance in instances:
        writer = batch.receive()
        writer.write(instance if isinstance(instance, bytes) else instance.part10())
        receipts.append(batch.store(writer))
    return receipts

"""Rejection notes, as an IHE IOCM Change Requester sends them: Key Object Selections with a title of PS3.16 CID 7011."""

from collections.abc import Sequence
from io import BytesIO

from peers.generated import Made
from pydicom import Dataset, dcmwrite
from pydicom.dataset import FileMetaDataset
from pydicom.sequence import Sequence as Items
from pydicom.uid import UID, ExplicitVRLittleEndian

KEY_OBJECT_SELECTION = "1.2.840.10008.5.1.4.1.1.88.59"


def rejection_note(rejected: Sequence[Made], reason: str, about: Made | None = None) -> bytes:
    """A note in series 99 of the study of `about`, by default that of the first one rejected."""
    about = about or rejected[0]
    note = Dataset()
    note.SpecificCharacterSet = "ISO_IR 192"
    note.SOPClassUID, note.SOPInstanceUID = KEY_OBJECT_SELECTION, f"{about.study_uid}.99.1"
    note.StudyInstanceUID, note.SeriesInstanceUID = about.study_uid, f"{about.study_uid}.99"
    note.PatientID, note.PatientName, note.PatientBirthDate, note.PatientSex = about.patient, about.name, "19600229", "F"
    note.StudyDate, note.StudyTime, note.StudyID, note.AccessionNumber = "20260105", "093000", str(about.study), about.accession
    note.Modality, note.SeriesNumber, note.InstanceNumber = "KO", 99, 1
    title = Dataset()
    title.CodeValue, title.CodingSchemeDesignator, title.CodeMeaning = reason, "DCM", "a title"
    note.ValueType, note.ConceptNameCodeSequence = "CONTAINER", Items([title])
    note.CurrentRequestedProcedureEvidenceSequence = Items([])
    for made in rejected:
        reference = Dataset()
        reference.ReferencedSOPClassUID = made.dataset().SOPClassUID
        reference.ReferencedSOPInstanceUID = made.uid
        series = Dataset()
        series.SeriesInstanceUID, series.ReferencedSOPSequence = made.series_uid, Items([reference])
        study = Dataset()
        study.StudyInstanceUID, study.ReferencedSeriesSequence = made.study_uid, Items([series])
        note.CurrentRequestedProcedureEvidenceSequence.append(study)
    note.file_meta = FileMetaDataset()
    note.file_meta.MediaStorageSOPClassUID = UID(KEY_OBJECT_SELECTION)
    note.file_meta.MediaStorageSOPInstanceUID = UID(note.SOPInstanceUID)
    note.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    output = BytesIO()
    dcmwrite(output, note, enforce_file_format=True)
    return output.getvalue()

"""Scheduled and performed procedure steps as test material."""

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence


def scheduled(
    number: int = 1,
    *,
    name: str = "Muster^Hans",
    patient_id: str = "P1",
    station: str = "CT1",
    modality: str = "CT",
    date: str = "20261122",
    time: str = "0930",
    performer: str = "House^Gregory",
    **attributes: object,
) -> Dataset:
    """A worklist item, PS3.4 table K.6-1, with one Scheduled Procedure Step."""
    step = Dataset()
    step.Modality = modality
    step.ScheduledStationAETitle = station
    step.ScheduledProcedureStepStartDate = date
    step.ScheduledProcedureStepStartTime = time
    step.ScheduledPerformingPhysicianName = performer
    step.ScheduledProcedureStepDescription = "Thorax"
    step.ScheduledProcedureStepID = f"SPS{number}"
    item = Dataset()
    item.SpecificCharacterSet = "ISO_IR 192"
    item.AccessionNumber = f"A{number}"
    item.ReferringPhysicianName = "Wilson^James"
    item.PatientName = name
    item.PatientID = patient_id
    item.PatientBirthDate = "19700101"
    item.PatientSex = "M"
    item.StudyInstanceUID = f"1.2.3.{number}"
    item.RequestedProcedureID = f"RP{number}"
    item.RequestedProcedureDescription = "CT Thorax"
    item.ScheduledProcedureStepSequence = Sequence([step])
    for keyword, value in attributes.items():
        setattr(item, keyword, value)
    return item


def begun(number: int = 1, **attributes: object) -> Dataset:
    """The attributes of an N-CREATE for the step of `scheduled(number)`, PS3.4 table F.7.2-1."""
    relation = Dataset()
    relation.StudyInstanceUID = f"1.2.3.{number}"
    relation.ReferencedStudySequence = Sequence()
    relation.AccessionNumber = f"A{number}"
    relation.RequestedProcedureID = f"RP{number}"
    relation.RequestedProcedureDescription = ""
    relation.ScheduledProcedureStepID = f"SPS{number}"
    relation.ScheduledProcedureStepDescription = ""
    step = Dataset()
    step.SpecificCharacterSet = "ISO_IR 100"
    step.ScheduledStepAttributesSequence = Sequence([relation])
    step.PatientName = "Müller^Jörg"
    step.PatientID = "P1"
    step.PatientBirthDate = "19700101"
    step.PatientSex = "M"
    step.ReferencedPatientSequence = Sequence()
    step.PerformedProcedureStepID = f"PPS{number}"
    step.PerformedStationAETitle = "CT1"
    step.PerformedStationName = ""
    step.PerformedLocation = ""
    step.PerformedProcedureStepStartDate = "20261122"
    step.PerformedProcedureStepStartTime = "0931"
    step.PerformedProcedureStepStatus = "IN PROGRESS"
    step.PerformedProcedureStepDescription = ""
    step.PerformedProcedureTypeDescription = ""
    step.ProcedureCodeSequence = Sequence()
    step.PerformedProcedureStepEndDate = ""
    step.PerformedProcedureStepEndTime = ""
    step.Modality = "CT"
    step.StudyID = "1"
    step.PerformedProtocolCodeSequence = Sequence()
    step.PerformedSeriesSequence = Sequence()
    for keyword, value in attributes.items():
        setattr(step, keyword, value)
    return step


def ended(status: str = "COMPLETED") -> Dataset:
    """The attributes of the N-SET that ends a step."""
    series = Dataset()
    series.PerformingPhysicianName = ""
    series.ProtocolName = "Thorax"
    series.OperatorsName = ""
    series.SeriesInstanceUID = "1.2.3.1.1"
    series.SeriesDescription = ""
    series.RetrieveAETitle = ""
    series.ReferencedImageSequence = Sequence()
    step = Dataset()
    step.PerformedProcedureStepStatus = status
    step.PerformedProcedureStepEndDate = "20261122"
    step.PerformedProcedureStepEndTime = "0945"
    step.PerformedSeriesSequence = Sequence([series])
    return step

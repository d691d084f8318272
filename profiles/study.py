"""The study as one value: Study > Series > Instance, frozen.

Every face (QIDO, ImagingStudy, Key Object Selection manifest, Document Entry) is a projection of these values, so the
faces cannot disagree. `profiles.header` makes them from a DICOM header, `server.records.catalogue` keeps them.
"""

from dataclasses import dataclass, field

from profiles.identifiers import PatientIdentifier


@dataclass(frozen=True, slots=True)
class Patient:
    """The patient as the images name her (PS3.3 C.7.1.1).

    `name` is the DICOM PN string as decoded text (all component groups), `birth_date` is DA (`YYYYMMDD`) or empty,
    `sex` is CS (`M`, `F`, `O` or empty). `id` is the resource id in FHIR, empty before the patient is stored.
    """

    identifier: PatientIdentifier
    name: str = ""
    birth_date: str = ""
    sex: str = ""
    id: str = ""


@dataclass(frozen=True, slots=True)
class Instance:
    """One SOP Instance (PS3.3 C.12.1). `frames` is 0 where the SOP Class has no pixels."""

    sop_instance_uid: str
    sop_class_uid: str
    transfer_syntax_uid: str
    number: int | None = None
    rows: int = 0
    columns: int = 0
    frames: int = 0
    title: str = ""


@dataclass(frozen=True, slots=True)
class Series:
    """One series (PS3.3 C.7.3.1). Date and time are DICOM DA and TM, empty where absent."""

    series_instance_uid: str
    modality: str
    number: int | None = None
    description: str = ""
    body_part: str = ""
    laterality: str = ""
    date: str = ""
    time: str = ""
    instances: tuple[Instance, ...] = ()


@dataclass(frozen=True, slots=True)
class Study:
    """One study (PS3.3 C.7.2.1), as published: series ordered by number then UID, instances likewise.

    `date` is DA, `time` is TM, `timezone` is `+HHMM`/`-HHMM` (0008,0201), each empty where absent.
    `accession_authority` is the OID of the accession number's issuer, empty where unknown.
    `id` is the ImagingStudy's resource id, `version` counts publications from 1 (0: not yet published).
    """

    study_instance_uid: str
    patient: Patient
    study_id: str = ""
    accession_number: str = ""
    accession_authority: str = ""
    date: str = ""
    time: str = ""
    timezone: str = ""
    description: str = ""
    referring_physician: str = ""
    institution: str = ""
    series: tuple[Series, ...] = ()
    id: str = ""
    version: int = 0
    modalities: tuple[str, ...] = field(default=())

    @property
    def instance_count(self) -> int:
        return sum(len(series.instances) for series in self.series)

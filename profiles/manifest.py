"""Key Object Selection manifest: a study's list of what to fetch and where (PS3.3 A.35.4, PS3.16 TID 2010, IHE RAD TF-3 4.68).

A manifest is written for one study with every series and instance in it; it is read from anybody's file, and then may
name several studies.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timezone, tzinfo
from functools import lru_cache
from io import BytesIO
from typing import TypeAlias

from pydicom import Dataset, config, dcmwrite
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import DataElement
from pydicom.dataset import FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.tag import Tag
from pydicom.uid import UID

from profiles import part10, timestamps
from profiles.fitted_text import fitted
from profiles.study import Instance, Series, Study
from profiles.vocabulary import (
    CONTENT_MAPPING_RESOURCE,
    DCM_MANIFEST,
    DCM_MANIFEST_DISPLAY,
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLEMENTATION_CLASS_UID,
    IMPLEMENTATION_VERSION_NAME,
    KEY_OBJECT_SELECTION,
    KEY_OBJECT_TEMPLATE,
    UNIVERSAL_ID_ISO,
)

_Value: TypeAlias = str | bytes | int | list[Dataset] | None

# Storage SOP Classes whose IOD is an image though their name does not say so (PS3.4 table B.5-1)
_IMAGES_BY_ANOTHER_NAME = frozenset(
    {
        "1.2.840.10008.5.1.4.1.1.6.2",  # Enhanced US Volume
        "1.2.840.10008.5.1.4.1.1.30",  # Parametric Map
        "1.2.840.10008.5.1.4.1.1.66.4",  # Segmentation
        "1.2.840.10008.5.1.4.1.1.66.7",  # Label Map Segmentation
        "1.2.840.10008.5.1.4.1.1.77.1.5.8",  # Ophthalmic OCT B-scan Volume Analysis
        "1.2.840.10008.5.1.4.1.1.81.1",  # Ophthalmic Thickness Map
        "1.2.840.10008.5.1.4.1.1.82.1",  # Corneal Topography Map
    }
)


class NotAManifest(ValueError):
    """The bytes are not a Key Object Selection that names instances. The message says what is missing, never a value."""


@dataclass(frozen=True, slots=True)
class ReferencedInstance:
    """One item of Referenced SOP Sequence (0008,1199)."""

    sop_class_uid: str
    sop_instance_uid: str


@dataclass(frozen=True, slots=True)
class ReferencedSeries:
    """One item of Referenced Series Sequence (0008,1115), with where to fetch it; each place is empty where it is not said."""

    study_instance_uid: str
    series_instance_uid: str
    instances: tuple[ReferencedInstance, ...]
    retrieve_ae_title: str = ""
    retrieve_location_uid: str = ""
    retrieve_url: str = ""


@dataclass(frozen=True, slots=True)
class ManifestContent:
    """What a manifest says. `issuer` is the OID of the patient id's authority; `title` the DCM code of the document title."""

    sop_instance_uid: str
    study_instance_uid: str
    patient_id: str
    issuer: str
    accession_number: str
    title: str
    series: tuple[ReferencedSeries, ...]

    @property
    def studies(self) -> tuple[str, ...]:
        """The Study Instance UIDs that the manifest names, in its order."""
        return tuple(dict.fromkeys(series.study_instance_uid for series in self.series))


def build(
    study: Study,
    *,
    sop_instance_uid: str,
    series_instance_uid: str,
    created: datetime,
    zone: tzinfo,
    retrieve_ae_title: str,
    retrieve_location_uid: str,
    retrieve_url: str,
    manufacturer: str = "imageshare",
) -> bytes:
    """PS3.3 A.35.4: the study's manifest as a Part 10 file in Explicit VR Little Endian, UTF-8.

    `created` is aware; `zone` is the site's, for a study that says no timezone. `retrieve_url` is the WADO-RS base URL (each
    series gets its own below it) or empty. Dates and times that are none are written empty, what describes is made to fit its VR, and
    identifiers are copied as they are.
    Raises ValueError for a study without instances: a Key Object Selection must name at least one (PS3.3 C.17.6.2).
    """
    if not study.instance_count:
        raise ValueError("a manifest needs at least one instance (PS3.3 C.17.6.2.1): publish the study when it has one")
    offset = _offset(study, created, zone)
    local = created.astimezone(offset)
    dataset = Dataset()
    _put_document(dataset, sop_instance_uid, series_instance_uid, local, manufacturer, study.institution)
    _put_patient_and_study(dataset, study)
    _put(dataset, "TimezoneOffsetFromUTC", f"{local:%z}")
    if study.accession_number:
        _put(dataset, "ReferencedRequestSequence", [_request(study)])
    places = (retrieve_ae_title, retrieve_location_uid, retrieve_url.rstrip("/"))
    _put(dataset, "CurrentRequestedProcedureEvidenceSequence", [_evidence(study, *places)])
    _put(dataset, "ContentSequence", [_content(instance) for series in study.series for instance in series.instances])
    return _part10(dataset, sop_instance_uid)


def read(source: bytes | Dataset) -> ManifestContent:
    """PS3.3 C.17.6.2.1: what a Key Object Selection names, from its file or its dataset. Raises `NotAManifest`."""
    try:
        return _content_of(source if isinstance(source, Dataset) else part10.parse(BytesIO(source)).dataset)
    except NotAManifest:
        raise
    except part10.HeaderError as error:
        raise NotAManifest(str(error)) from error
    except Exception as error:  # pydicom converts values late, and raises whatever it trips over: KeyError, struct.error ...
        raise NotAManifest("an element of the Key Object Selection cannot be read by its VR") from error


@lru_cache(maxsize=512)
def value_type(sop_class_uid: str, has_frames: bool) -> str:
    """PS3.3 table C.17.3-7 and TID 2010: how a Key Object Selection refers to a SOP Class: IMAGE, WAVEFORM or COMPOSITE.

    A private SOP Class is an image where its instance has frames.
    """
    name = UID(sop_class_uid).name
    if "Waveform Storage" in name:
        return "WAVEFORM"
    if "Image Storage" in name or sop_class_uid in _IMAGES_BY_ANOTHER_NAME:
        return "IMAGE"
    return "IMAGE" if name == sop_class_uid and has_frames else "COMPOSITE"


def _content_of(dataset: Dataset) -> ManifestContent:
    if _text(dataset, "SOPClassUID") != KEY_OBJECT_SELECTION:
        raise NotAManifest("SOP Class UID (0008,0016) is not Key Object Selection Document Storage")
    series = tuple(
        _referenced_series(_text(study, "StudyInstanceUID"), item)
        for study in sequence_items(dataset, "CurrentRequestedProcedureEvidenceSequence")
        for item in sequence_items(study, "ReferencedSeriesSequence")
    )
    if not any(item.instances for item in series):
        raise NotAManifest("Current Requested Procedure Evidence Sequence (0040,A375) names no instance")
    qualifiers = sequence_items(dataset, "IssuerOfPatientIDQualifiersSequence")
    titles = sequence_items(dataset, "ConceptNameCodeSequence")
    return ManifestContent(
        sop_instance_uid=_text(dataset, "SOPInstanceUID"),
        study_instance_uid=_text(dataset, "StudyInstanceUID"),
        patient_id=_text(dataset, "PatientID"),
        issuer=_issuer(qualifiers[0]) if qualifiers else "",
        accession_number=_text(dataset, "AccessionNumber"),
        title=_text(titles[0], "CodeValue") if titles else "",
        series=series,
    )


def _offset(study: Study, created: datetime, zone: tzinfo) -> timezone:
    """The one offset that holds for every date and time in the file: the study's own, so that its times stay as they are."""
    if (said := timestamps.dicom_offset(study.timezone)) is not None:
        return said
    taken = timestamps.moment(study.date, study.time or "1200", zone) or created.astimezone(zone)
    return timestamps.dicom_offset(f"{taken:%z}"[:5]) or UTC


def _put_document(
    dataset: Dataset, sop_instance_uid: str, series_instance_uid: str, local: datetime, manufacturer: str, institution: str
) -> None:
    """PS3.3 C.17.6.1, C.17.6.2, C.17.3, C.7.5.1 and C.12.1: the document itself."""
    _put(dataset, "SpecificCharacterSet", "ISO_IR 192")
    _put(dataset, "SOPClassUID", KEY_OBJECT_SELECTION)
    _put(dataset, "SOPInstanceUID", sop_instance_uid)
    _put(dataset, "InstanceCreationDate", f"{local:%Y%m%d}")
    _put(dataset, "InstanceCreationTime", f"{local:%H%M%S}")
    _put(dataset, "ContentDate", f"{local:%Y%m%d}")
    _put(dataset, "ContentTime", f"{local:%H%M%S}")
    _put(dataset, "Modality", "KO")
    _put(dataset, "Manufacturer", manufacturer)
    if named := fitted(institution, "LO"):
        _put(dataset, "InstitutionName", named)
    _put(dataset, "SeriesDescription", "Manifest")
    _put(dataset, "SeriesInstanceUID", series_instance_uid)
    _put(dataset, "SeriesNumber", "999")
    _put(dataset, "InstanceNumber", "1")
    _put(dataset, "ReferencedPerformedProcedureStepSequence", [])
    _put(dataset, "ValueType", "CONTAINER")
    _put(dataset, "ConceptNameCodeSequence", [_code(DCM_MANIFEST, "DCM", DCM_MANIFEST_DISPLAY)])
    _put(dataset, "ContinuityOfContent", "SEPARATE")
    template = _item(MappingResource=CONTENT_MAPPING_RESOURCE, TemplateIdentifier=KEY_OBJECT_TEMPLATE)
    _put(dataset, "ContentTemplateSequence", [template])


def _put_patient_and_study(dataset: Dataset, study: Study) -> None:
    """PS3.3 C.7.1.1 and C.7.2.1: whose images, of which study."""
    patient = study.patient
    _put(dataset, "PatientName", fitted(patient.name, "PN"))
    _put(dataset, "PatientID", patient.identifier.value)
    namespace = patient.identifier.authority.namespace
    if namespace and namespace == fitted(namespace, "LO"):
        _put(dataset, "IssuerOfPatientID", namespace)
    _put(dataset, "IssuerOfPatientIDQualifiersSequence", [_entity(patient.identifier.authority.oid)])
    _put(dataset, "PatientBirthDate", timestamps.dicom_date(patient.birth_date) or "")
    _put(dataset, "PatientSex", patient.sex if patient.sex in {"M", "F", "O"} else "")
    _put(dataset, "StudyInstanceUID", study.study_instance_uid)
    _put(dataset, "StudyID", fitted(study.study_id, "SH"))
    _put(dataset, "StudyDate", timestamps.dicom_date(study.date) or "")
    _put(dataset, "StudyTime", timestamps.dicom_time(study.time) or "")
    _put(dataset, "ReferringPhysicianName", fitted(study.referring_physician, "PN"))
    _put(dataset, "AccessionNumber", study.accession_number)
    if study.accession_number and study.accession_authority:
        _put(dataset, "IssuerOfAccessionNumberSequence", [_entity(study.accession_authority)])
    if described := fitted(study.description, "LO"):
        _put(dataset, "StudyDescription", described)


def _request(study: Study) -> Dataset:
    """PS3.3 C.17.6.2, Referenced Request Sequence (0040,A370), Type 1C: the order that the accession number stands for."""
    item = _item(
        StudyInstanceUID=study.study_instance_uid,
        ReferencedStudySequence=[],
        AccessionNumber=study.accession_number,
        PlacerOrderNumberImagingServiceRequest="",
        FillerOrderNumberImagingServiceRequest="",
        RequestedProcedureID="",
        RequestedProcedureDescription="",
        RequestedProcedureCodeSequence=[],
    )
    if study.accession_authority:
        _put(item, "IssuerOfAccessionNumberSequence", [_entity(study.accession_authority)])
    return item


def _evidence(study: Study, retrieve_ae_title: str, retrieve_location_uid: str, retrieve_url: str) -> Dataset:
    """PS3.3 C.17.2.1, Hierarchical SOP Instance Reference: the study with every series that has instances."""
    base = retrieve_url and f"{retrieve_url}/studies/{study.study_instance_uid}/series/"
    items = [
        _evidence_series(series, retrieve_ae_title, retrieve_location_uid, base and base + series.series_instance_uid)
        for series in study.series
        if series.instances
    ]
    return _item(ReferencedSeriesSequence=items, StudyInstanceUID=study.study_instance_uid)


def _evidence_series(series: Series, retrieve_ae_title: str, retrieve_location_uid: str, retrieve_url: str) -> Dataset:
    item = _item(SeriesInstanceUID=series.series_instance_uid)
    if retrieve_ae_title:
        _put(item, "RetrieveAETitle", retrieve_ae_title)
    if retrieve_location_uid:
        _put(item, "RetrieveLocationUID", retrieve_location_uid)
    if retrieve_url:
        _put(item, "RetrieveURL", retrieve_url)
    _put(item, "ReferencedSOPSequence", [_reference(instance) for instance in series.instances])
    return item


def _content(instance: Instance) -> Dataset:
    """PS3.16 TID 2010: one content item CONTAINS IMAGE, WAVEFORM or COMPOSITE."""
    kind = value_type(instance.sop_class_uid, instance.frames > 0)
    return _item(ReferencedSOPSequence=[_reference(instance)], RelationshipType="CONTAINS", ValueType=kind)


def _reference(instance: Instance) -> Dataset:
    """PS3.3 table 10-11: the whole instance, all frames and all waveform channels of it."""
    return _item(ReferencedSOPClassUID=instance.sop_class_uid, ReferencedSOPInstanceUID=instance.sop_instance_uid)


def _code(value: str, scheme: str, meaning: str) -> Dataset:
    return _item(CodeValue=value, CodingSchemeDesignator=scheme, CodeMeaning=meaning)


def _entity(oid: str) -> Dataset:
    """PS3.3 section 10.14, HL7v2 Hierarchic Designator: a universal id that is an OID."""
    return _item(UniversalEntityID=oid, UniversalEntityIDType=UNIVERSAL_ID_ISO)


def _item(**values: _Value) -> Dataset:
    item = Dataset()
    for keyword, value in values.items():
        _put(item, keyword, value)
    return item


@lru_cache(maxsize=128)
def _attribute(keyword: str) -> tuple[int, str]:
    tag = tag_for_keyword(keyword)
    if tag is None:
        raise ValueError(f"{keyword} is not a keyword of PS3.6")
    return tag, dictionary_VR(tag)


def _put(dataset: Dataset, keyword: str, value: _Value) -> None:
    """Sets an attribute without checking its length: a stored study's identifiers are what they are, and the manifest says the same."""
    tag, vr = _attribute(keyword)
    content = Sequence(value) if isinstance(value, list) else value
    dataset.add(DataElement(Tag(tag), vr, content, validation_mode=config.IGNORE))


def _part10(dataset: Dataset, sop_instance_uid: str) -> bytes:
    """PS3.10 section 7.1: preamble, file meta information, dataset."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = UID(KEY_OBJECT_SELECTION)
    meta.MediaStorageSOPInstanceUID = UID(sop_instance_uid)
    meta.TransferSyntaxUID = UID(EXPLICIT_VR_LITTLE_ENDIAN)
    meta.ImplementationClassUID = UID(IMPLEMENTATION_CLASS_UID)
    meta.ImplementationVersionName = IMPLEMENTATION_VERSION_NAME
    dataset.file_meta = meta
    buffer = BytesIO()
    dcmwrite(buffer, dataset, enforce_file_format=True)
    return buffer.getvalue()


def _referenced_series(study_instance_uid: str, item: Dataset) -> ReferencedSeries:
    return ReferencedSeries(
        study_instance_uid=study_instance_uid,
        series_instance_uid=_text(item, "SeriesInstanceUID"),
        instances=tuple(
            ReferencedInstance(_text(reference, "ReferencedSOPClassUID"), _text(reference, "ReferencedSOPInstanceUID"))
            for reference in sequence_items(item, "ReferencedSOPSequence")
        ),
        retrieve_ae_title=_text(item, "RetrieveAETitle"),
        retrieve_location_uid=_text(item, "RetrieveLocationUID"),
        retrieve_url=_text(item, "RetrieveURL"),
    )


def _issuer(qualifier: Dataset) -> str:
    return _text(qualifier, "UniversalEntityID") if _text(qualifier, "UniversalEntityIDType") == UNIVERSAL_ID_ISO else ""


def _text(dataset: Dataset, keyword: str) -> str:
    value = dataset.get(keyword)
    return "" if value is None else str(value).strip(" \0")


def sequence_items(dataset: Dataset, keyword: str) -> list[Dataset]:
    """PS3.5 section 7.5: the items of a sequence; none where the element is missing or no sequence."""
    value = dataset.get(keyword)
    return list(value) if isinstance(value, Sequence) else []

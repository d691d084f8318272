from dataclasses import replace
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from lxml import etree

from conformance.generated import studies
from profiles import manifest_entry as entries
from profiles.document import Code, DocumentEntry
from profiles.identifiers import AssigningAuthority, PatientIdentifier
from profiles.study import Instance, Patient, Series, Study

SHARED = Path(__file__).resolve().parents[2] / ".." / "shared" / "testdata"
IMAGE = Instance("1.2.3.1.1", "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.1.2.1")
STUDY = Study(
    study_instance_uid="1.2.3",
    patient=Patient(PatientIdentifier("47^11", AssigningAuthority("1.2.9")), "Adams^John^Quincy^Rev.^B.A.", "19610704", "M"),
    accession_number="A&1",
    accession_authority="1.2.8",
    date="20260107",
    time="003000",
    description="CT of the chest",
    institution="St. Elsewhere",
    series=(
        Series("1.2.3.1", "CT", 1, body_part="CHEST", instances=(IMAGE,)),
        Series("1.2.3.2", "CT", 2, body_part="chest", instances=(IMAGE,)),
        Series("1.2.3.3", "SR", 3, instances=(IMAGE,)),
    ),
)


def entry_of(study: Study) -> DocumentEntry:
    return entries.manifest_entry(
        study,
        entry_uuid="urn:uuid:7edca82f-054d-47f2-a032-9b2a5b518600",
        unique_id="1.2.3.99.1",
        sha1="da39a3ee5e6b4b0d3255bfef95601890afd80709",
        size=1234,
        created="20260108120000",
        repository_unique_id="1.2.77",
        zone=ZoneInfo("Europe/Berlin"),
    )


def test_the_entry_of_a_manifest_says_what_xds_i_wants() -> None:
    entry = entry_of(STUDY)
    assert entry.patient_id == entry.source_patient_id == "47\\S\\11^^^&1.2.9&ISO"
    assert entry.format_code == Code("1.2.840.10008.5.1.4.1.1.88.59", "1.2.840.10008.2.6.1", "Key Object Selection Document")
    assert entry.mime_type == "application/dicom"
    assert entry.type_code.code == "18748-4"
    assert entry.service_start == "20260106233000"
    assert [(code.code, code.scheme) for code in entry.event_codes] == [
        ("CT", "1.2.840.10008.2.16.4"),
        ("816094009", "2.16.840.1.113883.6.96"),
    ]
    assert entry.reference_ids == (
        "A\\T\\1^^^&1.2.8&ISO^urn:ihe:iti:xds:2013:accession",
        "1.2.3^^^^urn:ihe:iti:xds:2016:studyInstanceUID",
    )
    assert entry.source_patient_info == (
        "PID-3|47\\S\\11^^^&1.2.9&ISO",
        "PID-5|Adams^John^Quincy^B.A.^Rev.",
        "PID-7|19610704",
        "PID-8|M",
    )
    assert entry.title == "CT of the chest"
    assert entry.authors[0].institutions == ("St. Elsewhere",)


def test_the_affinity_domain_may_know_the_patient_by_another_identifier() -> None:
    entry = entries.manifest_entry(
        STUDY,
        entry_uuid="urn:uuid:7edca82f-054d-47f2-a032-9b2a5b518600",
        unique_id="1.2.3.99.1",
        sha1="",
        size=0,
        created="20260108120000",
        repository_unique_id="1.2.77",
        zone=ZoneInfo("UTC"),
        patient_id=PatientIdentifier("G1", AssigningAuthority("1.2.100")),
    )
    assert (entry.patient_id, entry.source_patient_id) == ("G1^^^&1.2.100&ISO", "47\\S\\11^^^&1.2.9&ISO")


def test_a_study_that_says_little_has_an_entry_all_the_same() -> None:
    entry = entry_of(Study("1.2.3", Patient(STUDY.patient.identifier), series=(Series("1.2.3.1", "MR", instances=(IMAGE,)),)))
    assert entry.title == "MR imaging study"
    assert entry.service_start == ""
    assert entry.authors == ()
    assert entry.reference_ids == ("1.2.3^^^^urn:ihe:iti:xds:2016:studyInstanceUID",)
    assert entry.source_patient_info == ("PID-3|47\\S\\11^^^&1.2.9&ISO",)


def test_the_title_and_the_codes_name_what_acquired_the_images() -> None:
    mixed = entry_of(study_of("SR", "MR", "KO", "PT", "MR"))
    assert mixed.title == "MR PT imaging study"
    assert [code.code for code in mixed.event_codes] == ["MR", "PT"]


def test_without_an_acquisition_modality_all_that_there_is_is_named() -> None:
    reports = entry_of(study_of("SR", "KO"))
    assert reports.title == "SR KO imaging study"
    assert [code.code for code in reports.event_codes] == ["SR", "KO"]


def study_of(*terms: str) -> Study:
    series = tuple(Series(f"1.2.3.{number}", term, instances=(IMAGE,)) for number, term in enumerate(terms, 1))
    return Study("1.2.3", Patient(STUDY.patient.identifier), series=series)


def test_an_accession_number_without_authority_has_an_empty_one() -> None:
    ids = entries.reference_ids(replace(STUDY, accession_number="A1", accession_authority=""))
    assert ids[0] == "A1^^^^urn:ihe:iti:xds:2013:accession"


def test_the_submission_set_is_about_the_same_patient() -> None:
    entry = entry_of(STUDY)
    made = entries.submission_set(
        entry, entry_uuid="urn:uuid:1", unique_id="1.2.55", source_id="1.2.66", submission_time="20260108120001"
    )
    assert (made.patient_id, made.title, made.authors) == (entry.patient_id, entry.title, entry.authors)
    assert (made.unique_id, made.source_id, made.submission_time) == ("1.2.55", "1.2.66", "20260108120001")


@given(studies())
def test_every_entry_can_be_found_by_study_and_patient(study: Study) -> None:
    entry = entry_of(study)
    assert PatientIdentifier.from_cx(entry.patient_id).value == study.patient.identifier.value
    assert entry.reference_ids[-1].split("^")[0] == study.study_instance_uid
    assert all(cxi.count("^") == 4 for cxi in entry.reference_ids)
    assert 0 < len(entry.title) <= 128
    assert entry.event_codes


@pytest.mark.skipif(not SHARED.exists(), reason="../shared/testdata is not here")
def test_every_code_is_in_the_affinity_domain_of_the_nist_toolkit() -> None:
    parser = etree.XMLParser(resolve_entities=False, no_network=True, huge_tree=False)
    codes = etree.parse(SHARED / "nist/environment/codes.xml", parser)
    entry = entry_of(STUDY)
    made = entries.submission_set(entry, entry_uuid="", unique_id="", source_id="", submission_time="")
    for kind, code in {
        "classCode": entry.class_code,
        "typeCode": entry.type_code,
        "formatCode": entry.format_code,
        "confidentialityCode": entry.confidentiality[0],
        "healthcareFacilityTypeCode": entry.facility_type,
        "practiceSettingCode": entry.practice_setting,
        "eventCodeList": entry.event_codes[0],
        "contentTypeCode": made.content_type,
    }.items():
        found = codes.xpath(f"//CodeType[@name='{kind}']/Code[@code='{code.code}' and @codingScheme='{code.scheme}']")
        assert found, kind

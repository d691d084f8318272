import base64
from dataclasses import replace
from pathlib import Path
from zoneinfo import ZoneInfo

import orjson
import pytest
from fhir.resources.R4B.documentreference import DocumentReference
from hypothesis import given, settings

from conformance.generated import studies
from profiles.document import DEPRECATED, RPLC, Author, Code, DocumentEntry
from profiles.document_reference import coding, document_reference, system
from profiles.identifiers import AssigningAuthority, PatientIdentifier
from profiles.manifest_entry import manifest_entry
from profiles.study import Instance, Patient, Series, Study

SHARED = Path(__file__).resolve().parents[2] / ".." / "shared" / "testdata"
SHA1 = "da39a3ee5e6b4b0d3255bfef95601890afd80709"
STUDY = Study(
    study_instance_uid="1.2.3",
    patient=Patient(PatientIdentifier("47^11", AssigningAuthority("1.2.9")), "DOE^JOHN"),
    accession_number="A&1",
    accession_authority="1.2.8",
    date="20260107",
    time="101112",
    description="CT of the chest",
    institution="St. Elsewhere",
    series=(
        Series(
            "1.2.3.1",
            "CT",
            body_part="CHEST",
            instances=(Instance("1.2.3.1.1", "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.1.2"),),
        ),
    ),
)


def entry_of(study: Study) -> DocumentEntry:
    return manifest_entry(
        study,
        entry_uuid="urn:uuid:7edca82f-054d-47f2-a032-9b2a5b518600",
        unique_id="1.2.3.99.1",
        sha1=SHA1,
        size=1234,
        created="20260108120000",
        repository_unique_id="1.2.77",
        zone=ZoneInfo("UTC"),
    )


def projected(entry: DocumentEntry, replaces: str | None = None) -> dict[str, object]:
    return document_reference(
        entry,
        id="d2",
        subject_id="p1",
        content_url="https://images.example.org/fhir/Binary/b1",
        context_study_id="s1",
        study_instance_uid="1.2.3",
        relations=((RPLC, replaces),) if replaces else (),
    )


def test_every_attribute_of_the_entry_has_its_place() -> None:
    scheme = {"loinc": "http://loinc.org", "sct": "http://snomed.info/sct", "dcm": "http://dicom.nema.org/resources/ontology/DCM"}
    assert projected(entry_of(STUDY), replaces="d1") == {
        "resourceType": "DocumentReference",
        "id": "d2",
        "contained": [
            {
                "resourceType": "Patient",
                "id": "source",
                "identifier": [{"system": "urn:oid:1.2.9", "value": "47^11"}],
                "name": [{"family": "DOE", "given": ["JOHN"]}],
            }
        ],
        "masterIdentifier": {"system": "urn:ietf:rfc:3986", "value": "urn:oid:1.2.3.99.1"},
        "identifier": [
            {"use": "official", "system": "urn:ietf:rfc:3986", "value": "urn:uuid:7edca82f-054d-47f2-a032-9b2a5b518600"}
        ],
        "status": "current",
        "type": {"coding": [{"system": scheme["loinc"], "code": "18748-4", "display": "Diagnostic imaging study"}]},
        "category": [{"coding": [{"system": "urn:oid:1.3.6.1.4.1.19376.1.2.6.1", "code": "IMAGES", "display": "Images"}]}],
        "subject": {"reference": "Patient/p1"},
        "date": "2026-01-08T12:00:00Z",
        "author": [{"display": "St. Elsewhere"}],
        "relatesTo": [{"code": "replaces", "target": {"reference": "DocumentReference/d1"}}],
        "description": "CT of the chest",
        "securityLabel": [
            {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v3-Confidentiality", "code": "N", "display": "normal"}]}
        ],
        "content": [
            {
                "attachment": {
                    "contentType": "application/dicom",
                    "language": "en-US",
                    "url": "https://images.example.org/fhir/Binary/b1",
                    "size": 1234,
                    "hash": base64.b64encode(bytes.fromhex(SHA1)).decode(),
                    "title": "CT of the chest",
                    "creation": "2026-01-08T12:00:00Z",
                },
                "format": {
                    "system": "http://dicom.nema.org/resources/ontology/DCMUID",
                    "code": "1.2.840.10008.5.1.4.1.1.88.59",
                    "display": "Key Object Selection Document",
                },
            }
        ],
        "context": {
            "event": [
                {"coding": [{"system": scheme["dcm"], "code": "CT", "display": "Computed Tomography"}]},
                {"coding": [{"system": scheme["sct"], "code": "816094009", "display": "Chest"}]},
            ],
            "period": {"start": "2026-01-07T10:11:12Z"},
            "facilityType": {"coding": [{"system": scheme["sct"], "code": "22232009", "display": "Hospital"}]},
            "practiceSetting": {
                "coding": [{"system": scheme["sct"], "code": "309964003", "display": "Radiology department (environment)"}]
            },
            "sourcePatientInfo": {
                "type": "Patient",
                "reference": "#source",
                "identifier": {"system": "urn:oid:1.2.9", "value": "47^11"},
            },
            "related": [
                {
                    "type": "ImagingStudy",
                    "reference": "ImagingStudy/s1",
                    "identifier": {"system": "urn:dicom:uid", "value": "urn:oid:1.2.3"},
                },
                {
                    "identifier": {
                        "type": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v2-0203", "code": "ACSN"}]},
                        "system": "urn:oid:1.2.8",
                        "value": "A&1",
                    }
                },
            ],
        },
    }


def test_a_deprecated_entry_is_superseded() -> None:
    assert projected(replace(entry_of(STUDY), status=DEPRECATED))["status"] == "superseded"


def test_a_creation_time_without_a_time_of_day_is_no_instant() -> None:
    resource = projected(replace(entry_of(STUDY), creation_time="20260108"))
    assert "date" not in resource
    DocumentReference.model_validate(resource)


def test_what_an_entry_of_limited_metadata_lacks_is_left_out() -> None:
    resource = projected(
        DocumentEntry("urn:uuid:7edca82f-054d-47f2-a032-9b2a5b518600", "1.2.3.99.1", mime_type="text/xml", is_limited=True)
    )
    DocumentReference.model_validate(resource)
    assert not {"type", "category", "securityLabel", "date", "author"} & resource.keys()
    assert resource["content"] == [
        {"attachment": {"contentType": "text/xml", "url": "https://images.example.org/fhir/Binary/b1"}}
    ]
    assert resource["context"].keys() == {"related"}  # type: ignore[attr-defined]


def test_an_author_who_is_a_person_is_shown_by_name() -> None:
    resource = projected(replace(entry_of(STUDY), authors=(Author(person="D11^House^Gregory"), Author())))
    assert resource["author"] == [{"display": "Gregory House"}]


def test_somebody_elses_source_patient_id_that_is_no_cx_is_left_out() -> None:
    resource = projected(replace(entry_of(STUDY), source_patient_id="4711"))
    context = resource["context"]
    assert isinstance(context, dict)
    assert context["sourcePatientInfo"] == {"type": "Patient", "reference": "#source"}
    assert resource["contained"] == [{"resourceType": "Patient", "id": "source", "name": [{"family": "DOE", "given": ["JOHN"]}]}]


@pytest.mark.parametrize(
    ("scheme", "expected"),
    [
        ("2.16.840.1.113883.6.1", "http://loinc.org"),
        ("LN", "http://loinc.org"),
        ("1.2.3.4", "urn:oid:1.2.3.4"),
        ("http://example.org/codes", "http://example.org/codes"),
        ("99LOCAL", ""),
    ],
)
def test_a_coding_scheme_is_a_fhir_system(scheme: str, expected: str) -> None:
    assert system(scheme) == expected
    assert ("system" in coding(Code("x", scheme))) == bool(expected)


@given(studies())
@settings(deadline=None)
def test_every_entry_is_valid_fhir(study: Study) -> None:
    resource = orjson.loads(orjson.dumps(projected(entry_of(study))))
    DocumentReference.model_validate(resource)


@pytest.mark.skipif(not SHARED.exists(), reason="../shared/testdata is not here")
def test_type_and_study_are_said_as_in_the_mado_examples() -> None:
    example = orjson.loads(next((SHARED / "ihe-rad-mado/resources").glob("mado-kos-*-docref.json")).read_bytes())
    ours = orjson.loads(orjson.dumps(projected(entry_of(STUDY))))
    assert ours["type"]["coding"][0]["code"] == example["type"]["coding"][0]["code"]
    assert ours["content"][0]["format"]["code"] == example["content"][0]["format"]["code"]
    assert ours["context"]["related"][0]["identifier"]["system"] == example["context"]["related"][0]["identifier"]["system"]
    assert ours["context"]["related"][0]["identifier"]["value"].startswith("urn:oid:")

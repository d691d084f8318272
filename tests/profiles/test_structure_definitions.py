"""Our own profiles are right themselves, and what the projections make conforms to them."""

from typing import Any
from zoneinfo import ZoneInfo

import pytest
from fhir.resources.R4B.structuredefinition import StructureDefinition
from hypothesis import given

from conformance.generated import patients, studies
from profiles.document_reference import document_reference
from profiles.fhir.issues import Issue
from profiles.fhir.profile_check import validate
from profiles.identifiers import AssigningAuthority, PatientIdentifier
from profiles.imaging_study import endpoint, imaging_study, withdrawn
from profiles.manifest_entry import manifest_entry
from profiles.patient import fhir_patient
from profiles.structure_definitions import find, structure_definitions
from profiles.study import Instance, Patient, Series, Study

BASE = "http://imageshare.example/fhir/StructureDefinition/imageshare-"
CT = "1.2.840.10008.5.1.4.1.1.2"
STUDY = Study(
    study_instance_uid="1.2.3", id="s1", version=1, date="20260107", time="101112", accession_number="A-1", accession_authority="1.2.276.0.76.3.1.2",
    patient=Patient(PatientIdentifier("4711", AssigningAuthority("1.2.276.0.76.3.1.1")), "DOE^JOHN", "19700101", "M", "p1"),
    series=(Series("1.2.3.1", "CT", 1, instances=(Instance("1.2.3.1.1", CT, "1.2.840.10008.1.2.1", 1),)),),
)  # fmt: skip
ENDPOINT = endpoint("wado", "https://images.example.org/dicom-web/", "Images")


def wrong(resource: dict[str, Any], name: str) -> list[Issue]:
    return [issue for issue in validate(resource, profiles=[BASE + name]) if issue.severity != "warning"]


def manifest(study: Study) -> dict[str, Any]:
    entry = manifest_entry(
        study, entry_uuid="urn:uuid:7edca82f-054d-47f2-a032-9b2a5b518600", unique_id="1.2.3.99.1", sha1="da39a3ee5e6b4b0d3255bfef95601890afd80709",
        size=1234, created="20260108120000", repository_unique_id="1.2.77", zone=ZoneInfo("UTC"),
    )  # fmt: skip
    return document_reference(
        entry, id="d1", subject_id="p1", content_url="https://images.example.org/fhir/Binary/b1", context_study_id="s1",
        study_instance_uid=study.study_instance_uid,
    )  # fmt: skip


EXAMPLES: dict[str, dict[str, Any]] = {
    "imaging-study": imaging_study(STUDY, "wado", ZoneInfo("Europe/Berlin")),
    "manifest": manifest(STUDY),
    "wado-rs-endpoint": ENDPOINT,
    "patient": fhir_patient(STUDY.patient),
}


def test_there_is_an_example_of_each() -> None:
    assert {BASE + name for name in EXAMPLES} == set(structure_definitions())


@pytest.mark.parametrize("name", EXAMPLES)
def test_what_the_projections_make_conforms(name: str) -> None:
    assert wrong(EXAMPLES[name], name) == []


@pytest.mark.parametrize("url", structure_definitions())
def test_each_is_a_structure_definition(url: str) -> None:
    definition = structure_definitions()[url]
    assert [issue for issue in validate(definition) if "dom-6" not in issue.diagnostics] == []
    StructureDefinition.model_validate(definition)
    assert find(url) is definition
    assert definition["url"].endswith("/" + definition["id"])


@pytest.mark.parametrize(
    ("name", "change", "place"),
    [
        ("imaging-study", {"numberOfInstances": 2}, "ImagingStudy"),
        ("imaging-study", {"endpoint": None}, "ImagingStudy"),
        ("imaging-study", {"identifier": [{"system": "urn:oid:1.2.276.0.76.3.1.2", "value": "A-1"}]}, "ImagingStudy.identifier"),
        ("imaging-study", {"status": "registered"}, "ImagingStudy"),
        ("manifest", {"masterIdentifier": None}, "DocumentReference.masterIdentifier"),
        (
            "manifest",
            {"contained": None, "context": {"related": [{"type": "Patient", "display": "x"}]}},
            "DocumentReference.context.related",
        ),
        ("wado-rs-endpoint", {"extension": None}, "Endpoint.extension"),
        ("wado-rs-endpoint", {"address": "https://images.example.org/dicom-web/"}, "Endpoint.address"),
        ("wado-rs-endpoint", {"connectionType": {"code": "hl7-fhir-rest"}}, "Endpoint.connectionType"),
        ("patient", {"identifier": [{"system": "urn:oid:1.2.276.0.76.3.1.1"}]}, "Patient.identifier[0].value"),
    ],
)
def test_what_they_ask_for_is_asked_for(name: str, change: dict[str, Any], place: str) -> None:
    changed = {key: value for key, value in (EXAMPLES[name] | change).items() if value is not None}
    assert place in [issue.expression for issue in wrong(changed, name)]


def test_a_study_that_was_withdrawn_conforms() -> None:
    assert wrong(withdrawn(STUDY), "imaging-study") == []


@given(studies())
def test_studies_as_equipment_writes_them_conform(study: Study) -> None:
    assert wrong(imaging_study(study, "wado", ZoneInfo("UTC")), "imaging-study") == []
    assert wrong(manifest(study), "manifest") == []


@given(patients())
def test_patients_as_equipment_writes_them_conform(patient: Patient) -> None:
    assert wrong(fhir_patient(patient), "patient") == []

"""By what reports and studies name each other besides references."""

from typing import Any

import pytest

from profiles.fhir.report_studies import Name, names

ACSN = {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v2-0203", "code": "ACSN"}]}
UID = {"system": "urn:dicom:uid", "value": "urn:oid:1.2.3"}
ACCESSION = {"type": ACSN, "system": "urn:oid:1.9", "value": " A1 "}
A1, STUDY = Name("A1", True, "urn:oid:1.9"), Name("urn:oid:1.2.3")


@pytest.mark.parametrize(
    ("type_", "content", "expected"),
    [
        ("ImagingStudy", {"identifier": [UID, ACCESSION, {"value": "A1"}]}, {STUDY, A1}),
        ("ImagingStudy", {"basedOn": [{"identifier": ACCESSION}]}, {A1}),
        ("DiagnosticReport", {"identifier": [ACCESSION]}, {A1}),
        ("DiagnosticReport", {"basedOn": [{"identifier": ACCESSION}]}, {A1}),
        ("DiagnosticReport", {"basedOn": [{"reference": "ServiceRequest/x", "identifier": ACCESSION}]}, set()),
        ("DiagnosticReport", {"imagingStudy": [{"identifier": ACCESSION}]}, {A1}),
        ("DiagnosticReport", {"imagingStudy": [{"identifier": UID}], "identifier": [ACCESSION]}, {STUDY}),
        ("DiagnosticReport", {"imagingStudy": [{"reference": "ImagingStudy/x"}], "identifier": [ACCESSION]}, set()),
        ("DiagnosticReport", {"imagingStudy": [{"reference": "ImagingStudy/x"}, {"identifier": UID}]}, {STUDY}),
        ("DiagnosticReport", {"identifier": [{"value": "A1"}, {"type": ACSN}, {"type": {"text": "ACSN"}, "value": "A1"}]}, set()),
        ("DocumentReference", {"context": {"related": [{"identifier": ACCESSION}]}}, {A1}),
        ("DocumentReference", {"context": {"related": [{"identifier": UID}, {"identifier": ACCESSION}]}}, {STUDY}),
        ("DocumentReference", {"context": {"related": [{"reference": "ImagingStudy/x"}, {"identifier": ACCESSION}]}}, set()),
        ("DocumentReference", {"context": {"related": [{"reference": "Encounter/x"}, {"identifier": ACCESSION}]}}, {A1}),
        ("DiagnosticReport", {"basedOn": [{"identifier": UID}], "identifier": [ACCESSION]}, {STUDY}),
        ("DiagnosticReport", {"imagingStudy": [{"reference": "ImagingStudy/x"}], "basedOn": [{"identifier": UID}]}, set()),
        ("DiagnosticReport", {"identifier": [UID, ACCESSION]}, {STUDY, A1}),
        ("DiagnosticReport", {"imagingStudy": [{"identifier": {**UID, "value": " 1.2.3"}}]}, {STUDY}),
        ("ImagingStudy", {"identifier": [{**UID, "value": "1.2.3"}, {**UID, "value": " "}]}, {STUDY}),
        ("DocumentReference", {"identifier": [UID], "masterIdentifier": UID}, set()),
        ("DocumentReference", {}, set()),
        ("Observation", {"identifier": [ACCESSION]}, set()),
    ],
)
def test_what_names_a_study(type_: str, content: dict[str, Any], expected: set[Name]) -> None:
    assert names({"resourceType": type_, **content}) == expected

"""Reports and their studies, on both engines: found from either side, by reference, by study UID and by accession number."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from peers import imageshare
from peers.fhir_site import FhirSite, fhir_site, issue
from peers.generated import Made, send
from peers.shows import shows

MADE = Made(study=1, patient="P1", accession="A1")
ACCESSION = {"type": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v2-0203", "code": "ACSN"}]}, "value": "A1"}


@pytest.fixture
def site(tmp_path: Path, database_url: str) -> Iterator[FhirSite]:
    with fhir_site(tmp_path / "data", database_url) as site:
        send(site.node, MADE)
        imageshare.publish_all(site.node)
        (study,) = site.ids("ImagingStudy")
        (patient,) = site.ids("Patient")
        subject = {"reference": f"Patient/{patient}"}
        report = {"resourceType": "DiagnosticReport", "status": "final", "code": {"text": "x"}, "subject": subject}
        for id_, more in (
            ("by-reference", {"imagingStudy": [{"reference": f"ImagingStudy/{study}"}]}),
            ("by-uid", {"imagingStudy": [{"identifier": {"system": "urn:dicom:uid", "value": f"urn:oid:{MADE.study_uid}"}}]}),
            ("by-accession", {"identifier": [ACCESSION], "basedOn": [{"reference": "ServiceRequest/order"}]}),
        ):
            assert site.ask("PUT", f"DiagnosticReport/{id_}", body={**report, "id": id_, **more}).status_code == 201
        order = {
            "resourceType": "ServiceRequest",
            "id": "order",
            "status": "active",
            "intent": "order",
            "subject": subject,
            "identifier": [ACCESSION],
        }
        assert site.ask("PUT", "ServiceRequest/order", body=order).status_code == 201
        document = {
            "resourceType": "DocumentReference", "id": "letter", "status": "current", "content": [{"attachment": {"url": "Binary/x"}}],
            "subject": subject, "context": {"related": [{"reference": f"ImagingStudy/{study}"}]},
        }  # fmt: skip
        assert site.ask("PUT", "DocumentReference/letter", body=document).status_code == 201
        scan = {**document, "id": "scan", "context": {"related": [{"type": "ImagingStudy", "identifier": ACCESSION}]}}
        assert site.ask("PUT", "DocumentReference/scan", body=scan).status_code == 201
        yield site


@shows("search", "_has", "chain")
@shows("result", "_revinclude", "_include")
def test_a_report_is_found_by_its_study_and_the_other_way_round(site: FhirSite) -> None:
    (study,) = site.ids("ImagingStudy")
    uid = f"urn:dicom:uid|urn:oid:{MADE.study_uid}"
    for query, expected in (
        (f"DiagnosticReport?study=ImagingStudy/{study}", ["by-accession", "by-reference", "by-uid"]),
        (f"DiagnosticReport?study.identifier={uid}", ["by-accession", "by-reference", "by-uid"]),
        (f"DiagnosticReport?study:identifier={uid}", ["by-uid"]),
        ("DiagnosticReport?identifier=A1", ["by-accession"]),
        ("DiagnosticReport?based-on.identifier=A1", ["by-accession"]),
        (f"DocumentReference?related=ImagingStudy/{study}&_id=letter,scan", ["letter", "scan"]),
        ("ImagingStudy?_has:DiagnosticReport:study:status=final", [study]),
        ("ImagingStudy?_has:DiagnosticReport:study:status=amended", []),
        ("ImagingStudy?identifier=A1", [study]),
    ):
        assert sorted(site.ids(query)) == expected, query
    included = site.ids("ImagingStudy?_revinclude=DiagnosticReport:study&_revinclude=DocumentReference:related", mode="include")
    assert {"by-accession", "by-reference", "by-uid", "letter", "scan"} <= set(included)
    for id_ in ("by-accession", "by-reference", "by-uid"):
        assert site.ids(f"DiagnosticReport?_id={id_}&_include=DiagnosticReport:study", mode="include") == [study]


def test_a_later_study_of_the_same_order_has_the_report_too_and_another_patients_has_not(site: FhirSite) -> None:
    (first,) = site.ids("ImagingStudy")
    said = site.get("DiagnosticReport/by-accession").content
    send(site.node, Made(study=2, patient="P1", accession="A1"))
    send(site.node, Made(study=3, patient="P2", accession="A1"))
    imageshare.publish_all(site.node)
    uids = {number: f"identifier=urn:dicom:uid|urn:oid:{Made(study=number).study_uid}" for number in (2, 3)}
    (second,), (strangers,) = (site.ids(f"ImagingStudy?{each}") for each in uids.values())
    assert site.ids(f"DiagnosticReport?study=ImagingStudy/{second}") == ["by-accession"]
    assert site.ids(f"DiagnosticReport?study=ImagingStudy/{strangers}") == []
    included = site.ids("DiagnosticReport?_id=by-accession&_include=DiagnosticReport:study", mode="include")
    assert set(included) == {first, second}
    assert site.get("DiagnosticReport/by-accession").content == said  # what the client wrote is as it was


def test_a_patients_own_app_finds_them_too(site: FhirSite) -> None:
    """Also with all that there is of the patient (`$everything`), and among the documents (`$docref`)."""
    (study,) = site.ids("ImagingStudy")
    (patient,) = site.ids("Patient")
    token = site.token("patient/*.rs", patient=patient)
    assert set(site.ids(f"DiagnosticReport?study=ImagingStudy/{study}", token)) == {"by-accession", "by-reference", "by-uid"}
    assert {"by-accession", "by-uid", "scan", study} <= set(site.ids(f"Patient/{patient}/$everything?_count=100", token))
    assert {"letter", "scan"} <= set(site.ids(f"DocumentReference/$docref?patient={patient}", token))


@pytest.mark.parametrize(
    "query",
    [
        "DiagnosticReport?study:missing=true", "DiagnosticReport?study={}", "DiagnosticReport?study=ImagingStudy/{}",
        "DiagnosticReport?study:ImagingStudy={}", "DiagnosticReport?_sort=study", "DiagnosticReport?_sort=-study",
        "DiagnosticReport?_filter=not(study re ImagingStudy/{})", "DiagnosticReport?subject._has:DiagnosticReport:subject:study:missing=false",
        "DocumentReference?related:missing=false", "DocumentReference?related={}", "DocumentReference?related:ImagingStudy={}",
        "DocumentReference?_sort=related", "Patient?_has:DiagnosticReport:subject:study:missing=false",
    ],
)  # fmt: skip
def test_that_there_is_a_study_is_not_told_to_who_may_not_search_for_it(site: FhirSite, query: str) -> None:
    (study,) = site.ids("ImagingStudy")
    reports = "system/DiagnosticReport.rs system/DocumentReference.rs system/Patient.rs"
    refused = issue(site.get(query.format(study), site.token(f"{reports} system/ImagingStudy.r")), 403, "forbidden")
    assert "ImagingStudy" in refused["diagnostics"]
    assert site.get(query.format(study), site.token(f"{reports} system/ImagingStudy.s")).status_code == 200


@pytest.mark.parametrize(
    "query", ["DocumentReference?related=Encounter/1", "DiagnosticReport?study:identifier=A1", "DiagnosticReport?study=http://x.example/y"]
)  # fmt: skip
def test_what_tells_of_no_study_is_answered_without(site: FhirSite, query: str) -> None:
    assert site.ids(query, site.token("system/DiagnosticReport.rs system/DocumentReference.rs")) == []


def test_it_is_told_in_the_capability_statement(site: FhirSite) -> None:
    (report,) = (each for each in site.get("metadata").json()["rest"][0]["resource"] if each["type"] == "DiagnosticReport")
    assert "study" in {each["name"] for each in report["searchParam"]}
    (study,) = (each for each in site.get("metadata").json()["rest"][0]["resource"] if each["type"] == "ImagingStudy")
    assert "DiagnosticReport:study" in study["searchRevInclude"]

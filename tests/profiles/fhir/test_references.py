"""FHIR R4 section 2.3 and 3.1.0.11.3: references are found where the definitions have them, and written anew in a transaction."""

from copy import deepcopy
from typing import Any

import pytest
from hypothesis import given
from peers.resources import XHTML, resources

from profiles.fhir.references import Found, Target, found, is_conditional, parse_reference, rewritten

BASE = "https://images.example.org/fhir"
UUID = "urn:uuid:c757873d-ec9a-4326-a141-556f43239520"


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("Patient/7", Target("relative", "Patient", "7")),
        ("Patient/7/_history/2", Target("relative", "Patient", "7", "2")),
        (f"{BASE}/Patient/7", Target("absolute", "Patient", "7")),
        (f"{BASE}/Patient/7/_history/2", Target("absolute", "Patient", "7", "2")),
        (f"{BASE}/x/Patient/7", Target("absolute", "Patient", "7", url=f"{BASE}/x/Patient/7")),
        ("http://a.b/Patient/7", Target("absolute", "Patient", "7", url="http://a.b/Patient/7")),
        ("http://a.b/Acme/7", Target("absolute", url="http://a.b/Acme/7")),
        ("http://a.b/Patient?x=y", Target("absolute", url="http://a.b/Patient?x=y")),
        (UUID, Target("urn", url=UUID)),
        ("urn:oid:1.2.3", Target("urn", url="urn:oid:1.2.3")),
        ("#", Target("fragment")),
        ("#p1", Target("fragment", id="p1")),
        ("Patient?identifier=a|b", Target("search", "Patient")),
        *((text, Target("")) for text in ("", "Patient", "Patient/", "Patient/a b", f"Patient/{'a' * 65}", "Acme/7", "Acme?x=y", "/Patient/7", "urn:uuid:7",
                                          "urn:oid:5.1", "a b:c", "Patient/7/_history/", "Patient/7\n")),
    ],
)  # fmt: skip
def test_forms_of_references(text: str, target: Target) -> None:
    assert parse_reference(text, BASE) == target
    assert is_conditional(text) == (target.form == "search")


REPORT: dict[str, Any] = {
    "resourceType": "DiagnosticReport", "status": "final", "code": {"coding": [{"system": "http://loinc.org", "code": "1"}]},
    "text": {"status": "generated", "div": f'{XHTML}<a href="{UUID}">a</a><img src=\'Binary/1\'/><b title="{UUID}">{UUID}</b></div>'},
    "contained": [{"resourceType": "Observation", "id": "o", "subject": {"reference": UUID}}],
    "subject": {"reference": UUID, "identifier": {"assigner": {"reference": "Organization/1"}}},
    "result": [{"reference": "#o"}, {"display": UUID}, {"reference": "Observation/9"}],
    "_issued": {"extension": [{"url": "http://a.b", "valueReference": {"reference": UUID}}]},
    "presentedForm": [{"url": UUID, "title": UUID}],
}  # fmt: skip


def test_references_are_found_with_path_type_and_targets() -> None:
    all_found = found(REPORT)
    references = [each for each in all_found if each.type == "Reference"]
    subject = ("Device", "Group", "Location", "Patient")
    assert references[1:2] == [Found("DiagnosticReport.subject.reference", "Reference", UUID, subject)]
    assert [each.path for each in references] == [
        "DiagnosticReport.contained[0].subject.reference",
        "DiagnosticReport.subject.reference",
        "DiagnosticReport.subject.identifier.assigner.reference",
        "DiagnosticReport.result[0].reference",
        "DiagnosticReport.result[2].reference",
        "DiagnosticReport.issued.extension[0].value.reference",
    ]
    assert [each.path for each in all_found if each.type == "url"] == ["DiagnosticReport.presentedForm[0].url"]
    assert ("uri", "http://loinc.org") in {(each.type, each.text) for each in all_found}


def test_canonicals_have_the_types_that_they_lead_to() -> None:
    plan = {
        "resourceType": "CarePlan",
        "instantiatesCanonical": ["http://a.b/PlanDefinition/1"],
        "subject": {"reference": "Patient/1"},
    }
    assert found(plan)[0].path == "CarePlan.instantiatesCanonical[0]"
    assert "PlanDefinition" in found(plan)[0].targets


def test_entries_of_bundles_and_parameters_are_looked_into() -> None:
    bundle = {"resourceType": "Bundle", "type": "collection", "entry": [{"fullUrl": UUID, "resource": REPORT}]}
    assert "Bundle.entry[0].resource.subject.reference" in {each.path for each in found(bundle)}
    parameters = {"resourceType": "Parameters", "parameter": [{"name": "a", "resource": REPORT}]}
    assert "Parameters.parameter[0].resource.subject.reference" in {each.path for each in found(parameters)}


def test_references_links_and_uris_are_written_anew_and_texts_are_not() -> None:
    before = deepcopy(REPORT)
    made = rewritten(REPORT, {UUID: "Patient/5", "Binary/1": "Binary/2"})
    assert before == REPORT
    assert made["subject"]["reference"] == "Patient/5"
    assert made["contained"][0]["subject"]["reference"] == "Patient/5"
    assert made["_issued"]["extension"][0]["valueReference"]["reference"] == "Patient/5"
    assert made["presentedForm"] == [{"url": "Patient/5", "title": UUID}]
    assert made["result"] is REPORT["result"]
    assert made["text"]["div"] == f'{XHTML}<a href="Patient/5">a</a><img src=\'Binary/2\'/><b title="{UUID}">{UUID}</b></div>'
    assert list(made) == list(REPORT)


def test_canonicals_are_not_written_anew() -> None:
    """FHIR R4 section 3.1.0.11.2: elements of type canonical are not replaced, those of type uri and url are."""
    url = "http://a.b/PlanDefinition/1"
    plan = {
        "resourceType": "CarePlan",
        "meta": {"profile": [url]},
        "implicitRules": url,
        "instantiatesCanonical": [url],
        "instantiatesUri": [url],
        "subject": {"reference": url},
    }
    made = rewritten(plan, {url: "PlanDefinition/9"})
    assert (made["meta"], made["instantiatesCanonical"]) == (plan["meta"], [url])
    assert (made["implicitRules"], made["instantiatesUri"]) == ("PlanDefinition/9", ["PlanDefinition/9"])
    assert made["subject"] == {"reference": "PlanDefinition/9"}


def test_a_relative_reference_is_beside_its_entry() -> None:
    mapping = {f"{BASE}/Patient/7": "Patient/new", "Patient?identifier=a|b": "Patient/found"}
    study = {"resourceType": "ImagingStudy", "status": "available", "subject": {"reference": "Patient/7"}}
    assert rewritten(study, mapping, full_url=f"{BASE}/ImagingStudy/1")["subject"]["reference"] == "Patient/new"
    assert rewritten(study, mapping, full_url="https://elsewhere.org/fhir/ImagingStudy/1") is study
    assert rewritten(study, mapping, full_url=UUID) is study
    conditional = {**study, "subject": {"reference": "Patient?identifier=a|b"}}
    assert rewritten(conditional, mapping)["subject"]["reference"] == "Patient/found"


def test_what_is_no_resource_stays() -> None:
    assert found({"resourceType": "Thing", "reference": UUID}) == []
    thing = {"resourceType": "Thing", "reference": UUID}
    assert rewritten(thing, {UUID: "Patient/1"}) is thing
    broken: dict[str, Any] = {
        "resourceType": "Patient",
        "generalPractitioner": {"reference": 7},
        "contained": ["x", {"id": 1}],
        "contact": 5,
    }
    assert rewritten(broken, {UUID: "x"}) is broken
    assert found(broken) == []


@given(resources())
def test_all_that_is_found_is_written_anew_and_back(resource: dict[str, Any]) -> None:
    texts = {each.text for each in found(resource)}
    there = {text: f"urn:uuid:{place:032d}" for place, text in enumerate(sorted(texts))}
    made = rewritten(resource, there)
    wanted = [each.text if each.type == "canonical" else there[each.text] for each in found(resource)]
    assert [each.text for each in found(made)] == wanted
    assert [each.path for each in found(made)] == [each.path for each in found(resource)]
    assert rewritten(made, {new: old for old, new in there.items()}) == resource
    assert rewritten(resource, {}) is resource

"""Summaries and selected elements (FHIR R4 sections 3.1.1.5.8 and 3.1.1.5.9)."""

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from peers.resources import resources

from profiles.fhir.json import serialize
from profiles.fhir.subset import SUBSETTED, data, elements, summary, text
from profiles.r4.definitions import type_

Json = dict[str, Any]
UID = "1.2.826.0.1.3680043.8.498.7654321098765432109876543210"
DICOM = "http://dicom.nema.org/resources/ontology/DCM"
DIV = '<div xmlns="http://www.w3.org/1999/xhtml">a</div>'
META = {"meta": {"tag": [SUBSETTED]}}


def imaging_study(series: int, instances: int) -> Json:
    """As the server publishes them."""
    return {
        "resourceType": "ImagingStudy", "id": "s", "meta": {"versionId": "1", "lastUpdated": "2026-01-02T03:04:05.678Z"},
        "identifier": [{"system": "urn:dicom:uid", "value": f"urn:oid:{UID}"}], "status": "available",
        "modality": [{"system": DICOM, "code": "CT"}], "subject": {"reference": "Patient/p"}, "started": "2025-05-05T10:00:00+02:00",
        "numberOfSeries": series, "numberOfInstances": series * instances, "description": "CT",
        "series": [
            {"uid": f"{UID}.{n}", "number": n, "modality": {"system": DICOM, "code": "CT"}, "numberOfInstances": instances,
             "instance": [{"uid": f"{UID}.{n}.{m}", "sopClass": {"system": "urn:ietf:rfc:3986", "code": "urn:oid:1.2.840.10008.5.1.4.1.1.2"}, "number": m}
                          for m in range(instances)]}
            for n in range(series)
        ],
    }  # fmt: skip


def test_the_summary_of_an_imaging_study_has_no_instances() -> None:
    study = imaging_study(10, 100)
    before = serialize(study)
    made = summary(study)
    assert len(before) > 150_000
    assert len(serialize(made)) < 4_500
    assert [each["uid"] for each in made["series"]] == [each["uid"] for each in study["series"]]
    assert all("instance" not in each for each in made["series"])
    assert made["meta"] == {**study["meta"], "tag": [SUBSETTED]}
    assert serialize(study) == before


PATIENT: Json = {
    "resourceType": "Patient", "id": "p", "meta": {"versionId": "3", "tag": [{"system": "urn:t", "code": "x"}]},
    "implicitRules": "urn:rules", "language": "de", "text": {"status": "generated", "div": DIV},
    "contained": [{"resourceType": "Organization", "id": "o"}],
    "extension": [{"url": "urn:x", "valueCode": "c"}],
    "modifierExtension": [{"url": "urn:m", "valueQuantity": {"value": 1, "extension": [{"url": "urn:y", "valueCode": "c"}]}}],
    "identifier": [{"id": "i", "extension": [{"url": "urn:x", "valueCode": "c"}], "system": "urn:s", "value": "1"}],
    "active": True, "_active": {"id": "a"}, "name": [{"given": ["A", None], "_given": [None, {"id": "g"}]}],
    "_birthDate": {"extension": [{"url": "urn:x", "valueCode": "unknown"}]},
    "deceasedBoolean": False, "maritalStatus": {"text": "x"},
    "contact": [{"name": {"text": "x"}}], "link": [{"other": {"reference": "Patient/q"}, "type": "seealso"}],
}  # fmt: skip

SUMMARIES: dict[str, tuple[Json, Json]] = {
    "marked elements and modifiers; of primitives what has no value": (
        PATIENT,
        {
            "resourceType": "Patient", "id": "p", "meta": {"versionId": "3", "tag": [{"system": "urn:t", "code": "x"}, SUBSETTED]},
            "implicitRules": "urn:rules", "modifierExtension": PATIENT["modifierExtension"],
            "identifier": [{"system": "urn:s", "value": "1"}], "active": True, "name": PATIENT["name"], "_birthDate": PATIENT["_birthDate"],
            "deceasedBoolean": False, "link": PATIENT["link"],
        },
    ),
    "what must be in what is included, though it is not marked": (
        {"resourceType": "ConceptMap", "status": "draft", "group": [{"source": "urn:a", "element": []}]},
        {"resourceType": "ConceptMap", "status": "draft", **META},
    ),
    "mandatory at the top": (
        {"resourceType": "Composition", "status": "final", "title": "t", "section": [{"title": "s"}]},
        {"resourceType": "Composition", "status": "final", "title": "t", **META},
    ),
    "data are no summary of an attachment": (
        {"resourceType": "DocumentReference", "status": "current", "content": [{"attachment": {"contentType": "a/b", "url": "urn:u", "data": "QQ=="}}]},
        {"resourceType": "DocumentReference", "status": "current", "content": [{"attachment": {"contentType": "a/b", "url": "urn:u"}}], **META},
    ),
    "resources in a Bundle are whole": (
        {"resourceType": "Bundle", "type": "collection", "entry": [{"resource": PATIENT}]},
        {"resourceType": "Bundle", "type": "collection", "entry": [{"resource": PATIENT}], **META},
    ),
}  # fmt: skip


@pytest.mark.parametrize("rule", SUMMARIES)
def test_summary(rule: str) -> None:
    resource, expected = SUMMARIES[rule]
    assert summary(resource) == expected


def test_text_has_the_narrative_and_what_is_mandatory() -> None:
    made = text(PATIENT | {"resourceType": "Patient"})
    assert made.keys() == {
        "resourceType", "id", "meta", "implicitRules", "text", "modifierExtension", "active", "_active", "deceasedBoolean", "link",
    }  # fmt: skip
    observation = {
        "resourceType": "Observation",
        "status": "final",
        "code": {"text": "x"},
        "valueString": "v",
        "text": {"status": "empty"},
    }
    assert text(observation).keys() == {"resourceType", "status", "code", "text", "meta"}


def test_data_has_all_but_the_narrative() -> None:
    assert data(PATIENT) == {name: each for name, each in PATIENT.items() if name != "text"} | {"meta": summary(PATIENT)["meta"]}


ELEMENTS: dict[str, tuple[list[str], set[str]]] = {
    "by name": (["birthDate", "identifier"], {"_birthDate", "identifier"}),
    "a choice by the name of the element": (["deceased"], set()),
    "a choice as in the definition": (["maritalStatus", "deceased[x]"], {"maritalStatus"}),
    "with the type before it": (["Patient.contact", "Observation.code"], {"contact"}),
    "unknown ones select nothing": (["nothing", ""], set()),
    "none": ([], set()),
}


@pytest.mark.parametrize("rule", ELEMENTS)
def test_elements(rule: str) -> None:
    names, expected = ELEMENTS[rule]
    made = elements(PATIENT, names)
    always = {"resourceType", "id", "meta", "implicitRules", "modifierExtension", "active", "_active", "deceasedBoolean", "link"}
    assert made.keys() == always | expected
    assert all(made[name] is PATIENT[name] for name in made if name != "meta")


def test_a_choice_is_selected_under_each_of_its_names() -> None:
    observation = {
        "resourceType": "Observation",
        "status": "final",
        "code": {"text": "x"},
        "valueString": "v",
        "_valueString": {"id": "x"},
    }
    for name in ("value", "value[x]", "valueString", "Observation.value"):
        assert elements(observation, [name]).keys() == {*observation, "meta"}
    assert "valueString" not in elements(observation, ["valueQuantity"])


def test_the_tag_is_there_once() -> None:
    assert summary(summary(PATIENT)) == summary(PATIENT)


@settings(suppress_health_check=list(HealthCheck))
@given(resources())
def test_each_part_has_what_is_mandatory(resource: Json) -> None:
    mandatory = {
        name
        for element in type_(resource["resourceType"]).elements
        if element.minimum or element.is_modifier
        for name, _ in element.names()
    }
    for made in (summary(resource), text(resource), data(resource), elements(resource, [])):
        assert made["resourceType"] == resource["resourceType"]
        assert SUBSETTED in made["meta"]["tag"]
        assert mandatory & resource.keys() <= made.keys()
        assert made.keys() <= resource.keys() | {"meta"}

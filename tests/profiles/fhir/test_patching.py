"""The patch interaction (FHIR R4 section 3.1.0.6): one change in every form of patch, what none may change, narratives, media types."""

import json
from typing import Any

import pytest

from profiles.fhir.json import serialize
from profiles.fhir.patching import MEDIA_TYPES, PatchError, asks, patched, patched_by_parameters
from profiles.fhir.xml import to_xml

Json = dict[str, Any]
DIV = '<div xmlns="http://www.w3.org/1999/xhtml">a</div>'
JSON_PATCH, XML_PATCH = "application/json-patch+json", "application/xml-patch+xml"
FHIR_JSON, FHIR_XML = "application/fhir+json", "application/fhir+xml"
PATIENT: Json = {
    "resourceType": "Patient", "id": "p", "meta": {"versionId": "7", "lastUpdated": "2026-01-02T03:04:05Z"},
    "name": [{"given": ["A"]}], "birthDate": "1920-01-01",
}  # fmt: skip


def parameters(type_: str, path: str, **value: str) -> Json:
    part = [{"name": "type", "valueCode": type_}, {"name": "path", "valueString": path}]
    part += [{"name": "value", **value}] if value else []
    return {"resourceType": "Parameters", "parameter": [{"name": "operation", "part": part}]}


def json_patch(*operations: Json) -> bytes:
    return json.dumps(operations).encode()


REPLACED = parameters("replace", "Patient.birthDate", valueDate="1930-01-01")
REMOVED = parameters("delete", "Patient.name.given[0]")
FORMS: dict[str, tuple[bytes, bytes]] = {
    JSON_PATCH: (
        json_patch({"op": "replace", "path": "/birthDate", "value": "1930-01-01"}),
        json_patch({"op": "remove", "path": "/name/0/given/0"}),
    ),
    XML_PATCH: (
        b'<diff><replace sel="Patient/birthDate/@value">1930-01-01</replace></diff>',
        b'<diff><remove sel="Patient/name/given"/></diff>',
    ),
    FHIR_JSON: (serialize(REPLACED), serialize(REMOVED)),
    FHIR_XML: (to_xml(REPLACED), to_xml(REMOVED)),
}


def test_every_form_has_its_cases() -> None:
    assert FORMS.keys() == MEDIA_TYPES.keys()


@pytest.mark.parametrize("form", FORMS)
def test_every_form_changes_the_resource(form: str) -> None:
    before = serialize(PATIENT)
    assert patched(PATIENT, FORMS[form][0], form) == {**PATIENT, "birthDate": "1930-01-01"}
    assert patched(PATIENT, FORMS[form][0], f"{form.upper()}; charset=UTF-8") == {**PATIENT, "birthDate": "1930-01-01"}
    assert serialize(PATIENT) == before


def test_parameters_that_are_parsed_already() -> None:
    assert patched_by_parameters(PATIENT, REPLACED) == {**PATIENT, "birthDate": "1930-01-01"}
    for parameters_, status in ((PATIENT, 400), (parameters("replace", "Patient.id", valueId="q"), 422)):
        with pytest.raises(PatchError) as caught:
            patched_by_parameters(PATIENT, parameters_)
        assert caught.value.status == status
    assert PATIENT["birthDate"] == "1920-01-01"


@pytest.mark.parametrize("form", FORMS)
def test_no_form_leaves_an_empty_element(form: str) -> None:
    assert patched(PATIENT, FORMS[form][1], form) == {name: each for name, each in PATIENT.items() if name != "name"}


def test_arrays_with_null_keep_their_places() -> None:
    resource = {"resourceType": "Patient", "name": [{"given": ["A", None], "_given": [{"id": "a"}, {"id": "b"}]}]}
    made = patched(resource, json_patch({"op": "replace", "path": "/name/0/_given/0", "value": None}), JSON_PATCH)
    assert made["name"] == [{"given": ["A", None], "_given": [None, {"id": "b"}]}]


UNCHANGEABLE: dict[str, tuple[str, bytes, str]] = {
    "the id in JSON": (JSON_PATCH, json_patch({"op": "replace", "path": "/id", "value": "q"}), "Patient.id"),
    "no id in JSON": (JSON_PATCH, json_patch({"op": "remove", "path": "/id"}), "Patient.id"),
    "the type": (JSON_PATCH, json_patch({"op": "replace", "path": "/resourceType", "value": "Basic"}), "Patient.resourceType"),
    "the version": (JSON_PATCH, json_patch({"op": "replace", "path": "/meta/versionId", "value": "8"}), "Patient.meta.versionId"),
    "no version": (JSON_PATCH, json_patch({"op": "remove", "path": "/meta"}), "Patient.meta.versionId"),
    "everything": (JSON_PATCH, json_patch({"op": "replace", "path": "", "value": {"resourceType": "Patient"}}), "Patient.id"),
    "a text for the resource": (JSON_PATCH, json_patch({"op": "replace", "path": "", "value": "x"}), ""),
    "meta as a text": (JSON_PATCH, json_patch({"op": "replace", "path": "/meta", "value": "x"}), "Patient.meta.versionId"),
    "the id in XML": (XML_PATCH, b'<diff><replace sel="Patient/id/@value">q</replace></diff>', "Patient.id"),
    "the id by FHIRPath": (FHIR_JSON, serialize(parameters("replace", "Patient.id", valueId="q")), "Patient.id"),
    "the version by FHIRPath": (FHIR_JSON, serialize(parameters("delete", "Patient.meta.versionId")), "Patient.meta.versionId"),
}


@pytest.mark.parametrize("what", UNCHANGEABLE)
def test_what_no_patch_may_change(what: str) -> None:
    form, body, path = UNCHANGEABLE[what]
    with pytest.raises(PatchError) as caught:
        patched(PATIENT, body, form)
    assert (caught.value.status, caught.value.issue.expression) == (422, path)


REFUSED: dict[str, tuple[str, bytes, int]] = {
    "another media type": ("application/merge-patch+json", b"{}", 415),
    "no media type": ("", b"[]", 415),
    "JSON Patch: nothing": (JSON_PATCH, b"", 400),
    "JSON Patch: an object": (JSON_PATCH, b'{"op":"remove","path":"/name"}', 400),
    "JSON Patch: cut off": (JSON_PATCH, b'[{"op":"remove"', 400),
    "JSON Patch: more than an array": (JSON_PATCH, b'[],"operations":[]', 400),
    "JSON Patch: something behind it": (JSON_PATCH, b'[],"x":[]', 400),
    "JSON Patch: an object closed and another": (JSON_PATCH, b'[]},{"x":[]', 400),
    "JSON Patch: 10,000 deep": (JSON_PATCH, b"[" * 10_000, 400),
    "JSON Patch: a name twice": (JSON_PATCH, b'[{"op":"remove","path":"/name","path":"/birthDate"}]', 400),
    "JSON Patch: a test that fails": (JSON_PATCH, json_patch({"op": "test", "path": "/birthDate", "value": "1"}), 422),
    "FHIRPath: no Parameters": (FHIR_JSON, serialize(PATIENT), 400),
    "FHIRPath: no JSON": (FHIR_JSON, b"<Parameters/>", 400),
    "FHIRPath: no XML": (FHIR_XML, b"{}", 400),
    "FHIRPath: no element": (FHIR_JSON, serialize(parameters("replace", "Patient.gender", valueCode="male")), 422),
    "XML Patch: no node": (XML_PATCH, b'<diff><remove sel="Patient/gender"/></diff>', 422),
    "XML Patch: no patch": (XML_PATCH, b"<diff", 400),
}


@pytest.mark.parametrize("what", REFUSED)
def test_refused_with_the_status_of_the_standard(what: str) -> None:
    form, body, status = REFUSED[what]
    with pytest.raises(PatchError) as caught:
        patched(PATIENT, body, form)
    assert caught.value.status == status
    assert caught.value.issue.diagnostics


def test_the_place_of_an_error_is_that_in_the_clients_body() -> None:
    with pytest.raises(PatchError, match=r"line 1, column 8$"):
        patched(PATIENT, b'[{"op":]', JSON_PATCH)
    assert patched(PATIENT, b"\xef\xbb\xbf []", JSON_PATCH) == PATIENT


def narrated(status: str) -> Json:
    return {**PATIENT, "text": {"status": status, "div": DIV}}


def test_a_generated_narrative_goes_when_the_elements_change() -> None:
    """Section 3.1.0.6: the server shall ensure that the narrative is not clinically unsafe after a patch."""
    replace = FORMS[JSON_PATCH][0]
    for status in ("generated", "extensions"):
        assert "text" not in patched(narrated(status), replace, JSON_PATCH)
    assert patched(narrated("empty"), replace, JSON_PATCH)["text"]["status"] == "empty"


def test_a_narrative_that_says_more_has_to_be_patched_too() -> None:
    with pytest.raises(PatchError, match="patch text too") as caught:
        patched(narrated("additional"), FORMS[JSON_PATCH][0], JSON_PATCH)
    assert (caught.value.status, caught.value.issue.expression) == (422, "Patient.text")


def test_a_narrative_stays_when_nothing_else_changes_or_it_changes_too() -> None:
    tag = json_patch({"op": "add", "path": "/meta/tag", "value": [{"code": "x"}]})
    assert patched(narrated("additional"), tag, JSON_PATCH)["text"]["div"] == DIV
    both = json_patch({"op": "remove", "path": "/name"}, {"op": "replace", "path": "/text/div", "value": DIV.replace("a", "b")})
    assert "text" in patched(narrated("additional"), both, JSON_PATCH)


# --- what asks


@pytest.mark.parametrize(
    ("given", "is_so"),
    [
        ((b'[{"op": "test", "path": "/a", "value": 1}]', "application/json-patch+json; charset=utf-8"), True),
        ((b'[{"op": "replace", "path": "/a", "value": "test"}]', "application/json-patch+json"), False),
        ((b"<diff><!-- = --><remove sel=\"Patient/name[family/@value='x']\"/></diff>", "application/xml-patch+xml"), True),
        ((b'<diff><!-- = --><remove sel="Patient/name[2]"/></diff>', "application/xml-patch+xml"), False),
        (parameters("delete", "Patient.name.where(family = 'x')"), True),
        (parameters("delete", "Patient.name[0].given[1]"), False),
        ((serialize(parameters("delete", "Patient.name.where(family = 'x')")), "application/fhir+json"), True),
        ((b"[", "application/json-patch+json"), False),
        ({"parameter": [1, {"part": 2}]}, False),
    ],
)
def test_a_patch_that_asks_for_values(given: Any, is_so: bool) -> None:
    assert asks(given) is is_so

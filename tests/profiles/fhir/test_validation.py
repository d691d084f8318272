"""FHIR R4 section 2.10: what is right passes; each kind of fault is found where it is."""

from copy import deepcopy
from datetime import UTC
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st
from peers.resources import PRIMITIVES, WRONG, XHTML, places, resources

from conformance.generated import studies
from profiles.fhir.json import parse, serialize
from profiles.fhir.validation import check
from profiles.imaging_study import endpoint, imaging_study, withdrawn
from profiles.patient import fhir_patient
from profiles.r4.definitions import resource_types, type_
from profiles.study import Study

SHARED = Path(__file__).resolve().parents[4] / "shared" / "testdata"
Json = dict[str, Any]
generous = settings(
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much], deadline=None
)


def patient(**more: Any) -> Json:
    return {"resourceType": "Patient", **more}


def found(resource: Json) -> list[tuple[str, str]]:
    return [(issue.code, issue.expression) for issue in check(resource)]


@generous
@given(resources())
def test_what_the_definitions_allow_passes(resource: Json) -> None:
    assert check(resource) == []


@pytest.mark.parametrize("name", resource_types())
def test_every_type_has_a_check_that_finds_unknown_elements(name: str) -> None:
    assert ("structure", f"{name}.nonsense") in found({"resourceType": name, "nonsense": 1})


@generous
@given(resources(), st.data())
def test_an_unknown_element_is_found_in_any_object(resource: Json, data: st.DataObject) -> None:
    objects = [place for place in places(resource) if isinstance(place.holder[place.name], dict) and place.type != "Resource"]
    assume(objects)
    place = data.draw(st.sampled_from(objects))
    place.holder[place.name]["nonsense"] = "x"
    assert ("structure", f"{place.path}.nonsense") in found(resource)


@generous
@given(resources(), st.data(), st.sampled_from([None, "", [], {}]))
def test_nothing_is_no_value_anywhere(resource: Json, data: st.DataObject, nothing: Any) -> None:
    place = data.draw(st.sampled_from(_some(resource)))
    place.holder[place.name] = nothing
    assert place.path in [path for _, path in found(resource)]
    place.holder[place.name] = [nothing]
    assert any(path.startswith(place.path) for _, path in found(resource))


@generous
@given(resources(), st.data())
def test_arrays_and_single_values_are_not_taken_for_each_other(resource: Json, data: st.DataObject) -> None:
    place = data.draw(st.sampled_from(_some(resource)))
    value = place.holder[place.name]
    place.holder[place.name] = value[0] if isinstance(value, list) else [value]
    assert ("structure", place.path) in found(resource)


@generous
@given(resources(), st.data())
def test_an_element_that_has_to_be_there_is_missed(resource: Json, data: st.DataObject) -> None:
    required = [place for place in _some(resource) if place.element.minimum]
    assume(required)
    place = data.draw(st.sampled_from(required))
    del place.holder[place.name]
    place.holder.pop(f"_{place.name}", None)
    assert any(path.startswith(place.path.rpartition(".")[0]) for _, path in found(resource))


@generous
@given(resources(), st.data())
def test_a_wrong_value_is_found_where_it_is(resource: Json, data: st.DataObject) -> None:
    primitives = [place for place in _some(resource) if place.type in PRIMITIVES]
    assume(primitives)
    place = data.draw(st.sampled_from(primitives))
    wrong = data.draw(st.sampled_from(WRONG[place.type]))
    assume(not (place.type == "canonical" and wrong == "no-scheme" and not place.element.targets))
    value = place.holder[place.name]
    place.holder[place.name] = [*value[:-1], wrong] if isinstance(value, list) else wrong
    path = f"{place.path}[{len(value) - 1}]" if isinstance(value, list) else place.path
    assert path in [path for _, path in found(resource)]


@pytest.mark.parametrize(
    ("type_name", "wrong"), [(name, value) for name, values in WRONG.items() for value in values], ids=lambda it: repr(it)[:24]
)
def test_wrong_values_of_each_primitive_type(type_name: str, wrong: Any) -> None:
    if type_name == "xhtml":
        resource = patient(text={"status": "generated", "div": wrong})
        assert [path for _, path in found(resource)] == ["Patient.text.div"]
        return
    if type_name == "canonical" and wrong == "no-scheme":
        resource, path = (
            {"resourceType": "QuestionnaireResponse", "status": "completed", "questionnaire": wrong},
            "QuestionnaireResponse.questionnaire",
        )
    else:
        called = f"value{type_name[0].upper()}{type_name[1:]}"
        resource, path = patient(extension=[{"url": "http://a.b", called: wrong}]), "Patient.extension[0].value"
    assert [path for _, path in found(resource)] == [path]


@given(st.sampled_from(sorted(set(PRIMITIVES) - {"xhtml"})), st.data())
def test_right_values_of_each_primitive_type(type_name: str, data: st.DataObject) -> None:
    value = data.draw(PRIMITIVES[type_name])
    assert check(patient(extension=[{"url": "http://a.b", f"value{type_name[0].upper()}{type_name[1:]}": value}])) == []


REFERS = {"resourceType": "Observation", "status": "final", "code": {"text": "x"}}


@pytest.mark.parametrize(
    ("resource", "expected"),
    [
        # resourceType
        ({}, [("structure", "")]),
        ({"resourceType": "Nonsense"}, [("structure", "")]),
        ({"resourceType": "DomainResource"}, [("structure", "")]),
        ({"resourceType": ["Patient"]}, [("structure", "")]),
        (patient(contact=[{"resourceType": "x", "gender": "male"}]), [("structure", "Patient.contact[0].resourceType")]),
        # choices
        (patient(deceasedBoolean=False, deceasedDateTime="2020"), [("structure", "Patient.deceased")]),
        (patient(deceasedBoolean=False, _deceasedDateTime={"extension": [{"url": "http://a", "valueCode": "b"}]}), [("structure", "Patient.deceased")]),
        (patient(deceased=True), [("structure", "Patient.deceased")]),
        (patient(deceasedString="x"), [("structure", "Patient.deceasedString")]),
        ({"resourceType": "Group", "type": "person", "actual": True, "characteristic": [{"code": {"text": "a"}, "exclude": False}]},
         [("required", "Group.characteristic[0].value")]),
        # what is content and not a name is not told
        (patient(**{"Jane Doe": 1}), [("structure", "Patient.?")]),
        # ele-1, ext-1
        (patient(maritalStatus={"id": "a"}), [("structure", "Patient.maritalStatus")]),
        (patient(extension=[{"url": "http://a.b"}]), [("invariant", "Patient.extension[0]")]),
        (patient(extension=[{"url": "http://a.b", "valueCode": "a", "extension": [{"url": "c", "valueCode": "d"}]}]), [("invariant", "Patient.extension[0]")]),
        (patient(extension=[{"valueCode": "a"}]), [("required", "Patient.extension[0].url")]),
        # codes
        (patient(gender="MALE"), [("code-invalid", "Patient.gender")]),
        (patient(gender=["male"]), [("structure", "Patient.gender")]),
        (patient(photo=[{"contentType": "jpeg"}]), [("code-invalid", "Patient.photo[0].contentType")]),
        (patient(photo=[{"contentType": "image/jpeg"}]), []),
        ({"resourceType": "Invoice", "status": "draft", "totalNet": {"value": 1, "currency": "XYZ"}}, [("code-invalid", "Invoice.totalNet.currency")]),
        ({"resourceType": "Condition", "subject": {"reference": "Patient/1"}, "clinicalStatus": {"text": "ill"}}, [("code-invalid", "Condition.clinicalStatus")]),
        ({"resourceType": "Condition", "subject": {"reference": "Patient/1"}, "clinicalStatus": {"coding": [{"code": "a"}, {
            "system": "http://terminology.hl7.org/CodeSystem/condition-clinical", "code": "active"}]}}, []),
        # beside primitives
        (patient(_birthDate={"extension": [{"url": "http://a.b", "valueCode": "unknown"}]}), []),
        (patient(_birthDate={"id": "a"}), [("structure", "Patient.birthDate")]),
        (patient(birthDate="2020", _birthDate={"id": "a"}), []),
        (patient(birthDate=None, _birthDate={"extension": [{"url": "http://a.b", "valueCode": "unknown"}]}), [("structure", "Patient.birthDate")]),
        (patient(_birthDate={"extension": [{"url": "http://a.b", "valueCode": ""}]}), [("structure", "Patient.birthDate.extension[0].value")]),
        (patient(birthDate="2020", _birthDate={"value": "a"}), [("structure", "Patient.birthDate.value")]),
        (patient(birthDate="2020", _birthDate=[{"id": "a"}]), [("structure", "Patient.birthDate")]),
        (patient(_name=[{"id": "a"}]), [("structure", "Patient.name")]),
        (patient(_id={"id": "a"}), [("structure", "Patient.id")]),
        (patient(name=[{"given": [None, "a"], "_given": [{"extension": [{"url": "http://a.b", "valueCode": "x"}]}, None]}]), []),
        (patient(name=[{"given": [None, "a"]}]), [("structure", "Patient.name[0].given[0]")]),
        (patient(name=[{"given": [None, "a"], "_given": [{"id": "a"}, None]}]), [("structure", "Patient.name[0].given[0]")]),
        (patient(name=[{"given": [None, "a"], "_given": [None, {"id": "a"}]}]), [("structure", "Patient.name[0].given[0]")]),
        (patient(name=[{"given": ["a"], "_given": [None, {"id": "a"}]}]), [("structure", "Patient.name[0].given")]),
        (patient(name=[{"given": ["a"], "_given": [None]}]), [("structure", "Patient.name[0].given")]),
        (patient(name=[{"given": [None, 7], "_given": [{"extension": [{"url": "http://a.b", "valueCode": "x"}]}, {"id": "a"}]}]),
         [("structure", "Patient.name[0].given[1]")]),
        # references
        (patient(managingOrganization={"reference": "Organization/1"}), []),
        (patient(managingOrganization={"reference": "Organization/1/_history/2"}), []),
        (patient(managingOrganization={"reference": "Practitioner/1"}), [("value", "Patient.managingOrganization.reference")]),
        (patient(managingOrganization={"reference": "https://a.b/fhir/Practitioner/1"}), [("value", "Patient.managingOrganization.reference")]),
        (patient(managingOrganization={"reference": "https://a.b/Acme/1"}), []),
        (patient(managingOrganization={"reference": "Organization/a_b"}), [("value", "Patient.managingOrganization.reference")]),
        (patient(managingOrganization={"reference": "Nonsense/1"}), [("value", "Patient.managingOrganization.reference")]),
        (patient(managingOrganization={"reference": "somewhere"}), [("value", "Patient.managingOrganization.reference")]),
        (patient(managingOrganization={"reference": "urn:uuid:1"}), [("value", "Patient.managingOrganization.reference")]),
        (patient(managingOrganization={"reference": "Organization?identifier=a"}), [("value", "Patient.managingOrganization.reference")]),
        (patient(managingOrganization={"reference": "#a"}), [("invariant", "Patient.managingOrganization.reference")]),
        (patient(managingOrganization={"reference": "Organization/1", "type": "Patient"}), [("value", "Patient.managingOrganization.type")]),
        (patient(managingOrganization={"display": "a", "type": "Patient"}), [("value", "Patient.managingOrganization.type")]),
        (patient(managingOrganization={"display": "a", "type": "Thing"}), [("value", "Patient.managingOrganization.type")]),
        (patient(managingOrganization={"display": "a", "type": "http://a.b/model"}), []),
        (patient(extension=[{"url": "http://a.b", "valueReference": {"reference": "Nonsense/1"}}]), [("value", "Patient.extension[0].value.reference")]),
        # contained
        (patient(contained=[{"resourceType": "Organization", "id": "o"}], managingOrganization={"reference": "#o"}), []),
        (patient(contained=[{"resourceType": "Organization", "id": "o"}]), [("invariant", "Patient.contained[0]")]),
        (patient(contained=[{"resourceType": "Practitioner", "id": "o"}], managingOrganization={"reference": "#o"}),
         [("value", "Patient.managingOrganization.reference")]),
        (patient(contained=[{**REFERS, "id": "o", "subject": {"reference": "#"}}]), []),
        (patient(contained=[{**REFERS, "id": "o", "subject": {"reference": "#"}}, {**REFERS, "id": "p"}]), [("invariant", "Patient.contained[1]")]),
        (patient(contained=[{"resourceType": "Organization", "id": "o"}] * 2, managingOrganization={"reference": "#o"}),
         [("structure", "Patient.contained[1].id")]),
        (patient(contained=[{"resourceType": "Organization", "id": "o", "contained": [{"resourceType": "Basic", "id": "b", "code": {"text": "a"}}]}],
                 managingOrganization={"reference": "#o"}), [("invariant", "Patient.contained[0].contained")]),
        (patient(contained=[{"resourceType": "Organization", "id": "o", "meta": {"versionId": "1", "lastUpdated": "2020-01-01T00:00:00Z", "security": [
            {"code": "R"}]}}], managingOrganization={"reference": "#o"}),
         [("invariant", "Patient.contained[0].meta.versionId"), ("invariant", "Patient.contained[0].meta.lastUpdated"),
          ("invariant", "Patient.contained[0].meta.security")]),
        (patient(contained=[{"resourceType": "Organization", "id": "o", "active": "yes"}], managingOrganization={"reference": "#o"}),
         [("structure", "Patient.contained[0].active")]),
        (patient(contained=["a"]), [("structure", "Patient.contained[0]")]),
        ({"resourceType": "QuestionnaireResponse", "status": "completed", "questionnaire": "#q", "contained": [
            {"resourceType": "Questionnaire", "id": "q", "status": "draft"}]}, []),
        ({"resourceType": "QuestionnaireResponse", "status": "completed", "questionnaire": "#q"}, [("invariant", "QuestionnaireResponse.questionnaire")]),
        ({"resourceType": "QuestionnaireResponse", "status": "completed", "questionnaire": "Questionnaire/1|2"}, []),
        ({"resourceType": "QuestionnaireResponse", "status": "completed", "questionnaire": "Patient/1"}, [("value", "QuestionnaireResponse.questionnaire")]),
        # resources in resources
        ({"resourceType": "Bundle", "type": "collection", "entry": [{"resource": patient(gender="x")}]}, [("code-invalid", "Bundle.entry[0].resource.gender")]),
        ({"resourceType": "Bundle", "type": "collection", "entry": [{"resource": {"id": "a"}}]}, [("structure", "Bundle.entry[0].resource")]),
        ({"resourceType": "Parameters", "parameter": [{"name": "a", "part": [{"name": "b", "resource": patient(active="x")}]}]},
         [("structure", "Parameters.parameter[0].part[0].resource.active")]),
        ({"resourceType": "CapabilityStatement", "status": "active", "date": "2020", "kind": "instance", "fhirVersion": "4.0.1", "format": ["json", "application/fhir+xml"]}, []),
    ],
)  # fmt: skip
def test_faults_and_their_places(resource: Json, expected: list[tuple[str, str]]) -> None:
    assert found(resource) == expected


def test_a_contained_resource_of_one_entry_is_not_seen_from_another() -> None:
    holder = patient(contained=[{"resourceType": "Organization", "id": "o"}], managingOrganization={"reference": "#o"})
    stranger = patient(managingOrganization={"reference": "#o"})
    bundle = {"resourceType": "Bundle", "type": "collection", "entry": [{"resource": holder}, {"resource": stranger}]}
    assert found(bundle) == [("invariant", "Bundle.entry[1].resource.managingOrganization.reference")]


@pytest.mark.parametrize("type_name", ["transaction", "batch"])
def test_a_transaction_may_refer_by_search(type_name: str) -> None:
    entry = {
        "resource": patient(managingOrganization={"reference": "Organization?identifier=a|b"}),
        "request": {"method": "POST", "url": "Patient"},
    }
    assert check({"resourceType": "Bundle", "type": type_name, "entry": [entry]}) == []
    wrong = patient(managingOrganization={"reference": "Patient?identifier=a|b"})
    assert check({"resourceType": "Bundle", "type": type_name, "entry": [{**entry, "resource": wrong}]})


def test_the_type_that_is_asked_for() -> None:
    assert check(patient(), type_="Patient") == []
    assert [issue.expression for issue in check(patient(), type_="Group")] == ["Patient"]


def test_an_unknown_name_is_answered_with_a_near_one() -> None:
    assert "birthDate" in check(patient(birthdate="2020"))[0].diagnostics
    assert "deceasedBoolean" in check(patient(deceasedBool=True))[0].diagnostics


@example(
    [{"gender": "Jane Doe"}, {"birthDate": "Jane Doe"}, {"Jane Doe": 1}, {"managingOrganization": {"reference": "Jane Doe"}}]
)
@given(st.lists(st.dictionaries(st.sampled_from(["gender", "birthDate", "active", "contact"]), st.just("Jane Doe")), max_size=3))
def test_no_issue_quotes_a_value(properties: list[Json]) -> None:
    for each in properties:
        for issue in check(patient(**each)):
            assert "Jane" not in issue.expression + issue.diagnostics


def test_at_most_a_hundred_issues_however_many_there_are() -> None:
    instance = {"uid": "1.2", "sopClass": {"code": "x"}, "nonsense": 1}
    series = [{"uid": "1.2", "modality": {"code": "CT"}, "instance": [instance] * 1000}] * 100
    issues = check(
        {"resourceType": "ImagingStudy", "status": "available", "subject": {"reference": "Patient/1"}, "series": series}
    )
    assert len(issues) == 100
    assert issues[99].expression == "ImagingStudy.series[0].instance[99].nonsense"


def test_a_check_changes_nothing() -> None:
    resource = patient(contained=[{"resourceType": "Organization", "id": "o"}], name=[{"given": [None]}])
    before = deepcopy(resource)
    check(resource)
    assert resource == before


@generous
@given(studies())
def test_what_this_server_makes_of_studies_passes(study: Study) -> None:
    made = [
        imaging_study(study, "wado", UTC),
        withdrawn(study),
        fhir_patient(study.patient),
        endpoint("wado", "https://a.b/dicomweb", "a"),
    ]
    assert [check(parse(serialize(each))) for each in made] == [[]] * 4


@pytest.mark.skipif(not (SHARED / "synthea_r4").is_dir(), reason="the shared test data are not here")
def test_real_bundles_pass() -> None:
    for path in (SHARED / "synthea_r4").glob("*.json"):
        assert check(parse(path.read_bytes())) == []


def _some(resource: Json) -> list[Any]:
    """The places of a resource but for those whose value other rules look at besides."""
    some = [
        place
        for place in places(resource)
        if place.name not in ("resource", "contained") and f"_{place.name}" not in place.holder
    ]
    assume(some)
    return some


def test_narratives_are_looked_at() -> None:
    assert found(patient(text={"status": "generated", "div": f'{XHTML}<p onclick="x()">a</p></div>'})) == [
        ("invariant", "Patient.text.div")
    ]
    assert type_("Narrative").by_name["div"][1] == "xhtml"

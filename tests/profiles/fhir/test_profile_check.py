"""Profiles: each rule of an ElementDefinition, slices of every kind, chains of profiles, and `$validate` as a whole."""

import copy
import json
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from profiles.fhir.profile_check import MOST, conforms, validate
from profiles.r4.terminology import Terminology

Json = dict[str, Any]
HERE = "http://x.example/StructureDefinition/"
CORE = "http://hl7.org/fhir/StructureDefinition/"
LOINC = "http://loinc.org"


def profile(type_: str, *elements: Json, name: str = "p", base: str = "", **others: Any) -> Json:
    whole = [{"path": type_}, *elements]
    return {"resourceType": "StructureDefinition", "url": HERE + name, "name": name, "status": "active", "kind": "resource", "abstract": False,
            "type": type_, "baseDefinition": base or CORE + type_, "derivation": "constraint", "differential": {"element": whole}, **others}  # fmt: skip


def rule(path: str, **others: Any) -> Json:
    return {"path": path, **others}


def slicing(path: str, *discriminators: tuple[str, str], rules: str = "open", **others: Any) -> Json:
    return rule(
        path, slicing={"discriminator": [{"type": type_, "path": at} for type_, at in discriminators], "rules": rules, **others}
    )


def found(resource: Json, *profiles: Json, **options: Any) -> list[tuple[str, str]]:
    """Severity and place of each issue by the first profile; the others can be found."""
    known = {each["url"]: each for each in profiles}
    issues = conforms(resource, profiles[0], find=known.get, **options)
    return [(issue.severity, issue.expression) for issue in issues]


def patient(**elements: Any) -> Json:
    return {"resourceType": "Patient", **elements}


def observation(**elements: Any) -> Json:
    return {"resourceType": "Observation", "status": "final", "code": {"coding": [{"system": LOINC, "code": "1"}]}, **elements}


def coded(code: str, system: str = LOINC) -> Json:
    return {"coding": [{"system": system, "code": code}]}


OFFICIAL = {"use": "official", "family": "A"}
USUAL = {"use": "usual", "family": "B"}
EXTENDED = {"extension": [{"url": "http://x.example/e", "valueString": "x"}]}

RULES: list[tuple[str, Json, Json, Json, str, str]] = [
    ("min", profile("Patient", rule("Patient.name", min=1)), patient(name=[OFFICIAL]), patient(), "error", "Patient.name"),
    ("max", profile("Patient", rule("Patient.name", max="1")), patient(name=[OFFICIAL]), patient(name=[OFFICIAL] * 2), "error", "Patient.name"),
    ("max 0", profile("Patient", rule("Patient.photo", max="0")), patient(), patient(photo=[{"title": "x"}]), "error", "Patient.photo"),
    ("min below what is not there", profile("Patient", rule("Patient.name.family", min=1)), patient(), patient(name=[{"text": "x"}]), "error",
     "Patient.name[0].family"),
    ("fixed primitive", profile("Patient", rule("Patient.gender", fixedCode="male")), patient(gender="male"), patient(gender="female"), "error", "Patient.gender"),
    ("fixed is exact", profile("Observation", rule("Observation.code", fixedCodeableConcept=coded("1"))), observation(),
     observation(code=coded("1") | {"text": "x"}), "error", "Observation.code"),
    ("fixed number", profile("Observation", rule("Observation.value[x]", fixedQuantity={"value": Decimal("1.0")})), observation(valueQuantity={"value": Decimal("1.0")}),
     observation(valueQuantity={"value": 1}), "error", "Observation.value"),
    ("pattern", profile("Observation", rule("Observation.code", patternCodeableConcept=coded("1"))),
     observation(code={"coding": [{"system": "o", "code": "x"}, {"system": LOINC, "code": "1", "display": "d"}], "text": "x"}), observation(code=coded("2")),
     "error", "Observation.code"),
    ("type of a choice", profile("Observation", rule("Observation.value[x]", type=[{"code": "Quantity"}])), observation(valueQuantity={"value": 1}),
     observation(valueString="x"), "error", "Observation.value"),
    ("choice by its name", profile("Observation", rule("Observation.valueQuantity.unit", min=1)), observation(valueQuantity={"unit": "x"}),
     observation(valueQuantity={"value": 1}), "error", "Observation.value.unit"),
    ("target", profile("Observation", rule("Observation.subject", type=[{"code": "Reference", "targetProfile": [CORE + "Patient"]}])),
     observation(subject={"reference": "http://h.example/fhir/Patient/1/_history/2"}), observation(subject={"reference": "Group/1"}), "error", "Observation.subject"),
    ("target by type", profile("Observation", rule("Observation.subject", type=[{"code": "Reference", "targetProfile": [CORE + "Patient"]}])),
     observation(subject={"display": "x"}), observation(subject={"type": "Group", "display": "x"}), "error", "Observation.subject"),
    ("required binding", profile("Patient", rule("Patient.maritalStatus", binding={"strength": "required", "valueSet": CORE[:-20] + "ValueSet/administrative-gender|4.0.1"})),
     patient(maritalStatus=coded("male", "http://hl7.org/fhir/administrative-gender")), patient(maritalStatus=coded("m")), "error", "Patient.maritalStatus"),
    ("required binding of a text alone", profile("Patient", rule("Patient.maritalStatus", binding={"strength": "required", "valueSet": "http://hl7.org/fhir/ValueSet/administrative-gender"})),
     patient(), patient(maritalStatus={"text": "x"}), "error", "Patient.maritalStatus"),
    ("extensible binding", profile("Patient", rule("Patient.maritalStatus", binding={"strength": "extensible", "valueSet": "http://hl7.org/fhir/ValueSet/administrative-gender"})),
     patient(maritalStatus={"text": "x"}), patient(maritalStatus=coded("m")), "warning", "Patient.maritalStatus"),
    ("constraint", profile("Patient", rule("Patient.name", constraint=[{"key": "x-1", "severity": "error", "human": "h", "expression": "family.exists()"}])),
     patient(name=[OFFICIAL]), patient(name=[OFFICIAL, {"text": "x"}]), "error", "Patient.name[1]"),
    ("constraint that warns", profile("Patient", rule("Patient", constraint=[{"key": "x-1", "severity": "warning", "human": "h", "expression": "active"}])),
     patient(active=True), patient(active=False), "warning", "Patient"),
    ("maxLength", profile("Patient", rule("Patient.name.family", maxLength=2)), patient(name=[{"family": "ab"}]), patient(name=[{"family": "abc"}]), "error",
     "Patient.name[0].family"),
    ("minValue", profile("Patient", rule("Patient.birthDate", minValueDate="1900-01-01")), patient(birthDate="1900-01-01"), patient(birthDate="1899-12-31"), "error",
     "Patient.birthDate"),
    ("maxValue", profile("Observation", rule("Observation.value[x]", maxValueInteger=3)), observation(valueInteger=3), observation(valueInteger=4), "error",
     "Observation.value"),
    ("maxValue of a quantity", profile("Observation", rule("Observation.value[x]", maxValueQuantity={"value": 1, "code": "g"})),
     observation(valueQuantity={"value": 900, "code": "mg"}), observation(valueQuantity={"value": 1001, "code": "mg"}), "error", "Observation.value"),
    ("contained resource", profile("Observation", rule("Observation.contained", type=[{"code": "Patient"}])), observation(contained=[patient(id="p")]),
     observation(contained=[{"resourceType": "Group", "id": "p"}]), "error", "Observation.contained[0]"),
    ("mustSupport says nothing", profile("Patient", rule("Patient.gender", mustSupport=True, min=0), rule("Patient.active", min=1)), patient(active=True), patient(),
     "error", "Patient.active"),
]  # fmt: skip


@pytest.mark.parametrize(("what", "rules", "good", "bad", "severity", "place"), RULES, ids=[case[0] for case in RULES])
def test_a_rule_is_kept_and_broken(what: str, rules: Json, good: Json, bad: Json, severity: str, place: str) -> None:
    assert found(good, rules) == []
    assert found(bad, rules) == [(severity, place)]


NAMES = (slicing("Patient.name", ("value", "use")), rule("Patient.name", sliceName="official", min=1, max="1"), rule("Patient.name.use", fixedCode="official"),
         rule("Patient.name.family", min=1))  # fmt: skip
PARTS = (
    slicing("Observation.component", ("pattern", "code"), rules="closed", ordered=True),
    rule("Observation.component", sliceName="first", min=1, max="1"),
    rule("Observation.component.code", patternCodeableConcept=coded("8480-6")),
    rule("Observation.component", sliceName="second"),
    rule("Observation.component.code", patternCodeableConcept=coded("8462-4")),
)
FIRST, SECOND = {"code": coded("8480-6")}, {"code": coded("8462-4")}
THIRD = {"code": coded("x")}
EXTENSION = profile("Extension", rule("Extension.url", fixedUri="http://x.example/StructureDefinition/e"), rule("Extension.value[x]", min=1, type=[{"code": "string"}]),
                    name="e", kind="complex-type")  # fmt: skip
ORGANIZED = profile("Organization", rule("Organization.name", min=1), name="organization")

SLICES: list[tuple[str, list[Json], Json, list[tuple[str, str]]]] = [
    ("value, one there", [profile("Patient", *NAMES)], patient(name=[USUAL, OFFICIAL]), []),
    ("value, none there", [profile("Patient", *NAMES)], patient(name=[USUAL]), [("error", "Patient.name")]),
    ("value, too many", [profile("Patient", *NAMES)], patient(name=[OFFICIAL, OFFICIAL]), [("error", "Patient.name")]),
    ("value, rules of the slice alone", [profile("Patient", *NAMES)], patient(name=[{"use": "official", "text": "x"}, {"use": "usual"}]),
     [("error", "Patient.name[0].family")]),
    ("pattern, as it should", [profile("Observation", *PARTS)], observation(component=[FIRST, SECOND, SECOND]), []),
    ("closed", [profile("Observation", *PARTS)], observation(component=[FIRST, THIRD]), [("error", "Observation.component[1]")]),
    ("ordered", [profile("Observation", *PARTS)], observation(component=[SECOND, FIRST]), [("error", "Observation.component[1]")]),
    ("open at the end, there", [profile("Observation", slicing("Observation.component", ("pattern", "code"), rules="openAtEnd"), *PARTS[1:])],
     observation(component=[FIRST, THIRD]), []),
    ("open at the end, before", [profile("Observation", slicing("Observation.component", ("pattern", "code"), rules="openAtEnd"), *PARTS[1:])],
     observation(component=[THIRD, FIRST]), [("error", "Observation.component[0]")]),
    ("value inside of a pattern", [profile("Observation", slicing("Observation.component", ("value", "code.coding.code")), *PARTS[1:3])],
     observation(component=[SECOND]), [("error", "Observation.component")]),
    ("exists", [profile("Patient", slicing("Patient.identifier", ("exists", "period")), rule("Patient.identifier", sliceName="timed", min=1),
                        rule("Patient.identifier.period", min=1), rule("Patient.identifier", sliceName="untimed", max="0"), rule("Patient.identifier.period", max="0"))],
     patient(identifier=[{"period": {"start": "2026"}}, {"value": "x"}]), [("error", "Patient.identifier")]),
    ("type of a choice", [profile("Observation", slicing("Observation.value[x]", ("type", "$this")), rule("Observation.value[x]", sliceName="valueQuantity", type=[{"code": "Quantity"}]),
                                  rule("Observation.value[x].unit", min=1))],
     observation(valueQuantity={"value": 1}), [("error", "Observation.value.unit")]),
    ("type of a choice without slicing", [profile("Observation", rule("Observation.value[x]", sliceName="valueQuantity", type=[{"code": "Quantity"}], min=1))],
     observation(valueString="x"), [("error", "Observation.value")]),
    ("type of a resource", [profile("Bundle", slicing("Bundle.entry", ("type", "resource")), rule("Bundle.entry", sliceName="patient", min=1, max="1"),
                                    rule("Bundle.entry.resource", type=[{"code": "Patient"}]))],
     {"resourceType": "Bundle", "type": "collection", "entry": [{"resource": observation()}]}, [("error", "Bundle.entry")]),
    ("type of what is resolved", [profile("Observation", slicing("Observation.performer", ("type", "resolve()")), rule("Observation.performer", sliceName="o", min=1,
                                          type=[{"code": "Reference", "targetProfile": [CORE + "Organization"]}]))],
     observation(contained=[{"resourceType": "Organization", "id": "o"}], performer=[{"reference": "#o"}]), []),
    ("type of what is resolved, another", [profile("Observation", slicing("Observation.performer", ("type", "resolve()")), rule("Observation.performer", sliceName="o", min=1,
                                                   type=[{"code": "Reference", "targetProfile": [CORE + "Organization"]}]))],
     observation(contained=[patient(id="o")], performer=[{"reference": "#o"}]), [("error", "Observation.performer")]),
    ("profile", [profile("Bundle", slicing("Bundle.entry", ("profile", "resource")), rule("Bundle.entry", sliceName="o", min=1),
                         rule("Bundle.entry.resource", type=[{"code": "Organization", "profile": [HERE + "organization"]}])), ORGANIZED],
     {"resourceType": "Bundle", "type": "collection", "entry": [{"resource": {"resourceType": "Organization", "alias": ["x"]}}]}, [("error", "Bundle.entry")]),
    ("profile, as it should", [profile("Bundle", slicing("Bundle.entry", ("profile", "resource")), rule("Bundle.entry", sliceName="o", min=1),
                                       rule("Bundle.entry.resource", type=[{"code": "Organization", "profile": [HERE + "organization"]}])), ORGANIZED],
     {"resourceType": "Bundle", "type": "collection", "entry": [{"resource": {"resourceType": "Organization", "name": "x"}}]}, []),
    ("extension in a discriminator", [profile("Patient", slicing("Patient.identifier", ("value", f"extension('{HERE}e').value")), rule("Patient.identifier", sliceName="x", min=1),
                                              rule("Patient.identifier.extension", sliceName="e", type=[{"code": "Extension", "profile": [HERE + "e"]}]),
                                              rule("Patient.identifier.extension.value[x]", fixedString="yes")), EXTENSION],
     patient(identifier=[{"extension": [{"url": HERE + "e", "valueString": "no"}]}]), [("error", "Patient.identifier")]),
    ("extension by its profile", [profile("Patient", rule("Patient.extension", sliceName="e", min=1, type=[{"code": "Extension", "profile": [HERE + "e"]}])), EXTENSION],
     patient(extension=[{"url": HERE + "e", "valueBoolean": True}]), [("error", "Patient.extension[0].value")]),
    ("extension that has to be there", [profile("Patient", rule("Patient.extension", sliceName="e", min=1, type=[{"code": "Extension", "profile": [HERE + "e"]}])), EXTENSION],
     patient(extension=[{"url": HERE + "other", "valueBoolean": True}]), [("error", "Patient.extension")]),
    ("value set as discriminator", [profile("Patient", slicing("Patient.communication", ("value", "language")), rule("Patient.communication", sliceName="g", max="0"),
                                            rule("Patient.communication.language", binding={"strength": "required", "valueSet": "http://hl7.org/fhir/ValueSet/administrative-gender"}))],
     patient(communication=[{"language": coded("male", "http://hl7.org/fhir/administrative-gender")}]), [("error", "Patient.communication")]),
    ("slice of a slice", [profile("Patient", *NAMES[:3], slicing("Patient.name.given", ("value", "$this")) | {"id": "Patient.name:official.given"},
                                  rule("Patient.name.given", id="Patient.name:official.given:x", sliceName="x", min=1, fixedString="X"))],
     patient(name=[{"use": "official", "given": ["Y"]}, {"use": "usual", "given": ["Y"]}]), [("error", "Patient.name[0].given")]),
    ("resliced", [profile("Patient", *NAMES[:3], slicing("Patient.name", ("exists", "period")) | {"id": "Patient.name:official", "sliceName": "official"},
                          rule("Patient.name", id="Patient.name:official/timed", sliceName="official/timed", min=1),
                          rule("Patient.name.period", id="Patient.name:official/timed.period", min=1))],
     patient(name=[OFFICIAL, {"use": "usual", "period": {"start": "2026"}}]), [("error", "Patient.name")]),
    ("two discriminators", [profile("Patient", slicing("Patient.telecom", ("value", "system"), ("value", "use")), rule("Patient.telecom", sliceName="home phone", max="0"),
                                    rule("Patient.telecom.system", fixedCode="phone"), rule("Patient.telecom.use", fixedCode="home"))],
     patient(telecom=[{"system": "phone", "use": "work"}, {"system": "email", "use": "home"}]), []),
    ("no discriminator", [profile("Patient", slicing("Patient.name"), rule("Patient.name", sliceName="x", min=1), rule("Patient.name.family", fixedString="A"))],
     patient(name=[USUAL]), [("error", "Patient.name")]),
]  # fmt: skip


@pytest.mark.parametrize(("what", "profiles", "resource", "expected"), SLICES, ids=[case[0] for case in SLICES])
def test_slices(what: str, profiles: list[Json], resource: Json, expected: list[tuple[str, str]]) -> None:
    assert found(resource, *profiles) == expected


# --- chains


BASE = profile("Patient", *NAMES, rule("Patient.gender", min=1), name="base")
DERIVED = profile("Patient", rule("Patient.name", id="Patient.name:official", sliceName="official"),
                  rule("Patient.name.given", id="Patient.name:official.given", min=1), rule("Patient.gender", min=0, fixedCode="male"), base=HERE + "base")  # fmt: skip


def test_rules_add_up_along_the_chain() -> None:
    good = patient(gender="male", name=[{"use": "official", "family": "A", "given": ["B"]}])
    assert found(good, DERIVED, BASE) == []
    assert found(patient(name=[{"use": "official"}]), DERIVED, BASE) == [
        ("error", "Patient.name[0].family"), ("error", "Patient.name[0].given"), ("error", "Patient.gender"),
    ]  # fmt: skip
    assert found(good | {"gender": "female"}, DERIVED, BASE) == [("error", "Patient.gender")]


def test_a_base_that_is_not_known_is_told() -> None:
    assert found(patient(), DERIVED) == [("information", "Patient")]


def test_a_chain_that_never_ends_is_told() -> None:
    assert found(patient(), profile("Patient", base=HERE + "p")) == [("information", "Patient")]


def test_a_snapshot_stands_for_the_chain() -> None:
    whole = profile("Patient", base=HERE + "nowhere", snapshot={"element": [rule("Patient"), rule("Patient.active", min=1)]})
    assert found(patient(), whole) == [("error", "Patient.active")]


def test_a_profile_of_another_type_is_an_error() -> None:
    assert found(observation(), profile("Patient")) == [("error", "Observation")]


def test_profiles_that_lead_to_themselves_end() -> None:
    around = profile(
        "Patient", rule("Patient.contained", type=[{"code": "Patient", "profile": [HERE + "p"]}]), rule("Patient.active", min=1)
    )
    nested = patient(active=True, contained=[patient(id="a", active=True), patient(id="b")])
    assert found(nested, around) == [("error", "Patient.contained[1].active")]
    itself = profile("Patient", rule("Patient", type=[{"code": "Patient", "profile": [HERE + "p"]}]))
    assert found(patient(), itself) == []


def test_targets_are_checked_by_their_profile_where_they_can_be_found() -> None:
    wanted = profile(
        "Observation", rule("Observation.performer", type=[{"code": "Reference", "targetProfile": [HERE + "organization"]}])
    )
    resource = observation(performer=[{"reference": "Organization/1"}])
    store: dict[str, Json] = {"Organization/1": {"resourceType": "Organization", "alias": ["x"]}}
    assert found(resource, wanted, ORGANIZED) == []
    assert found(resource, wanted, ORGANIZED, resolve=store.get) == [("error", "Observation.performer[0]")]
    store["Organization/1"]["name"] = "x"
    assert found(resource, wanted, ORGANIZED, resolve=store.get) == []


def test_value_sets_of_the_server_are_used() -> None:
    bound = profile("Patient", rule("Patient.maritalStatus", binding={"strength": "required", "valueSet": "http://x.example/vs"}))
    own = Terminology(
        value_sets=[
            {
                "resourceType": "ValueSet",
                "url": "http://x.example/vs",
                "compose": {"include": [{"system": "s", "concept": [{"code": "m"}]}]},
            }
        ]
    )
    assert found(patient(maritalStatus=coded("x", "s")), bound) == []  # not known: nothing can be said
    assert found(patient(maritalStatus=coded("x", "s")), bound, terminology=own) == [("error", "Patient.maritalStatus")]
    assert found(patient(maritalStatus=coded("m", "s")), bound, terminology=own) == []


def test_member_of_and_conforms_to_work_in_constraints() -> None:
    def asking(expression: str) -> Json:
        return profile(
            "Patient", rule("Patient", constraint=[{"key": "x", "severity": "error", "human": "h", "expression": expression}])
        )

    within = asking("gender.memberOf('http://hl7.org/fhir/ValueSet/administrative-gender')")
    assert found(patient(gender="male"), within) == []
    assert found(patient(gender="x"), within) == [("error", "Patient")]
    organized = asking(f"contained.first().conformsTo('{HERE}organization')")
    assert found(patient(contained=[{"resourceType": "Organization", "name": "x"}]), organized, ORGANIZED) == []
    assert found(patient(contained=[{"resourceType": "Organization"}]), organized, ORGANIZED) == [("error", "Patient")]


def test_hostile_profiles_end() -> None:
    names = [USUAL] * 3000
    many = [
        each
        for n in range(60)
        for each in (
            rule("Patient.name", id=f"Patient.name:s{n}", sliceName=f"s{n}"),
            rule("Patient.name.use", id=f"Patient.name:s{n}.use", fixedCode="x"),
        )
    ]
    issues = conforms(patient(name=names), profile("Patient", slicing("Patient.name"), *many), find={}.get)
    assert [issue.code for issue in issues] == ["too-costly"]
    endless = profile(
        "Patient",
        rule(
            "Patient",
            constraint=[{"key": "x", "severity": "error", "human": "h", "expression": "(1).repeat($this + 1).exists()"}],
        ),
    )
    assert found(patient(), endless) == [("warning", "Patient")]


@pytest.mark.parametrize(
    "broken", [{"differential": None}, {"differential": {"element": [{}]}}, {"type": None}, {"baseDefinition": None}]
)
def test_profiles_that_are_not_right_raise_nothing(broken: Json) -> None:
    conforms(patient(), profile("Patient", rule("Patient.name", min=1)) | broken, find={}.get)


# --- $validate


def validated(resource: Json, find: Callable[[str], Json | None] = {}.get, **options: Any) -> list[tuple[str, str, str]]:
    issues = validate(resource, find=find, **options)
    return [(issue.severity, issue.code, issue.expression) for issue in issues if not issue.diagnostics.startswith("dom-6")]


def test_structure_comes_first_and_alone() -> None:
    issues = validate(patient(active="yes", contact=[{"gender": "male"}]))
    assert [(issue.severity, issue.expression) for issue in issues] == [("error", "Patient.active")]


def test_invariants_and_profiles_are_told_together() -> None:
    known = {
        HERE + "p": profile("Patient", rule("Patient.name", min=1)),
        HERE + "q": profile("Patient", rule("Patient.gender", min=1), name="q"),
    }
    resource = patient(meta={"profile": [HERE + "p|1.0"]}, contact=[{"gender": "male"}])
    assert validated(resource, known.get, profiles=[HERE + "q"]) == [
        ("error", "invariant", "Patient.contact[0]"), ("error", "required", "Patient.gender"), ("error", "required", "Patient.name"),
    ]  # fmt: skip


def test_a_profile_that_is_not_known_is_an_information() -> None:
    assert validated(patient(active=True, meta={"profile": [HERE + "nope"]})) == [("information", "not-found", "Patient")]
    assert validated(patient(active=True, meta={"profile": [CORE + "Patient"]})) == []


def test_profiles_of_resources_inside_and_of_extensions_are_checked() -> None:
    known = {HERE + "organization": ORGANIZED, HERE + "e": EXTENSION}
    inner = {"resourceType": "Organization", "id": "o", "meta": {"profile": [HERE + "organization"]}, "alias": ["x"],
             "identifier": [{"value": "1", "extension": [{"url": HERE + "e", "valueBoolean": True}]}]}  # fmt: skip
    resource = {
        "resourceType": "Bundle",
        "type": "collection",
        "entry": [{"fullUrl": "http://x.example/Organization/o", "resource": inner}],
    }
    assert validated(resource, known.get) == [
        ("error", "required", "Bundle.entry[0].resource.name"), ("error", "structure", "Bundle.entry[0].resource.identifier[0].extension[0].value"),
    ]  # fmt: skip


def test_issues_are_bounded_and_the_worst_come_first() -> None:
    resource = {
        "resourceType": "Bundle",
        "type": "collection",
        "entry": [{"fullUrl": f"http://x.example/Patient/{n}", "resource": patient(id=str(n))} for n in range(MOST)],
    }
    resource["entry"][-1]["resource"]["contact"] = [{"gender": "male"}]
    issues = validate(resource)
    assert len(issues) == MOST
    assert issues[0].expression == f"Bundle.entry[{MOST - 1}].resource.contact[0]"


def test_nothing_of_the_resource_is_told_and_nothing_is_changed() -> None:
    for _, rules, _, bad, _, _ in RULES:
        before = copy.deepcopy(bad)
        issues = conforms(bad | {"id": "SECRET"}, rules, find={}.get)
        assert bad == before
        assert "SECRET" not in json.dumps([issue.diagnostics for issue in issues])

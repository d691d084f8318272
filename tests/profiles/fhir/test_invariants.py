"""Each invariant with a resource that keeps it and one that breaks it."""

import copy
from decimal import Decimal
from typing import Any

import pytest

from profiles.fhir import fhirpath, invariants
from profiles.fhir.invariants import CORRECTED, ELSEWHERE, violations
from profiles.r4 import definitions

Json = dict[str, Any]
LOINC = {"coding": [{"system": "http://loinc.org", "code": "1"}]}
OTHER = {"coding": [{"system": "http://loinc.org", "code": "2"}]}


def of(type_: str, **elements: Any) -> Json:
    return {"resourceType": type_, **elements}


def bundle(type_: str, *entries: Json, **elements: Any) -> Json:
    return of("Bundle", type=type_, **elements, entry=list(entries))


def observed(**elements: Any) -> Json:
    return of("Observation", status="final", code=LOINC, **elements)


def timed(**repeat: Any) -> Json:
    return of("ServiceRequest", status="active", intent="order", subject={"display": "x"}, occurrenceTiming={"repeat": repeat})


def included(**include: Any) -> Json:
    return of("ValueSet", status="active", compose={"include": [include]})


def expanded(**contains: Any) -> Json:
    return of("ValueSet", status="active", expansion={"timestamp": "2026", "contains": [contains]})


def capable(**elements: Any) -> Json:
    return of(
        "CapabilityStatement",
        **({"kind": "instance", "rest": [{"mode": "server"}], "implementation": {"description": "x"}} | elements),
    )


def asked(**item: Any) -> Json:
    return of("Questionnaire", status="active", item=[{"linkId": "1", "type": "string", **item}])


def structure(*elements: Json, **others: Any) -> Json:
    return of("StructureDefinition", **({"kind": "resource", "type": "Patient", "abstract": False, "baseDefinition": "x", "derivation": "constraint",
              "url": "http://x.example/y", "differential": {"element": list(elements) or [element()]}} | others))  # fmt: skip


def element(**others: Any) -> Json:
    return {"id": "Patient", "path": "Patient", **others}


def below(**others: Any) -> Json:
    return structure(element(), {"id": "Patient.name", "path": "Patient.name", **others})


def aged(**age: Any) -> Json:
    return of("Condition", subject={"display": "x"}, onsetAge=age)


UCUM = "http://unitsofmeasure.org"
REPEAT = "ServiceRequest.occurrence.repeat"
ITEM = "Questionnaire.item[0]"
ELEMENT = "StructureDefinition.differential.element[1]"
PATIENT = of("Patient", active=True)
CASES: list[tuple[str, Json, Json, str]] = [
    ("dom-6", of("Patient", text={"status": "generated", "div": "<div>x</div>"}), PATIENT, "Patient"),
    ("pat-1", of("Patient", contact=[{"telecom": [{"system": "phone", "value": "1"}]}]), of("Patient", contact=[{"gender": "male"}]), "Patient.contact[0]"),
    ("obs-3", observed(referenceRange=[{"text": "x"}]), observed(referenceRange=[{"appliesTo": [LOINC]}]), "Observation.referenceRange[0]"),
    ("obs-6", observed(dataAbsentReason=LOINC), observed(dataAbsentReason=LOINC, valueString="x"), "Observation"),
    ("obs-7", observed(valueString="x", component=[{"code": OTHER}]), observed(valueString="x", component=[{"code": LOINC}]), "Observation"),
    ("prr-1", of("ServiceRequest", orderDetail=[LOINC], code=LOINC), of("ServiceRequest", orderDetail=[LOINC]), "ServiceRequest"),
    ("org-1", of("Organization", name="x"), of("Organization", active=True), "Organization"),
    ("org-2", of("Organization", name="x", address=[{"use": "work"}]), of("Organization", name="x", address=[{"use": "work"}, {"use": "home"}]),
     "Organization.address[1]"),
    ("org-3", of("Organization", name="x", telecom=[{"use": "work"}]), of("Organization", name="x", telecom=[{"use": "home"}]), "Organization.telecom[0]"),
    ("lst-1", of("List", emptyReason=LOINC), of("List", emptyReason=LOINC, entry=[{"item": {"display": "x"}}]), "List"),
    ("lst-2", of("List", mode="changes", entry=[{"deleted": True}]), of("List", mode="working", entry=[{"deleted": True}]), "List"),
    ("lst-3", of("List", mode="working", entry=[{"date": "2026"}]), of("List", mode="changes", entry=[{"date": "2026"}]), "List"),
    ("ppc-1", of("Consent", policyRule=LOINC), of("Consent", status="active"), "Consent"),
    ("ppc-2", of("Consent", patient={"display": "x"}, scope={"coding": [{"system": "something", "code": "patient-privacy"}]}),
     of("Consent", scope={"coding": [{"system": "something", "code": "patient-privacy"}]}), "Consent"),
    ("sev-1", of("AuditEvent", entity=[{"name": "x"}]), of("AuditEvent", entity=[{"name": "x", "query": "eA=="}]), "AuditEvent.entity[0]"),
    ("bdl-1", bundle("searchset", total=1), bundle("collection", total=1), "Bundle"),
    ("bdl-2", bundle("searchset", {"search": {"mode": "match"}, "resource": PATIENT}),
     bundle("collection", {"search": {"mode": "match"}, "resource": PATIENT}), "Bundle"),
    ("bdl-3", bundle("batch", {"request": {"method": "GET", "url": "Patient"}}), bundle("batch", {"resource": PATIENT}), "Bundle"),
    ("bdl-4", bundle("batch-response", {"response": {"status": "200"}}), bundle("batch-response", {"resource": PATIENT}), "Bundle"),
    ("bdl-5", bundle("collection", {"resource": PATIENT}), bundle("collection", {"fullUrl": "urn:uuid:1"}), "Bundle.entry[0]"),
    ("bdl-7", bundle("collection", {"fullUrl": "urn:a", "resource": PATIENT}, {"fullUrl": "urn:b", "resource": PATIENT}),
     bundle("collection", {"fullUrl": "urn:a", "resource": PATIENT}, {"fullUrl": "urn:a", "resource": PATIENT}), "Bundle"),
    ("bdl-8", bundle("collection", {"fullUrl": "http://x/Patient/1", "resource": PATIENT}),
     bundle("collection", {"fullUrl": "http://x/Patient/1/_history/1", "resource": PATIENT}), "Bundle.entry[0]"),
    ("bdl-8", bundle("batch", {"request": {"method": "GET", "url": "Patient"}}),
     bundle("batch", {"fullUrl": "http://x/Patient/1/_history/1", "request": {"method": "GET", "url": "Patient"}}), "Bundle.entry[0]"),
    ("ras-2", of("RiskAssessment", prediction=[{"outcome": LOINC}]), of("RiskAssessment", prediction=[{"probabilityDecimal": Decimal("100.5")}]),
     "RiskAssessment.prediction[0]"),
    ("md-1", of("MessageDefinition", focus=[{"code": "Patient", "min": 0}]), of("MessageDefinition", focus=[{"code": "Patient", "max": "0"}]),
     "MessageDefinition.focus[0]"),
    ("bdl-9", bundle("document", identifier={"system": "a", "value": "b"}), bundle("document", identifier={"value": "b"}), "Bundle"),
    ("bdl-10", bundle("document", timestamp="2026-01-01T00:00:00Z"), bundle("document"), "Bundle"),
    ("bdl-11", bundle("document", {"resource": of("Composition")}), bundle("document", {"resource": PATIENT}), "Bundle"),
    ("bdl-12", bundle("message", {"resource": of("MessageHeader")}), bundle("message", {"resource": PATIENT}), "Bundle"),
    ("inv-1", of("Parameters", parameter=[{"name": "a", "valueString": "x"}]), of("Parameters", parameter=[{"name": "a"}]), "Parameters.parameter[0]"),
    ("inv-1", of("Parameters", parameter=[{"name": "a", "part": [{"name": "b", "resource": PATIENT}]}]),
     of("Parameters", parameter=[{"name": "a", "part": [{"name": "b", "resource": PATIENT, "valueCode": "x"}]}]), "Parameters.parameter[0].part[0]"),
    ("cpb-1", capable(), capable(rest=[]), "CapabilityStatement"),
    ("cpb-2", capable(), capable(kind="capability", implementation=None), "CapabilityStatement"),
    ("cpb-9", capable(rest=[{"resource": [{"type": "Patient"}, {"type": "Group"}]}]), capable(rest=[{"resource": [{"type": "Group"}, {"type": "Group"}]}]),
     "CapabilityStatement.rest[0]"),
    ("cpb-12", capable(rest=[{"resource": [{"searchParam": [{"name": "a"}, {"name": "b"}]}]}]),
     capable(rest=[{"resource": [{"searchParam": [{"name": "a"}, {"name": "a"}]}]}]), "CapabilityStatement.rest[0].resource[0]"),
    ("cpb-14", capable(), capable(implementation=None, description="x"), "CapabilityStatement"),
    ("cpb-15", capable(kind="capability", implementation=None, software={"name": "x"}), capable(kind="capability"), "CapabilityStatement"),
    ("cpb-16", capable(kind="requirements", implementation=None, description="x"), capable(kind="requirements"), "CapabilityStatement"),
    ("spd-0", of("SearchParameter", name="Good_1"), of("SearchParameter", name="bad"), "SearchParameter"),
    ("spd-1", of("SearchParameter", xpath="a", xpathUsage="normal"), of("SearchParameter", xpath="a"), "SearchParameter"),
    ("spd-2", of("SearchParameter", chain=["a"], type="reference"), of("SearchParameter", chain=["a"], type="token"), "SearchParameter"),
    ("vsd-1", included(system="a"), included(version="1"), "ValueSet.compose.include[0]"),
    ("vsd-2", included(system="a", concept=[{"code": "x"}]), included(valueSet=["v"], concept=[{"code": "x"}]), "ValueSet.compose.include[0]"),
    ("vsd-3", included(system="a", filter=[{"op": "="}]), included(system="a", filter=[{"op": "="}], concept=[{"code": "x"}]), "ValueSet.compose.include[0]"),
    ("vsd-6", expanded(display="x"), expanded(version="1"), "ValueSet.expansion.contains[0]"),
    ("vsd-9", expanded(display="x", abstract=True), expanded(display="x"), "ValueSet.expansion.contains[0]"),
    ("vsd-10", expanded(code="x", system="s"), expanded(code="x"), "ValueSet.expansion.contains[0]"),
    ("csd-1", of("CodeSystem", concept=[{"code": "a", "concept": [{"code": "b"}]}]), of("CodeSystem", concept=[{"code": "a", "concept": [{"code": "a"}]}]),
     "CodeSystem"),
    ("que-1", asked(type="group", item=[{"linkId": "2", "type": "string"}]), asked(type="group"), ITEM),
    ("que-2", asked(item=[{"linkId": "2", "type": "string"}]), asked(item=[{"linkId": "1", "type": "string"}]), "Questionnaire"),
    ("que-3", asked(code=[{"code": "x"}]), asked(type="display", code=[{"code": "x"}]), ITEM),
    ("que-4", asked(answerValueSet="x"), asked(answerValueSet="x", answerOption=[{"valueString": "x"}]), ITEM),
    ("que-6", asked(required=True), asked(type="display", required=True), ITEM),
    ("que-7", asked(enableWhen=[{"question": "2", "operator": "exists", "answerBoolean": True}]),
     asked(enableWhen=[{"question": "2", "operator": "exists", "answerString": "x"}]), f"{ITEM}.enableWhen[0]"),
    ("que-8", asked(initial=[{"valueString": "x"}]), asked(type="display", initial=[{"valueString": "x"}]), ITEM),
    ("que-10", asked(maxLength=3), asked(type="date", maxLength=3), ITEM),
    ("que-12", asked(enableBehavior="all", enableWhen=[{"operator": "="}] * 3), asked(enableWhen=[{"operator": "="}] * 3), ITEM),
    ("que-13", asked(repeats=True, initial=[{"valueString": "x"}] * 2), asked(initial=[{"valueString": "x"}] * 2), ITEM),
    ("cmp-1", of("Composition", section=[{"text": {"div": "x"}}]), of("Composition", section=[{"title": "x"}]), "Composition.section[0]"),
    ("cmp-2", of("Composition", section=[{"emptyReason": LOINC}]), of("Composition", section=[{"emptyReason": LOINC, "entry": [{"display": "x"}]}]),
     "Composition.section[0]"),
    ("grp-1", of("Group", actual=True, member=[{"entity": {"display": "x"}}]), of("Group", actual=False, member=[{"inactive": True}]), "Group"),
    ("tim-1", timed(duration=Decimal(1), durationUnit="h"), timed(duration=Decimal(1)), REPEAT),
    ("tim-2", timed(period=Decimal(1), periodUnit="h"), timed(period=Decimal(1)), REPEAT),
    ("tim-4", timed(duration=Decimal("0.5"), durationUnit="h"), timed(duration=Decimal("-0.5"), durationUnit="h"), REPEAT),
    ("tim-5", timed(period=1, periodUnit="h"), timed(period=-1, periodUnit="h"), REPEAT),
    ("tim-6", timed(period=1, periodMax=2, periodUnit="h"), timed(periodMax=2), REPEAT),
    ("tim-7", timed(duration=1, durationMax=2, durationUnit="h"), timed(durationMax=2), REPEAT),
    ("tim-8", timed(count=1, countMax=2), timed(countMax=2), REPEAT),
    ("tim-9", timed(offset=1, when=["HS", "ACM"]), timed(offset=1, when=["HS", "CM"]), REPEAT),
    ("tim-10", timed(timeOfDay=["10:00:00"]), timed(timeOfDay=["10:00:00"], when=["HS"]), REPEAT),
    ("per-1", of("Encounter", period={"start": "2026-01-01", "end": "2026-01-01"}), of("Encounter", period={"start": "2026-01-02", "end": "2026-01-01"}),
     "Encounter.period"),
    ("per-1", of("Encounter", period={"start": "2026-01-01T10:00:00+02:00", "end": "2026-01-01T09:00:00Z"}),
     of("Encounter", period={"start": "2026-01-01T10:00:00Z", "end": "2026-01-01T11:00:00+02:00"}), "Encounter.period"),
    ("per-1", of("Encounter", period={"start": "2026-01-15", "end": "2026-01"}), of("Encounter", period={"start": "2026-02-15", "end": "2026-01"}),
     "Encounter.period"),
    ("rng-2", observed(valueRange={"low": {"value": 1}, "high": {"value": Decimal("1.0")}}), observed(valueRange={"low": {"value": 2}, "high": {"value": 1}}),
     "Observation.value"),
    ("rng-2", observed(valueRange={"low": {"value": 5, "code": "mg", "system": UCUM}, "high": {"value": 1, "code": "g", "system": UCUM}}),
     observed(valueRange={"low": {"value": 1, "code": "g", "system": UCUM}, "high": {"value": 5, "code": "mg", "system": UCUM}}), "Observation.value"),
    ("qty-3", observed(valueQuantity={"code": "mg", "system": UCUM}), observed(valueQuantity={"code": "mg"}), "Observation.value"),
    ("rat-1", observed(valueRatio={"numerator": {"value": 1}, "denominator": {"value": 1}}), observed(valueRatio={"numerator": {"value": 1}}),
     "Observation.value"),
    ("cpt-2", of("Patient", telecom=[{"system": "phone", "value": "1"}]), of("Patient", telecom=[{"value": "1"}]), "Patient.telecom[0]"),
    ("att-1", of("Patient", photo=[{"data": "eA==", "contentType": "image/png"}]), of("Patient", photo=[{"data": "eA=="}]), "Patient.photo[0]"),
    ("age-1", aged(value=3, code="a", system=UCUM), aged(value=-3, code="a", system=UCUM), "Condition.onset"),
    ("drt-1", of("Encounter", length={"value": 1, "code": "h", "system": UCUM}), of("Encounter", length={"code": "h", "system": UCUM}), "Encounter.length"),
    ("exp-1", of("PlanDefinition", action=[{"condition": [{"expression": {"expression": "x"}}]}]),
     of("PlanDefinition", action=[{"condition": [{"expression": {"language": "x"}}]}]), "PlanDefinition.action[0].condition[0].expression"),
    ("trd-1", of("PlanDefinition", action=[{"trigger": [{"type": "periodic", "timingDate": "2026"}]}]),
     of("PlanDefinition", action=[{"trigger": [{"type": "periodic", "timingDate": "2026", "data": [{"type": "Patient"}]}]}]), "PlanDefinition.action[0].trigger[0]"),
    ("drq-1", of("Library", dataRequirement=[{"codeFilter": [{"path": "x"}]}]), of("Library", dataRequirement=[{"codeFilter": [{"path": "x", "searchParam": "y"}]}]),
     "Library.dataRequirement[0].codeFilter[0]"),
    ("sdf-4", structure(), structure(baseDefinition=None), "StructureDefinition"),
    ("sdf-5", structure(type="Extension", context=[{"type": "element", "expression": "x"}]), structure(type="Extension"), "StructureDefinition"),
    ("sdf-6", structure(), structure(differential=None), "StructureDefinition"),
    ("sdf-8a", structure(element(), {"id": "Patient.a", "path": "Patient.a"}), structure(element(), {"id": "Group.a", "path": "Group.a"}),
     "StructureDefinition.differential"),
    ("sdf-17", structure(), structure(element(), element()), "StructureDefinition"),
    ("sdf-20", structure(), structure(element(slicing={"rules": "open"})), "StructureDefinition.differential"),
    ("sdf-23", structure(), structure(element(sliceName="x")), "StructureDefinition"),
    ("eld-1", below(slicing={"description": "x"}), below(slicing={"rules": "open"}), f"{ELEMENT}.slicing"),
    ("eld-2", below(min=1, max="*"), below(min=2, max="1"), ELEMENT),
    ("eld-3", below(max="1"), below(max="-1"), f"{ELEMENT}.max"),
    ("eld-4", below(type=[{"code": "Reference", "aggregation": ["bundled"]}]), below(type=[{"code": "string", "aggregation": ["bundled"]}]), f"{ELEMENT}.type[0]"),
    ("eld-6", below(fixedCode="x", type=[{"code": "code"}]), below(fixedCode="x", type=[{"code": "code"}, {"code": "uri"}]), ELEMENT),
    ("eld-8", below(fixedCode="x"), below(fixedCode="x", patternCode="x"), ELEMENT),
    ("eld-12", below(binding={"valueSet": "http://x"}), below(binding={"valueSet": "x"}), f"{ELEMENT}.binding"),
    ("eld-13", below(type=[{"code": "a"}, {"code": "b"}]), below(type=[{"code": "a"}, {"code": "a"}]), ELEMENT),
    ("eld-14", below(constraint=[{"key": "a"}, {"key": "b"}]), below(constraint=[{"key": "a"}, {"key": "a"}]), ELEMENT),
    ("eld-16", below(sliceName="a"), below(sliceName="a b"), ELEMENT),
    ("eld-17", below(type=[{"code": "Reference", "targetProfile": ["x"]}]), below(type=[{"code": "string", "targetProfile": ["x"]}]), f"{ELEMENT}.type[0]"),
    ("eld-22", below(sliceName="a", sliceIsConstraining=True), below(sliceIsConstraining=True), ELEMENT),
]  # fmt: skip


def broken(resource: Json) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for issue in violations(without_none(resource)):
        found.setdefault(issue.diagnostics.partition(":")[0], []).append(issue.expression)
    return found


def without_none(resource: Json) -> Json:
    return {name: value for name, value in resource.items() if value is not None}


@pytest.mark.parametrize(("key", "good", "bad", "path"), CASES, ids=[f"{number}-{case[0]}" for number, case in enumerate(CASES)])
def test_an_invariant_is_kept_and_broken(key: str, good: Json, bad: Json, path: str) -> None:
    assert key not in broken(good)
    assert broken(bad)[key] == [path]


def test_at_least_60_of_them_are_shown() -> None:
    assert len({key for key, *_ in CASES}) >= 60


def test_every_invariant_of_r4_compiles() -> None:
    for constraint in definitions._constraints():
        fhirpath.compile(constraint.expression)


def test_what_is_corrected_or_left_out_is_an_invariant_of_r4() -> None:
    keys = {constraint.key for constraint in definitions._constraints()}
    assert set(CORRECTED) | ELSEWHERE <= keys
    for expression in CORRECTED.values():
        fhirpath.compile(expression)


def test_severities_are_kept() -> None:
    severities = {
        issue.diagnostics.partition(":")[0]: issue.severity for issue in violations(of("Patient", contact=[{"gender": "male"}]))
    }
    assert severities == {"dom-6": "warning", "pat-1": "error"}


CONTACT = of("Patient", id="p", contact=[{"gender": "male"}])


@pytest.mark.parametrize(
    ("resource", "path"),
    [
        (of("Observation", contained=[CONTACT]), "Observation.contained[0].contact[0]"),
        (bundle("collection", {"resource": PATIENT}, {"resource": CONTACT}), "Bundle.entry[1].resource.contact[0]"),
        (
            of("Parameters", parameter=[{"name": "a", "part": [{"name": "b", "resource": CONTACT}]}]),
            "Parameters.parameter[0].part[0].resource.contact[0]",
        ),
        (
            bundle("collection", {"resource": of("Observation", contained=[CONTACT])}),
            "Bundle.entry[0].resource.contained[0].contact[0]",
        ),
        (of("Group", extension=[{"url": "x", "valuePeriod": {"start": "2026", "end": "2025"}}]), "Group.extension[0].value"),
    ],
)
def test_resources_inside_are_checked(resource: Json, path: str) -> None:
    assert [issue.expression for issue in violations(resource) if issue.severity == "error"] == [path]


def test_resource_is_the_one_that_an_element_is_in() -> None:
    inner = bundle("batch", {"resource": PATIENT})  # bdl-3 looks at %resource.type
    outer = bundle("collection", {"resource": inner})
    assert broken(outer)["bdl-3"] == ["Bundle.entry[0].resource"]


def test_what_cannot_be_evaluated_is_a_warning_and_nothing_of_the_resource_is_told() -> None:
    found = [issue for issue in violations(timed(duration="SECRET", durationUnit="h")) if issue.code == "processing"]
    assert [(issue.severity, issue.expression) for issue in found] == [("warning", REPEAT)]
    assert "tim-4" in found[0].diagnostics
    assert "SECRET" not in found[0].diagnostics


def test_nothing_is_changed() -> None:
    for _, good, bad, _ in CASES:
        before = copy.deepcopy((good, bad))
        broken(good)
        broken(bad)
        assert (good, bad) == before


def test_only_elements_with_constraints_are_asked() -> None:
    node = fhirpath.root(of("Patient"))
    assert {each.key for each in invariants.constraints_of(node)} == {"dom-6"}

"""FHIR R4 section 3.1.1.4: what each FHIR type yields for each type of search parameter."""

import copy
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from peers.resources import resources

from profiles.fhir.element_paths import Unsupported
from profiles.fhir.expression import compiled
from profiles.fhir.index import DateRange, Index, Indexed, Number, Quantity, Reference, Token
from profiles.fhir.index_values import EARLIEST, LATEST
from profiles.fhir.indexing import CATALOGUED, Indexer, index
from profiles.fhir.json import parse
from profiles.fhir.search_values import covered
from profiles.r4.definitions import resource_types
from profiles.r4.search import Parameter, by_url, parameter, parameters

SYNTHEA = Path(__file__).resolve().parents[4] / "shared" / "testdata" / "synthea_r4"
BASE = "https://here.example/fhir"
UCUM = "http://unitsofmeasure.org"
Json = dict[str, Any]


def indexed(type_: str, **elements: Any) -> Index:
    return index({"resourceType": type_, "id": "1", **elements}, parameters(type_).values(), base=BASE)


def days(first: str, last: str) -> DateRange:
    return DateRange(covered(first)[0], covered(last)[1])


def number(text: str, low: str, high: str) -> Number:
    return Number(Decimal(text), Decimal(low), Decimal(high))


MR = {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v2-0203", "code": "MR"}], "text": "Medical record"}
IDENTIFIER = {"type": MR, "system": "http://acme.org/mrn", "value": "12345"}


@pytest.mark.parametrize(
    ("type_", "elements", "code", "expected"),
    [
        # token: code by its required binding, Coding, CodeableConcept, Identifier, ContactPoint, boolean, string, uri, id
        ("Patient", {"gender": "male"}, "gender", (Token("http://hl7.org/fhir/administrative-gender", "male"),)),
        ("Patient", {}, "_id", (Token("", "1"),)),
        ("Patient", {"active": True}, "active", (Token("", "true"),)),
        ("Patient", {"identifier": [IDENTIFIER]}, "identifier",
         (Token("http://acme.org/mrn", "12345", (("http://terminology.hl7.org/CodeSystem/v2-0203", "MR"),)),)),
        ("Patient", {"identifier": [{"system": "http://acme.org/mrn"}]}, "identifier", ()),
        ("Patient", {"telecom": [{"system": "phone", "value": "555"}, {"system": "email", "value": "a@b"}]}, "phone", (Token("", "555"),)),
        ("Patient", {"meta": {"tag": [{"code": "t"}, {"system": "s", "code": "t"}, {"display": "d"}]}}, "_tag", (Token("", "t"), Token("s", "t"))),
        ("Observation", {"code": {"coding": [{"system": "a", "code": "1"}, {"system": "b", "code": "2"}]}}, "code", (Token("a", "1"), Token("b", "2"))),
        ("CodeSystem", {"content": "complete"}, "content-mode", (Token("http://hl7.org/fhir/codesystem-content-mode", "complete"),)),
        ("DocumentReference", {"content": [{"attachment": {"contentType": "text/plain"}}]}, "contenttype", (Token("urn:ietf:bcp:13", "text/plain"),)),
        ("StructureDefinition", {"baseDefinition": "http://x"}, "base", (Reference(url="http://x"),)),
        # string: HumanName and Address with all their parts, string, markdown
        ("Patient", {"name": [{"text": "T", "family": "F", "given": ["G", "H"], "prefix": ["P"], "suffix": ["S"], "use": "usual"}]}, "name",
         ("T", "F", "G", "H", "P", "S")),
        ("Patient", {"name": [{"given": [None, "G"]}]}, "given", ("G",)),
        ("Patient", {"address": [{"line": ["L"], "city": "C", "use": "home", "country": "X"}]}, "address", ("L", "C", "X")),
        ("Patient", {"name": [{"text": "Robert Smith"}]}, "phonetic", ("r163", "s530")),
        ("ValueSet", {"description": "# A *set*"}, "description", ("# A *set*",)),
        # date: date, dateTime, instant, Period with open ends, Timing
        ("Patient", {"birthDate": "1974-12"}, "birthdate", (days("1974-12-01", "1974-12-31"),)),
        ("Observation", {"effectiveDateTime": "2020-01-02T03:04:05Z"}, "date", (days("2020-01-02T03:04:05Z", "2020-01-02T03:04:05Z"),)),
        ("Observation", {"effectiveInstant": "2020-01-02T03:04:05Z"}, "date", (days("2020-01-02T03:04:05Z", "2020-01-02T03:04:05Z"),)),
        ("Encounter", {"period": {"start": "2020-01-02", "end": "2020-02"}}, "date", (days("2020-01-02", "2020-02-29"),)),
        ("Encounter", {"period": {"start": "2020"}}, "date", (DateRange(covered("2020")[0], LATEST),)),
        ("Encounter", {"period": {"end": "2020"}}, "date", (DateRange(EARLIEST, covered("2020")[1]),)),
        ("Encounter", {"period": {"extension": []}}, "date", ()),
        ("Observation", {"effectiveTiming": {"event": ["2013-03-24", "2013-01-31"]}}, "date", (days("2013-01-31", "2013-03-24"),)),
        ("Observation", {"effectiveTiming": {"repeat": {"boundsPeriod": {"start": "2013-01-31", "end": "2013-03-24"}}}}, "date",
         (days("2013-01-31", "2013-03-24"),)),
        ("Observation", {"effectiveTiming": {"repeat": {"frequency": 1}}}, "date", ()),
        # number and quantity
        ("RiskAssessment", {"prediction": [{"probabilityDecimal": Decimal("0.80")}]}, "probability", (number("0.80", "0.795", "0.805"),)),
        ("RiskAssessment", {"prediction": [{"probabilityRange": {"low": {"value": 1}, "high": {"value": 3}}}]}, "probability", (number("1", "0.5", "3.5"),)),
        ("MolecularSequence", {"variant": [{"start": 5}]}, "variant-start", (number("5", "4.5", "5.5"),)),
        ("Observation", {"valueQuantity": {"value": Decimal("5.40"), "system": UCUM, "code": "mg", "unit": "milligram"}}, "value-quantity",
         (Quantity(number("5.40", "5.395", "5.405"), UCUM, "mg", "milligram"),)),
        ("Observation", {"valueQuantity": {"value": 5.5, "unit": "mg"}}, "value-quantity", (Quantity(number("5.5", "5.45", "5.55"), unit="mg"),)),
        ("Observation", {"valueQuantity": {"code": "mg"}}, "value-quantity", ()),
        ("Observation", {"valueSampledData": {"origin": {"value": 2, "code": "mV"}}}, "value-quantity", (Quantity(number("2", "1.5", "2.5"), code="mV"),)),
        ("Condition", {"onsetAge": {"value": 40, "system": UCUM, "code": "a"}}, "onset-age", (Quantity(number("40", "39.5", "40.5"), UCUM, "a"),)),
        ("Condition", {"onsetRange": {"low": {"value": 40, "code": "a"}}}, "onset-age", (Quantity(number("40", "39.5", "1E300"), code="a"),)),
        ("Condition", {"onsetRange": {"high": {"value": 40, "code": "a"}}}, "onset-age", (Quantity(number("40", "-1E300", "40.5"), code="a"),)),
        ("Invoice", {"totalNet": {"value": 10, "currency": "EUR"}}, "totalnet", (Quantity(number("10", "9.5", "10.5"), "urn:iso:std:iso:4217", "EUR"),)),
        # reference: Reference of every form, canonical, uri; what a Bundle begins with
        ("Observation", {"subject": {"reference": "Patient/7"}}, "subject", (Reference("Patient", "7"),)),
        ("Observation", {"subject": {"reference": f"{BASE}/Patient/7/_history/2"}}, "patient", (Reference("Patient", "7", "2"),)),
        ("Observation", {"subject": {"reference": "https://far.example/Patient/7"}}, "patient", (Reference(url="https://far.example/Patient/7"),)),
        ("Observation", {"subject": {"type": "Patient", "identifier": {"system": "s", "value": "v"}}}, "patient",
         (Reference("Patient", identifier=Token("s", "v")),)),
        ("Observation", {"subject": {"reference": "Group/7"}}, "subject", (Reference("Group", "7"),)),
        ("Observation", {"subject": {"reference": "#p"}}, "subject", ()),
        ("QuestionnaireResponse", {"questionnaire": "http://x/q|2.0"}, "questionnaire", (Reference(url="http://x/q", version="2.0"),)),
        ("Bundle", {"entry": [{"resource": {"resourceType": "Composition", "id": "c"}}, {"resource": {"resourceType": "Patient", "id": "p"}}]},
         "composition", (Reference("Composition", "c"),)),
        # uri
        ("ValueSet", {"url": "http://x/v"}, "url", ("http://x/v",)),
        ("Patient", {"meta": {"profile": ["http://x/p|1", "http://x/q"]}}, "_profile", ("http://x/p|1", "http://x/p", "http://x/q")),
    ],
)  # fmt: skip
def test_what_a_type_yields(type_: str, elements: Json, code: str, expected: tuple[Indexed, ...]) -> None:
    assert indexed(type_, **elements).values[code] == expected


def test_what_is_not_there_yields_nothing() -> None:
    found = indexed("Patient")
    assert found.values.keys() == {"_id", "deceased"}
    assert not found.texts
    assert not found.composites
    assert "patient" not in indexed("Observation", subject={"reference": "Group/7"}).values


def test_the_texts_of_tokens_are_their_displays_and_texts() -> None:
    code = {"text": "Weight", "coding": [{"code": "1", "display": "Body weight"}, {"code": "2"}]}
    assert indexed("Observation", code=code).texts["code"] == ("Weight", "Body weight")
    assert indexed("Patient", identifier=[IDENTIFIER, IDENTIFIER]).texts == {"identifier": ("Medical record",)}
    assert indexed("Patient", meta={"tag": [{"code": "t", "display": "T"}]}).texts == {"_tag": ("T",)}


def test_composites_keep_together_what_is_of_one_element() -> None:
    def part(code: str, value: int) -> Json:
        return {"code": {"coding": [{"code": code}]}, "valueQuantity": {"value": value}}

    found = indexed("Observation", component=[part("a", 1), part("b", 2), {"code": {"coding": [{"code": "c"}]}}], **part("z", 9))
    quantities = {value: Quantity(number(str(value), f"{value - 1}.5", f"{value}.5")) for value in (1, 2, 9)}
    inner = (((Token("", "a"),), (quantities[1],)), ((Token("", "b"),), (quantities[2],)))
    assert found.composites["component-code-value-quantity"] == inner
    assert found.composites["code-value-quantity"] == (((Token("", "z"),), (quantities[9],)),)
    assert set(found.composites["combo-code-value-quantity"]) == {*inner, ((Token("", "z"),), (quantities[9],))}


def test_a_relationship_is_a_code_and_a_document() -> None:
    found = indexed("DocumentReference", relatesTo=[{"code": "appends", "target": {"reference": "DocumentReference/2"}}])
    code = Token("http://hl7.org/fhir/document-relationship-type", "appends")
    assert found.composites["relationship"] == (((code,), (Reference("DocumentReference", "2"),)),)


def test_a_composite_may_take_from_the_resource_what_all_its_elements_share() -> None:
    found = indexed(
        "MolecularSequence", referenceSeq={"chromosome": {"coding": [{"code": "7"}]}}, variant=[{"start": 1, "end": 2}]
    )
    parts = ((Token("", "7"),), (number("1", "0.5", "1.5"),), (number("2", "1.5", "2.5"),))
    assert found.composites["chromosome-variant-coordinate"] == (parts,)


@pytest.mark.parametrize(
    ("resource", "expected"),
    [
        ({"resourceType": "Patient", "id": "7", "link": [{"other": {"reference": "Patient/8"}}]}, {"Patient": ("7", "8")}),
        ({"resourceType": "Observation", "id": "1", "subject": {"reference": "Patient/7"}, "encounter": {"reference": "Encounter/9"},
          "performer": [{"reference": "Practitioner/3"}, {"reference": "Patient/7"}]},
         {"Patient": ("7",), "Encounter": ("9",), "Practitioner": ("3",)}),
        ({"resourceType": "Encounter", "id": "9", "subject": {"reference": "Patient/7"}}, {"Patient": ("7",), "Encounter": ("9",)}),
        ({"resourceType": "Observation", "id": "1", "subject": {"reference": "https://far.example/fhir/Patient/7"}}, {}),
        ({"resourceType": "Organization", "id": "1"}, {}),
    ],
)  # fmt: skip
def test_the_compartments_that_a_resource_is_in(resource: Json, expected: dict[str, tuple[str, ...]]) -> None:
    assert index(resource, parameters(resource["resourceType"]).values(), base=BASE).compartments == expected
    nothing_asked = index(resource, [], base=BASE)
    assert (nothing_asked.values, nothing_asked.compartments) == ({}, expected)


def test_what_the_catalogue_answers_is_left_out() -> None:
    series = [{"uid": "1.2", "modality": {"code": "CT"}, "instance": [{"uid": "1.2.3", "sopClass": {"code": "urn:oid:1"}}]}]
    found = indexed("ImagingStudy", series=series)
    assert found.values["modality"] == (Token("", "CT"),)
    assert not CATALOGUED & found.values.keys()
    everything = Indexer("ImagingStudy", parameters("ImagingStudy").values())
    assert everything.index({"resourceType": "ImagingStudy", "series": series}, BASE).values.keys() >= CATALOGUED


def test_a_custom_parameter_is_one_like_the_others() -> None:
    resource = {
        "resourceType": "SearchParameter", "url": "http://example.org/SearchParameter/birth-time", "code": "birth-time", "type": "date", "base": ["Patient"],
        "expression": "Patient.birthDate.extension('http://hl7.org/fhir/StructureDefinition/patient-birthTime')",
    }  # fmt: skip
    extension = {"url": "http://hl7.org/fhir/StructureDefinition/patient-birthTime", "valueDateTime": "1974-12-25T14:35:45Z"}
    patient = {"resourceType": "Patient", "birthDate": "1974-12-25", "_birthDate": {"extension": [extension]}}
    found = index(patient, [parameter(resource)], base=BASE)
    assert found.values == {"birth-time": (days("1974-12-25T14:35:45Z", "1974-12-25T14:35:45Z"),)}
    with pytest.raises(Unsupported):
        Indexer("Patient", [parameter({**resource, "expression": "Patient.name.descendants()"})])


def test_numbers_are_read_as_they_were_written() -> None:
    body = b'{"resourceType": "RiskAssessment", "prediction": [{"probabilityDecimal": 1.00}, {"probabilityDecimal": 1e-2}]}'
    found = index(parse(body), parameters("RiskAssessment").values(), base=BASE)
    assert found.values["probability"] == (number("1.00", "0.995", "1.005"), number("0.01", "0.005", "0.015"))


generous = settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large], deadline=None)


@generous
@given(resources())
def test_whatever_is_valid_is_indexed_and_stays_as_it_was(resource: Json) -> None:
    before = copy.deepcopy(resource)
    every = parameters(resource["resourceType"])
    found = index(resource, every.values(), base=BASE, without=())
    assert resource == before
    assert found.values.keys() | found.texts.keys() | found.composites.keys() <= every.keys()


@settings(generous, max_examples=25)
@given(resources("Patient", "Observation", "ImagingStudy", "DiagnosticReport", "Encounter", "DocumentReference", "Condition"))
def test_the_one_walk_finds_what_each_expression_finds_by_itself(resource: Json) -> None:
    type_ = resource["resourceType"]
    found = index(resource, parameters(type_).values(), base=BASE, without=())
    for each in parameters(type_).values():
        if each.type == "composite":
            continue
        alone = index(resource, [each], base=BASE, without=())
        assert alone.values.get(each.code) == found.values.get(each.code)
        assert bool(list(compiled(each.expression, type_)(resource))) == (each.code in found.values or each.code in found.texts)


@pytest.mark.skipif(not SYNTHEA.is_dir(), reason="the shared test data are not here")
def test_real_records_are_found_by_what_they_say() -> None:
    """Whole records of synthetic patients: what has a subject is in the patient's compartment once its reference is."""
    types: set[str] = set()
    for path in SYNTHEA.glob("*.json"):
        entries = [entry["resource"] for entry in parse(path.read_bytes())["entry"]]
        (patient,) = [each for each in entries if each["resourceType"] == "Patient"]
        for resource in entries:
            types.add(resource["resourceType"])
            subject = resource.get("subject") or resource.get("patient") or {}
            if subject.get("reference", "").startswith("urn:uuid:"):
                subject["reference"] = f"Patient/{patient['id']}"
            found = index(resource, parameters(resource["resourceType"]).values(), base=BASE)
            assert found.values["_id"] == (Token("", resource["id"]),)
            if subject and resource["resourceType"] != "ExplanationOfBenefit":
                assert patient["id"] in found.compartments["Patient"]
            for coding in resource.get("code", {}).get("coding", ()):
                assert Token(coding["system"], coding["code"]) in found.values["code"]
    assert {"Patient", "ImagingStudy", "Observation", "Encounter", "Claim"} <= types


def test_there_is_a_reader_for_what_each_parameter_of_r4_leads_to() -> None:
    """All but parameters whose elements the standard gives no meaning as their type (Age and string as a date)."""
    silent = set()
    for name in resource_types():
        for each in parameters(name).values():
            if each.type not in ("composite", "special") and not Indexer(name, [each])._root.goes_on:
                silent.add((name, each.code))
    assert silent == set()


def test_parameters_of_one_url_are_one_key() -> None:
    one = by_url("http://hl7.org/fhir/SearchParameter/clinical-code")
    assert isinstance(one, Parameter)
    assert hash(one) == hash(replace(one))

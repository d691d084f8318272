"""FHIR R4 section 3.1.1: expressions of search parameters, compiled."""

from contextlib import suppress
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiles.fhir.element_paths import Unsupported
from profiles.fhir.expression import compiled, targets
from profiles.r4.definitions import resource_types
from profiles.r4.search import parameters

PATIENT: dict[str, Any] = {
    "resourceType": "Patient",
    "name": [{"use": "official", "given": ["Peter", "James"]}, {"use": "usual", "given": ["Jim"], "family": "Chalmers"}],
    "telecom": [{"system": "phone", "value": "1"}, {"system": "email", "value": "2"}, {"value": "3"}],
    "birthDate": "1974-12-25",
    "_birthDate": {"extension": [{"url": "http://hl7.org/fhir/StructureDefinition/patient-birthTime", "valueDateTime": "1974-12-25T14:35:45Z"}]},
    "extension": [
        {"url": "http://example.org/race", "extension": [{"url": "ombCategory", "valueCoding": {"code": "2106-3"}}]},
        {"url": "http://example.org/site", "valueString": "left"},
    ],
    "multipleBirthInteger": 2,
    "generalPractitioner": [{"reference": "Practitioner/1"}, {"reference": "https://far.example/fhir/Organization/2/_history/3"},
                            {"type": "Organization", "identifier": {"value": "x"}}],
}  # fmt: skip


def yields(expression: str, resource: dict[str, Any] = PATIENT) -> list[tuple[Any, str]]:
    return list(compiled(expression, resource["resourceType"])(resource))


@pytest.mark.parametrize("name", resource_types())
def test_every_parameter_of_r4_compiles_to_paths(name: str) -> None:
    for parameter in parameters(name).values():
        for path in compiled(parameter.expression, name).paths:
            for _, expression in parameter.components:
                assert compiled(expression, path.type, name).paths, parameter.code
        assert compiled(parameter.expression, name).paths, parameter.code


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("Patient.name.given", [("Peter", "string"), ("James", "string"), ("Jim", "string")]),
        ("Patient.name[1].family", [("Chalmers", "string")]),
        ("Patient.name[2].family", []),
        ("Patient.name.where(use = 'official').given", [("Peter", "string"), ("James", "string")]),
        ("Patient.name.where(use = 'usual' and family.exists()).family", [("Chalmers", "string")]),
        ("Patient.name.where(use = 'x' or family.empty()).given", [("Peter", "string"), ("James", "string")]),
        ("Patient.telecom.where(system='email').value", [("2", "string")]),
        ("Patient.telecom.where(system.exists().not()).value", [("3", "string")]),
        ("Patient.telecom.where(system != 'email').value", [("1", "string")]),
        ("Patient.multipleBirth", [(2, "integer")]),
        ("(Patient.multipleBirth as integer)", [(2, "integer")]),
        ("Patient.multipleBirth.ofType(boolean)", []),
        ("Patient.multipleBirthInteger", [(2, "integer")]),
        ("Patient.birthDate | Person.birthDate | Patient.gender", [("1974-12-25", "date")]),
        ("Patient.extension('http://example.org/site')", [("left", "string")]),
        ("Patient.extension('http://example.org/site').value", [("left", "string")]),
        ("Patient.extension.where(url = 'http://example.org/race').extension.value.code", [("2106-3", "code")]),
        ("Patient.hasExtension('http://example.org/site')", [(True, "boolean")]),
        ("Patient.hasExtension('http://example.org/none')", [(False, "boolean")]),
        ("Patient.birthDate.extension('http://hl7.org/fhir/StructureDefinition/patient-birthTime').value", [("1974-12-25T14:35:45Z", "dateTime")]),
        ("Patient.generalPractitioner.where(resolve() is Practitioner)", [(PATIENT["generalPractitioner"][0], "Reference")]),
        ("Patient.generalPractitioner.where(resolve() is Organization)",
         [(PATIENT["generalPractitioner"][1], "Reference"), (PATIENT["generalPractitioner"][2], "Reference")]),
        ("Patient.deceased.exists() and Patient.deceased != false", [(False, "boolean")]),
    ],
)  # fmt: skip
def test_what_an_expression_yields(expression: str, expected: list[tuple[Any, str]]) -> None:
    assert yields(expression) == expected


@pytest.mark.parametrize(
    ("deceased", "expected"),
    [({}, False), ({"deceasedBoolean": False}, False), ({"deceasedBoolean": True}, True), ({"deceasedDateTime": "2020"}, True)],
)
def test_who_died_at_a_time_is_deceased(deceased: dict[str, Any], expected: bool) -> None:
    assert yields(parameters("Patient")["deceased"].expression, {"resourceType": "Patient", **deceased}) == [
        (expected, "boolean")
    ]


def test_an_element_of_a_composite_may_ask_its_resource() -> None:
    resource = {"resourceType": "MolecularSequence", "referenceSeq": {"chromosome": {"text": "7"}}, "variant": [{"start": 1}]}
    found = compiled("%resource.referenceSeq.chromosome", "MolecularSequence.variant", "MolecularSequence")
    assert list(found(resource["variant"][0], resource)) == [({"text": "7"}, "CodeableConcept")]  # type: ignore[index]


def test_choices_are_told_apart_by_their_types() -> None:
    resource = {"resourceType": "Observation", "valueQuantity": {"value": Decimal("1.00")}, "component": [{"valueString": "x"}]}
    assert yields("(Observation.value as Quantity) | (Observation.value as SampledData)", resource) == [
        (resource["valueQuantity"], "Quantity")
    ]
    assert yields("(Observation.component.value as string)", resource) == [("x", "string")]


@pytest.mark.parametrize(
    ("expression", "says"),
    [
        ("", "expected"),
        ("Patient.", "at the end"),
        ("Patient.nonsense", "no element nonsense"),
        ("Patient.name.given.descendants()", "descendants()"),
        ("Patient.link.other.resolve().name", "not looked into"),
        ("Patient.link.other.resolve()", "resolve()"),
        ("Nothing.name", "no type Nothing"),
        ("(Patient.multipleBirth as Quantity)", "is Quantity"),
        ("Patient.name + 1", "character at 13"),
        ("Patient.name)", "not expected"),
        ("Patient.contact.telecom[0]", "place in brackets"),
        ("Patient.active and Patient.active or Patient.active", "parentheses"),
        ("(" * 40 + "Patient" + ")" * 40, "deeper"),
        ("Patient.name | " * 2000 + "Patient.name", "more than"),
        ("Patient.name.where(%resource.active = true)", "%resource"),
        ("Patient.name.where('x')", "no element"),
    ],
)
def test_what_is_outside_of_the_subset_says_why(expression: str, says: str) -> None:
    with pytest.raises(Unsupported) as caught:
        compiled(expression, "Patient")
    assert says in str(caught.value)


@given(
    st.lists(
        st.sampled_from(
            [
                "Patient",
                ".",
                "name",
                "where(",
                "(",
                ")",
                "as",
                "|",
                "and",
                "=",
                "'x'",
                "[",
                "0",
                "]",
                "is",
                "resolve()",
                "not()",
                " ",
            ]
        )
    )
)
def test_any_text_compiles_or_is_unsupported(words: list[str]) -> None:
    with suppress(Unsupported):
        compiled(" ".join(words), "Patient")


@pytest.mark.parametrize(
    ("type_", "code", "expected"),
    [("Observation", "patient", {"Patient"}), ("ImagingStudy", "endpoint", {"Endpoint"}), ("Observation", "subject", {"Patient", "Group", "Device", "Location"}),
     ("Encounter", "part-of", {"Encounter"}), ("Provenance", "target", set(resource_types()) - {"Parameters"})],
)  # fmt: skip
def test_what_a_reference_can_lead_to(type_: str, code: str, expected: set[str]) -> None:
    assert targets(parameters(type_)[code], type_) == expected

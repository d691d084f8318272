"""FHIR R4 section 3.1.3: `_filter`, by the examples and the tables of the specification."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiles.fhir.filter import OPERATORS, Comparison, Joined, Negated, condition, parsed
from profiles.fhir.query import (
    All,
    AnyOf,
    Chain,
    Condition,
    Criterion,
    DateValue,
    Missing,
    Not,
    NumberValue,
    QuantityValue,
    ReferenceValue,
    Reverse,
    Text,
    TokenValue,
    Value,
)
from profiles.fhir.search_conditions import Conditions, ParameterError
from profiles.fhir.search_values import covered, date_value, number_value, quantity_value
from profiles.r4.search import parameters

BASE = "https://here.example/fhir"


def meant(type_: str, text: str) -> Condition:
    return condition(text, (type_,), Conditions(BASE, 0, {}))


def criterion(type_: str, code: str, value: Value, modifier: str = "") -> Criterion:
    return Criterion(parameters(type_)[code], modifier, (value,))


GIVEN = criterion("Patient", "given", Text("peter"), "equals")
BORN = criterion("Patient", "birthdate", DateValue("ge", *covered("2014-10-10")))
ACTIVE = criterion("Patient", "active", TokenValue(None, "true"))


@pytest.mark.parametrize(
    ("type_", "text", "expected"),
    [
        ("Patient", 'name co "pet"', criterion("Patient", "name", Text("pet"), "contains")),
        ("Patient", 'given eq "peter" and birthdate ge 2014-10-10', All((GIVEN, BORN))),
        ("Observation", "code eq http://loinc.org|1234-5", criterion("Observation", "code", TokenValue("http://loinc.org", "1234-5"))),
        ("Observation", 'patient.name co "pet"',
         Chain(parameters("Observation")["patient"], (("Patient", criterion("Patient", "name", Text("pet"), "contains")),))),
        ("Observation", "related[type eq x].target pr true", None),
        # logic: brackets, not, from left to right without precedence
        ("Patient", "not (active eq true)", Not(ACTIVE)),
        ("Patient", "not(active eq true)", Not(ACTIVE)),
        ("Patient", "(((active eq true)))", ACTIVE),
        ("Patient", "active eq true or given eq peter and birthdate ge 2014-10-10", All((AnyOf((ACTIVE, GIVEN)), BORN))),
        ("Patient", "active eq true or (given eq peter and birthdate ge 2014-10-10)", AnyOf((ACTIVE, All((GIVEN, BORN))))),
        ("Patient", "active eq true and given eq peter and birthdate ge 2014-10-10", All((ACTIVE, GIVEN, BORN))),
        # values: JSON strings and tokens
        ("Patient", r'family eq "a \"b\" ) \u00e9"', criterion("Patient", "family", Text('a "b" ) é'), "equals")),
        ("Patient", r"family sw a\b", criterion("Patient", "family", Text(r"a\b"))),
        # operators
        ("Patient", "family ne x", Not(criterion("Patient", "family", Text("x"), "equals"))),
        ("Patient", "family sw x", criterion("Patient", "family", Text("x"))),
        ("Patient", "family ew x", criterion("Patient", "family", Text("x"), "ends")),
        ("Patient", "birthdate pr true", criterion("Patient", "birthdate", Missing(False), "missing")),
        ("Patient", "birthdate pr false", criterion("Patient", "birthdate", Missing(True), "missing")),
        ("Patient", "birthdate eq 2000", criterion("Patient", "birthdate", date_value("2000", 0))),
        ("Patient", "birthdate ap 2000", criterion("Patient", "birthdate", date_value("ap2000", 0))),
        ("Encounter", "date po 2000", criterion("Encounter", "date", DateValue("eq", *covered("2000")), "overlaps")),
        ("Encounter", "date sa 2000", criterion("Encounter", "date", date_value("sa2000", 0))),
        ("Condition", "code ss s|1", criterion("Condition", "code", TokenValue("s", "1"), "below")),
        ("Condition", "code sb s|1", criterion("Condition", "code", TokenValue("s", "1"), "above")),
        ("Condition", "code in http://x/vs?a,b", criterion("Condition", "code", Text("http://x/vs?a,b"), "in")),
        ("Condition", "code ni http://x/vs", criterion("Condition", "code", Text("http://x/vs"), "not-in")),
        ("Observation", "subject re Patient/4", criterion("Observation", "subject", ReferenceValue("Patient", "4"))),
        ("RiskAssessment", "probability gt 0.8", criterion("RiskAssessment", "probability", number_value("gt0.8"))),
        ("Observation", "value-quantity le 5.4|http://unitsofmeasure.org|mg",
         criterion("Observation", "value-quantity", quantity_value("le5.4|http://unitsofmeasure.org|mg"))),
        # paths: types, filters in brackets, _has
        ("Observation", "subject:Patient[active eq true].given eq peter",
         Chain(parameters("Observation")["subject"], (("Patient", All((ACTIVE, GIVEN))),))),
        ("Patient", "given eq peter and _has:Observation:patient:code eq http://loinc.org|1234-5",
         All((GIVEN, Reverse("Observation", parameters("Observation")["patient"], criterion("Observation", "code", TokenValue("http://loinc.org", "1234-5")))))),
        ("Patient", "phonetic eq Jon", All((criterion("Patient", "phonetic", Text("j500")),))),
        ("Patient", "_id eq 7", criterion("Patient", "_id", TokenValue(None, "7"))),
    ],
)  # fmt: skip
def test_what_a_filter_says(type_: str, text: str, expected: Condition | None) -> None:
    if expected is None:  # R4 has the example, but no longer the parameter
        with pytest.raises(ParameterError):
            meant(type_, text)
    else:
        assert meant(type_, text) == expected


def test_the_kinds_of_values_are_those_of_an_ordinary_search() -> None:
    assert isinstance(number_value("1"), NumberValue)
    assert isinstance(quantity_value("1"), QuantityValue)


@pytest.mark.parametrize(
    ("text", "code", "says"),
    [
        ("", "value", "At character 1"),
        ("given", "value", "At character 6"),
        ("given is x", "value", "At character 7"),
        ("given eq", "value", "At character 9"),
        ('given eq "x', "value", "At character 10"),
        ("(given eq x", "value", "At character 12 of the filter ')'"),
        ("given eq x)", "value", "At character 11"),
        ("given eq x given eq y", "value", "'and', 'or' or the end"),
        ("given eq x and", "value", "At character 15"),
        ("nmae eq x", "not-supported", "At character 1 of the filter: Patient has no search parameter"),
        ("active eq true and nmae eq x", "not-supported", "At character 20"),
        ("given gt x", "not-supported", "gt does not go with"),
        ("birthdate co 2000", "not-supported", "co does not go with"),
        ("birthdate eq gt2000", "value", "operator stands before"),
        ("birthdate eq never", "value", "operator stands before"),
        ("birthdate ge 2000-13", "value", "At character 1"),
        ("birthdate pr maybe", "value", "true or false"),
        ("organization[active eq true] eq x", "value", "'.'"),
        ("given.family eq x", "invalid", "references"),
        ("organization.nonsense eq x", "not-supported", "There are"),
        ("phonetic co Jon", "not-supported", "co does not go with"),
        ("phonetic eq Jon Smith", "value", "At character 17"),
        ("(" * 33 + "given eq x" + ")" * 33, "too-costly", "nested deeper"),
        ("given eq x " + "or given eq x and given eq x " * 40, "too-costly", "too often"),
        ("organization." + "partof." * 9 + "name eq x", "too-costly", "at most 8"),
        ("given eq " + "x" * 4000, "too-long", "4000"),
        ("organization[" + "partof[" * 20 + "name eq x" + "].name eq x" * 21, "too-costly", "at most 8"),
    ],
)
def test_what_is_wrong_is_told_with_where(text: str, code: str, says: str) -> None:
    with pytest.raises(ParameterError) as caught:
        meant("Patient", text)
    assert (caught.value.parameter, caught.value.code) == ("_filter", code)
    assert says in caught.value.detail


def test_a_filter_counts_towards_the_limit_of_values() -> None:
    conditions = Conditions(BASE, 0, {})
    for _ in range(5):
        condition(" or ".join(["_id eq x"] * 100), ("Patient",), conditions)  # 500 in all
    with pytest.raises(ParameterError, match="500"):
        condition("_id eq x", ("Patient",), conditions)


# --- whatever is printed is read

NODES = st.recursive(
    st.builds(
        lambda name, operator, value: f'{name} {operator} "{value}"',
        st.sampled_from(["given", "not", "and", "a-b.c", "_has:X:y:z", "x[given eq y].z"]), st.sampled_from(OPERATORS),
        st.text("abc )]([", max_size=5),
    ),
    lambda inner: st.one_of(
        inner.map(lambda one: f"not ({one})"), inner.map(lambda one: f"( {one} )"),
        st.builds(lambda a, word, b: f"{a} {word} ({b})", inner, st.sampled_from(["and", "or"]), inner),
    ),
    max_leaves=6,
)  # fmt: skip


def printed(node: Comparison | Joined | Negated) -> str:
    if isinstance(node, Negated):
        return f"not({printed(node.of)})"
    if isinstance(node, Joined):
        return f"({f' {node.operator} '.join(printed(part) for part in node.parts)})"
    path = ".".join(step.name + (f"[{printed(step.filter)}]" if step.filter else "") for step in node.path)
    return f'{path} {node.operator} "{node.value}"'


@given(NODES)
def test_what_is_read_is_printed_and_read_as_the_same(text: str) -> None:
    assert printed(parsed(printed(parsed(text)))) == printed(parsed(text))


@given(
    st.lists(
        st.sampled_from(
            [
                "given",
                "organization",
                ".name",
                "[",
                "]",
                "(",
                ")",
                " ",
                "and",
                "or",
                "not",
                "eq",
                "pr",
                "true",
                '"',
                "\\",
                "é",
                "_has:",
                "2000",
            ]
        )
    )
)
def test_any_text_is_read_or_refused(words: list[str]) -> None:
    for text in ("".join(words), " ".join(words)):
        assert _complaint(text) in ("", "_filter")


def _complaint(text: str) -> str:
    """The parameter that is refused, or nothing."""
    try:
        meant("Patient", text)
    except ParameterError as error:
        return error.parameter
    return ""

"""FHIR R4 section 3.1.1: a search request as a tree, by the words and examples of the specification."""

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiles.fhir.query import (
    All,
    AnyOf,
    Chain,
    Condition,
    Criterion,
    Include,
    InCompartment,
    Missing,
    ReferenceValue,
    Reverse,
    Search,
    SortKey,
    Text,
    TokenValue,
)
from profiles.fhir.search_conditions import ParameterError
from profiles.fhir.search_request import SearchRefused, in_compartment, read
from profiles.fhir.search_values import escaped, value
from profiles.r4.definitions import resource_types
from profiles.r4.search import Parameter, parameters

BASE = "https://here.example/fhir"
NOW = 1_700_000_000_000_000


def search(types: str, query: str, **more: Any) -> Search:
    """`types` are joined by commas, `query` is as in a URL but not encoded."""
    pairs = [(name, text) for name, _, text in (part.partition("=") for part in query.split("&") if part)]
    return read(tuple(types.split(",")), pairs, base=BASE, now=NOW, **more)


def met(types: str, query: str) -> tuple[Condition, ...]:
    return search(types, query).condition.conditions


def outcome(types: tuple[str, ...], pairs: Sequence[tuple[str, str]], *, lenient: bool = False) -> Search | SearchRefused:
    try:
        return read(types, pairs, base=BASE, now=NOW, lenient=lenient)
    except SearchRefused as error:
        return error


def refused(types: str, query: str, **more: Any) -> list[ParameterError]:
    with pytest.raises(SearchRefused) as caught:
        search(types, query, **more)
    return list(caught.value.errors)


def criterion(type_: str, code: str, *texts: str, modifier: str = "") -> Criterion:
    parameter = parameters(type_)[code]
    return Criterion(parameter, modifier, tuple(value(text, parameter, modifier, BASE, NOW) for text in texts))


# --- names, values, modifiers


@pytest.mark.parametrize(
    ("type_", "query", "expected"),
    [
        ("Patient", "given=eve", [criterion("Patient", "given", "eve")]),
        ("Patient", "given:contains=eve", [criterion("Patient", "given", "eve", modifier="contains")]),
        ("Patient", "given:exact=Eve", [criterion("Patient", "given", "Eve", modifier="exact")]),
        ("Patient", "language=FR,NL", [criterion("Patient", "language", "FR", "NL")]),
        ("Patient", "language=FR&language=NL", [criterion("Patient", "language", "FR"), criterion("Patient", "language", "NL")]),
        ("Patient", "gender:missing=true", [criterion("Patient", "gender", "true", modifier="missing")]),
        ("Patient", "gender:not=male,female", [criterion("Patient", "gender", "male", "female", modifier="not")]),
        ("Patient", r"family=a\,b", [criterion("Patient", "family", r"a\,b")]),
        ("Patient", "identifier:of-type=s|MR|446053", [criterion("Patient", "identifier", "s|MR|446053", modifier="of-type")]),
        ("Condition", "code:in=http://snomed.info/sct?fhir_vs=1", [criterion("Condition", "code", "http://snomed.info/sct?fhir_vs=1", modifier="in")]),
        ("Condition", "code:below=s|1", [criterion("Condition", "code", "s|1", modifier="below")]),
        ("ValueSet", "url:below=http://acme.org/fhir/", [criterion("ValueSet", "url", "http://acme.org/fhir/", modifier="below")]),
        ("Observation", "subject:Patient=23", [criterion("Observation", "subject", "23", modifier="Patient")]),
        ("Observation", "subject:identifier=s|v", [criterion("Observation", "subject", "s|v", modifier="identifier")]),
        ("RiskAssessment", "probability=gt0.8", [criterion("RiskAssessment", "probability", "gt0.8")]),
        ("Observation", "value-quantity=5.4||mg", [criterion("Observation", "value-quantity", "5.4||mg")]),
        ("Observation", "code-value-quantity=loinc|1$gt5", [criterion("Observation", "code-value-quantity", "loinc|1$gt5")]),
        ("Patient", "_id=23,24&_lastUpdated=gt2010-10-01", [criterion("Patient", "_id", "23", "24"), criterion("Patient", "_lastUpdated", "gt2010-10-01")]),
        ("Patient", "_tag=http://acme.org/codes|t", [criterion("Patient", "_tag", "http://acme.org/codes|t")]),
        ("Patient", "_profile=http://x/p", [criterion("Patient", "_profile", "http://x/p")]),
    ],
)  # fmt: skip
def test_a_parameter_is_a_criterion(type_: str, query: str, expected: list[Criterion]) -> None:
    assert met(type_, query) == tuple(expected)


@pytest.mark.parametrize(
    ("query", "code", "expected"),
    [
        ("_text=bone", "_text", Text("bone")),
        ("_content=a b", "_content", Text("a b")),
        ("_list=42", "_list", ReferenceValue("List", "42")),
    ],
)
def test_whole_texts_and_lists_are_criteria_without_an_expression(query: str, code: str, expected: object) -> None:
    (found,) = met("Patient", query)
    assert isinstance(found, Criterion)
    assert (found.parameter.code, found.parameter.expression, found.values) == (code, "", (expected,))


def test_each_word_of_a_name_has_to_sound_like_one() -> None:
    phonetic = parameters("Patient")["phonetic"]
    jon, smith, eve = (Criterion(phonetic, "", (Text(sound),)) for sound in ("j500", "s530", "e100"))
    assert met("Patient", "phonetic=Jon Smith,Eve") == (AnyOf((All((jon, smith)), All((eve,)))),)
    assert met("Patient", "phonetic:missing=true") == (Criterion(phonetic, "missing", (Missing(True),)),)


# --- 3.1.1.4.13 and 3.1.1.4.14, chains


def chain(type_: str, code: str, **conditions: Condition) -> Chain:
    return Chain(parameters(type_)[code], tuple(conditions.items()))


NAME = criterion("Patient", "name", "peter")


@pytest.mark.parametrize(
    ("type_", "query", "expected"),
    [
        ("DiagnosticReport", "subject:Patient.name=peter", chain("DiagnosticReport", "subject", Patient=NAME)),
        ("DiagnosticReport", "patient.name=peter", chain("DiagnosticReport", "patient", Patient=NAME)),
        ("DiagnosticReport", "subject.name=peter",
         chain("DiagnosticReport", "subject", Location=criterion("Location", "name", "peter"), Patient=NAME)),
        ("DiagnosticReport", "patient.name:exact=Peter", chain("DiagnosticReport", "patient", Patient=criterion("Patient", "name", "Peter", modifier="exact"))),
        ("Patient", "general-practitioner:Practitioner._id=1", chain("Patient", "general-practitioner", Practitioner=criterion("Practitioner", "_id", "1"))),
        ("Observation", "patient.organization.partof.name=x",
         chain("Observation", "patient", Patient=chain("Patient", "organization", Organization=chain(
             "Organization", "partof", Organization=criterion("Organization", "name", "x"))))),
        ("Patient", "_has:Observation:patient:code=1234-5",
         Reverse("Observation", parameters("Observation")["patient"], criterion("Observation", "code", "1234-5"))),
        ("Patient", "_has:Observation:patient:_has:AuditEvent:entity:agent=MyUserId",
         Reverse("Observation", parameters("Observation")["patient"],
                 Reverse("AuditEvent", parameters("AuditEvent")["entity"], criterion("AuditEvent", "agent", "MyUserId")))),
        ("Patient", "_has:Group:member:_id=102,103", Reverse("Group", parameters("Group")["member"], criterion("Group", "_id", "102", "103"))),
        ("Patient", "_has:Observation:patient:encounter.status=planned",
         Reverse("Observation", parameters("Observation")["patient"], chain("Observation", "encounter", Encounter=criterion("Encounter", "status", "planned")))),
        ("Encounter", "patient._has:Group:member:_id=102",
         chain("Encounter", "patient", Patient=Reverse("Group", parameters("Group")["member"], criterion("Group", "_id", "102")))),
    ],
)  # fmt: skip
def test_references_are_followed_both_ways(type_: str, query: str, expected: Condition) -> None:
    assert met(type_, query) == (expected,)


def test_a_chain_goes_on_with_the_types_whose_values_it_can_be() -> None:
    (found,) = met("Observation", "subject.identifier:of-type=s|MR|1")
    assert isinstance(found, Chain)
    assert [type_ for type_, _ in found.conditions] == ["Device", "Group", "Location", "Patient"]


@pytest.mark.parametrize("length", [8, 9])
def test_a_chain_has_at_most_eight_references(length: int) -> None:
    query = "partof." * length + "name=x"
    if length == 8:
        assert met("Organization", query)
    else:
        assert [each.code for each in refused("Organization", query)] == ["too-costly"]


def test_a_chain_through_anything_is_refused_before_it_grows() -> None:
    (error,) = refused("Provenance", "target.target.target.target.target.target.target._id=x")
    assert (error.code, "Name types" in error.detail) == ("too-costly", True)


# --- 3.1.1.5, how the answer shall be


def test_the_answer_is_as_it_is_asked_for() -> None:
    found = search(
        "Patient", "_count=0&_total=accurate&_summary=text&_elements=name,birthDate&_contained=both&_containedType=contained"
        "&_cursor=abc&_format=json&_pretty=true",
    )  # fmt: skip
    assert (found.count, found.total, found.summary) == (0, "accurate", "text")
    assert found.elements == {"name", "birthDate"}
    assert (found.contained, found.contained_type, found.cursor) == ("both", "contained", "abc")


def test_sorting_takes_several_keys_and_goes_along_references() -> None:
    every = parameters("ImagingStudy")
    assert search("ImagingStudy", "_sort=-started,status,patient.name,-subject:Patient.organization.name").sort == (
        SortKey(every["started"], descending=True),
        SortKey(every["status"]),
        SortKey(parameters("Patient")["name"], chain=((every["patient"], "Patient"),)),
        SortKey(
            parameters("Organization")["name"], True,
            ((every["subject"], "Patient"), (parameters("Patient")["organization"], "Organization")),
        ),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("_include=MedicationRequest:patient", Include("MedicationRequest", "patient")),
        ("_include=Observation:subject:Patient", Include("Observation", "subject", "Patient")),
        ("_include:iterate=Patient:organization", Include("Patient", "organization", iterate=True)),
        ("_include:recurse=Patient:organization", Include("Patient", "organization", iterate=True)),
        ("_include=*", Include("*", None)),
        ("_include=Observation:*", Include("Observation", None)),
        ("_include=Observation:*:Patient", Include("Observation", None, "Patient")),
        ("_revinclude=Provenance:target", Include("Provenance", "target", reverse=True)),
        ("_revinclude:iterate=Observation:has-member", Include("Observation", "has-member", iterate=True, reverse=True)),
    ],
)
def test_what_else_is_answered(query: str, expected: Include) -> None:
    assert search("Observation", query).includes == (expected,)
    assert search("Observation", f"{query}&{query}").includes == (expected,)


# --- several types, compartments


def test_at_system_level_types_are_chosen_and_share_their_parameters() -> None:
    found = search("Patient,ImagingStudy,DiagnosticReport,Observation", "code=x&_type=Observation,DiagnosticReport")
    assert found.types == ("Observation", "DiagnosticReport")
    assert found.condition.conditions == (criterion("Observation", "code", "x"),)
    (across,) = met("Patient,ImagingStudy", "identifier=x")
    assert isinstance(across, Criterion)
    assert {"Patient", "ImagingStudy"} <= set(across.parameter.bases)


def test_what_not_all_types_have_is_refused_at_system_level() -> None:
    (error,) = refused("Patient,Observation", "birthdate=2000")
    assert (error.parameter, error.code) == ("birthdate", "not-supported")
    (error,) = refused("Patient", "_type=Patiend")
    assert error.code == "not-supported"
    assert search("Patient", "_type=Patient").types == ("Patient",)


def test_a_compartment_is_one_more_condition() -> None:
    found = in_compartment(search("ImagingStudy", "status=available"), "Patient", "7")
    assert found.condition == All((InCompartment("Patient", "7"), criterion("ImagingStudy", "status", "available")))
    every = in_compartment(search(",".join(resource_types()), ""), "Encounter", "7")
    assert "Observation" in every.types
    assert "Encounter" in every.types
    assert "Organization" not in every.types


@pytest.mark.parametrize(
    ("type_", "name", "id_"),
    [("Organization", "Patient", "7"), ("Patient", "Organization", "7"), ("Observation", "Patient", "a b")],
)
def test_what_is_in_no_compartment_is_refused(type_: str, name: str, id_: str) -> None:
    with pytest.raises(SearchRefused):
        in_compartment(search(type_, ""), name, id_)


# --- what is wrong


@pytest.mark.parametrize(
    ("type_", "query", "parameter", "code", "says"),
    [
        ("Patient", "brithdate=2000", "brithdate", "not-supported", "birthdate"),
        ("Patient", "birthdate=gt", "birthdate", "value", "date"),
        ("Patient", "birthdate:exact=2000", "birthdate:exact", "not-supported", ":missing"),
        ("Patient", "name:text=x", "name:text", "not-supported", ":contains"),
        ("Patient", "organization:Patient=1", "organization:Patient", "invalid", "Organization"),
        ("Patient", "name=", "name", "value", "no value"),
        ("Patient", "name=a,,b", "name", "value", "empty"),
        ("Patient", "gender:missing=perhaps", "gender:missing", "value", "true or false"),
        ("Patient", "gender:missing=true,false", "gender:missing", "value", "true or false"),
        ("Patient", "name.given=x", "name.given", "invalid", "references"),
        ("Observation", "subject:Organization.name=x", "subject:Organization.name", "invalid", "Patient"),
        ("Observation", "subject.nonsense=x", "subject.nonsense", "not-supported", "There are"),
        ("Observation", "subject:Patient.brithdate=x", "subject:Patient.brithdate", "not-supported", "birthdate"),
        ("Patient", "_has:Observation:patient=x", "_has:Observation:patient", "invalid", "_has:Type"),
        ("Patient", "_has:Nothing:patient:code=x", "_has:Nothing:patient:code", "invalid", "_has:Type"),
        ("Patient", "_has:Observation:code:code=x", "_has:Observation:code:code", "invalid", "references"),
        ("Patient", "_has:Observation:encounter:code=x", "_has:Observation:encounter:code", "invalid", "Encounter"),
        ("Patient", "_sort=nonsense", "_sort", "not-supported", "There are"),
        ("Patient", "_sort=_score", "_sort", "not-supported", "score"),
        ("Observation", "_sort=code-value-date", "_sort", "not-supported", "order"),
        ("Observation", "_sort=subject.name", "_sort", "value", "subject:Patient.name"),
        ("Patient", "_sort=name&_sort=given", "_sort", "invalid", "more than once"),
        ("Patient", "_count=1&_count=2", "_count", "invalid", "more than once"),
        ("Patient", "_count=-1", "_count", "value", "number"),
        ("Patient", "_count=9999999999999", "_count", "value", "999999999"),
        ("Patient", "_total=all", "_total", "value", "accurate"),
        ("Patient", "_summary=yes", "_summary", "value", "true"),
        ("Patient", "_summary:exact=true", "_summary:exact", "not-supported", "no modifiers"),
        ("Patient", "_elements=nmae", "_elements", "value", "name"),
        ("Patient", "_contained=x", "_contained", "value", "both"),
        ("Patient", "_include=organization", "_include", "value", "Type:parameter"),
        ("Patient", "_include=Patient:name", "_include", "invalid", "references"),
        ("Patient", "_include=Patient:nonsense", "_include", "not-supported", "There are"),
        ("Patient", "_include=Patient:organization:Observation", "_include", "value", "Organization"),
        ("Patient", "_include:often=Patient:organization", "_include:often", "not-supported", ":iterate"),
        ("Patient", "_list=$current-allergies", "_list", "not-supported", "Functional"),
        ("Patient", "_list=a b", "_list", "value", "id"),
        ("Patient", "_query=current-high-risk", "_query", "not-supported", "Named queries"),
        ("Patient", "_text:exact=x", "_text:exact", "not-supported", "none"),
        ("Location", "near=42|-181", "near", "value", "180"),
        ("Location", "near=42", "near", "value", "52.52|13.405|10|km"),
        ("Location", "near=42|1|far", "near", "value", "distance"),
        ("Location", "near=42|1|1|furlong", "near", "value", "[mi_us]"),
        ("Location", "near:exact=42|1", "near:exact", "not-supported", "missing"),
        ("Location", "_sort=near", "_sort", "not-supported", "no order"),
        ("Location", "_filter=near gt 1", "_filter", "not-supported", "special"),
        ("Patient", "phonetic=" + "a " * 101, "phonetic", "too-long", "200"),
        ("Patient", "_filter:x=y", "_filter:x", "not-supported", "modifiers"),
        ("Patient", "x" * 501 + "=1", "x" * 500, "too-long", "500"),
    ],
)
def test_what_is_wrong_is_told_with_what_to_do(type_: str, query: str, parameter: str, code: str, says: str) -> None:
    (error,) = refused(type_, query)
    assert (error.parameter, error.code) == (parameter, code)
    assert says in error.detail


def test_what_there_is_has_no_searches_of_whole_texts() -> None:
    """Nobody has to have them, and to name what is then refused helps nobody."""
    for query in ("txet=x", "_txt=x", "_contnt=x", "organization._txt=x", "_sort=_contnt"):
        (error,) = refused("Patient", query)
        assert "There are: " in error.detail
        assert not {"_text", "_content"} & set(error.detail.replace(",", " ").replace("?", " ").split()), query


def test_all_that_is_wrong_is_told_at_once() -> None:
    assert [each.parameter for each in refused("Patient", "brithdate=1&name=ok&birthdate=x&_count=y")] == [
        "brithdate",
        "birthdate",
        "_count",
    ]


def test_a_lenient_client_lets_unknown_names_pass_and_nothing_else() -> None:
    found = search("Patient", "nonsense=1&nonsense:exact=2&name=eve&organization.nonsense=3", lenient=True)
    assert found.ignored == ("nonsense", "nonsense:exact", "organization.nonsense")
    assert found.understood == (("name", "eve"),)
    found = search("Patient", "_include=Patient:nonsense&_include=Patient:organization", lenient=True)
    assert (found.ignored, found.understood) == (("_include",), (("_include", "Patient:organization"),))
    assert [each.parameter for each in refused("Patient", "nonsense=1&birthdate=x&name:text=x", lenient=True)] == [
        "birthdate",
        "name:text",
    ]


def test_errors_never_repeat_a_value() -> None:
    secret = "Zaphod-Beeblebrox"
    for query in (
        "birthdate={}",
        "_id:missing={}",
        "_count={}",
        "_sort={}",
        "_include={}",
        "_elements={}",
        "organization={} {}",
        "_filter=birthdate eq {}",
    ):
        for error in refused("Patient", query.format(secret, secret)):
            assert secret not in f"{error.parameter} {error.detail}"


@pytest.mark.parametrize(
    "query",
    ["&".join("name=x" for _ in range(101)), "_id=" + ",".join("x" * 501), "&".join("_include=Patient:organization" for _ in range(51)),
     "_sort=" + ",".join(["name"] * 11)],
)  # fmt: skip
def test_a_search_has_limits(query: str) -> None:
    assert {each.code for each in refused("Patient", query)} == {"too-costly"}


# --- custom parameters, and the self link

EYES = Parameter(
    "eyes", "token", "http://example.org/SearchParameter/eyes", "Patient.extension('http://example.org/eyes')", ("Patient",)
)


def test_custom_parameters_are_known_and_chained() -> None:
    custom = {"Patient": {"eyes": EYES}}
    assert search("Patient", "eyes=blue", custom=custom).condition == All((Criterion(EYES, "", (TokenValue(None, "blue"),)),))
    (found,) = search("Observation", "subject.eyes=blue", custom=custom).condition.conditions
    assert isinstance(found, Chain)
    assert [type_ for type_, _ in found.conditions] == ["Patient"]
    assert refused("Patient", "eyes=blue")


WORDS = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")), min_size=1, max_size=12).map(escaped)
PAIRS = st.one_of(
    st.tuples(
        st.sampled_from(["name", "family:exact", "name:contains", "identifier", "_tag:text", "_text", "organization.name"]), WORDS
    ),
    st.tuples(st.just("birthdate"), st.dates().map(lambda day: f"ge{day}")),
    st.tuples(
        st.sampled_from(["general-practitioner", "_has:Observation:patient:encounter"]),
        st.sampled_from(["1", "Practitioner/1", "http://x/y"]),
    ),
    st.tuples(st.just("_filter"), st.sampled_from(["name co x", 'not(family eq "a\\"b") or birthdate lt 2000'])),
    st.tuples(st.just("_include"), st.sampled_from(["*", "Patient:organization"])),
)


@given(st.lists(PAIRS, max_size=6), st.sampled_from(["", "-birthdate,name"]), st.booleans())
def test_what_is_understood_reads_as_the_same_search(pairs: list[tuple[str, str]], sort: str, lenient: bool) -> None:
    given_pairs = [*pairs, *([("_sort", sort)] if sort else []), *([("nonsense", "1")] if lenient else []), ("_cursor", "abc")]
    first = outcome(("Patient",), given_pairs, lenient=lenient)
    if isinstance(first, SearchRefused):
        assert {each.code for each in first.errors} <= {"value"}
        return
    again = read(("Patient",), first.understood, base=BASE, now=NOW)
    assert (again.condition, again.sort, again.includes) == (first.condition, first.sort, first.includes)
    assert ("_cursor", "abc") not in first.understood


@given(st.lists(st.tuples(st.text(max_size=30), st.text(max_size=30)), max_size=4))
def test_any_text_is_read_or_refused(pairs: list[tuple[str, str]]) -> None:
    for names in (("Patient",), ("Observation", "ImagingStudy")):
        found = outcome(names, pairs)
        assert isinstance(found, Search) or found.errors


@given(
    st.sampled_from(sorted(parameters("Observation"))),
    st.sampled_from(["", ":missing", ":not", ":in", ":Patient", ".name", ":Patient.name"]),
    st.text(max_size=20),
)
def test_any_value_of_any_parameter_is_read_or_refused(code: str, more: str, text: str) -> None:
    found = outcome(("Observation",), [(code + more, text)])
    codes = {each.code for each in found.errors} if isinstance(found, SearchRefused) else set()
    assert codes <= {"value", "invalid", "not-supported", "too-costly"}

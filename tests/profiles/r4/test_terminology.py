"""FHIR R4 sections 4.7 to 4.9: what value sets have in them, and what is a kind of what."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiles.r4.terminology import BUILT_IN, Terminology, ancestors, codes, contains, descendants, display, subsumes

VS = "http://hl7.org/fhir/ValueSet/"
ROLES = "http://terminology.hl7.org/CodeSystem/v3-RoleCode"


@pytest.mark.parametrize(
    ("value_set", "system", "code", "expected"),
    [
        ("imagingstudy-status", None, "available", True),
        ("imagingstudy-status", "http://hl7.org/fhir/imagingstudy-status", "available", True),
        ("imagingstudy-status|4.0.1", None, "available", True),
        ("imagingstudy-status", None, "Available", False),
        ("imagingstudy-status", "http://other", "available", False),
        ("no-such-value-set", None, "a", None),
        ("mimetypes", None, "application/dicom", True),
        ("mimetypes", None, 'multipart/related; type="application/dicom"', True),
        ("mimetypes", None, "text", False),
        ("mimetypes", "http://other", "text/plain", False),
        ("all-languages", None, "de-CH", True),
        ("all-languages", None, "zh-Hant-TW", True),
        ("all-languages", None, "not a language", False),
        ("languages", None, "de", True),
        ("languages", None, "tlh", False),
        ("currencies", None, "EUR", True),
        ("currencies", None, "eur", False),
        ("ucum-units", None, "kg", None),
        ("resource-types", None, "ImagingStudy", True),
        ("all-types", None, "HumanName", True),
        ("all-types", None, "Nonsense", False),
        ("condition-code", "http://snomed.info/sct", "1", None),
        ("media-modality", None, "diagram", True),
        ("administrative-gender", "", "male", False),
    ],
)
def test_what_value_sets_of_r4_contain(value_set: str, system: str | None, code: str, expected: bool | None) -> None:
    assert contains(VS + value_set, system, code) is expected


def test_a_filter_by_kind() -> None:
    family = "http://terminology.hl7.org/ValueSet/v3-FamilyMember"
    assert contains(family, ROLES, "NSIS") is True
    assert contains(family, ROLES, "RESPRSN") is False
    assert (ROLES, "NSIS") in (codes(family) or ())


def test_lists_and_questions_agree() -> None:
    for value_set in ("imagingstudy-status", "all-types", "security-labels", "event-or-request-resource-types"):
        listed = codes(VS + value_set)
        assert listed
        assert all(contains(VS + value_set, system, code) for system, code in listed)


def test_what_cannot_be_listed() -> None:
    for value_set in ("mimetypes", "all-languages", "condition-code", "no-such-value-set"):
        assert codes(VS + value_set) is None


def test_kinds() -> None:
    assert subsumes(ROLES, "FAMMEMB", "NSIS") is True
    assert subsumes(ROLES, "NSIS", "NSIS") is True
    assert subsumes(ROLES, "NSIS", "FAMMEMB") is False
    assert subsumes(ROLES, "FAMMEMB", "nonsense") is None
    assert subsumes("http://loinc.org", "a", "b") is None
    below, above = descendants(ROLES, "SIB"), ancestors(ROLES, "NSIS")
    assert below is not None
    assert above is not None
    assert "NSIS" in below
    assert "SIB" not in below
    assert {"SIB", "FAMMEMB"} <= above
    assert descendants(ROLES, "nonsense") is None
    assert ancestors("http://loinc.org", "a") is None


def test_displays() -> None:
    assert display("http://hl7.org/fhir/administrative-gender", "male") == "Male"
    assert display("http://hl7.org/fhir/administrative-gender", "x") is None
    assert display("http://loinc.org", "x") is None


FRUIT: dict[str, Any] = {
    "resourceType": "CodeSystem", "url": "http://a.b/fruit", "status": "active", "content": "complete", "caseSensitive": False,
    "property": [{"code": "colour", "type": "string"}],
    "concept": [
        {"code": "apple", "display": "Apple", "concept": [{"code": "pippin", "property": [{"code": "colour", "valueString": "red"}]}]},
        {"code": "citrus", "property": [{"code": "child", "valueCode": "lemon"}]},
        {"code": "lemon", "property": [{"code": "colour", "valueString": "yellow"}]},
        {"code": "lime", "property": [{"code": "parent", "valueCode": "citrus"}, {"code": "colour", "valueString": "green"}]},
    ],
}  # fmt: skip


def of(*include: dict[str, Any], exclude: tuple[dict[str, Any], ...] = ()) -> Terminology:
    compose = {"include": list(include), **({"exclude": list(exclude)} if exclude else {})}
    return Terminology([FRUIT], [{"resourceType": "ValueSet", "url": "http://a.b/vs", "status": "active", "compose": compose}])


@pytest.mark.parametrize(
    ("operator", "name", "value", "expected"),
    [
        ("is-a", "concept", "citrus", {"citrus", "lemon", "lime"}),
        ("descendent-of", "concept", "citrus", {"lemon", "lime"}),
        ("is-not-a", "concept", "citrus", {"apple", "pippin"}),
        ("generalizes", "concept", "pippin", {"apple", "pippin"}),
        ("=", "colour", "red", {"pippin"}),
        ("in", "colour", "red, green", {"pippin", "lime"}),
        ("not-in", "colour", "red,green", {"apple", "citrus", "lemon"}),
        ("exists", "colour", "false", {"apple", "citrus"}),
        ("regex", "code", "l.*", {"lemon", "lime"}),
        ("=", "display", "Apple", {"apple"}),
        ("=", "parent", "apple", {"pippin"}),
        ("=", "child", "pippin", {"apple"}),
        ("=", "unknown", "x", None),
        ("is-a", "concept", "unknown", None),
        ("regex", "code", "(a+)+", None),
        ("regex", "code", "(", None),
    ],
)
def test_filters_of_stored_systems(operator: str, name: str, value: str, expected: set[str] | None) -> None:
    listed = of({"system": FRUIT["url"], "filter": [{"property": name, "op": operator, "value": value}]}).codes("http://a.b/vs")
    assert (None if listed is None else {code for _, code in listed}) == expected


def test_parts_are_joined_and_taken_away() -> None:
    fruit = {"system": FRUIT["url"]}
    assert of(fruit, exclude=({**fruit, "concept": [{"code": "lime"}]},)).contains("http://a.b/vs", None, "lime") is False
    assert of(fruit, exclude=({**fruit, "concept": [{"code": "lime"}]},)).contains("http://a.b/vs", None, "lemon") is True
    assert of(fruit, {"system": "http://loinc.org"}).contains("http://a.b/vs", None, "nonsense") is None
    assert of(fruit, {"system": "http://loinc.org"}).contains("http://a.b/vs", None, "lemon") is True
    assert of(fruit, exclude=({"system": "http://loinc.org"},)).codes("http://a.b/vs") is None
    both = of({"valueSet": [f"{VS}administrative-gender", f"{VS}gender-identity"]})
    assert both.contains("http://a.b/vs", "http://hl7.org/fhir/administrative-gender", "male") is False
    assert of({"concept": [{"code": "x"}]}).contains("http://a.b/vs", None, "x") is None


def test_a_value_set_that_contains_itself_is_not_known() -> None:
    circle = of({"valueSet": ["http://a.b/vs"]})
    assert circle.contains("http://a.b/vs", None, "x") is None
    assert circle.codes("http://a.b/vs") is None


def test_systems_that_do_not_tell_cases_apart() -> None:
    stored = of({"system": FRUIT["url"]})
    assert stored.contains("http://a.b/vs", None, "LEMON") is True
    assert stored.subsumes(FRUIT["url"], "Citrus", "LIME") is True
    assert stored.display(FRUIT["url"], "APPLE") == "Apple"


def test_a_value_set_by_its_expansion() -> None:
    expanded = {
        "url": "http://a.b/e",
        "expansion": {"contains": [{"abstract": True, "contains": [{"system": "http://s", "code": "a"}]}]},
    }
    assert Terminology(value_sets=[expanded]).codes("http://a.b/e") == {("http://s", "a")}


def test_incomplete_systems_are_not_known_and_those_of_r4_remain() -> None:
    stored = Terminology([{**FRUIT, "content": "fragment"}], [])
    assert stored.display(FRUIT["url"], "apple") is None
    assert stored.contains(f"{VS}administrative-gender", None, "male") is True
    assert BUILT_IN.display(FRUIT["url"], "apple") is None


def test_a_broken_hierarchy_ends() -> None:
    loop = {**FRUIT, "concept": [{"code": "a", "property": [{"code": "parent", "valueCode": "b"}]}, {"code": "b", "concept": [{"code": "a"}]},
                                 {"code": "b", "property": [{"code": "parent", "valueCode": "a"}]}]}  # fmt: skip
    assert Terminology([loop]).subsumes(FRUIT["url"], "a", "b") is True


@given(st.text(max_size=20), st.text(max_size=20))
def test_any_text_has_an_answer(system: str, code: str) -> None:
    for value_set in ("mimetypes", "all-languages", "currencies", "imagingstudy-status", "condition-code"):
        assert contains(VS + value_set, system or None, code) in (True, False, None)

"""The FHIRPath engine: the language by its specification, nodes that know where they stand, and what FHIR R4 adds."""

from decimal import Decimal
from typing import Any

import pytest
from peers.fhirpath import OBSERVATION, PATIENT, values

from profiles.fhir.fhirpath import PathError, compile, root  # noqa: A004 (as `re.compile`)


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        # section 3, paths
        ("name.given", ["Peter", "James", "Jim", "Peter", "James"]),
        ("Patient.name.`given`", ["Peter", "James", "Jim", "Peter", "James"]),
        ("Observation.name", []),
        ("Resource.id", ["p"]),
        ("DomainResource.active", [True]),
        ("name[1].given", ["Jim"]),
        ("name.given[9]", []),
        ("multipleBirth", [2]),
        ("birthDate.extension('http://x.example/time').value", ["1974-12-25T14:35:45-05:00"]),
        ("gender.extension.value", ["asked"]),
        ("gender.id", ["g1"]),
        ("nothing", []),
        # section 4, literals
        ("{}", []),
        ("1.00", [Decimal("1.00")]),
        ("'a\\'b\\u0041\\n'", ["a'bA\n"]),
        ("@2015-02-04T14:34:28.123+10:00", ["2015-02-04T14:34:28.123+10:00"]),
        ("@T14:30", ["14:30"]),
        ("4 days", [{"value": Decimal(4), "unit": "day"}]),
        ("4.5 'mg'", [{"value": Decimal("4.5"), "unit": "mg"}]),
        # section 5.1, existence
        ("name.exists(use = 'usual')", [True]),
        ("name.all(given.exists())", [True]),
        ("name.all(family.exists())", [False]),
        ("{}.all(true)", [True]),
        ("name.given.isDistinct()", [False]),
        ("name.given.distinct().count()", [3]),
        ("name.given.distinct()", ["Peter", "James", "Jim"]),
        ("('a' | 'b').subsetOf('a' | 'b' | 'c')", [True]),
        ("('a' | 'b').supersetOf('a' | 'c')", [False]),
        ("(true | false).allTrue()", [False]),
        ("(true | false).anyTrue()", [True]),
        ("{}.not()", []),
        # section 5.2 to 5.4
        ("name.where(use = 'maiden').family", ["Windsor"]),
        ("name.where($index = 1).given", ["Jim"]),
        ("name.select(given.first() & family)", ["PeterChalmers", "Jim", "PeterWindsor"]),
        ("name.ofType(HumanName).count()", [3]),
        ("name.given.skip(1).take(2)", ["James", "Jim"]),
        ("name.given.tail().last()", ["James"]),
        ("('a' | 'b').intersect('b' | 'c')", ["b"]),
        ("name.given.exclude('Peter')", ["James", "Jim", "James"]),
        ("('a').combine('a')", ["a", "a"]),
        ("('a').union('a')", ["a"]),
        ("iif(active, 'yes', 'no')", ["yes"]),
        ("iif({}, 'yes')", []),
        ("(1 | 2 | 3).aggregate($this + $total, 0)", [6]),
        ("(1).repeat(iif($this < 4, $this + 1, {}))", [2, 3, 4]),
        # section 5.5, conversion
        ("'1'.toInteger() + 1", [2]),
        ("'x'.toInteger()", []),
        ("'1.50'.toDecimal()", [Decimal("1.50")]),
        ("true.toString()", ["true"]),
        ("1.50.toString()", ["1.50"]),
        ("'2026-01-01'.toDate() < @2026-01-02", [True]),
        ("'no'.toBoolean()", [False]),
        ("'4 days'.toQuantity() = 4 days", [True]),
        ("'abc'.convertsToInteger()", [False]),
        ("'2026-02-30'.convertsToDate()", [False]),
        # section 5.6, strings
        ("'abc'.indexOf('c')", [2]),
        ("'abc'.substring(1, 1)", ["b"]),
        ("'abc'.substring(3)", []),
        ("'abc'.startsWith('a') and 'abc'.endsWith('c') and 'abc'.contains('b')", [True]),
        ("'aBc'.upper() & 'aBc'.lower()", ["ABCabc"]),
        ("'abc'.replace('b', 'x')", ["axc"]),
        ("'A\\nB'.matches('A.B')", [True]),
        ("'Patient.name.given'.replaceMatches('\\\\..*', '')", ["Patient"]),
        ("'abc'.length()", [3]),
        ("'ab'.toChars()", ["a", "b"]),
        ("'a,b'.split(',').join('-')", ["a-b"]),
        # section 5.7, numbers
        ("(-5.5).abs()", [Decimal("5.5")]),
        ("2.power(10)", [1024]),
        ("3.14159.round(2)", [Decimal("3.14")]),
        ("(7.9).floor() + (7.1).ceiling() + (-7.9).truncate()", [8]),
        ("(-1).sqrt()", []),
        ("9 div 2", [4]),
        ("-9 mod 2", [-1]),
        ("1 / 0", []),
        ("6 / 4", [Decimal("1.5")]),
        ("2147483647 + 1", []),
        # section 5.8
        ("contained.children()", ["o", "Burgers"]),
        ("contained.descendants().count()", [2]),
        # section 6, operators
        ("1 = 1.0", [True]),
        ("'a' = {}", []),
        ("@2026-01 = @2026-01-01", []),
        ("@2026-01 = @2026-02-01", [False]),
        ("@2026-01 ~ @2026-01-01", [False]),
        ("@2026-01-01T10:00:00Z = @2026-01-01T12:00:00+02:00", [True]),
        ("'Ab  c' ~ 'aB c'", [True]),
        ("('a' | 'b') ~ ('b' | 'a')", [True]),
        ("1 'mg' < 1 'g'", [True]),
        ("1 'mg' < 1 's'", []),
        ("7 days = 1 week", [True]),
        ("@2026-01 < @2026-01-15", []),
        ("@2025 < @2026-01-15", [True]),
        ("birthDate < @2000-01-01", [True]),
        ("'Jim' in name.given", [True]),
        ("name.given contains 'Jim'", [True]),
        ("true and {}", []),
        ("false and {}", [False]),
        ("true or {}", [True]),
        ("{} implies true", [True]),
        ("{} implies false", []),
        ("false implies {}", [True]),
        ("true xor true", [False]),
        ("1 + 2 * 3 - 4", [3]),
        ("'a' & {} & 'b'", ["ab"]),
        ("'a' + {}", []),
        ("-(1)", [-1]),
        ("@2026-01-31 + 1 month", ["2026-02-28"]),
        ("@2024-02-29 - 1 year", ["2023-02-28"]),
        ("@2026 + 24 months", ["2028"]),
        ("@2026-01-01T00:00:00Z - 1 second", ["2025-12-31T23:59:59Z"]),
        ("@T23:59 + 2 minutes", ["00:01"]),
        # section 6.3, types
        ("multipleBirth is integer", [True]),
        ("multipleBirth is Integer", [False]),
        ("1 is Integer", [True]),
        ("birthDate is date", [True]),
        ("birthDate is string", [False]),
        ("name.first().use is string", [True]),  # a code is a kind of string
        ("name.first().use.is(code)", [True]),
        ("$this is DomainResource", [True]),
        ("$this is FHIR.Patient", [True]),
        ("(multipleBirth as integer) + 1", [3]),
        ("multipleBirth.as(boolean)", []),
        ("active.type().namespace & active.type().name", ["FHIRboolean"]),
        # FHIR R4 section 2.1.9.1.5
        ("birthDate.hasValue()", [True]),
        ("gender.hasValue()", [False]),
        ("gender.exists()", [True]),
        ("managingOrganization.resolve().name", ["Burgers"]),
        ("%resource.id & %context.id & %rootResource.id", ["ppp"]),
        ("%ucum", ["http://unitsofmeasure.org"]),
        ("%`vs-administrative-gender`", ["http://hl7.org/fhir/ValueSet/administrative-gender"]),
        ("conformsTo('http://hl7.org/fhir/StructureDefinition/Patient')", [True]),
        ("conformsTo('http://hl7.org/fhir/StructureDefinition/Group')", [False]),
        ("trace('x').id", ["p"]),
        # comments
        ("1 // one\n + /* two */ 2", [3]),
    ],
)  # fmt: skip
def test_the_language(expression: str, expected: list[Any]) -> None:
    assert values(expression) == expected


def test_choices_are_one_name_with_a_type_each() -> None:
    found = compile("Observation.value").evaluate(OBSERVATION)
    assert [(node.type, node.path, node.called) for node in found] == [("Quantity", "Observation.value", "valueQuantity")]
    assert values("value is Quantity and effective is Period", OBSERVATION) == [True]
    assert values("(value as Quantity).unit | value.ofType(Quantity).code", OBSERVATION) == ["lbs", "[lb_av]"]
    assert values("valueQuantity", OBSERVATION) == []  # FHIR R4 section 2.1.9.1.2: the name of the element is value


@pytest.mark.parametrize(
    ("expression", "paths"),
    [
        ("name.given", ["Patient.name[0].given[0]", "Patient.name[0].given[1]", "Patient.name[1].given[0]", "Patient.name[2].given[0]", "Patient.name[2].given[1]"]),
        ("name.where(use = 'usual').given.first()", ["Patient.name[1].given[0]"]),
        ("birthDate.extension.value", ["Patient.birthDate.extension[0].value"]),
        ("contained.name", ["Patient.contained[0].name"]),
        ("$this", ["Patient"]),
        ("name.count()", [""]),
    ],
)  # fmt: skip
def test_a_node_knows_where_it_stands(expression: str, paths: list[str]) -> None:
    nodes = compile(expression).evaluate(PATIENT)
    assert [node.path for node in nodes] == paths
    for node in nodes:
        if node.path:
            assert [one.value for one in compile(node.path).evaluate(PATIENT)] == [node.value]
        if node.parent is not None and node.parent.extra is None:
            value = node.parent.value[node.called]
            assert node.value == (value[node.index] if node.index >= 0 else value)


def test_null_in_an_array_of_primitives_has_the_extension_beside_it() -> None:
    name = {"given": ["Ann", None, "Q"], "_given": [None, {"extension": [{"url": "u", "valueCode": "masked"}]}, {"id": "q"}]}
    nodes = compile("given").evaluate(root(name, "HumanName"))
    assert [(node.value, node.index) for node in nodes] == [("Ann", 0), (None, 1), ("Q", 2)]
    assert [node.value for node in compile("given.extension.value | given.id").evaluate(root(name, "HumanName"))] == [
        "masked",
        "q",
    ]


def test_resolve_asks_and_leaves_out_what_is_not_found() -> None:
    store = {"Practitioner/1": {"resourceType": "Practitioner", "id": "1", "active": True}}
    assert values("generalPractitioner.resolve().active", resolve=store.get) == [True]
    assert values("generalPractitioner.resolve() is Practitioner", resolve=store.get) == [True]
    assert values("generalPractitioner.resolve()", resolve={}.get) == []
    assert values("generalPractitioner.resolve()") == []


def test_what_it_may_not_know_by_itself_is_given() -> None:
    now = "2026-11-22T10:11:12+01:00"
    assert values("now()", now=now) == [now]
    assert values("today() > birthDate", now=now) == [True]
    assert values("timeOfDay()", now=now) == ["10:11:12"]
    with pytest.raises(PathError, match="time is not known"):
        values("today()")
    assert values("%answer + 1", variables={"answer": 41}) == [42]
    with pytest.raises(PathError, match="external constant"):
        values("%answer")
    assert values("gender.memberOf('http://x')") == []
    assert values(
        "name.first().use.memberOf('http://x|1')", member_of=lambda node, url: (node.value, url) == ("official", "http://x")
    ) == [True]


def test_the_context_is_where_it_begins() -> None:
    whole = root(PATIENT)
    second = compile("name[1]").evaluate(whole)[0]
    assert [node.value for node in compile("given | %resource.id").evaluate(whole, context=second)] == ["Jim", "p"]
    assert compile("use = 'usual'").holds(whole, context=second) is True
    assert compile("period.start > @2026").holds(whole, context=second) is None


# --- what FHIR R4 adds: codes below codes, and narratives

CLINICAL = "http://terminology.hl7.org/CodeSystem/condition-clinical"


def coding(code: str, of: str = CLINICAL) -> dict[str, Any]:
    return {"system": of, "code": code}


CONDITION: dict[str, Any] = {
    "resourceType": "Condition",
    "clinicalStatus": {"coding": [coding("relapse"), coding("x", "urn:local")]},
    "extension": [
        {"url": "active", "valueCoding": coding("active")},
        {"url": "inactive", "valueCoding": coding("inactive")},
        {"url": "same", "valueCodeableConcept": {"coding": [coding("unknown", "urn:other"), coding("x", "urn:local")]}},
        {"url": "unknown", "valueCoding": coding("y", "urn:local")},
        {"url": "empty", "valueCodeableConcept": {"text": "x"}},
    ],
}


@pytest.mark.parametrize(
    ("expression", "answer"),
    [
        ("extension('active').value.subsumes(clinicalStatus)", [True]),
        ("clinicalStatus.subsumedBy(extension('active').value)", [True]),
        ("clinicalStatus.subsumes(extension('active').value)", []),
        ("clinicalStatus.coding.first().subsumes(extension('active').value)", [False]),
        ("clinicalStatus.coding.first().subsumedBy(extension('inactive').value)", [False]),
        ("clinicalStatus.subsumes(clinicalStatus)", [True]),
        ("clinicalStatus.subsumes(extension('same').value)", [True]),
        ("clinicalStatus.subsumes(extension('unknown').value)", []),
        ("clinicalStatus.subsumes(extension('empty').value)", []),
        ("clinicalStatus.subsumes(extension('none').value)", []),
        ("extension.value.subsumes(clinicalStatus).not()", None),
    ],
)
def test_codes_are_above_others(expression: str, answer: list[bool] | None) -> None:
    """FHIR R4 section 4.8.4; what no code system here can tell is empty."""
    compiled = compile(expression)
    if answer is None:
        with pytest.raises(PathError):
            compiled.evaluate(CONDITION)
    else:
        assert [node.value for node in compiled.evaluate(CONDITION)] == answer


@pytest.mark.parametrize(
    ("inner", "answer"), [("a", True), ("<script>x</script>", False), ("", False), ("<p onclick='x'>a</p>", False)]
)
def test_html_is_checked(inner: str, answer: bool) -> None:
    """txt-1 and txt-2, for a profile that has such an invariant."""
    div = f'<div xmlns="http://www.w3.org/1999/xhtml">{inner}</div>'
    resource = {"resourceType": "Patient", "text": {"status": "generated", "div": div}}
    assert [node.value for node in compile("text.`div`.htmlChecks()").evaluate(resource)] == [answer]
    assert compile("name.htmlChecks()").evaluate(resource) == []


def test_html_takes_steps() -> None:
    div = f'<div xmlns="http://www.w3.org/1999/xhtml">{"a" * 100_000}</div>'
    resource = {"resourceType": "Patient", "text": {"status": "generated", "div": div}}
    with pytest.raises(PathError, match="too many steps"):
        compile("text.`div`.htmlChecks()").evaluate(resource, steps=500)

"""The FHIRPath engine: the language by its specification, nodes that know where they stand, and expressions of strangers."""

import string
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiles.fhir.fhirpath import Node, PathError, compile, root  # noqa: A004 (as `re.compile`)
from profiles.fhir.fhirpath_syntax import LONGEST, parse
from profiles.fhir.fhirpath_values import system
from profiles.r4 import definitions, search

PATIENT: dict[str, Any] = {
    "resourceType": "Patient",
    "id": "p",
    "active": True,
    "name": [
        {"use": "official", "family": "Chalmers", "given": ["Peter", "James"]},
        {"use": "usual", "given": ["Jim"]},
        {"use": "maiden", "family": "Windsor", "given": ["Peter", "James"]},
    ],
    "birthDate": "1974-12-25",
    "_birthDate": {"extension": [{"url": "http://x.example/time", "valueDateTime": "1974-12-25T14:35:45-05:00"}]},
    "multipleBirthInteger": 2,
    "_gender": {"id": "g1", "extension": [{"url": "http://x.example/unknown", "valueCode": "asked"}]},
    "managingOrganization": {"reference": "#o"},
    "generalPractitioner": [{"reference": "Practitioner/1"}],
    "contained": [{"resourceType": "Organization", "id": "o", "name": "Burgers"}],
}
OBSERVATION: dict[str, Any] = {
    "resourceType": "Observation",
    "status": "final",
    "code": {"coding": [{"system": "http://loinc.org", "code": "29463-7"}]},
    "valueQuantity": {"value": Decimal("185.0"), "unit": "lbs", "system": "http://unitsofmeasure.org", "code": "[lb_av]"},
    "effectivePeriod": {"start": "2026-01-01"},
}


def values(expression: str, resource: dict[str, Any] = PATIENT, **options: Any) -> list[Any]:
    return [node.value for node in compile(expression).evaluate(resource, **options)]


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


@pytest.mark.parametrize(
    ("expression", "reason"),
    [
        ("", "a value or a path"), ("1 +", "a value or a path"), ("(1", "'\\)'"), ("name.", "a name"), ("a b", "an operator"), ("'x", "begins nothing"),
        ("name[", "a value"), ("#", "begins nothing"), ("nope()", "no function"), ("name.where()", "takes 1"), ("exists(1, 2)", "takes 0 to 1"),
        ("x is Nope", "no type"), ("ofType(Nope)", "no type"), ("x.is()", "name of a type"), ("a.$this", "beginning of a path"), ("/* x", "a value"),
        ("System.Nope.is(System.Nope)", "no type"), ("1 as", "the name of a type"), ("{1}", "'}'"), ("'\\u00'", "four hexadecimal"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_refused_with_the_reason(expression: str, reason: str) -> None:
    with pytest.raises(PathError, match=reason):
        compile(expression)


@pytest.mark.parametrize(
    "expression",
    [
        "name.given.single()", "true and name", "name.given.length()", "active.length()", "'a' < 1", "'a' * 2", "name[0] > name[1]",
        "1 + 'a'", "@2026 + 1 'mg'", "(1).round(99)", "(1).skip('a')", "iif(name, 1)", "'a'.matches('(')", "'a'.matches('(?=a)')",
        "%nope", "conformsTo('http://x.example/unknown')",
    ],
)  # fmt: skip
def test_what_fails_fails_as_one_kind_of_error(expression: str) -> None:
    with pytest.raises(PathError):
        compile(expression).evaluate(PATIENT)


@pytest.mark.parametrize(
    "expression",
    [
        "(" * 5000 + "1" + ")" * 5000, "1" + "+1" * 5000, "-" * 5000 + "1", "not(" * 500 + "1" + ")" * 500, "a[" * 500 + "1" + "]" * 500,
        "true" + " and true" * 1000, "a is " * 1000 + "string", "x" * (LONGEST + 1),
    ],
)  # fmt: skip
def test_depth_and_length_are_limited_before_anything_is_done(expression: str) -> None:
    with pytest.raises(PathError, match="at most"):
        compile(expression)


def test_a_long_path_is_no_deep_one() -> None:
    assert values("name" + ".id" * 3000) == []


@pytest.mark.parametrize(
    "expression",
    [
        "(1).repeat($this + 1)",
        "descendants().select(%resource.descendants().select(%resource.descendants().select(%resource.descendants())))",
        "name.given.aggregate($total & $total & 'aaaaaaaaaa', 'a').repeat($this & 'a')",
        "%resource.name.select(" * 12 + "%resource.descendants()" + ")" * 12,
        "(1 | 2 | 3 | 4 | 5 | 6 | 7 | 8).select(" + "%v.select(" * 8 + "1" + ")" * 9,
    ],
)  # fmt: skip
def test_work_is_counted(expression: str) -> None:
    with pytest.raises(PathError, match=r"too many steps|too long"):
        compile(expression).evaluate(PATIENT, variables={"v": [system(n) for n in range(9)]}, steps=100_000)


def test_texts_do_not_grow_without_end() -> None:
    with pytest.raises(PathError, match="too long"):
        values("%v.aggregate($total & $total, 'aaaa')", variables={"v": [system(n) for n in range(40)]})
    with pytest.raises(PathError, match="too long"):
        values("%v.replace('a', %v)", variables={"v": "a" * 10_000})


def test_regular_expressions_of_strangers_run_in_linear_time() -> None:
    assert values("%v.matches('^(a+)+$')", variables={"v": "a" * 20_000 + "b"}) == [False]
    assert values("%v.replaceMatches('(a+)+c', '')", variables={"v": "a" * 100 + "b"}) == ["a" * 100 + "b"]
    with pytest.raises(PathError, match="regular expression"):
        values("'a'.matches('((((a{1,100}){1,100}){1,100}){1,100})')")


def test_an_expression_serves_several_threads() -> None:
    expression = compile("name.where(use = %use).given")
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda use: len(expression.evaluate(PATIENT, variables={"use": use})), ["usual", "official"] * 200))
    assert found == [1, 2] * 200


def test_all_expressions_of_r4_are_read() -> None:
    for constraint in definitions._constraints():
        compile(constraint.expression)
    for parameter in search._all():
        compile(parameter.expression)
        for _, expression in parameter.components:
            compile(expression)


@given(st.text(alphabet=string.ascii_letters + string.digits + " .()[]{}'`|&=~<>!+-*/%$@,:\\\n", max_size=80))
def test_nothing_but_a_path_error_comes_of_any_text(text: str) -> None:
    try:
        parse(text)
        compile(text).evaluate(PATIENT, steps=10_000)
    except PathError:
        pass


_WORDS = [
    "name",
    "given",
    "Patient",
    "active",
    "birthDate",
    "1",
    "2.5",
    "'a'",
    "true",
    "{}",
    "@2026-01",
    "@T10",
    "3 days",
    "4 'mg'",
    "$this",
    "%resource",
    "multipleBirth",
]
_CALLS = ["exists()", "first()", "count()", "not()", "toString()", "toInteger()", "length()", "children()", "where($this = 1)", "select($this)", "abs()", "toQuantity()",
          "distinct()", "is(string)", "ofType(integer)", "substring(0)", "matches('a')", "sqrt()", "hasValue()", "descendants()"]  # fmt: skip
_OPERATORS = [
    "=",
    "!=",
    "~",
    "<",
    ">=",
    "+",
    "-",
    "*",
    "/",
    "div",
    "mod",
    "and",
    "or",
    "implies",
    "|",
    "in",
    "contains",
    "&",
    "xor",
]
_EXPRESSIONS = st.recursive(
    st.sampled_from(_WORDS),
    lambda inner: (
        st.builds("({}).{}".format, inner, st.sampled_from(_CALLS))
        | st.builds("({}) {} ({})".format, inner, st.sampled_from(_OPERATORS), inner)
    ),
    max_leaves=8,
)


@given(_EXPRESSIONS)
def test_whatever_is_written_right_evaluates_or_says_why_not(expression: str) -> None:
    try:
        nodes = compile(expression).evaluate(PATIENT, steps=50_000)
    except PathError:
        return
    assert all(isinstance(node, Node) for node in nodes)


@given(st.integers(-(2**31) + 1, 2**31 - 1), st.integers(-(2**31) + 1, 2**31 - 1))
def test_integers_compare_and_add_as_numbers(one: int, other: int) -> None:
    options = {"variables": {"a": one, "b": other}}
    assert values("%a < %b", **options) == [one < other]
    assert values("%a = %b", **options) == [one == other]
    total = one + other
    assert values("%a + %b", **options) == ([total] if -(2**31) <= total < 2**31 else [])


@given(st.dates().map(str), st.integers(-500, 500))
def test_days_added_and_taken_away_leave_the_date(date: str, days: int) -> None:
    moved = values(f"%d.toDate() + {abs(days)} days - {abs(days)} days", variables={"d": date})
    assert moved in ([date], [])  # beyond the year 9999 there is nothing


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

"""FHIRPath of strangers: what cannot be read or fails says why, and no expression takes more than its share."""

import string
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st
from peers.fhirpath import PATIENT, values

from profiles.fhir.fhirpath import Node, PathError, compile  # noqa: A004 (as `re.compile`)
from profiles.fhir.fhirpath_syntax import LONGEST, parse
from profiles.fhir.fhirpath_values import system
from profiles.r4 import definitions, search


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

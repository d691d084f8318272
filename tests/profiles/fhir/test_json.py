"""FHIR R4 section 2.24, JSON: exactly what was written is read and written again, and what is no JSON is refused with where."""

import json
import pickle
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from peers.resources import resources

from profiles.fhir.json import DEEPEST, MOST_BYTES, Malformed, parse, serialize

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**30), max_value=10**30) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)  # fmt: skip


def refused(body: bytes) -> str:
    with pytest.raises(Malformed) as error:
        parse(body)
    assert error.value.issue.severity == "fatal"
    assert str(error.value) == error.value.issue.diagnostics
    return f"{error.value.issue.expression} {error.value.issue.diagnostics}"


@pytest.mark.parametrize(
    "number",
    [
        "1.00",
        "1e3",
        "1E3",
        "1E+3",
        "0.0000001",
        "-0.0",
        "0.10",
        "1.5e-7",
        "100000000000000000000.00",
        "12345678901234567890123",
        "-7",
        "0",
    ],
)
def test_numbers_are_written_as_they_were_read(number: str) -> None:
    body = b'{"a":[%s,{"b":%s}]}' % (number.encode(), number.encode())
    parsed = parse(body)
    assert serialize(parsed) == body
    assert parsed["a"][0] == Decimal(number)
    assert type(parsed["a"][0]) is int or isinstance(parsed["a"][0], Decimal)
    assert serialize(pickle.loads(pickle.dumps(parsed))) == body


@given(st.dictionaries(st.text(), VALUES))
def test_what_is_written_is_read_again(value: dict[str, object]) -> None:
    body = serialize(value)
    assert parse(body) == value
    assert serialize(parse(body)) == body


@given(resources("Patient", "ImagingStudy", "Observation", "Bundle"))
def test_resources_keep_their_order(resource: dict[str, object]) -> None:
    body = serialize(resource)
    assert list(parse(body)) == list(resource)
    assert json.loads(body, parse_float=Decimal) == json.loads(serialize(resource, pretty=True), parse_float=Decimal)


def test_a_byte_order_mark_is_passed_over() -> None:
    assert parse(b'\xef\xbb\xbf{"a":"\xc3\xa9"}') == {"a": "é"}


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b"", "no JSON"), (b"[]", "no JSON object"), (b'"a"', "no JSON object"), (b"1", "no JSON object"), (b'{"a":1}x', "line 1, column 8"),
        (b'{"a":\n tru}', "line 2, column 2"), (b'{"a":1,}', "no JSON"), (b"{'a':1}", "no JSON"), (b'{"a":01}', "no JSON"), (b'{"a":"\t"}', "control"),
        (b'{"a":NaN}', "NaN"), (b'{"a":-Infinity}', "-Infinity"), (b'{"a":Infinity}', "Infinity"),
        (b'{"a":"\xff"}', "byte 6"), (b'{"a":"\xed\xa0\x80"}', "UTF-8"), ('{"a":1}'.encode("utf-16"), "UTF-8"),
        (b'{"a":"\\ud800"}', "half"), (b'{"a":"\\uDC00x"}', "half"),
        (b'{"a":1e999999999}', "exponent"), (b'{"a":1e-999999999}', "exponent"), (b'{"a":1e99999999999999999999}', "beyond"),
        (b'{"a":' + b"9" * 10_000 + b"}", "digits"),
        (b'{"a":1,"a":1}', "a an object has the same name twice"),
        (b'{"name":[{},{"given":["x"],"resourceType":"x","given":["y"]}],"resourceType":"Patient"}', "Patient.name[1].given "),
        (b'{"Jane Doe":1,"Jane Doe":1}', "? an object"),
        (b'{"a":{"b":1,"b":2}, broken', "twice"),
        (b'{"a":{"b":1,"b":2},"c":' + b"[" * 10_000, "twice"),
    ],
)  # fmt: skip
def test_what_is_refused(body: bytes, told: str) -> None:
    message = refused(body)
    assert told in message
    assert "Jane" not in message


@pytest.mark.parametrize("opening", [b"[", b'{"a":', b'[{"a":'])
@pytest.mark.parametrize("levels", [10_000, 1_000_000])
def test_deep_nesting_is_refused(opening: bytes, levels: int) -> None:
    assert "deep" in refused(b'{"a":' + opening * levels)


def test_sixty_four_levels_are_read() -> None:
    def nested(levels: int) -> bytes:
        return b'{"a":' * levels + b"1" + b"}" * levels

    assert parse(nested(DEEPEST))
    assert "deep" in refused(nested(DEEPEST + 1))
    assert "deep" in refused(b'{"b":' + b"[" * DEEPEST + b"]" * DEEPEST + b"}")
    assert parse(b'{"b":[' + b",".join([b'"[[[{{{"'] * 100) + b"]}")


def test_a_body_beyond_the_limit_is_not_looked_at() -> None:
    with pytest.raises(Malformed) as error:
        parse(b"{" + b" " * MOST_BYTES)
    assert error.value.issue.code == "too-long"
    with pytest.raises(Malformed):
        parse(b'{"a":1}', limit=6)
    assert parse(b'{"a":1}', limit=7)


@pytest.mark.parametrize("value", [Decimal("NaN"), Decimal("Infinity"), object(), {1}])
def test_what_json_has_no_form_of_is_not_written(value: object) -> None:
    with pytest.raises(TypeError):
        serialize({"a": value})

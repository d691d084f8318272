"""Matching of worklist items: PS3.4 section C.2.2.2 kind by kind."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiles.query_identifier import Key
from server.errors import MalformedQuery
from server.records.item_matching import like, matches

_LETTERS = st.text("ab*?", max_size=8)


@given(st.text("ab", max_size=10), _LETTERS)
def test_wildcards_are_those_of_a_regular_expression(text: str, pattern: str) -> None:
    expected = re.fullmatch("".join({"*": ".*", "?": "."}.get(letter, letter) for letter in pattern), text) is not None
    assert like(text, pattern) == expected


def test_a_pattern_made_to_be_slow_is_not() -> None:
    assert not like("a" * 5000, "*a" * 2000 + "b")


def item(vr: str, *values: object) -> dict[str, dict[str, object]]:
    return {"00104000": {"vr": vr, "Value": list(values)}}


def asks(vr: str, value: str) -> list[Key]:
    return [Key("00104000", vr, value)]


@pytest.mark.parametrize(
    ("vr", "values", "wanted", "expected"),
    [
        ("LO", ["Abc"], "Abc", True),
        ("LO", ["Abc"], "abc", False),
        ("LO", ["Abc", "Def"], "Def", True),
        ("LO", [], "*", True),
        ("LO", [], "Abc", False),
        ("UI", ["1.2"], "1.3\\1.2", True),
        ("UI", ["1.2"], "1.*", False),
        ("UI", ["1.2"], "*", True),
        ("DA", [], "*", True),
        ("IS", [7], "**", True),
        ("PN", [{"Alphabetic": "Yamada"}], "^^^^", True),
        ("IS", [7], "07", True),
        ("PN", [{"Alphabetic": "Müller^Jörg"}], "muller^jorg", True),
        ("PN", [{"Alphabetic": "Müller^Jörg"}], "muller", False),
        ("PN", [{"Alphabetic": "Müller^Jörg^^"}], "Müller^Jörg", True),
        ("PN", [{"Alphabetic": "Yamada", "Ideographic": "山田"}], "山田", True),
        ("PN", [{"Alphabetic": "Yamada", "Ideographic": "山田"}], "Yamada=山田", True),
        ("DA", ["20261122"], "2026.11.22", True),
        ("DA", ["20261122"], "20261123-", False),
        ("DA", [], "-20261123", False),
        ("TM", ["103015"], "1030", True),
        ("TM", ["1030"], "103000", True),
        ("TM", ["1030"], "10:30", True),
        ("TM", ["1030"], "-10", True),
        ("TM", ["1100"], "-10", False),
        ("TM", ["0000"], "0000-0001", True),
    ],
)
def test_single_values(vr: str, values: list[object], wanted: str, *, expected: bool) -> None:
    assert matches(item(vr, *values), asks(vr, wanted)) == expected


@given(st.times(), st.times(), st.times())
def test_a_range_of_times_is_one(value: object, first: object, last: object) -> None:
    """Times to the second, as `datetime.time` orders them."""
    texts = [f"{each:%H%M%S}" for each in (value, first, last)]
    key = asks("TM", f"{texts[1]}-{texts[2]}")
    assert matches(item("TM", texts[0]), key) == (texts[1] <= texts[0] <= texts[2])


@pytest.mark.parametrize(("vr", "value"), [("DA", "yesterday"), ("DA", "-"), ("TM", "25"), ("DA", "20261301"), ("TM", "1x-")])
def test_what_is_no_date_or_time_is_refused(vr: str, value: str) -> None:
    with pytest.raises(MalformedQuery, match=r"PS3\.4"):
        matches(item(vr, "20261122"), asks(vr, value))


def test_a_sequence_matches_by_one_of_its_items() -> None:
    inner = [{"00080060": {"vr": "CS", "Value": [modality]}} for modality in ("CT", "MR")]
    held = {"00400100": {"vr": "SQ", "Value": inner}}
    assert matches(held, [Key("00400100", "SQ", "", (Key("00080060", "CS", "MR"),))])
    assert not matches(held, [Key("00400100", "SQ", "", (Key("00080060", "CS", "US"),))])
    assert matches({}, [Key("00400100", "SQ", "", (Key("00080060", "CS", ""),))])
    assert not matches({}, [Key("00400100", "SQ", "", (Key("00080060", "CS", "MR"),))])

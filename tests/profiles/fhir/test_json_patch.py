"""JSON Patch: the examples of RFC 6902 appendix A and of RFC 6901 section 5, bad patches, bounds."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiles.fhir import json_patch, plain_json
from profiles.fhir.json import parse
from profiles.fhir.json_patch import apply
from profiles.fhir.patch_error import PatchError
from profiles.fhir.plain_json import copied, same

Json = dict[str, Any]


def add(path: str, value: Any) -> Json:
    return {"op": "add", "path": path, "value": value}


APPENDIX_A: dict[str, tuple[Any, list[Json], Any]] = {
    "A.1 adding an object member": ({"foo": "bar"}, [add("/baz", "qux")], {"baz": "qux", "foo": "bar"}),
    "A.2 adding an array element": ({"foo": ["bar", "baz"]}, [add("/foo/1", "qux")], {"foo": ["bar", "qux", "baz"]}),
    "A.3 removing an object member": ({"baz": "qux", "foo": "bar"}, [{"op": "remove", "path": "/baz"}], {"foo": "bar"}),
    "A.4 removing an array element": ({"foo": ["bar", "qux", "baz"]}, [{"op": "remove", "path": "/foo/1"}], {"foo": ["bar", "baz"]}),
    "A.5 replacing a value": ({"baz": "qux"}, [{"op": "replace", "path": "/baz", "value": "boo"}], {"baz": "boo"}),
    "A.6 moving a value": (
        {"foo": {"bar": "baz", "waldo": "fred"}, "qux": {"corge": "grault"}},
        [{"op": "move", "from": "/foo/waldo", "path": "/qux/thud"}],
        {"foo": {"bar": "baz"}, "qux": {"corge": "grault", "thud": "fred"}},
    ),
    "A.7 moving an array element": (
        {"foo": ["all", "grass", "cows", "eat"]},
        [{"op": "move", "from": "/foo/1", "path": "/foo/3"}],
        {"foo": ["all", "cows", "eat", "grass"]},
    ),
    "A.8 testing a value: success": (
        {"baz": "qux", "foo": ["a", 2, "c"]},
        [{"op": "test", "path": "/baz", "value": "qux"}, {"op": "test", "path": "/foo/1", "value": 2}],
        {"baz": "qux", "foo": ["a", 2, "c"]},
    ),
    "A.10 adding a nested member object": ({"foo": "bar"}, [add("/child", {"grandchild": {}})], {"foo": "bar", "child": {"grandchild": {}}}),
    "A.11 ignoring unrecognized elements": ({"foo": "bar"}, [add("/baz", "qux") | {"xyz": 123}], {"foo": "bar", "baz": "qux"}),
    "A.14 ~ escape ordering": ({"/": 9, "~1": 10}, [{"op": "test", "path": "/~01", "value": 10}], {"/": 9, "~1": 10}),
    "A.16 adding an array value": ({"foo": ["bar"]}, [add("/foo/-", ["abc", "def"])], {"foo": ["bar", ["abc", "def"]]}),
    "4.1 at the end by index": ({"foo": ["bar"]}, [add("/foo/1", "baz")], {"foo": ["bar", "baz"]}),
    "4.1 what is there is replaced": ({"foo": 1}, [add("/foo", 2)], {"foo": 2}),
    "4.1 the whole document": ({"foo": 1}, [add("", {"bar": 2})], {"bar": 2}),
    "4.3 the whole document": ({"foo": 1}, [{"op": "replace", "path": "", "value": {"bar": 2}}], {"bar": 2}),
    "4.4 onto itself": ({"foo": 1}, [{"op": "move", "from": "/foo", "path": "/foo"}], {"foo": 1}),
    "4.5 a copy": ({"foo": {"a": [1]}}, [{"op": "copy", "from": "/foo", "path": "/bar"}, add("/bar/a/-", 2)], {"foo": {"a": [1]}, "bar": {"a": [1, 2]}}),
    "4.5 a copy of the whole into itself": ({"a": 1}, [{"op": "copy", "from": "", "path": "/b"}], {"a": 1, "b": {"a": 1}}),
    "RFC 6901 5: the empty name": ({"": 0}, [{"op": "replace", "path": "/", "value": 1}], {"": 1}),
    "RFC 6901 5: names that look odd": ({"a/b": 1, "m~n": 8, " ": 7}, [{"op": "remove", "path": "/a~1b"}, {"op": "remove", "path": "/m~0n"}], {" ": 7}),
    "a member that looks like an index": ({"0": 1}, [{"op": "remove", "path": "/0"}], {}),
}  # fmt: skip


@pytest.mark.parametrize("example", APPENDIX_A)
def test_examples(example: str) -> None:
    before, operations, after = APPENDIX_A[example]
    assert apply(copied(before), operations) == after


PATIENT: Json = {"resourceType": "Patient", "name": [{"family": "Secret", "given": ["A"]}], "active": True}

INAPPLICABLE: dict[str, tuple[Json, str]] = {
    "A.9 testing a value: error": ({"op": "test", "path": "/name/0/family", "value": "bar"}, "Patient.name[0].family"),
    "A.12 adding to a nonexistent target": (add("/contact/0/gender", "male"), "Patient.contact[0].gender"),
    "A.15 comparing strings and numbers": ({"op": "test", "path": "/name/0/family", "value": 1}, "Patient.name[0].family"),
    "4.6 true is not 1": ({"op": "test", "path": "/active", "value": 1}, "Patient.active"),
    "4.6 nothing there": ({"op": "test", "path": "/gender", "value": None}, "Patient.gender"),
    "4.2 nothing there": ({"op": "remove", "path": "/gender"}, "Patient.gender"),
    "4.3 nothing there": ({"op": "replace", "path": "/gender", "value": "x"}, "Patient.gender"),
    "4.3 beyond the end": ({"op": "replace", "path": "/name/-", "value": {}}, "Patient.name"),
    "4.1 beyond the end": (add("/name/2", {}), "Patient.name[2]"),
    "RFC 6901 4: zeros before an index": (add("/name/00", {}), "Patient.name"),
    "RFC 6901 4: a negative index": (add("/name/-1", {}), ""),
    "RFC 6901 4: a huge index": (add(f"/name/{'9' * 5000}", {}), ""),
    "into a text": (add("/name/0/family/0", "x"), "Patient.name[0].family[0]"),
    "4.4 into itself": ({"op": "move", "from": "/name", "path": "/name/0"}, "Patient.name[0]"),
    "4.4 the whole into itself": ({"op": "move", "from": "", "path": "/name"}, "Patient.name"),
    "4.4 from nowhere": ({"op": "move", "from": "/gender", "path": "/name"}, "Patient.name"),
    "the whole removed": ({"op": "remove", "path": ""}, "Patient"),
    "too deep": (add("/x", parse(b'{"a":' * 63 + b"{}" + b"}" * 63)), "Patient.x"),
}  # fmt: skip


@pytest.mark.parametrize("what", INAPPLICABLE)
def test_what_does_not_fit_is_a_422(what: str) -> None:
    operation, path = INAPPLICABLE[what]
    if what.startswith("too deep"):
        operation = add("/x/y", operation["value"])
        path = "Patient.x.y"
    with pytest.raises(PatchError, match=r"operation 2 \(") as caught:
        apply(copied(PATIENT), [add("/x", {}), operation])
    assert caught.value.status == 422
    assert "Secret" not in str(caught.value)
    assert caught.value.issue.expression in (path, "")
    assert caught.value.issue.expression or not path or "00" in str(operation)


MALFORMED: dict[str, Any] = {
    "no object": "remove",
    "no op": {"path": "/a"},
    "an unknown op": {"op": "append", "path": "/a", "value": "x"},
    "an op that is no text": {"op": ["add"], "path": "/a", "value": 1},
    "no path": {"op": "remove"},
    "a path that is no text": {"op": "remove", "path": 1},
    "a path without its slash": {"op": "remove", "path": "name"},
    "a bad escape": {"op": "remove", "path": "/a~2b"},
    "a bad escape at the end": {"op": "remove", "path": "/a~"},
    "no value": {"op": "add", "path": "/a"},
    "no value to test": {"op": "test", "path": "/name"},
    "no from": {"op": "copy", "path": "/a"},
    "no path to copy to": {"op": "copy", "from": "/nothing"},
    "a path of 100 steps": {"op": "remove", "path": "/a" * 100},
}


@pytest.mark.parametrize("what", MALFORMED)
def test_what_is_no_patch_is_a_400(what: str) -> None:
    with pytest.raises(PatchError, match="operation 1") as caught:
        apply(copied(PATIENT), [MALFORMED[what]])
    assert caught.value.status == 400


def test_operations_are_limited() -> None:
    with pytest.raises(PatchError, match="at most 10,000") as caught:
        apply({}, [add("/a", 1)] * 10_001)
    assert caught.value.status == 400


def test_copies_of_copies_are_limited() -> None:
    bomb = [add("/a", ["x"] * 10), *({"op": "copy", "from": "/a", "path": "/a/-"} for _ in range(60))]
    with pytest.raises(PatchError) as caught:
        apply({}, bomb)
    assert caught.value.status == 422
    flat = [add("/a", ["x"] * 1000), *({"op": "copy", "from": "/a", "path": f"/b{n}"} for n in range(200))]
    with pytest.raises(PatchError, match="copies at most 100,000"):
        apply({}, flat)


def test_the_patch_stays_as_it_is() -> None:
    operations = [add("/name", [{}]), add("/name/0/family", "x")]
    apply({}, operations)
    assert operations[0]["value"] == [{}]


NUMBERS = parse(b'{"n":[1,1.0,1.00,1e0,2,true,false,0,"1",null,{},[],{"a":1,"b":2},{"b":2.0,"a":1}]}')["n"]


def test_equality_of_json() -> None:
    """RFC 6902 section 4.6: numbers by value, objects in any order, each type for itself."""
    kinds = [0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9]
    for one, kind in zip(NUMBERS, kinds, strict=True):
        assert [same(one, other) for other in NUMBERS] == [kind == other for other in kinds]


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda of: st.lists(of, max_size=3) | st.dictionaries(st.text(), of, max_size=3),
)


@given(st.dictionaries(st.text(), VALUES, max_size=4), st.text(), VALUES)
def test_what_is_added_is_there_and_can_be_removed(document: Json, name: str, value: Any) -> None:
    path = "/" + name.replace("~", "~0").replace("/", "~1")
    test = {"op": "test", "path": path, "value": value}
    made = apply(copied(document), [add(path, value), test])
    assert made == {**document, name: value}
    assert apply(made, [{"op": "remove", "path": path}]) == {key: each for key, each in document.items() if key != name}


# --- work


def refusal(document: Any, operations: list[Json]) -> PatchError:
    with pytest.raises(PatchError) as refused:
        apply(copied(document), operations)
    return refused.value


WIDE: Json = {"entry": [{"item": {"display": str(number)}} for number in range(20_000)]}


def looked_at(monkeypatch: pytest.MonkeyPatch, document: Json, operations: list[Json]) -> int:
    """How many values of the document the operations look at."""
    counted = 0

    def measured(value: Any) -> tuple[int, int]:
        nonlocal counted
        found = plain_json.measured(value)
        counted += found[0]
        return found

    monkeypatch.setattr(json_patch, "measured", measured)
    apply(copied(document), operations)
    return counted


def test_what_moves_from_place_to_place_is_not_walked(monkeypatch: pytest.MonkeyPatch) -> None:
    there, back = {"op": "move", "from": "/entry", "path": "/note"}, {"op": "move", "from": "/note", "path": "/entry"}
    assert looked_at(monkeypatch, WIDE, [there, back] * 5_000) == 0


def test_what_is_walked_by_all_operations_is_limited() -> None:
    """Deeper it has to be measured; 20,000 entries are 60,001 values."""
    around: list[Json] = []
    for _ in range(20):
        around += [
            add("/around", {}),
            {"op": "move", "from": "/entry", "path": "/around/entry"},
            {"op": "move", "from": "/around/entry", "path": "/entry"},
        ]
    apply(copied(WIDE), around[:30])
    problem = refusal(WIDE, around)
    assert (problem.status, problem.issue.code) == (422, "too-costly")
    assert "operation 50 (move)" in str(problem)


@pytest.mark.parametrize("shifting", [add("/entry/0", 1), {"op": "remove", "path": "/entry/0"}])
def test_what_shifts_long_arrays_is_limited(shifting: Json) -> None:
    document = {"entry": [0] * 200_000}
    apply(copied(document), [shifting] * 500)
    problem = refusal(document, [shifting] * 5_000)
    assert (problem.status, problem.issue.code) == (422, "too-costly")
    apply({"entry": [0] * 200}, [add("/entry/-", 1)] * 10_000)


def test_what_the_patch_brings_is_not_limited() -> None:
    value = [0] * 1_200_000
    assert apply({}, [add("/a", value), {"op": "test", "path": "/a", "value": value}]) == {"a": value}


def test_nothing_moves_too_deep() -> None:
    deep: Any = 1
    for _ in range(60):
        deep = [deep]
    document = {"a": deep, "b": {"c": {"d": {"e": {}}}}}
    assert "nested more than" in str(refusal(document, [{"op": "move", "from": "/a", "path": "/b/c/d/e/f"}]))
    assert "nested more than" in str(refusal(document, [{"op": "copy", "from": "/a", "path": "/b/c/d/e/f"}]))
    assert apply(copied(document), [{"op": "move", "from": "/a", "path": "/b/c/d/f"}])["b"]["c"]["d"]["f"] == deep

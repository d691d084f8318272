"""The grammar of scopes and `narrowed`, held against a slow reading of SMART App Launch 2.2 that asks of every single resource."""

import os
from functools import cache
from itertools import product
from urllib.parse import quote

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from peers.requires import requires

from profiles.smart.scopes import Interaction, Scope, is_resource_scope, narrowed, of_studies, parse_scope, parse_scopes, words_of

DEEP = os.environ.get("IMAGESHARE_TEST_DEEP") == "1"
PAIRS = 100_000 if DEEP else 3_000

CONTEXTS = ["patient", "user", "system"]
TYPES = ["Patient", "ImagingStudy", "Observation"]
CONSTRAINTS = [("category", "laboratory"), ("status", "final"), ("code", "http://loinc.org|718-7,8480-6")]
ORDERED = ["".join(letter for letter, on in zip("cruds", chosen, strict=True) if on) for chosen in product((0, 1), repeat=5)]
Resource = tuple[str, frozenset[tuple[str, str]]]
RESOURCES: list[Resource] = [
    (type_, frozenset(pair for pair, on in zip(CONSTRAINTS, chosen, strict=True) if on))
    for type_ in TYPES
    for chosen in product((0, 1), repeat=3)
]
"""A type, and which of the constraints the resource meets."""


def _escaped(pair: tuple[str, str]) -> str:
    return f"{pair[0]}={quote(pair[1], safe='')}"


QUERIES = st.lists(st.sampled_from(CONSTRAINTS), max_size=2).map(
    lambda found: "?" + "&".join(map(_escaped, found)) if found else ""
)
V2 = st.builds(
    lambda context, type_, letters, query: f"{context}/{type_}.{letters}{query}",
    st.sampled_from(CONTEXTS), st.sampled_from([*TYPES, "*"]), st.sampled_from(ORDERED[1:]), QUERIES,
)  # fmt: skip
V1 = st.builds(
    lambda context, type_, name: f"{context}/{type_}.{name}",
    st.sampled_from(CONTEXTS), st.sampled_from([*TYPES, "*"]), st.sampled_from(["read", "write", "*"]),
)  # fmt: skip
BROKEN = st.builds(
    lambda context, type_, rest: f"{context}/{type_}.{rest}",
    st.sampled_from([*CONTEXTS, "Patient", "launch"]), st.sampled_from([*TYPES, "*", "patient", ""]),
    st.sampled_from(
        ["sr", "rr", "", "Read", "read?status=final", "r?", "r?status", "r?status=", "r?=x", "r?status=%zz", "r?_sort=date", "r?status=%00",
         "r?status=final&", "x", "rs.", "r?_count=1", "r?_include:iterate=x", "r?status=,"]
    ),
)  # fmt: skip
OTHERS = st.sampled_from(
    ["openid", "fhirUser", "launch", "launch/patient", "launch/imagingstudy", "offline_access", "online_access"]
)
TEXTS = st.lists(st.one_of(V2, V2, V1, BROKEN, OTHERS), max_size=5).map(" ".join)


@cache
def _opened(word: str) -> frozenset[tuple[str, str, Resource]]:
    """What one word opens, resource by resource: context, letter and resource."""
    head, _, query = word.partition("?")
    context, slash, rest = head.partition("/")
    name, dot, permission = rest.partition(".")
    letters = {"read": "rs", "write": "cud", "*": "cruds"}.get(permission, permission)
    if not (slash and dot) or context not in CONTEXTS or letters not in ORDERED[1:] or ("?" in word and letters != permission):
        return frozenset()
    return frozenset(
        (context, letter, resource)
        for letter, resource in product(letters, RESOURCES)
        if name in ("*", resource[0]) and ("?" not in word or _meets(resource, query))
    )


def _meets(resource: Resource, query: str) -> bool:
    return bool(query) and all(any(_escaped(pair) == each for pair in resource[1]) for each in _normal(query))


def _normal(query: str) -> list[str]:
    """Each constraint in the one form of `_escaped`, whichever characters were escaped; what is none of ours stays as it is."""
    for _, value in CONSTRAINTS:
        for form in (value, quote(value, safe=":/|,$")):
            query = query.replace("=" + form, "=" + quote(value, safe=""))
    return query.split("&")


def _all(text: str) -> set[tuple[str, str, Resource]]:
    return set().union(*map(_opened, text.split(" ")))


@given(TEXTS)
@requires(95, 144, 367, 368, 369, 370)
def test_scopes_open_what_their_words_say_and_no_more(text: str) -> None:
    scopes = parse_scopes(text)
    opened = {
        (context, letter, resource)
        for context, letter, resource in product(CONTEXTS, "cruds", RESOURCES)
        if any(
            each.context == context and each.covers(resource[0], Interaction(letter)) and set(each.query) <= resource[1]
            for each in scopes
        )
    }
    assert opened == _all(text)


@given(TEXTS, TEXTS)
@example("patient/*.rs", "patient/*.r patient/Patient.s")
@example("patient/Patient.r", "patient/Patient.r?")
@example("patient/Observation.read", "patient/Observation.r patient/*.s?status=final")
@example("user/*.cruds?category=laboratory", "user/Observation.rs?status=final user/Patient.c")
@settings(max_examples=PAIRS)
@pytest.mark.timeout(3600 if DEEP else 120)
def test_what_is_narrowed_opens_what_both_open(asked: str, allowed: str) -> None:
    """Never more than either, never less than both."""
    assert _all(narrowed(asked, allowed)) == _all(asked) & _all(allowed)


@given(TEXTS, TEXTS)
def test_other_words_have_to_be_in_both(asked: str, allowed: str) -> None:
    kept = [word for word in words_of(narrowed(asked, allowed)) if parse_scope(word) is None]
    assert kept == [
        word for word in words_of(asked) if parse_scope(word) is None and not word.startswith(tuple(f"{each}/" for each in CONTEXTS))
        and word in allowed.split(" ")
    ]  # fmt: skip


@given(TEXTS, TEXTS, TEXTS)
def test_narrowing_again_changes_nothing_and_order_does_not_matter(asked: str, one: str, other: str) -> None:
    once = narrowed(asked, one)
    assert narrowed(once, one) == once
    assert _all(narrowed(once, other)) == _all(narrowed(narrowed(asked, other), one))


@given(TEXTS)
def test_what_is_wholly_covered_stays_as_it_was_asked(text: str) -> None:
    """SMART App Launch 2.2, scopes: v1 stays v1, and a query keeps its letters."""
    kept = [word for word in words_of(text) if parse_scope(word) is not None or not is_resource_scope(word)]
    assert narrowed(text, text) == " ".join(kept)


@pytest.mark.parametrize(
    ("asked", "allowed", "kept"),
    [
        ("patient/*.read", "patient/Patient.rs", "patient/Patient.read"),
        ("patient/*.read", "patient/Patient.r", "patient/Patient.r"),
        ("patient/*.write", "patient/*.cruds", "patient/*.write"),
        ("patient/*.*", "patient/Patient.read", "patient/Patient.read"),
        ("patient/*.*", "patient/Patient.cu", "patient/Patient.cu"),
        ("patient/*.read", "patient/*.rs?status=final", "patient/*.rs?status=final"),
        ("patient/*.rs", "user/*.rs", ""),
        ("openid launch/patient patient/*.rs", "openid patient/*.rs", "openid patient/*.rs"),
        ("patient/Patient.rs patient/Patient.rs", "patient/*.cruds", "patient/Patient.rs"),
        (
            "patient/*.rs",
            "patient/Patient.rs patient/Observation.rs?status=final",
            "patient/Patient.rs patient/Observation.rs?status=final",
        ),
        (
            "patient/Observation.rs?category=a%7Cb",
            "patient/Observation.r?status=final",
            "patient/Observation.r?category=a|b&status=final",
        ),
        ("patient/Observation.rs?code=x%20y", "patient/Observation.r", "patient/Observation.r?code=x%20y"),
        ("patient/Observation.rs?code=x%26status%3Dz", "patient/*.r", "patient/Observation.r?code=x%26status%3Dz"),
        ("patient/Patient.sr", "patient/*.cruds", ""),
        ("patient/Patient.sr", "patient/Patient.sr", ""),
    ],
)
def test_narrowed(asked: str, allowed: str, kept: str) -> None:
    assert narrowed(asked, allowed) == kept


@given(
    st.sampled_from(CONTEXTS), st.sampled_from([*TYPES, "*"]), st.sampled_from(ORDERED[1:]),
    st.dictionaries(
        st.from_regex(r"\A[a-z][a-zA-Z.:-]{0,12}\Z"), st.text(min_size=1, max_size=12).filter(lambda value: value.strip(" ,")), min_size=1, max_size=3
    ),
)  # fmt: skip
def test_any_constraint_survives_being_written(context: str, type_: str, letters: str, query: dict[str, str]) -> None:
    """Whatever is in a value, `&`, `=`, `%` or a blank, it stays one value."""
    word = f"{context}/{type_}.{letters}?" + "&".join(
        f"{name}={quote(value, safe='', errors='replace')}" for name, value in query.items()
    )
    scope = parse_scope(word)
    if scope is None:
        assert any("\0" in value or value.encode("utf-8", "replace").decode() != value for value in query.values())
        return
    written = narrowed(word, f"{context}/*.cruds?of=another").replace("&of=another", "")
    assert " " not in written
    assert parse_scope(written) == scope


@given(st.text(max_size=40))
def test_any_text_is_a_scope_or_none(text: str) -> None:
    for scope in parse_scopes(text):
        assert isinstance(scope, Scope)
        assert scope.interactions
    assert parse_scope("patient/Patient.r\n") is None
    assert parse_scope("patient/Patient.r?a=\tb") is None


def test_a_constraint_is_decoded_as_in_a_search() -> None:
    scope = parse_scope("patient/Observation.rs?category=http%3A%2F%2Fx%7Claboratory&date=ge2026&date=lt2027&date=ge2026")
    assert scope is not None
    assert scope.query == (("category", "http://x|laboratory"), ("date", "ge2026"), ("date", "lt2027"))


@pytest.mark.parametrize(
    "rest",
    [
        "sr", "dc", "rr", "", "Read", "r?", "r?status", "r?status=", "r?status=,", "r?status=%20", "r?=x", "r?status=%zz", "r?status=%00",
        "r?status=%ff", "r?status=final&", "r?_sort=date", "r?_include:iterate=x", "r?_count=1", "read?status=final"
    ],
)  # fmt: skip
def test_what_is_not_well_formed_opens_nothing(rest: str) -> None:
    """A constraint without a value is none to a search (FHIR R4 section 3.1.1.1), so a scope with one would open more than it says."""
    assert parse_scope(f"patient/Observation.{rest}") is None
    assert parse_scopes(f"patient/Observation.{rest}") == ()


def test_what_is_a_scope_for_resources() -> None:
    assert [is_resource_scope(word) for word in ("patient/Patient.sr", "user/x", "launch/patient", "openid", "Patient/*.rs")] == [
        True, True, False, False, False,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("words", "limited"),
    [
        ("patient/*.rs", "patient/ImagingStudy.rs?identifier={} patient/Patient.rs"),
        ("patient/*.read", "patient/ImagingStudy.rs?identifier={} patient/Patient.read"),
        ("patient/*.* openid", "patient/ImagingStudy.cruds?identifier={} patient/Patient.* openid"),
        ("user/*.rs", "user/ImagingStudy.rs?identifier={} user/Patient.rs?_id=p"),
        ("patient/ImagingStudy.r?status=available", "patient/ImagingStudy.r?status=available&identifier={}"),
        ("patient/Patient.r", "patient/Patient.r"),
        ("patient/Observation.rs launch/imagingstudy", "launch/imagingstudy"),
    ],
)
def test_a_scope_for_single_studies(words: str, limited: str) -> None:
    named = "urn:dicom:uid|urn:oid:1.2,urn:dicom:uid|urn:oid:1.3"
    found = of_studies(words_of(words), ["1.3", "1.2"], "p")
    assert found == words_of(limited.format(named))
    assert all(parse_scope(word) or not is_resource_scope(word) for word in found)
    assert narrowed(" ".join(found), words) == " ".join(found)
    assert [word for word in of_studies(words_of(words), [], "p") if is_resource_scope(word)] == []

"""Scopes and the Decision, held against a slow reading of SMART App Launch 2.2's grammar."""

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Column, MetaData, String, Table, create_engine, select

from server.access.decisions import Decision, Interaction, everything, parse_scopes
from server.errors import Forbidden

TYPES = ["Patient", "ImagingStudy", "DocumentReference", "*"]
CONTEXTS = ["patient", "user", "system"]
ORDERED = ["".join(letter for letter, on in zip("cruds", chosen, strict=True) if on) for chosen in product((0, 1), repeat=5)]
PERMISSIONS = [*ORDERED, "read", "write", "*", "sr", "dc", "rr", "x", "Read"]
SUFFIXES = ["", "", "", "?category=laboratory", "?", ".rs", " "]


def _oracle(text: str, patient: str | None, type_: str, letter: str) -> str | set[str]:
    """Which patients a scope string opens, read word by word: "all", or a set of patient ids."""
    allowed: set[str] = set()
    for word in text.split(" "):
        context, slash, rest = word.partition("/")
        name, dot, permission = rest.partition(".")
        letters = {"read": "rs", "write": "cud", "*": "cruds"}.get(permission, permission)
        well_formed = slash and dot and context in CONTEXTS and letters and letters in ORDERED
        if not well_formed or name not in (type_, "*") or letter not in letters:
            continue
        if context != "patient":
            return "all"
        if patient:
            allowed.add(patient)
    return allowed


WORDS = st.builds(lambda c, t, p, s: f"{c}/{t}.{p}{s}", *(st.sampled_from(v) for v in (CONTEXTS, TYPES, PERMISSIONS, SUFFIXES)))
OTHERS = st.sampled_from(
    ["openid", "fhirUser", "launch/patient", "offline_access", "patient/", "/.", "patient/Patient", "Patient/*.r"]
)


@given(
    words=st.lists(WORDS | OTHERS, max_size=6),
    patient=st.sampled_from([None, "", "p", "q"]),
    type_=st.sampled_from(TYPES[:-1]),
    interaction=st.sampled_from(list(Interaction)),
)
def test_a_decision_allows_what_the_scopes_say_and_no_more(
    words: list[str], patient: str | None, type_: str, interaction: Interaction
) -> None:
    text = " ".join(words)
    decision = Decision("app", parse_scopes(text), patient)
    wanted = _oracle(text, patient, type_, interaction.value)
    allowed = decision.patients(type_, interaction)
    assert allowed == (None if wanted == "all" else wanted)
    for asked in ("p", "q"):
        permitted = wanted == "all" or asked in wanted
        try:
            decision.require_patient(type_, interaction, asked)
        except Forbidden:
            assert not permitted
        else:
            assert permitted


PATIENTS = Table("rows", MetaData(), Column("patient", String))
ENGINE = create_engine("sqlite://")
PATIENTS.metadata.create_all(ENGINE)
with ENGINE.begin() as _connection:
    _connection.execute(PATIENTS.insert(), [{"patient": name} for name in ("p", "q", "")])


@given(words=st.lists(WORDS, max_size=4), patient=st.sampled_from([None, "", "p", "q"]))
def test_the_sql_is_the_decision(words: list[str], patient: str | None) -> None:
    decision = Decision("app", parse_scopes(" ".join(words)), patient)
    allowed = decision.patients("ImagingStudy", Interaction.SEARCH)
    with ENGINE.connect() as connection:
        where = decision.where("ImagingStudy", Interaction.SEARCH, PATIENTS.c.patient)
        found = set(connection.execute(select(PATIENTS.c.patient).where(where)).scalars())
    assert found == ({"p", "q", ""} if allowed is None else {name for name in ("p", "q") if name in allowed})


@pytest.mark.parametrize(
    ("scope", "granted"),
    [
        ("patient/ImagingStudy.rs", "rs"),
        ("patient/*.cruds", "cruds"),
        ("patient/*.read", "rs"),
        ("patient/*.write", "cud"),
        ("patient/*.*", "cruds"),
        ("patient/ImagingStudy.sr", ""),
        ("patient/ImagingStudy.", ""),
        ("patient/ImagingStudy.rs?modality=CT", ""),
        ("patient/imagingstudy.rs", ""),
        ("patient/ImagingStudy.rs,patient/Patient.rs", ""),
        ("Patient/ImagingStudy.rs", ""),
        ("launch/patient", ""),
    ],
)
def test_scopes_of_both_versions(scope: str, granted: str) -> None:
    decision = Decision("app", parse_scopes(scope), "p")
    assert {i.value for i in Interaction if decision.patients("ImagingStudy", i)} == set(granted)


def test_a_patient_scope_without_a_patient_opens_nothing() -> None:
    decision = Decision("app", parse_scopes("patient/*.cruds"))
    with pytest.raises(Forbidden):
        decision.require("ImagingStudy", Interaction.READ)


def test_the_refusal_is_the_same_whether_the_patient_exists_or_not() -> None:
    decision = Decision("app", parse_scopes("patient/*.rs"), "p")
    texts = set()
    for patient in ("q", "nobody", ""):
        with pytest.raises(Forbidden) as caught:
            decision.require_patient("ImagingStudy", Interaction.READ, patient)
        texts.add(caught.value.detail)
    assert len(texts) == 1
    assert "q" not in texts.pop().split()


@pytest.mark.parametrize("scope", ["patient/*.rs", "patient/Patient.rs", ""])
def test_the_refusal_knows_whose_data_were_refused(scope: str) -> None:
    decision = Decision("app", parse_scopes(scope), "p")
    with pytest.raises(Forbidden) as caught:
        decision.require_patient("ImagingStudy", Interaction.READ, "q")
    assert caught.value.patients == {"q"}
    with pytest.raises(Forbidden) as caught:
        decision.require_patient("ImagingStudy", Interaction.READ, "")
    assert caught.value.patients == frozenset()
    with pytest.raises(Forbidden) as caught:
        decision.require_patients("ImagingStudy", Interaction.SEARCH, frozenset(["p", "q", "r"]))
    assert caught.value.patients == ({"q", "r"} if decision.patients("ImagingStudy", Interaction.SEARCH) else {"p", "q", "r"})
    assert "q" not in caught.value.detail.split()


def test_everything_is_everything() -> None:
    decision = everything("partner")
    assert all(decision.patients(type_, interaction) is None for type_ in TYPES for interaction in Interaction)


def test_a_decision_does_not_show_its_token() -> None:
    assert "jti-1" not in repr(Decision("app", (), token_id="jti-1"))

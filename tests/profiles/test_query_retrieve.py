"""The rules of the Query/Retrieve information models: PS3.4 sections C.3, C.4 and C.6."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiles.query_identifier import Identifier, Key
from profiles.query_retrieve import (
    MAX_LISTED_ABOVE,
    MODELS,
    PATIENT_ROOT,
    PATIENT_STUDY_ONLY,
    STUDY_ROOT,
    UNIQUE_KEYS,
    IdentifierRefused,
    Model,
    Selection,
    check_query,
    model_of,
    selection,
)

VALUES = st.sampled_from(["", "9.29", "9.29\\9.31", "9.29*", "A", "*"])


def asked(level: str, **unique: str) -> Identifier:
    keys = [Key(UNIQUE_KEYS[name], "UI", value) for name, value in unique.items()]
    return Identifier((Key("00080052", "CS", level), *keys))


def test_each_sop_class_has_its_model() -> None:
    assert {model_of(uid) for model in MODELS for uid in (model.find, model.move, model.get)} == set(MODELS)
    with pytest.raises(KeyError):
        model_of("1.2.840.10008.1.1")


def test_levels_of_a_model() -> None:
    for model, level in ((STUDY_ROOT, "PATIENT"), (PATIENT_STUDY_ONLY, "SERIES"), (PATIENT_ROOT, ""), (PATIENT_ROOT, "FRAME")):
        with pytest.raises(IdentifierRefused) as refused:
            check_query(asked(level, PATIENT="1", STUDY="1.2", SERIES="1.3"), model, relational=True)
        assert refused.value.tags == (0x00080052,)
    assert check_query(asked("study"), STUDY_ROOT, relational=False) == "STUDY"


@given(
    model=st.sampled_from(MODELS), number=st.integers(0, 3), relational=st.booleans(),
    unique=st.dictionaries(st.sampled_from(list(UNIQUE_KEYS)), VALUES),
)  # fmt: skip
def test_what_a_retrieve_may_name(model: Model, number: int, relational: bool, unique: dict[str, str]) -> None:
    """Whatever is accepted names something at its level, is no wildcard, and without relational retrieval is below one of each."""
    level = model.levels[number % len(model.levels)]
    found, refused = None, None
    try:
        found = selection(asked(level, **unique), model, relational=relational)
    except IdentifierRefused as error:
        refused = error
    if found is None:
        assert refused is not None
        assert refused.tags
        assert not any(value and value in str(refused) for value in unique.values() if value not in ("*", "A"))
        return
    named = {
        "PATIENT": (found.patient,) if found.patient else (),
        "STUDY": found.studies,
        "SERIES": found.series,
        "IMAGE": found.instances,
    }
    assert named[level]
    assert not any("*" in value for values in named.values() for value in values)
    if not relational:
        assert all(len(named[above]) == 1 for above in model.levels[: model.levels.index(level)])


def test_selections() -> None:
    assert selection(asked("PATIENT", PATIENT="P 1"), PATIENT_ROOT, relational=False) == Selection("PATIENT", "P 1")
    assert selection(asked("STUDY", STUDY="1.2\\1.3\\1.2"), STUDY_ROOT, relational=False) == Selection(
        "STUDY", studies=("1.2", "1.3")
    )
    assert selection(asked("IMAGE", IMAGE="1.2"), STUDY_ROOT, relational=True) == Selection("IMAGE", instances=("1.2",))
    many = "\\".join(f"1.{number}" for number in range(MAX_LISTED_ABOVE + 1))
    assert len(selection(asked("STUDY", STUDY=many), STUDY_ROOT, relational=False).studies) == MAX_LISTED_ABOVE + 1
    with pytest.raises(IdentifierRefused):
        selection(asked("SERIES", STUDY=many, SERIES="1.2"), STUDY_ROOT, relational=True)

"""Demographics as FHIR and back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiles.demographics import Address, Demographics, Telecom, elements, from_patient, person_name
from profiles.fhir import validation

PART = st.text("abcÄ山.-'", min_size=1, max_size=8)
NAME = st.lists(PART, min_size=1, max_size=5).map("^".join)
SAID = st.builds(
    Demographics,
    name=st.none() | NAME,
    birth_date=st.sampled_from([None, "1980", "198002", "19800229"]),
    sex=st.sampled_from([None, "F", "M", "O", "U"]),
    addresses=st.none() | st.just((Address(("1 Street",), "Town", "ST", "1", "CH", "home"), Address(city="Other"))),
    telecom=st.none() | st.just((Telecom("phone", "1", "mobile"), Telecom("email", "a@b"))),
)


@given(SAID)
def test_there_and_back(said: Demographics) -> None:
    made, named = elements(said)
    assert from_patient(made) == said
    assert named == made.keys()
    assert validation.check({"resourceType": "Patient", **made}, type_="Patient") == []


def test_what_is_removed_is_named_and_not_there() -> None:
    assert elements(Demographics("", "", "", (), (), ())) == (
        {},
        frozenset({"name", "birthDate", "gender", "address", "telecom"}),
    )
    assert elements(Demographics()) == ({}, frozenset())


def test_other_names_follow_the_name() -> None:
    made, _ = elements(Demographics("Doe^Jane", other_names=(("maiden", "Roe"),)))
    assert made["name"] == [
        {"text": "Jane Doe", "family": "Doe", "given": ["Jane"]},
        {"use": "maiden", "text": "Roe", "family": "Roe"},
    ]
    assert from_patient(made).other_names == (("maiden", "Roe"),)


@pytest.mark.parametrize(
    ("sex", "gender", "dicom"),
    [("F", "female", "F"), ("M", "male", "M"), ("O", "other", "O"), ("A", "other", "O"), ("N", "other", "O"), ("U", "unknown", ""), ("X", "unknown", "")],
)  # fmt: skip
def test_sex(sex: str, gender: str, dicom: str) -> None:
    said = Demographics(sex=sex)
    assert (elements(said)[0]["gender"], said.dicom_sex) == (gender, dicom)


def test_a_part_of_a_date_is_no_dicom_date() -> None:
    assert [Demographics(birth_date=each).dicom_birth_date for each in ("1980", "198001", "19800102", "", None)] == [
        "",
        "",
        "19800102",
        "",
        "",
    ]


def test_a_name_has_nothing_in_it_that_dicom_has_a_meaning_for() -> None:
    assert person_name("a^b=c", "d\\e\n", "", "", "") == "a b c^d e"
    assert len(person_name("x" * 100)) == 64

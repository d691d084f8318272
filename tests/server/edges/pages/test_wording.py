"""Dates, kinds of images and addresses as people say them."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiles.modalities import meanings
from server.edges.pages.wording import day, host_of, kinds, moment, ways
from server.languages import listed


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("19740712", "12 July 1974"), ("1974-07-12", "12 July 1974"), ("1974-07", "July 1974"), ("1974", "1974"), ("", ""),
        ("19741301", ""), ("19740732", ""), ("x", ""), ("1974-07-12T10:00:00Z", "12 July 1974"),
    ],
)  # fmt: skip
def test_days(text: str, said: str) -> None:
    assert day(text) == said


@given(st.text())
def test_no_text_is_too_odd_for_a_day(text: str) -> None:
    day(text)


def test_moments() -> None:
    assert moment(datetime(2026, 3, 5, 7, 4, tzinfo=UTC)) == "5 March 2026, 07:04"


def test_kinds_of_images() -> None:
    assert kinds(["CT", "SR"]) == "CT scan and report"
    assert kinds(["CR", "DX", "MG"]) == "X-ray and mammogram"
    assert kinds(["US", "CT"]) == "Ultrasound and CT scan"
    assert kinds([]) == ""
    assert kinds(["ZZ"]) == "ZZ"


@given(st.lists(st.sampled_from(sorted(meanings()))))
def test_every_modality_has_words(modalities: list[str]) -> None:
    assert bool(kinds(modalities)) == bool(modalities)


def test_ways_and_lists() -> None:
    assert ways(["password", "passkey"]) == "password and passkey"
    assert listed(["a", "b", "c"]) == "a, b and c"
    assert listed([]) == ""


@pytest.mark.parametrize(
    ("address", "host"),
    [
        ("https://app.example.org/back?x=1", "app.example.org"), ("http://127.0.0.1:4000/back", "127.0.0.1:4000"),
        ("org.example.app:/back", "org.example.app"), ("https://bank.example@evil.example/x", "evil.example"),
        ("https://evil.example?bank.example", "evil.example"), ("", ""),
    ],
)  # fmt: skip
def test_whose_an_address_is(address: str, host: str) -> None:
    assert host_of(address) == host

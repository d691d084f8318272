"""Matching of DT: PS3.4 section C.2.2.2.5.3."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiles.date_time_matching import asked, included, matches

_MOMENTS = st.datetimes(datetime(1900, 1, 1), datetime(2100, 1, 1)).map(lambda each: each.replace(microsecond=0))
_ZONES = st.integers(-12 * 4, 14 * 4).map(lambda quarters: timezone(timedelta(minutes=15 * quarters)))


@given(_MOMENTS, _ZONES, _ZONES, st.integers(-100_000, 100_000))
def test_ranges_are_of_moments_whatever_their_offset(value: datetime, one: timezone, other: timezone, seconds: int) -> None:
    stored = value.replace(tzinfo=one)
    bound = (stored + timedelta(seconds=seconds)).astimezone(other)
    text = f"{bound:%Y%m%d%H%M%S%z}"
    for wanted, expected in (
        (f"{text}-", seconds <= 0),
        (f"-{text}", seconds >= 0),
        (f"{text}-{text}", seconds == 0),
        (text, seconds == 0),
    ):
        bounds = asked(wanted)
        assert bounds is not None
        assert matches(f"{stored:%Y%m%d%H%M%S%z}", bounds) == expected


@pytest.mark.parametrize(
    ("text", "first", "last"),
    [
        ("2026", (2026, 1, 1), (2027, 1, 1)),
        ("202612", (2026, 12, 1), (2027, 1, 1)),
        ("202602", (2026, 2, 1), (2026, 3, 1)),
        ("20260228", (2026, 2, 28), (2026, 3, 1)),
        ("2026022823", (2026, 2, 28, 23), (2026, 3, 1)),
        ("20260228235959", (2026, 2, 28, 23, 59, 59), (2026, 3, 1)),
        ("20260228+0100", (2026, 2, 27, 23), (2026, 2, 28, 23)),
    ],
)
def test_a_moment_is_as_long_as_it_is_precise(text: str, first: tuple[int, ...], last: tuple[int, ...]) -> None:
    begin, end = (datetime(*parts, tzinfo=UTC) for parts in (first, last))  # type: ignore[arg-type, misc]
    assert included(text) == (begin, end - timedelta(microseconds=1))


def test_a_fraction() -> None:
    begin = datetime(2026, 2, 28, 1, 2, 3, 120_000, UTC)
    assert included("20260228010203.12") == (begin, begin + timedelta(microseconds=9_999))


def test_a_hyphen_is_an_offset_where_it_can_be_one() -> None:
    assert asked("20260101-0500") == included("20260101-0500")
    assert asked("20260101-2027") == (
        datetime(2026, 1, 1, tzinfo=UTC),
        datetime(2028, 1, 1, tzinfo=UTC) - timedelta(microseconds=1),
    )
    assert asked("20260101-0500-20260102-0500") is not None


@pytest.mark.parametrize("text", ["", "-", "yesterday", "20261301", "20260230", "2026-01-01", "99991231-2"])
def test_what_is_none(text: str) -> None:
    assert asked(text) is None


def test_the_end_of_time() -> None:
    bounds = asked("9999")
    assert bounds is None or not matches("2026", bounds)

"""What a FHIR date covers."""

from datetime import UTC, datetime, timedelta, timezone
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiles.fhir.date_range import date_range

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def micros(moment: datetime) -> int:
    return (moment - EPOCH) // timedelta(microseconds=1)


@pytest.mark.parametrize(
    ("text", "start", "end"),
    [
        ("2026", datetime(2026, 1, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC)),
        ("2024", datetime(2024, 1, 1, tzinfo=UTC), datetime(2025, 1, 1, tzinfo=UTC)),
        ("2024-02", datetime(2024, 2, 1, tzinfo=UTC), datetime(2024, 3, 1, tzinfo=UTC)),
        ("2026-12", datetime(2026, 12, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC)),
        ("1969-12-31", datetime(1969, 12, 31, tzinfo=UTC), EPOCH),
        ("2026-01-07T10:11", datetime(2026, 1, 7, 10, 11, tzinfo=UTC), datetime(2026, 1, 7, 10, 12, tzinfo=UTC)),
        ("2026-01-07T10:11:12Z", datetime(2026, 1, 7, 10, 11, 12, tzinfo=UTC), datetime(2026, 1, 7, 10, 11, 13, tzinfo=UTC)),
        ("2026-01-07T01:00+02:00", datetime(2026, 1, 6, 23, tzinfo=UTC), datetime(2026, 1, 6, 23, 1, tzinfo=UTC)),
        ("2026-01-07T01:00:00-05:30", datetime(2026, 1, 7, 6, 30, tzinfo=UTC), datetime(2026, 1, 7, 6, 30, 1, tzinfo=UTC)),
        (
            "2026-01-07T10:11:12.345Z",
            datetime(2026, 1, 7, 10, 11, 12, 345000, UTC),
            datetime(2026, 1, 7, 10, 11, 12, 346000, UTC),
        ),
    ],
)
def test_a_date_covers_what_it_leaves_open(text: str, start: datetime, end: datetime) -> None:
    assert date_range(text) == (micros(start), micros(end))


def test_the_last_day_of_the_calendar_has_an_end() -> None:
    start, end = date_range("9999-12-31")
    assert end - start == 24 * 3600 * 1_000_000


@given(
    moment=st.datetimes(min_value=EPOCH.replace(year=2, tzinfo=None), max_value=EPOCH.replace(year=9998, tzinfo=None)),
    minutes=st.integers(-12 * 60, 14 * 60),
    digits=st.integers(1, 6),
)
def test_more_precise_is_within_less_precise(moment: datetime, minutes: int, digits: int) -> None:
    zone = timezone(timedelta(minutes=minutes))
    text = moment.replace(tzinfo=zone).isoformat(timespec="microseconds")
    offset = f"{text[26:]}"
    forms = [text[:16] + offset, text[:19] + offset, text[: 20 + digits] + offset, text]
    ranges = [date_range(form) for form in forms]
    for (wide_start, wide_end), (start, end) in pairwise(ranges):
        assert wide_start <= start < end <= wide_end
    assert ranges[-1] == (micros(moment.replace(tzinfo=zone)), micros(moment.replace(tzinfo=zone)) + 1)


@pytest.mark.parametrize(
    "text",
    ["", "26", "2026-13", "2026-02-30", "2026-1-1", "20260107", "2026-01-07T25:00", "2026-01-07T10", "2026-01-07T10:11+99:99",
     "2026-01-07T10:11:60Z", "0000", "２０２６", "2026-01-07 or later", "2026-01-07T10:11:12.Z"],
)  # fmt: skip
def test_what_is_no_date_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        date_range(text)

from datetime import UTC, date, datetime, time, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
from fhir.resources.R4B.imagingstudy import ImagingStudy
from hypothesis import given
from hypothesis import strategies as st

from conformance.generated import dates, times
from profiles import timestamps

BERLIN = ZoneInfo("Europe/Berlin")


@pytest.mark.parametrize(
    ("da", "expected"),
    [
        ("20260107", "2026-01-07"),
        ("2026.01.07", "2026-01-07"),
        (" 20260107 ", "2026-01-07"),
        ("00010101", "0001-01-01"),
        ("20230229", None),
        ("202601", None),
        ("2026.0107", None),
        ("", None),
        ("٢٠٢٦٠١٠٧", None),
    ],
)
def test_a_date_is_a_day_of_the_calendar_or_nothing(da: str, expected: str | None) -> None:
    assert timestamps.fhir_date(da) == expected
    assert timestamps.dicom_date(da) == (expected and expected.replace("-", ""))


@pytest.mark.parametrize(
    ("tm", "expected"),
    [
        ("101112", "101112"),
        ("101112.123456", "101112.123456"),
        ("10:11:12", "101112"),
        ("1011", "1011"),
        ("10", "10"),
        ("235960", "235959"),
        ("235961", None),
        ("2411", None),
        ("10:1112", None),
        ("x", None),
    ],
)
def test_a_time_is_a_time_of_day_or_nothing(tm: str, expected: str | None) -> None:
    assert timestamps.dicom_time(tm) == expected


@pytest.mark.parametrize(
    ("da", "tm", "offset", "expected"),
    [
        ("20260107", "101112", "", "2026-01-07T10:11:12+01:00"),
        ("20260707", "101112", "", "2026-07-07T10:11:12+02:00"),  # the zone knows summer time
        ("20260107", "101112", "-0500", "2026-01-07T10:11:12-05:00"),  # what the study says wins
        ("20260107", "101112", "+0000", "2026-01-07T10:11:12Z"),
        ("20260107", "101112", "nonsense", "2026-01-07T10:11:12+01:00"),
        ("20260107", "1011", "", "2026-01-07T10:11:00+01:00"),
        ("20260107", "10", "", "2026-01-07"),  # FHIR has no hour without minutes
        ("20260107", "", "", "2026-01-07"),
        ("20260107", "late", "", "2026-01-07"),
        ("", "101112", "", None),
        ("18800107", "120000", "", "1880-01-07T11:06:32Z"),  # local mean time, +00:53:28
    ],
)
def test_a_fhir_date_time_is_as_precise_as_the_image_says(da: str, tm: str, offset: str, expected: str | None) -> None:
    assert timestamps.fhir_date_time(da, tm, BERLIN, offset) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("+1400", timedelta(hours=14)),
        ("-1200", timedelta(hours=-12)),
        ("-0330", timedelta(hours=-3, minutes=-30)),
        ("+1401", None),
        ("+0160", None),
        ("0100", None),
    ],
)
def test_an_offset_is_within_what_dicom_allows(text: str, expected: timedelta | None) -> None:
    found = timestamps.dicom_offset(text)
    assert found == (timezone(expected) if expected is not None else None)


def test_dtm_is_utc_and_no_more_precise_than_the_image() -> None:
    assert timestamps.dtm_of_dicom("20260107", "003000", BERLIN) == "20260106233000"
    assert timestamps.dtm_of_dicom("20260107", "0030", BERLIN) == "202601062330"
    assert timestamps.dtm_of_dicom("20260107", "", BERLIN) == "20260107"
    assert timestamps.dtm_of_dicom("00010101", "000000", BERLIN) == "00010101"  # no year 0 in UTC
    assert timestamps.dtm_of_dicom("", "0030", BERLIN) is None


def test_an_instant_is_utc_to_the_millisecond() -> None:
    when = datetime(2026, 1, 7, 10, 11, 12, 345678, tzinfo=BERLIN)
    assert timestamps.fhir_instant(when) == "2026-01-07T09:11:12.345Z"
    assert timestamps.dtm(when) == "20260107091112"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026", "2026"),
        ("202601", "2026-01"),
        ("20260107", "2026-01-07"),
        ("2026010710", "2026-01-07"),
        ("202601071011", "2026-01-07T10:11:00Z"),
        ("20260107101112", "2026-01-07T10:11:12Z"),
        ("20261307", None),
        ("20260", None),
        ("", None),
    ],
)
def test_a_dtm_goes_to_fhir_with_its_precision(text: str, expected: str | None) -> None:
    assert timestamps.fhir_date_time_of_dtm(text) == expected


@given(dates() | st.text(max_size=20), times() | st.text(max_size=20), st.sampled_from(["", "+0100", "-1200", "junk"]))
def test_anything_gives_nothing_or_a_valid_fhir_date_time(da: str, tm: str, offset: str) -> None:
    for zone in (UTC, BERLIN):
        value = timestamps.fhir_date_time(da, tm, zone, offset)
        if value is not None:
            ImagingStudy(status="available", subject={"reference": "Patient/1"}, started=value)
        assert (value is None) == (timestamps.fhir_date(da) is None)


@given(st.dates(date(1900, 1, 1), date(2100, 1, 1)), st.times())
def test_dtm_and_fhir_name_the_same_moment(day: date, clock: time) -> None:
    da, tm = f"{day:%Y%m%d}", f"{clock:%H%M%S}"
    fhir = timestamps.fhir_date_time_of_dtm(timestamps.dtm_of_dicom(da, tm, BERLIN, "+0130") or "")
    said = timestamps.fhir_date_time(da, tm, BERLIN, "+0130")
    assert fhir is not None
    assert said is not None
    assert datetime.fromisoformat(fhir) == datetime.fromisoformat(said)

from datetime import UTC, datetime, timedelta, timezone
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiles.search_parameters import (
    DATE_PARAMETER,
    DATE_PREFIXES,
    INCLUDES,
    OFFERED,
    DateValue,
    TokenValue,
    alternatives,
    date_range,
    date_value,
    extract,
    token_value,
)

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


@pytest.mark.parametrize("prefix", DATE_PREFIXES)
def test_a_date_may_have_a_prefix(prefix: str) -> None:
    assert date_value(f"{prefix}2026-01-07") == DateValue(prefix, *date_range("2026-01-07"))  # type: ignore[arg-type]


def test_a_date_without_a_prefix_is_equal() -> None:
    assert date_value("2026").prefix == "eq"


def test_a_plus_that_a_form_has_eaten_is_given_back() -> None:
    assert date_value("gt2026-01-07T10:11:12 02:00") == date_value("gt2026-01-07T10:11:12+02:00")


@pytest.mark.parametrize("text", ["ap2026", "xx2026", "gt", "g2026", "GT2026"])
def test_other_prefixes_are_refused(text: str) -> None:
    with pytest.raises(ValueError):
        date_value(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("CT", TokenValue(None, "CT")),
        ("urn:dicom:uid|urn:oid:1.2", TokenValue("urn:dicom:uid", "urn:oid:1.2")),
        ("urn:dicom:uid|", TokenValue("urn:dicom:uid", None)),
        ("|4711", TokenValue("", "4711")),
        (r"a\|b", TokenValue(None, "a|b")),
        (r"s|a\,b\\", TokenValue("s", "a,b\\")),
    ],
)
def test_a_token_has_a_system_or_a_code(text: str, value: TokenValue) -> None:
    assert token_value(text) == value


def test_a_lone_bar_is_no_token() -> None:
    with pytest.raises(ValueError):
        token_value("|")


def test_values_are_joined_by_commas_that_are_not_escaped() -> None:
    assert alternatives(r"a,b\,c,d\\,e") == ["a", r"b\,c", r"d\\", "e"]


@pytest.mark.parametrize("text", ["", ",", "a,", ",a", "a,,b"])
def test_no_value_is_empty(text: str) -> None:
    with pytest.raises(ValueError):
        alternatives(text)


@given(st.lists(st.tuples(st.text(), st.text(min_size=1)), min_size=1, max_size=5))
def test_what_is_escaped_comes_back(pairs: list[tuple[str, str]]) -> None:
    def escaped(text: str) -> str:
        return "".join(f"\\{c}" if c in ",|$\\" else c for c in text)

    text = ",".join(f"{escaped(system)}|{escaped(code)}" for system, code in pairs)
    assert [token_value(value) for value in alternatives(text)] == [TokenValue(system, code) for system, code in pairs]


def test_a_study_yields_what_is_searched() -> None:
    found = extract(
        {
            "resourceType": "ImagingStudy",
            "id": "s1",
            "identifier": [{"system": "urn:dicom:uid", "value": "urn:oid:1.2.3"}, {"value": "A-1"}],
            "status": "available",
            "modality": [{"system": "http://dicom.nema.org/resources/ontology/DCM", "code": "CT"}],
            "subject": {"reference": "Patient/p1"},
            "started": "2026-01-07",
        }
    )
    assert (found.patient, found.status) == ("p1", "available")
    assert (found.date, found.date_end) == date_range("2026-01-07")
    assert set(found.tokens) == {
        ("identifier", "urn:dicom:uid", "urn:oid:1.2.3"),
        ("identifier", "", "A-1"),
        ("status", "http://hl7.org/fhir/imagingstudy-status", "available"),
        ("modality", "http://dicom.nema.org/resources/ontology/DCM", "CT"),
    }
    assert found.identities == (("urn:dicom:uid", "urn:oid:1.2.3"),)


def test_a_resource_that_is_not_indexed_yields_nothing() -> None:
    for type_ in ("AuditEvent", "Observation"):
        found = extract({"resourceType": type_, "id": "x", "date": "2026", "status": "final"})
        assert (found.patient, found.date, found.tokens) == ("", 0, ())


def test_the_tables_agree_with_each_other() -> None:
    for type_, name in DATE_PARAMETER.items():
        assert {parameter.type for parameter in OFFERED[type_] if parameter.name == name} == {"date"}
    assert INCLUDES.keys() <= OFFERED.keys()
    for parameters in OFFERED.values():
        assert len({parameter.name for parameter in parameters}) == len(parameters)


def test_a_study_is_found_by_the_modality_of_any_series() -> None:
    """R4 defines the parameter as ImagingStudy.series.modality, which has also what acquired nothing."""
    ct, seg = {"system": "http://dicom.nema.org/resources/ontology/DCM", "code": "CT"}, {"system": "urn:x", "code": "SEG"}
    study = {"resourceType": "ImagingStudy", "id": "1", "modality": [ct], "series": [{"modality": ct}, {"modality": seg}, {}]}
    assert {token[2] for token in extract(study).tokens if token[0] == "modality"} == {"CT", "SEG"}

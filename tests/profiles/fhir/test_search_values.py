"""FHIR R4 section 3.1.1.4: the values of a search, by the words and examples of the specification."""

import unicodedata
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiles.fhir.date_range import date_range
from profiles.fhir.query import (
    CompositeValue,
    DateValue,
    Missing,
    NumberValue,
    OfType,
    QuantityValue,
    ReferenceValue,
    Text,
    TokenValue,
)
from profiles.fhir.search_values import (
    covered,
    date_value,
    escaped,
    folded,
    implied,
    number_value,
    quantity_value,
    reference_value,
    sounds,
    split,
    token_value,
    unescaped,
    value,
)
from profiles.r4.search import parameters

BASE = "https://here.example/fhir"


def micros(*parts: int) -> int:
    return round((datetime(*parts, tzinfo=UTC) - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds()) * 1_000_000  # type: ignore[arg-type, misc]


NOW = micros(2026, 1, 1)


# --- 3.1.1.4.4.1, escaping


@pytest.mark.parametrize(
    ("text", "separator", "parts"),
    [
        ("a,b", ",", ["a", "b"]),
        (r"a\,b", ",", [r"a\,b"]),
        (r"a\\,b", ",", [r"a\\", "b"]),
        (r"a\\\,b", ",", [r"a\\\,b"]),
        ("", ",", [""]),
        ("a,,b,", ",", ["a", "", "b", ""]),
        (r"a\$b$c", "$", [r"a\$b", "c"]),
        ("a\\", ",", ["a\\"]),
    ],
)
def test_a_separator_counts_where_no_backslash_stands_before_it(text: str, separator: str, parts: list[str]) -> None:
    assert split(text, separator) == parts


def test_escapes_are_of_four_characters() -> None:
    assert unescaped(r"\,\|\$\\ \n") == r",|$\ \n"


@given(st.lists(st.text(), min_size=1))
def test_what_is_escaped_is_one_value_whatever_is_in_it(texts: list[str]) -> None:
    assert [unescaped(part) for part in split(",".join(escaped(text) for text in texts), ",")] == texts


# --- 3.1.1.4.6 and 3.1.1.4.5, numbers and prefixes


@pytest.mark.parametrize(
    ("text", "low", "high"),
    [("100", "99.5", "100.5"), ("100.00", "99.995", "100.005"), ("1e2", "95", "105"), ("5.4", "5.35", "5.45"),
     ("5.40e-3", "0.005395", "0.005405"), ("-5.4", "-5.45", "-5.35"), ("0", "-0.5", "0.5"), ("2.0", "1.95", "2.05")],
)  # fmt: skip
def test_a_number_is_a_range_by_its_precision(text: str, low: str, high: str) -> None:
    assert number_value(text) == NumberValue("eq", Decimal(text), Decimal(low), Decimal(high))


@pytest.mark.parametrize("prefix", ["eq", "ne", "gt", "lt", "ge", "le", "sa", "eb"])
def test_a_prefix_stands_before_a_number(prefix: str) -> None:
    assert number_value(f"{prefix}100") == NumberValue(prefix, Decimal(100), Decimal("99.5"), Decimal("100.5"))  # type: ignore[arg-type]


def test_approximately_is_a_tenth_of_the_value_and_never_less_than_its_precision() -> None:
    assert number_value("ap100") == NumberValue("ap", Decimal(100), Decimal(90), Decimal(110))
    assert number_value("ap-100") == NumberValue("ap", Decimal(-100), Decimal(-110), Decimal(-90))
    assert number_value("ap1") == NumberValue("ap", Decimal(1), Decimal("0.5"), Decimal("1.5"))


@pytest.mark.parametrize(
    "text",
    ["", "x", "gt", "1.", ".5", "1,5", "0x1F", "1e9999", "NaN", "Infinity", "１００", "1" * 65, "1e301", "xx100", " 1", "1_0"],
)
def test_what_is_no_number_is_refused_without_repeating_it(text: str) -> None:
    with pytest.raises(ValueError) as caught:
        number_value(text)
    assert len(text) < 5 or text not in str(caught.value)


@given(st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**20), max_value=10**20, places=5))
def test_a_number_is_within_its_own_range(number: Decimal) -> None:
    low, high = implied(number)
    assert low < number < high
    assert high - number == number - low


# --- 3.1.1.4.7, dates


@pytest.mark.parametrize(
    ("text", "prefix", "start", "end"),
    [
        ("2013-01-14", "eq", micros(2013, 1, 14), micros(2013, 1, 15)),
        ("ne2013-01-14", "ne", micros(2013, 1, 14), micros(2013, 1, 15)),
        ("lt2013-01-14T10:00", "lt", micros(2013, 1, 14, 10), micros(2013, 1, 14, 10, 1)),
        ("ge2013-03-14", "ge", micros(2013, 3, 14), micros(2013, 3, 15)),
        ("sa2013-03-14", "sa", micros(2013, 3, 14), micros(2013, 3, 15)),
        ("2013", "eq", micros(2013, 1, 1), micros(2014, 1, 1)),
        ("gt2013-12", "gt", micros(2013, 12, 1), micros(2014, 1, 1)),
        ("2013-01-14T10:00:00+02:00", "eq", micros(2013, 1, 14, 8), micros(2013, 1, 14, 8) + 1_000_000),
        ("2013-01-14T10:00:00 02:00", "eq", micros(2013, 1, 14, 8), micros(2013, 1, 14, 8) + 1_000_000),
        ("2013-01-14T10:00:00.5Z", "eq", micros(2013, 1, 14, 10) + 500_000, micros(2013, 1, 14, 10) + 600_000),
        ("2016-12-31T23:59:60Z", "eq", micros(2016, 12, 31, 23, 59, 59), micros(2017, 1, 1)),
    ],
)
def test_a_date_is_what_it_covers(text: str, prefix: str, start: int, end: int) -> None:
    assert date_value(text, NOW) == DateValue(prefix, start, end)  # type: ignore[arg-type]


def test_approximately_is_a_tenth_of_the_distance_to_now() -> None:
    start, end, tenth = micros(2016, 1, 1), micros(2016, 1, 2), (NOW - micros(2016, 1, 1)) // 10
    assert date_value("ap2016-01-01", NOW) == DateValue("ap", start - tenth, end + tenth)


@pytest.mark.parametrize(
    "text", ["", "gt", "yesterday", "2013-02-30", "2013-1-1", "xx2013", "2013-01-14T25:00", "20130114", "2013-W01-1"]
)
def test_what_is_no_date_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        date_value(text, NOW)


@given(
    st.datetimes(min_value=datetime(2, 1, 1), max_value=datetime(9998, 1, 1)),
    st.sampled_from(["", "Z", "+14:00", "-12:30", "+00:00"]),
    st.sampled_from([4, 7, 10, 16, 19, 20, 23, 26]),
)
def test_the_short_way_to_a_range_says_what_the_long_one_does(moment: datetime, zone: str, length: int) -> None:
    text = moment.isoformat(timespec="microseconds")[:length].removesuffix(".") + (zone if length > 10 else "")
    assert covered(text) == date_range(text)


# --- 3.1.1.4.8, strings


@pytest.mark.parametrize(
    ("text", "expected"),
    [("Eve", "eve"), ("Müller", "muller"), ("O'Brien", "obrien"), ("O’Brien", "obrien"), ("Smith-Jones", "smith jones"),
     ("  van   der\tBerg ", "van der berg"), ("Straße", "strasse"), ("Jørgen Ågård", "jorgen agard"), ("Łukasz", "lukasz"), ("山田^太郎", "山田 太郎"),
     ("St. John, Jr.", "st john jr"), ("...", ""), ("ÉCOLE", "ecole"), ("हिन्दी", "हिनदी")],
)  # fmt: skip
def test_strings_are_compared_without_case_accents_and_punctuation(text: str, expected: str) -> None:
    assert folded(text) == expected


@given(st.text())
def test_folding_once_is_enough_and_forgets_how_it_was_composed(text: str) -> None:
    assert folded(folded(text)) == folded(text)
    assert folded(unicodedata.normalize("NFD", text)) == folded(unicodedata.normalize("NFC", text))


def test_names_sound_word_by_word() -> None:
    assert sounds("Robert Smyth") == sounds("RUPERT  Smith") == ("r163", "s530")
    assert sounds("山田") == ("山田",)


# --- 3.1.1.4.10, tokens


@pytest.mark.parametrize(
    ("text", "expected"),
    [("male", TokenValue(None, "male")), ("http://acme.org/patient|2345", TokenValue("http://acme.org/patient", "2345")),
     ("|2345", TokenValue("", "2345")), ("http://acme.org|", TokenValue("http://acme.org", None)), (r"a\|b", TokenValue(None, "a|b")),
     (r"s|a\,b", TokenValue("s", "a,b")), ("s|a|b", TokenValue("s", "a|b"))],
)  # fmt: skip
def test_a_token_has_four_forms(text: str, expected: TokenValue) -> None:
    assert token_value(text) == expected


def test_a_lone_bar_is_no_token() -> None:
    with pytest.raises(ValueError):
        token_value("|")


# --- 3.1.1.4.11, quantities


@pytest.mark.parametrize(
    ("text", "system", "code"),
    [("5.4|http://unitsofmeasure.org|mg", "http://unitsofmeasure.org", "mg"), ("5.40e-3|http://unitsofmeasure.org|g", "http://unitsofmeasure.org", "g"),
     ("5.4||mg", None, "mg"), ("5.4", None, None), ("le5.4|http://unitsofmeasure.org|mg", "http://unitsofmeasure.org", "mg"), ("5.4|s|", "s", None)],
)  # fmt: skip
def test_a_quantity_has_a_unit_by_code_or_as_people_write_it_or_none(text: str, system: str | None, code: str | None) -> None:
    assert quantity_value(text) == QuantityValue(number_value(text.split("|", maxsplit=1)[0]), system, code)


@pytest.mark.parametrize("text", ["5.4|mg", "|s|mg", "5.4|s|mg|x", "mg"])
def test_what_is_no_quantity_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        quantity_value(text)


# --- 3.1.1.4.12, references


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("23", ReferenceValue("", "23")),
        ("Patient/23", ReferenceValue("Patient", "23")),
        (f"{BASE}/Patient/23", ReferenceValue("Patient", "23")),
        ("Patient/23/_history/4", ReferenceValue("Patient", "23", "4")),
        (f"{BASE}/Patient/23/_history/4", ReferenceValue("Patient", "23", "4")),
        ("http://acme.org/fhir/Patient/123", ReferenceValue(url="http://acme.org/fhir/Patient/123")),
        ("http://acme.org/fhir/Patient/123/_history/2", ReferenceValue(version="2", url="http://acme.org/fhir/Patient/123")),
        ("http://acme.org/Questionnaire/phq|1.0", ReferenceValue(version="1.0", url="http://acme.org/Questionnaire/phq")),
        (r"http://acme.org/Questionnaire/phq\|1.0", ReferenceValue(version="1.0", url="http://acme.org/Questionnaire/phq")),
        ("urn:uuid:c757873d-ec9a-4326-a141-556f43239520", ReferenceValue(url="urn:uuid:c757873d-ec9a-4326-a141-556f43239520")),
        (f"{BASE}-other/Patient/23", ReferenceValue(url=f"{BASE}-other/Patient/23")),
    ],
)
def test_a_reference_has_many_forms(text: str, expected: ReferenceValue) -> None:
    assert reference_value(text, BASE) == expected


def test_a_type_as_modifier_is_the_type_of_an_id() -> None:
    assert reference_value("23", BASE, "Patient") == ReferenceValue("Patient", "23")
    with pytest.raises(ValueError):
        reference_value("Group/23", BASE, "Patient")


@pytest.mark.parametrize(
    "text", ["", "a b", "Nothing/23", "Patient/", "Patient/a_b", "#contained", "x" * 65, "Patient/23/other/4"]
)
def test_what_is_no_reference_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        reference_value(text, BASE)


# --- by parameter and modifier


@pytest.mark.parametrize(
    ("type_", "code", "modifier", "text", "expected"),
    [
        ("Patient", "gender", "missing", "true", Missing(True)),
        ("Patient", "identifier", "of-type", "http://terminology.hl7.org/CodeSystem/v2-0203|MR|446053",
         OfType("http://terminology.hl7.org/CodeSystem/v2-0203", "MR", "446053")),
        ("Observation", "subject", "identifier", "http://acme.org/fhir/identifier/mrn|123456", TokenValue("http://acme.org/fhir/identifier/mrn", "123456")),
        ("Condition", "code", "in", "http://snomed.info/sct?fhir_vs=ecl/1", Text("http://snomed.info/sct?fhir_vs=ecl/1")),
        ("Condition", "code", "text", "headache", Text("headache")),
        ("ValueSet", "url", "below", "http://acme.org/fhir/", Text("http://acme.org/fhir/")),
        ("DiagnosticReport", "result", "", "Observation/1", ReferenceValue("Observation", "1")),
        ("Observation", "code-value-date", "", "http://loinc.org|1$lt2013-01-14",
         CompositeValue((TokenValue("http://loinc.org", "1"), DateValue("lt", micros(2013, 1, 14), micros(2013, 1, 15))))),
        ("Group", "characteristic-value", "", "gender$mixed", CompositeValue((TokenValue(None, "gender"), TokenValue(None, "mixed")))),
    ],
)  # fmt: skip
def test_a_value_is_of_its_parameter_and_modifier(type_: str, code: str, modifier: str, text: str, expected: object) -> None:
    assert value(text, parameters(type_)[code], modifier, BASE, NOW) == expected


def test_a_relationship_of_documents_is_its_code_and_its_target_though_r4_exchanges_their_parameters() -> None:
    found = value("appends$DocumentReference/1", parameters("DocumentReference")["relationship"], "", BASE, NOW)
    assert found == CompositeValue((TokenValue(None, "appends"), ReferenceValue("DocumentReference", "1")))


@pytest.mark.parametrize(
    ("type_", "code", "modifier", "text"),
    [("Patient", "gender", "missing", "yes"), ("Patient", "identifier", "of-type", "MR|446053"), ("Patient", "identifier", "of-type", "s||446053"),
     ("Observation", "code-value-date", "", "http://loinc.org|1"), ("Observation", "code-value-date", "", "$2013"), ("Location", "near", "", "1"),
     ("Location", "near", "", "91|2"), ("Location", "near", "", "1|2|-3"), ("Location", "near", "", "1|2|3|km|x"), ("Location", "near", "", "nan|2"), ("Location", "near", "", "1e0|2")],
)  # fmt: skip
def test_a_value_of_the_wrong_form_is_refused(type_: str, code: str, modifier: str, text: str) -> None:
    with pytest.raises(ValueError):
        value(text, parameters(type_)[code], modifier, BASE, NOW)

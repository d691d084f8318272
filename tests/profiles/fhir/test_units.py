"""Numbers and quantities as they are stored and asked for."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiles.fhir.index import Number, Quantity
from profiles.fhir.query import NumberValue, QuantityValue
from profiles.fhir.search_values import implied, quantity_value
from profiles.fhir.units import UCUM, asked, canonical, matches, stored


def quantity(text: str, unit: str, system: str = UCUM) -> Quantity:
    value = Decimal(text)
    return Quantity(Number(value, *implied(value)), system, unit, unit)


def finds(search: str, value: Quantity) -> bool:
    form, number = asked(quantity_value(search))
    return any(form == unit and matches(number, low, high) for unit, low, high in stored(value))


@pytest.mark.parametrize(
    ("code", "factor", "base"),
    [("mg", "0.001", "g"), ("mg/dL", "0.01", "g/L"), ("cm", "0.01", "m"), ("h", "3600", "s"), ("min", "60", "s"), ("mm[Hg]", "1", "mm[Hg]"), ("{score}", "1", "{score}"), ("mg/{day}", "1", "mg/{day}")],
)  # fmt: skip
def test_units_are_multiples_of_their_base(code: str, factor: str, base: str) -> None:
    assert canonical(code) == (Decimal(factor), base)


@pytest.mark.parametrize(
    ("search", "value", "found"),
    [
        (f"5|{UCUM}|mg", quantity("0.005", "g"), True), (f"5|{UCUM}|mg", quantity("5", "g"), False), ("5||mg", quantity("5", "mg"), True),
        ("5||mg", quantity("0.005", "g"), False), ("5", quantity("5", "g"), True), ("5.4", quantity("5.40", "g"), True),
        (f"5|{UCUM}|mg", quantity("5", "mg", "urn:other"), False), ("gt5", quantity("5", "g"), False), ("ge5", quantity("5", "g"), True),
    ],
)  # fmt: skip
def test_what_finds_what(search: str, value: Quantity, found: bool) -> None:
    assert finds(search, value) == found


def test_a_range_is_found_by_all_of_it() -> None:
    value = Number(Decimal("0.2"), Decimal("0.15"), Decimal("0.65"))
    assert [(low, high) for _, low, high in stored(value)] == [(0.15, 0.65)]


@given(st.decimals(-10_000, 10_000, places=3), st.sampled_from(["ug", "mg", "g", "kg"]))
def test_a_value_is_found_in_every_unit_of_its_kind(value: Decimal, unit: str) -> None:
    factor = canonical("mg")[0] / canonical(unit)[0]
    in_unit = value * factor
    number = NumberValue("eq", in_unit, in_unit - abs(factor), in_unit + abs(factor))
    form, wanted = asked(QuantityValue(number, UCUM, unit))
    held = {one: (low, high) for one, low, high in stored(quantity(str(value), "mg"))}
    assert matches(wanted, *held[form])


def test_a_system_needs_its_code() -> None:
    with pytest.raises(ValueError, match="unit's code"):
        asked(quantity_value(f"5|{UCUM}|"))

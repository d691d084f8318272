"""Numbers and quantities as they are stored and compared (FHIR R4 sections 3.1.1.4.6 and 3.1.1.4.11): points, ranges, and units of UCUM.

Both sides of a search go through here: `stored` makes what an index holds of a value, `asked` what a search looks for in it. A number is
a point (low is high), a Range of the resource is a range. With system and code of UCUM both are in the base unit, so that 5 mg finds 0.005 g.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from decimal import Context, Decimal
from typing import Final

from profiles.fhir.index import Number, Quantity
from profiles.fhir.query import NumberValue, QuantityValue
from profiles.fhir.search_values import implied

UCUM: Final = "http://unitsofmeasure.org"
_EXACT: Final = Context(prec=400, Emax=10_000, Emin=-10_000)


def _prefixed(unit: str, prefixes: str) -> dict[str, tuple[Decimal, str]]:
    return {prefix + unit: (_PREFIXES[prefix], unit) for prefix in prefixes.split(",")}


_PREFIXES: Final[Mapping[str, Decimal]] = {
    "": Decimal(1), "M": Decimal("1e6"), "k": Decimal("1e3"), "h": Decimal("1e2"), "d": Decimal("1e-1"), "c": Decimal("1e-2"),
    "m": Decimal("1e-3"), "u": Decimal("1e-6"), "n": Decimal("1e-9"), "p": Decimal("1e-12"), "f": Decimal("1e-15"),
}  # fmt: skip
_UNITS: Final[Mapping[str, tuple[Decimal, str]]] = {
    **_prefixed("g", ",k,d,c,m,u,n,p,f"), "t": (Decimal("1e6"), "g"),
    **_prefixed("m", ",k,d,c,m,u,n,p"),
    **_prefixed("L", ",h,d,c,m,u,n,p,f"), **{unit.replace("L", "l"): (each, "L") for unit, (each, _) in _prefixed("L", ",h,d,c,m,u,n,p,f").items()},
    **_prefixed("s", ",m,u,n"), "min": (Decimal(60), "s"), "h": (Decimal(3600), "s"), "d": (Decimal(86_400), "s"),
    "wk": (Decimal(604_800), "s"), "a": (Decimal(31_557_600), "s"), "mo": (Decimal(2_629_800), "s"),
    **_prefixed("mol", ",k,m,u,n,p,f"), **_prefixed("Pa", ",M,k,h,m"), **_prefixed("Hz", ",M,k"), **_prefixed("J", ",M,k,m"),
    **_prefixed("W", ",k,m"), **_prefixed("V", ",k,m,u"), **_prefixed("Bq", ",M,k"), **_prefixed("Gy", ",c,m,u"), **_prefixed("Sv", ",m,u"),
    **_prefixed("eq", ",m,u"), **_prefixed("cal", ",k"), **_prefixed("osm", ",m"), "[lb_av]": (Decimal("453.59237"), "g"),
    "[oz_av]": (Decimal("28.349523125"), "g"), "[in_i]": (Decimal("0.0254"), "m"), "[ft_i]": (Decimal("0.3048"), "m"),
}  # fmt: skip
"""Code of UCUM -> (how many, of which base unit). Units that are not here are compared as they are written."""


def canonical(code: str) -> tuple[Decimal, str]:
    """A code of UCUM as a factor and what it is a multiple of: `mg/dL` is 0.01 of `g/L`. What is not known is 1 of itself."""
    found = [_UNITS.get(part) for part in code.split("/")]
    factor, names = Decimal(1), []
    for place, each in enumerate(found):
        if each is None:
            return Decimal(1), code
        factor = _EXACT.multiply(factor, each[0]) if not place else Context(prec=30).divide(factor, each[0])
        names.append(each[1])
    return factor, "/".join(names)


def stored(value: Number | Quantity) -> Iterator[tuple[str, float, float]]:
    """What an index holds of a value: (form of the unit, low, high), for each form that can be asked for.

    Forms: empty for a search without unit, `=text` for a unit or a code as people write it, `system|code`.
    """
    number = value.number if isinstance(value, Quantity) else value
    low, high = _bounds(number)
    yield "", float(low), float(high)
    if not isinstance(value, Quantity):
        return
    for text in dict.fromkeys(filter(None, (value.code, value.unit))):
        yield f"={text}", float(low), float(high)
    if value.code:
        factor, code = canonical(value.code) if value.system == UCUM else (Decimal(1), value.code)
        yield f"{value.system}|{code}", _float(low, factor), _float(high, factor)


def asked(value: NumberValue | QuantityValue) -> tuple[str, NumberValue]:
    """What a search looks for: the form of its unit, and the number in it. Raises `ValueError` for a system without a code."""
    if isinstance(value, NumberValue):
        return "", value
    if value.code is None and value.system is not None:
        raise ValueError("a quantity with the system of its unit needs the unit's code too: number|system|code")
    if value.system is None or value.code is None:
        return f"={value.code}" if value.code else "", value.number
    factor, code = canonical(value.code) if value.system == UCUM else (Decimal(1), value.code)
    number = value.number
    if factor != 1:
        exact, low, high = (_EXACT.multiply(each, factor) for each in (number.value, number.low, number.high))
        number = replace(number, value=exact, low=low, high=high)
    return f"{value.system}|{code}", number


def matches(value: NumberValue, low: float, high: float) -> bool:
    """Section 3.1.1.4.6: whether what is stored, from `low` to `high`, is what is asked for; with `gt` and its like both are exact."""
    exact, least, most = float(value.value), float(value.low), float(value.high)
    match value.prefix:
        case "eq" | "ne":
            return (least <= low and (high < most or low < high == most)) == (value.prefix == "eq")
        case "gt":
            return high > exact
        case "lt":
            return low < exact
        case "ge":
            return high >= exact
        case "le":
            return low <= exact
        case "sa":
            return low > exact
        case "eb":
            return high < exact
        case "ap":
            return low <= most and high >= least


def _bounds(number: Number) -> tuple[Decimal, Decimal]:
    """A point; a Range says more than what the precision of its value implies."""
    if implied(number.value) == (number.low, number.high):
        return number.value, number.value
    return number.low, number.high


def _float(number: Decimal, factor: Decimal) -> float:
    found = float(number if factor == 1 else _EXACT.multiply(number, factor))
    return math.copysign(1e308, found) if math.isinf(found) else found

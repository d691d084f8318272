"""What a value of a FHIR type yields for each type of search parameter (the table of FHIR R4 section 3.1.1.4).

A reader takes the value, the system of its code (where a required binding names exactly one) and our base URL.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from functools import cache, lru_cache
from typing import Any, Final

from profiles.fhir.geography import AXES, point
from profiles.fhir.index import DateRange, Indexed, Number, Quantity, Reference, Token
from profiles.fhir.search_values import covered, implied, reference, sounds
from profiles.r4.definitions import Element, table

Json = Mapping[str, Any]
Reader = Callable[[Any, str, str], Sequence[Indexed]]
EARLIEST: Final = -(2**63)
LATEST: Final = 2**63 - 1
_CURRENCIES: Final = "urn:iso:std:iso:4217"
_LEAST: Final = Decimal("-1E300")
_GREATEST: Final = Decimal("1E300")

# --- tokens (section 3.1.1.4.10)


_known = lru_cache(maxsize=4096)(Token)
"""Codes come again and again."""


def _code(value: str, system: str, _: str) -> Sequence[Token]:
    return (_known(system, value) if system else Token("", value),)


def _boolean(value: bool, *_: str) -> Sequence[Token]:
    return (_known("", "true" if value else "false"),)


def _coding(value: Json, *_: str) -> Sequence[Token]:
    system, code = value.get("system", ""), value.get("code", "")
    return (_known(system, code),) if system or code else ()


def _concept(value: Json, *_: str) -> Sequence[Token]:
    return [token for coding in value.get("coding", ()) for token in _coding(coding)]


def _identifier(value: Json, *_: str) -> Sequence[Token]:
    """An identifier without a value has nothing to be found by."""
    if "value" not in value:
        return ()
    types = value["type"].get("coding", ()) if "type" in value else ()
    of_type = tuple([(each.get("system", ""), each["code"]) for each in types if "code" in each]) if types else ()
    return (Token(value.get("system", ""), value["value"], of_type),)


def _contact_point(value: Json, *_: str) -> Sequence[Token]:
    return (Token("", value["value"]),) if "value" in value else ()


def texts(value: Any, type_: str) -> Iterator[str]:
    """What `:text` looks at: displays of codings, the text of a concept and of an identifier's type."""
    if type_ == "Coding":
        yield from _present(value, "display")
    elif type_ == "CodeableConcept":
        yield from _present(value, "text")
        for coding in value.get("coding", ()):
            yield from _present(coding, "display")
    elif type_ == "Identifier" and "type" in value:
        yield from _present(value["type"], "text")


HAVE_TEXTS: Final = frozenset({"Coding", "CodeableConcept", "Identifier"})

# --- strings (3.1.1.4.8) and URIs (3.1.1.4.9)


def _string(value: str, *_: str) -> Sequence[str]:
    return (value,)


def _human_name(value: Json, *_: str) -> Sequence[str]:
    return _present(value, "text", "family", "given", "prefix", "suffix")


def _address(value: Json, *_: str) -> Sequence[str]:
    return _present(value, "text", "line", "city", "district", "state", "postalCode", "country")


def _present(value: Json, *names: str) -> Sequence[str]:
    """What those elements have. Places of arrays may be null."""
    found: list[str] = []
    for name in names:
        held = value.get(name)
        if isinstance(held, str):
            found.append(held)
        elif held:
            found += [each for each in held if each is not None]
    return found


def _canonical(value: str, *_: str) -> Sequence[str]:
    """With its version and without: who asks for a profile means any version of it."""
    return (value, value.partition("|")[0]) if "|" in value else (value,)


def _sounding(reader: Reader) -> Reader:
    def read(value: Any, system: str, base: str) -> Sequence[Indexed]:
        return [each for text in reader(value, system, base) for each in sounds(str(text))]

    return read


# --- dates (3.1.1.4.7)


def _date(value: str, *_: str) -> Sequence[DateRange]:
    try:
        return (DateRange(*covered(value)),)
    except ValueError:
        return ()  # of the right form, but no day of the calendar


def _period(value: Json, *_: str) -> Sequence[DateRange]:
    """A missing end is open (section 2.24.0.13)."""
    start, end = (_date(value[name]) if name in value else () for name in ("start", "end"))
    if not start and not end:
        return ()
    low = start[0].low if start else EARLIEST
    return (DateRange(low, max(low, end[0].high if end else LATEST)),)


def _timing(value: Json, *_: str) -> Sequence[DateRange]:
    """Only the outer limits matter."""
    found = [each for event in value.get("event", ()) if event is not None for each in _date(event)]
    found += _period(value.get("repeat", {}).get("boundsPeriod", {}))
    return (DateRange(min(each.low for each in found), max(each.high for each in found)),) if found else ()


# --- numbers (3.1.1.4.6) and quantities (3.1.1.4.11)


def _number(value: Any, *_: str) -> Sequence[Number]:
    """Decimals as they were written; what is beyond 64 digits or 1e300 can't be searched for."""
    exact = Decimal(repr(value) if isinstance(value, float) else value)
    try:
        return (Number(exact, *implied(exact)),)
    except ValueError:
        return ()


def _quantity(value: Json, *_: str) -> Sequence[Quantity]:
    if "value" not in value:
        return ()
    return [
        Quantity(each, value.get("system", ""), value.get("code", ""), value.get("unit", "")) for each in _number(value["value"])
    ]


def _money(value: Json, *_: str) -> Sequence[Quantity]:
    currency = value.get("currency", "")
    return (
        [Quantity(each, _CURRENCIES if currency else "", currency) for each in _number(value["value"])]
        if "value" in value
        else ()
    )


def _sampled(value: Json, *_: str) -> Sequence[Quantity]:
    return _quantity(value.get("origin", {}))


def _range(value: Json, *_: str) -> Sequence[Quantity]:
    """From its low to its high; a missing one is open."""
    low, high = _quantity(value.get("low", {})), _quantity(value.get("high", {}))
    if not low and not high:
        return ()
    unit = (low or high)[0]
    least = low[0].number.low if low else _LEAST
    number = Number(unit.number.value, least, max(least, high[0].number.high if high else _GREATEST))
    return (Quantity(number, unit.system, unit.code, unit.unit),)


def _numeric_range(value: Json, *_: str) -> Sequence[Number]:
    return [each.number for each in _range(value)]


# --- places (`near` of Location)


def _position(value: Json, *_: str) -> Sequence[Quantity]:
    """A place is three quantities, whose units are the axes of `geography.point`; one that is not on the earth is near to nothing."""
    try:
        place = point(value["latitude"], value["longitude"])
    except (KeyError, ValueError):
        return ()
    exact = (Decimal(repr(each)) for each in place)
    return [Quantity(Number(each, each, each), unit=axis) for axis, each in zip(AXES, exact, strict=True)]


# --- references (3.1.1.4.12)


@lru_cache(maxsize=4096)
def _led(text: str, base: str) -> Reference | None:
    """Kept, as most references stand under two parameters (`subject` and `patient`), and many in thousands of resources."""
    found = reference(text, base)
    return Reference(found.type, found.id, found.version, found.url) if found else None


def _url(value: str, _: str, base: str) -> Sequence[Reference]:
    """What is neither of a resource nor absolute leads nowhere that can be asked for; nor do fragments: what is contained has no id here."""
    found = _led(value, base)
    return (found,) if found else ()


def _reference(value: Json, _: str, base: str) -> Sequence[Reference]:
    found = _led(value["reference"], base) if "reference" in value else None
    identifier = _identifier(value["identifier"]) if "identifier" in value else ()
    if identifier:
        return (replace(found or Reference(value.get("type", "")), identifier=identifier[0]),)
    return (found,) if found else ()


def _resource(value: Json, *_: str) -> Sequence[Reference]:
    return (Reference(value["resourceType"], value["id"]),) if "id" in value else ()


# --- the table

_STRINGS: Final[Mapping[str, Reader]] = {
    "string": _string, "markdown": _string, "code": _string, "id": _string, "uri": _string, "HumanName": _human_name, "Address": _address,
}  # fmt: skip
_READERS: Final[Mapping[str, Mapping[str, Reader]]] = {
    "token": {
        "code": _code, "id": _code, "string": _code, "uri": _code, "url": _code, "oid": _code, "uuid": _code, "canonical": _code,
        "boolean": _boolean, "Coding": _coding, "CodeableConcept": _concept, "Identifier": _identifier, "ContactPoint": _contact_point,
    },
    "string": _STRINGS,
    "uri": dict.fromkeys(("uri", "url", "oid", "uuid", "string"), _string) | {"canonical": _canonical},
    "date": dict.fromkeys(("date", "dateTime", "instant"), _date) | {"Period": _period, "Timing": _timing},
    "number": dict.fromkeys(("integer", "positiveInt", "unsignedInt", "decimal"), _number) | {"Range": _numeric_range},
    "quantity": dict.fromkeys(("Quantity", "Age", "Duration", "Count", "Distance"), _quantity)
    | {"Money": _money, "SampledData": _sampled, "Range": _range},
    "special": {"Location.position": _position},
    "reference": dict.fromkeys(("canonical", "uri", "url", "oid", "uuid"), _url) | {"Reference": _reference, "Resource": _resource},
}  # fmt: skip


def reader(parameter: str, type_: str, *, phonetic: bool = False) -> Reader | None:
    """What reads values of a FHIR type for a parameter type; None where the standard has nothing for the two."""
    found = _READERS.get(parameter, {}).get(type_)
    return _sounding(found) if found and phonetic else found


# --- systems of codes


def system_of(element: Element | None) -> str:
    """Of an element of type code: the code system of its required binding, empty if there is none or more than one."""
    if element is None or element.binding is None or element.binding.strength != "required":
        return ""
    return _systems().get(element.binding.value_set, "")


@cache
def _systems() -> dict[str, str]:
    """Value set -> its code system, of those that have exactly one."""
    composed = table("terminology")["value_sets"]

    def of(url: str, seen: frozenset[str]) -> set[str]:
        found: set[str] = set()
        for part in composed.get(url, {}).get("include", ()) if url not in seen else ():
            found |= {part["system"]} if "system" in part else set()
            found |= {each for inner in part.get("value_sets", ()) for each in of(inner, seen | {url})}
        return found

    return {url: next(iter(systems)) for url in composed if len(systems := of(url, frozenset())) == 1}

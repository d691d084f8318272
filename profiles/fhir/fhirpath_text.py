"""The functions of FHIRPath on single values: conversion (section 5.5), strings (section 5.6) and mathematics (section 5.7)."""

import base64
import binascii
import math
from collections.abc import Callable
from decimal import ROUND_HALF_UP, Decimal, InvalidOperation
from functools import lru_cache
from typing import Any, Final

from pydantic_core import SchemaError, SchemaValidator, core_schema

from profiles.fhir.fhirpath_comparing import calendar_unit, is_moment, is_number, is_temporal, is_time, quantity
from profiles.fhir.fhirpath_run import LONGEST_TEXT, Evaluate, Frame, function, number, said, single, text, whole
from profiles.fhir.fhirpath_syntax import UNITS, PathError
from profiles.fhir.fhirpath_values import Node

Nodes = list[Node]
Arguments = tuple[Evaluate, ...]
_TRUE: Final = ("true", "t", "yes", "y", "1", "1.0")
_FALSE: Final = ("false", "f", "no", "n", "0", "0.0")


# --- section 5.5, conversion


def _to_boolean(node: Node) -> Node | None:
    value = node.value
    if isinstance(value, bool):
        return Node(value, "System.Boolean")
    word = str(value).lower() if isinstance(value, str) else f"{Decimal(str(value)).normalize():f}" if is_number(value) else ""
    return Node(word in _TRUE, "System.Boolean") if word in _TRUE + _FALSE else None


def _to_integer(node: Node) -> Node | None:
    value = node.value
    if isinstance(value, str) and value.lstrip("+-").isascii() and value.lstrip("+-").isdigit() and len(value) < 12:
        value = int(value) if value.count("+") + value.count("-") <= 1 else None
    return said(int(value))[0] if isinstance(value, int) and -(2**31) <= value < 2**31 else None


def _to_decimal(node: Node) -> Node | None:
    value = node.value
    if isinstance(value, bool):
        return Node(Decimal(value), "System.Decimal")
    if is_number(value):
        return Node(Decimal(str(value)), "System.Decimal")
    if isinstance(value, str) and _matches(r"^[+-]?[0-9]{1,40}(\.[0-9]{1,40})?$", value):
        return Node(Decimal(value), "System.Decimal")
    return None


def _to_string(node: Node) -> Node | None:
    value = node.value
    if (found := quantity(node)) and node.type == "System.Quantity":
        unit = found[1]
        return Node(f"{found[0]} {unit}" if unit in UNITS else f"{found[0]} '{unit}'", "System.String")
    if isinstance(value, bool):
        return Node("true" if value else "false", "System.String")
    return (
        Node(f"{value:f}" if isinstance(value, Decimal) else str(value), "System.String") if not isinstance(value, dict) else None
    )


def _to_moment(type_: str) -> Callable[[Node], Node | None]:
    def convert(node: Node) -> Node | None:
        value = node.value
        if not isinstance(value, str) or (is_temporal(node) and is_time(node) != (type_ == "System.Time")):
            return None
        if type_ == "System.Date" and is_temporal(node):
            value = value.partition("T")[0]
        return Node(value, type_) if is_moment(value, type_) else None

    return convert


def _to_quantity(node: Node) -> Node | None:
    if found := quantity(node):
        return Node({"value": found[0], "unit": found[1]}, "System.Quantity")
    if isinstance(node.value, str):
        value, _, unit = node.value.strip().partition(" ")
        unit = unit.strip()
        quoted = len(unit) > 2 and unit[0] == unit[-1] == "'"
        if not (quoted or not unit or unit in UNITS) or not (amount := _to_decimal(Node(value, "System.String"))):
            return None
        return Node({"value": amount.value, "unit": unit[1:-1] if quoted else unit.removesuffix("s") or "1"}, "System.Quantity")
    amount = _to_decimal(node)
    return Node({"value": amount.value, "unit": "1"}, "System.Quantity") if amount else None


def _enter_conversion(type_: str, convert: Callable[[Node], Node | None]) -> None:
    def converted(nodes: Nodes) -> Node | None:
        node = single(nodes)
        return convert(node) if node is not None and node.value is not None else None

    @function(f"to{type_}", 0, 1)
    def _to(frame: Frame, nodes: Nodes, arguments: Arguments) -> Nodes:
        found = converted(nodes)
        if found is None or not arguments:
            return [found] if found else []
        unit, has = text(arguments[0](frame)), quantity(found)
        return [found] if has and unit and calendar_unit(has[1]) == calendar_unit(unit) else []

    @function(f"convertsTo{type_}", 0, 1)
    def _converts_to(frame: Frame, nodes: Nodes, arguments: Arguments) -> Nodes:
        return said(bool(_to(frame, nodes, arguments))) if nodes else []


for _type, _convert in {
    "Boolean": _to_boolean, "Integer": _to_integer, "Decimal": _to_decimal, "String": _to_string, "Quantity": _to_quantity,
    "Date": _to_moment("System.Date"), "DateTime": _to_moment("System.DateTime"), "Time": _to_moment("System.Time"),
}.items():  # fmt: skip
    _enter_conversion(_type, _convert)


# --- section 5.6, strings


def _enter_text(name: str, arguments: int, apply: Callable[..., "bool | int | str | None"]) -> None:
    """A function of a text and of texts, empty where any of them is."""

    @function(name, arguments)
    def _apply(frame: Frame, nodes: Nodes, given: Arguments) -> Nodes:
        texts = [text(nodes), *(text(one(frame)) for one in given)]
        return said(None if None in texts else apply(*texts))


@lru_cache(maxsize=512)
def _pattern(pattern: str) -> SchemaValidator:
    """The Rust engine, that takes linear time: patterns come from clients. `.` also matches the ends of lines (FHIRPath section 5.6.9)."""
    if len(pattern) > 2_000:
        raise PathError("a regular expression has at most 2,000 characters")
    try:
        return SchemaValidator(core_schema.str_schema(pattern=f"(?s){pattern}"))
    except SchemaError:
        raise PathError("the regular expression can't be read; lookaround and references back are not supported") from None


def _matches(pattern: str, value: str) -> bool:
    return _pattern(pattern).isinstance_python(value)


def _replace_matches(value: str, pattern: str, substitute: str) -> str:
    """Leftmost and longest, by asking for each part whether it matches as a whole: slow, but no pattern makes it slower."""
    if len(value) > 500:
        raise PathError("replaceMatches() takes texts of at most 500 characters")
    if "$" in substitute:
        raise PathError("replaceMatches() has no references to groups here")
    whole_pattern = _pattern(f"^(?:{pattern})$")
    out, place = [], 0
    while place < len(value):
        end = next((end for end in range(len(value), place, -1) if whole_pattern.isinstance_python(value[place:end])), place)
        out.append(substitute if end > place else value[place])
        place = max(end, place + 1)
    return "".join(out)


def _replace(value: str, pattern: str, substitute: str) -> str:
    if len(value) + (value.count(pattern) + 1) * len(substitute) > LONGEST_TEXT:
        raise PathError("the expression makes a text that is too long")
    return value.replace(pattern, substitute)


def _decode(value: str, coding: str) -> str | None:
    try:
        match coding:
            case "hex":
                return bytes.fromhex(value).decode()
            case "base64":
                return base64.b64decode(value, validate=True).decode()
            case "urlbase64":
                return base64.b64decode(value, altchars=b"-_", validate=True).decode()
    except (ValueError, binascii.Error):
        return None
    return None


def _encode(value: str, coding: str) -> str | None:
    match coding:
        case "hex":
            return value.encode().hex()
        case "base64":
            return base64.b64encode(value.encode()).decode()
        case "urlbase64":
            return base64.urlsafe_b64encode(value.encode()).decode()
    return None


for _name, _count, _apply in (
    ("startsWith", 1, str.startswith), ("endsWith", 1, str.endswith), ("contains", 1, lambda value, part: part in value),
    ("indexOf", 1, str.find), ("upper", 0, str.upper), ("lower", 0, str.lower), ("trim", 0, str.strip), ("length", 0, len),
    ("replace", 2, _replace), ("matches", 1, lambda value, pattern: _matches(pattern, value)),
    ("matchesFull", 1, lambda value, pattern: _matches(f"^(?:{pattern})$", value)), ("replaceMatches", 2, _replace_matches),
    ("encode", 1, _encode), ("decode", 1, _decode),
):  # fmt: skip
    _enter_text(_name, _count, _apply)


@function("substring", 1, 2)
def _substring(frame: Frame, nodes: Nodes, arguments: Arguments) -> Nodes:
    value, start = text(nodes), whole(arguments[0](frame))
    length = whole(arguments[1](frame)) if len(arguments) > 1 else None
    if value is None or start is None or not 0 <= start < len(value):
        return []
    return said(value[start:] if length is None else value[start : start + max(0, length)])


@function("toChars")
def _to_chars(frame: Frame, nodes: Nodes, _: Arguments) -> Nodes:
    value = text(nodes) or ""
    frame.run.spend(len(value))
    return [Node(each, "System.String") for each in value]


@function("split", 1)
def _split(frame: Frame, nodes: Nodes, arguments: Arguments) -> Nodes:
    value, separator = text(nodes), text(arguments[0](frame))
    if value is None or not separator:
        return []
    frame.run.spend(value.count(separator))
    return [Node(each, "System.String") for each in value.split(separator)]


@function("join", 0, 1)
def _join(frame: Frame, nodes: Nodes, arguments: Arguments) -> Nodes:
    separator = (text(arguments[0](frame)) if arguments else "") or ""
    parts = [part for node in nodes if (part := text([node])) is not None]
    if sum(map(len, parts)) + len(separator) * len(parts) > LONGEST_TEXT:
        raise PathError("the expression makes a text that is too long")
    return said(separator.join(parts))


# --- section 5.7, mathematics


def _enter_number(name: str, arguments: int, apply: Callable[..., Any]) -> None:
    """A function of a number and of numbers; empty where any of them is, or where it has no value."""

    @function(name, arguments)
    def _apply(frame: Frame, nodes: Nodes, given: Arguments) -> Nodes:
        numbers = [number(nodes), *(number(one(frame)) for one in given)]
        if None in numbers:
            return []
        try:
            found: Any = apply(*numbers)
            return said(found)
        except (ArithmeticError, ValueError, InvalidOperation):
            return []


def _power(base: "int | Decimal", exponent: "int | Decimal") -> "int | Decimal":
    found = Decimal(base) ** Decimal(exponent)
    return (
        int(found) if isinstance(base, int) and isinstance(exponent, int) and exponent >= 0 and found.adjusted() < 10 else found
    )


_calculations: tuple[tuple[str, int, Callable[..., Any]], ...] = (
    ("ceiling", 0, math.ceil), ("floor", 0, math.floor), ("truncate", 0, int), ("exp", 0, lambda value: Decimal(value).exp()),
    ("ln", 0, lambda value: Decimal(value).ln()), ("log", 1, lambda value, base: Decimal(str(math.log(value, base)))),
    ("sqrt", 0, lambda value: Decimal(value).sqrt() if value >= 0 else None), ("power", 1, _power),
)  # fmt: skip
for _name, _count, _calculate in _calculations:
    _enter_number(_name, _count, _calculate)


@function("round", 0, 1)
def _round(frame: Frame, nodes: Nodes, arguments: Arguments) -> Nodes:
    value = number(nodes)
    digits = whole(arguments[0](frame)) if arguments else 0
    if value is None or digits is None:
        return []
    if not 0 <= digits <= 28:
        raise PathError("round() takes 0 to 28 digits")
    rounded: Decimal = Decimal(value).quantize(Decimal(1).scaleb(-digits), ROUND_HALF_UP)
    return said(rounded)


@function("abs")
def _abs(_: Frame, nodes: Nodes, __: Arguments) -> Nodes:
    node = single(nodes)
    if node is not None and node.type == "System.Quantity" and (found := quantity(node)):
        return [Node({"value": abs(found[0]), "unit": found[1]}, "System.Quantity")]
    value = number(nodes)
    positive: int | Decimal | None = None if value is None else max(value, -value)
    return said(positive)

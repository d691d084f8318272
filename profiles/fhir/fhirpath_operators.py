"""The operators of FHIRPath (section 6) on collections: equality, order, membership, logic and arithmetic."""

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, Final

from profiles.fhir.fhirpath_comparing import equal, is_number, is_temporal, key, order, quantity, shifted
from profiles.fhir.fhirpath_functions import distinct
from profiles.fhir.fhirpath_run import number, said, single, text
from profiles.fhir.fhirpath_values import Node

Nodes = list[Node]

LOGIC: Final[Mapping[str, Callable[[bool | None, bool | None], bool | None]]] = {
    "and": lambda one, other: False if one is False or other is False else None if one is None or other is None else True,
    "or": lambda one, other: True if one or other else None if one is None or other is None else False,
    "xor": lambda one, other: None if one is None or other is None else one != other,
    "implies": lambda one, other: True if one is False or other is True else None if one is None or other is None else False,
}
DECIDED: Final = {"and": False, "or": True, "implies": False}


def _equals(left: Nodes, right: Nodes) -> bool | None:
    if not left or not right:
        return None
    if len(left) != len(right):
        return False
    found = [equal(one, other) for one, other in zip(left, right, strict=True)]
    return False if False in found else None if None in found else True


def _equivalent(left: Nodes, right: Nodes) -> bool:
    """FHIRPath section 6.1.2, `~`: in any order, text without case and with single spaces, what can't be decided is not equivalent."""
    if len(left) != len(right):
        return False
    waiting = list(right)
    for one in left:
        found = next((place for place, other in enumerate(waiting) if _alike(one, other)), -1)
        if found < 0:
            return False
        waiting.pop(found)
    return True


def _alike(one: Node, other: Node) -> bool:
    if isinstance(one.value, str) and isinstance(other.value, str) and not (is_temporal(one) or is_temporal(other)):
        return " ".join(one.value.lower().split()) == " ".join(other.value.lower().split())
    if is_number(one.value) and is_number(other.value):
        numbers = [Decimal(str(each.value)) for each in (one, other)]
        places = max(min(-each.as_tuple().exponent for each in numbers), 0)  # type: ignore[operator]
        return round(numbers[0], places) == round(numbers[1], places)
    return equal(one, other) is True


def _compared(*wanted: int) -> Callable[[Nodes, Nodes], Nodes]:
    def compare(left: Nodes, right: Nodes) -> Nodes:
        one, other = single(left), single(right)
        if one is None or other is None:
            return []
        found = order(one, other)
        return said(None if found is None else found in wanted)

    return compare


def _in(left: Nodes, right: Nodes) -> Nodes:
    one = single(left)
    if one is None:
        return []
    mark = key(one)
    return said(any(key(other) == mark or equal(one, other) is True for other in right))


def _arithmetic(apply: Callable[[Any, Any], Any], signs: int = 0) -> Callable[[Nodes, Nodes], Nodes]:
    """Numbers; with `signs` 1 and -1 (plus and minus) also texts, dates with quantities, and quantities of one unit."""

    def calculate(left: Nodes, right: Nodes) -> Nodes:
        one, other = single(left), single(right)
        if one is None or other is None:
            return []
        amount = quantity(other)
        if signs and is_temporal(one) and amount:
            moved = shifted(one, signs * amount[0], amount[1])
            return [moved] if moved else []
        if signs and amount and (mine := quantity(one)):
            return (
                [Node({"value": apply(mine[0], amount[0]), "unit": mine[1]}, "System.Quantity")] if mine[1] == amount[1] else []
            )
        if signs > 0 and isinstance(one.value, str) and isinstance(other.value, str):
            return said(one.value + other.value)
        a, b = number(left), number(right)
        try:
            return said(None if a is None or b is None else apply(a, b))
        except ArithmeticError:
            return []

    return calculate


def _mixed(apply: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    return lambda one, other: (
        apply(one, other) if isinstance(one, int) and isinstance(other, int) else apply(Decimal(one), Decimal(other))
    )


def _whole_quotient(one: "int | Decimal", other: "int | Decimal") -> int:
    return (
        int(Decimal(one) / Decimal(other))
        if isinstance(one, Decimal) or isinstance(other, Decimal)
        else int(Decimal(one) / other)
    )


def _remainder(one: "int | Decimal", other: "int | Decimal") -> "int | Decimal":
    return one - other * _whole_quotient(one, other)


def _negated(found: bool | None) -> Nodes:
    return said(None if found is None else not found)


OPERATORS: Final[Mapping[str, Callable[[Nodes, Nodes], Nodes]]] = {
    "=": lambda left, right: said(_equals(left, right)),
    "!=": lambda left, right: _negated(_equals(left, right)),
    "~": lambda left, right: said(_equivalent(left, right)),
    "!~": lambda left, right: _negated(_equivalent(left, right)),
    "<": _compared(-1),
    "<=": _compared(-1, 0),
    ">": _compared(1),
    ">=": _compared(1, 0),
    "|": lambda left, right: distinct(left + right),
    "in": _in,
    "contains": lambda left, right: _in(right, left),
    "&": lambda left, right: said((text(left) or "") + (text(right) or "")),
    "+": _arithmetic(_mixed(lambda one, other: one + other), 1),
    "-": _arithmetic(_mixed(lambda one, other: one - other), -1),
    "*": _arithmetic(_mixed(lambda one, other: one * other)),
    "/": _arithmetic(lambda one, other: round(Decimal(one) / Decimal(other), 8)),
    "div": _arithmetic(_whole_quotient),
    "mod": _arithmetic(_remainder),
}

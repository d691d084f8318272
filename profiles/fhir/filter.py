"""The `_filter` parameter (FHIR R4 section 3.1.3): its grammar, and what it means as conditions.

`and` and `or` are evaluated from left to right, without precedence, as the standard has it; values are not case sensitive.
"""

import json
import re
from dataclasses import dataclass
from typing import Final

from profiles.fhir.query import All, AnyOf, Condition, Criterion, DateValue, Missing, Not, Text
from profiles.fhir.search_conditions import LONGEST_CHAIN, Conditions, ParameterError, sounding
from profiles.fhir.search_values import PHONETIC, escaped, value
from profiles.r4.search import Parameter

LONGEST: Final = 4000
DEEPEST: Final = 32
NAME: Final = "_filter"
_ORDERED: Final = ("gt", "lt", "ge", "le", "ap", "sa", "eb")
OPERATORS: Final = ("eq", "ne", "co", "sw", "ew", *_ORDERED, "pr", "po", "ss", "sb", "in", "ni", "re")
_BY_TYPE: Final = {
    "string": {"eq", "co", "sw", "ew"},
    "token": {"eq", "ss", "sb", "in", "ni"},
    "reference": {"eq", "re"},
    "uri": {"eq", "ss", "sb"},
    "date": {"eq", "po", *_ORDERED},
    "number": {"eq", *_ORDERED},
    "quantity": {"eq", *_ORDERED},
    "composite": {"eq"},
    "special": {"eq"},
}
_MODIFIERS: Final = {"co": "contains", "ew": "ends", "ss": "below", "sb": "above", "in": "in", "ni": "not-in", "po": "overlaps"}
_NAME: Final = re.compile(r"[_A-Za-z][\w-]*(?::[_A-Za-z][\w-]*)*", re.ASCII)
_STRING: Final = re.compile(r'"(?:[^"\\\x00-\x1f]|\\.)*"')
_TOKEN: Final = re.compile(r"[^\s)\]]+")
_BLANKS: Final = re.compile(r"\s*")


@dataclass(frozen=True, slots=True)
class Step:
    """A name on a path, with a filter that the resource it leads to has to meet (`name[filter]`)."""

    name: str
    place: int
    filter: "Node | None" = None


@dataclass(frozen=True, slots=True)
class Comparison:
    """`path operator value`."""

    path: tuple[Step, ...]
    operator: str
    value: str
    place: int
    depth: int


@dataclass(frozen=True, slots=True)
class Joined:
    """`operator` is `and` or `or`."""

    operator: str
    parts: "tuple[Node, ...]"
    depth: int


@dataclass(frozen=True, slots=True)
class Negated:
    of: "Node"
    depth: int


Node = Comparison | Joined | Negated


def condition(text: str, types: tuple[str, ...], conditions: Conditions) -> Condition:
    """What a filter says of resources of those types. Raises `ParameterError`, which says at which character."""
    found = parsed(text)
    conditions.count(_comparisons(found), NAME)
    return _meant(found, types, conditions, 0)


def _comparisons(node: Node) -> int:
    if isinstance(node, Negated):
        return _comparisons(node.of)
    if isinstance(node, Joined):
        return sum(_comparisons(part) for part in node.parts)
    return 1 + sum(_comparisons(step.filter) for step in node.path if step.filter)


# --- grammar


def parsed(text: str) -> Node:
    """The filter as a tree. Raises `ParameterError`: longer than 4,000 characters, deeper than 32, or not of the grammar."""
    if len(text) > LONGEST:
        raise ParameterError(NAME, "too-long", f"A filter has at most {LONGEST} characters.")
    reader = _Reader(text)
    found = reader.filter(0)
    if not reader.at_end():
        raise reader.wrong("'and', 'or' or the end")
    return found


class _Reader:
    def __init__(self, text: str) -> None:
        self._text = text
        self._place = _blanks(text, 0)

    def at_end(self) -> bool:
        return self._place == len(self._text)

    def wrong(self, expected: str) -> ParameterError:
        return ParameterError(NAME, "value", f"At character {self._place + 1} of the filter {expected} is expected.")

    def filter(self, depth: int) -> Node:
        """Parts joined by `and` and `or`: from the left, without precedence, so that each change between them nests once more."""
        self._check_depth(depth)
        left = self._part(depth)
        while operator := self._word("and", "or"):
            right = self._part(depth)
            if isinstance(left, Joined) and left.operator == operator:
                left = Joined(operator, (*left.parts, right), max(left.depth, right.depth + 1))
            else:
                left = Joined(operator, (left, right), max(left.depth, right.depth) + 1)
            self._check_depth(left.depth)
        return left

    def _check_depth(self, depth: int) -> None:
        if depth > DEEPEST:
            detail = f"At character {self._place + 1} the filter is nested deeper than {DEEPEST}, or changes between 'and' and 'or' too often."
            raise ParameterError(NAME, "too-costly", detail)

    def _part(self, depth: int) -> Node:
        start = self._place
        if self._word("not"):
            if self._symbol("("):
                inner = self._closed(depth, ")")
                return Negated(inner, inner.depth + 1)
            self._place = start  # a parameter may have that name
        if self._symbol("("):
            return self._closed(depth, ")")
        return self._test(depth)

    def _closed(self, depth: int, end: str) -> Node:
        found = self.filter(depth + 1)
        if not self._symbol(end):
            raise self.wrong(f"'{end}'")
        return found

    def _test(self, depth: int) -> Comparison:
        start, path = self._place, [self._step(depth)]
        while self._text[self._place : self._place + 1] == ".":
            self._place += 1
            path.append(self._step(depth))
            if len(path) > LONGEST_CHAIN + 1:
                raise ParameterError(NAME, "too-costly", f"Chains are followed over at most {LONGEST_CHAIN} references.")
        self._place = _blanks(self._text, self._place)
        operator = self._word(*OPERATORS)
        if not operator:
            raise self.wrong(f"one of {', '.join(OPERATORS)}")
        inside = max((step.filter.depth + 1 for step in path if step.filter), default=1)
        return Comparison(tuple(path), operator, self._value(), start, inside)

    def _step(self, depth: int) -> Step:
        start, found = self._place, _NAME.match(self._text, self._place)
        if not found:
            raise self.wrong("the name of a search parameter")
        self._place = found.end()
        if self._text[self._place : self._place + 1] != "[":
            return Step(found.group(), start)
        self._symbol("[")
        inner = self._closed(depth, "]")
        if self._text[self._place : self._place + 1] != ".":
            raise self.wrong("'.' and what is asked of what the brackets choose")
        return Step(found.group(), start, inner)

    def _value(self) -> str:
        if self._text[self._place : self._place + 1] == '"':
            found = _STRING.match(self._text, self._place)
            if not found:
                raise self.wrong('a string that ends with "')
            try:
                plain = str(json.loads(found.group()))
            except ValueError as error:
                raise self.wrong("a string as in JSON") from error
        else:
            found = _TOKEN.match(self._text, self._place)
            if not found:
                raise self.wrong("a value")
            plain = found.group()
        self._place = _blanks(self._text, found.end())
        return plain

    def _word(self, *words: str) -> str:
        """A word that a blank, a bracket or the end follows."""
        for word in words:
            end = self._place + len(word)
            if self._text.startswith(word, self._place) and (end == len(self._text) or self._text[end] in ' \t\r\n("'):
                self._place = _blanks(self._text, end)
                return word
        return ""

    def _symbol(self, symbol: str) -> bool:
        if not self._text.startswith(symbol, self._place):
            return False
        self._place += 1
        if symbol != "]":  # what follows it is part of the same path
            self._place = _blanks(self._text, self._place)
        return True


def _blanks(text: str, place: int) -> int:
    found = _BLANKS.match(text, place)
    return found.end() if found else place


# --- meaning


def _meant(node: Node, types: tuple[str, ...], conditions: Conditions, depth: int) -> Condition:
    if isinstance(node, Negated):
        return Not(_meant(node.of, types, conditions, depth))
    if isinstance(node, Joined):
        parts = tuple(_meant(part, types, conditions, depth) for part in node.parts)
        return All(parts) if node.operator == "and" else AnyOf(parts)
    return _followed(node, node.path, types, conditions, depth)


def _followed(test: Comparison, path: tuple[Step, ...], types: tuple[str, ...], conditions: Conditions, depth: int) -> Condition:
    """Along the path; a reference leads to what the rest and, if there is one, the filter in brackets are true of."""
    step, rest = path[0], path[1:]
    if depth > LONGEST_CHAIN:
        raise ParameterError(NAME, "too-costly", f"Chains are followed over at most {LONGEST_CHAIN} references.")

    def there(type_: str) -> Condition:
        found = _followed(test, rest, (type_,), conditions, depth + 1)
        if step.filter is None:
            return found
        return All((_meant(step.filter, (type_,), conditions, depth + 1), found))

    try:
        if step.name.startswith("_has:"):
            return conditions.reverse(
                types, step.name, lambda type_, name: _had(test, Step(name, step.place), rest, type_, conditions, depth)
            )
        if rest:
            return conditions.chain(types, step.name, rest[0].name, there)
        return _tested(test, types, step, conditions)
    except ParameterError as error:
        if error.parameter == NAME:
            raise
        raise ParameterError(NAME, error.code, f"At character {step.place + 1} of the filter: {error.detail}") from error


def _had(test: Comparison, step: Step, rest: tuple[Step, ...], type_: str, conditions: Conditions, depth: int) -> Condition:
    return _followed(test, (step, *rest), (type_,), conditions, depth + 1)


def _tested(test: Comparison, types: tuple[str, ...], step: Step, conditions: Conditions) -> Condition:
    parameter = conditions.parameter(types, step.name, step.name)
    if test.operator == "ne":
        return Not(_criterion(parameter, "eq", test, conditions))
    return _criterion(parameter, test.operator, test, conditions)


def _criterion(parameter: Parameter, operator: str, test: Comparison, conditions: Conditions) -> Condition:
    """The table of operators in section 3.1.3, each as a modifier or a prefix of an ordinary search."""
    if operator == "pr":
        if test.value not in ("true", "false"):
            raise ParameterError(NAME, "value", f"At character {test.place + 1} of the filter: pr takes true or false.")
        return Criterion(parameter, "missing", (Missing(test.value == "false"),))
    possible = {"eq"} if parameter.code == PHONETIC else _BY_TYPE[parameter.type]
    if operator not in possible:
        allowed = ", ".join(sorted(possible | {"ne", "pr"}))
        raise ParameterError(
            NAME, "not-supported",
            f"At character {test.place + 1} of the filter: {operator} does not go with the type {parameter.type}; {allowed} do.",
        )  # fmt: skip
    if parameter.code == PHONETIC:
        return sounding(parameter, [test.value])
    if parameter.type in ("string", "uri"):
        whole = operator == "eq" and parameter.type == "string"
        return Criterion(parameter, "equals" if whole else _MODIFIERS.get(operator, ""), (Text(test.value),))
    return _valued(parameter, operator, test, conditions)


def _valued(parameter: Parameter, operator: str, test: Comparison, conditions: Conditions) -> Condition:
    modifier = _MODIFIERS.get(operator, "")
    text = (operator if operator in _ORDERED else "") + (escaped(test.value) if operator in ("in", "ni") else test.value)
    if parameter.type in ("date", "number", "quantity") and operator not in _ORDERED and text[:1].isalpha():
        raise ParameterError(NAME, "value", f"At character {test.place + 1} of the filter: the operator stands before the value.")
    try:
        found = value(text, parameter, modifier if modifier in ("in", "not-in") else "", conditions.base, conditions.now)
    except ValueError as error:
        raise ParameterError(NAME, "value", f"At character {test.place + 1} of the filter: {error}.") from error
    if isinstance(found, DateValue) and operator == "po":
        found = DateValue("eq", found.start, found.end)
    return Criterion(parameter, modifier, (found,))

"""Names and values of a search request as conditions (FHIR R4 section 3.1.1.4): modifiers, chains, `_has`."""

import difflib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Final

from profiles.fhir.expression import targets
from profiles.fhir.query import All, AnyOf, Chain, Condition, Criterion, Reverse, Text
from profiles.fhir.search_values import PHONETIC, modifiers, sounds, split, unescaped, value
from profiles.r4.definitions import resource_types
from profiles.r4.search import Parameter, parameters

LONGEST_CHAIN: Final = 8
MOST_VALUES: Final = 500
MOST_WAYS: Final = 1000
_MOST_NAMED: Final = 60
_LONGEST_NAME: Final = 200
_R4: Final = "http://hl7.org/fhir/SearchParameter/"
TEXTS: Final[Mapping[str, Parameter]] = {
    "_text": Parameter("_text", "string", f"{_R4}DomainResource-text", "", ()),
    "_content": Parameter("_content", "string", f"{_R4}Resource-content", "", ()),
    "_list": Parameter("_list", "reference", f"{_R4}Resource-list", "", (), ("List",)),
}
"""Parameters of all types that have no expression (section 3.1.1.4.16 to 3.1.1.4.18): whole texts, and membership of a List."""


class ParameterError(ValueError):
    """One parameter that a search is refused for. `code` is of FHIR's issue-type; `detail` says what is wrong and what to do.

    `is_unknown`: nobody here knows its name, which a lenient client lets pass (section 3.1.1.1).
    """

    def __init__(self, parameter: str, code: str, detail: str, *, is_unknown: bool = False) -> None:
        super().__init__(detail)
        self.parameter, self.code, self.detail, self.is_unknown = parameter, code, detail, is_unknown


class Conditions:
    """Reads conditions for one request, and counts what they cost. `custom` are further parameters: type, code, parameter."""

    def __init__(self, base: str, now: int, custom: Mapping[str, Mapping[str, Parameter]]) -> None:
        self.base, self.now, self._custom = base, now, custom
        self._values = 0
        self._ways = 0

    # --- parameters

    def offered(self, type_: str) -> Mapping[str, Parameter]:
        """The parameters of a resource type by code, but those of whole texts, which hardly any server has."""
        return {"_list": TEXTS["_list"], **parameters(type_), **self._custom.get(type_, {})}

    def parameter(self, types: tuple[str, ...], code: str, name: str) -> Parameter:
        """The parameter `code` that all of `types` have; `name` is what the client wrote. Raises `ParameterError`."""
        found = [each for type_ in types if (each := self.find(type_, code))]
        if len(found) < len(types) or len({each.type for each in found}) > 1:
            raise self._unknown(types, code, name)
        if len(found) == 1 or found[0].code in TEXTS:
            return found[0]
        bases = tuple(dict.fromkeys(base for each in found for base in each.bases))
        leads = () if any(not each.targets for each in found) else tuple(sorted({to for each in found for to in each.targets}))
        return replace(found[0], bases=bases, targets=leads)

    def find(self, type_: str, code: str) -> Parameter | None:
        """The parameter of a type by its code, or None."""
        return self._custom.get(type_, {}).get(code) or parameters(type_).get(code) or TEXTS.get(code)

    def _unknown(self, types: tuple[str, ...], code: str, name: str) -> ParameterError:
        """With what it may have meant, and what there is."""
        known = set(self.offered(types[0])).intersection(*(self.offered(type_) for type_ in types[1:]))
        detail = (
            f"{types[0]} has no search parameter of that name." if len(types) == 1
            else "Not all of the types that are searched have a search parameter of that name."
        )  # fmt: skip
        return ParameterError(name, "not-supported", f"{detail} {suggestion(code, known)}", is_unknown=True)

    def reference(self, types: tuple[str, ...], code: str, name: str) -> Parameter:
        """The same, of a parameter that leads to other resources."""
        found = self.parameter(types, code, name)
        if found.type != "reference":
            raise ParameterError(name, "invalid", f"Only references are followed; {found.code} is of the type {found.type}.")
        return found

    # --- conditions

    def condition(self, types: tuple[str, ...], name: str, text: str, depth: int = 0) -> Condition:
        """One parameter with its value. Raises `ParameterError`."""
        if depth > LONGEST_CHAIN:
            raise ParameterError(name, "too-costly", f"Chains are followed over at most {LONGEST_CHAIN} references.")
        if name.startswith("_has:"):
            return self.reverse(types, name, lambda type_, rest: self.condition((type_,), rest, text, depth + 1))
        head, dot, rest = name.partition(".")
        if dot:
            return self.chain(types, head, rest, lambda type_: self.condition((type_,), rest, text, depth + 1))
        code, _, modifier = name.partition(":")
        return self.criterion(types, self.parameter(types, code, name), modifier, text, name)

    def criterion(self, types: tuple[str, ...], parameter: Parameter, modifier: str, text: str, name: str) -> Condition:
        """Values joined by commas, any of which may match (section 3.1.1.4.4)."""
        self._check_modifier(types, parameter, modifier, name)
        texts = split(text, ",")
        self._count_ways(len(texts) - 1, name)
        if not all(texts):
            raise ParameterError(name, "value", "A value is empty. Leave the parameter out, or escape commas as \\,")
        if parameter.code == PHONETIC and not modifier:
            return sounding(parameter, [unescaped(each) for each in texts])
        if modifier == "missing" and len(texts) > 1:
            raise ParameterError(name, "value", "What :missing takes is true or false.")
        try:
            values = tuple(value(each, parameter, modifier, self.base, self.now) for each in texts)
        except ValueError as error:
            raise ParameterError(name, "value", _sentence(error)) from error
        return Criterion(parameter, modifier, values)

    def count(self, values: int, name: str) -> None:
        """Raises `ParameterError` when a request has more than 500 values."""
        self._values += values
        if self._values > MOST_VALUES:
            raise ParameterError(name, "too-costly", f"A search may have {MOST_VALUES} values in all. Ask in several searches.")

    def _check_modifier(self, types: tuple[str, ...], parameter: Parameter, modifier: str, name: str) -> None:
        allowed = modifiers(parameter)
        if modifier in allowed:
            return
        if parameter.type == "reference" and modifier in resource_types() and parameter.code not in TEXTS:
            if any(modifier in targets(parameter, type_) for type_ in types):
                return
            raise ParameterError(name, "invalid", f"{parameter.code} does not lead to that type. {self._leads(types, parameter)}")
        has = ", ".join(f":{each}" for each in sorted(allowed - {""})) or "none"
        also = " and, for the type that it leads to, the name of one" if parameter.type == "reference" else ""
        raise ParameterError(
            name, "not-supported", f"A {parameter.type} parameter has not that modifier. Those of {parameter.code}: {has}{also}."
        )  # fmt: skip

    def _leads(self, types: Iterable[str], parameter: Parameter) -> str:
        found = sorted({to for type_ in types for to in targets(parameter, type_)})
        return f"It leads to {', '.join(found[:_MOST_NAMED])}."

    # --- along references

    def chain(self, types: tuple[str, ...], head: str, rest: str, make: Callable[[str], Condition]) -> Condition:
        """Section 3.1.1.4.13: `head` is a reference parameter, with `:Type` or without; `make` reads what a resource of a type has to meet.

        Without a type: all that it can lead to, of those that have the next parameter. Raises `ParameterError`.
        """
        code, _, type_ = head.partition(":")
        parameter = self.reference(types, code, head)
        leads = sorted({to for each in types for to in targets(parameter, each)})
        if type_ and type_ not in leads:
            raise ParameterError(head, "invalid", f"{code} does not lead to that type. {self._leads(types, parameter)}")
        following = rest.partition(".")[0].partition(":")[0]
        candidates = [type_] if type_ else [each for each in leads if following == "_has" or self.find(each, following)]
        if not candidates:
            known = {name for each in leads for name in self.offered(each)}
            detail = f"Nothing that {code} leads to has the next parameter. {suggestion(following, known)}"
            raise ParameterError(head, "not-supported", detail, is_unknown=True)
        conditions: list[tuple[str, Condition]] = []
        refused: ParameterError | None = None
        for each in candidates:
            self._count_ways(1, head)
            try:
                conditions.append((each, make(each)))
            except ParameterError as error:
                if error.code == "too-costly":
                    raise
                refused = refused or error
        if not conditions and refused:
            raise refused
        return Chain(parameter, tuple(conditions))

    def reverse(self, types: tuple[str, ...], name: str, make: Callable[[str, str], Condition]) -> Condition:
        """Section 3.1.1.4.14: `_has:Type:reference:name`; `make` reads what a resource of the type has to meet by the rest of the name."""
        parts = name.split(":", 3)
        if len(parts) < 4 or parts[1] not in resource_types():
            raise ParameterError(name, "invalid", "Write _has:Type:reference:parameter, such as _has:Observation:patient:code.")
        _, type_, code, rest = parts
        parameter = self.reference((type_,), code, name)
        if not targets(parameter, type_) & set(types):
            raise ParameterError(
                name, "invalid", f"{type_}'s {code} does not lead to what is searched for. {self._leads((type_,), parameter)}"
            )
        self._count_ways(1, name)
        return Reverse(type_, parameter, make(type_, rest))

    def _count_ways(self, ways: int, name: str) -> None:
        self._ways += ways
        if self._ways > MOST_WAYS:
            raise ParameterError(
                name,
                "too-costly",
                "There are too many ways to follow. Name types, such as subject:Patient.name, or ask for less.",
            )


def suggestion(code: str, known: Iterable[str]) -> str:
    """What a name may have meant, and what there is."""
    names = sorted(known)
    close = difflib.get_close_matches(code[:64], names, 3)
    meant = f"Did you mean {' or '.join(close)}? " if close else ""
    return f"{meant}There are: {', '.join(names[:_MOST_NAMED])}."


def sounding(parameter: Parameter, texts: list[str]) -> Condition:
    """Every word of a value has to sound like one of the name. Raises `ParameterError` for more than names have."""
    if any(len(text) > _LONGEST_NAME for text in texts):
        raise ParameterError(parameter.code, "too-long", f"A name to sound like has at most {_LONGEST_NAME} characters.")
    each = tuple(All(tuple(Criterion(parameter, "", (Text(sound),)) for sound in sounds(text))) for text in texts)
    return each[0] if len(each) == 1 else AnyOf(each)


def _sentence(error: ValueError) -> str:
    text = str(error)
    return f"{text[:1].upper()}{text[1:]}."

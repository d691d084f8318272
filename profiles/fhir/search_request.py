"""A search request as a tree (FHIR R4 section 3.1.1): what stands behind the `?`, read into `profiles.fhir.query.Search`.

Nothing is ignored in silence: what is wrong is told, all of it at once, unless a lenient client lets unknown names pass.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, get_args

from profiles.fhir import filter as filters
from profiles.fhir.expression import targets
from profiles.fhir.issues import a
from profiles.fhir.query import All, Condition, Criterion, Include, InCompartment, ReferenceValue, Search, SortKey, Summary, Total
from profiles.fhir.search_conditions import LONGEST_CHAIN, TEXTS, Conditions, ParameterError, suggestion
from profiles.fhir.search_values import split
from profiles.r4.definitions import resource_types, type_
from profiles.r4.search import Parameter, compartment, compartments

MOST_PARAMETERS: Final = 100
MOST_INCLUDES: Final = 50
MOST_SORT_KEYS: Final = 10
_LONGEST_NAME: Final = 500
_MOST_COUNT: Final = 999_999_999
_ID: Final = re.compile(r"[A-Za-z0-9.-]{1,64}", re.ASCII)
_ITERATE: Final = ("iterate", "recurse")
_CONTAINED: Final = ("false", "true", "both")


class SearchRefused(ValueError):
    """A search with something wrong in it: `errors` has all that was found."""

    def __init__(self, errors: Sequence[ParameterError]) -> None:
        super().__init__("; ".join(each.detail for each in errors))
        self.errors = tuple(errors)


def read(
    types: tuple[str, ...],
    parameters: Sequence[tuple[str, str]],
    *,
    base: str,
    now: int,
    lenient: bool = False,
    custom: Mapping[str, Mapping[str, Parameter]] = {},
) -> Search:
    """A search of `types`: one, or at system level all that may be searched, of which `_type` chooses.

    `parameters` are names and values in their order, decoded; `base` is our own URL, `now` microseconds since 1970; `custom` are parameters
    beyond the standard's (type, code, parameter). Raises `SearchRefused`.
    """
    if len(parameters) > MOST_PARAMETERS:
        error = ParameterError("", "too-costly", f"A search may have {MOST_PARAMETERS} parameters. Join values with commas.")
        raise SearchRefused([error])
    reader = _Request(types, Conditions(base, now, custom))
    errors: list[ParameterError] = []
    ignored: list[tuple[str, str]] = []
    for name, text in sorted(parameters, key=lambda each: each[0] != "_type"):
        try:
            reader.take(name, text)
        except ParameterError as error:
            if lenient and error.is_unknown and not name.startswith("_filter"):
                ignored.append((name, text))
            else:
                errors.append(ParameterError(name[:_LONGEST_NAME], error.code, error.detail, is_unknown=error.is_unknown))
    if errors:
        raise SearchRefused(errors)
    understood = tuple(each for each in parameters if each not in ignored and each[0] != "_cursor")
    return replace(reader.search(), understood=understood, ignored=tuple(dict.fromkeys(name for name, _ in ignored)))


def in_compartment(search: Search, name: str, id_: str) -> Search:
    """Section 3.1.1.1.2: only what is in the compartment of the resource `name`/`id_`; of several types those that can be.

    Raises `SearchRefused` where none can.
    """
    if name not in compartments():
        detail = f"{name} has no compartment; {', '.join(compartments())} have."
        raise SearchRefused([ParameterError(name, "not-supported", detail)])
    members = compartment(name)
    types = tuple(each for each in search.types if each == name or each in members)
    if not types or not _ID.fullmatch(id_):
        detail = f"Nothing of what is searched for is ever in the compartment of {a(name)}."
        raise SearchRefused([ParameterError(name, "not-supported", detail)])
    return replace(search, types=types, condition=All((InCompartment(name, id_), *search.condition.conditions)))


@dataclass(slots=True)
class _Request:
    """One request as it is read: conditions that are met, and what the answer shall be like (by the names of `Search`)."""

    types: tuple[str, ...]
    conditions: Conditions
    met: list[Condition] = field(default_factory=list)
    includes: list[Include] = field(default_factory=list)
    results: dict[str, Any] = field(default_factory=dict)
    seen: set[str] = field(default_factory=set)

    def take(self, name: str, text: str) -> None:
        """One parameter. Raises `ParameterError`."""
        if len(name) > _LONGEST_NAME:
            raise ParameterError(name, "too-long", f"The name of a parameter has at most {_LONGEST_NAME} characters.")
        code, _, modifier = name.partition(":")
        if not text:
            raise ParameterError(name, "value", "The parameter has no value. Leave it out.")
        if code in ("_include", "_revinclude"):
            self._include(code, modifier, text)
        elif code in _RESULTS:
            self._result(name, code, text)
        elif name == "_filter":
            self.met.append(filters.condition(text, self.types, self.conditions))
        elif code in ("_list", "_query", "_filter"):
            self.met.append(self._special(name, code, text))
        else:
            self.conditions.count(len(split(text, ",")), name)
            self.met.append(self.conditions.condition(self.types, name, text))

    def search(self) -> Search:
        """All that has been read."""
        return Search(self.types, All(tuple(self.met)), includes=tuple(dict.fromkeys(self.includes)), **self.results)

    def _result(self, name: str, code: str, text: str) -> None:
        """Section 3.1.1.5: how the answer shall be; each once."""
        if name != code:
            raise ParameterError(name, "not-supported", f"{code} has no modifiers.")
        if code in self.seen:
            raise ParameterError(name, "invalid", f"{code} stands there more than once.")
        self.seen.add(code)
        if code == "_type":
            self.types = _types(text, self.types)
        elif code == "_sort":
            keys = _limited(text, MOST_SORT_KEYS, name)
            self.results["sort"] = tuple(_sort_key(each, self.types, self.conditions) for each in keys)
        elif code == "_elements":
            self.results["elements"] = _elements(text, self.types)
        elif code in _VALUES:
            into, read_one = _VALUES[code]
            self.results[into] = read_one(text, code)

    def _special(self, name: str, code: str, text: str) -> Condition:
        """Section 3.1.1.4.18, `_list`; and what is not offered."""
        if code == "_query":
            raise ParameterError(
                name, "not-supported", "Named queries are not offered. Ask with the search parameters of the type."
            )
        if name != code:
            raise ParameterError(name, "not-supported", f"{code} has no modifiers.")
        if text.startswith("$"):
            raise ParameterError(
                name, "not-supported", "Functional lists such as $current-allergies are not offered. Give the id of a List."
            )
        if not _ID.fullmatch(text):
            raise ParameterError(name, "value", "The id of a List is expected.")
        return Criterion(TEXTS["_list"], "", (ReferenceValue("List", text),))

    def _include(self, code: str, modifier: str, text: str) -> None:
        name = f"{code}:{modifier}" if modifier else code
        if modifier and modifier not in _ITERATE:
            raise ParameterError(name, "not-supported", f"The modifier of {code} is :iterate.")
        if len(self.includes) == MOST_INCLUDES:
            raise ParameterError(name, "too-costly", f"A search may have {MOST_INCLUDES} of _include and _revinclude together.")
        self.includes.append(_include(name, text, bool(modifier), code == "_revinclude", self.conditions))


# --- result parameters


def _one_of(*allowed: str) -> Callable[[str, str], str]:
    def read_one(text: str, code: str) -> str:
        if text not in allowed:
            raise ParameterError(code, "value", f"{code} is one of {', '.join(allowed)}.")
        return text

    return read_one


def _count(text: str, code: str) -> int:
    if not re.fullmatch(r"\d{1,9}", text, re.ASCII):
        raise ParameterError(code, "value", f"_count is a number from 0 to {_MOST_COUNT}.")
    return int(text)


_VALUES: Final[Mapping[str, tuple[str, Callable[[str, str], Any]]]] = {
    "_count": ("count", _count),
    "_total": ("total", _one_of(*filter(None, get_args(Total)))),
    "_summary": ("summary", _one_of(*filter(None, get_args(Summary)))),
    "_contained": ("contained", _one_of(*_CONTAINED)),
    "_containedType": ("contained_type", _one_of("container", "contained")),
    "_cursor": ("cursor", lambda text, _: text),
}
_RESULTS: Final = frozenset({*_VALUES, "_type", "_sort", "_elements", "_format", "_pretty"})


def _limited(text: str, most: int, name: str) -> list[str]:
    """Names joined by commas."""
    found = split(text, ",")
    if not all(found):
        raise ParameterError(name, "value", f"{name} has names joined by commas; one is empty.")
    if len(found) > most:
        raise ParameterError(name, "too-costly", f"{name} has at most {most} names.")
    return found


def _types(text: str, offered: tuple[str, ...]) -> tuple[str, ...]:
    """Section 3.1.1.4.19: at system level the types to search; where one type is searched, that one."""
    found = tuple(dict.fromkeys(_limited(text, len(resource_types()), "_type")))
    unknown = [each for each in found if each not in offered]
    if unknown:
        raise ParameterError("_type", "not-supported", f"A type is not searched here. {suggestion(unknown[0], offered)}")
    return found


def _elements(text: str, types: tuple[str, ...]) -> frozenset[str]:
    """Section 3.1.1.5.10: names of elements at the top."""
    known = {name for each in types for element in type_(each).elements for name in (element.name, *dict(element.names()))}
    found = frozenset(_limited(text, 200, "_elements"))
    for each in sorted(found - known):
        raise ParameterError("_elements", "value", f"An element is not at the top of what is searched. {suggestion(each, known)}")
    return found


def _sort_key(text: str, types: tuple[str, ...], conditions: Conditions) -> SortKey:
    """Section 3.1.1.5.2: a parameter, with `-` descending; through references by `patient.name`, with a type where there are several."""
    name = text.removeprefix("-")
    chain: list[tuple[Parameter, str]] = []
    while "." in name:
        head, _, name = name.partition(".")
        code, _, to = head.partition(":")
        parameter = conditions.reference(types, code, "_sort")
        following = name.partition(".")[0].partition(":")[0]
        leads = {each for type_name in types for each in targets(parameter, type_name)}
        leads = {to} & leads if to else {each for each in leads if conditions.find(each, following)}
        if len(leads) != 1:
            raise ParameterError("_sort", "value", f"Name the one type that {code} shall lead to: {code}:Patient.name")
        if len(chain) == LONGEST_CHAIN:
            raise ParameterError("_sort", "too-costly", f"Chains are followed over at most {LONGEST_CHAIN} references.")
        types = tuple(leads)
        chain.append((parameter, types[0]))
    if name == "_score":
        raise ParameterError("_sort", "not-supported", "Matches have no score to sort by. Sort by a search parameter.")
    parameter = conditions.parameter(types, name, "_sort")
    if parameter.type in ("composite", "special") or parameter.code in TEXTS:
        raise ParameterError("_sort", "not-supported", f"{parameter.code} has no order to sort by.")
    return SortKey(parameter, text.startswith("-"), tuple(chain))


def _include(name: str, text: str, iterate: bool, reverse: bool, conditions: Conditions) -> Include:
    """Section 3.1.1.5.7: `*`, `Type:*`, `Type:parameter` or `Type:parameter:Target`."""
    source, *rest = text.split(":")
    if text == "*":
        return Include("*", None, iterate=iterate, reverse=reverse)
    if source not in resource_types() or len(rest) not in (1, 2):
        raise ParameterError(
            name, "value", "Write Type:parameter or Type:parameter:Target, such as Observation:subject:Patient, or *."
        )
    target = rest[1] if len(rest) == 2 else ""
    if rest[0] == "*":
        if target and target not in resource_types():
            raise ParameterError(name, "value", "What stands behind the second colon is a resource type.")
        return Include(source, None, target, iterate, reverse)
    parameter = conditions.reference((source,), rest[0], name)
    leads = targets(parameter, source)
    if target and target not in leads:
        raise ParameterError(
            name, "value", f"{source}'s {parameter.code} does not lead to that type. {suggestion(target, leads)}"
        )
    return Include(source, parameter.code, target, iterate, reverse)

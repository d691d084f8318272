"""How much of a resource is told: `_summary` and `_elements` (FHIR R4 sections 3.1.1.5.8 and 3.1.1.5.9)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, cast, get_args

from profiles.fhir import subset
from profiles.fhir.json import parse, serialize
from profiles.fhir.query import Search, Summary
from profiles.r4.definitions import type_
from server.work.fhir.refusals import ParameterError

PARAMETERS: Final = ("_summary", "_elements")


@dataclass(frozen=True, slots=True)
class Shape:
    """`summary` as in a search; `elements` are names of elements at the top, all where there are none."""

    summary: Summary = ""
    elements: frozenset[str] = frozenset()

    @property
    def is_whole(self) -> bool:
        return self.summary in ("", "false", "count") and not self.elements

    @property
    def is_summary(self) -> bool:
        """Whether a stored summary is what is wanted."""
        return self.summary == "true" and not self.elements

    def of(self, body: bytes, summary: bytes | None = None) -> bytes:
        """The resource `body` in this shape; `summary` is the one that is stored beside it, if any."""
        if self.is_whole:
            return body
        if self.is_summary and summary:
            return summary
        resource = parse(body, limit=len(body))
        if self.elements:
            return serialize(subset.elements(resource, self.elements))
        made = {"true": subset.summary, "text": subset.text, "data": subset.data}[self.summary]
        return serialize(made(resource))


def of_read(type_name: str, parameters: Sequence[tuple[str, str]]) -> Shape:
    """The shape that a read asks for. Raises `ParameterError`."""
    given = dict(parameters)
    if len(given) < len(parameters):
        raise ParameterError("", "a parameter of a read stands there more than once", "invalid")
    summary, elements = given.get("_summary", ""), tuple(filter(None, given.get("_elements", "").split(",")))
    if summary not in get_args(Summary):
        raise ParameterError("_summary", "_summary is true, text, data or false")
    if summary == "count":
        raise ParameterError("_summary", "_summary=count is of searches; a read has one resource", "not-supported")
    if elements and not (known := _elements(type_name)).issuperset(elements):
        raise ParameterError("_elements", f"_elements are elements at the top of {type_name}: {', '.join(sorted(known))}")
    return _checked(cast("Summary", summary), frozenset(elements))


def _elements(type_name: str) -> set[str]:
    return {name for each in type_(type_name).elements for name in (each.name, *dict(each.names()))}


def of_search(search: Search) -> Shape:
    """The shape that a search asks for. Raises `ParameterError`."""
    shape = _checked(search.summary, search.elements)
    if shape.summary == "text" and search.includes:
        raise ParameterError(
            "_summary", "_summary=text cannot be mixed with _include and _revinclude (FHIR R4 section 3.1.1.5.8)", "not-supported"
        )
    return shape


def _checked(summary: Summary, elements: frozenset[str]) -> Shape:
    if elements and summary not in ("", "false", "count"):
        raise ParameterError("_elements", "_elements and _summary contradict each other; give one of them", "invalid")
    return Shape(summary, elements)

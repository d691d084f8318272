"""What an operation is called with (FHIR R4 section 3.2.0.1): the parameters of its URL, of a form, or of a Parameters resource."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from profiles.fhir.issues import Issue
from profiles.fhir.search_values import covered
from server.errors import Invalid
from server.work.fhir.refusals import ParameterError, told_name

Json: TypeAlias = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Inputs:
    """Values by name: texts, and of a Parameters resource also resources and complex values."""

    values: Mapping[str, tuple[Any, ...]]

    def only(self, known: Collection[str]) -> None:
        """Raises `ParameterError` for a parameter that is not one of `known`."""
        for name in self.values:
            if name not in known:
                detail = f"this operation has no such parameter; it has {', '.join(sorted(known))}"
                raise ParameterError(told_name(name), detail, "not-supported")

    def texts(self, name: str) -> tuple[str, ...]:
        """All values of a parameter. Raises `ParameterError` for one that is no text."""
        found = self.values.get(name, ())
        if not all(isinstance(each, str) and each for each in found):
            raise ParameterError(name, f"{name} has a value of one piece, and none that is empty")
        return found

    def text(self, name: str) -> str:
        """The one value of a parameter, empty where there is none."""
        found = self.texts(name)
        if len(found) > 1:
            raise ParameterError(name, f"{name} stands there more than once", "invalid")
        return found[0] if found else ""

    def flag(self, name: str) -> bool:
        text = self.text(name)
        if text not in ("", "true", "false"):
            raise ParameterError(name, f"{name} is true or false")
        return text == "true"

    def number(self, name: str) -> int | None:
        text = self.text(name)
        if not text:
            return None
        if not (text.isascii() and text.isdigit() and int(text[:9]) > 0):
            raise ParameterError(name, f"{name} is a whole number from 1 on")
        return int(text[:9])

    def moments(self, name: str) -> tuple[int, int] | None:
        """What a date of any precision covers, in microseconds since 1970, half-open; without a zone it is UTC."""
        text = self.text(name)
        if not text:
            return None
        try:
            return covered(text)
        except ValueError:
            raise ParameterError(name, f"{name} is a date like 2026-01-31 or a time with its zone") from None

    def part(self, name: str) -> Json | None:
        """The one value of a parameter that is a resource, or of a complex type; None where there is none."""
        found = self.values.get(name, ())
        if not found:
            return None
        if len(found) > 1 or not isinstance(found[0], dict):
            raise ParameterError(name, f"{name} stands there once, as an object, in a Parameters resource", "structure")
        return found[0]


def of_pairs(pairs: Sequence[tuple[str, str]]) -> Inputs:
    """Those of a query string or form."""
    values: dict[str, tuple[Any, ...]] = {}
    for name, text in pairs:
        values[name] = (*values.get(name, ()), text)
    return Inputs(values)


def of_body(resource: Json, single: str = "") -> Inputs:
    """Those of a Parameters resource; of any other one that it is the parameter `single` itself. Raises `ParameterError`, `Invalid`."""
    if resource.get("resourceType") != "Parameters":
        if single:
            return Inputs({single: (resource,)})
        raise ParameterError("", "the body of this operation is a Parameters resource", "structure")
    values: dict[str, tuple[Any, ...]] = {}
    for each in _list(resource.get("parameter", [])):
        name, value = each.get("name"), _value(each)
        if not isinstance(name, str) or value is None:
            raise _malformed("a parameter has a name and a value or resource")
        values[name] = (*values.get(name, ()), value)
    return Inputs(values)


def joined(first: Inputs, second: Inputs) -> Inputs:
    """The parameters of both, those of `first` before."""
    names = dict.fromkeys((*first.values, *second.values))
    return Inputs({name: (*first.values.get(name, ()), *second.values.get(name, ())) for name in names})


def _list(given: object) -> list[Json]:
    if not isinstance(given, list) or not all(isinstance(each, dict) for each in given):
        raise _malformed("Parameters.parameter is an array of objects")
    return given


def _malformed(why: str) -> Invalid:
    return Invalid([Issue("error", "structure", "Parameters.parameter", why)])


def _value(parameter: Json) -> Any:
    """A primitive as a query would have it."""
    found = [value for name, value in parameter.items() if name == "resource" or name.startswith("value")]
    if len(found) != 1:
        return None
    value = found[0]
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, dict | str) else str(value)

"""Search parameters and compartments of FHIR R4 (sections 3.1.1, 2.17 and 3.1.1.5.1.1), as the official package defines them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType
from typing import Any, Final, Literal, cast

from profiles.r4.definitions import resource_types, table

ParameterType = Literal["number", "date", "string", "token", "reference", "composite", "quantity", "uri", "special"]
_EVERY: Final = frozenset({"Resource", "DomainResource"})
# Not DomainResource (FHIR R4 section 2.2): they have no narrative and no extensions of their own
_PLAIN: Final = frozenset({"Binary", "Bundle", "Parameters"})


@dataclass(frozen=True, slots=True)
class Parameter:
    """One search parameter. `code` is its name in a query; `expression` FHIRPath over the resource, of all `bases` joined by `|`.

    `targets` are the resource types that a reference may lead to, none for any. `components` of a composite are (canonical URL of a parameter,
    expression over what `expression` selects).
    """

    code: str
    type: ParameterType
    url: str
    expression: str
    bases: tuple[str, ...]
    targets: tuple[str, ...] = ()
    components: tuple[tuple[str, str], ...] = ()

    def __hash__(self) -> int:
        """By what tells parameters apart: the bases of some are a hundred types."""
        return hash((self.url, self.code))


@cache
def parameters(type_: str) -> Mapping[str, Parameter]:
    """The parameters of a resource type by code, with those that every resource has."""
    return MappingProxyType({each.code: each for each in _all() if _applies(each, type_)})


@cache
def by_url(url: str) -> Parameter | None:
    """The parameter of that canonical URL."""
    return next((each for each in _all() if each.url == url), None)


@cache
def compartment(name: str) -> Mapping[str, tuple[str, ...]]:
    """FHIR R4 section 2.17: for `Patient`, `Encounter`, `Practitioner`, `Device` or `RelatedPerson`, the parameters by which each type is in it.

    `{def}` stands for the resource that the compartment is of. Raises `KeyError`.
    """
    return MappingProxyType({type_: tuple(codes) for type_, codes in _table()["compartments"][name].items()})


@cache
def compartments() -> tuple[str, ...]:
    """The resource types that have a compartment."""
    return tuple(sorted(_table()["compartments"]))


def parameter(resource: Mapping[str, Any]) -> Parameter:
    """A SearchParameter resource as a parameter."""
    components = resource.get("component", ())
    return Parameter(
        resource["code"], cast("ParameterType", resource["type"]), resource["url"], resource.get("expression", ""),
        tuple(_bases(resource["base"])), tuple(resource.get("target", ())),
        tuple((each["definition"], each["expression"]) for each in components),
    )  # fmt: skip


def _bases(bases: Iterable[str]) -> Iterable[str]:
    for base in bases:
        if base in _EVERY:
            yield from (type_ for type_ in resource_types() if base == "Resource" or type_ not in _PLAIN)
        else:
            yield base


def _applies(each: Parameter, type_: str) -> bool:
    return type_ in each.bases


@cache
def _all() -> tuple[Parameter, ...]:
    return tuple(
        Parameter(
            row["code"], row["type"], row["url"], row["expression"], tuple(_bases(row["base"])), tuple(row.get("target", ())),
            _components(row),
        )
        for row in _table()["parameters"]
    )  # fmt: skip


def _components(row: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """DocumentReference's `relationship` names the parameters of its two components the wrong way round in R4."""
    definitions = [definition for definition, _ in row.get("component", ())]
    if row["url"].endswith("/DocumentReference-relationship"):
        definitions.reverse()
    return tuple((definition, each[1]) for definition, each in zip(definitions, row.get("component", ()), strict=True))


@cache
def _table() -> dict[str, Any]:
    found: dict[str, Any] = table("search_parameters")
    return found

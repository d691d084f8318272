"""Element definitions of FHIR R4 (section 2.28, StructureDefinition): what an object of a type may and must have in it.

The tables are read on first use; a type is made of them when it is asked for.
"""

import gzip
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from types import MappingProxyType
from typing import Any, Literal

import orjson

Kind = Literal["resource", "complex-type", "primitive-type", "backbone"]


@dataclass(frozen=True, slots=True)
class Constraint:
    """An invariant: `severity` is error or warning, `expression` is FHIRPath over the element that has it."""

    key: str
    severity: str
    human: str
    expression: str


@dataclass(frozen=True, slots=True)
class Binding:
    """`strength` is required, extensible, preferred or example; `value_set` its canonical URL without version."""

    strength: str
    value_set: str


@dataclass(frozen=True, slots=True)
class Element:
    """One element of a type. `name` is that of the definition, without `[x]`; `maximum` is -1 where there is no limit.

    `types` are names for `type_`: of a data type, of a resource (only in `contained` and the like), or a path of a backbone.
    `targets` are the resource types that a Reference or canonical may lead to (`Resource` for any).
    """

    name: str
    minimum: int
    maximum: int
    types: tuple[str, ...]
    targets: tuple[str, ...] = ()
    is_choice: bool = False
    is_summary: bool = False
    is_modifier: bool = False
    is_attribute: bool = False
    """In XML it is an attribute (`id` of elements, `url` of extensions)."""
    binding: Binding | None = None
    constraints: tuple[Constraint, ...] = ()

    @property
    def repeats(self) -> bool:
        """In JSON it is an array."""
        return self.maximum != 1

    def names(self) -> tuple[tuple[str, str], ...]:
        """What it can be called in an instance, each with its type: `valueQuantity` for the Quantity of a choice."""
        if not self.is_choice:
            return ((self.name, self.types[0]),)
        return tuple((self.name + type_[0].upper() + type_[1:], type_) for type_ in self.types)


@dataclass(frozen=True, slots=True)
class Type:
    """A resource type, data type or backbone element. `name` is a type's name or a backbone's path (`Patient.contact`)."""

    name: str
    kind: Kind
    base: str
    """The type that it specializes; empty for a backbone."""
    elements: tuple[Element, ...]
    """In the order of the definition, which XML keeps."""
    constraints: tuple[Constraint, ...] = ()
    regex: "re.Pattern[str] | None" = None
    """Of a primitive's value (FHIR R4 section 2.24.0.1)."""
    by_name: Mapping[str, tuple[Element, str]] = field(default_factory=dict, repr=False)
    """Every name that a property in JSON can have, with its element and its type; without the `_` names of primitives."""

    @property
    def is_primitive(self) -> bool:
        return self.kind == "primitive-type"


def table(name: str) -> Any:
    """One of the tables in `profiles/r4/data`, as it is (`profiles.r4.compile` says how)."""
    return orjson.loads(gzip.decompress((files("profiles.r4") / "data" / f"{name}.json.gz").read_bytes()))


@cache
def type_(name: str) -> Type:
    """The type of that name. Raises `KeyError`."""
    row = _types()[name]
    elements = tuple(_element(each) for each in row["elements"])
    by_name = {called: (element, of) for element in elements for called, of in element.names()}
    regex = re.compile(row["regex"]) if "regex" in row else None
    constraints = tuple(_constraints()[number] for number in row["constraints"])
    return Type(
        name,
        row["kind"],
        row.get("base", ""),
        elements,
        constraints,
        regex,
        MappingProxyType(by_name),
    )


@cache
def resource_types() -> tuple[str, ...]:
    """The names of all resource types that have instances (146), in order."""
    return tuple(sorted(name for name, row in _types().items() if row["kind"] == "resource" and not row["abstract"]))


def is_type(name: str) -> bool:
    """Whether R4 has a data type or resource type of that name."""
    return name in _types()


def _element(row: list[Any]) -> Element:
    name, minimum, maximum, types, targets, flags, binding, constraints = row
    return Element(
        name, minimum, maximum, tuple(types), tuple(targets), "c" in flags, "s" in flags, "m" in flags, "a" in flags,
        Binding(*binding) if binding else None, tuple(_constraints()[number] for number in constraints),
    )  # fmt: skip


@cache
def _types() -> dict[str, Any]:
    found: dict[str, Any] = table("elements")["types"]
    return found


@cache
def _constraints() -> tuple[Constraint, ...]:
    return tuple(Constraint(*each) for each in table("elements")["constraints"])

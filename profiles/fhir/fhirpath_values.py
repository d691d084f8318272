"""What FHIRPath works on: elements of a resource, each with its FHIR type and where it stands, and values of FHIRPath's own types."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from typing import Any, Final

from profiles.fhir.fhirpath_syntax import PathError
from profiles.r4 import definitions

Json = dict[str, Any]
TYPE_INFO: Final = "System.TypeInfo"


@dataclass(slots=True, eq=False)
class Node:
    """One element, or one value that was computed (`type` then begins with `System.` and there is no parent).

    `value` is JSON; None for a primitive that has extensions only. `extra` is the object of a primitive's `_name`. `called` is the name in JSON
    (`valueQuantity`), `name` that in a path (`value`), `index` the place in an array or -1.
    """

    value: Any
    type: str
    extra: Json | None = None
    parent: "Node | None" = None
    called: str = ""
    name: str = ""
    index: int = -1

    @property
    def path(self) -> str:
        """FHIRPath of this element from its resource: `Patient.name[0].given[1]`; empty for what was computed."""
        if self.parent is None:
            return "" if self.type.startswith("System.") else self.type
        return f"{self.parent.path}.{self.name}" + (f"[{self.index}]" if self.index >= 0 else "")


def root(resource: Json, type_: str = "") -> Node:
    """The node of a whole resource, or of an object of a data type."""
    return Node(resource, type_ or str(resource.get("resourceType", "Resource")))


def system(value: object) -> Node:
    """A value of FHIRPath's own types: boolean, integer, decimal or string."""
    if isinstance(value, float):
        value = Decimal(str(value))
    return Node(value, _kind(value))


def _kind(value: object) -> str:
    match value:
        case bool():
            return "System.Boolean"
        case int():
            return "System.Integer"
        case Decimal() | float():
            return "System.Decimal"
        case _:
            return "System.String"


# --- types


@cache
def properties(type_: str) -> Mapping[str, tuple[tuple[str, str, bool], ...]]:
    """By name in a path: each name in JSON with its type and whether that is primitive. Empty for a type that is not known."""
    if type_ == TYPE_INFO:
        return {name: ((name, "System.String", False),) for name in ("namespace", "name")}
    if not definitions.is_type(type_):
        return {}
    return {
        element.name: tuple((called, of, _is_primitive(of)) for called, of in element.names())
        for element in definitions.type_(type_).elements
    }


def _is_primitive(type_: str) -> bool:
    return definitions.is_type(type_) and definitions.type_(type_).is_primitive


@cache
def ancestry(type_: str) -> tuple[str, ...]:
    """The type and all that it specializes, nearest first (FHIR R4 section 2.24)."""
    found = [type_]
    while definitions.is_type(found[-1]):
        definition = definitions.type_(found[-1])
        base = definition.base
        if definition.kind == "backbone":
            owner = found[-1].partition(".")[0]
            base = "BackboneElement" if definitions.type_(owner).kind == "resource" else "Element"
        if not base:
            break
        found.append(base)
    return tuple(found)


@cache
def known_type(name: str) -> str:
    """FHIRPath section 6.3: a type's name as nodes have it: FHIR's own first, then FHIRPath's. Raises `PathError`."""
    namespace, _, own = name.rpartition(".")
    if namespace in ("", "FHIR") and definitions.is_type(own):
        return own
    if namespace in ("", "System") and own in ("Boolean", "String", "Integer", "Decimal", "Date", "DateTime", "Time", "Quantity"):
        return f"System.{own}"
    raise PathError(f"there is no type {name[:100]!r}")


def is_of(node: Node, type_: str) -> bool:
    """Whether it is of that type (of `known_type`) or of one that specializes it. A quantity with a unit in the expression is a Quantity too."""
    return type_ in ancestry(node.type) or (type_ == "Quantity" and node.type == "System.Quantity")


def members(node: Node, name: str) -> Iterator[Node]:
    """The children of that name, through all types of a choice."""
    if isinstance(node.value, dict):
        for called, type_, primitive in properties(node.type).get(name, ()):
            if called in node.value or (primitive and f"_{called}" in node.value):
                yield from _of(node, node.value, called, type_, primitive, name)
    elif node.extra and name in ("id", "extension") and name in node.extra:
        yield from _of(node, node.extra, name, "string" if name == "id" else "Extension", name == "id", name)


def children(node: Node) -> Iterator[Node]:
    """FHIRPath section 5.8.1: all children, in the order of the definition."""
    if node.type.startswith("System."):
        return
    for name in properties(node.type):
        yield from members(node, name)


def _of(parent: Node, values: Json, called: str, type_: str, primitive: bool, name: str) -> Iterator[Node]:
    value = values.get(called)
    extra = values.get(f"_{called}") if primitive else None
    if isinstance(value, list) or isinstance(extra, list):
        value = value if isinstance(value, list) else []
        extra = extra if isinstance(extra, list) else []
        for index in range(max(len(value), len(extra))):
            one = value[index] if index < len(value) else None
            beside = extra[index] if index < len(extra) else None
            if one is not None or isinstance(beside, dict):
                yield _child(parent, one, type_, beside, called, name, index)
    elif value is not None or isinstance(extra, dict):
        yield _child(parent, value, type_, extra, called, name, -1)


def _child(parent: Node, value: Any, type_: str, extra: Any, called: str, name: str, index: int) -> Node:
    if isinstance(value, dict) and type_ == "Resource":
        type_ = str(value.get("resourceType", type_))
    elif isinstance(value, float):
        value = Decimal(str(value))
    return Node(value, type_, extra if isinstance(extra, dict) else None, parent, called, name, index)

"""FHIRPath Patch (FHIR R4, fhirpatch.html): a Parameters resource whose parameters are operations on the elements that paths lead to."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from profiles.fhir import fhirpath
from profiles.fhir.fhirpath import Node, PathError
from profiles.fhir.json import DEEPEST
from profiles.fhir.kept_elements import (
    Impossible,
    Pair,
    definition_of,
    holder_of,
    list_of,
    object_of,
    pairs,
    parent_of,
    put,
    put_all,
    put_at,
    remove,
)
from profiles.fhir.patch_error import inapplicable, malformed
from profiles.fhir.plain_json import copied, measured
from profiles.r4.definitions import Element, type_

Json = dict[str, Any]
MOST_OPERATIONS: Final = 1000
_STEPS: Final = 1_000_000
_FEWEST_STEPS: Final = 10_000
_NUMBERS: Final = frozenset({"decimal", "integer", "positiveInt", "unsignedInt"})
_NUMBERED: Final[tuple[str, ...]] = ("index", "source", "destination")
_PARTS: Final = frozenset({"type", "path", "name", "value", "index", "source", "destination"})


def apply(resource: Json, parameters: Json) -> Json:
    """fhirpatch.html: `resource` after all operations, each on what the ones before made of it. `resource` itself is changed.

    Raises `PatchError`: 400 for what is no patch, 422 for a path that leads to no element, or to several, and for a value that does not belong there.
    """
    operations = parameters.get("parameter", [])
    if not isinstance(operations, list) or len(operations) > MOST_OPERATIONS:
        raise malformed(f"a patch has at most {MOST_OPERATIONS:,} operations", "Parameters.parameter")
    steps = max(_FEWEST_STEPS, _STEPS // max(1, len(operations)))
    for number, parameter in enumerate(operations):
        operation = _read(parameter, f"Parameters.parameter[{number}]")
        try:
            _CARRY_OUT[operation.kind](operation, _found(operation, resource, steps))
        except Impossible as problem:
            why = f"operation {number + 1} ({operation.kind}): {problem}"
            raise inapplicable(why, problem.node.path if problem.node else "") from None
    return resource


# --- the operations as they are written


@dataclass(frozen=True, slots=True)
class _Value:
    """A value with its type; a type of `` is that of the place where it goes, with `parts` by name."""

    type: str
    json: Any = None
    extra: Json | None = None
    parts: "tuple[tuple[str, _Value], ...]" = ()


@dataclass(frozen=True, slots=True)
class _Operation:
    kind: str
    path: fhirpath.Expression
    name: str
    value: _Value | None
    numbers: dict[str, int]


_REQUIRED: Final = {
    "add": ("name", "value"), "insert": ("index", "value"), "delete": (), "replace": ("value",), "move": ("source", "destination"),
}  # fmt: skip


def _read(parameter: Any, where: str) -> _Operation:
    """fhirpatch.html, "Parameters Format"."""
    if not isinstance(parameter, dict) or parameter.get("name") != "operation":
        raise malformed("each parameter of a patch is an operation, with that name", where)
    parts = _parts(parameter, where)
    kind = _word(parts, "type", where)
    if kind not in _REQUIRED:
        raise malformed(f"type is one of {', '.join(_REQUIRED)}", where)
    for name in _REQUIRED[kind]:
        if name not in parts:
            raise malformed(f"{kind} needs the part {name}", where)
    try:
        path = fhirpath.compile(_word(parts, "path", where))
    except PathError as problem:
        raise malformed(f"the path is no FHIRPath: {problem}", where) from None
    numbers = {name: _number(parts, name, where) for name in _NUMBERED if name in parts}
    name = _word(parts, "name", where) if "name" in parts else ""
    value = _value(parts["value"], where) if "value" in parts else None
    return _Operation(kind, path, name, value, numbers)


def _parts(parameter: Json, where: str) -> dict[str, Json]:
    found: dict[str, Json] = {}
    listed = parameter.get("part", [])
    for part in listed if isinstance(listed, list) else [None]:
        name = part.get("name") if isinstance(part, dict) else None
        if part is None or name not in _PARTS or name in found:
            raise malformed(f"the parts of an operation are {', '.join(sorted(_PARTS))}, each once", where)
        found[str(name)] = part
    return found


def _word(parts: dict[str, Json], name: str, where: str) -> str:
    value = _value(parts[name], where).json if name in parts else None
    if not isinstance(value, str):
        raise malformed(f"the part {name} is needed, and is a text", where)
    return value


def _number(parts: dict[str, Json], name: str, where: str) -> int:
    value = _value(parts[name], where).json
    if type(value) is not int or value < 0:
        raise malformed(f"the part {name} is an integer from 0 on", where)
    return value


def _value(part: Json, where: str) -> _Value:
    """fhirpatch.html, "Anonymous Types": a value of a data type, or parts that are values; a resource where one is to be contained."""
    known = type_("Parameters.parameter").by_name
    types = {key: known[key.removeprefix("_")][1] for key in part if key.removeprefix("_") in known and "value" in key}
    if "part" in part and isinstance(part["part"], list):
        each = [(one.get("name"), one) if isinstance(one, dict) else (None, {}) for one in part["part"]]
        if not each or types or not all(isinstance(name, str) for name, _ in each):
            raise malformed("a value is given by one value[x], or by parts that have names", where)
        return _Value("", parts=tuple((str(name), _value(one, where)) for name, one in each))
    if isinstance(part.get("resource"), dict) and not types:
        return _Value("Resource", copied(part["resource"]))
    if len(set(types.values())) != 1:
        raise malformed("a value is given by one value[x], or by parts that have names", where)
    name = next(iter(types)).removeprefix("_")
    of = types.get(name) or types[f"_{name}"]
    return _Value(of, copied(part.get(name)), copied(part.get(f"_{name}")))


# --- what they do


def _found(operation: _Operation, resource: Json, steps: int) -> list[Node]:
    try:
        nodes = operation.path.evaluate(resource, steps=steps)
    except PathError as problem:
        raise Impossible(f"the path can't be evaluated: {problem}") from None
    if any(node.type.startswith("System.") for node in nodes):
        raise Impossible("the path leads to a value that is computed, and to no element")
    return nodes


def _single(nodes: list[Node]) -> Node:
    """fhirpatch.html: the FHIRPath statement must return a single element."""
    if len(nodes) != 1:
        raise Impossible(f"the path leads to {len(nodes) or 'no'} elements, and has to lead to one")
    return nodes[0]


def _add(operation: _Operation, nodes: list[Node]) -> None:
    node = _single(nodes)
    assert operation.value is not None
    called, element, of = _property(node.type, operation.name, operation.value, node)
    pair = _fitted(operation.value, of, node)
    holder = object_of(node)
    if element.repeats:
        put_all(holder, called, [*pairs(holder, called), pair])
    elif any(each in holder or f"_{each}" in holder for each, _ in element.names()):
        raise Impossible(f"{operation.name} is there already, and can be there once: replace it instead", node)
    else:
        put(holder, called, pair)


def _insert(operation: _Operation, nodes: list[Node]) -> None:
    node, holder, listed = list_of(nodes)
    assert operation.value is not None
    index = operation.numbers["index"]
    if index > len(listed):
        raise Impossible(f"index is at most the number of elements, {len(listed)}", node)
    listed.insert(index, _fitted(operation.value, definition_of(node)[1], node))
    put_all(holder, node.called, listed)


def _move(operation: _Operation, nodes: list[Node]) -> None:
    node, holder, listed = list_of(nodes)
    source, destination = operation.numbers["source"], operation.numbers["destination"]
    if max(source, destination) >= len(listed):
        raise Impossible(f"source and destination are less than the number of elements, {len(listed)}", node)
    listed.insert(destination, listed.pop(source))
    put_all(holder, node.called, listed)


def _delete(_: _Operation, nodes: list[Node]) -> None:
    """fhirpatch.html: nothing to delete is no error. What would be left empty goes too, since elements are never empty."""
    if nodes:
        remove(_single(nodes))


def _replace(operation: _Operation, nodes: list[Node]) -> None:
    """The whole element, with its extensions. Of a choice it may become another type."""
    node = _single(nodes)
    assert operation.value is not None
    element, of = definition_of(node)
    called = node.called
    if element.is_choice and operation.value.type:
        called, _, of = _property(parent_of(node).type, element.name, operation.value, node)
    pair = _fitted(operation.value, of, node)
    holder = holder_of(node)
    if node.index >= 0:
        put_at(holder, called, node.index, pair)
    else:
        put(holder, node.called, (None, None))
        put(holder, called, pair)


_CARRY_OUT: Final[dict[str, Callable[[_Operation, list[Node]], None]]] = {
    "add": _add, "insert": _insert, "delete": _delete, "replace": _replace, "move": _move,
}  # fmt: skip


# --- which values belong there


def _property(of: str, name: str, value: _Value, node: Node) -> tuple[str, Element, str]:
    """The name in JSON of a type's property, and its type; for a choice by the type of the value."""
    by_name = type_(of).by_name
    if name in by_name:
        element, found = by_name[name]
        return name, element, found
    for called, (element, found) in by_name.items():
        if element.is_choice and element.name == name.removesuffix("[x]") and found == value.type:
            return called, element, found
    raise Impossible(f"{of} has no element of that name, or not with a value of this type", node)


def _fitted(value: _Value, of: str, node: Node) -> Pair:
    """fhirpatch.html: servers return an error if the type is wrong. Primitives are exchanged with those that JSON writes alike: a string for a code or
    for the XHTML of a narrative, which no value[x] can be; what they say is checked with the resource that results.
    """
    _check_depth(value.json, node)
    if value.type == "" and not type_(of).is_primitive and of != "Resource":
        return _built(value, of, node), None
    if value.type == of or (value.type and _alike(value.type, of)):
        return value.json, value.extra
    raise Impossible(f"a value of type {value.type or 'an object of parts'} does not belong there: {of} does", node)


def _check_depth(value: Any, node: Node) -> None:
    depth, each = measured(value)[1] + 2, node.parent
    while each is not None:
        depth, each = depth + 2, each.parent
    if depth > DEEPEST:
        raise Impossible(f"the result would be nested more than {DEEPEST} deep")


def _alike(one: str, other: str) -> bool:
    if "Resource" in (one, other) or not (type_(one).is_primitive and type_(other).is_primitive):
        return False
    return _kind(one) == _kind(other)


def _kind(primitive: str) -> str:
    return "number" if primitive in _NUMBERS else "boolean" if primitive == "boolean" else "string"


def _built(value: _Value, of: str, node: Node) -> Json:
    built: Json = {}
    for name, part in value.parts:
        called, element, found = _property(of, name, part, node)
        pair = _fitted(part, found, node)
        if element.repeats:
            put_all(built, called, [*pairs(built, called), pair])
        elif called in built or f"_{called}" in built:
            raise Impossible(f"{name} is given more than once", node)
        else:
            put(built, called, pair)
    return built

"""Where JSON keeps the elements that FHIRPath finds, and how they are changed there (FHIR R4 section 2.6.2 of json.html).

A primitive is kept in two places: its value under its name, its id and extensions under the name with `_` before it; of one that repeats, in two arrays.
"""

from itertools import zip_longest
from typing import Any

from profiles.fhir.fhirpath import Node
from profiles.r4.definitions import Element, type_

Json = dict[str, Any]
Pair = tuple[Any, Json | None]
"""A value, and what more is said of it where it is primitive (the object of its `_name`)."""


class Impossible(Exception):
    """What can't be done with an element; `node` is the element where there is one."""

    def __init__(self, why: str, node: Node | None = None) -> None:
        super().__init__(why)
        self.node = node


def parent_of(node: Node) -> Node:
    """The element that has it. Raises `Impossible` for a resource that no other holds."""
    if node.parent is None:
        raise Impossible("the path leads to the resource itself", node)
    return node.parent


def definition_of(node: Node) -> tuple[Element, str]:
    """Its definition, and its type."""
    return type_(parent_of(node).type).by_name[node.called]


def holder_of(node: Node) -> Json:
    """The JSON object that has the element as a property: that of its parent, or for what a primitive has, the object of its `_name`."""
    return object_of(parent_of(node))


def object_of(node: Node) -> Json:
    """The JSON object that has the children of an element as properties; made for a primitive that has none yet."""
    if isinstance(node.value, dict):
        return node.value
    if node.extra is None:
        node.extra = {}
        holder = holder_of(node)
        if node.index >= 0:
            put_at(holder, node.called, node.index, (node.value, node.extra))
        else:
            holder[f"_{node.called}"] = node.extra
    return node.extra


def list_of(nodes: list[Node]) -> tuple[Node, Json, list[Pair]]:
    """The list that a path leads to, all of it: its first node, the object that has it, its elements. Raises `Impossible` for anything else."""
    if not nodes:
        raise Impossible("the path leads to no elements: a list that is empty is begun with add")
    first = nodes[0]
    holder = holder_of(first)
    listed = pairs(holder, first.called)
    same = all(holder_of(each) is holder and each.called == first.called for each in nodes)
    if first.index < 0 or len(nodes) != len(listed) or not same:
        raise Impossible("the path has to lead to all elements of one list", first)
    return first, holder, listed


def pairs(holder: Json, called: str) -> list[Pair]:
    """The elements of a list."""
    return list(zip_longest(holder.get(called) or (), holder.get(f"_{called}") or ()))


def put_all(holder: Json, called: str, listed: list[Pair]) -> None:
    """All elements of a list: both arrays have a place for each; one without anything is left out."""
    for name, values in ((called, [value for value, _ in listed]), (f"_{called}", [extra for _, extra in listed])):
        if any(value is not None for value in values):
            holder[name] = values
        else:
            holder.pop(name, None)


def put_at(holder: Json, called: str, index: int, pair: Pair) -> None:
    """One element of a list."""
    listed = pairs(holder, called)
    put_all(holder, called, [*listed[:index], pair, *listed[index + 1 :]])


def put(holder: Json, called: str, pair: Pair) -> None:
    """An element that does not repeat; a pair of None and None takes it away."""
    for name, value in zip((called, f"_{called}"), pair, strict=True):
        if value is not None:
            holder[name] = value
        else:
            holder.pop(name, None)


def remove(node: Node) -> None:
    """Takes it out, and what is left empty by that, since elements are never empty."""
    holder = holder_of(node)
    if node.index >= 0:
        put_all(holder, node.called, [each for index, each in enumerate(pairs(holder, node.called)) if index != node.index])
    else:
        put(holder, node.called, (None, None))
    parent = parent_of(node)
    if holder or parent.parent is None:
        return
    if isinstance(parent.value, dict) or parent.value is None:
        remove(parent)
    else:
        _without_extra(parent)


def _without_extra(node: Node) -> None:
    holder = holder_of(node)
    if node.index >= 0:
        put_at(holder, node.called, node.index, (node.value, None))
    else:
        holder.pop(f"_{node.called}", None)

"""The functions of FHIRPath (section 5) that work on collections and trees, and those that FHIR R4 adds (section 2.1.9.1.5, fhirpath.html)."""

from collections.abc import Iterator
from typing import Final

from profiles.fhir import narrative
from profiles.fhir.bindings import codings
from profiles.fhir.fhirpath_comparing import key
from profiles.fhir.fhirpath_run import Evaluate, Frame, each, function, said, single, text, truth, whole
from profiles.fhir.fhirpath_syntax import PathError
from profiles.fhir.fhirpath_values import TYPE_INFO, Node, children, is_of, members, root
from profiles.r4 import terminology

Nodes = list[Node]
Arguments = tuple[Evaluate, ...]
_CHARACTERS: Final = 100
"""Of a narrative that are checked in the time that it takes to look at one element."""


# --- section 5.1, existence


@function("empty")
def _empty(_: Frame, nodes: Nodes, __: Arguments) -> Nodes:
    return said(not nodes)


@function("exists", 0, 1)
def _exists(frame: Frame, nodes: Nodes, arguments: Arguments) -> Nodes:
    if not arguments:
        return said(bool(nodes))
    return said(any(met is True for _, met in each(frame, nodes, arguments[0])))


@function("all", 1)
def _all(frame: Frame, nodes: Nodes, arguments: Arguments) -> Nodes:
    return said(all(met is True for _, met in each(frame, nodes, arguments[0])))


@function("allTrue")
def _all_true(_: Frame, nodes: Nodes, __: Arguments) -> Nodes:
    return said(all(node.value is True for node in nodes))


@function("anyTrue")
def _any_true(_: Frame, nodes: Nodes, __: Arguments) -> Nodes:
    return said(any(node.value is True for node in nodes))


@function("allFalse")
def _all_false(_: Frame, nodes: Nodes, __: Arguments) -> Nodes:
    return said(all(node.value is False for node in nodes))


@function("anyFalse")
def _any_false(_: Frame, nodes: Nodes, __: Arguments) -> Nodes:
    return said(any(node.value is False for node in nodes))


@function("subsetOf", 1)
def _subset_of(frame: Frame, nodes: Nodes, arguments: Arguments) -> Nodes:
    return said({key(node) for node in nodes} <= {key(node) for node in arguments[0](frame)})


@function("supersetOf", 1)
def _superset_of(frame: Frame, nodes: Nodes, arguments: Arguments) -> Nodes:
    return said({key(node) for node in nodes} >= {key(node) for node in arguments[0](frame)})


@function("count")
def _count(_: Frame, nodes: Nodes, __: Arguments) -> Nodes:
    return said(len(nodes))


@function("distinct")
def _distinct(_: Frame, nodes: Nodes, __: Arguments) -> Nodes:
    return distinct(nodes)


@function("isDistinct")
def _is_distinct(_: Frame, nodes: Nodes, __: Arguments) -> Nodes:
    return said(len({key(node) for node in nodes}) == len(nodes))


@function("not")
def _not(_: Frame, nodes: Nodes, __: Arguments) -> Nodes:
    met = truth(nodes)
    return said(None if met is None else not met)


def distinct(nodes: Nodes) -> Nodes:
    """The items without those that equal an earlier one."""
    found: dict[object, Node] = {}
    for node in nodes:
        found.setdefault(key(node), node)
    return list(found.values())


# --- section 5.2, filtering and projection


@function("where", 1)
def _where(frame: Frame, nodes: Nodes, arguments: Arguments) -> Nodes:
    return [node for node, met in each(frame, nodes, arguments[0]) if met is True]


@function("select", 1)
def _select(frame: Frame, nodes: Nodes, arguments: Arguments) -> Nodes:
    return [found for index, node in enumerate(nodes) for found in arguments[0](frame.on(node, index))]


@function("repeat", 1)
def _repeat(frame: Frame, nodes: Nodes, arguments: Arguments) -> Nodes:
    """What the projection yields, again and again, until it yields nothing new."""
    known: dict[object, Node] = {}
    waiting = nodes
    while waiting:
        found = [one for index, node in enumerate(waiting) for one in arguments[0](frame.on(node, index))]
        waiting = []
        for node in found:
            if (mark := key(node)) not in known:
                known[mark] = node
                waiting.append(node)
    return list(known.values())


@function("aggregate", 1, 2)
def _aggregate(frame: Frame, nodes: Nodes, arguments: Arguments) -> Nodes:
    total = arguments[1](frame) if len(arguments) > 1 else []
    for index, node in enumerate(nodes):
        inner = frame.on(node, index)
        inner.total = total
        total = arguments[0](inner)
    return total


# --- sections 5.3 and 5.4, subsetting and combining


@function("single")
def _single(_: Frame, nodes: Nodes, __: Arguments) -> Nodes:
    single(nodes)
    return nodes


@function("first")
def _first(_: Frame, nodes: Nodes, __: Arguments) -> Nodes:
    return nodes[:1]


@function("last")
def _last(_: Frame, nodes: Nodes, __: Arguments) -> Nodes:
    return nodes[-1:]


@function("tail")
def _tail(_: Frame, nodes: Nodes, __: Arguments) -> Nodes:
    return nodes[1:]


@function("skip", 1)
def _skip(frame: Frame, nodes: Nodes, arguments: Arguments) -> Nodes:
    number = whole(arguments[0](frame))
    return [] if number is None else nodes[max(0, number) :]


@function("take", 1)
def _take(frame: Frame, nodes: Nodes, arguments: Arguments) -> Nodes:
    return nodes[: max(0, whole(arguments[0](frame)) or 0)]


@function("intersect", 1)
def _intersect(frame: Frame, nodes: Nodes, arguments: Arguments) -> Nodes:
    others = {key(node) for node in arguments[0](frame)}
    return distinct([node for node in nodes if key(node) in others])


@function("exclude", 1)
def _exclude(frame: Frame, nodes: Nodes, arguments: Arguments) -> Nodes:
    others = {key(node) for node in arguments[0](frame)}
    return [node for node in nodes if key(node) not in others]


@function("union", 1)
def _union(frame: Frame, nodes: Nodes, arguments: Arguments) -> Nodes:
    return distinct(nodes + arguments[0](frame))


@function("combine", 1)
def _combine(frame: Frame, nodes: Nodes, arguments: Arguments) -> Nodes:
    return nodes + arguments[0](frame)


@function("iif", 2, 3)
def _iif(frame: Frame, nodes: Nodes, arguments: Arguments) -> Nodes:
    inner = frame.on(nodes[0], 0) if len(nodes) == 1 else frame
    if truth(arguments[0](inner)):
        return arguments[1](inner)
    return arguments[2](inner) if len(arguments) > 2 else []


# --- section 5.8, the tree; section 5.9, what is around


@function("children")
def _children(frame: Frame, nodes: Nodes, _: Arguments) -> Nodes:
    found = [child for node in nodes for child in children(node)]
    frame.run.spend(len(found))
    return found


@function("descendants")
def _descendants(frame: Frame, nodes: Nodes, _: Arguments) -> Nodes:
    return list(_below(frame, nodes))


def _below(frame: Frame, nodes: Nodes) -> Iterator[Node]:
    waiting = [child for node in reversed(nodes) for child in reversed(list(children(node)))]
    while waiting:
        frame.run.spend(1)
        node = waiting.pop()
        yield node
        waiting += reversed(list(children(node)))


@function("trace", 1, 2)
def _trace(_: Frame, nodes: Nodes, __: Arguments) -> Nodes:
    """What is evaluated for somebody else's resource is written into no log."""
    return nodes


@function("now")
def _now(frame: Frame, _: Nodes, __: Arguments) -> Nodes:
    return [Node(_clock(frame), "System.DateTime")]


@function("today")
def _today(frame: Frame, _: Nodes, __: Arguments) -> Nodes:
    return [Node(_clock(frame)[:10], "System.Date")]


@function("timeOfDay")
def _time_of_day(frame: Frame, _: Nodes, __: Arguments) -> Nodes:
    return [Node(_clock(frame)[11:19], "System.Time")]


def _clock(frame: Frame) -> str:
    if not frame.run.now:
        raise PathError("the time is not known here: now(), today() and timeOfDay() can't be used")
    return frame.run.now


# --- FHIR R4 section 2.1.9.1.5


@function("extension", 1)
def _extension(frame: Frame, nodes: Nodes, arguments: Arguments) -> Nodes:
    url = text(arguments[0](frame))
    return [found for node in nodes for found in members(node, "extension") if found.value.get("url") == url]


@function("hasExtension", 1)
def _has_extension(frame: Frame, nodes: Nodes, arguments: Arguments) -> Nodes:
    return said(bool(_extension(frame, nodes, arguments)))


@function("hasValue")
def _has_value(_: Frame, nodes: Nodes, __: Arguments) -> Nodes:
    return said(len(nodes) == 1 and nodes[0].value is not None and not isinstance(nodes[0].value, dict))


@function("getValue")
def _get_value(_: Frame, nodes: Nodes, __: Arguments) -> Nodes:
    return said(nodes[0].value) if len(nodes) == 1 and not isinstance(nodes[0].value, dict) else []


@function("resolve")
def _resolve(frame: Frame, nodes: Nodes, _: Arguments) -> Nodes:
    """References of any form; `#id` is found in the container, what else there is by the callback. What is not found is left out."""
    found = []
    for node in nodes:
        frame.run.spend(1)
        reference = node.value.get("reference") if isinstance(node.value, dict) else node.value
        if isinstance(reference, str) and (target := _target(frame, reference)):
            found.append(target)
    return found


def _target(frame: Frame, reference: str) -> Node | None:
    container = frame.run.root_resource
    if reference == "#":
        return container
    if reference.startswith("#"):
        return next((one for one in members(container, "contained") if one.value.get("id") == reference[1:]), None)
    resource = frame.run.resolve(reference) if frame.run.resolve else None
    return root(resource) if resource is not None else None


@function("memberOf", 1)
def _member_of(frame: Frame, nodes: Nodes, arguments: Arguments) -> Nodes:
    node = single(nodes)
    url = text(arguments[0](frame))
    if node is None or url is None or frame.run.member_of is None:
        return []
    return said(frame.run.member_of(node, url.partition("|")[0]))


@function("conformsTo", 1)
def _conforms_to(frame: Frame, nodes: Nodes, arguments: Arguments) -> Nodes:
    node = single(nodes)
    url = text(arguments[0](frame))
    if node is None or url is None:
        return []
    base, _, type_ = url.rpartition("/")
    if base == "http://hl7.org/fhir/StructureDefinition":
        return said(is_of(node, type_))
    found = frame.run.conforms(node, url) if frame.run.conforms else None
    if found is None:
        raise PathError("the profile of conformsTo() is not known here")
    return said(found)


@function("htmlChecks")
def _html_checks(frame: Frame, nodes: Nodes, _: Arguments) -> Nodes:
    """txt-1 and txt-2. R4's own two invariants are checked with the structure (`profiles.fhir.validation`); this is for those of profiles."""
    node = single(nodes)
    if node is None or not isinstance(node.value, str):
        return []
    frame.run.spend(len(node.value) // _CHARACTERS)
    return said(not narrative.problem(node.value))


@function("subsumes", 1)
def _subsumes(frame: Frame, nodes: Nodes, arguments: Arguments) -> Nodes:
    return _subsuming(frame, single(nodes), single(arguments[0](frame)))


@function("subsumedBy", 1)
def _subsumed_by(frame: Frame, nodes: Nodes, arguments: Arguments) -> Nodes:
    return _subsuming(frame, single(arguments[0](frame)), single(nodes))


def _subsuming(frame: Frame, ancestor: Node | None, node: Node | None) -> Nodes:
    """FHIR R4 section 4.8.4: whether any code of the one is a code of the other, or above it. Empty where the code systems here cannot tell."""
    if ancestor is None or node is None:
        return []
    pairs = [(above, below) for above in codings(ancestor) for below in codings(node)]
    frame.run.spend(len(pairs))
    answers = [_is_above(*above, *below) for above, below in pairs]
    return said(True if True in answers else None if None in answers or not answers else False)


def _is_above(system: str | None, code: str, other_system: str | None, other: str) -> bool | None:
    if (system, code) == (other_system, other):
        return True
    return terminology.subsumes(system, code, other) if system and system == other_system else None


@function("type")
def _type(_: Frame, nodes: Nodes, __: Arguments) -> Nodes:
    """FHIRPath section 10: namespace and name of each item's type."""
    return [
        Node({"namespace": "System" if of.startswith("System.") else "FHIR", "name": of.removeprefix("System.")}, TYPE_INFO)
        for of in (node.type for node in nodes)
    ]

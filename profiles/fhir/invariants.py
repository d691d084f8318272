"""Invariants of FHIR R4 (section 2.28, StructureDefinition: `ElementDefinition.constraint`): rules between elements, as FHIRPath."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Final

from profiles.fhir import fhirpath
from profiles.fhir.fhirpath import Node, PathError
from profiles.fhir.fhirpath_run import Conforms, MemberOf, Resolve, Work
from profiles.fhir.fhirpath_values import Json, children, root
from profiles.fhir.issues import Issue
from profiles.r4 import definitions
from profiles.r4.definitions import Constraint

STEPS: Final = 2_000_000
"""For all invariants of one resource: a Bundle of 1 MB takes some 50,000."""

ELSEWHERE: Final = frozenset({"dom-2", "dom-3", "dom-4", "dom-5", "ref-1", "txt-1", "txt-2"})
"""Checked with the structure (`profiles.fhir.validation`), and faster there: what is contained, and the elements of a narrative."""

CORRECTED: Final[Mapping[str, str]] = {
    # `Boolean` is FHIRPath's own type, an answer is of FHIR's `boolean`: as it stands no answer would do
    "que-7": "operator = 'exists' implies (answer is boolean)",
    # `in` takes one item on its left side (FHIRPath section 6.4.1), and `when` repeats
    "tim-9": "offset.empty() or (when.exists() and when.select($this in ('C' | 'CM' | 'CD' | 'CV')).allFalse())",
    # these say nothing where the element is not there, and it need not be
    "bdl-8": "fullUrl.empty() or fullUrl.contains('/_history/').not()",
    "md-1": "max.empty() or max = '*' or max.toInteger() > 0",
    "ras-2": "(probability is decimal).not() or probability.empty() or (probability as decimal) <= 100",
}
"""Invariants of R4 4.0.1 whose expressions do not say what their texts say: what is evaluated in their place."""


@dataclass(frozen=True, slots=True)
class Scope:
    """What expressions may see: the resource that an element is in, its container, and what the caller can look up."""

    resource: Node
    root_resource: Node
    resolve: Resolve | None = None
    member_of: MemberOf | None = None
    conforms: Conforms | None = None
    now: str = ""
    work: Work = field(default_factory=lambda: Work(STEPS))
    """All expressions on one resource share it."""

    def within(self, node: Node) -> "Scope":
        """The scope of a resource inside of this one: contained, in a Bundle or in Parameters."""
        container = self.resource if node.called == "contained" else node
        return replace(self, resource=node, root_resource=container)


def violations(resource: Json, *, resolve: Resolve | None = None, member_of: MemberOf | None = None) -> list[Issue]:
    """FHIR R4 section 2.28, ElementDefinition.constraint: every constraint that an element of the resource, or of a resource inside of it, breaks. It need not be valid otherwise."""
    beginning = root(resource)
    return [
        issue
        for node, scope in walk(beginning, Scope(beginning, beginning, resolve, member_of))
        for constraint in constraints_of(node)
        for issue in broken(constraint, node, scope)
    ]


def constraints_of(node: Node) -> tuple[Constraint, ...]:
    """R4's own constraints on an element: those of its place and those of its type."""
    return _constraints(node.parent.type if node.parent else "", node.called, node.type)


def walk(beginning: Node, scope: Scope) -> Iterator[tuple[Node, Scope]]:
    """An element and all below it, each with the scope of the resource that it is in."""
    waiting = [(beginning, scope)]
    while waiting:
        node, scope = waiting.pop()
        yield node, scope
        if isinstance(node.value, dict) or node.extra:
            below = [(child, scope.within(child) if "resourceType" in _object(child) else scope) for child in children(node)]
            waiting += reversed(below)


def broken(constraint: Constraint, node: Node, scope: Scope) -> Iterator[Issue]:
    """The issue of one constraint on one element, if it breaks it; a warning where that can't be told."""
    try:
        held = fhirpath.compile(constraint.expression).holds(
            scope.resource, context=node, root_resource=scope.root_resource, resolve=scope.resolve, member_of=scope.member_of,
            conforms=scope.conforms, now=scope.now, steps=scope.work,
        )  # fmt: skip
    except PathError as error:
        yield Issue("warning", "processing", node.path, f"{constraint.key} could not be evaluated: {error}")
        return
    if held is False or (held is None and not _is_met_unknown(constraint)):
        yield Issue(
            "error" if constraint.severity == "error" else "warning",
            "invariant",
            node.path,
            f"{constraint.key}: {constraint.human}",
        )


def _is_met_unknown(constraint: Constraint) -> bool:
    """Whether an empty result breaks nothing: a Period or Range that can't be compared (`2012` to `2012-05`, two units), a name that is not there.

    Everything else has to be true (FHIR R4 section 2.28, ElementDefinition.constraint).
    """
    return constraint.key in ("per-1", "rng-2") or constraint.expression.startswith("name.matches(")


@cache
def _constraints(parent: str, called: str, type_: str) -> tuple[Constraint, ...]:
    found: dict[tuple[str, str], Constraint] = {}
    if parent and definitions.is_type(parent) and called in (by_name := definitions.type_(parent).by_name):
        found |= {(each.key, each.expression): each for each in by_name[called][0].constraints}
    if definitions.is_type(type_):
        found |= {(each.key, each.expression): each for each in definitions.type_(type_).constraints}
    return tuple(
        replace(each, expression=CORRECTED[each.key]) if each.key in CORRECTED else each
        for each in found.values()
        if each.key not in ELSEWHERE
    )


def _object(node: Node) -> Json:
    return node.value if isinstance(node.value, dict) else {}

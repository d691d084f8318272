"""Whether elements conform to the rules of profiles (FHIR R4 section 5.1): counts, types, values, bindings, constraints; slices by `profile_slices`."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final

from profiles.fhir import invariants
from profiles.fhir.bindings import codings, member_of
from profiles.fhir.fhirpath import Node, PathError, root
from profiles.fhir.fhirpath_comparing import order
from profiles.fhir.fhirpath_run import MemberOf, Resolve, Work
from profiles.fhir.fhirpath_values import is_of, members, properties
from profiles.fhir.invariants import Scope
from profiles.fhir.issues import Issue, is_refused
from profiles.fhir.profile_rules import Find, Rule, UnknownProfile, core_type, rules, unversioned
from profiles.r4 import definitions
from profiles.r4.definitions import Constraint, Element
from profiles.r4.terminology import Terminology

Found = Iterator[Issue]
Sliced = Callable[["Check", str, Rule, list[Node], str, Scope], Found]
_DEEPEST: Final = 30
_MOST: Final = 200_000
_STEPS: Final = 2_000_000


@dataclass(slots=True)
class Check:
    """One check of one resource. `find` gives a StructureDefinition by canonical URL without version, `resolve` a resource by reference.

    `sliced` is `profile_slices.sliced`, which builds on this module.
    """

    find: Find
    terminology: Terminology
    sliced: "Sliced"
    resolve: Resolve | None = None
    now: str = ""
    member_of: MemberOf = field(init=False)
    _rules: dict[str, Rule] = field(default_factory=dict)
    _active: list[tuple[str, int]] = field(default_factory=list)
    _left: int = _MOST
    _work: Work = field(default_factory=lambda: Work(_STEPS))

    def __post_init__(self) -> None:
        self.member_of = member_of(self.terminology)

    def scope(self, node: Node) -> Scope:
        """What the expressions on a resource's elements see."""
        return Scope(node, node, self.resolve, self.member_of, self._conforms_to, self.now, self._work)

    def rules_of(self, canonical: str) -> tuple[str, Rule] | None:
        """The type that a profile is of, and its rules; None where it is not known."""
        url = unversioned(canonical)
        profile = self.find(url)
        if profile is None:
            return None
        if url not in self._rules:
            self._rules[url] = rules(profile, self.find)
        return str(profile.get("type", "")), self._rules[url]

    def profile(self, node: Node, canonical: str, scope: Scope) -> Found:
        """FHIR R4 section 5.1.0.13: all that is wrong with an element by a profile of its type; an information where that is not known."""
        if type_ := core_type(canonical):
            if not is_of(node, type_):
                yield _issue("error", "structure", node.path, f"It has to be of type {type_}.")
            return
        try:
            known = self.rules_of(canonical)
        except UnknownProfile as unknown:
            yield _issue(
                "information",
                "not-found",
                node.path,
                f"The profile {canonical} is based on {unknown.args[0]}, which is not known here.",
            )
            return
        if known is None:
            yield _issue("information", "not-found", node.path, f"The profile {canonical} is not known here: it was not checked.")
            return
        if not is_of(node, known[0]):
            yield _issue("error", "structure", node.path, f"The profile {canonical} is one of {known[0]}.")
            return
        mark = (unversioned(canonical), id(node.value))
        if mark in self._active:  # a profile that leads to itself on the same element says nothing more
            return
        if len(self._active) >= _DEEPEST:
            yield _issue(
                "warning", "too-costly", node.path, "Profiles lead to each other too deeply here: what is below was not checked."
            )
            return
        self._active.append(mark)
        try:
            yield from self.element(node, known[1], scope)
        finally:
            self._active.pop()

    def conforms(self, node: Node, canonical: str, scope: Scope) -> bool:
        """Whether nothing is wrong with it by a profile; a profile that is not known is conformed to."""
        return not is_refused(self.profile(node, canonical, scope))

    def element(self, node: Node, rule: Rule, scope: Scope) -> Found:
        """All rules of one element, and of what is below it."""
        self._left -= 1
        if self._left < 0:
            raise PathError("the profiles take too many steps on this resource")
        yield from self._values(node, rule)
        yield from self._types(node, rule, scope)
        yield from self._bound(node, rule)
        yield from self._constraints(node, rule, scope)
        for name, child in rule.children.items():
            yield from self._children(node, name, child, scope)

    def _children(self, parent: Node, name: str, rule: Rule, scope: Scope) -> Found:
        nodes = selected(parent, name)
        path = f"{parent.path}.{name.removesuffix('[x]')}"
        least = 0 if rule.minimum == _base_minimum(parent, name) else rule.minimum
        yield from counted(len(nodes), least, rule.maximum, path, "")
        for node in nodes:
            yield from self.element(node, rule, within(scope, node))
        if rule.slices:
            yield from self.sliced(self, name, rule, nodes, path, scope)

    def _values(self, node: Node, rule: Rule) -> Found:
        if rule.fixed is not None and not _is_exactly(node.value, rule.fixed):
            yield _issue("error", "value", node.path, "It has to be exactly what the profile fixes.")
        if rule.pattern is not None and not matches(node.value, rule.pattern):
            yield _issue("error", "value", node.path, "It has to have in it what the pattern of the profile has.")
        longest = rule.element.get("maxLength")
        if longest is not None and isinstance(node.value, str) and len(node.value) > longest:
            yield _issue("error", "too-long", node.path, f"It may have {longest} characters at most.")
        yield from _ranged(node, rule)

    def _types(self, node: Node, rule: Rule, scope: Scope) -> Found:
        allowed = [each for each in rule.types if not str(each.get("code", "")).startswith("http://hl7.org/fhirpath/")]
        if not allowed or node.type.startswith("System."):
            return
        fitting = [each for each in allowed if is_of(node, str(each.get("code")))]
        if not fitting:
            if "." not in node.type:  # a backbone's is its path
                names = ", ".join(str(each.get("code")) for each in allowed)
                yield _issue("error", "structure", node.path, f"The profile takes it of type {names} only.")
            return
        wanted = [profile for each in fitting for profile in each.get("profile", ())]
        if wanted and not any(not each.get("profile") for each in fitting):
            yield from self._any_profile(node, wanted, scope)
        targets = [target for each in fitting for target in each.get("targetProfile", ())]
        if targets and node.type == "Reference":
            yield from self._target(node, targets, scope)

    def _any_profile(self, node: Node, wanted: list[str], scope: Scope) -> Found:
        found = [list(self.profile(node, each, scope)) for each in wanted]
        if all(is_refused(issues) for issues in found):
            if len(found) == 1:
                yield from found[0]
            else:
                yield _issue("error", "structure", node.path, f"It conforms to none of the profiles {', '.join(wanted)}.")
        else:
            yield from next(issues for issues in found if not is_refused(issues))

    def _target(self, node: Node, targets: list[str], scope: Scope) -> Found:
        """FHIR R4 section 2.3.0.1: what a reference leads to, as far as it says so or can be found."""
        types = {core_type(each) or str((self.find(unversioned(each)) or {}).get("type", "")) for each in targets}
        if types & {"", "Resource"}:
            return
        if (target := self.target(node, scope)) is not None:
            within = self.scope(target)
            if not any(
                is_of(target, core_type(each)) if core_type(each) else self.conforms(target, each, within) for each in targets
            ):
                yield _issue("error", "structure", node.path, "What it refers to has to conform to one of the profile's targets.")
        elif (said := _said_type(node)) and said not in types:
            yield _issue("error", "structure", node.path, f"The profile lets it refer to {', '.join(sorted(types))} only.")

    def target(self, node: Node, scope: Scope) -> Node | None:
        """The resource that a reference leads to, where it is contained or can be resolved."""
        reference = node.value.get("reference") if isinstance(node.value, dict) else None
        if not isinstance(reference, str):
            return None
        if reference.startswith("#"):
            container = scope.root_resource
            return (
                container
                if reference == "#"
                else next((one for one in members(container, "contained") if one.value.get("id") == reference[1:]), None)
            )
        resource = self.resolve(reference) if self.resolve else None
        return root(resource) if resource is not None else None

    def _bound(self, node: Node, rule: Rule) -> Found:
        """FHIR R4 section 4.1.3: a required binding is an error to break, an extensible one a warning."""
        binding = rule.element.get("binding") or {}
        value_set = unversioned(str(binding.get("valueSet", "")))
        strength = binding.get("strength")
        if not value_set or strength not in ("required", "extensible") or _is_base_binding(node, value_set):
            return
        if self.member_of(node, value_set) is False and (codings(node) or strength == "required"):
            severity = "error" if strength == "required" else "warning"
            yield _issue(severity, "code-invalid", node.path, f"It needs a code of the value set {value_set}.")

    def _constraints(self, node: Node, rule: Rule, scope: Scope) -> Found:
        known = invariants.ELSEWHERE | {"ele-1", "ext-1"} | {each.key for each in invariants.constraints_of(node)}
        for each in rule.element.get("constraint", ()):
            if each.get("expression") and each.get("key") not in known:
                constraint = Constraint(
                    str(each["key"]), str(each["severity"]), str(each.get("human", "")), str(each["expression"])
                )
                yield from invariants.broken(constraint, node, scope)

    def _conforms_to(self, node: Node, canonical: str) -> bool | None:
        return self.conforms(node, canonical, self.scope(node)) if self.find(unversioned(canonical)) else None


def selected(parent: Node, name: str) -> list[Node]:
    """The children that a name in an element's path means: `value[x]` all of a choice, `valueQuantity` those of one type."""
    plain = name.removesuffix("[x]")
    if plain in properties(parent.type):
        return list(members(parent, plain))
    choices = [element for element, names in properties(parent.type).items() if any(called == plain for called, _, _ in names)]
    return [node for element in choices for node in members(parent, element) if node.called == plain]


def matches(value: Any, pattern: Any) -> bool:
    """FHIR R4 section 2.28, ElementDefinition.pattern[x]: whether a value has in it all that the pattern has."""
    if isinstance(pattern, dict):
        return isinstance(value, dict) and all(name in value and matches(value[name], each) for name, each in pattern.items())
    if isinstance(pattern, list):
        return isinstance(value, list) and all(any(matches(one, each) for one in value) for each in pattern)
    if _is_number(value) and _is_number(pattern):
        return bool(value == pattern)
    return type(value) is type(pattern) and bool(value == pattern)


def constrained(parent: Node, name: str) -> Element | None:
    """R4's own definition of a child."""
    if not definitions.is_type(parent.type):
        return None
    plain = name.removesuffix("[x]")
    return next((each for each in definitions.type_(parent.type).elements if each.name == plain), None)


def _base_minimum(parent: Node, name: str) -> int:
    """What R4 itself asks for, and what the check of the structure has found already."""
    element = constrained(parent, name)
    return element.minimum if element else 0


def counted(count: int, least: int, most: int | None, path: str, what: str) -> Found:
    if count < least:
        yield _issue("error", "required", path, f"The profile asks for at least {least}{what}; there are {count}.")
    if most is not None and count > most:
        yield _issue("error", "structure", path, f"The profile lets there be {most} at most{what}; there are {count}.")


def _ranged(node: Node, rule: Rule) -> Found:
    """`minValue[x]` and `maxValue[x]`."""
    for name, wanted, said in (("minValue", (0, 1), "least"), ("maxValue", (0, -1), "greatest")):
        limit = next((value for each, value in rule.element.items() if each.startswith(name)), None)
        if limit is None or node.value is None:
            continue
        try:
            found = order(node, Node(Decimal(str(limit)) if isinstance(limit, float) else limit, node.type))
        except PathError:
            continue
        if found is not None and found not in wanted:
            yield _issue("error", "value", node.path, f"It is beyond the {said} value of the profile.")


def _is_exactly(value: Any, fixed: Any) -> bool:
    """FHIR R4 section 2.28, ElementDefinition.fixed[x]: nothing more and nothing less, numbers as they are written."""
    if isinstance(fixed, dict):
        return (
            isinstance(value, dict)
            and value.keys() == fixed.keys()
            and all(_is_exactly(value[name], fixed[name]) for name in fixed)
        )
    if isinstance(fixed, list):
        return isinstance(value, list) and len(value) == len(fixed) and all(map(_is_exactly, value, fixed))
    return isinstance(value, bool) == isinstance(fixed, bool) and str(value) == str(fixed)


def _is_base_binding(node: Node, value_set: str) -> bool:
    element = constrained(node.parent, node.name) if node.parent else None
    return bool(element and element.binding and element.binding.value_set == value_set and element.binding.strength == "required")


def _said_type(node: Node) -> str:
    """The type of a reference's target by `type`, or by a reference of the form `Patient/1`."""
    parts = str(node.value.get("reference", "")).partition("/_history/")[0].split("/")
    if len(parts) > 1 and parts[-2] in definitions.resource_types():
        return parts[-2]
    return str(node.value.get("type", ""))


def within(scope: Scope, node: Node) -> Scope:
    return scope.within(node) if isinstance(node.value, dict) and "resourceType" in node.value else scope


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | Decimal) and not isinstance(value, bool)


def _issue(severity: Any, code: str, path: str, text: str) -> Issue:
    return Issue(severity, code, path, text)

"""Slices (FHIR R4 section 5.1.0.15, Slicing): which slice each item of a list is of, and whether the list has them as the profile wants it."""

from collections.abc import Iterator
from typing import Any, Final

from profiles.fhir import fhirpath
from profiles.fhir.fhirpath import Node, PathError
from profiles.fhir.fhirpath_syntax import Call, Literal, Member, Path, Tree, Variable, parse
from profiles.fhir.fhirpath_values import is_of
from profiles.fhir.invariants import Scope
from profiles.fhir.issues import Issue
from profiles.fhir.profile_elements import Check, counted, matches, within
from profiles.fhir.profile_rules import Json, Rule, UnknownProfile, core_type

_BY_URL: Final[Json] = {"discriminator": [{"type": "value", "path": "url"}], "rules": "open"}
_BY_TYPE: Final[Json] = {"discriminator": [{"type": "type", "path": "$this"}], "rules": "open"}


def sliced(check: Check, name: str, rule: Rule, nodes: list[Node], path: str, scope: Scope) -> Iterator[Issue]:
    """All slices of a list: each item against the rules of its slice, the count of each slice, the order, and what is in none."""
    slicing = rule.element.get("slicing") or (
        _BY_URL if name in ("extension", "modifierExtension") else _BY_TYPE if name.endswith("[x]") else {}
    )
    found: dict[str, list[Node]] = {each: [] for each in rule.slices}
    places: list[int] = []
    names = list(rule.slices)
    for node in nodes:
        slice_name = next((each for each in names if _is_in(check, slicing, node, name, each, rule.slices[each], scope)), "")
        places.append(names.index(slice_name) if slice_name else -1)
        if slice_name:
            found[slice_name].append(node)
    for slice_name, slice_rule in rule.slices.items():
        least, most = slice_rule.minimum, slice_rule.maximum
        yield from counted(len(found[slice_name]), least, most, path, f" in the slice {slice_name}")
        for node in found[slice_name]:
            yield from check.element(node, slice_rule, within(scope, node))
        if slice_rule.slices:
            yield from sliced(check, name, slice_rule, found[slice_name], path, scope)
    yield from _arranged(slicing, nodes, places)


def _arranged(slicing: Json, nodes: list[Node], places: list[int]) -> Iterator[Issue]:
    how = slicing.get("rules", "open")
    last = max((place for place, each in enumerate(places) if each >= 0), default=-1)
    for place, (node, slice_place) in enumerate(zip(nodes, places, strict=True)):
        if slice_place < 0 and how == "closed":
            yield Issue("error", "structure", node.path, "It is in none of the slices, and the profile takes nothing else.")
        elif slice_place < 0 and how == "openAtEnd" and place < last:
            yield Issue(
                "error", "structure", node.path, "It is in none of the slices, and the profile takes that at the end only."
            )
    in_slices = [each for each in places if each >= 0]
    if slicing.get("ordered") and in_slices != sorted(in_slices):
        first = next(place for place in range(1, len(places)) if 0 <= places[place] < max(places[:place]))
        yield Issue("error", "structure", nodes[first].path, "The slices are not in the order of the profile.")


def _is_in(check: Check, slicing: Json, node: Node, name: str, slice_name: str, rule: Rule, scope: Scope) -> bool:
    discriminators = slicing.get("discriminator") or []
    if not discriminators:
        # without discriminators (section 5.1.0.15) an item is of the slice that it conforms to, by the name or type of a choice if there is one
        return not any(issue.severity == "error" for issue in check.element(node, rule, within(scope, node)))
    if name.endswith("[x]") and not rule.types and discriminators == _BY_TYPE["discriminator"]:
        return node.called == slice_name
    return all(_fits(check, each, node, rule, scope) for each in discriminators)


def _fits(check: Check, discriminator: Json, node: Node, rule: Rule, scope: Scope) -> bool:
    """One discriminator (section 5.1.0.15.1) on one item. A slice that says nothing of it has no items."""
    path = str(discriminator.get("path", "$this"))
    try:
        found = _values(check, node, path, scope)
        wanted = list(_rules_at(check, rule, _steps(parse(path))))
    except (PathError, UnknownProfile):
        return False
    match discriminator.get("type"):
        case "exists":
            return _exists(found, [one for one, rest in wanted if not rest])
        case "type":
            types = [str(type_.get("code")) for one, rest in wanted if not rest for type_ in one.types]
            return bool(types) and any(is_of(each, type_) for each in found for type_ in types)
        case "profile":
            profiles = [url for one, rest in wanted if not rest for type_ in one.types for url in type_.get("profile", ())]
            return any(check.conforms(each, url, within(scope, each)) for each in found for url in profiles)
        case _:
            return _has_value(check, found, wanted)


def _values(check: Check, node: Node, path: str, scope: Scope) -> list[Node]:
    return fhirpath.compile(path).evaluate(
        scope.resource, context=node, root_resource=scope.root_resource, resolve=check.resolve, member_of=check.member_of
    )


def _exists(found: list[Node], wanted: list[Rule]) -> bool:
    for rule in wanted:
        if rule.maximum == 0:
            return not found
        if rule.minimum > 0:
            return bool(found)
    return False


def _has_value(check: Check, found: list[Node], wanted: "list[tuple[Rule, tuple[str, ...]]]") -> bool:
    """The value at the path equals what is fixed, has the pattern in it, or is of the required value set."""
    said = False
    for rule, rest in wanted:
        for pattern in (rule.fixed, rule.pattern):
            expected = list(_inside(pattern, rest)) if pattern is not None else []
            if expected:
                said = True
                if not all(any(matches(node.value, each) for node in found) for each in expected):
                    return False
        binding = rule.element.get("binding") or {}
        if not rest and not said and binding.get("strength") == "required" and binding.get("valueSet"):
            said = True
            if not any(check.member_of(node, binding["valueSet"].partition("|")[0]) for node in found):
                return False
    return said


def _inside(pattern: Any, steps: tuple[str, ...]) -> Iterator[Any]:
    """What a pattern for an element says of what is below it."""
    if isinstance(pattern, list):
        for each in pattern:
            yield from _inside(each, steps)
    elif not steps:
        yield pattern
    elif isinstance(pattern, dict) and steps[0] in pattern:
        yield from _inside(pattern[steps[0]], steps[1:])


def _steps(path: Tree) -> tuple[str, ...]:
    """A discriminator's path as names; `extension('url')` as `extension:url`, and `resolve()`, `ofType(X)` as `:resolve`, `:X`."""
    match path:
        case Variable("$this"):
            return ()
        case Member(name):
            return (name,)
        case Call("resolve", ()):
            return (":resolve",)
        case Call("extension", (Literal(str() as url, _),)):
            return (f"extension:{url}",)
        case Call("ofType", (Member(name),)):
            return (f":{name}",)
        case Path(head, steps):
            return (*_steps(head), *(each for step in steps for each in _steps(step)))  # type: ignore[arg-type]
    raise PathError("a discriminator's path has names, extension(), resolve() and ofType() only")


def _rules_at(check: Check, rule: Rule, steps: tuple[str, ...]) -> "Iterator[tuple[Rule, tuple[str, ...]]]":
    """The rules for what is at the end of a path, from the slice and from the profiles of its type; and those above with a value for all of it."""
    if rule.fixed is not None or rule.pattern is not None or not steps:
        yield rule, steps
    if not steps:
        yield from _own_slices(rule)
        return
    step, rest = steps[0], steps[1:]
    if step == ":resolve":
        targets = [url for type_ in rule.types for url in type_.get("targetProfile", ())]
        for url in targets:
            yield from _rules_of_profile(check, url, rest)
        if not rest and targets:
            yield Rule({"type": [{"code": core_type(url) or _type_of(check, url), "profile": [url]} for url in targets]}), ()
    elif step.startswith(":"):
        yield from _rules_at(check, rule, rest)
    else:
        yield from _below(check, rule, step, rest)


def _own_slices(rule: Rule) -> "Iterator[tuple[Rule, tuple[str, ...]]]":
    """A list with exactly one slice that has to be there: what that says is said of the list (`coding:loinc`)."""
    for each in rule.slices.values():
        if each.minimum > 0:
            yield each, ()


def _below(check: Check, rule: Rule, step: str, rest: tuple[str, ...]) -> "Iterator[tuple[Rule, tuple[str, ...]]]":
    name, _, url = step.partition(":")
    for child_name in (name, f"{name}[x]"):
        if (child := rule.children.get(child_name)) is None:
            continue
        if not url:
            yield from _rules_at(check, child, rest)
        for each in child.slices.values():
            if url in _profiles(each) if url else each.minimum > 0:
                yield from _rules_at(check, each, rest)
    for profile in _profiles(rule):
        if step == "url" and not rest:
            yield Rule({"fixedUri": profile.partition("|")[0]}), ()
        else:
            yield from _rules_of_profile(check, profile, (step, *rest))


def _profiles(rule: Rule) -> list[str]:
    return [url for type_ in rule.types for url in type_.get("profile", ())]


def _rules_of_profile(check: Check, url: str, steps: tuple[str, ...]) -> "Iterator[tuple[Rule, tuple[str, ...]]]":
    known = None if core_type(url) else check.rules_of(url)
    if known is not None and steps:
        yield from _rules_at(check, known[1], steps)


def _type_of(check: Check, url: str) -> str:
    known = check.rules_of(url)
    return known[0] if known else "Resource"

"""Everything that a write is refused for by the definitions alone (FHIR R4 section 2.10, Validating Resources: structure, cardinality, values, codes).

Of each type a check is made once, a closure over its elements; where a resource is right no path is made and nothing is kept. Invariants in
FHIRPath and profiles are for `profiles.fhir.invariants` and `profiles.fhir.profile_check`; whether a referenced resource exists is for the server.
"""

from collections.abc import Callable
from functools import cache
from typing import Any, Final

from profiles.fhir.element_checks import beside, bound, chosen, many, many_primitives, missing, reference, shown
from profiles.fhir.faults import MOST, Around, Check, Fault, Found, below, mistyped, one
from profiles.fhir.issues import Issue, a
from profiles.fhir.primitives import PRIMITIVES, is_valid_id
from profiles.fhir.references import is_resource
from profiles.r4.definitions import Element, Type, type_

__all__ = ["check", "is_valid_id"]
_TRANSACTIONS: Final = ("transaction", "batch")
_SHORT_FORMATS: Final = frozenset({"xml", "json", "ttl"})
"""In CapabilityStatement and TestScript they may stand for the media types (FHIR R4 section 5.2, `format`)."""


def check(resource: dict[str, Any], *, type_: str | None = None) -> list[Issue]:
    """FHIR R4 section 2.10: what is wrong with a resource, at most 100 issues; empty if nothing is. `type_` is the type that it has to be of.

    Each issue is an error, with the FHIRPath of its element.
    """
    named = resource.get("resourceType")
    if not isinstance(named, str) or not is_resource(named):
        return [Issue("error", "structure", "", "resourceType is missing, or names no resource type of FHIR R4")]
    if type_ is not None and named != type_:
        return [Issue("error", "structure", named, f"the resource is {a(named)}, not {a(type_)}")]
    faults = _whole(resource, named, is_transaction=False)
    return [Issue("error", fault.code, fault.expression(named), fault.text) for fault in (faults or ())[:MOST]]


# --- resources


def _whole(resource: dict[str, Any], name: str, *, is_transaction: bool) -> Found:
    """A resource that stands by itself, with those that it contains."""
    around = Around(is_transaction=is_transaction or (name == "Bundle" and resource.get("type") in _TRANSACTIONS))
    contained = resource.get("contained")
    if not isinstance(contained, list):
        return _compiled(name)(resource, around)
    found: list[Fault] = []
    for place, each in enumerate(contained):
        named = each.get("id") if isinstance(each, dict) else None
        if isinstance(named, str):
            if named in around.contained:
                found += one("structure", "two contained resources have the same id", ".contained", f"[{place}]", ".id")
            around.contained[named] = str(each.get("resourceType"))
    found += _compiled(name)(resource, around) or ()
    return found + _unreferred(contained, around)


def _unreferred(contained: list[Any], around: Around) -> list[Fault]:
    """dom-3: each contained resource is referred to, or refers to the one that contains it."""
    found: list[Fault] = []
    for place, (each, goes_up) in enumerate(zip(contained, around.upward, strict=False)):
        if not goes_up and isinstance(each, dict) and f"#{each.get('id')}" not in around.links and len(found) < MOST:
            found += one(
                "invariant", "dom-3: nothing in the resource refers to this contained resource", ".contained", f"[{place}]"
            )
    return found


def _contained(value: Any, around: Around) -> Found:
    """FHIR R4 section 2.3.0.2, a contained resource: dom-2, dom-4 and dom-5."""
    up_before = "#" in around.links
    around.links.discard("#")
    found = _nested(value, around, is_contained=True) or []
    around.upward.append("#" in around.links)
    if up_before:
        around.links.add("#")
    if isinstance(value, dict):
        meta = value.get("meta")
        if "contained" in value:
            found += one("invariant", "dom-2: a contained resource contains no others", ".contained")
        for name, rule in (("versionId", "dom-4"), ("lastUpdated", "dom-4"), ("security", "dom-5")):
            if isinstance(meta, dict) and name in meta:
                found += one("invariant", f"{rule}: a contained resource has no meta.{name}", ".meta", f".{name}")
    return found


def _nested(value: Any, around: Around, *, is_contained: bool = False) -> Found:
    """A resource in a resource says its own type."""
    if type(value) is not dict:
        return mistyped(value, "a resource")
    named = value.get("resourceType")
    if not isinstance(named, str) or not is_resource(named):
        return one("structure", "resourceType is missing, or names no resource type of FHIR R4")
    if is_contained:
        return _compiled(named)(value, around)
    return _whole(value, named, is_transaction=around.is_transaction)


# --- a check of each type

# Checks that are ready, by type. A thread works on checks of its own until they are all made: what is in here is never half made.
_READY: Final[dict[str, Check]] = {}


@cache
def _compiled(name: str) -> Check:
    made = dict(_READY)
    check = _type_check(name, made)
    _READY.update(made)
    return check


def _type_check(name: str, made: dict[str, Check]) -> Check:
    """The check of a type; those of types that it needs are put into `made`, itself first, since types can be in themselves."""
    if name in PRIMITIVES:
        return PRIMITIVES[name]
    if name == "Resource":
        return _nested
    if name not in made:
        names: dict[str, Check] = {}
        made[name] = _object_check(type_(name), names, _type_check("Extension", made) if name != "Extension" else None)
        for called, (element, of) in type_(name).by_name.items():
            names[called] = _element_check(element, of, name, made)
        if type_(name).kind == "resource":
            names["resourceType"] = _nothing
    return made[name]


def _nothing(_: Any, __: Around) -> Found:
    return None


def _element_check(element: Element, of: str, within: str, made: dict[str, Check]) -> Check:
    if element.name == "contained":
        return many(_contained)
    check = _type_check(of, made)
    if of == "Reference" or (of == "canonical" and element.targets):
        check = reference(check, element.targets, is_canonical=of == "canonical")
    if element.binding is not None and element.binding.strength == "required":
        takes_short = within.startswith(("CapabilityStatement", "TestScript")) and element.binding.value_set.endswith(
            "/mimetypes"
        )
        also = _SHORT_FORMATS if takes_short else frozenset[str]()
        check = bound(check, of, element.binding.value_set, also=also)
    if element.repeats:
        return many_primitives(check) if of in PRIMITIVES else many(check)
    return check


def _object_check(of: Type, names: dict[str, Check], extension: Check | None) -> Check:
    """The check of an object: `names` has those of its properties, filled in later."""
    steps = {f"{mark}{name}": f".{element.name}" for name, (element, _) in of.by_name.items() for mark in ("", "_")}
    is_element = of.kind != "resource"
    whole = _whole_check(of)

    def check(value: Any, around: Around) -> Found:
        if type(value) is not dict:
            return mistyped(value, "an object")
        if is_element and (not value or (len(value) == 1 and "id" in value)):
            return one("structure", "ele-1: an object has at least one property besides its id; leave it out")
        found: Found = None
        for name, each in value.items():
            property_check = names.get(name)
            if property_check is None:
                faults = beside(value, name, of, extension or check, around)
            elif faults := property_check(each, around):
                if f"_{name}" in value:
                    faults = [fault for fault in faults if not fault.is_null]
            else:
                continue
            if faults:
                found = below(steps.get(name) or f".{shown(name)}", faults, found)
                if len(found) >= MOST:
                    return found
        return whole(value, found)

    return check


def _whole_check(of: Type) -> Callable[[dict[str, Any], Found], Found]:
    """What an object has to have, and what it cannot have together; adds to what was found."""
    required = frozenset(each.name for each in of.elements if each.minimum and not each.is_choice)
    choices = tuple(each for each in of.elements if each.is_choice)
    is_choice_required = any(each.minimum for each in choices)
    values = frozenset(f"{mark}{name}" for each in choices for name, _ in each.names() for mark in ("", "_"))

    def check(value: dict[str, Any], found: Found) -> Found:
        if not required.issubset(value):
            found = missing(value, required, found)
        if choices and (is_choice_required or len(values.intersection(value)) > 1):
            found = chosen(value, choices, found)
        return found

    def check_extension(value: dict[str, Any], found: Found) -> Found:
        found = check(value, found)
        if values.isdisjoint(value) == ("extension" not in value):
            return [*(found or ()), *one("invariant", "ext-1: an extension has either a value or extensions")]
        return found

    return check_extension if of.name == "Extension" else check

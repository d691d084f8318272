"""Checks of elements that `profiles.fhir.validation` puts together: arrays, references, codes, and what stands beside primitives."""

import re
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any, Final

from profiles.fhir.faults import MOST, Around, Check, Fault, Found, below, mistyped, one
from profiles.fhir.issues import a
from profiles.fhir.primitives import PRIMITIVES, string
from profiles.fhir.references import RELATIVE, is_resource, parse_reference
from profiles.r4.definitions import Element, Type
from profiles.r4.terminology import codes, contains

_NAME: Final = re.compile(r"_?[A-Za-z][A-Za-z0-9]{0,63}")


# --- arrays


def many(check: Check) -> Check:
    """An array of what `check` is for."""

    def check_many(value: Any, around: Around) -> Found:
        if type(value) is not list or not value:
            return _no_array(value)
        found: Found = None
        for place, each in enumerate(value):
            if faults := check(each, around):
                found = below(f"[{place}]", faults, found)
                if len(found) >= MOST:
                    break
        return found

    return check_many


def many_primitives(check: Check) -> Check:
    """An array of primitive values. A null among them is one fault, which what stands beside the array can excuse (`sibling`)."""

    def check_many(value: Any, around: Around) -> Found:
        if type(value) is not list or not value:
            return _no_array(value)
        found: Found = None
        has_null = False
        for place, each in enumerate(value):
            if each is None:
                if not has_null:
                    fault = Fault(
                        "structure", "null in an array stands for a value that has an id or extension instead", is_null=True
                    )
                    found = below(f"[{place}]", (fault,), found)
                has_null = True
            elif faults := check(each, around):
                found = below(f"[{place}]", faults, found)
                if len(found) >= MOST:
                    break
        return found

    return check_many


def _no_array(value: Any) -> list[Fault]:
    if value == []:
        return one("structure", "an empty array is no value: leave the element out")
    return one("structure", "the element repeats: it is an array, also of one")


# --- what stands beside a primitive


def beside(value: Mapping[str, Any], name: str, of: Type, extension: Check, around: Around) -> Found:
    """FHIR R4 section 2.24.0.2: of a property that is no element, whether it is the `_name` of a primitive, and right; else it is unknown."""
    element, type_name = of.by_name.get(name[1:], (None, "")) if name[:1] == "_" else (None, "")
    if element is None or type_name not in PRIMITIVES or type_name == "xhtml" or _has_no_extensions(element, of):
        return _unknown(name, of)
    if element.repeats:
        return _beside_many(value[name], value.get(name[1:]), extension, around)
    return _beside_one(value[name], extension, around, has_value=name[1:] in value)


def _has_no_extensions(element: Element, of: Type) -> bool:
    """`id` of anything, and `url` of an extension: attributes in XML."""
    return element.is_attribute or (element.name == "id" and of.kind == "resource")


def _beside_many(siblings: Any, values: Any, extension: Check, around: Around) -> Found:
    if type(siblings) is not list or not siblings:
        return _no_array(siblings)
    if isinstance(values, list) and len(values) != len(siblings):
        return one("structure", "the array of values and the array beside it, of their ids and extensions, are not of one length")
    given = values if isinstance(values, list) else [None] * len(siblings)
    found: Found = None
    for place, (sibling, value) in enumerate(zip(siblings, given, strict=True)):
        if sibling is None and value is not None:
            continue
        if sibling is None:
            faults: Found = one("structure", "there is neither a value nor an id or extension at this place")
        else:
            faults = _beside_one(sibling, extension, around, has_value=value is not None)
        if faults:
            found = below(f"[{place}]", faults, found)
            if len(found) >= MOST:
                break
    if all(sibling is None for sibling in siblings):
        return [*(found or ()), *one("structure", "the array beside the values has only null: leave it out")]
    return found


def _beside_one(sibling: Any, extension: Check, around: Around, *, has_value: bool) -> Found:
    if type(sibling) is not dict:
        return mistyped(sibling, "an object with id or extension")
    if not sibling or (not has_value and "extension" not in sibling):
        return one("structure", "ele-1: there is neither a value nor an extension")
    found: Found = None
    for name, each in sibling.items():
        if name == "extension":
            faults = many(extension)(each, around)
        elif name == "id":
            faults = string(each, around)
        else:
            faults = one("structure", "beside a primitive value stand only id and extension")
        if faults:
            found = below(f".{shown(name)}", faults, found)
    return found


# --- names


def shown(name: str) -> str:
    """A property's name as an expression has it: what does not look like a name may be content, and is not told."""
    return name.removeprefix("_") if _NAME.fullmatch(name) else "?"


def _unknown(name: str, of: Type) -> list[Fault]:
    element = next((each for each in of.elements if each.is_choice and name.startswith(each.name)), None)
    if element is not None:
        hint = f": {element.name}[x] is one of {_listed(called for called, _ in element.names())}"
    else:
        close = get_close_matches(name[:64], of.by_name, 1)
        hint = f": is {close[0]} meant?" if close else ""
    return one("structure", f"{of.name} has no such element{hint}")


def missing(value: Mapping[str, Any], required: Iterable[str], found: Found) -> Found:
    """The elements that have to be there; an extension in the place of a primitive value is enough."""
    for name in sorted(required):
        if name not in value and f"_{name}" not in value:
            found = below(f".{name}", one("required", "the element has to be there"), found)
    return found


def chosen(value: Mapping[str, Any], choices: Iterable[Element], found: Found) -> Found:
    """FHIR R4 section 2.1.0.3.1, choice of data types: one type at most, and one at least where the element has to be there."""
    for element in choices:
        names = [name for name, _ in element.names()]
        met = [name for name in names if name in value or f"_{name}" in value]
        if len(met) > 1:
            faults = one("structure", f"{element.name}[x] has one type, here it has {' and '.join(met)}")
            found = below(f".{element.name}", faults, found)
        elif element.minimum and not met:
            found = below(f".{element.name}", one("required", f"one of {_listed(names)} has to be there"), found)
    return found


def _listed(names: Iterable[str]) -> str:
    names = list(names)
    return ", ".join(names[:8]) + (" ..." if len(names) > 8 else "")


# --- references


def reference(check: Check, targets: tuple[str, ...], *, is_canonical: bool) -> Check:
    """A Reference or canonical that may lead to `targets`; none, or Resource among them, is any type."""
    allowed = None if not targets or "Resource" in targets else frozenset(targets)

    def check_canonical(value: Any, around: Around) -> Found:
        return check(value, around) or _canonical(value, around, allowed)

    def check_reference(value: Any, around: Around) -> Found:
        if faults := check(value, around):
            return faults
        text = value.get("reference")
        if text is None:
            led = ""
        elif (match := RELATIVE.fullmatch(text)) and (match[1] in allowed if allowed else is_resource(match[1])):
            led = match[1]
        else:
            wrong, led = _led(text, around, allowed)
            if wrong:
                return below(".reference", wrong, None)
        named = value.get("type")
        return None if named is None else _named(named, led, allowed)

    return check_canonical if is_canonical else check_reference


def _led(text: str, around: Around, allowed: frozenset[str] | None) -> tuple[Found, str]:
    """What is wrong with a reference, and the type that it leads to, empty if it does not say."""
    target = parse_reference(text)
    led = target.type
    if target.form == "fragment":
        around.links.add(text)
        if not target.id:
            return None, ""
        if target.id not in around.contained:
            return one("invariant", "ref-1: no contained resource has this id"), ""
        led = around.contained[target.id]
    elif target.form == "" or (target.form == "search" and not around.is_transaction):
        return one(
            "value", "a reference is Type/id, an absolute URL, urn:uuid:, urn:oid:, or # with the id of a contained resource"
        ), ""
    return _stray(led, allowed), led


def _named(named: str, led: str, allowed: frozenset[str] | None) -> Found:
    """Reference.type (FHIR R4 section 2.3.0): a resource type by name, or the URL of a logical model."""
    if ":" in named:
        return None
    if not is_resource(named):
        return one("value", "the type is no resource type of FHIR R4", ".type")
    if led and named != led:
        return one("value", f"the type is not that of the reference, {led}", ".type")
    wrong = _stray(named, allowed)
    return below(".type", wrong, None) if wrong else None


def _canonical(text: str, around: Around, allowed: frozenset[str] | None) -> Found:
    """FHIR R4 section 2.3.0.3, canonical URLs: absolute, or a contained resource; also Type/id, as clients write it of resources on the server."""
    led = ""
    if text.startswith("#"):
        led = around.contained.get(text[1:], "")
        if not led:
            return one("invariant", "no contained resource has this id")
    elif ":" not in text:
        target = parse_reference(text.partition("|")[0])
        led = target.type
        if target.form != "relative":
            return one("value", "a canonical URL is absolute, or # with the id of a contained resource")
    return _stray(led, allowed)


def _stray(led: str, allowed: frozenset[str] | None) -> Found:
    if led and allowed is not None and led not in allowed:
        return one("value", f"{a(shown(led))} cannot be referred to here: it is one of {_listed(sorted(allowed))}")
    return None


# --- codes


def bound(check: Check, of: str, value_set: str, *, also: frozenset[str] = frozenset()) -> Check:
    """FHIR R4 section 4.1.6.1, required binding: the code is of the value set, as far as its codes are known, or one of `also`."""
    listed = codes(value_set)
    wrong = f"the code is not in the value set {value_set}, from which it has to be"
    if of != "code":
        return _bound_concept(check, value_set, wrong)
    known = also.union(code for _, code in listed or ())

    def check_code(value: Any, around: Around) -> Found:
        if type(value) is str and value in known:
            return None
        if faults := check(value, around):
            return faults
        return one("code-invalid", wrong) if listed is not None or contains(value_set, None, value) is False else None

    return check_code


def _bound_concept(check: Check, value_set: str, wrong: str) -> Check:
    """Of a Coding or CodeableConcept: one coding is enough; an extension may say why there is none."""

    def check_concept(value: Any, around: Around) -> Found:
        if faults := check(value, around):
            return faults
        codings = value.get("coding", ()) if "coding" in value or "text" in value else (value,)
        answers = [contains(value_set, each.get("system", ""), each.get("code", "")) for each in codings]
        if "extension" in value or any(answer is not False for answer in answers):
            return None
        return one("code-invalid", wrong)

    return check_concept

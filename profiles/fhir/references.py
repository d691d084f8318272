"""References between resources (FHIR R4 section 2.3): their forms, where a resource has them, and how a transaction writes them anew."""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Final, Literal

from profiles.r4.definitions import Element, resource_types, type_

_ID: Final = r"[A-Za-z0-9\-.]{1,64}"
RELATIVE: Final = re.compile(rf"([A-Z][A-Za-z]+)/({_ID})(?:/_history/({_ID}))?")
"""Type, id and version of `Patient/7/_history/2`. Whether there is such a type is for `is_resource`."""
_REST: Final = re.compile(rf"(https?://[^\s?#]*?)/([A-Z][A-Za-z]+)/({_ID})(?:/_history/({_ID}))?")
_SCHEME: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*:\S")
_SEARCH: Final = re.compile(r"([A-Z][A-Za-z]+)\?\S+")
_URN_UUID: Final = re.compile(r"urn:uuid:[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_URN_OID: Final = re.compile(r"urn:oid:[0-2](?:\.(?:0|[1-9][0-9]*))+")
_LINK: Final = re.compile(r"(<(?:a|img)\b[^<>]*?\s(?:href|src)\s*=\s*)(\"[^\"<>]*\"|'[^'<>]*')")
_URIS: Final = frozenset({"uri", "url", "canonical", "oid", "uuid"})

Form = Literal["relative", "absolute", "urn", "fragment", "search", ""]


@dataclass(frozen=True, slots=True)
class Target:
    """Where a reference leads. `form` is empty for text that is no reference.

    `type`, `id` and `version` are of a resource on a FHIR server: on ours where `url` is empty (relative references, and absolute ones that begin
    with our base); of a search (`Patient?identifier=...`) the type alone; of a fragment the id of the contained resource, empty for its container.
    """

    form: Form
    type: str = ""
    id: str = ""
    version: str = ""
    url: str = ""


@dataclass(frozen=True, slots=True)
class Found:
    """A reference in a resource. `path` is FHIRPath; `type` is Reference, canonical, uri, url, oid or uuid; `targets` the types that it may lead to."""

    path: str
    type: str
    text: str
    targets: tuple[str, ...] = ()


@cache
def _names() -> frozenset[str]:
    return frozenset(resource_types())


def is_resource(name: str) -> bool:
    """Whether R4 has a resource type of that name."""
    return name in _names()


def parse_reference(text: str, base: str = "") -> Target:
    """FHIR R4 section 2.3.0.1, literal references: what `text` is, on a server whose base URL is `base` (without `/` at its end)."""
    if (found := RELATIVE.fullmatch(text)) and is_resource(found[1]):
        return Target("relative", found[1], found[2], found[3] or "")
    if text.startswith("#"):
        return Target("fragment", id=text[1:])
    if text.startswith(("urn:uuid:", "urn:oid:")):
        return Target("urn", url=text) if _URN_UUID.fullmatch(text) or _URN_OID.fullmatch(text) else Target("")
    if (found := _REST.fullmatch(text)) and is_resource(found[2]):
        return Target("absolute", found[2], found[3], found[4] or "", "" if base and found[1] == base else text)
    if (found := _SEARCH.fullmatch(text)) and is_resource(found[1]):
        return Target("search", found[1])
    return Target("absolute", url=text) if _SCHEME.match(text) and not re.search(r"\s", text) else Target("")


def is_conditional(text: str) -> bool:
    """FHIR R4 section 3.1.0.11.4, conditional references: `Patient?identifier=...`."""
    return parse_reference(text).form == "search"


def found(resource: Mapping[str, Any]) -> list[Found]:
    """All references of a resource by its definition, in the order they stand, also in contained resources and Bundle entries.

    They are Reference.reference, and elements of type canonical, uri, url, oid and uuid; not the links of narratives.
    """
    type_name = resource.get("resourceType")
    return list(_found(resource, type_name, type_name)) if isinstance(type_name, str) and is_resource(type_name) else []


def rewritten(resource: dict[str, Any], mapping: Mapping[str, str], *, full_url: str = "") -> dict[str, Any]:
    """FHIR R4 section 3.1.0.11.2, transaction: the resource with each reference that `mapping` has replaced by what it maps to.

    Replaced are references, elements of type uri, url, oid and uuid, and the links of narratives; canonicals are not. A relative reference is looked up also
    as the absolute URL that it is beside `full_url` (FHIR R4 section 2.36.4.1), the entry's own. The resource stays as it is; parts without such a
    reference are shared with it.
    """
    type_name = resource.get("resourceType")
    if not isinstance(type_name, str) or not is_resource(type_name):
        return resource
    beside = _REST.fullmatch(full_url)

    def new(text: str) -> str:
        if text in mapping:
            return mapping[text]
        if beside and RELATIVE.fullmatch(text):
            return mapping.get(f"{beside[1]}/{text}", text)
        return text

    made: dict[str, Any] = _rewritten(resource, type_name, new)
    return made


# --- where references are


@dataclass(frozen=True, slots=True)
class _Step:
    element: Element
    type: str
    is_walked: bool
    """It is an object, with references below it."""


_BESIDE: Final = _Step(Element("", 0, 1, ("Element",)), "Element", is_walked=True)
"""What stands beside a primitive: an id and extensions (FHIR R4 section 2.24.0.2)."""


@cache
def _steps(type_name: str) -> Mapping[str, _Step]:
    """The properties of a type that are, or may have below them, a reference."""
    steps = {}
    for name, (element, of) in type_(type_name).by_name.items():
        if type_name == "Reference" and name == "reference":
            steps[name] = _Step(element, "Reference", is_walked=False)
        elif of in _URIS or of == "xhtml":
            steps[name] = _Step(element, of, is_walked=False)
        elif not type_(of).is_primitive:
            steps[name] = _Step(element, of, is_walked=True)
    return steps


def _found(value: Mapping[str, Any], type_name: str, path: str, targets: tuple[str, ...] = ()) -> Iterator[Found]:
    steps = _steps(type_name)
    for name, each in value.items():
        step = steps.get(name)
        if step is None:
            if name[:1] == "_":
                yield from _found_beside(each, f"{path}.{name[1:]}")
        elif step.type != "xhtml":
            here = f"{path}.{step.element.name}"
            for below, one in _each(each, here):
                yield from _found_one(one, step, below, targets)


def _found_one(value: Any, step: _Step, path: str, targets: tuple[str, ...]) -> Iterator[Found]:
    if not step.is_walked:
        if isinstance(value, str):
            yield Found(path, step.type, value, targets if step.type == "Reference" else step.element.targets)
    elif isinstance(value, dict):
        type_name = _type_of(value, step.type)
        if type_name:
            yield from _found(value, type_name, path, step.element.targets)


def _found_beside(value: Any, path: str) -> Iterator[Found]:
    """Of extensions of a primitive."""
    for below, one in _each(value, path):
        if isinstance(one, dict):
            yield from _found(one, "Element", below)


def _each(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, list):
        for place, one in enumerate(value):
            yield f"{path}[{place}]", one
    else:
        yield path, value


def _type_of(value: Mapping[str, Any], type_name: str) -> str:
    """The type of an object: a resource in a resource says its own; empty if there is none such."""
    if type_name != "Resource":
        return type_name
    named = value.get("resourceType")
    return named if isinstance(named, str) and is_resource(named) else ""


# --- writing them anew


def _rewritten(value: Any, type_name: str, new: Callable[[str], str]) -> Any:
    changed: dict[str, Any] | None = None
    steps = _steps(type_name)
    for name, each in value.items():
        step = steps.get(name)
        if step is not None:
            made = _rewritten_one(each, step, new)
        elif name[:1] == "_":
            made = _rewritten_one(each, _BESIDE, new)
        else:
            continue
        if made is not each:
            changed = dict(value) if changed is None else changed
            changed[name] = made
    return value if changed is None else changed


def _rewritten_one(value: Any, step: _Step, new: Callable[[str], str]) -> Any:
    if isinstance(value, list):
        made = [_rewritten_one(each, step, new) for each in value]
        return made if any(one is not each for one, each in zip(made, value, strict=True)) else value
    if isinstance(value, str) and not step.is_walked:
        if step.type == "xhtml":
            return _relinked(value, new)
        return value if step.type == "canonical" else new(value)
    if isinstance(value, dict) and step.is_walked and (type_name := _type_of(value, step.type)):
        return _rewritten(value, type_name, new)
    return value


def _relinked(div: str, new: Callable[[str], str]) -> str:
    """A narrative with its links of `a` and `img` written anew."""

    def link(found: re.Match[str]) -> str:
        quote, text = found[2][0], found[2][1:-1]
        return f"{found[1]}{quote}{new(text)}{quote}"

    made = _LINK.sub(link, div)
    return div if made == div else made

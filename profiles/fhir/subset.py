"""Parts of a resource (FHIR R4 sections 3.1.1.5.8 `_summary` and 3.1.1.5.9 `_elements`): objects in, new objects out that share what is unchanged.

Each says by the tag SUBSETTED that it is not the whole resource. `resourceType`, `id`, `meta` and modifier elements are always there: without those
(`implicitRules`, `modifierExtension`, a status) what remains could be misread.
"""

from collections.abc import Callable, Iterable
from functools import cache
from typing import Any, Final

from profiles.r4.definitions import Element, type_

Json = dict[str, Any]
_Keep = Callable[[Any], Any]
"""What of a property's value belongs to the summary."""

SUBSETTED: Final = {"system": "http://terminology.hl7.org/CodeSystem/v3-ObservationValue", "code": "SUBSETTED"}
_ALWAYS: Final = frozenset({"resourceType", "id", "meta"})


def summary(resource: Json) -> Json:
    """`_summary=true`: what the definition marks as summary at every depth, and what must be in what is included. Raises `KeyError` for no type of R4."""
    name = resource["resourceType"]
    kept = {"resourceType": name, **_summarized(name)(resource)}
    return _tagged(kept, resource)


def text(resource: Json) -> Json:
    """`_summary=text`: the narrative, and what a resource must have at its top."""
    return _only(resource, _required(resource["resourceType"]) | {"text"})


def data(resource: Json) -> Json:
    """`_summary=data`: all but the narrative."""
    return _tagged({name: value for name, value in resource.items() if name not in ("text", "_text")}, resource)


def elements(resource: Json, names: Iterable[str]) -> Json:
    """`_elements`: properties at the top by name, with those that are mandatory or change what the others mean.

    A choice is asked for as `value`, `value[x]` or `valueQuantity`. A name with a type before it (`Patient.name`) is for that type alone. A name that the type
    does not have selects nothing: a search may be over several types.
    """
    type_name = resource["resourceType"]
    asked = {name.removeprefix(f"{type_name}.").removesuffix("[x]") for name in names}
    wanted = {
        called
        for element in type_(type_name).elements
        for called, _ in element.names()
        if called in asked or element.name in asked
    }
    return _only(resource, _required(type_name) | wanted)


def _only(resource: Json, names: frozenset[str] | set[str]) -> Json:
    kept = {name: value for name, value in resource.items() if name in _ALWAYS or name.removeprefix("_") in names}
    return _tagged(kept, resource)


def _tagged(kept: Json, resource: Json) -> Json:
    meta = resource.get("meta", {})
    tags = [each for each in meta.get("tag", ()) if each.get("code") != "SUBSETTED" or each.get("system") != SUBSETTED["system"]]
    kept["meta"] = {**meta, "tag": [*tags, dict(SUBSETTED)]}
    return kept


@cache
def _required(name: str) -> frozenset[str]:
    """What a property can be called that is mandatory, or modifies the meaning of the resource."""
    required = (each for each in type_(name).elements if each.minimum > 0 or each.is_modifier)
    return frozenset(called for each in required for called, _ in each.names())


@cache
def _summarized(name: str) -> Callable[[Json], Json]:
    """Makes the summary of an object of a type."""
    type_of = type_(name)
    keepers: dict[str, _Keep | None] = {}

    def keeper(key: str) -> _Keep | None:
        """Made when a property is first met, since types nest in themselves; the definition has it, or it is not kept."""
        element, of = type_of.by_name.get(key.removeprefix("_"), (None, ""))
        if element is None:
            return None
        found = keepers[key] = _keeper(element, of) if _is_included(element) else None
        return found

    def summarize(value: Json) -> Json:
        kept: Json = {}
        for key, each in value.items():
            keep = keepers[key] if key in keepers else keeper(key)
            # What is said of a primitive beside its value counts where there is no value: it says why
            if keep is not None and (key[0] != "_" or key[1:] not in value or _has_gaps(value[key[1:]])):
                kept[key] = keep(each)
        return kept

    return summarize


def _is_included(element: Element) -> bool:
    return element.is_summary or element.minimum > 0 or element.is_modifier


def _keeper(element: Element, of: str) -> _Keep:
    if of in ("Resource", "DomainResource") or _is_kept_whole(of):
        return _whole
    summarize = _summarized(of)
    return (lambda values: [summarize(each) for each in values]) if element.repeats else summarize


@cache
def _is_kept_whole(of: str) -> bool:
    """Primitives, and types that mark nothing as summary (Extension, Narrative): the element that has one is marked, and so means all of it."""
    found = type_(of)
    return found.is_primitive or not any(each.is_summary for each in found.elements)


def _whole(value: Any) -> Any:
    return value


def _has_gaps(value: Any) -> bool:
    return isinstance(value, list) and None in value

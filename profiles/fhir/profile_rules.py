"""A profile as a tree of rules (FHIR R4 section 5.1, Profiling): differentials up the chain of base definitions, put on top of each other."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from profiles.r4 import definitions

Json = dict[str, Any]
Find = Callable[[str], Json | None]
CORE: Final = "http://hl7.org/fhir/StructureDefinition/"
_LONGEST_CHAIN: Final = 20


class UnknownProfile(LookupError):
    """A profile, or one that it is based on, is not known here. `args[0]` is its canonical URL."""


@dataclass(slots=True)
class Rule:
    """What a profile says of one element: an ElementDefinition as JSON, empty where only elements below have rules.

    `children` are by name as it stands in the path (`value[x]`, or `valueQuantity` for a type of it), `slices` by slice name, each a rule of its own.
    """

    element: Json = field(default_factory=dict)
    children: "dict[str, Rule]" = field(default_factory=dict)
    slices: "dict[str, Rule]" = field(default_factory=dict)

    @property
    def minimum(self) -> int:
        return int(self.element.get("min", 0))

    @property
    def maximum(self) -> int | None:
        """None for no limit, or none said."""
        most = str(self.element.get("max", "*"))
        return None if most == "*" else int(most)

    @property
    def fixed(self) -> Any:
        """The value of `fixed[x]`, or None."""
        return self._of_choice("fixed")

    @property
    def pattern(self) -> Any:
        """The value of `pattern[x]`, or None."""
        return self._of_choice("pattern")

    @property
    def types(self) -> list[Json]:
        found: list[Json] = self.element.get("type", [])
        return found

    def _of_choice(self, name: str) -> Any:
        return next(
            (value for key, value in self.element.items() if key.startswith(name) and key[len(name) : len(name) + 1].isupper()),
            None,
        )


def unversioned(canonical: str) -> str:
    """A canonical URL without its version and fragment."""
    return canonical.partition("|")[0].partition("#")[0]


def core_type(canonical: str) -> str:
    """The name of R4's own type of that URL, empty where it is none."""
    url = unversioned(canonical)
    name = url.removeprefix(CORE)
    return name if url.startswith(CORE) and definitions.is_type(name) else ""


def rules(profile: Json, find: Find) -> Rule:
    """FHIR R4 section 5.1.0.14: the rules of a profile with those of all that it constrains. Raises `UnknownProfile`."""
    top = Rule()
    for elements in reversed(list(_chain(profile, find))):
        for name, element in _identified(elements):
            place = _place(top, name)
            place.element = _merged(place.element, element)
    return top


def _chain(profile: Json, find: Find) -> Iterator[list[Json]]:
    """Element lists from the profile down to what is R4's own; a snapshot has everything below it already."""
    for _ in range(_LONGEST_CHAIN):
        if snapshot := profile.get("snapshot"):
            yield snapshot.get("element", [])
            return
        yield (profile.get("differential") or {}).get("element", [])
        base = str(profile.get("baseDefinition") or "")
        if core_type(base) or not base:
            return
        found = find(unversioned(base))
        if found is None:
            raise UnknownProfile(base)
        profile = found
    raise UnknownProfile(str(profile.get("url", "")))


def _identified(elements: list[Json]) -> Iterator[tuple[str, Json]]:
    """Every element with an id of the form that section 5.1.0.10 gives; those without one get theirs by path, slice name and what is above."""
    latest: dict[str, str] = {}
    for element in elements:
        path = str(element.get("path", ""))
        above, _, name = path.rpartition(".")
        slice_name = element.get("sliceName")
        full = str(element.get("id", ""))
        if not full or (slice_name and ":" not in full.rpartition(".")[2]):
            own = f"{name}:{slice_name}" if slice_name else name
            full = f"{latest.get(above, above)}.{own}" if above else own
        latest[path] = full
        yield full, element


def _place(top: Rule, full: str) -> Rule:
    place = top
    for part in full.split(".")[1:]:
        name, _, slice_name = part.partition(":")
        place = place.children.setdefault(name, Rule())
        for each in slice_name.split("/") if slice_name else ():
            place = place.slices.setdefault(each, Rule())
    return place


def _merged(below: Json, above: Json) -> Json:
    """What both say: counts only get narrower, constraints add up, anything else is as the upper one has it."""
    merged = below | above
    if "min" in below and "min" in above:
        merged["min"] = max(below["min"], above["min"])
    if "max" in below and "max" in above:
        merged["max"] = min((below["max"], above["max"]), key=lambda most: float("inf") if most == "*" else int(most))
    if "constraint" in below and "constraint" in above:
        known = {each.get("key") for each in above["constraint"]}
        merged["constraint"] = [each for each in below["constraint"] if each.get("key") not in known] + above["constraint"]
    if "slicing" in below and "slicing" in above:
        merged["slicing"] = below["slicing"] | above["slicing"]
    return merged

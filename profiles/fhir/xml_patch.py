"""XML Patch (RFC 5261, with the document of RFC 7351) on the XML form of a resource, for FHIR R4 section 3.1.0.6.

Selectors are checked against the subset of XPath below before lxml sees them, so that there are no functions, no axes and no way out of the resource.
"""

import re
from collections.abc import Callable, Mapping
from copy import deepcopy
from typing import Any, Final

from lxml import etree
from lxml.etree import _Element

from profiles.fhir.json import Malformed
from profiles.fhir.patch_error import PatchError, inapplicable, malformed
from profiles.fhir.xml import to_xml
from profiles.fhir.xml_narrative import FHIR, XHTML
from profiles.fhir.xml_reading import MOST_ATTRIBUTES, parsed, read

Json = dict[str, Any]
MOST_OPERATIONS: Final = 1000
_LONGEST: Final = 2000
_MOST_CONDITIONS: Final = 16
_MOST_WALKED: Final = 256 << 20
"""Bytes that all selectors together go through: of the document once for the path, and once for each of its conditions."""
_PRESET: Final = {"f": FHIR, "fhir": FHIR, "h": XHTML, "xhtml": XHTML}

_NAME: Final = r"(?:[A-Za-z_][\w.\-]*:)?(?:\*|[A-Za-z_][\w.\-]*)"
_LITERAL: Final = r"'[^']*'|\"[^\"]*\""
_TEXTS: Final = re.compile(_LITERAL)
_PATH: Final = rf"(?:@{_NAME}|text\(\)|\.|{_NAME}(?:/{_NAME})*(?:/@{_NAME})?)"
_STEP: Final = rf"{_NAME}(?:\[\s*(?:[0-9]{{1,6}}|{_PATH}\s*=\s*(?:{_LITERAL}))\s*\])*"
# RFC 5261 section 4.1, and in conditions also paths down to an attribute: FHIR's values are attributes
_SELECTOR: Final = re.compile(rf"/?{_STEP}(?:/{_STEP})*(?:/(?:@{_NAME}|text\(\)(?:\[[0-9]{{1,6}}\])?))?", re.ASCII)
_NAMES: Final = re.compile(
    rf"(?P<kept>{_LITERAL}|text\(\)|[0-9]+)|(?P<at>@?)(?:(?P<prefix>[A-Za-z_][\w.\-]*):)?(?P<name>\*|[A-Za-z_][\w.\-]*)", re.ASCII
)


def apply(resource: Json, body: bytes) -> Json:
    """RFC 5261 section 4: the resource after all of `<add>`, `<replace>` and `<remove>`, each on what the ones before made of it.

    Prefixes of selectors are those of the patch; names without one are in its default namespace, and in FHIR's where it has none. Where an element is added
    matters: the result has to keep the order of the definition. Raises `PatchError`: 400 for what is no patch, 422 for a selector that does not lead to
    one node, where the result is no resource, and for too much work.
    """
    try:
        patch = parsed(body)
        document = to_xml(resource)
        root = parsed(document)
    except Malformed as problem:
        raise PatchError(problem.issue, 400) from None
    left, size = _MOST_WALKED, len(document) + len(body)
    if etree.QName(patch).localname != "diff" or len(patch) > MOST_OPERATIONS:
        raise malformed(f"an XML Patch is an element diff with at most {MOST_OPERATIONS:,} operations (RFC 7351 section 2)")
    for number, operation in enumerate(patch, 1):
        kind = etree.QName(operation)
        carry_out = _CARRY_OUT.get(kind.localname)
        if carry_out is None or kind.namespace != etree.QName(patch).namespace:
            raise malformed(f"operation {number}: operations are {', '.join(_CARRY_OUT)} (RFC 5261 section 4)")
        try:
            path, namespaces, conditions = _selector(operation)
            left -= size * (1 + conditions)
            if left < 0:
                raise _Impossible("the patch takes too much work on this resource: make several of it", "too-costly")
            carry_out(operation, _selected(root, path, namespaces))
        except _Malformed as problem:
            raise malformed(f"operation {number} ({kind.localname}): {problem}") from None
        except _Impossible as problem:
            raise inapplicable(f"operation {number} ({kind.localname}): {problem}", code=problem.code) from None
    _tidy(root)
    try:
        return read(root)
    except Malformed as problem:
        raise inapplicable(f"the result is no resource: {problem}", problem.issue.expression, problem.issue.code) from None


class _Malformed(Exception):
    """The operation is none."""


class _Impossible(Exception):
    """The operation does not fit the resource."""

    def __init__(self, why: str, code: str = "processing") -> None:
        super().__init__(why)
        self.code = code


def _selector(operation: _Element) -> tuple[str, dict[str, str], int]:
    """RFC 5261 section 4.1: what an operation selects, as XPath, with its prefixes, and how many conditions there are in it."""
    if len(operation.attrib) > MOST_ATTRIBUTES or len(known := operation.nsmap) > MOST_ATTRIBUTES:
        raise _Malformed(f"an element has at most {MOST_ATTRIBUTES} attributes and prefixes")
    selector = str(operation.get("sel", "")).strip()
    if len(selector) > _LONGEST or not _SELECTOR.fullmatch(selector):
        raise _Malformed(
            "sel is a path of names with conditions such as [1] or [f:use/@value='home'], down to an element, attribute or text()"
        )
    conditions = _TEXTS.sub("", selector).count("[")
    if conditions > _MOST_CONDITIONS:
        raise _Malformed(f"sel has at most {_MOST_CONDITIONS} conditions")
    prefixes: dict[str, str] = {}
    path = _NAMES.sub(lambda match: _qualified(match, known, prefixes), selector)
    return path if path.startswith("/") else f"/{path}", {prefix: uri for uri, prefix in prefixes.items()}, conditions


def _selected(root: _Element, path: str, namespaces: dict[str, str]) -> Any:
    """RFC 5261 section 4.1: the one node, an element or a text that knows whose attribute or text it is."""
    try:
        found = root.xpath(path, namespaces=namespaces)
    except etree.XPathError:
        raise _Malformed("sel has too many steps and conditions") from None
    if not isinstance(found, list) or len(found) != 1:
        raise _Impossible(
            f"sel leads to {len(found) if isinstance(found, list) and found else 'no'} nodes, and has to lead to one"
        )
    return found[0]


def _qualified(match: re.Match[str], known: Mapping[str | None, str], prefixes: dict[str, str]) -> str:
    """RFC 5261 section 4.2: a name with a prefix that stands for its namespace; `prefixes` are by namespace. Attributes have none without a prefix."""
    prefix, name = match["prefix"], match["name"]
    if match["kept"] or (prefix is None and (match["at"] or name == "*")):
        return match[0]
    uri = known.get(prefix) or (FHIR if prefix is None else _PRESET.get(prefix))
    if not uri:
        raise _Malformed("sel has a prefix that the patch does not declare")
    return f"{match['at']}{prefixes.setdefault(uri, f'n{len(prefixes)}')}:{name}"


def _add(operation: _Element, target: Any) -> None:
    """RFC 5261 section 4.3: at the end of an element, at its beginning, before or after it, or an attribute."""
    if not isinstance(target, _Element):
        raise _Malformed("what add selects is an element")
    type_, pos = str(operation.get("type", "")), str(operation.get("pos", ""))
    if type_:
        _add_attribute(operation, target, type_)
    elif pos in ("", "prepend"):
        following = ""
        if pos:
            following, target.text = target.text or "", None
        _insert(target, 0 if pos else len(target), operation, following)
    elif pos in ("before", "after"):
        parent = target.getparent()
        if parent is None:
            raise _Impossible("there is nothing before or after the resource")
        following = ""
        if pos == "after":
            following, target.tail = target.tail or "", None
        _insert(parent, parent.index(target) + (pos == "after"), operation, following)
    else:
        raise _Malformed("pos is prepend, before or after")


def _add_attribute(operation: _Element, target: _Element, type_: str) -> None:
    name = type_.removeprefix("attribute::").removeprefix("@")
    if name == type_ or not re.fullmatch(r"[a-z]{1,20}", name):
        raise _Malformed("type is @ and the name of an attribute")
    if target.get(name) is not None:
        raise _Impossible("the attribute is there already: replace it instead")
    target.set(name, operation.text or "")


def _insert(parent: _Element, index: int, operation: _Element, following: str) -> None:
    """The content of the operation before the child of that index, and after it the text that followed that place."""
    mixed = etree.QName(parent).namespace == XHTML
    _add_text(parent, index, _kept(operation.text, mixed))
    copies = []
    for child in operation:
        copied = deepcopy(child)
        copied.tail = _kept(child.tail, mixed)
        copies.append(copied)
    parent[index:index] = copies  # one by one each would count its way through all before it
    _add_text(parent, index + len(copies), following)


def _kept(text: str | None, mixed: bool) -> str:
    """White space between elements says nothing but in XHTML."""
    return text if text and (mixed or text.strip()) else ""


def _add_text(parent: _Element, index: int, text: str) -> None:
    if text and index:
        parent[index - 1].tail = (parent[index - 1].tail or "") + text
    elif text:
        parent.text = (parent.text or "") + text


def _replace(operation: _Element, target: Any) -> None:
    """RFC 5261 section 4.4: an element by one, an attribute or text by text."""
    if not isinstance(target, _Element):
        if len(operation):
            raise _Malformed("an attribute or text is replaced by text")
        _set_text(target, operation.text or "")
        return
    if len(operation) != 1 or _kept(operation.text, mixed=False):
        raise _Malformed("an element is replaced by one element")
    parent = target.getparent()
    if parent is None:
        raise _Impossible("the whole resource can't be replaced by a patch: update it")
    copied = deepcopy(operation[0])
    copied.tail = target.tail
    parent.replace(target, copied)


def _remove(_: _Element, target: Any) -> None:
    """RFC 5261 section 4.5."""
    if not isinstance(target, _Element):
        _set_text(target, None)
        return
    parent = target.getparent()
    if parent is None:
        raise _Impossible("the whole resource can't be removed by a patch")
    index = parent.index(target)
    tail, target.tail = target.tail or "", None
    parent.remove(target)
    _add_text(parent, index, tail)


def _set_text(target: Any, text: str | None) -> None:
    owner: _Element = target.getparent()
    if target.is_attribute:
        del owner.attrib[target.attrname]
        if text is not None:
            owner.set(target.attrname, text)
    elif target.is_tail:
        owner.tail = text
    else:
        owner.text = text


_CARRY_OUT: Final[dict[str, Callable[[_Element, Any], None]]] = {"add": _add, "replace": _replace, "remove": _remove}


def _tidy(root: _Element) -> None:
    """FHIR R4 section 2.6.1: elements are never empty. What a removal left so goes, from the innermost out."""
    for element in reversed(list(root.iter(f"{{{FHIR}}}*"))):
        parent = element.getparent()
        if parent is not None and not len(element) and not element.attrib and not (element.text or "").strip():
            parent.remove(element)

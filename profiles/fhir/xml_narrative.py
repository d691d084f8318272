"""The XHTML of a narrative (FHIR R4 section 2.4.1), between its two homes: a text in JSON, an element in XML."""

import re
from typing import Any, Final, cast

from lxml import etree
from lxml.etree import _Element

from profiles.fhir.narrative import XHTML

__all__ = ["FHIR", "XHTML", "div_of", "div_text"]

FHIR: Final = "http://hl7.org/fhir"

_XML: Final = "{http://www.w3.org/XML/1998/namespace}"
_UNNAMED: Final = re.compile(r"<div(?=[\s/>])")
_DEEPEST: Final = 100
_MOST_ATTRIBUTES: Final = 100
# HTML has no end tags for these; all others have one even when they are empty
_VOID: Final = frozenset({"area", "br", "col", "hr", "img"})


def div_text(div: Any) -> str:
    """The div of JSON as it stands in XML: unchanged, but for the namespace where a client forgot it. Raises `ValueError` for what would break the document."""
    text = div.strip() if isinstance(div, str) else ""
    # A prolog would parse, but has no place within a document
    if not text.startswith(("<!", "<?")):
        for each in (text, _UNNAMED.sub(f'<div xmlns="{XHTML}"', text, count=1)):
            try:
                root = etree.fromstring(each, etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False))
            except (etree.XMLSyntaxError, ValueError):
                break
            if root.tag == f"{{{XHTML}}}div":
                return each
    raise ValueError("is not one well-formed element div of XHTML")


def div_of(element: _Element) -> str:
    """The div of XML as the text that JSON has: XHTML is the default namespace, whatever prefix the document had for it. Raises `ValueError`."""
    pieces: list[str] = []
    _write(element, f' xmlns="{XHTML}"', 1, pieces)
    return "".join(pieces)


def _write(element: _Element, namespace: str, depth: int, pieces: list[str]) -> None:
    tag = etree.QName(element)
    if tag.namespace != XHTML or depth > _DEEPEST:
        raise ValueError(f"has elements that are not of XHTML, or are nested more than {_DEEPEST} deep")
    if len(element.attrib) > _MOST_ATTRIBUTES:  # lxml looks each value up in the list of all
        raise ValueError(f"has an element with more than {_MOST_ATTRIBUTES} attributes")
    pieces.append(f"<{tag.localname}{namespace}")
    for key, text in cast("list[tuple[str, str]]", element.items()):
        if key.startswith("{") and not key.startswith(_XML):
            raise ValueError("has an attribute of another namespace")
        quoted = _escaped(text).replace('"', "&quot;").replace("\n", "&#10;").replace("\t", "&#9;")
        pieces.append(f' {key.replace(_XML, "xml:")}="{quoted}"')
    if tag.localname in _VOID and not len(element) and not element.text:
        pieces.append("/>")
        return
    pieces += (">", _escaped(element.text or ""))
    for child in element:
        _write(child, "", depth + 1, pieces)
        pieces.append(_escaped(child.tail or ""))
    pieces.append(f"</{tag.localname}>")


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("\r", "&#13;")

"""The XHTML of narratives (FHIR R4 section 2.4.2): what a `div` may have in it. Browsers show it, so nothing in it may act."""

import re
from collections.abc import Iterator
from typing import Final

from lxml import etree

XHTML: Final = "http://www.w3.org/1999/xhtml"
_PREFIX: Final = f"{{{XHTML}}}"
# The XPath of txt-1 in the definition of Narrative, and what its words have besides: chapters 7 to 11 (but 9.4) and 15 of HTML 4.0
_ELEMENTS: Final = frozenset(
    _PREFIX + name
    for name in (
        "a", "abbr", "acronym", "address", "b", "bdo", "big", "blockquote", "br", "caption", "cite", "code", "col", "colgroup", "dd", "dfn", "div",
        "dl", "dt", "em", "h1", "h2", "h3", "h4", "h5", "h6", "hr", "i", "img", "kbd", "li", "ol", "p", "pre", "q", "samp", "small", "span",
        "strong", "sub", "sup", "table", "tbody", "td", "tfoot", "th", "thead", "tr", "tt", "ul", "var",
    )
)  # fmt: skip
_ATTRIBUTES: Final = frozenset(
    {
        "abbr", "accesskey", "align", "alt", "axis", "bgcolor", "border", "cellhalign", "cellpadding", "cellspacing", "cellvalign", "char",
        "charoff", "charset", "cite", "class", "colspan", "compact", "coords", "dir", "frame", "headers", "height", "href", "hreflang", "hspace",
        "id", "lang", "longdesc", "name", "nowrap", "rel", "rev", "rowspan", "rules", "scope", "shape", "span", "src", "start", "style", "summary",
        "tabindex", "title", "type", "valign", "value", "vspace", "width", "{http://www.w3.org/XML/1998/namespace}lang",
    }
)  # fmt: skip
_LINKS: Final = ("href", "src", "cite", "longdesc")
# Browsers pass over spaces and control characters in a scheme
_SCHEME: Final = re.compile("[\x00-\x20]*([A-Za-z][A-Za-z0-9+.\\-\x00-\x20]*):")
_SCHEMES: Final = frozenset({"http", "https", "mailto", "tel", "ftp", "urn", "cid"})


def problem(div: str) -> str:
    """What is wrong with a narrative, empty if nothing is: not well formed (entities are not), txt-1 or txt-2 not met."""
    if "<!DOCTYPE" in div:
        return "a narrative has no document type declaration"
    # A parser for each: one that threads share would let them wait for each other.
    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False)
    try:
        root = etree.fromstring(div, parser)
    except (etree.XMLSyntaxError, ValueError):
        # lxml's own text quotes the input, which may be a patient's.
        return "the narrative is not well-formed XHTML: entities of HTML such as &nbsp; are not known, characters stand for themselves"
    if root.tag != _PREFIX + "div":
        return f'the narrative is one <div xmlns="{XHTML}">'
    if wrong := next(_problems(root), ""):
        return f"txt-1: {wrong}"
    if not any(text.strip() for text in root.itertext()) and root.find(f".//{_PREFIX}img[@src]") is None:
        return "txt-2: the narrative has some text or an image"
    return ""


def _problems(root: etree._Element) -> Iterator[str]:
    for element in root.iter():
        if isinstance(element, etree._Comment):
            continue
        if element.tag not in _ELEMENTS:  # nor is a processing instruction
            yield "the narrative has an element that is not for formatting (FHIR R4 section 2.4.2 lists those)"
        if len(element.attrib) > len(_ATTRIBUTES):  # lxml looks each value up in the list of all
            yield "the narrative has an attribute that is not for formatting (FHIR R4 section 2.4.2 lists those)"
        for name, value in element.attrib.items():
            if name not in _ATTRIBUTES:
                yield "the narrative has an attribute that is not for formatting (FHIR R4 section 2.4.2 lists those)"
            if name in _LINKS and not _leads_on(str(value), is_image=name == "src"):
                yield "the narrative has a link that is neither to a page nor to an image"


def _leads_on(link: str, *, is_image: bool) -> bool:
    """Whether a link opens something and does not run something; images may be in the link itself."""
    scheme = _SCHEME.match(link)
    if scheme is None:
        return True
    name = re.sub("[\x00-\x20]", "", scheme[1]).lower()
    return name in _SCHEMES or (is_image and name == "data" and link[scheme.end() :].lower().startswith("image/"))

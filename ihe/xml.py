"""XML as SOAP and ebXML use it: one careful parser, the namespaces, and reading by local name.

A message is refused when it is too large, not well formed, or carries a document type declaration (SOAP 1.2 part 1
section 5 forbids one, and every entity attack needs one).
"""

import re

from lxml import etree
from lxml.etree import _Element

RIM = "urn:oasis:names:tc:ebxml-regrep:xsd:rim:3.0"
RS = "urn:oasis:names:tc:ebxml-regrep:xsd:rs:3.0"
LCM = "urn:oasis:names:tc:ebxml-regrep:xsd:lcm:3.0"
QUERY = "urn:oasis:names:tc:ebxml-regrep:xsd:query:3.0"
XDS_B = "urn:ihe:iti:xds-b:2007"
XDSI_B = "urn:ihe:rad:xdsi-b:2009"
RMD = "urn:ihe:iti:rmd:2017"
XOP = "http://www.w3.org/2004/08/xop/include"

PREFIXES = {"rim": RIM, "rs": RS, "lcm": LCM, "query": QUERY, "xdsb": XDS_B, "xdsib": XDSI_B, "xop": XOP}

_MOST_MARKUP = 1_250_000
"""`<` and `=` in a message. What is all markup takes a hundred times its bytes of memory as a tree."""
_BYTES_EACH = 24
"""Where longer messages are allowed: ebXML has one of them in thirty bytes."""
_DOCTYPE_BEFORE_ROOT = re.compile(rb"<!DOCTYPE|<[A-Za-z_:\x80-\xff]")
_PLAIN = re.compile(r"[ !#-%'-;=?-~]*")
"""Nothing to escape: most values are so, and a long answer has thousands of them."""
_ESCAPES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "\t": "&#9;", "\n": "&#10;", "\r": "&#13;"})
_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class XmlError(ValueError):
    """Bytes that are no acceptable XML message. The message names the rule, never the content."""


def parse(data: bytes, limit: int) -> _Element:
    """The root element of `data`, at most `limit` bytes, without comments and processing instructions.

    Raises `XmlError`.
    """
    if len(data) > limit:
        raise XmlError(f"the XML message has {len(data)} bytes, the limit is {limit}")
    if data.count(b"<") + data.count(b"=") > max(_MOST_MARKUP, len(data) // _BYTES_EACH):
        raise XmlError("the XML message has more elements and attributes than its text can need: send less in one message")
    first = _DOCTYPE_BEFORE_ROOT.search(data)
    if first is not None and first[0] == b"<!DOCTYPE":
        raise XmlError("a document type declaration is not allowed (SOAP 1.2 part 1 section 5)")
    # A parser per message: one shared between threads would serialize them.
    parser = etree.XMLParser(
        resolve_entities=False, no_network=True, huge_tree=False, load_dtd=False, remove_comments=True, remove_pis=True
    )
    try:
        root = etree.fromstring(data, parser)
    except (etree.XMLSyntaxError, ValueError):
        # lxml's own text quotes the input, which may be a patient's.
        raise XmlError("the message is not well-formed XML") from None
    if root.getroottree().docinfo.internalDTD is not None:
        raise XmlError("a document type declaration is not allowed (SOAP 1.2 part 1 section 5)")
    return root


def element(namespace: str, name: str, /, **attributes: str) -> _Element:
    """A root element with all the prefixes of `PREFIXES` that its subtree may need."""
    return etree.Element(f"{{{namespace}}}{name}", {key: clean(value) for key, value in attributes.items()}, nsmap=PREFIXES)


def child(parent: _Element, namespace: str, name: str, text: str | None = None, /, **attributes: str) -> _Element:
    """A new last child of `parent`, with `text` if given."""
    made = etree.SubElement(parent, f"{{{namespace}}}{name}", {key: clean(value) for key, value in attributes.items()})
    if text is not None:
        made.text = clean(text)
    return made


def clean(text: str) -> str:
    """`text` with every character that XML 1.0 section 2.2 cannot carry replaced by U+FFFD."""
    return _NOT_XML.sub("\ufffd", text)


def escaped(text: str) -> str:
    """`text` as it stands in XML, in an element or between double quotes, `clean`."""
    return text if _PLAIN.fullmatch(text) else clean(text).translate(_ESCAPES)


def text_of(parent: _Element, name: str) -> str:
    """The trimmed text of `parent`'s first child with local name `name`, in any namespace; empty if absent."""
    return (parent.findtext(f"{{*}}{name}") or "").strip()


def local_name(node: _Element) -> str:
    """The name without its namespace."""
    return etree.QName(node).localname


def namespace_of(node: _Element) -> str:
    """The namespace, empty if none."""
    return etree.QName(node).namespace or ""

"""The forms of an answer: JSON as it is stored, pretty JSON, XML made of it, gzip (FHIR R4 sections 2.24, 2.25 and 3.1.0.1.9)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from isal import igzip
from lxml import etree
from starlette.requests import Request
from starlette.responses import Response

from profiles.fhir.json import parse, serialize
from profiles.fhir.xml import to_xml
from profiles.vocabulary import FHIR_JSON
from server.edges import turns
from server.work.fhir.listing import Listing

FHIR_XML: Final = "application/fhir+xml"
_XHTML: Final = "{http://www.w3.org/1999/xhtml}"
_WORTH: Final = 2048
"""Bytes from which gzip saves a packet."""
_SHORT: Final = 1 << 15
_LONG: Final = 1 << 20
"""Bytes that are written in a few milliseconds, in a form that is made, or as they are."""


@dataclass(frozen=True, slots=True)
class Format:
    """What a client wants. `media_type` is what its answer is called; the one of FHIR where it is empty."""

    is_xml: bool = False
    is_pretty: bool = False
    media_type: str = ""

    @property
    def content_type(self) -> str:
        return self.media_type or (FHIR_XML if self.is_xml else FHIR_JSON)


def encoded(body: bytes | Listing, wanted: Format) -> bytes:
    """A resource, as JSON or as a Bundle in parts, in the form that is wanted."""
    if not wanted.is_xml:
        plain = body.json() if isinstance(body, Listing) else body
        return serialize(parse(plain, limit=len(plain)), pretty=True) if wanted.is_pretty else plain
    document = body.xml() if isinstance(body, Listing) else to_xml(body)
    return _indented(document) if wanted.is_pretty else document


def response(
    request: Request, body: bytes | Listing, wanted: Format, *, status: int = 200, headers: dict[str, str] | None = None
) -> Response:
    """An answer with a resource in it. Large ones are compressed for who takes gzip (RFC 9110 section 12.5.3)."""
    if _takes_long(body.size if isinstance(body, Listing) else len(body), wanted):
        turns.leave(request)
    return sent(request, encoded(body, wanted), wanted, status=status, headers=headers)


def sent(
    request: Request,
    content: bytes,
    wanted: Format,
    *,
    status: int = 200,
    headers: dict[str, str] | None = None,
    packed: Callable[[], bytes] | None = None,
) -> Response:
    """As `response`, of what has its form already; `packed` gives it as gzip where that is at hand."""
    more = {"Vary": "Accept, Accept-Encoding, Authorization", **(headers or {})}
    if len(content) >= _WORTH and _takes_gzip(request):
        content = igzip.compress(content, compresslevel=1) if packed is None else packed()
        more["Content-Encoding"] = "gzip"
    return Response(content, status, headers=more, media_type=wanted.content_type)


def _takes_long(size: int, wanted: Format) -> bool:
    return size > (_SHORT if wanted.is_xml or wanted.is_pretty else _LONG)


def _takes_gzip(request: Request) -> bool:
    for part in request.headers.get("accept-encoding", "").lower().split(","):
        name, _, quality = part.partition(";")
        if name.strip() in ("gzip", "x-gzip"):
            return quality.replace(" ", "").rstrip("0").rstrip(".") not in ("q=", "q")
    return False


def _indented(document: bytes) -> bytes:
    """Line breaks and blanks between the elements of FHIR; within a narrative they would be content."""
    root = etree.fromstring(document, etree.XMLParser(resolve_entities=False, no_network=True, huge_tree=True))
    _indent(root, "\n")
    return etree.tostring(root, encoding="UTF-8", xml_declaration=True)


def _indent(element: "etree._Element", line: str) -> None:
    children = [] if str(element.tag).startswith(_XHTML) else list(element)
    if not children:
        return
    element.text = line + "  "
    for child in children:
        _indent(child, line + "  ")
        child.tail = line + "  "
    children[-1].tail = line

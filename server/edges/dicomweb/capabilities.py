"""Retrieve Capabilities (PS3.18 section 8.9 and annex H): what is offered, from the routes that do it.

A route is told by its path and method; its representations and parameters follow from where it stands. No token is needed,
as for FHIR's CapabilityStatement: nothing of a patient is told.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import orjson
from fastapi import FastAPI
from lxml import etree
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from profiles.vocabulary import DICOM, DICOM_JSON, DICOM_XML, OCTET_STREAM
from server.edges.dicomweb import accept, targets
from server.edges.dicomweb.answers import problem
from server.errors import NotAcceptable

WADL: Final = "application/vnd.sun.wadl+xml"
BASE: Final = "/dicomweb"
_STANDARD: Final = "https://dicom.nema.org/medical/dicom/current/output/html/part18.html"
_NAMESPACE: Final = "http://wadl.dev.java.net/2009/02"
_PARAMETER: Final = re.compile(r"\{(\w+)(?::\w+)?\}")
_METHODS: Final = ("GET", "POST", "PUT", "PATCH", "DELETE")
_PARTS: Final = 'multipart/related; type="{}"'.format
_PICTURES: Final = ("image/jpeg", "image/png", "image/gif")
_RENDERING: Final = ("window", "viewport", "quality", "annotation", "iccprofile")
_FRAMES: Final = ("image/jpeg", "image/jls", "image/jp2", "image/jphc", "image/dicom-rle", OCTET_STREAM)


@dataclass(frozen=True, slots=True)
class Service:
    """What routes of one kind answer with, take as a body, and take as query parameters."""

    answers: tuple[str, ...] = ()
    bodies: tuple[str, ...] = ()
    parameters: tuple[str, ...] = ()


# The first expression that matches a method and a path below the base says the kind.
_KINDS: Final[tuple[tuple[str, Service], ...]] = (
    (r"GET .*/instances/.*/rendered", Service((*_PICTURES, *map(_PARTS, _PICTURES)), (), _RENDERING)),
    (r"GET .*/rendered", Service(tuple(map(_PARTS, _PICTURES[:2])), (), _RENDERING)),
    (r"GET .*/thumbnail", Service(_PICTURES[:2], (), _RENDERING)),
    (r"GET .*/metadata", Service((DICOM_JSON, accept.JSON, _PARTS(DICOM_XML)))),
    (r"GET .*/bulkdata/.*", Service((OCTET_STREAM, _PARTS(OCTET_STREAM)))),
    (r"GET .*/frames/\{\w+\}", Service((*map(_PARTS, _FRAMES), *_FRAMES))),
    (r"GET .*/instances/\{\w+\}", Service((_PARTS(DICOM), DICOM))),
    (r"GET .*/(studies|series)/\{\w+\}", Service((_PARTS(DICOM), "application/zip"), (), ("compress",))),
    (
        r"GET .*/(studies|series|instances)",
        Service((DICOM_JSON, _PARTS(DICOM_XML)), (), ("includefield", "fuzzymatching", "limit", "offset")),
    ),
    (r"GET /workitems", Service((DICOM_JSON, _PARTS(DICOM_XML)), (), ("includefield", "limit", "offset"))),
    (r"GET /workitems/\{\w+\}", Service((DICOM_JSON, _PARTS(DICOM_XML)))),
    (r"POST /workitems/\{\w+\}/subscribers/\{\w+\}", Service((), (), ("deletionlock", "filter"))),
    (r"(POST|PUT) /workitems(/\{\w+\}(/state|/cancelrequest)?)?", Service((), (DICOM_JSON, _PARTS(DICOM_XML)))),
    (
        r"POST /studies(/\{\w+\})?",
        Service((DICOM_JSON, DICOM_XML), (_PARTS(DICOM), DICOM, _PARTS(DICOM_JSON), _PARTS(DICOM_XML))),
    ),
    (r"PATCH .*", Service((), (DICOM_JSON, accept.JSON))),
    (r"GET /changefeed", Service((accept.JSON,), (), ("offset", "limit", "startTime", "endTime", "includeMetadata"))),
    (r"POST /fetches", Service((), (accept.JSON,))),
    (r"GET /fetches/\{\w+\}", Service((accept.JSON,))),
    (r"GET /changefeed/latest", Service((accept.JSON,), (), ("includeMetadata",))),
)


@dataclass(frozen=True, slots=True)
class Offer:
    """One method of one resource. `path` is below the base URL, with `{names}`; `title` cites the paragraph that it follows."""

    path: str
    method: str
    title: str
    service: Service


def install(app: FastAPI) -> None:
    """Answers OPTIONS on the base URL and on every resource that has a route by now: called after all others."""
    offers = offered(route for route in app.router.routes if isinstance(route, Route))
    for path in ("", *dict.fromkeys(offer.path for offer in offers)):
        some = offers if not path else [offer for offer in offers if offer.path == path]
        app.add_route(BASE + path, _answering(some, whole=not path), methods=["OPTIONS"])


def offered(routes: Iterable[Route]) -> list[Offer]:
    """Everything below the base URL, in the order of the routes. HEAD goes without saying where there is GET."""
    found: list[Offer] = []
    for route in routes:
        if (
            not route.path.startswith(f"{BASE}/") or "{capability}" in route.path
        ):  # which are the same once more, at other addresses
            continue
        path = _PARAMETER.sub(r"{\1}", route.path.removeprefix(BASE))
        title = (route.endpoint.__doc__ or "").strip().partition("\n")[0]
        methods = sorted((route.methods or set()) & set(_METHODS))
        found += [Offer(path, method, title, _service(f"{method} {path}")) for method in methods]
    return found


def _service(named: str) -> Service:
    return next((service for pattern, service in _KINDS if re.fullmatch(pattern, named)), Service())


def _answering(offers: Sequence[Offer], *, whole: bool) -> Callable[[Request], Response]:
    allowed = "OPTIONS" if whole else ", ".join(sorted({"OPTIONS", *(offer.method for offer in offers)}))

    def capabilities(request: Request) -> Response:
        """PS3.18 section 8.9: what the service, or the resource that is asked, offers."""
        headers = {
            "Allow": allowed,
            "Cache-Control": "no-cache",
            "Link": f'<{_STANDARD}>; rel="profile"',
            "Vary": "Accept",
            "X-Content-Type-Options": "nosniff",
        }
        for wanted in accept.ranges(request):
            if wanted.type in (WADL, "application/xml", "text/xml", "*/*", "application/*"):
                type_ = WADL if wanted.type.endswith("*") else wanted.type
                return Response(_wadl(targets.base(request), offers), headers=headers, media_type=type_)
            if wanted.type in (accept.JSON, DICOM_JSON):
                return Response(_json(targets.base(request), offers), headers=headers, media_type=accept.JSON)
        refused = NotAcceptable(f"capabilities are offered as {WADL} or {accept.JSON}")
        return problem(request, refused.http_status, refused.detail, refused.number)

    return capabilities


def _wadl(base: str, offers: Sequence[Offer]) -> bytes:
    """Web Application Description Language (W3C submission of 31 August 2009): one resource a path, flat."""
    root = etree.Element(f"{{{_NAMESPACE}}}application", nsmap={None: _NAMESPACE})  # type: ignore[dict-item]  # lxml takes None, its stubs do not
    resources = etree.SubElement(root, f"{{{_NAMESPACE}}}resources", base=base)
    open_: dict[str, etree._Element] = {}
    for offer in offers:
        resource = open_.get(offer.path)
        if resource is None:
            resource = open_[offer.path] = etree.SubElement(resources, f"{{{_NAMESPACE}}}resource", path=offer.path.lstrip("/"))
            for name in _PARAMETER.findall(offer.path):
                etree.SubElement(resource, f"{{{_NAMESPACE}}}param", name=name, style="template", required="true")
        _method(etree.SubElement(resource, f"{{{_NAMESPACE}}}method", name=offer.method), offer)
    return etree.tostring(root, xml_declaration=True, encoding="UTF-8")


def _method(method: etree._Element, offer: Offer) -> None:
    etree.SubElement(method, f"{{{_NAMESPACE}}}doc", title=offer.title)
    request = etree.SubElement(method, f"{{{_NAMESPACE}}}request")
    for name in offer.service.parameters:
        etree.SubElement(request, f"{{{_NAMESPACE}}}param", name=name, style="query")
    for type_ in offer.service.bodies:
        etree.SubElement(request, f"{{{_NAMESPACE}}}representation", mediaType=type_)
    response = etree.SubElement(method, f"{{{_NAMESPACE}}}response")
    for type_ in offer.service.answers:
        etree.SubElement(response, f"{{{_NAMESPACE}}}representation", mediaType=type_)


def _json(base: str, offers: Sequence[Offer]) -> bytes:
    """The same as JSON: `resources` by path and method, each with what it takes and gives."""
    resources: dict[str, dict[str, object]] = {}
    for offer in offers:
        service = offer.service
        resources.setdefault(offer.path, {})[offer.method] = {
            "title": offer.title,
            "parameters": service.parameters,
            "accepts": service.bodies,
            "produces": service.answers,
        }
    return orjson.dumps({"base": base, "resources": resources})

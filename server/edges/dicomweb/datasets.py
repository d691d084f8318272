"""Answers that are data sets, not files: DICOM JSON or Native DICOM XML (PS3.18 sections 8.7.3.2 and 8.7.3.3), packed or not."""

import re
import secrets
from collections.abc import Iterable, Iterator, Mapping

import orjson
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from ihe import multipart
from profiles.dicom_xml import render
from profiles.vocabulary import DICOM_JSON, DICOM_XML
from server.edges import context
from server.edges.dicomweb import accept
from server.errors import NotAcceptable

VARY = "Accept, Accept-Encoding, Authorization"
_NO_WEIGHT = re.compile(r"\s*q\s*=\s*0(\.0*)?\s*")


def form(request: Request) -> str:
    """The media type of the data sets: `application/dicom+json` (the default), `application/json` or `application/dicom+xml`.

    XML is sent in parts, one data set in each. Raises `NotAcceptable`.
    """
    for wanted in accept.ranges(request):
        if wanted.type in (DICOM_JSON, accept.JSON):
            return wanted.type
        if wanted.type in ("*/*", "application/*"):
            return DICOM_JSON
        if wanted.type == DICOM_XML or (wanted.is_multipart and wanted.part == DICOM_XML):
            return DICOM_XML
    raise NotAcceptable(f'this resource is offered as {DICOM_JSON} and as {accept.MULTIPART}; type="{DICOM_XML}"')


def takes_gzip(request: Request) -> bool:
    """RFC 9110 section 12.5.3: `gzip` or `*` with a weight that is not 0."""
    for item in request.headers.get("accept-encoding", "").split(","):
        coding, _, parameters = item.partition(";")
        if coding.strip().lower() in ("gzip", "*"):
            return not _NO_WEIGHT.fullmatch(parameters)
    return False


def answer(form: str, results: Iterable[bytes], headers: Mapping[str, str] | None = None) -> Response:
    """Data sets, each a DICOM JSON object, in the form that was agreed; 204 where there is none (PS3.18 table 10.6.3-1)."""
    if form == DICOM_XML:
        return xml(results, headers)
    found = list(results)
    if not found:
        return Response(status_code=204, headers=dict(headers or {}))
    return Response(b"[%b]" % b",".join(found), headers=dict(headers or {}), media_type=form)


def xml(results: Iterable[bytes], headers: Mapping[str, str] | None = None) -> Response:
    """PS3.18 section 8.7.3.2: one XML document for each DICOM JSON object, made while it is sent."""
    waiting = iter(results)
    first = next(waiting, None)
    if first is None:
        return Response(status_code=204, headers=dict(headers or {}))
    boundary = secrets.token_hex(16)

    def parts() -> Iterator[bytes]:
        start = multipart.opening(boundary, {"Content-Type": DICOM_XML})
        body: bytes | None = first
        while body is not None:
            yield start + render(orjson.loads(body)) + b"\r\n"
            body = next(waiting, None)
        yield multipart.closing(boundary)

    told = {**(headers or {}), "Content-Type": multipart.content_type(boundary, DICOM_XML)}
    return StreamingResponse(context.together(parts()), headers=told)

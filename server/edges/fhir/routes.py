"""The routes of `/fhir`. Everything else under it is an OperationOutcome too."""

from fastapi import FastAPI
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from profiles.audit_event import REST_READ, REST_SEARCH, REST_VREAD
from profiles.vocabulary import FHIR_JSON
from server.edges import context
from server.edges.fhir.binary import binary
from server.edges.fhir.capability import capability_statement
from server.edges.fhir.negotiation import negotiate, pairs, prettied
from server.edges.fhir.outcome import MethodNotOffered, NotOffered, guarded
from server.edges.fhir.read import asked_otherwise, asked_resource, read, vread
from server.edges.fhir.search import asked_query, search
from server.errors import MalformedBody, TooLarge, UnsupportedMediaType
from server.store.db import instant, micros

_FORM = "application/x-www-form-urlencoded"
_METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]


def install(app: FastAPI) -> None:
    """Adds the routes of FHIR R4 section 3.1.0 that this server has, and one that refuses the others."""
    began = instant(micros())

    def metadata(request: Request) -> Response:
        """FHIR R4 section 3.1.0.8, capabilities: `GET [base]/metadata`. No token needed, nothing of patients told."""
        parameters = pairs(request.scope["query_string"])
        pretty = negotiate(request, parameters)
        body = capability_statement(context.node(request).settings, began)
        return Response(prettied(body) if pretty else body, headers={"Cache-Control": "no-cache"}, media_type=FHIR_JSON)

    app.router.routes.extend(
        [
            Route("/fhir/metadata", guarded(metadata, "read", REST_READ, asked_resource)),
            Route("/fhir/Binary/{id}", guarded(binary, "read", REST_READ, asked_resource)),
            Route("/fhir/{type}", _SEARCH),
            Route("/fhir/{type}/_search", posted, methods=["POST"]),
            Route("/fhir/{type}/{id}", guarded(read, "read", REST_READ, asked_resource)),
            Route("/fhir/{type}/{id}/_history/{version}", guarded(vread, "read", REST_VREAD, asked_resource)),
            Route("/fhir", _OTHERWISE, methods=_METHODS),
            Route("/fhir/{path:path}", _OTHERWISE, methods=_METHODS),
        ]
    )


async def posted(request: Request) -> Response:
    """FHIR R4 section 3.1.1.1, search by POST: reads the form, then searches in the thread pool."""
    limit = context.node(request).settings.max_message_bytes
    form = bytearray()
    try:
        async for chunk in request.stream():
            form += chunk
            if len(form) > limit:
                break
    except ClientDisconnect:
        form.clear()
        return await run_in_threadpool(_CUT_OFF, request)
    request.state.form = bytes(form)
    request.state.form_limit = limit
    return await run_in_threadpool(_POSTED, request)


def _posted(request: Request) -> Response:
    """Refuses what is no form before it is searched; who may not ask at all is told so first."""
    context.decision(request)
    form: bytes = request.state.form
    if len(form) > request.state.form_limit:
        request.state.form = b""
        raise TooLarge(f"a search form may have at most {request.state.form_limit} bytes here")
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != _FORM:
        request.state.form = b""
        raise UnsupportedMediaType(f"a search is posted as {_FORM}")
    return search(request)


def _cut_off(request: Request) -> Response:
    raise MalformedBody("the search form was cut off")


def _otherwise(request: Request) -> Response:
    """FHIR R4 section 3.1.0.1.4: what is not offered here."""
    context.decision(request)
    if request.method not in ("GET", "HEAD"):
        raise MethodNotOffered("this server's FHIR resources are read and searched only")
    raise NotOffered("this server has no such FHIR interaction; see [base]/metadata for what it has")


_SEARCH = guarded(search, "query", REST_SEARCH, asked_query)
_POSTED = guarded(_posted, "query", REST_SEARCH, asked_query)
_CUT_OFF = guarded(_cut_off, "query", REST_SEARCH, asked_query)
_OTHERWISE = guarded(_otherwise, "read", REST_READ, asked_otherwise)

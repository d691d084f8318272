"""How every DICOMweb answer begins, and how every error ends: RFC 9457 problem details (PS3.18 section 8.5)."""

import functools
from collections.abc import Awaitable, Callable
from http import HTTPStatus

import orjson
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, HTTPConnection, Request
from starlette.responses import Response

from profiles.audit_event import Kind, Subtype
from server.access.decisions import Decision
from server.edges import context
from server.edges.dicomweb import targets
from server.errors import AccessError, ImageShareError, Unauthenticated
from server.telemetry import failure, log

PROBLEM = "application/problem+json"
NO_STORE = "no-store"
Handler = Callable[[Request], Response]
Admit = Callable[[Request], Decision]
AsyncHandler = Callable[[Request], Awaitable[Response]]


def answering(kind: Kind, subtype: Subtype, admit: Admit = context.decision) -> Callable[[Handler], Handler]:
    """Makes an endpoint of a handler: what it raises becomes a problem, and a refusal goes into the trail as `kind` of `subtype`.

    `admit` makes the request's Decision.
    """

    def wrap(handler: Handler) -> Handler:
        @functools.wraps(handler)
        def endpoint(request: Request) -> Response:
            try:
                admit(request)  # before anything of the request is looked at
                targets.require_capability(request)
                response = handler(request)
            except Exception as error:  # noqa: BLE001 an edge answers whatever happens
                response = _failed(request, error, kind, subtype)
            return _finished(request, response)

        return endpoint

    return wrap


def answering_async(kind: Kind, subtype: Subtype) -> Callable[[AsyncHandler], AsyncHandler]:
    """The same for a handler whose request body streams in."""

    def wrap(handler: AsyncHandler) -> AsyncHandler:
        @functools.wraps(handler)
        async def endpoint(request: Request) -> Response:
            try:
                await run_in_threadpool(context.decision, request)
                response = await handler(request)
            except ClientDisconnect:
                response = Response(status_code=400)  # for the log: nobody reads it
            except Exception as error:  # noqa: BLE001 an edge answers whatever happens
                response = await run_in_threadpool(_failed, request, error, kind, subtype)
            return _finished(request, response)

        return endpoint

    return wrap


def problem(request: HTTPConnection, status: int, detail: str, number: int) -> Response:
    """RFC 9457: `number` is that of the error (`server.errors`), `requestId` is also in the header."""
    body = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "number": number,
        "requestId": context.request_id(request),
    }
    return Response(orjson.dumps(body), status, {"Cache-Control": NO_STORE}, PROBLEM)


def _failed(request: Request, error: Exception, kind: Kind, subtype: Subtype) -> Response:
    if not isinstance(error, ImageShareError):
        log().error("request failed", door="dicomweb", request_id=context.request_id(request), **failure(error))
        return problem(request, 500, "the server failed; the request id helps to find out why", ImageShareError.number)
    if isinstance(error, AccessError):
        try:
            context.refused(request, error, kind, subtype, entities=targets.asked(request, kind))
        except Exception as lost:  # noqa: BLE001 a refusal stays one where the trail cannot be written; that is logged
            log().error("refusal not recorded", door="dicomweb", request_id=context.request_id(request), **failure(lost))
    response = problem(request, error.http_status, error.detail, error.number)
    if isinstance(error, Unauthenticated):
        known = "authorization" in request.headers
        response.headers["WWW-Authenticate"] = 'Bearer realm="imageshare"' + (', error="invalid_token"' if known else "")
    if error.http_status in (503, 507):
        response.headers["Retry-After"] = "5"
    return response


def _finished(request: Request, response: Response) -> Response:
    response.headers["X-Request-Id"] = context.request_id(request)
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers.setdefault("Cache-Control", NO_STORE)
    return response

"""Errors as FHIR says them: an OperationOutcome, whatever went wrong, and the trail's note of every refusal."""

import re
from collections.abc import Awaitable, Callable

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from profiles.audit_event import AuditedEntity, Kind, Subtype
from profiles.fhir.issues import Issue, outcome
from profiles.fhir.json import serialize
from server.edges import context
from server.edges.fhir.formats import Format, response
from server.edges.fhir.negotiation import negotiate, pairs
from server.edges.turns import OutOfTurn
from server.errors import AccessError, ImageShareError, Unauthenticated, Unavailable
from server.telemetry import failure, log
from server.work.fhir.offered import MethodNotOffered
from server.work.fhir.reading import Deleted

Handler = Callable[[Request], Response]
_LONG_QUERY = 1024
_MANY_NAMES = 10
_LARGE_PAGE = re.compile(rb"(^|&)_count=\d{3}")


def guarded(handler: Handler, kind: Kind, subtype: Subtype, asked: Callable[[Request], tuple[AuditedEntity, ...]]) -> Handler:
    """`handler` with its errors told in FHIR, and its refusals in the trail as `kind` and `subtype` on what was `asked`."""

    def answered(request: Request) -> Response:
        try:
            try:
                told = handler(request)
            except (AccessError, Deleted) as error:  # that something was there is told of it
                context.refused(request, error, kind, subtype, entities=asked(request))
                told = _told(request, error)
        except OutOfTurn:
            raise
        except Exception as error:  # noqa: BLE001 no trace may leave, whatever happened
            told = _failed(request, error)
        return finished(request, told)

    return answered


def in_turns(handler: Handler) -> Callable[[Request], Awaitable[Response]]:
    """The same for what is mostly quick: several such requests are answered in one turn (`edges.turns`). `handler` is guarded."""

    async def answered(request: Request) -> Response:
        query: bytes = request.scope["query_string"]
        names = tuple(each.partition(b"=")[0] for each in query.split(b"&"))
        like = (request.path_params.get("type"), request.path_params.get("compartment"), names)
        try:
            if not _may_be_quick(query, names) or context.waits(request):
                return await run_in_threadpool(handler, request)
            return await context.node(request).turns.answer(request, handler, like)
        except Exception as error:  # noqa: BLE001 as above
            return finished(request, _failed(request, error))

    return answered


def _may_be_quick(query: bytes, names: tuple[bytes, ...]) -> bool:
    """Not so: what takes long to be understood and made into SQL, and pages of many resources that are each made smaller."""
    if len(query) > _LONG_QUERY or len(names) > _MANY_NAMES:
        return False
    if any(b"." in each or each.startswith((b"_has", b"_filter")) for each in names):
        return False
    made_smaller = b"_summary" in names or b"_elements" in names
    return not (made_smaller and _LARGE_PAGE.search(query))


def finished(request: Request, told: Response) -> Response:
    """The headers that every answer carries."""
    told.headers["X-Request-Id"] = context.request_id(request)
    told.headers["X-Content-Type-Options"] = "nosniff"
    told.headers.setdefault("Cache-Control", "no-store")
    return told


def outcome_response(request: Request, status: int, issues: tuple[Issue, ...]) -> Response:
    """FHIR R4 section 3.1.0.1.4: an OperationOutcome, in the form that the client takes; in JSON where it takes none that there is."""
    return response(request, serialize(outcome(issues)), _acceptable(request), status=status)


def issues_of(error: ImageShareError) -> tuple[Issue, ...]:
    """What an error says of itself: one issue, or those that it has."""
    found: tuple[Issue, ...] = getattr(error, "issues", ())
    return found or (Issue("error", error.fhir_code, str(getattr(error, "expression", "")), error.detail),)


def _failed(request: Request, error: Exception) -> Response:
    if isinstance(error, ImageShareError):
        return _told(request, error)
    log().error("fhir", request_id=context.request_id(request), **failure(error))
    issue = Issue("fatal", "exception", "", f"the server failed; request {context.request_id(request)}")
    return outcome_response(request, 500, (issue,))


def _told(request: Request, error: ImageShareError) -> Response:
    """FHIR R4 section 3.1.0.1.4: the status, the issues, and what a client needs to go on."""
    told = outcome_response(request, error.http_status, issues_of(error))
    if isinstance(error, Unauthenticated):
        # RFC 6750 section 3.1: a request without a token is told the scheme only.
        invalid = ', error="invalid_token"' if "authorization" in request.headers else ""
        told.headers["WWW-Authenticate"] = f'Bearer realm="imageshare"{invalid}'
    if isinstance(error, MethodNotOffered):
        told.headers["Allow"] = error.allow
    if isinstance(error, Unavailable):
        told.headers["Retry-After"] = "5"
    for name, value in getattr(error, "headers", {}).items():
        told.headers[name] = value
    return told


def _acceptable(request: Request) -> Format:
    try:
        return negotiate(request, pairs(request.scope["query_string"]))
    except ImageShareError:
        return Format()

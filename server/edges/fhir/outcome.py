"""Errors as FHIR says them: an OperationOutcome, whatever went wrong, and the trail's note of every refusal."""

from collections.abc import Callable

import orjson
from starlette.requests import Request
from starlette.responses import Response

from profiles.audit_event import AuditedEntity, Kind, Subtype
from profiles.vocabulary import FHIR_JSON
from server.edges import context
from server.errors import AccessError, ImageShareError, MalformedQuery, NotFound, Unauthenticated, Unavailable
from server.telemetry import failure, log

Handler = Callable[[Request], Response]


class ParameterError(MalformedQuery):
    """A search parameter that is at fault. `parameter` is its name, where that is fit to be repeated."""

    def __init__(self, parameter: str, detail: str, code: str = "value") -> None:
        super().__init__(detail)
        self.parameter = parameter
        self.fhir_code = code


class NotOffered(NotFound):
    """A resource type or interaction of FHIR that this server does not have."""

    fhir_code = "not-supported"


class MethodNotOffered(NotOffered):
    """A method that no resource here takes."""

    http_status = 405


def outcome(code: str, diagnostics: str, *, severity: str = "error", expression: str = "", id_: str = "") -> bytes:
    """FHIR R4 section 2.23, OperationOutcome with one issue, as JSON. `code` is of the ValueSet issue-type."""
    issue: dict[str, object] = {"severity": severity, "code": code, "diagnostics": diagnostics}
    if expression:
        issue["expression"] = [expression]
    return orjson.dumps({"resourceType": "OperationOutcome", **({"id": id_} if id_ else {}), "issue": [issue]})


def guarded(handler: Handler, kind: Kind, subtype: Subtype, asked: Callable[[Request], tuple[AuditedEntity, ...]]) -> Handler:
    """`handler` with its errors told in FHIR, and its refusals in the trail as `kind` and `subtype` on what was `asked`."""

    def answered(request: Request) -> Response:
        try:
            try:
                response = handler(request)
            except AccessError as error:
                context.refused(request, error, kind, subtype, entities=asked(request))
                response = _told(request, error)
        except ImageShareError as error:
            response = _told(request, error)
        except Exception as error:  # noqa: BLE001 no trace may leave, whatever happened
            log().error("fhir", request_id=context.request_id(request), **failure(error))
            body = outcome("exception", f"the server failed; request {context.request_id(request)}", severity="fatal")
            response = Response(body, 500, media_type=FHIR_JSON)
        return finished(request, response)

    return answered


def finished(request: Request, response: Response) -> Response:
    """The headers that every answer carries."""
    response.headers["X-Request-Id"] = context.request_id(request)
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers.setdefault("Cache-Control", "no-store")
    return response


def _told(request: Request, error: ImageShareError) -> Response:
    """FHIR R4 section 3.1.0.1.4: the status, the issue, and what a client needs to go on."""
    parameter = error.parameter if isinstance(error, ParameterError) else ""
    response = Response(outcome(error.fhir_code, error.detail, expression=parameter), error.http_status, media_type=FHIR_JSON)
    if isinstance(error, Unauthenticated):
        # RFC 6750 section 3.1: a request without a token is told the scheme only.
        invalid = ', error="invalid_token"' if "authorization" in request.headers else ""
        response.headers["WWW-Authenticate"] = f'Bearer realm="imageshare"{invalid}'
    if isinstance(error, MethodNotOffered):
        response.headers["Allow"] = "GET, HEAD"
    if isinstance(error, Unavailable):
        response.headers["Retry-After"] = "5"
    return response

"""From a request of Starlette to a `Message` of the authorization server, and from its `Answer` to a response."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Final
from urllib.parse import parse_qsl

import orjson
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from profiles.audit_event import REFUSED, Agent, Subtype
from server.access.oauth.messages import JSON, UNCACHED, Answer, Message, answer
from server.edges.context import address, node, request_id
from server.errors import ImageShareError, MalformedBody, Refused, TooLarge, TooManyAttempts, UnsupportedMediaType
from server.telemetry import failure, log

_MOST_BYTES: Final = 64 << 10
_MOST_FIELDS: Final = 100
_FORM: Final = "application/x-www-form-urlencoded"
Handler = Callable[[Request, Message], Answer]


def endpoint(handler: Handler, subtype: Subtype, *, body: str = _FORM) -> Callable[[Request], Awaitable[Response]]:
    """`handler` as an endpoint that takes a form, or another media type; its refusals stand in the trail as `subtype`."""

    async def answered(request: Request) -> Response:
        try:
            message = await received(request, body)
            told = await run_in_threadpool(handler, request, message)
        except ImageShareError as error:
            told = _failed(error)
        except Exception as error:  # noqa: BLE001 no trace may leave, whatever happened
            log().error("request failed", door="oauth", request_id=request_id(request), **failure(error))
            told = answer(500, {"error": "server_error", "error_description": "the server could not do it"})
        if told.status in (400, 401, 403):
            await run_in_threadpool(_refused, request, told, subtype)
        return sent(request, told)

    return answered


async def received(request: Request, media_type: str) -> Message:
    """Method, parameters and body. Raises `Refused` and its like for what is none of them."""
    message = Message(
        request.method, pairs(request.scope["query_string"]), authorization=request.headers.get("authorization", ""),
        address=address(request), request_id=request_id(request),
    )  # fmt: skip
    if request.method not in ("POST", "PUT"):
        return message
    given = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if given != media_type:
        raise UnsupportedMediaType(f"the body has to be {media_type}")
    content = bytearray()
    async for piece in request.stream():
        content += piece
        if len(content) > _MOST_BYTES:
            raise TooLarge("the body has at most 64 KiB")
    if media_type == _FORM:
        return replace(message, form=pairs(bytes(content)))
    try:
        return replace(message, body=orjson.loads(bytes(content)))
    except orjson.JSONDecodeError:
        raise MalformedBody("the body is no JSON") from None


def pairs(text: bytes) -> list[tuple[str, str]]:
    """WHATWG URL section 5.1: names and values in their order, decoded. Raises `Refused`."""
    try:
        found = parse_qsl(text.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=_MOST_FIELDS)
    except ValueError:
        raise Refused(f"parameters are percent-encoded UTF-8, and at most {_MOST_FIELDS}") from None
    if any("\0" in name + value for name, value in found):
        raise Refused("a parameter has a character that is not taken")
    return found


def sent(request: Request, told: Answer) -> Response:
    """The answer, with what every response has."""
    response = Response(told.body, told.status, {"X-Request-Id": request_id(request), "X-Content-Type-Options": "nosniff"})
    for name, value in told.headers:
        response.headers[name] = value
    return response


def document(request: Request, told: object, media_type: str = JSON[1], *, seconds: int = 300) -> Response:
    """A document that is the same for everybody, and may be kept for a while."""
    headers = {
        "Cache-Control": f"public, max-age={seconds}",
        "X-Request-Id": request_id(request),
        "X-Content-Type-Options": "nosniff",
    }
    return Response(orjson.dumps(told), 200, headers, media_type)


def _failed(error: ImageShareError) -> Answer:
    """RFC 6749 section 5.2 knows no other codes for what is wrong with a request, and none for what is wrong with a server."""
    code = "invalid_request" if error.http_status < 500 else "temporarily_unavailable"
    seconds = error.retry_after if isinstance(error, TooManyAttempts) else 1
    retry = (("Retry-After", str(seconds)),) if error.http_status in (429, 503) else ()
    told = answer(error.http_status, {"error": code, "error_description": error.detail})
    return replace(told, headers=(*(told.headers or UNCACHED), *retry))


def _refused(request: Request, told: Answer, subtype: Subtype) -> None:
    """One event for each reason and address a minute (`records.strangers`): whoever comes here has shown nothing yet."""
    try:
        reason = str(orjson.loads(told.body).get("error", ""))
    except orjson.JSONDecodeError:
        reason = ""
    action = node(request).trail.action(
        "security", subtype, Agent(identifier="anonymous", address=address(request)), rest=False, outcome=REFUSED,
        outcome_desc=reason, request_id=request_id(request),
    )  # fmt: skip
    node(request).strangers.refused(action)

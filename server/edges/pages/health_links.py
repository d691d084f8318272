"""What apps ask of a share that they were given as a SMART Health Link: JSON and encrypted files, for pages of other sites too, never with a cookie."""

from collections.abc import Callable
from typing import Any, Final

import orjson
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from profiles.audit_event import RAD_107, AuditedEntity
from profiles.smart.health_link import JOSE
from server.edges import context
from server.edges.pages.wording import browser_of
from server.errors import ImageShareError, Refused, TooLarge, TooManyAttempts, Unauthenticated, UnsupportedMediaType
from server.telemetry import failure, log
from server.work.portal.sharing import Coming, PasscodeRefused

_MOST_BYTES: Final = 16 << 10
_LONGEST: Final = 100
_POLLING: Final = 3600
"""Seconds after which an app that keeps the link may ask again."""


async def manifest(request: Request) -> Response:
    """`POST /shl/{path}`: section "SMART Health Link Manifest Request"."""
    try:
        asked = await _json(request)
    except ImageShareError as error:
        return _finish(request, _problem(error))
    return await run_in_threadpool(_answered, request, _manifest, asked)


async def direct(request: Request) -> Response:
    """`GET /shl/{path}?recipient=`: section "SMART Health Link Direct File Request"."""
    return await run_in_threadpool(_answered, request, _direct, dict(request.query_params))


async def file(request: Request) -> Response:
    """`GET /shl/{path}/{file}`: section "`.files.location` links"."""
    return await run_in_threadpool(_answered, request, _file, {})


def _manifest(request: Request, asked: dict[str, Any]) -> Response:
    most = asked.get("embeddedLengthMax")
    if most is not None and (not isinstance(most, int) or isinstance(most, bool) or most < 0):
        raise Refused("embeddedLengthMax is a number of characters")
    passcode = asked.get("passcode") or ""
    if not isinstance(passcode, str):
        raise Refused("passcode is a string")
    links = context.node(request).health_links
    made = links.manifest(_path(request), passcode[:_LONGEST], most, _coming(request, asked))
    return JSONResponse(made, headers={"Retry-After": str(_POLLING)})


def _direct(request: Request, asked: dict[str, Any]) -> Response:
    made = context.node(request).health_links.direct(_path(request), _coming(request, asked))
    return Response(made, media_type=JOSE)


def _file(request: Request, _: dict[str, Any]) -> Response:
    found = context.node(request).health_links.file(_path(request), request.path_params["file"])
    context.trusted(request, found.decision)
    entities = tuple(
        AuditedEntity(reference=f"ImagingStudy/{each.id}", details=(("shown", "health-link"),)) for each in found.studies
    )
    context.told(request, "read", RAD_107, patients=[found.patient], entities=entities, rest=False)
    return Response(found.jwe, media_type=JOSE)


def _coming(request: Request, asked: dict[str, Any]) -> Coming:
    """Who asks: `recipient` is what they say they are. Raises `Refused` without."""
    recipient = asked.get("recipient")
    if not isinstance(recipient, str) or not recipient.strip() or "\0" in recipient:
        raise Refused("recipient is needed: a name that the patient is shown")
    agent = request.headers.get("user-agent", "")
    return Coming(recipient.strip()[:80], browser_of(agent), context.address(request), context.request_id(request))


def _path(request: Request) -> str:
    return str(request.path_params["path"])[:_LONGEST]


def _answered(request: Request, handler: Callable[[Request, dict[str, Any]], Response], asked: dict[str, Any]) -> Response:
    try:
        response = handler(request, asked)
    except PasscodeRefused as error:
        response = JSONResponse({"detail": error.detail, "remainingAttempts": error.left}, 401)
    except Unauthenticated as error:  # it ended while it was read
        response = JSONResponse({"detail": error.detail}, 404)
    except ImageShareError as error:
        response = _problem(error)
    except Exception as error:  # noqa: BLE001 no trace may leave, whatever happened
        log().error("request failed", door="health link", request_id=context.request_id(request), **failure(error))
        response = _problem(ImageShareError("something went wrong on our side"))
    return _finish(request, response)


def _problem(error: ImageShareError) -> Response:
    headers = {"Retry-After": str(error.retry_after)} if isinstance(error, TooManyAttempts) else {}
    return JSONResponse({"detail": error.detail}, error.http_status, headers)


def _finish(request: Request, response: Response) -> Response:
    response.headers.setdefault("Cache-Control", "no-store")
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Referrer-Policy"] = "no-referrer"
    response.headers["X-Request-Id"] = context.request_id(request)
    return response


async def _json(request: Request) -> dict[str, Any]:
    """The object in the request's body. Raises `Refused` and its like."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise UnsupportedMediaType("the manifest is asked for with application/json")
    content = bytearray()
    async for piece in request.stream():
        content += piece
        if len(content) > _MOST_BYTES:
            raise TooLarge("this is more than a manifest request can hold")
    try:
        asked = orjson.loads(bytes(content))
    except orjson.JSONDecodeError:
        raise Refused("the request's body is no JSON") from None
    if not isinstance(asked, dict):
        raise Refused("the request's body is a JSON object with recipient, and passcode where one is asked for")
    return asked

"""Bodies of requests: read as they arrive, before the handler runs in the thread pool; nothing of strangers is held."""

from collections.abc import Awaitable, Callable
from typing import Final

from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from server.edges import context
from server.errors import ImageShareError, MalformedBody, TooLarge

Handler = Callable[[Request], Response]
MOST_BYTES: Final = 64 << 20
"""Of one body. A Binary, whose content goes to the blob store, is not read by this."""


def received(handler: Handler, *, limit: int = MOST_BYTES) -> Callable[[Request], Awaitable[Response]]:
    """`handler`, which runs in the thread pool once the request's body is there: `body(request)` is it.

    Who has no token is not listened to: the handler, which asks who it is first, says so. A body that is too long or cut off is refused by `body`,
    so that the handler can refuse what comes before it.
    """

    async def answered(request: Request) -> Response:
        request.state.body = b""
        if await run_in_threadpool(_is_known, request):
            request.state.body = await _read(request, limit)
        return await run_in_threadpool(handler, request)

    return answered


def body(request: Request) -> bytes:
    """The body that `received` read; empty where the request has none. Raises `TooLarge` and `MalformedBody`."""
    found: bytes | ImageShareError = getattr(request.state, "body", b"")
    if isinstance(found, ImageShareError):
        raise found
    return found


def _is_known(request: Request) -> bool:
    try:
        context.decision(request)
    except ImageShareError:
        return False
    return True


async def _read(request: Request, limit: int) -> bytes | ImageShareError:
    too_large = TooLarge(f"a body may have at most {limit} bytes here")
    declared = request.headers.get("content-length", "0")
    if declared.isascii() and declared.isdigit() and int(declared[:18]) > limit:
        return too_large
    pieces = bytearray()
    try:
        async for chunk in request.stream():
            pieces += chunk
            if len(pieces) > limit:
                return too_large
    except ClientDisconnect:
        return MalformedBody("the body was cut off")
    return bytes(pieces)

"""Bodies of requests: read as they arrive, before the handler runs in the thread pool; nothing of strangers is held.

Decoded, a body takes up to twenty times its room. Its values are counted in its text before, and large ones wait until there is room for them.
"""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Final

from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from server.edges import context
from server.edges.fhir import content_coding
from server.errors import Busy, Forbidden, ImageShareError, MalformedBody, TooLarge

Handler = Callable[[Request], Response]
MOST_BYTES: Final = 64 << 20
"""Of one body. A Binary, whose content goes to the blob store, is not read by this."""
MOST_VALUES: Final = 4_000_000
"""Of one body, and of all large ones in work at once: 64 MiB of real resources have 2.9 million. Decoded these are half a gigabyte at most."""
_MOST_HELD: Final = 8 * MOST_BYTES
"""Bytes of large bodies that are being read, wait or are in work."""
_LARGE: Final = 1 << 20
_MARKS: Final = (b"{", b"[", b",", b"<")
"""What each value of JSON or XML has one of, or less."""


class Gate:
    """The large bodies of one process. Used by its event loop alone."""

    def __init__(self, *, values: int = MOST_VALUES, held: int = _MOST_HELD) -> None:
        self._most_values, self._most_held = values, held
        self._values = self._held = 0
        self._turn, self._left = asyncio.Lock(), asyncio.Event()

    @contextmanager
    def holding(self) -> Iterator[Callable[[int], None]]:
        """A function that takes room for so many bytes more, until this ends. It raises `Busy` where there is none."""
        taken = 0

        def hold(size: int) -> None:
            nonlocal taken
            if self._held + size > self._most_held:
                raise Busy("too many large bodies are sent at once; send this again later")
            taken += size
            self._held += size

        try:
            yield hold
        finally:
            self._held -= taken

    @asynccontextmanager
    async def passed(self, values: int) -> AsyncIterator[None]:
        """Within it there is room for that many, in the order in which they came."""
        async with self._turn:
            while self._values and self._values + values > self._most_values:
                self._left.clear()
                await self._left.wait()
            self._values += values
        try:
            yield
        finally:
            self._values -= values
            self._left.set()


def received(handler: Handler, *, limit: int = MOST_BYTES) -> Callable[[Request], Awaitable[Response]]:
    """`handler`, which runs in the thread pool once the request's body is there: `body(request)` is it.

    Who has no token is not listened to: the handler, which asks who it is first, says so. What is wrong with a body, or with who sends one, is said
    by `body`, so that the handler can refuse what comes before it.
    """

    async def answered(request: Request) -> Response:
        request.state.body = await run_in_threadpool(_refused, request)
        if request.state.body is not None:
            return await run_in_threadpool(handler, request)
        gate = _gate(request)
        with gate.holding() as hold:
            request.state.body = found = await _read(request, limit, hold)
            context.decide_again(request)
            values = await run_in_threadpool(_values, found) if isinstance(found, bytes) and len(found) > _LARGE else 0
            if values > MOST_VALUES:
                request.state.body, values = TooLarge(f"a body may have at most {MOST_VALUES} values here; send it in parts"), 0
            if not values:
                return await run_in_threadpool(handler, request)
            async with gate.passed(values):
                return await run_in_threadpool(handler, request)

    return answered


def body(request: Request) -> bytes:
    """The body that `received` read; empty where the request has none. Raises `TooLarge`, `MalformedBody`, `Busy`, and `Forbidden` without a scope."""
    found: bytes | ImageShareError = getattr(request.state, "body", b"")
    if isinstance(found, ImageShareError):
        raise found
    return found


def _refused(request: Request) -> ImageShareError | None:
    """Why nothing of this request's body is listened to, if that is so."""
    try:
        made = context.decision(request)
    except ImageShareError as error:
        return error
    return None if made.grants_any else Forbidden("the token grants no scope that opens anything here")


def _gate(request: Request) -> Gate:
    """That of the process."""
    state = request.app.state
    if not hasattr(state, "large_bodies"):
        state.large_bodies = Gate()
    found: Gate = state.large_bodies
    return found


def _values(body: bytes) -> int:
    return sum(body.count(mark) for mark in _MARKS)


async def _read(request: Request, limit: int, hold: Callable[[int], None]) -> bytes | ImageShareError:
    too_large = TooLarge(f"a body may have at most {limit} bytes here")
    declared = request.headers.get("content-length", "0")
    if declared.isascii() and declared.isdigit() and int(declared[:18]) > limit:
        return too_large
    try:
        is_packed = content_coding.is_packed(request)
        found = await _joined(request.stream(), limit, hold)
        return await _joined(_unpacked(found), limit, hold) if is_packed and found else found
    except ClientDisconnect:
        return MalformedBody("the body was cut off")
    except _TooLong:
        return too_large
    except ImageShareError as error:
        return error


class _TooLong(Exception):
    """More than the limit."""


async def _joined(chunks: AsyncIterable[bytes], limit: int, hold: Callable[[int], None]) -> bytes:
    pieces = bytearray()
    async for chunk in chunks:
        pieces += chunk
        if len(pieces) > limit:
            raise _TooLong
        if len(pieces) > _LARGE:
            hold(len(chunk))
    return bytes(pieces)


async def _unpacked(packed: bytes) -> AsyncIterator[bytes]:
    """Piece by piece, so that no more is made of a small body than is taken of a large one."""
    pieces = content_coding.unpacked(packed)
    while (piece := await run_in_threadpool(next, pieces, None)) is not None:
        yield piece

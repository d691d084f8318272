"""HTTP/1.1 of uvicorn, with bodies that the kernel sends from file to socket (sendfile): no byte of them passes through Python.

An application that finds `ZERO_COPY` among a request's ASGI extensions may send one message of this type instead of the body's. A thread
sends for as long as the client is quick; the event loop waits for one that is not. TLS has to see the bytes, so it has no such extension.
"""

import asyncio
import contextlib
import errno
import os
import select
import socket
import ssl
import time
from collections.abc import Iterator
from typing import Final

from starlette.concurrency import run_in_threadpool
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from server.edges.bodies import ZERO_COPY, Piece
from server.http_upgrades import IgnoringUpgrades
from server.store.blobs import Extent

_SLICE: Final = 0.1
"""Seconds after which a thread is given back, however quick the client."""
_PATIENCE: Final = 20
"""Milliseconds for which a thread waits for the client: on a busy machine, to hand over to the event loop and back takes as long."""

_LOOK: Final = 5.0
"""Seconds after which it is looked whether a client that takes nothing is still there."""
_UNREACHABLE: Final = frozenset({errno.EHOSTUNREACH, errno.ENETUNREACH})


class ZeroCopyProtocol(IgnoringUpgrades):
    """Offers `ZERO_COPY` on connections without TLS, and tells of those with TLS what certificate the client has."""

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGIApp) -> None:  # type: ignore[override]
        if self.scheme == "http":
            cycle.scope["extensions"] = {ZERO_COPY: {}}
            app = _extended(app, cycle)
        else:
            cycle.scope["extensions"] = {"tls": {"client_cert_chain": _shown(self.transport)}}
        super()._start_asgi_task(cycle, app)  # type: ignore[arg-type]


def _shown(transport: asyncio.Transport) -> list[str]:
    """ASGI TLS extension: the certificate that the client has shown and TLS has verified, in PEM; nothing where it has shown none."""
    channel: ssl.SSLObject = transport.get_extra_info("ssl_object")
    shown = channel.getpeercert(binary_form=True)
    return [ssl.DER_cert_to_PEM_cert(shown)] if shown else []


def _extended(app: ASGIApp, cycle: RequestResponseCycle) -> ASGIApp:
    async def extended(scope: Scope, receive: Receive, send: Send) -> None:
        async def send_pieces(message: Message) -> None:
            if message["type"] == ZERO_COPY:
                await _send(cycle, message["pieces"])
            else:
                await send(message)

        await app(scope, receive, send_pieces)

    return extended


async def _send(cycle: RequestResponseCycle, pieces: Iterator[Piece]) -> None:
    """Sends the rest of a response, as many bytes as were promised. A client that leaves ends it quietly."""
    try:
        await _flushed(cycle)
        if not _is_gone(cycle):
            with contextlib.closing(_Sending(cycle.transport, pieces, cycle.expected_content_length)) as sending:
                while not (await run_in_threadpool(sending.some) or _is_gone(cycle)):
                    await sending.writable()
            cycle.expected_content_length = 0
    except OSError as error:
        if not isinstance(error, ConnectionError | TimeoutError) and error.errno not in _UNREACHABLE:
            raise
        cycle.disconnected = True
        cycle.transport.close()
    await cycle.send({"type": "http.response.body", "body": b"", "more_body": False})


def _is_gone(cycle: RequestResponseCycle) -> bool:
    return cycle.disconnected


async def _flushed(cycle: RequestResponseCycle) -> None:
    """Returns when all that the transport was given is with the kernel: what follows goes past it."""
    cycle.transport.set_write_buffer_limits(high=0)
    try:
        while cycle.transport.get_write_buffer_size() and not _is_gone(cycle):
            await asyncio.sleep(0)  # uvloop writes at the end of each turn
            if cycle.flow.write_paused:
                await cycle.flow.drain()
    finally:
        cycle.transport.set_write_buffer_limits()


class _Sending:
    """Pieces on their way into a socket of its own, which no other thread can close under it."""

    def __init__(self, transport: asyncio.Transport, pieces: Iterator[Piece], left: int) -> None:
        self._pieces = pieces
        self._left = left
        self._piece: Piece = b""
        self._socket = socket.socket(fileno=os.dup(transport.get_extra_info("socket").fileno()))
        self._socket.setblocking(False)
        self._poll = select.poll()
        self._poll.register(self._socket, select.POLLOUT)

    def some(self) -> bool:
        """Sends as long as the client takes it, or the slice ends. Returns whether all is sent. Raises `OSError` where the client left."""
        until = time.monotonic() + _SLICE
        while self._left:
            if not self._piece:
                self._next()
            try:
                self._advance()
            except BlockingIOError:
                if not self._poll.poll(_PATIENCE):
                    return False
            if time.monotonic() > until:
                return not self._left
        return True

    async def writable(self) -> None:
        """Waits for the client, or for a while: who has left without a word more is noticed elsewhere."""
        loop = asyncio.get_running_loop()
        event = asyncio.Event()
        loop.add_writer(self._socket.fileno(), event.set)
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LOOK):
                    await event.wait()
        finally:
            loop.remove_writer(self._socket.fileno())

    def close(self) -> None:
        self._socket.close()

    def _next(self) -> None:
        piece = next(self._pieces, None)
        if piece is None or len(piece) > self._left:
            raise RuntimeError("the pieces are not as long as the Content-Length says")
        self._piece = piece

    def _advance(self) -> None:
        piece = self._piece
        if isinstance(piece, Extent):
            sent = os.sendfile(self._socket.fileno(), piece.file, piece.offset, piece.count)
            if not sent:
                raise RuntimeError("a file has become shorter while it was sent")
            self._piece = Extent(piece.file, piece.offset + sent, piece.count - sent)
        else:
            # What is short goes with what follows it.
            more = socket.MSG_MORE if len(piece) < self._left else 0
            sent = self._socket.send(piece, more)
            self._piece = piece[sent:]
        self._left -= sent

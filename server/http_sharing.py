"""Several HTTP processes behind one port: what they share, and how each gets its part of the connections.

All accept from one socket, as DICOM processes do (decision 13). A keep-alive connection stays where it was accepted, so each is left to
the process that has fewest; who has more waits a moment, and accepts only what is still there then, as of a process that hangs.
"""

import asyncio
import contextlib
import multiprocessing
import shutil
import socket
import tempfile
from collections.abc import Callable
from multiprocessing.sharedctypes import RawArray
from typing import Final

import uvicorn

_PATIENCE: Final = 0.005
"""Seconds for which a connection is left to a process that has fewer."""
_BREATH: Final = 1.0
"""Seconds without accepting, where the system has no room for one more connection."""
_FORK = multiprocessing.get_context("fork")


class Sharing:
    """Made before the processes are forked, one place for each."""

    def __init__(self, processes: int) -> None:
        self.connections = RawArray("i", processes)
        """How many each has, as of a moment ago."""
        self.first = _FORK.Semaphore(1)
        """Whoever can acquire it does what is to be done once for all of them."""
        self.metrics = tempfile.mkdtemp(prefix="imageshare-metrics-") if processes > 1 else None
        """The folder of their metrics, where there are several to be added up."""

    def close(self) -> None:
        """When all of them have ended."""
        if self.metrics is not None:
            shutil.rmtree(self.metrics, ignore_errors=True)

    def renew(self) -> None:
        """What is done once is to be done again: one of them has ended, and with it what it had open."""
        self.first.acquire(block=False)
        self.first.release()


class SharingServer(uvicorn.Server):
    """uvicorn's server, one of several on a socket. `ready` is called when it listens."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None], sharing: Sharing, place: int) -> None:
        super().__init__(config)
        self._ready, self._sharing, self._place = ready, sharing, place
        self._waiting: asyncio.TimerHandle | None = None
        self._opening: set[asyncio.Task[object]] = set()
        self._listening: socket.socket | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        if len(self._sharing.connections) == 1:
            await super().startup(sockets)
        else:
            await super().startup([])
            assert sockets is not None
            self._listening = sockets[0]
            self._listening.setblocking(False)
            self._listen()
        self._ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        if self._listening is not None:
            self._pause()
            self._listening = None
        await super().shutdown(sockets)

    async def on_tick(self, counter: int) -> bool:
        self._tell()
        return await super().on_tick(counter)

    def _tell(self) -> int:
        count = len(self.server_state.connections) + len(self._opening)
        self._sharing.connections[self._place] = count
        return count

    def _listen(self) -> None:
        self._waiting = None
        if self._listening is not None:
            asyncio.get_running_loop().add_reader(self._listening, self._offered)

    def _pause(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
        if self._listening is not None:
            asyncio.get_running_loop().remove_reader(self._listening)

    def _offered(self) -> None:
        if self._tell() <= min(self._sharing.connections):
            self._accept()
        else:
            self._pause()
            self._waiting = asyncio.get_running_loop().call_later(_PATIENCE, self._late)

    def _late(self) -> None:
        self._waiting = None
        self._accept()
        if self._waiting is None:
            self._listen()

    def _accept(self) -> None:
        if self._listening is None:
            return
        try:
            accepted, _ = self._listening.accept()
        except (BlockingIOError, ConnectionError):  # somebody else had it, or it is gone already
            return
        except OSError:  # there is no descriptor or memory left: to be told so again at once would help nobody
            self._pause()
            self._waiting = asyncio.get_running_loop().call_later(_BREATH, self._listen)
            return
        accepted.setblocking(False)
        with contextlib.suppress(OSError):  # it is gone already
            accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        task = asyncio.get_running_loop().create_task(self._open(accepted))
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)
        self._tell()

    async def _open(self, accepted: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        try:
            await loop.connect_accepted_socket(
                lambda: self.config.http_protocol_class(  # type: ignore[call-arg]
                    config=self.config, server_state=self.server_state, app_state=self.lifespan.state, _loop=loop
                ),
                accepted,
                ssl=self.config.ssl,
            )
        except OSError:  # gone before it began, or TLS failed
            accepted.close()

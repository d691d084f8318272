"""Rendering one frame (PS3.3 section C.11.2, PS3.18 section 8.3.5), in a process that may die.

Decoders are C and C++ code fed with strangers' bytes. They run in `server.work.render_frame`, a process of its own without
secrets, with a limit on memory and none of our sockets; it gets the open file and what to make of it, and answers with an
image. One that crashes or takes too long is killed, and the next frame gets a new one.
"""

import contextlib
import os
import queue
import socket
import struct
import subprocess
import sys
import weakref
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import BinaryIO, Final

import orjson

from profiles.frames import FrameTable
from server.errors import Busy, NotAcceptable, TooLarge, Unavailable

REQUEST: Final = struct.Struct("<I")
ANSWER: Final = struct.Struct("<BI")
DONE, UNDECODABLE, OVERSIZED = range(3)
LARGEST_FRAME: Final = 256 << 20
"""Bytes of one decoded frame."""
_LARGEST_IMAGE = 512 << 20
_MOST_FRAGMENTS = 100_000


@dataclass(frozen=True, slots=True)
class Window:
    """PS3.3 section C.11.2.1.2: `function` is LINEAR, LINEAR_EXACT or SIGMOID."""

    center: float
    width: float
    function: str


@dataclass(frozen=True, slots=True)
class Viewport:
    """PS3.18 section 8.3.5.1.3, in pixels: the image is scaled to fit; the source region may be flipped by negative sizes."""

    width: int
    height: int
    source_x: float | None = None
    source_y: float | None = None
    source_width: float | None = None
    source_height: float | None = None


@dataclass(frozen=True, slots=True)
class Wish:
    """What the client wants: `type` is image/jpeg or image/png, `quality` 1 to 100 for JPEG."""

    type: str
    window: Window | None = None
    viewport: Viewport | None = None
    quality: int = 90


class _Dead(Exception):
    """The process ended, or did not answer in time."""


class Renderer:
    """Renders with at most `processes` at a time, each started when first needed. Safe for threads."""

    def __init__(self, processes: int = 2, *, seconds: float = 20.0) -> None:
        self._seconds = seconds
        self._slots: queue.LifoQueue[_Process | None] = queue.LifoQueue()
        for _ in range(processes):
            self._slots.put(None)
        self._close = weakref.finalize(self, _end_all, self._slots)

    def close(self) -> None:
        """Ends the processes that are idle."""
        self._close()

    def render(self, file: BinaryIO, wish: Wish, number: int, table: FrameTable | None) -> bytes:
        """PS3.18 section 8.7.4: frame `number` (from 1) of a Part 10 file as an image. `table` says where its frames are, if known.

        Raises `NotAcceptable` for pixels that cannot be decoded, `TooLarge`, `Busy`, and `Unavailable` when decoding takes too long.
        """
        pieces = table.ranges(number) if table is not None else []
        if (
            table is not None
            and table.rows * table.columns * table.samples_per_pixel * max(1, table.bits_allocated // 8) > LARGEST_FRAME
        ):
            raise TooLarge(f"a frame of more than {LARGEST_FRAME >> 20} MiB is not rendered")
        if len(pieces) > _MOST_FRAGMENTS or sum(length for _, length in pieces) > LARGEST_FRAME:
            raise TooLarge(f"a frame of more than {LARGEST_FRAME >> 20} MiB is not rendered")
        job = {"number": number, "pieces": pieces, "encapsulated": table is not None and table.encapsulated, **asdict(wish)}
        with self._process() as process:
            status, image = process.ask(file, orjson.dumps(job), self._seconds)
        if status == DONE:
            return image
        if status == OVERSIZED:
            raise TooLarge(f"a frame of more than {LARGEST_FRAME >> 20} MiB is not rendered")
        raise NotAcceptable("the pixels of this instance cannot be decoded and rendered here; retrieve them as they are stored")

    @contextlib.contextmanager
    def _process(self) -> "Iterator[_Process]":
        try:
            process = self._slots.get(timeout=self._seconds)
        except queue.Empty:
            raise Busy("too many images are being rendered; try again") from None
        kept: _Process | None = None
        try:
            process = process or _Process()
            yield process
            kept = process
        except _Dead:
            raise Unavailable("the image could not be rendered in the time and memory that there is for it") from None
        finally:
            if kept is None and process is not None:
                process.end()
            self._slots.put(kept)


class _Process:
    """One decoding process and the socket to it."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "server.work.render_frame", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env={
                    "PYTHONPATH": os.pathsep.join(part for part in sys.path if part),
                    "OPENBLAS_NUM_THREADS": "1",
                    "OMP_NUM_THREADS": "1",
                    "LANG": "C.UTF-8",
                },
            )
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        self._socket = ours

    def ask(self, file: BinaryIO, job: bytes, seconds: float) -> tuple[int, bytes]:
        try:
            self._socket.settimeout(seconds)
            socket.send_fds(self._socket, [REQUEST.pack(len(job))], [file.fileno()])
            self._socket.sendall(job)
            status, length = ANSWER.unpack(self._read(ANSWER.size))
            if length > _LARGEST_IMAGE:
                raise _Dead
            return status, self._read(length)
        except OSError:
            raise _Dead from None

    def _read(self, length: int) -> bytes:
        data = bytearray()
        while len(data) < length:
            piece = self._socket.recv(min(1 << 20, length - len(data)))
            if not piece:
                raise _Dead
            data += piece
        return bytes(data)

    def end(self) -> None:
        self._socket.close()
        self._process.kill()
        self._process.wait()


def _end_all(slots: "queue.LifoQueue[_Process | None]") -> None:
    idle = []
    with contextlib.suppress(queue.Empty):
        while True:
            idle.append(slots.get_nowait())
    for process in idle:
        if process is not None:
            process.end()
        slots.put(None)

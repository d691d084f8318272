"""Our end of the processes that decode: a bounded number of them, a deadline for each job, and a new one for each that fails.

Decoders are C and C++ code fed with strangers' bytes. They run in `server.work.pixels.process`, without secrets, with limits on
memory and processor time; one gets an open file and what to make of it, and answers with bytes.
"""

import contextlib
import os
import queue
import socket
import struct
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import BinaryIO, Final

import orjson

from server.errors import Busy, NotAcceptable, TooLarge, Unavailable

REQUEST: Final = struct.Struct("<IH")
ANSWER: Final = struct.Struct("<BI")
COMMAND: Final = struct.Struct("<Bi")
DONE, UNDECODABLE, OVERSIZED = range(3)
START, END = range(2)
LARGEST_FRAME: Final = 256 << 20
"""Bytes of one decoded frame."""
_LARGEST_ANSWER: Final = 512 << 20
_PID: Final = struct.Struct("<i")
_SETTINGS: Final = {
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "LANG": "C.UTF-8",
    # Images of up to 64 MiB are allocated from memory that stays: asking the kernel for it each time costs more than decoding.
    "MALLOC_MMAP_THRESHOLD_": str(64 << 20),
    "MALLOC_TRIM_THRESHOLD_": str(64 << 20),
    "MALLOC_ARENA_MAX": "1",
}


class _Dead(Exception):
    """The process ended, or did not answer in time."""


class Pool:
    """At most `processes` jobs at a time, each at most `seconds` long. Nothing is started before the first job. Safe for threads."""

    def __init__(self, processes: int = 2, *, seconds: float = 20.0) -> None:
        self.seconds = seconds
        self._slots: queue.LifoQueue[_Child | None] = queue.LifoQueue()
        for _ in range(processes):
            self._slots.put(None)
        self._parent = _Parent()
        self._close = weakref.finalize(self, _end_all, self._slots, self._parent)

    def close(self) -> None:
        """Ends all processes. The next job would start them again."""
        _end_all(self._slots, self._parent)

    def ask(self, file: BinaryIO, job: Mapping[str, object]) -> bytes:
        """What the job `do` (see `process`) makes of the open file.

        Raises `NotAcceptable` for pixels that cannot be decoded, `TooLarge`, `Busy`, and `Unavailable` where a decoder died or took too long.
        """
        with self.asked(file, job) as answer:
            return answer()

    @contextlib.contextmanager
    def asked(self, file: BinaryIO, job: Mapping[str, object]) -> Iterator[Callable[[], bytes]]:
        """As `ask`, for who has something else to do while the job runs: what is given waits for it, and is called once."""
        asked = orjson.dumps(job)
        try:
            child = self._slots.get(timeout=self.seconds)
        except queue.Empty:
            raise Busy("too many images are being decoded; try again") from None
        kept: _Child | None = None

        def answer() -> bytes:
            nonlocal kept
            assert child is not None
            status, made = child.answer()
            kept = child
            return _made(status, made)

        try:
            if child is not None and not child.send(file, asked, self.seconds):
                child.end()
                child = None
            if child is None:
                child = _Child(self._parent)
                if not child.send(file, asked, self.seconds):
                    raise _Dead
            yield answer
        except _Dead:
            raise Unavailable("the image could not be decoded in the time and memory that there is for it") from None
        finally:
            if kept is None and child is not None:
                child.end()  # nobody waits for what it would answer
            self._slots.put(kept)


def _made(status: int, answer: bytes) -> bytes:
    if status == DONE:
        return answer
    if status == OVERSIZED:
        raise TooLarge(f"a frame of more than {LARGEST_FRAME >> 20} MiB is not decoded here")
    raise NotAcceptable("the pixels of this instance cannot be decoded here; retrieve them as they are stored")


@cache
def shared() -> Pool:
    """The pool of this process."""
    return Pool()


class _Parent:
    """The process that forks the children. Started when first needed, and again where it has died."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None

    def start(self, theirs: socket.socket) -> int:
        """A new child that serves the socket `theirs`. Returns its process id."""
        with self._lock:
            for _ in range(2):
                control = self._running()
                with contextlib.suppress(OSError):
                    socket.send_fds(control, [COMMAND.pack(START, 0)], [theirs.fileno()])
                    answer = control.recv(_PID.size, socket.MSG_WAITALL)
                    if len(answer) == _PID.size:
                        return int(_PID.unpack(answer)[0])
                self._stop()
            raise _Dead

    def end(self, pid: int) -> None:
        with self._lock, contextlib.suppress(OSError):
            if self._control is not None:
                self._control.sendall(COMMAND.pack(END, pid))

    def stop(self) -> None:
        with self._lock:
            self._stop()

    def _stop(self) -> None:
        if self._control is not None:
            self._control.close()  # it ends its children, then itself
        if self._process is not None:
            try:
                self._process.wait(5)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._process = self._control = None

    def _running(self) -> socket.socket:
        if self._control is not None:
            return self._control
        ours, theirs = socket.socketpair()
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "server.work.pixels.process", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env={"PYTHONPATH": os.pathsep.join(part for part in sys.path if part), **_SETTINGS},
            )
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        ours.settimeout(60)  # to import everything on a slow machine
        self._control = ours
        return ours


class _Child:
    """One decoding process and the socket to it."""

    def __init__(self, parent: _Parent) -> None:
        ours, theirs = socket.socketpair()
        self._parent = parent
        try:
            self.pid = parent.start(theirs)
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        self._socket = ours

    def send(self, file: BinaryIO, job: bytes, seconds: float) -> bool:
        """False where the process has ended, as one does that had nothing to do for long; the job has not begun then."""
        try:
            self._socket.settimeout(seconds)
            message = REQUEST.pack(len(job), max(1, int(seconds))) + job
            sent = socket.send_fds(self._socket, [message], [file.fileno()])
            self._socket.sendall(message[sent:])
        except OSError:
            return False
        return True

    def answer(self) -> tuple[int, bytes]:
        try:
            status, length = ANSWER.unpack(self._read(ANSWER.size))
            if length > _LARGEST_ANSWER:
                raise _Dead
            return status, self._read(length)
        except OSError:
            raise _Dead from None

    def _read(self, length: int) -> bytes:
        data = memoryview(bytearray(length))
        at = 0
        while at < length:
            got = self._socket.recv_into(data[at:])
            if not got:
                raise _Dead
            at += got
        return bytes(data)

    def end(self) -> None:
        self._socket.close()
        self._parent.end(self.pid)


def _end_all(slots: "queue.LifoQueue[_Child | None]", parent: _Parent) -> None:
    idle = []
    with contextlib.suppress(queue.Empty):
        while True:
            idle.append(slots.get_nowait())
    for child in idle:
        if child is not None:
            child.end()
        slots.put(None)
    parent.stop()

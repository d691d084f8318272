"""The processes that decode: one that has everything imported, and its children, each of which takes jobs over a socket.

A child costs a fork, a few milliseconds and the memory that it changes, so that one that hangs or crashes is cheap to replace.
None has secrets in its environment or any of our sockets. See `server.work.pixels.pool` for the other end.
"""

import ctypes
import os
import resource
import select
import signal
import socket
import struct
import sys
import warnings
from typing import Any, BinaryIO, Final

import orjson
from PIL import Image
from pydicom import config

from profiles.pixel_description import PixelDescription
from server.work.pixels import decoding, display, encoding
from server.work.pixels.pool import ANSWER, COMMAND, DONE, END, LARGEST_FRAME, OVERSIZED, REQUEST, START, UNDECODABLE

_MEMORY: Final = 3 << 30
_PID: Final = struct.Struct("<i")
_RESTING: Final = 1_000
"""Milliseconds without a job after which the memory of the last ones is given back to the kernel: by glibc, which others have not."""
_IDLE: Final = 600_000
"""Milliseconds without a job after which a child ends, and then its parent. The next job starts them again."""
_give_back: Final = getattr(ctypes.CDLL(None), "malloc_trim", None)


def main() -> None:
    """Starts and ends children as the socket, whose descriptor is the first argument, says; until it closes."""
    for limit, value in (
        (resource.RLIMIT_AS, _MEMORY),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, 64),
    ):
        resource.setrlimit(limit, (value, value))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C is for the server, which closes the socket
    warnings.simplefilter("ignore")
    config.settings.reading_validation_mode = config.IGNORE
    Image.MAX_IMAGE_PIXELS = None  # frames are measured before they are decoded
    Image.init()
    children: set[int] = set()
    with socket.socket(fileno=int(sys.argv[1])) as control:
        commands = select.poll()
        commands.register(control, select.POLLIN)
        while True:
            if not commands.poll(_IDLE):
                children = {pid for pid in children if os.waitpid(pid, os.WNOHANG) == (0, 0)}
                if not children:
                    break
                continue
            message, descriptors, _, _ = socket.recv_fds(control, COMMAND.size, 1, socket.MSG_WAITALL)
            if len(message) < COMMAND.size:
                break
            command, pid = COMMAND.unpack(message)
            if command == START:
                pid = _started(control, descriptors[0])
                children.add(pid)
                os.close(descriptors[0])
                control.sendall(_PID.pack(pid))
            elif command == END and pid in children:
                _ended(pid)
                children.discard(pid)
    for pid in children:
        _ended(pid)


def _started(control: socket.socket, descriptor: int) -> int:
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        control.close()
        with socket.socket(fileno=descriptor) as connection:
            _serve(connection)
        status = 0
    finally:
        os._exit(status)


def _ended(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)  # not waited for until now, so the number is still this child's
    os.waitpid(pid, 0)


def _await_job(connection: socket.socket) -> None:
    jobs = select.poll()
    jobs.register(connection, select.POLLIN)
    if jobs.poll(_RESTING):
        return
    if _give_back is not None:
        _give_back(0)
    if not jobs.poll(_IDLE):
        connection.shutdown(socket.SHUT_RD)  # what was sent at this very moment can still be read; nothing can be sent any more


def _serve(connection: socket.socket) -> None:
    while True:
        _await_job(connection)
        head, descriptors, _, _ = socket.recv_fds(connection, REQUEST.size, 1, socket.MSG_WAITALL)
        if len(head) < REQUEST.size:
            return
        length, seconds = REQUEST.unpack(head)
        job = orjson.loads(connection.recv(length, socket.MSG_WAITALL))
        used = resource.getrusage(resource.RUSAGE_SELF)
        resource.setrlimit(
            resource.RLIMIT_CPU, (int(used.ru_utime + used.ru_stime) + seconds + 2, resource.getrlimit(resource.RLIMIT_CPU)[1])
        )
        status, result = DONE, b""
        try:
            with os.fdopen(descriptors[0], "rb") as file:
                result = _JOBS[job["do"]](file, job)
        except display.Oversized:
            status = OVERSIZED
        except Exception:  # noqa: BLE001 decoders raise anything; what they say may quote the file
            status = UNDECODABLE
        answer = ANSWER.pack(status, len(result))
        sent = connection.sendmsg([answer, result])  # one message where it fits: the other end is woken once
        if sent < len(answer) + len(result):
            connection.sendall(memoryview(result)[sent - len(answer) :])


def _transcode(file: BinaryIO, job: dict[str, Any]) -> bytes:
    """One frame in another transfer syntax: `from`, `to`, `pieces` (offset and length in the file) and `shape` say what and how."""
    shape = PixelDescription(**job["shape"])
    if shape.frame_length > LARGEST_FRAME:
        raise display.Oversized
    data = b"".join(os.pread(file.fileno(), length, offset) for offset, length in job["pieces"])
    values, photometric = decoding.decode(data, job["from"], shape)
    return encoding.encode(values, job["to"], shape.interleaved(photometric))


_JOBS: Final = {"transcode": _transcode, "render": display.render}


if __name__ == "__main__":
    main()

"""argon2 in processes of its own, behind all others: a hash takes all processors for a while, and who is signed in goes first.

Threads of low priority would not do. They need the interpreter's lock, and one that has it while it is given no processor holds up every request.
"""

import contextlib
import os
import select
import subprocess
import sys
import weakref
from collections import deque
from typing import Any, Final

import orjson
from pwdlib import PasswordHash

from server.errors import Unavailable

PRIORITY: Final = 10
"""As of `nice`: a tenth of what a process without one is given where both want to work."""
_IDLE: Final = 60
"""Seconds without a hash after which a process ends."""
_MEMORY: Final = {"MALLOC_MMAP_THRESHOLD_": str(128 << 20), "MALLOC_TRIM_THRESHOLD_": str(256 << 20)}
"""The 64 MiB of a hash stay until the process ends: to have them from the kernel page by page each time was a fifth of the work."""
_Process = subprocess.Popen[bytes]


class Apart:
    """pwdlib's recommended profile, as many at once as ask. Safe for threads. Nothing is started before the first hash."""

    def __init__(self) -> None:
        self._idle: deque[_Process] = deque()
        self.close = weakref.finalize(self, _end_all, self._idle)

    def hash(self, password: str) -> str:
        """Raises `Unavailable` where no process can be had, as `verify_and_update` does."""
        return str(self._asked(password, None))

    def verify_and_update(self, password: str, stored: str) -> tuple[bool, str | None]:
        """Whether it is the password, and the hash to store instead where its cost is out of date."""
        right, better = self._asked(password, stored)
        return right, better

    def _asked(self, password: str, stored: str | None) -> Any:
        line = orjson.dumps([password, stored]) + b"\n"
        while True:
            process, was_idle = self._one()
            if answer := _answer(process, line):
                self._idle.append(process)
                return orjson.loads(answer)
            _end(process)
            if not was_idle:  # such a one has ended, as one does that had nothing to do for long
                raise Unavailable("passwords cannot be checked now; try again later")

    def _one(self) -> tuple[_Process, bool]:
        with contextlib.suppress(IndexError):
            return self._idle.pop(), True
        try:
            return _start(), False
        except OSError as error:
            raise Unavailable("passwords cannot be checked now; try again later") from error


def _start() -> _Process:
    return subprocess.Popen(
        [sys.executable, "-m", "server.access.people.apart"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        env={"PYTHONPATH": os.pathsep.join(part for part in sys.path if part), "LANG": "C.UTF-8", **_MEMORY},
    )  # fmt: skip


def _answer(process: _Process, line: bytes) -> bytes:
    """Empty where the process has ended."""
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(line)
        process.stdin.flush()
        return process.stdout.readline()
    except OSError:
        return b""


def _end(process: _Process) -> None:
    for pipe in (process.stdin, process.stdout):
        assert pipe is not None
        with contextlib.suppress(OSError):  # what was not taken any more
            pipe.close()
    process.wait()


def _end_all(idle: "deque[_Process]") -> None:
    with contextlib.suppress(IndexError):
        while True:
            _end(idle.pop())


def main() -> None:
    """The process: a password and what it is compared with in a line, until there are no more."""
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, max(PRIORITY, os.getpriority(os.PRIO_PROCESS, 0)))
    hasher = PasswordHash.recommended()
    while select.select([sys.stdin], [], [], _IDLE)[0] and (line := sys.stdin.buffer.readline()):
        password, stored = orjson.loads(line)
        made = hasher.hash(password) if stored is None else hasher.verify_and_update(password, stored)
        sys.stdout.buffer.write(orjson.dumps(made) + b"\n")
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()

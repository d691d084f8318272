"""Files that somebody brings in, apart from the archive until it is known whose they are: one file for all of what is brought in at once.

Nothing that a sender says becomes part of a path. Offsets are the file's own length, so that they are right after any end of the process.
"""

import contextlib
import errno
import fcntl
import os
import re
import time
from collections.abc import Collection
from pathlib import Path
from typing import Final

from server.errors import Conflict, NotFound, StorageFull, Unavailable
from server.store.room import Room

_ID: Final = re.compile(r"[0-9a-f-]{36}")
_UNTOUCHED: Final = 3600.0
"""Seconds that a file of nobody's stays: its row may be about to be written."""


class Quarantine:
    """The folder `brought-in` in the data folder. Safe for threads and processes."""

    def __init__(self, data: Path, *, reserve: int, durable: bool = True) -> None:
        self._folder, self._reserve, self._durable = data / "brought-in", reserve, durable
        self._room = Room(data)

    def path(self, id_: str) -> Path:
        """Where the bytes are. Raises `NotFound` for what is no id of ours."""
        if not _ID.fullmatch(id_):
            raise NotFound("there is nothing here that was brought in under this name")
        return self._folder / id_

    def size(self, id_: str) -> int:
        """How many bytes there are; 0 where nothing came yet."""
        try:
            return self.path(id_).stat().st_size
        except FileNotFoundError:
            return 0

    def append(self, id_: str, offset: int, data: bytes) -> int:
        """Adds `data` at `offset`, which has to be the end. Returns the new end. Raises `Conflict` where it is not, `StorageFull`."""
        self._room.require(self._reserve, len(data))
        self._folder.mkdir(mode=0o700, exist_ok=True)
        file = os.open(self.path(id_), os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            if os.fstat(file).st_size != offset:
                raise Conflict("another part of it was expected; ask how much is here and go on from there")
            view = memoryview(data)
            while view:
                view = view[os.write(file, view) :]
            return offset + len(data)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                raise StorageFull("the server has no room left; try again later") from error
            raise Unavailable("the server's storage cannot be written; try again later") from error
        finally:
            os.close(file)

    def sync(self, id_: str) -> None:
        """All of it is on the disk."""
        if not self._durable:
            return
        for path in (self.path(id_), self._folder):
            file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fsync(file)
            finally:
                os.close(file)

    def remove(self, id_: str) -> None:
        """Nothing is left of it."""
        self.path(id_).unlink(missing_ok=True)

    def sweep(self, kept: Collection[str]) -> None:
        """Removes all that is not `kept` and has not been written to lately."""
        with contextlib.suppress(FileNotFoundError):
            for path in self._folder.iterdir():
                with contextlib.suppress(FileNotFoundError):
                    if path.name not in kept and time.time() - path.stat().st_mtime > _UNTOUCHED:
                        path.unlink()

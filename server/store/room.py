"""How much room a disk has left: what is refused before it is full (C-STORE 0xA700, HTTP 507)."""

import os
import threading
import time
from pathlib import Path

from server.errors import StorageFull

_LOOK_EVERY = 0.25


class Room:
    """The free bytes of the file system that holds `folder`. It is asked a few times a second; in between, what is written is counted.

    Safe for threads.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._looked = float("-inf")
        self._free = 0

    def require(self, reserve: int, written: int = 0) -> None:
        """Raises `StorageFull` where less than `reserve` bytes are free. `written`: how many bytes the caller wrote since it last asked."""
        if reserve <= 0:
            return
        with self._lock:
            self._free -= written
            now = time.monotonic()
            if now - self._looked >= _LOOK_EVERY:
                told = os.statvfs(self._folder)
                self._free, self._looked = told.f_bavail * told.f_frsize, now
            free = self._free
        if free < reserve:
            raise StorageFull("the server has no room left; try again later")

"""Documents of one submission on their way into the blob store: each a blob of its own, hashed while it arrives (ITI TF-2 section 3.41.4.1.3.2).

Their SHA-1, which XDS asks for, stands in their rows and is what tells later that a file is whole; a SHA-256 beside it would make a third of what a byte costs here.

Memory holds a piece of one document. Files are closed and made durable some at a time, whatever their number; no row names any of them yet.
"""

import hashlib
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Final

from server.errors import ImageShareError
from server.store import blobs as blob_store
from server.store.blobs import Blob, Writer
from server.work import ingest
from server.work.ingest import Ingest

_TOGETHER: Final = 32
"""How many documents get their names at once. As many more are on their way to the disk meanwhile, so that nobody waits for it."""
_LARGE: Final = 256 << 10
"""Bytes that are hashed while they are written, by another thread."""


@dataclass(frozen=True, slots=True)
class Kept:
    """A document that is durable: its blob, and its SHA-1 in hex as metadata have it."""

    blob: Blob
    sha1: str


@dataclass(frozen=True, slots=True)
class _Written:
    name: str
    writer: Writer
    sha1: str
    syncing: "Future[None]"


class ArrivingDocuments:
    """For each document `begin`, any number of `take`, `end`. Use it from one thread at a time.

    Nothing of a document that cannot be kept is raised before `kept`, so that the message can be read to its end. `discard` comes last.
    """

    def __init__(self, ingest: Ingest) -> None:
        self._ingest = ingest
        self._folder = blob_store.batch()
        self._writer: Writer | None = None
        self._sha1 = hashlib.sha1(usedforsecurity=False)
        self._name = ""
        self._written: list[_Written] = []
        self._kept: dict[str, Kept] = {}
        self._error: Exception | None = None

    def begin(self, name: str) -> None:
        """A document; its name is what `kept` calls it."""
        self._name, self._sha1 = name, hashlib.sha1(usedforsecurity=False)
        if self._error is not None:
            return
        try:
            self._ingest.check_room()
            self._writer = self._ingest.blobs.create(self._folder, hashed=False)
        except ImageShareError as error:
            self._error = error

    def take(self, data: bytes | memoryview) -> None:
        """More of it."""
        if self._writer is None:
            return
        hashing = self._ingest.aside(self._sha1.update, data) if len(data) >= _LARGE else None
        try:
            self._writer.write(data)
        except ImageShareError as error:  # the writer has aborted
            self._writer, self._error = None, error
        if hashing is None:
            self._sha1.update(data)
        else:
            hashing.result()

    def end(self) -> None:
        """All of it."""
        writer, self._writer = self._writer, None
        if writer is None:
            return
        self._written.append(_Written(self._name, writer, self._sha1.hexdigest(), self._ingest.sync(writer)))
        if len(self._written) >= 2 * _TOGETHER:
            self._settle(_TOGETHER)

    def kept(self) -> dict[str, Kept]:
        """All of them, durable. Raises `StorageFull`, `TooLarge`, `Unavailable` where one could not be kept."""
        self._settle()
        if self._error is not None:
            raise self._error
        return self._kept

    def release(self, blob_ids: Iterable[str]) -> None:
        """Rows name these now: `discard` leaves them."""
        named = set(blob_ids)
        self._kept = {name: each for name, each in self._kept.items() if each.blob.id not in named}

    def discard(self) -> None:
        """Leaves no file that no row names."""
        if self._writer is not None:
            self._writer.abort()
            self._writer = None
        self._settle()
        for each in self._kept.values():
            ingest.discard(self._ingest.database, self._ingest.blobs, each.blob.id)
        self._kept = {}

    def _settle(self, count: int | None = None) -> None:
        """Those that have waited longest, or all."""
        written, self._written = self._written[:count], self._written[count:] if count else []
        synced = list(self._synced(written))
        for each, blob in zip(synced, self._ingest.blobs.commit([each.writer for each in synced]), strict=True):
            if isinstance(blob, Exception):
                self._error = self._error or blob
            else:
                self._kept[each.name] = Kept(blob, each.sha1)

    def _synced(self, written: list[_Written]) -> Iterator[_Written]:
        for each in written:
            try:
                each.syncing.result()
                yield each
            except ImageShareError as error:  # the writer has aborted
                self._error = self._error or error

"""Instances in another transfer syntax that wait on the disk until they are sent, because their length has to be known before the first byte.

Memory holds no more than a frame. The files are unfinished blobs: the store's limits and reserve hold for them, and the sweep for what a crash left.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from profiles.transfer_syntaxes import NATIVE
from server.errors import NotAcceptable, TooLarge
from server.records.catalogue import StoredInstance
from server.store import blobs as blob_store
from server.store.blobs import CHUNK, BlobStore, Extent, Writer
from server.work import retrieve, transcode

_FULL: Final = 1 << 30
"""Bytes after which the next instance goes into another file."""


@dataclass(frozen=True, slots=True)
class Sized:
    """A Part 10 file to send: `size` bytes, which `read` gives in pieces."""

    size: int
    read: Callable[[], Iterable[bytes | Extent]]


class Spool:
    """What is transcoded for one answer. `close` it when that was sent. Use it from one thread at a time."""

    def __init__(self, blobs: BlobStore) -> None:
        self._blobs = blobs
        self._batch = blob_store.batch()
        self._files: list[Writer] = []

    def sized(self, instance: StoredInstance, wanted: Sequence[str]) -> Sized:
        """RAD TF-2 section 4.69.4.2.3: the instance as it is stored where one of `wanted` is that, else in the first that it can be had in.

        Raises `NotAcceptable` or `TooLarge` where there is none, `Busy`, `Unavailable`, `StorageFull`.
        """
        stored = instance.transfer_syntax
        if stored in wanted:
            # Thousands of these wait to be sent: each keeps what it needs.
            return Sized(instance.size, partial(retrieve.file_pieces, self._blobs, instance.blob_id))
        why: NotAcceptable | TooLarge | None = None
        for syntax in dict.fromkeys(wanted):
            if transcode.acceptable(stored, [syntax], pixels=instance.frames > 0) is None:
                continue
            try:
                return self._transcoded(instance, syntax)
            except (NotAcceptable, TooLarge) as error:
                why = why or error
        raise why or NotAcceptable(
            f"the instance is stored in transfer syntax {stored} and cannot be had in any that the TransferSyntaxUIDList names"
        )

    def close(self) -> None:
        """Removes the files. What `sized` gave cannot be read any more."""
        while self._files:
            self._files.pop().abort()

    def _transcoded(self, instance: StoredInstance, syntax: str) -> Sized:
        length, pieces = transcode.transcoded(self._blobs, instance, syntax)
        if length is not None and instance.transfer_syntax in NATIVE and syntax in NATIVE:
            del pieces  # no frame has to be decoded, so that it is done again without fail
            return Sized(length, lambda: transcode.transcoded(self._blobs, instance, syntax)[1])
        if not self._files or self._files[-1].size >= _FULL:
            self._files.append(self._blobs.create(self._batch, hashed=False))
        file = self._files[-1]
        begin = file.size
        for piece in pieces:
            file.write(piece)
        return Sized(file.size - begin, partial(_read, file, begin, file.size))


def _read(file: Writer, at: int, end: int) -> Iterator[bytes]:
    while at < end:
        data = file.read(at, min(CHUNK, end - at))
        at += len(data)
        yield data

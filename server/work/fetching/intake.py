"""Fetched instances into the archive, by the same way as from every door (`work.ingest`), each held against what the manifest says of it."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Final, NamedTuple

from server.errors import ImageShareError, StorageFull
from server.work.fetching.asked import Fetched
from server.work.ingest import Announced, Ingest, Pending, Sender

_TOGETHER: Final = 32
"""Instances that are committed at once."""
_SECONDS: Final = 2.0
"""How long one waits for others, so that a slow partner's are not lost by the dozen."""


class Named(NamedTuple):
    """What a manifest says of an instance; what it leaves out is empty."""

    study: str
    sop_class: str
    patient_id: str

    def announced(self, uid: str) -> Announced:
        """The instance that has to come: of this patient and study and no other."""
        return Announced(self.sop_class or None, uid, self.study or None, patient_id=self.patient_id or None)


class Intake:
    """One manifest's instances, taken by several threads at once. `settle` comes last. `done` are those that came, stored or refused."""

    def __init__(
        self, ingest: Ingest, sender: Sender, named: Mapping[str, Named], fetched: Fetched, progress: Callable[[int], None]
    ) -> None:
        """`progress` is told how many more are done."""
        self._batch = ingest.batch(sender)
        self._named, self._fetched, self._progress = named, fetched, progress
        self._waiting: list[Pending] = []
        self._lock = threading.RLock()
        self._settled = time.monotonic()
        self.done: set[str] = set()

    def take(self, uid: str, chunks: Iterator[bytes]) -> None:
        """One instance while it arrives. Raises `StorageFull`, and what `chunks` raises: nothing of it is kept then."""
        with self._lock:
            writer = self._batch.receive()
        try:
            for data in chunks:
                writer.write(data)
        except ImageShareError as error:
            writer.abort()
            if isinstance(error, StorageFull):
                raise
            self._refused(uid, error)
            return
        except BaseException:
            writer.abort()
            raise
        with self._lock:
            self._waiting.append(self._batch.submit(writer, self._named[uid].announced(uid), ahead=True))
            self.done.add(uid)
            if len(self._waiting) >= _TOGETHER or time.monotonic() - self._settled > _SECONDS:
                self.settle()

    def settle(self) -> None:
        """All that came is durable, or told as failed. Raises `StorageFull`."""
        with self._lock:
            self._settle()
            self._settled = time.monotonic()

    def _settle(self) -> None:
        waiting, self._waiting = self._waiting, []
        full: StorageFull | None = None
        for each in waiting:
            try:
                new = each.receipt().new
            except StorageFull as error:
                full = error
            except ImageShareError as error:
                self._fetched.failed[error.detail] += 1
            else:
                self._fetched.new += new
                self._fetched.known += not new
        self._progress(len(waiting))
        if full is not None:
            raise full

    def _refused(self, uid: str, error: ImageShareError) -> None:
        with self._lock:
            self._batch.refused(error, self._named[uid].announced(uid))
            self._fetched.failed[error.detail] += 1
            self.done.add(uid)
            self._progress(1)

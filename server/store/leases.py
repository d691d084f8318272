"""Jobs that take longer than a lease: it is renewed while they are done, and who has lost it finds out."""

import contextlib
import threading
import time
from types import TracebackType
from typing import Final, Self

from sqlalchemy import Connection

from server.errors import ImageShareError
from server.store import jobs
from server.store.db import Database
from server.store.jobs import Job

_SECONDS: Final = 60.0
"""How long a job waits whose worker died, where others work."""
_OFTEN: Final = 4
"""How often a lease is renewed in its time."""


class LeaseLost(Exception):
    """Another worker has the job: nothing more is to be done of it here."""


class Held:
    """A job while it is worked on. A thread renews its lease until the block ends; a database that is away is asked again."""

    def __init__(self, database: Database, job: Job, *, seconds: float = _SECONDS) -> None:
        self._database, self._job, self._seconds = database, job, seconds
        self._until = 0.0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._renew_often, name="lease", daemon=True)

    def __enter__(self) -> Self:
        """Raises `LeaseLost` where the job is somebody else's already."""
        self._renew()
        self.check()
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._over.set()
        self._thread.join()

    def check(self) -> None:
        """Raises `LeaseLost` where the lease is another's, or ran out before it could be renewed."""
        if time.monotonic() > self._until:
            raise LeaseLost

    def done(self, connection: Connection) -> None:
        """After the block: `jobs.done`, in the caller's transaction. Raises `LeaseLost`, and nothing of the transaction shall be kept then."""
        mine = jobs.renew(connection, self._job, seconds=self._seconds)
        if mine is None:
            raise LeaseLost
        jobs.done(connection, mine)

    def _renew_often(self) -> None:
        while not self._over.wait(self._seconds / _OFTEN) and time.monotonic() < self._until:
            with contextlib.suppress(ImageShareError):
                self._renew()

    def _renew(self) -> None:
        until = time.monotonic() + self._seconds
        with self._database.write() as connection:
            renewed = jobs.renew(connection, self._job, seconds=self._seconds)
        self._job, self._until = (self._job, 0.0) if renewed is None else (renewed, until)

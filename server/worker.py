"""The worker: does what is due, a few jobs at a time, until it is told to stop. Several may run; leases keep them apart."""

import threading
import time
from collections.abc import Callable, Sequence

from server.edges.context import Node
from server.store import jobs
from server.telemetry import failure, log
from server.work.ingest import PUBLISH
from server.work.publish import Publisher

_LOOK_EVERY = 0.2
_TOGETHER = 16


class Worker:
    """`kinds` maps each kind of job to what does some of them together, all or none."""

    def __init__(self, node: Node) -> None:
        self._node = node
        publisher = Publisher(node.settings, node.database, node.blobs, node.installation)
        self.kinds: dict[str, Callable[[Sequence[jobs.Job]], object]] = {PUBLISH: publisher.run}

    def run(self, stop: threading.Event) -> None:
        """Works until `stop` is set. A job that fails is put back with a growing delay; a database that is away is waited for."""
        while not stop.is_set():
            try:
                busy = self.once() > 0
            except Exception as error:  # noqa: BLE001 the worker outlives what it works on
                log().error("worker", **failure(error))
                busy = False
            if not busy:
                stop.wait(_LOOK_EVERY)

    def once(self) -> int:
        """Does some of the jobs of each kind, those that are due longest. Returns how many it took."""
        taken = 0
        for kind, work in self.kinds.items():
            due = jobs.claim(self._node.database, kind, limit=_TOGETHER)
            if due and not self._done(work, due, last=len(due) == 1):
                for job in due:  # one of them spoilt it for all: each alone
                    self._done(work, [job], last=True)
            taken += len(due)
        return taken

    def _done(self, work: Callable[[Sequence[jobs.Job]], object], due: Sequence[jobs.Job], *, last: bool) -> bool:
        """Whether `due` were done. The `last` attempt that fails puts its job back."""
        began = time.monotonic()
        try:
            work(due)
        except Exception as error:  # noqa: BLE001 the job is put back, whatever it failed of
            if last:
                (job,) = due
                told = failure(error)
                delay = jobs.failed(self._node.database, job, f"{told['error_type']} {told.get('error', '')}".strip())
                log().warning("job failed", job=job.kind, attempts=job.attempts, retry_in=delay, **told)
            return False
        log().info("jobs done", job=due[0].kind, count=len(due), duration_ms=round((time.monotonic() - began) * 1000))
        return True

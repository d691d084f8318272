"""The worker: does what is due, one job at a time, until it is told to stop. Several may run; leases keep them apart."""

import threading
import time
from collections.abc import Callable

from server.edges.context import Node
from server.store import jobs
from server.telemetry import failure, log
from server.work.ingest import PUBLISH
from server.work.publish import Publisher

_LOOK_EVERY = 0.2


class Worker:
    """`kinds` maps each kind of job to what does it."""

    def __init__(self, node: Node) -> None:
        self._node = node
        publisher = Publisher(node.settings, node.database, node.blobs, node.installation)
        self.kinds: dict[str, Callable[[jobs.Job], object]] = {PUBLISH: publisher.run}

    def run(self, stop: threading.Event) -> None:
        """Works until `stop` is set. A job that fails is put back with a growing delay; a database that is away is waited for."""
        while not stop.is_set():
            try:
                busy = self.once()
            except Exception as error:  # noqa: BLE001 the worker outlives what it works on
                log().error("worker", **failure(error))
                busy = False
            if not busy:
                stop.wait(_LOOK_EVERY)

    def once(self) -> bool:
        """Does the job that is due longest. False if none is due."""
        job = jobs.claim(self._node.database, list(self.kinds))
        if job is None:
            return False
        began = time.monotonic()
        try:
            self.kinds[job.kind](job)
        except Exception as error:  # noqa: BLE001 the job is put back, whatever it failed of
            told = failure(error)
            delay = jobs.failed(self._node.database, job, f"{told['error_type']} {told.get('error', '')}".strip())
            log().warning("job failed", job=job.kind, attempts=job.attempts, retry_in=delay, **told)
        else:
            log().info("job done", job=job.kind, attempts=job.attempts, duration_ms=round((time.monotonic() - began) * 1000))
        return True

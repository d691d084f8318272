"""The worker: does what is due, a few jobs at a time, until it is told to stop. Several may run; leases keep them apart."""

import threading
import time
from collections.abc import Callable, Sequence

from server.edges.context import Node
from server.outbound.audit_repository import AuditRepository
from server.outbound.mail import Mail
from server.records.results import INDEX, PREPARE
from server.store import jobs
from server.telemetry import failure, log
from server.work.audit_feed import AuditFeed
from server.work.bringing.bringing import BRING_IN
from server.work.bringing.jobs import BringInJobs
from server.work.commit import COMMIT, Committer
from server.work.fetching.jobs import FETCH, FetchJobs
from server.work.foreign_registry import SETTLE, ForeignRegistry
from server.work.housekeeping import HOUSEKEEPING, Housekeeping
from server.work.imaging_documents import INGEST, ImagingDocuments
from server.work.ingest import PUBLISH
from server.work.manifest_submission import SUBMIT, Submitter
from server.work.notices import NOTIFY, Notifier
from server.work.portal import letters
from server.work.prepare import Preparer
from server.work.publish import Publisher
from server.work.reconcile import ERASE, NOTE, Reconciler
from server.work.registry.from_fhir import REGISTER, FromFhir
from server.work.reindex import REINDEX, Reindexer
from server.work.retention import RETENTION, Retention
from server.work.sealing import Sealer

_LOOK_EVERY = 0.2
_TOGETHER = 16
_LAST_CALL = 5.0
"""Seconds that a call under way is waited for at the end; its job's lease brings it back otherwise."""

Kinds = dict[str, Callable[[Sequence[jobs.Job]], object]]


class Worker:
    """`kinds` maps each kind of job to what does some of them together, all or none. `calls` are those that wait for a partner's
    answer: one at a time, in a thread of their own, so that a partner that is silent holds nothing else up. `fetches` take long, and have another. Another seals the trail, and
    one sends it to the audit repository where there is one.
    """

    def __init__(self, node: Node) -> None:
        self._node = node
        publisher = Publisher(node.settings, node.database, node.blobs, node.installation)
        reconciler = Reconciler(node.settings, node.database, node.blobs, node.installation, node.trail)
        self._retention = Retention(node.database, node.settings.retention, reconciler)
        self._housekeeping = Housekeeping(node.database, node.bringing_in.quarantine)
        preparer = Preparer(node.settings, node.database)
        self.kinds: Kinds = {
            PUBLISH: publisher.run,
            NOTE: reconciler.notes,
            ERASE: reconciler.erase,
            RETENTION: self._retention.run,
            HOUSEKEEPING: self._housekeeping.run,
            PREPARE: preparer.metadata,
            INDEX: preparer.index,
            REINDEX: Reindexer(node.settings, node.database).run,
            INGEST: ImagingDocuments(node.database, node.blobs, node.ingest).run,
            REGISTER: FromFhir(node.database, node.blobs, node.ingest, node.domain).run,
        }
        self._sealer = Sealer(node.database)
        self._feed = None
        if node.settings.audit_repository:
            self._feed = AuditFeed(node.settings, node.database, AuditRepository(node.settings))
        self.calls: Kinds = {
            COMMIT: Committer(node.settings, node.database, node.blobs, node.peers).run,
            NOTIFY: Notifier(node.settings, node.database, Mail(node.settings).send).run,
            SUBMIT: Submitter(node.settings, node.database, node.blobs, node.installation, node.trail).run,
        }
        self.calls |= letters.kinds(node.settings, node.database, node.installation, Mail(node.settings).send)
        if node.settings.foreign_registry:
            self.calls[SETTLE] = ForeignRegistry(node.settings, node.database, node.writes, node.trail).settle
        fetching = FetchJobs(node.settings, node.database, node.installation, node.ingest, node.domain, node.writes, node.trail)
        bringing = BringInJobs(node.settings, node.database, node.installation, node.ingest, node.bringing_in.quarantine)
        self.fetches: Kinds = {FETCH: fetching.run, BRING_IN: bringing.run}

    def begin(self) -> None:
        """An audit repository that is new gets all events from now on."""
        if self._feed is not None:
            self._feed.begin()

    def run(self, stop: threading.Event) -> None:
        """Works until `stop` is set. A job that fails is put back with a growing delay; a database that is away is waited for."""
        while not stop.is_set() and not self._scheduled():
            stop.wait(_LOOK_EVERY)
        calling = threading.Thread(target=self._run, args=(stop, self.calls, 1), name="calls", daemon=True)
        calling.start()
        threading.Thread(target=self._run, args=(stop, self.fetches, 1), name="fetches", daemon=True).start()
        sealing = threading.Thread(target=self._sealer.run, args=(stop,), name="seals", daemon=True)
        sealing.start()
        if self._feed is not None:
            threading.Thread(target=self._feed.run, args=(stop,), name="audit", daemon=True).start()
        self._run(stop, self.kinds, _TOGETHER)
        sealing.join(_LAST_CALL)
        calling.join(_LAST_CALL)

    def _scheduled(self) -> bool:
        """Whether what is done daily is a job now."""
        try:
            self._retention.schedule()
            self._housekeeping.schedule()
        except Exception as error:  # noqa: BLE001 as for every job
            log().error("worker", **failure(error))
            return False
        return True

    def _run(self, stop: threading.Event, kinds: Kinds, together: int) -> None:
        while not stop.is_set():
            try:
                busy = self._some(kinds, together) > 0
            except Exception as error:  # noqa: BLE001 the worker outlives what it works on
                log().error("worker", **failure(error))
                busy = False
            if not busy:
                stop.wait(_LOOK_EVERY)

    def once(self) -> int:
        """Does some of the jobs of each kind, those that are due longest. Returns how many it took."""
        return self._some(self.kinds, _TOGETHER) + self._some(self.calls, 1) + self._some(self.fetches, 1)

    def _some(self, kinds: Kinds, together: int) -> int:
        taken = 0
        for kind, work in kinds.items():
            due = jobs.claim(self._node.database, kind, limit=together)
            if due and not self._done(work, due, last=len(due) == 1) and len(due) > 1:
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

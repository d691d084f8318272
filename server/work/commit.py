"""Storage commitment (PS3.4 annex J): deciding what is committed, telling who asked, and asking peers ourselves.

Committed means: the bytes are synced, their row is committed, the file is there in its full length, and its SHA-256 is in the
row, so that `imageshare verify` vouches for it from then on.
"""

import time
import uuid
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

from pydicom.uid import UID

from profiles.identifiers import uuid_oid
from profiles.storage_commitment import (
    CLASS_INSTANCE_CONFLICT,
    CLASS_NOT_SUPPORTED,
    DUPLICATE_TRANSACTION,
    NO_SUCH_INSTANCE,
    PROCESSING_FAILURE,
    RESOURCE_LIMITATION,
    Reference,
    Report,
    settled,
)
from server.errors import NotFound, Unavailable
from server.outbound import commitment as wire
from server.outbound.calling import NoAnswer
from server.records import catalogue, commitment
from server.records.commitment import Kept, Transaction
from server.records.peers import Peer, Peers
from server.settings import Settings
from server.store import jobs
from server.store.blobs import BlobStore, digest
from server.store.db import Database, micros

COMMIT: Final = "commit"
"""Kind of the job whose key is the row of a transaction that a peer asked us for."""

_LOOK_AGAIN = 1_000_000
_WAIT_FOR_HASH = 120_000_000
_GIVE_UP = 7 * 86400 * 1_000_000
"""Microseconds: between looks for what is not hashed yet, for how long, and after how long a peer that cannot be told is given up."""


class Committer:
    """Does the jobs of kind `COMMIT`."""

    def __init__(self, settings: Settings, database: Database, blobs: BlobStore, peers: Peers) -> None:
        self._settings, self._database, self._blobs, self._peers = settings, database, blobs, peers

    def run(self, due: Sequence[jobs.Job]) -> None:
        """Decides each transaction and reports it. Raises `NoAnswer` where the peer could not be told: the job is put back."""
        for job in due:
            if not self._settled(int(job.key)):
                with self._database.write() as connection:
                    jobs.enqueue(connection, COMMIT, job.key, due=micros() + _LOOK_AGAIN)
                    jobs.done(connection, job)
                continue
            state = self._told(int(job.key))
            with self._database.write() as connection:
                if state is not None:
                    commitment.end(connection, int(job.key), state)
                jobs.done(connection, job)

    def _settled(self, pk: int) -> bool:
        """Decides the transaction, unless instances of it are not hashed yet and may soon be."""
        with self._database.read() as connection:
            found = commitment.get(connection, pk)
            if found is None or found.state not in ("asked", "duplicate"):
                return True
            kept = commitment.kept(connection, [each.uid for each in found.requested])
        young = micros() - found.created < _WAIT_FOR_HASH
        if young and any(each.sha256 is None for each in kept.values()):
            return False
        decide(self._database, self._blobs, pk)
        return True

    def _told(self, pk: int) -> commitment.State | None:
        """Reports a decided transaction; what it is now, None where there is nothing to report."""
        with self._database.read() as connection:
            found = commitment.get(connection, pk)
        if found is None or found.state != "decided":
            return None
        peer = self._peers.destination(found.peer)
        try:
            if peer is None:
                raise NoAnswer(f"it is not known where {found.peer} listens; `imageshare peer add` says it")
            wire.report(peer, self._settings, report_of(found))
        except NoAnswer:
            if micros() - found.created < _GIVE_UP:
                raise
            return "undelivered"
        return "delivered"


def decide(database: Database, blobs: BlobStore, pk: int) -> Transaction | None:
    """Judges every instance of a transaction that is not decided yet, and keeps the result. None where there is no such row."""
    with database.read() as connection:
        found = commitment.get(connection, pk)
        if found is None or found.state not in ("asked", "duplicate"):
            return found
        kept = commitment.kept(connection, [each.uid for each in found.requested])
    hashes: dict[str, bytes] = {}
    reasons = (
        (each, DUPLICATE_TRANSACTION if found.state == "duplicate" else _reason(each, kept.get(each.uid), blobs, hashes))
        for each in found.requested
    )
    failed = [Reference(each.sop_class, each.uid, reason) for each, reason in reasons if reason]
    with database.write() as connection:
        for blob_id, sha256 in hashes.items():
            catalogue.hashed(connection, blob_id, sha256)
        commitment.decide(connection, pk, failed)
        return commitment.get(connection, pk)


def report_of(decided: Transaction) -> Report:
    """What is to be reported of a decided transaction."""
    return Report(decided.transaction_uid, decided.committed, decided.failed)


def _reason(asked: Reference, kept: Kept | None, blobs: BlobStore, hashes: dict[str, bytes]) -> int:
    """PS3.3 section C.14.1.1: the Failure Reason of one instance, 0 where it is committed.

    The SHA-256 of a blob that has none yet is made now and put into `hashes`.
    """
    if kept is None:
        return NO_SUCH_INSTANCE if _may_be_stored(asked.sop_class) else CLASS_NOT_SUPPORTED
    if kept.sop_class != asked.sop_class:
        return CLASS_INSTANCE_CONFLICT
    try:
        if blobs.size(kept.blob_id) != kept.size:
            return PROCESSING_FAILURE
        if kept.sha256 is None:
            hashes[kept.blob_id] = digest(blobs, kept.blob_id)
        return 0
    except NotFound:
        return PROCESSING_FAILURE
    except (Unavailable, OSError):
        return RESOURCE_LIMITATION


@lru_cache(maxsize=1024)
def _may_be_stored(sop_class: str) -> bool:
    """Whether this is a Storage SOP Class, or one that is newer than this program."""
    uid = UID(sop_class)
    return not uid.type or (uid.type == "SOP Class" and "Storage" in uid.name and "Commitment" not in uid.name)


# --- as SCU

_POLL = 0.2
"""Seconds between looks for a report."""


def ask(database: Database, settings: Settings, peer: Peer, references: Sequence[Reference], *, wait: float = 0.0) -> Transaction:
    """PS3.4 section J.3.2: asks a peer to commit to instances, and waits up to `wait` seconds for its report.

    The report comes over the same association, or to the port of a server on this database. The request is kept before it is sent,
    so that a report finds it however early it comes. Without one the transaction is still `asked`. Raises `NoAnswer`.
    """
    ends = time.monotonic() + wait
    transaction_uid = uuid_oid(uuid.uuid4())
    with database.write() as connection:
        pk = commitment.ask(
            connection, "scu", peer=peer.ae_title, address=peer.host, transaction_uid=transaction_uid, requested=references
        )

    def now() -> Transaction:
        with database.read() as connection:
            return commitment.asked_of(connection, peer.ae_title, transaction_uid)

    try:
        report = wire.request(
            peer, settings, transaction_uid, references, wait=wait, heard=lambda: now().state == "delivered"
        )  # fmt: skip
    except NoAnswer:
        with database.write() as connection:
            commitment.end(connection, pk, "refused")
        raise
    if report is not None:
        return reported(database, peer.ae_title, report)
    while (found := now()).state == "asked" and time.monotonic() < ends:
        time.sleep(_POLL)
    return found


def reported(database: Database, peer: str, report: Report) -> Transaction:
    """A peer's report on what we asked of it. Raises `NotFound` for what we did not. A second one changes nothing."""
    with database.write() as connection:
        found = commitment.asked_of(connection, peer, report.transaction_uid)
        if found.state != "delivered":
            commitment.decide(connection, found.pk, settled(found.requested, report))
            commitment.end(connection, found.pk, "delivered")
        return commitment.asked_of(connection, peer, report.transaction_uid)

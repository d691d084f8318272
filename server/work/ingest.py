"""Taking in one instance: whole, safe and catalogued before anyone is told that it has arrived.

Every door (C-STORE, STOW-RS, later RAD-68 and upload) opens a `Batch` for its association or request, writes the bytes
of each instance into a writer of that batch and calls `store`, or `submit` for several that are to be committed together. When
`store` returns, the blob is synced and the rows are committed, in this order; when it raises, neither a row nor a blob is left.
Only what must be done before that is done here: hashes, DICOM JSON and frame offsets are the publisher's.
"""

import contextlib
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import orjson
from pydicom.dataset import Dataset
from sqlalchemy.exc import SQLAlchemyError

from profiles import header, part10
from profiles.audit_event import FAILED, REFUSED, AuditedEntity, dicom_objects
from profiles.dicom_json import level_attributes
from profiles.identifiers import InvalidIdentifier
from profiles.query_attributes import OPTIONAL, REQUIRED
from profiles.scan import scan
from profiles.study import Instance
from server.errors import Busy, ContentConflict, ImageShareError, InstanceMismatch, MalformedInstance
from server.records import catalogue, placing
from server.records.installation import Installation
from server.records.trail import Trail
from server.settings import Settings
from server.store import blobs as blob_store
from server.store.blobs import BlobStore, Writer
from server.store.db import Database
from server.store.group_commit import GroupCommit
from server.store.room import Room
from server.work.admission import PUBLISH, Admission, Incoming, Sender, SeriesHeader

__all__ = ["PUBLISH", "Announced", "Batch", "Ingest", "Pending", "Receipt", "Sender", "discard"]

_SOP_INSTANCE_UID, _STUDY_INSTANCE_UID = 0x00080018, 0x0020000D
_SERIES_REMEMBERED = 512
_ATTEMPTS = 3
_SYNCING = 8
_HASHING = 2
_LEVELS = [int(tag, 16) for level in ("study", "series") for tag in (*REQUIRED[level], *OPTIONAL[level])]
_SERIES_TAGS = sorted({*header.TAGS, *_LEVELS})
"""What the rows of a series, and of the study and patient that it belongs to, are made of."""
_INSTANCE_TAGS = sorted({*header.INSTANCE_TAGS, _STUDY_INSTANCE_UID})
"""What is needed of an instance whose series is known: its row, and how a refusal names it."""


@dataclass(frozen=True, slots=True)
class Announced:
    """What the command or the URL said the instance would be; None where it said nothing."""

    sop_class_uid: str | None = None
    sop_instance_uid: str | None = None
    study_instance_uid: str | None = None
    transfer_syntax_uid: str | None = None
    patient_id: str | None = None


_ANNOUNCED_NOTHING = Announced()


@dataclass(frozen=True, slots=True)
class Receipt:
    """What was stored. `new` is False if the same bytes had been stored before; nothing changed then."""

    study_instance_uid: str
    series_instance_uid: str
    sop_class_uid: str
    sop_instance_uid: str
    new: bool


class Ingest:
    """The one way in. Safe for threads."""

    def __init__(
        self, settings: Settings, database: Database, blobs: BlobStore, installation: Installation, trail: Trail
    ) -> None:
        self.settings = settings
        self.database = database
        self.blobs = blobs
        self.installation = installation
        self.trail = trail
        self.commits = GroupCommit(Admission(database, blobs, trail, lambda: self.settings.quiet_period).commit)
        file = database.url.database if database.is_sqlite else None
        self._room = Room(Path(file).parent) if file else None
        self._disk = ThreadPoolExecutor(_SYNCING, thread_name_prefix="sync")
        self._aside = ThreadPoolExecutor(_HASHING, thread_name_prefix="hash")

    def sync(self, writer: Writer) -> "Future[None]":
        """Begins to make the bytes durable: several that wait for a disk at once wait hardly longer than one."""
        return self._disk.submit(writer.sync)

    def aside(self, work: Callable[[bytes | memoryview], None], data: bytes | memoryview) -> "Future[None]":
        """Does what leaves the interpreter's lock alone, such as hashing, while the caller goes on."""
        return self._aside.submit(work, data)

    def batch(self, sender: Sender) -> "Batch":
        """A batch for one association or request; use it from one thread at a time."""
        return Batch(self, sender)

    def check_room(self) -> None:
        """Raises `StorageFull` before the embedded database's disk is full; the blobs look after their own."""
        if self._room is not None:
            self._room.require(self.settings.min_free_bytes)


class Batch:
    """The instances of one association or request: one folder, and a memory of their series."""

    def __init__(self, ingest: Ingest, sender: Sender) -> None:
        self._ingest = ingest
        self._sender = sender
        self._folder = blob_store.batch()
        self._domains = ingest.installation.domains(ingest.settings, sender.authority, believed=sender.believed)
        self._series: dict[tuple[bytes, ...], SeriesHeader] = {}
        self._told: set[str] = set()
        self._submitted: deque[Incoming] = deque()
        self._settling = threading.Lock()

    def receive(self) -> Writer:
        """A writer for the Part 10 bytes of one instance. Raises `StorageFull`."""
        self._ingest.check_room()
        return self._ingest.blobs.create(self._folder, hashed=False)

    def store(self, writer: Writer, announced: Announced = _ANNOUNCED_NOTHING) -> Receipt:
        """Checks, syncs and catalogues what was written. Same UID and same bytes again: success, and nothing changes.

        Raises `MalformedInstance`, `InstanceMismatch`, `ContentConflict`, `PatientConflict`, `RejectedInstance`, `StorageFull` or
        `Busy`; the refusal is in the audit trail then.
        """
        return self.submit(writer, announced).receipt()

    def submit(self, writer: Writer, announced: Announced = _ANNOUNCED_NOTHING, *, ahead: bool = False) -> "Pending":
        """The first half of `store`: checks what was written. All that is submitted goes into the first receipt's commit.

        `ahead`: its bytes go to the disk meanwhile, for who has others to receive before the receipt is asked for.
        Whatever is submitted must be asked for its receipt; until then nothing is stored.
        """
        pending = Pending(self, writer, announced)
        try:
            pending.incoming = self._examined(pending)
            pending.incoming.syncing = self._ingest.sync(writer) if ahead else None
            self._submitted.append(pending.incoming)
        except ImageShareError as error:
            pending.error = error
        finally:
            if pending.incoming is None:
                writer.abort()
        return pending

    def refused(self, error: ImageShareError, announced: Announced = _ANNOUNCED_NOTHING, dataset: Dataset | None = None) -> None:
        """Puts a refusal into the audit trail: who, from where, why, and which study and instance, as far as that can be told.

        Of what was sent nothing else is told: the UIDs of `dataset`, where its header could be read, and those `announced`.
        """
        sender, trail = self._sender, self._ingest.trail
        trail.write(
            trail.action(
                "create", sender.subtype, sender.agent, rest=sender.rest, outcome=FAILED if error.http_status >= 500 else REFUSED,
                outcome_desc=error.detail, entities=_named(announced, dataset), request_id=sender.request_id, token_id=sender.token_id,
                initiated=sender.initiated,
            )
        )  # fmt: skip

    def settle(self, *again: Incoming) -> None:
        """Syncs and commits all that was submitted and is not settled. Each has its `error` or `new` then."""
        with self._settling:
            waiting = list(again)
            while self._submitted:
                waiting.append(self._submitted.popleft())
            synced = [one for one in waiting if _is_synced(one)]
            if not synced:
                return
            try:
                self._ingest.commits.join(synced)
            except Exception as error:  # noqa: BLE001 told by each receipt
                for one in synced:
                    one.error = error

    def outcome(self, one: Incoming) -> Receipt:
        """What became of a submitted instance. Raises why it was not stored; nothing of it is left then."""
        self.settle()
        for _ in range(_ATTEMPTS):
            if one.error is not None:
                self._leave_nothing(one)
                raise one.error
            if one.new or self._is_stored_alike(one):
                return _receipt(one)
            self.settle(one)  # whoever had the UID is gone again
        self._leave_nothing(one)
        raise Busy("the server is busy; try again")

    def _leave_nothing(self, one: Incoming) -> None:
        if one.blob is None:
            one.writer.abort()
        else:
            discard(self._ingest.database, self._ingest.blobs, one.blob.id)

    def _is_stored_alike(self, one: Incoming) -> bool:
        """True if the UID, which is not new, is stored with the same dataset; only then, and on an error, the new blob is deleted.

        Raises `ContentConflict` if with another; False if it is no longer stored.
        """
        assert one.blob is not None
        blobs = self._ingest.blobs
        try:
            with self._ingest.database.read() as connection:
                stored = catalogue.stored(connection, one.instance.sop_instance_uid)
            if stored is None:
                return False
            with contextlib.closing(blobs.open(one.blob.id)) as ours, contextlib.closing(blobs.open(stored.blob_id)) as theirs:
                ours.seek(one.dataset_offset)
                theirs.seek(stored.dataset_offset)
                same = stored.transfer_syntax == one.instance.transfer_syntax_uid and all(a == b for a, b in _pairs(ours, theirs))
        except BaseException:
            blobs.delete(one.blob.id)
            raise
        blobs.delete(one.blob.id)
        if not same:
            raise ContentConflict(
                "this SOP Instance UID is stored with other content; the first stays, send changed content under a new UID"
            )
        return True

    def _examined(self, pending: "Pending") -> Incoming:
        """Reads the header as far as is needed: the instance's own values, and once per series all that its rows are made of."""
        writer = pending.writer
        scanned = scan(writer.head, writer.size, writer.read)
        try:
            if scanned is None:
                with contextlib.closing(writer.reader()) as file:
                    pending.dataset, syntax, offset = header.read(file)
                series = self._of_series(pending.dataset, syntax)
            else:
                syntax, offset = scanned.transfer_syntax_uid, scanned.dataset_offset
                identity = (syntax.encode(), *scanned.raw(header.IDENTITY_TAGS))
                known = self._series.get(identity)
                pending.dataset = scanned.dataset(_SERIES_TAGS if known is None else _INSTANCE_TAGS)
                series = known or self._remembered(identity, self._of_series(pending.dataset, syntax))
            instance = pending.instance = header.extract_instance(pending.dataset, syntax)
        except (header.HeaderError, InvalidIdentifier) as error:
            raise _malformed(error) from None
        _check(instance, series, pending.announced)
        return Incoming(writer, instance, offset, series, self._sender, self._told)

    def _of_series(self, dataset: Dataset, transfer_syntax: str) -> SeriesHeader:
        study = header.extract(dataset, transfer_syntax, self._domains)
        setting = placing.Setting(
            study, orjson.dumps(level_attributes(dataset, "study")), orjson.dumps(level_attributes(dataset, "series"))
        )
        return SeriesHeader(setting, setting.key)

    def _remembered(self, identity: tuple[bytes, ...], series: SeriesHeader) -> SeriesHeader:
        if len(self._series) >= _SERIES_REMEMBERED:
            self._series.clear()
        self._series[identity] = series
        return series


class Pending:
    """An instance that was submitted. `receipt` waits for it.

    `dataset` has what was needed of its header, `instance` its own values; None where they could not be read.
    """

    def __init__(self, batch: Batch, writer: Writer, announced: Announced) -> None:
        self.writer = writer
        self.announced = announced
        self.dataset: Dataset | None = None
        self.instance: Instance | None = None
        self.incoming: Incoming | None = None
        self.error: ImageShareError | None = None
        self._batch = batch

    def receipt(self) -> Receipt:
        """The second half of `Batch.store`, once; raises as it does."""
        try:
            if self.error is not None or self.incoming is None:
                raise self.error or ValueError("this instance was not submitted")
            return self._batch.outcome(self.incoming)
        except ImageShareError as error:
            self._batch.refused(error, self.announced, self.dataset)
            raise


def discard(database: Database, blobs: BlobStore, blob_id: str) -> None:
    """Deletes the blob of a transaction that failed, unless its row is there: a connection may be lost after its COMMIT took effect.

    Where that cannot be told, the blob stays; if no row names it, it is swept.
    """
    with contextlib.suppress(SQLAlchemyError, ImageShareError, OSError):
        with database.read() as connection:
            kept = catalogue.names_blob(connection, blob_id)
        if not kept:
            blobs.delete(blob_id)


def _is_synced(one: Incoming) -> bool:
    """Each thread waits for its own files, which are on their way already where several were submitted."""
    try:
        if one.syncing is not None:
            one.syncing.result()
        else:
            one.writer.sync()
    except ImageShareError as error:
        one.error = error
    return one.error is None


def _named(announced: Announced, dataset: Dataset | None) -> tuple[AuditedEntity, ...]:
    """The study and instance as the header has them and as they were announced: one each, where the two agree."""
    told = dicom_objects(study=announced.study_instance_uid or "", instance=announced.sop_instance_uid or "")
    found: tuple[AuditedEntity, ...] = ()
    if dataset is not None:
        found = dicom_objects(study=_uid(dataset, _STUDY_INSTANCE_UID), instance=_uid(dataset, _SOP_INSTANCE_UID))
    return tuple(dict.fromkeys((*found, *told)))


def _uid(dataset: Dataset, tag: int) -> str:
    value = getattr(part10.stored(dataset, tag), "value", None)
    return value.decode("ascii", "replace").strip(" \0") if isinstance(value, bytes) else str(value or "")


def _malformed(error: ValueError) -> MalformedInstance:
    """Its short form says which UID is none; all else is short already, or what the class says has to do."""
    tag = error.tag if isinstance(error, header.HeaderError) and isinstance(error.__cause__, InvalidIdentifier) else None
    return MalformedInstance(str(error), f"{part10.keyword(tag)} is not a UID (PS3.5 section 9.1)" if tag is not None else "")


def _check(instance: Instance, series: SeriesHeader, announced: Announced) -> None:
    for what, told, found in (
        ("SOP Class UID", announced.sop_class_uid, instance.sop_class_uid),
        ("SOP Instance UID", announced.sop_instance_uid, instance.sop_instance_uid),
        ("Study Instance UID", announced.study_instance_uid, series.study_uid),
        ("Transfer Syntax UID", announced.transfer_syntax_uid, instance.transfer_syntax_uid),
        ("Patient ID", announced.patient_id, series.setting.study.patient.identifier.value),
    ):
        if told is not None and told != found:
            raise InstanceMismatch(f"the {what} announced is not that of the dataset")


def _receipt(one: Incoming) -> Receipt:
    series, instance = one.series, one.instance
    return Receipt(series.study_uid, series.series_uid, instance.sop_class_uid, instance.sop_instance_uid, one.new)


def _pairs(one: BinaryIO, other: BinaryIO) -> Iterator[tuple[bytes, bytes]]:
    while True:
        a, b = one.read(blob_store.CHUNK), other.read(blob_store.CHUNK)
        if not a and not b:
            return
        yield a, b

"""Taking in one instance: whole, safe and catalogued before anyone is told that it has arrived.

Every door (C-STORE, STOW-RS, later RAD-68 and upload) opens a `Batch` for its association or request, writes the bytes
of each instance into a writer of that batch and calls `store`. When `store` returns, the blob is synced and the rows are
committed, in this order; when it raises, neither a row nor a blob is left.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

import orjson
from pydicom.dataset import Dataset
from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from profiles import header, part10
from profiles.audit_event import FAILED, REFUSED, Agent, AuditedEntity, Subtype, dicom_objects
from profiles.dicom_json import level_attributes
from profiles.identifiers import InvalidIdentifier
from profiles.study import Study
from profiles.vocabulary import DICOM_UID_SYSTEM
from server.errors import ContentConflict, ImageShareError, InstanceMismatch, MalformedInstance
from server.records import catalogue, placing
from server.records.installation import Installation
from server.records.trail import Trail
from server.settings import Settings
from server.store import blobs as blob_store
from server.store import jobs
from server.store.blobs import BlobStore, Writer
from server.store.db import Database, micros

_SeriesKey = tuple[str, str, str, str]
_SOP_INSTANCE_UID, _STUDY_INSTANCE_UID = 0x00080018, 0x0020000D

PUBLISH = "publish"
"""Kind of the job whose key is a study's row and whose deadline is the end of its quiet period."""


@dataclass(frozen=True, slots=True)
class Sender:
    """Who sends: the door as the trail calls it, the peer's name (AE title, client id), its address.

    `authority` is the OID that assigns its patient ids, where it is configured. `rest` is False for DICOM and SOAP.
    """

    subtype: Subtype
    name: str
    address: str
    authority: str | None = None
    rest: bool = False
    request_id: str = ""
    token_id: str = ""

    @property
    def agent(self) -> Agent:
        return Agent(identifier=self.name, address=self.address)


@dataclass(frozen=True, slots=True)
class Announced:
    """What the command or the URL said the instance would be; None where it said nothing."""

    sop_class_uid: str | None = None
    sop_instance_uid: str | None = None
    study_instance_uid: str | None = None
    transfer_syntax_uid: str | None = None


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

    def batch(self, sender: Sender) -> "Batch":
        """A batch for one association or request; use it from one thread at a time."""
        return Batch(self, sender)


class Batch:
    """The instances of one association or request: one folder, and a memory of where their series stand."""

    def __init__(self, ingest: Ingest, sender: Sender) -> None:
        self._ingest = ingest
        self._sender = sender
        self._folder = blob_store.batch()
        self._domains = ingest.installation.domains(ingest.settings, sender.authority)
        self._places: dict[_SeriesKey, placing.Place] = {}

    def receive(self) -> Writer:
        """A writer for the Part 10 bytes of one instance. Raises `StorageFull`."""
        return self._ingest.blobs.create(self._folder)

    def store(self, writer: Writer, announced: Announced = _ANNOUNCED_NOTHING) -> Receipt:
        """Checks, syncs and catalogues what was written. Same UID and same bytes again: success, and nothing changes.

        Raises `MalformedInstance`, `InstanceMismatch`, `ContentConflict`, `PatientConflict`, `StorageFull` or `Busy`; the refusal is
        in the audit trail then.
        """
        dataset = None
        try:
            dataset, transfer_syntax, offset = _header(writer)
            return self._store(writer, announced, dataset, transfer_syntax, offset)
        except ImageShareError as error:
            self.refused(error, announced, dataset)
            raise
        finally:
            writer.abort()  # without effect after a commit

    def refused(self, error: ImageShareError, announced: Announced = _ANNOUNCED_NOTHING, dataset: Dataset | None = None) -> None:
        """Puts a refusal into the audit trail: who, from where, why, and which study and instance, as far as that can be told.

        Of what was sent nothing else is told: the UIDs of `dataset`, where its header could be read, and those `announced`.
        """
        sender, trail = self._sender, self._ingest.trail
        trail.write(
            trail.action(
                "create", sender.subtype, sender.agent, rest=sender.rest, outcome=FAILED if error.http_status >= 500 else REFUSED,
                outcome_desc=error.detail, entities=_named(announced, dataset), request_id=sender.request_id, token_id=sender.token_id,
            )
        )  # fmt: skip

    def _store(self, writer: Writer, announced: Announced, dataset: Dataset, transfer_syntax: str, offset: int) -> Receipt:
        try:
            study = header.extract(dataset, transfer_syntax, self._domains)
        except (header.HeaderError, InvalidIdentifier) as error:
            raise _malformed(error) from None
        _check(study, announced)
        attributes = (orjson.dumps(level_attributes(dataset, "study")), orjson.dumps(level_attributes(dataset, "series")))
        ((instance,),) = (series.instances for series in study.series)
        if self._seen(writer, instance.sop_instance_uid, study, offset):
            return _receipt(study, new=False)
        blob = writer.commit()
        try:
            with self._ingest.database.write() as connection:
                arrival = placing.Arrival(study, *attributes, blob, offset, f"{self._sender.subtype.code} {self._sender.name}")
                key, where = self._catalogue(connection, arrival)
        except ContentConflict:
            # Somebody else stored this UID between our look and our commit: judge by the bytes again.
            try:
                with contextlib.closing(self._ingest.blobs.open(blob.id)) as ours:
                    same = self._same_as_stored(ours, instance.sop_instance_uid, study, offset)
            finally:
                self._ingest.blobs.delete(blob.id)
            if not same:
                raise
            return _receipt(study, new=False)
        except BaseException:
            discard(self._ingest.database, self._ingest.blobs, blob.id)
            raise
        self._places[key] = where
        return _receipt(study, new=True)

    def _seen(self, writer: Writer, uid: str, study: Study, offset: int) -> bool:
        with contextlib.closing(writer.reader()) as ours:
            return self._same_as_stored(ours, uid, study, offset)

    def _same_as_stored(self, ours: BinaryIO, uid: str, study: Study, offset: int) -> bool:
        """True if the UID is stored with the same dataset. Raises `ContentConflict` if with another; False if not stored."""
        with self._ingest.database.read() as connection:
            stored = catalogue.stored(connection, uid)
        if stored is None:
            return False
        (series,) = study.series
        if stored.transfer_syntax != series.instances[0].transfer_syntax_uid or not _equal(
            ours, offset, self._ingest.blobs.open(stored.blob_id), stored.dataset_offset
        ):
            raise ContentConflict(
                "this SOP Instance UID is stored with other content; the first stays, send changed content under a new UID"
            )
        return True

    def _catalogue(self, connection: Connection, arrival: placing.Arrival) -> tuple["_SeriesKey", placing.Place]:
        study = arrival.study
        identifier = study.patient.identifier
        key = (identifier.authority.oid, identifier.value, study.study_instance_uid, study.series[0].series_instance_uid)
        where = self._places.get(key) or placing.place(connection, arrival)
        placing.admit(connection, arrival, where)
        due = micros() + int(self._ingest.settings.quiet_period * 1_000_000)
        jobs.enqueue(connection, PUBLISH, str(where.study_pk), due=due)
        if not any(known.study_pk == where.study_pk for known in self._places.values()):
            self._imported(connection, study.study_instance_uid, where)
        return key, where

    def _imported(self, connection: Connection, study_uid: str, where: placing.Place) -> None:
        """One event per batch and study, in the transaction of its first instance."""
        sender, trail = self._sender, self._ingest.trail
        study = AuditedEntity(
            f"ImagingStudy/{catalogue.study_id(connection, where.study_pk)}", DICOM_UID_SYSTEM, f"urn:oid:{study_uid}"
        )
        trail.record(
            connection,
            trail.action(
                "create", sender.subtype, sender.agent, rest=sender.rest, patient_id=catalogue.patient_id(connection, where.patient_pk),
                entities=(study,), request_id=sender.request_id, token_id=sender.token_id,
            ),
        )  # fmt: skip


def discard(database: Database, blobs: BlobStore, blob_id: str) -> None:
    """Deletes the blob of a transaction that failed, unless its row is there: a connection may be lost after its COMMIT took effect.

    Where that cannot be told, the blob stays; if no row names it, it is swept.
    """
    with contextlib.suppress(SQLAlchemyError, ImageShareError, OSError):
        with database.read() as connection:
            kept = catalogue.names_blob(connection, blob_id)
        if not kept:
            blobs.delete(blob_id)


def _header(writer: Writer) -> tuple[Dataset, str, int]:
    try:
        with contextlib.closing(writer.reader()) as file:
            return header.read(file)
    except header.HeaderError as error:
        raise _malformed(error) from None


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


def _check(study: Study, announced: Announced) -> None:
    (series,) = study.series
    (instance,) = series.instances
    for what, told, found in (
        ("SOP Class UID", announced.sop_class_uid, instance.sop_class_uid),
        ("SOP Instance UID", announced.sop_instance_uid, instance.sop_instance_uid),
        ("Study Instance UID", announced.study_instance_uid, study.study_instance_uid),
        ("Transfer Syntax UID", announced.transfer_syntax_uid, instance.transfer_syntax_uid),
    ):
        if told is not None and told != found:
            raise InstanceMismatch(f"the {what} announced is not that of the dataset")


def _receipt(study: Study, *, new: bool) -> Receipt:
    (series,) = study.series
    (instance,) = series.instances
    return Receipt(study.study_instance_uid, series.series_instance_uid, instance.sop_class_uid, instance.sop_instance_uid, new)


def _equal(ours: BinaryIO, our_offset: int, theirs: BinaryIO, their_offset: int) -> bool:
    with contextlib.closing(theirs):
        ours.seek(our_offset)
        theirs.seek(their_offset)
        return all(a == b for a, b in _pairs(ours, theirs))


def _pairs(one: BinaryIO, other: BinaryIO) -> Iterator[tuple[bytes, bytes]]:
    while True:
        a, b = one.read(blob_store.CHUNK), other.read(blob_store.CHUNK)
        if not a and not b:
            return
        yield a, b

"""What FHIR clients write and is a document, in the Document Registry: an object of origin `fhir`, made of its resource by a job.

It takes a document of some bytes in this server (attachment.data, or a Binary whose security context is that DocumentReference or something of the
same patient), an id that is a UUID, and a patient whom the affinity domain knows; what lacks that stays a FHIR resource only. The object changes and
goes with its resource alone: ITI-57, ITI-62 and ITI-86 leave it. Who wrote it is read from the resource itself, never from others, which the readers of
this one may not be allowed to read.
"""

import base64
import hashlib
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from sqlalchemy import Connection, select

from ihe import attribute_rules
from ihe.metadata import By
from profiles.document import (
    APPROVED,
    DEPRECATED,
    HAS_MEMBER,
    RELATIONSHIPS,
    REPLACING,
    Association,
    DocumentEntry,
    SubmissionSet,
)
from profiles.fhir.json import parse
from profiles.fhir.references import parse_reference
from profiles.identifiers import AssigningAuthority, PatientIdentifier, uuid_oid
from profiles.received_document import Unreadable, document_entry, relations
from profiles.timestamps import dtm
from server.records import binaries, patients, registry, repository, resources
from server.records.catalogue import PATIENT
from server.records.registry import OBJECT
from server.records.repository import New
from server.records.resources import Stored
from server.store import jobs
from server.store.blobs import BlobStore
from server.store.db import Database, micros, moment
from server.work.arriving_documents import ArrivingDocuments, Kept
from server.work.ingest import Ingest
from server.work.registry.domain import Domain
from server.work.registry.register import new_uuid
from server.work.registry.standing import DOCUMENT, hold

Json = dict[str, Any]
REGISTER: Final = "register-resource"
"""Kind of the job whose key is the id of a DocumentReference that a client wrote."""
_STATUSES: Final = {"current": APPROVED, "superseded": DEPRECATED}


def asked(connection: Connection, stored: Stored) -> None:
    """A client wrote this version: it is looked at once the transaction is durable."""
    if stored.type == DOCUMENT and stored.body and (b'"data":' in stored.body or b"Binary/" in stored.body):
        jobs.enqueue(connection, REGISTER, stored.id, due=micros())


def document_arrived(connection: Connection, base: str, binary: Json) -> None:
    """A client wrote this Binary: its security context may be the DocumentReference that it is the document of."""
    target = parse_reference(str(binary.get("securityContext", {}).get("reference", "")), base)
    if target.type == DOCUMENT and target.id and not target.url:
        jobs.enqueue(connection, REGISTER, target.id, due=micros())


def gone(connection: Connection, type_: str, id_: str) -> None:
    """A client deleted this resource: its object goes, with its Submission Set. Documents stay, as earlier versions of the resource do."""
    if type_ == DOCUMENT:
        _remove(connection, f"urn:uuid:{id_}")


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A resource that may be registered: its version, entry, relations, and its bytes or the blob that has them."""

    version: int
    patient_pk: int
    entry: DocumentEntry
    relations: tuple[tuple[str, str], ...]
    content: bytes
    blob_id: str


class FromFhir:
    """`run` is what the worker calls."""

    def __init__(self, database: Database, blobs: BlobStore, ingest: Ingest, domain: Domain) -> None:
        self._database, self._blobs, self._ingest, self._domain = database, blobs, ingest, domain

    def run(self, due: Sequence[jobs.Job]) -> None:
        """Each as its resource is now."""
        for job in due:
            self._register(job.key)
            with self._database.write() as connection:
                jobs.done(connection, job)

    def _register(self, id_: str) -> None:
        with self._database.read() as connection:
            if not _is_ours(connection, id_):
                return
            found = self._candidate(connection, id_)
        if found is None:
            with self._database.write() as connection:
                _remove(connection, f"urn:uuid:{id_}")
            return
        arrived = ArrivingDocuments(self._ingest)
        try:
            kept = self._kept(found, arrived)
            with self._database.write() as connection:
                used = self._written(connection, id_, found, kept)
            if used:
                arrived.release([kept[0] if isinstance(kept, tuple) else kept.blob.id])
        finally:
            arrived.discard()

    def _candidate(self, connection: Connection, id_: str) -> _Candidate | None:
        stored = resources.last(connection, DOCUMENT, id_)
        if stored is None or stored.deleted:
            return None
        resource: Json = parse(stored.body)
        whose = self._patient(connection, stored.patient)
        status = _STATUSES.get(str(resource.get("status")))
        if whose is None or status is None:
            return None
        content, blob_id = _content(connection, resource, stored, self._domain.base)
        if not content and not blob_id:
            return None
        try:
            entry = document_entry(resource, id=f"urn:uuid:{id_}", patient_id=whose[1], find=lambda _: None)
            related = tuple((type_, f"urn:uuid:{_id_of(text, self._domain.base)}") for type_, text in relations(resource))
        except Unreadable:
            return None
        entry = replace(entry, status=status, logical_id=entry.entry_uuid, unique_id=entry.unique_id or uuid_oid(uuid.UUID(id_)))
        return _Candidate(stored.version, whose[0], entry, related, content, blob_id)

    def _patient(self, connection: Connection, id_: str) -> tuple[int, str] | None:
        """The row and CX of a patient whom the affinity domain knows."""
        row = connection.execute(select(PATIENT.c.authority, PATIENT.c.value).where(PATIENT.c.id == id_)).first()
        if row is None:
            return None
        cx = PatientIdentifier(row.value, AssigningAuthority(row.authority)).cx
        pk = patients.is_known(connection, cx, self._domain.authorities)
        return (pk, cx) if pk is not None else None

    def _kept(self, found: _Candidate, arrived: ArrivingDocuments) -> tuple[str, int, str] | Kept:
        """The bytes: a blob of their own where they stood in the resource, else id, size and SHA-1 of that which has them."""
        if found.blob_id:
            sha1, size = hashlib.sha1(usedforsecurity=False), 0
            for piece in self._blobs.stream(found.blob_id):
                sha1.update(piece)
                size += len(piece)
            return found.blob_id, size, sha1.hexdigest()
        arrived.begin("document")
        arrived.take(found.content)
        arrived.end()
        return arrived.kept()["document"]

    def _written(self, connection: Connection, id_: str, found: _Candidate, kept: tuple[str, int, str] | Kept) -> bool:
        """Registers it unless somebody was faster, who asked for this again. Whether the bytes are a row's now."""
        now = resources.locked(connection, DOCUMENT, id_)
        hold(connection, [found.entry.patient_id, found.entry.unique_id])
        if now is None or now.version != found.version or not _is_ours(connection, id_):
            return False
        size, sha1 = (kept.blob.size, kept.sha1) if isinstance(kept, Kept) else kept[1:]
        entry = _full(replace(found.entry, hash=sha1, size=size, repository_unique_id=self._domain.repository))
        held = repository.held(connection, [found.entry.unique_id]).get(found.entry.unique_id)
        others = [each for each in registry.by_unique_id(connection, [found.entry.unique_id]) if each.origin != "fhir"]
        if entry is None or others or (held is not None and held.sha1 != sha1):
            _remove(connection, found.entry.entry_uuid)
            return False
        self._replace(connection, entry, found)
        if held is not None:
            return False
        if isinstance(kept, Kept):
            new = New(entry.unique_id, kept.blob, entry.mime_type, sha1)
            repository.keep(connection, [new], patient_pk=found.patient_pk, now=micros())
        else:
            repository.share(connection, entry.unique_id, kept[0], entry.mime_type, size, sha1, patient_pk=found.patient_pk)
        return True

    def _replace(self, connection: Connection, entry: DocumentEntry, found: _Candidate) -> None:
        now = micros()
        before = registry.associations(connection, [entry.entry_uuid])
        if any(each.type == HAS_MEMBER for each in before):
            own = [each.entry_uuid for each in before if each.type in RELATIONSHIPS and each.source == entry.entry_uuid]
            registry.remove(connection, [entry.entry_uuid, *own])
            added = []
        else:
            when, fresh = dtm(moment(now)), uuid_oid(uuid.UUID(new_uuid()))
            submitted = SubmissionSet(
                new_uuid(), fresh, entry.patient_id, self._domain.repository, when, authors=entry.authors, is_limited=True
            )
            registry.add(connection, submitted, patient_pk=found.patient_pk, origin="fhir", now=now)
            added = [Association(new_uuid(), HAS_MEMBER, submitted.entry_uuid, entry.entry_uuid, "Original")]
        registry.add(connection, entry, patient_pk=found.patient_pk, origin="fhir", now=now)
        registry.associate(connection, [*added, *_related(connection, entry, found)])


def _related(connection: Connection, entry: DocumentEntry, found: _Candidate) -> list[Association]:
    """To documents of the same patient that are registered. A replacement is one when what it replaces is superseded: each says that itself."""
    there = {each.value.entry_uuid: each for each in registry.by_uuid(connection, [target for _, target in found.relations])}
    return [
        Association(new_uuid(), type_, entry.entry_uuid, target)
        for type_, target in found.relations
        if target in there
        and there[target].patient_pk == found.patient_pk
        and isinstance(there[target].value, DocumentEntry)
        and (type_ not in REPLACING or there[target].value.status == DEPRECATED)
    ]


def _full(entry: DocumentEntry) -> DocumentEntry | None:
    """With limited metadata where it lacks what others have; None where it lacks even what these have (ITI TF-3 table 4.3.1-3)."""
    if not any(attribute_rules.faults(entry, By.REGISTER)):
        return entry
    limited = replace(entry, is_limited=True)
    return None if any(attribute_rules.faults(limited, By.LIMITED)) else limited


def _content(connection: Connection, resource: Json, stored: Stored, base: str) -> tuple[bytes, str]:
    """The bytes of the document, or the blob that has them; neither where they are not here, or may be somebody else's."""
    contents = resource.get("content", [])
    attachment = contents[0].get("attachment", {}) if len(contents) == 1 else {}
    if "data" in attachment:
        return base64.b64decode(attachment["data"]), ""
    target = parse_reference(str(attachment.get("url", "")), base)
    if target.type != "Binary" or not target.id or target.url:
        return b"", ""
    binary = resources.last(connection, "Binary", target.id)
    if binary is None or binary.deleted:
        return b"", ""
    said: Json = parse(binary.body)
    context = parse_reference(str(said.get("securityContext", {}).get("reference", "")), base)
    of = resources.last(connection, context.type, context.id) if context.id and not context.url else None
    if of is None or of.patient != stored.patient:
        return b"", ""
    kept = binaries.of(connection, binary.id, binary.version)
    return (b"", kept.blob_id) if kept is not None else (base64.b64decode(str(said.get("data", ""))), "")


def _id_of(text: str, base: str) -> str:
    target = parse_reference(text, base)
    return target.id if target.type == DOCUMENT and not target.url else ""


def _is_ours(connection: Connection, id_: str) -> bool:
    """Whether its object is, or may become, one of origin `fhir`."""
    try:
        if str(uuid.UUID(id_)) != id_:
            return False
    except ValueError:
        return False
    origin = connection.execute(select(OBJECT.c.origin).where(OBJECT.c.entry_uuid == f"urn:uuid:{id_}")).scalar()
    return origin in (None, "fhir")


def _remove(connection: Connection, entry_uuid: str) -> None:
    """The entry, its Submission Set, and the Associations at them."""
    if not any(each.origin == "fhir" for each in registry.by_uuid(connection, [entry_uuid])):
        return
    touching = registry.associations(connection, [entry_uuid])
    sets = [each.source for each in touching if each.type == HAS_MEMBER]
    registry.remove(connection, [entry_uuid, *sets, *(each.entry_uuid for each in touching)])

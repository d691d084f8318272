"""Provide and Register Document Set-b (ITI-41, RAD-68): documents and their metadata, all or nothing (ITI TF-2 section 3.41.4.1.3)."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

from sqlalchemy import Connection

from ihe.ebrs import RegistryError, RegistryRefusal
from ihe.ebxml import Reading
from ihe.iti41 import Provided
from ihe.metadata import By
from profiles.document import DocumentEntry, Submission
from profiles.vocabulary import DICOM, KEY_OBJECT_SELECTION
from server.access.decisions import Decision, Interaction
from server.records import repository
from server.records.repository import New
from server.store import jobs
from server.store.db import micros
from server.work.arriving_documents import ArrivingDocuments, Kept
from server.work.fhir.writes import Writes
from server.work.imaging_documents import INGEST
from server.work.registry.domain import Domain
from server.work.registry.register import FEW, Done, register
from server.work.retrieve import STUDY_TYPE


def check(domain: Domain, submission: Submission, documents: Sequence[Provided], reading: Reading) -> None:
    """What the message shows to be wrong before its documents are here. Raises `RegistryRefusal` with all of it."""
    submitted = submission.submission_set
    by = By.LIMITED if submitted is not None and submitted.is_limited else By.PROVIDE
    errors = [*domain.check(submission, by, reading, "Repository"), *_unpaired(submission, documents)]
    if errors:
        raise RegistryRefusal(errors)


def _unpaired(submission: Submission, documents: Sequence[Provided]) -> Iterator[RegistryError]:
    """ITI TF-2 section 3.41.4.1.2: one document for each Document Entry, and one entry for each document."""
    entries = {entry.entry_uuid for entry in submission.documents}
    ids, parts = set[str](), set[str]()
    for each in documents:
        if each.id in ids:
            yield RegistryError(
                "XDSRepositoryMetadataError", "two Document elements have the same id: give each its own", each.id
            )
        elif each.id not in entries:
            words = "the id of a Document element is that of no Document Entry of the message"
            yield RegistryError("XDSMissingDocumentMetadata", words, each.id)
        elif each.content_id and each.content_id in parts:
            words = "two Document elements lead to the same part: attach each document once"
            yield RegistryError("XDSMissingDocument", words, each.id)
        ids.add(each.id)
        parts.add(each.content_id)
    for id_ in sorted(entries - ids):
        yield RegistryError("XDSMissingDocument", "there is no Document element for this Document Entry", id_)


def completed(submission: Submission, kept: Mapping[str, Kept], strange: Sequence[str], repository_unique_id: str) -> Submission:
    """ITI TF-2 section 3.41.4.1.3.2: `submission` with hash, size and repositoryUniqueId of its documents, `kept` by the ids of their entries.

    `strange` are Content-IDs that no document has. Raises `RegistryRefusal` with everything that is wrong.
    """
    errors = [
        RegistryError("XDSMissingDocumentMetadata", "a part is attached that no Document element of the message leads to", part)
        for part in strange
    ]
    for entry in submission.documents:
        errors += _wrong(entry, kept.get(entry.entry_uuid))
    if errors:
        raise RegistryRefusal(errors)
    entries = tuple(
        replace(
            entry, hash=kept[entry.entry_uuid].sha1, size=kept[entry.entry_uuid].blob.size, repository_unique_id=repository_unique_id
        )
        for entry in submission.documents
    )  # fmt: skip
    return replace(submission, documents=entries)


def _wrong(entry: DocumentEntry, kept: Kept | None) -> Iterator[RegistryError]:
    """ITI TF-3 sections 4.2.3.2.10 and 4.2.3.2.23: what a source says of hash and size has to be so."""
    id_ = entry.entry_uuid
    if kept is None:
        yield RegistryError("XDSMissingDocument", "the part that the Document element leads to is not attached", id_)
        return
    if not kept.blob.size:
        yield RegistryError("XDSRepositoryMetadataError", "the document has no bytes: it was lost on its way", id_)
    if entry.size is not None and entry.size != kept.blob.size:
        words = f"DocumentEntry.size is {entry.size}, but the document that arrived has {kept.blob.size} bytes"
        yield RegistryError("XDSRepositoryMetadataError", words, id_)
    if entry.hash and entry.hash.lower() != kept.sha1:
        words = f"DocumentEntry.hash is not the SHA-1 of the document that arrived, which is {kept.sha1}"
        yield RegistryError("XDSRepositoryMetadataError", words, id_)


def provide(
    writes: Writes,
    domain: Domain,
    decision: Decision,
    submission: Submission,
    arrived: ArrivingDocuments,
    recorded: Callable[[Connection, Done], None],
) -> None:
    """Keeps and registers a submission that is `completed`, in one transaction, with what is `recorded` of it.

    Raises `RegistryRefusal`, `Forbidden`; nothing was done then.
    """
    documents = documents_of(submission, arrived.kept())

    def write(connection: Connection) -> Sequence[New]:
        done = register(connection, decision, domain, submission)
        new = list(new_documents(connection, documents))
        repository.keep(connection, new, patient_pk=done.patient_pk, now=micros())
        take_images(connection, decision, submission)
        recorded(connection, done)
        return new

    run = writes.run if len(documents) <= FEW else writes.alone
    arrived.release(each.blob.id for each in run(write))


def documents_of(submission: Submission, kept: Mapping[str, Kept]) -> list[New]:
    """The documents of a submission, `kept` by the ids of their entries."""
    return [
        New(entry.unique_id, kept[entry.entry_uuid].blob, entry.mime_type, kept[entry.entry_uuid].sha1)
        for entry in submission.documents
    ]


def take_images(connection: Connection, decision: Decision, submission: Submission) -> None:
    """What may be instances becomes images here too, where the caller may store studies."""
    if decision.patients(STUDY_TYPE, Interaction.CREATE) is None:
        for entry in submission.documents:
            if entry.mime_type == DICOM and (entry.format_code is None or entry.format_code.code != KEY_OBJECT_SELECTION):
                jobs.enqueue(connection, INGEST, entry.unique_id, due=micros())


def new_documents(connection: Connection, documents: Sequence[New]) -> Iterator[New]:
    """Those that are not here. Raises `RegistryRefusal` where other documents of the same uniqueId are (ITI TF-3 section 4.1.4.1)."""
    held = repository.held(connection, [each.unique_id for each in documents])
    errors = []
    for each in documents:
        known = held.get(each.unique_id)
        if known is not None and known.sha1.lower() != each.sha1:
            words = f"another document with the uniqueId {each.unique_id} is here: its hash is another"
            errors.append(RegistryError("XDSNonIdenticalHash", words, each.unique_id))
        if known is not None and known.size != each.blob.size:
            words = f"another document with the uniqueId {each.unique_id} is here: its size is another"
            errors.append(RegistryError("XDSNonIdenticalSize", words, each.unique_id))
    if errors:
        raise RegistryRefusal(errors)
    yield from (each for each in documents if each.unique_id not in held)

"""Remove Documents (ITI-86): documents leave the Repository for good; their metadata are ITI-62's to remove (ITI TF-2 section 3.86.4.1.3)."""

from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import Connection

from ihe.ebrs import RegistryError
from profiles.document import DocumentEntry
from server.access.decisions import Decision, Interaction
from server.records import binaries, registry, rejections, repository
from server.records.repository import Held
from server.store import jobs
from server.store.db import micros
from server.work.documents import DOCUMENT_TYPE
from server.work.reconcile import ERASE

_LATER = 60_000_000
"""Microseconds until the worker looks for files that whoever removed them has left."""


class Removal(NamedTuple):
    """What was removed, by uniqueId; the blobs whose files are to be erased after the commit; an error for each other document."""

    documents: dict[str, Held]
    blobs: list[str]
    errors: list[RegistryError]


def remove(connection: Connection, decision: Decision, unique_ids: Sequence[str]) -> Removal:
    """Removes those that can be removed. A Binary that is such a document's content keeps its blob."""
    held = repository.held(connection, unique_ids)
    entries = _entries(connection, list(held))
    removed, errors, erased = dict[str, Held](), list[RegistryError](), list[str]()
    for uid in dict.fromkeys(unique_ids):
        document = held.get(uid)
        if document is None or not _may_go(connection, decision, document, entries.get(uid, ())):
            errors.append(RegistryError("XDSDocumentUniqueIdError", "there is no such document here", uid))
        elif any(each.origin != "xds" for each in entries.get(uid, ())):
            words = "this document is made of images or resources that are kept here: it goes with these"
            errors.append(RegistryError("XDSRemoveDocumentsError", words, uid))
        else:
            removed[uid] = document
    if removed:
        repository.remove(connection, removed)
        blobs = [each.blob_id for each in removed.values()]
        kept = binaries.holding(connection, blobs)
        erased = [each for each in blobs if each not in kept]
        rejections.forget_blobs(connection, erased)
        jobs.enqueue(connection, ERASE, "blobs", due=micros() + _LATER)
    return Removal(removed, erased, errors)


def _entries(connection: Connection, unique_ids: Sequence[str]) -> dict[str, list[registry.Stored]]:
    found: dict[str, list[registry.Stored]] = {}
    for each in registry.by_unique_id(connection, unique_ids):
        if isinstance(each.value, DocumentEntry):
            found.setdefault(each.value.unique_id, []).append(each)
    return found


def _may_go(connection: Connection, decision: Decision, document: Held, entries: Sequence[registry.Stored]) -> bool:
    """Whether the caller may delete every rendering of it; what consents withhold is not there for him."""
    allowed = decision.some_of(DOCUMENT_TYPE, Interaction.DELETE)
    patients = {document.patient, *(each.patient for each in entries)}
    if allowed is not None and not patients <= allowed:
        return False
    ids = (each.value.entry_uuid.removeprefix("urn:uuid:") for each in entries)
    return all(decision.sees(connection, DOCUMENT_TYPE, Interaction.DELETE, id_) for id_ in ids)

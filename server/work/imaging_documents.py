"""DICOM instances that came as documents: they are images here too, stored through the one door for images (`server.work.ingest`).

Image Share's edge servers submit images so (XDR), without a manifest. A Key Object Selection stays a document: it lists images, and is none.
"""

import contextlib
from collections.abc import Sequence
from typing import Final

from profiles import header
from profiles.audit_event import ITI_41
from profiles.header import HeaderError
from profiles.vocabulary import KEY_OBJECT_SELECTION
from server.errors import Conflict, Refused
from server.records import repository
from server.records.repository import Held
from server.store import jobs
from server.store.blobs import BlobStore
from server.store.db import Database
from server.work.ingest import Ingest, Sender

INGEST: Final = "ingest-document"
"""Kind of the job whose key is the uniqueId of a document that may be an instance."""
_SOP_CLASS_UID: Final = 0x00080016


class ImagingDocuments:
    """`run` is what the worker calls."""

    def __init__(self, database: Database, blobs: BlobStore, ingest: Ingest) -> None:
        self._database, self._blobs, self._ingest = database, blobs, ingest

    def run(self, due: Sequence[jobs.Job]) -> None:
        """Stores the documents that are instances. What is none, or contradicts what is stored, stays a document: the trail says why."""
        with self._database.read() as connection:
            held = repository.held(connection, [job.key for job in due])
        for job in due:
            document = held.get(job.key)
            if document is not None and self._is_image(document):
                with contextlib.suppress(Refused, Conflict):  # the batch has told the trail
                    self._store(document)
            with self._database.write() as connection:
                jobs.done(connection, job)

    def _is_image(self, document: Held) -> bool:
        with contextlib.closing(self._blobs.open(document.blob_id)) as file:
            try:
                dataset, _, _ = header.read(file)
            except HeaderError:
                return False
        return str(dataset.get(_SOP_CLASS_UID).value if _SOP_CLASS_UID in dataset else "") not in ("", KEY_OBJECT_SELECTION)

    def _store(self, document: Held) -> None:
        """As an association of its own: who submitted it is in the trail of the submission."""
        batch = self._ingest.batch(Sender(ITI_41, "repository", "localhost"))
        writer = batch.receive()
        try:
            for piece in self._blobs.stream(document.blob_id):
                writer.write(piece)
        except BaseException:
            writer.abort()
            raise
        batch.store(writer)

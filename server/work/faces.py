"""What a study looks like to FHIR and XDS: ImagingStudy, manifest, Document Entry, DocumentReference, changed in one transaction.

Publishing, rejecting and correcting all end here, so a study is the same behind every face whatever became of it. The new
manifest replaces the old one (RPLC); where nothing is left to show, the manifest is deprecated and the ImagingStudy withdrawn.
"""

import hashlib
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection

from profiles import manifest
from profiles.document import HAS_MEMBER, RPLC, Association, DocumentEntry, SubmissionSet
from profiles.document_reference import document_reference
from profiles.identifiers import uuid_oid
from profiles.imaging_study import endpoint, imaging_study, withdrawn
from profiles.manifest_entry import manifest_entry, submission_set
from profiles.patient import fhir_patient
from profiles.study import Study
from profiles.timestamps import dtm
from server.records import adoption, catalogue, documents, report_links, resources
from server.records.installation import Installation
from server.settings import Settings
from server.store import blobs as blob_store
from server.store.blobs import Blob, BlobStore
from server.store.db import Database, moment
from server.work import manifest_submission
from server.work.fhir import projections
from server.work.ingest import discard

_MANIFESTS_PER_FOLDER = 1000


@dataclass(frozen=True, slots=True)
class Manifest:
    """A manifest that was written: its SOP Instance UID, bytes, SHA-1 in hex, and when."""

    uid: str
    blob: Blob
    sha1: str
    created: datetime


class Faces:
    """Writes the faces of studies. Use it from one thread."""

    def __init__(self, settings: Settings, database: Database, blobs: BlobStore, installation: Installation) -> None:
        self._settings = settings
        self._database = database
        self._blobs = blobs
        self._installation = installation
        self._base = f"{settings.base_url}/fhir"
        self._batch = ""
        self._manifests = 0

    @contextmanager
    def manifest(self, study: Study, now: int) -> Iterator[Manifest]:
        """The new manifest as a committed blob; if the block fails, the blob is deleted again."""
        uid = uuid_oid(uuid.uuid4())
        created = moment(now)
        body = manifest.build(
            study,
            sop_instance_uid=uid,
            series_instance_uid=uuid_oid(uuid.uuid4()),
            created=created,
            zone=self._settings.zone,
            retrieve_ae_title=self._settings.ae_title,
            retrieve_location_uid=self._installation.imaging_source,
            retrieve_url=f"{self._settings.base_url}/dicomweb",
        )
        writer = self._blobs.create(self._folder())
        try:
            writer.write(body)
            blob = writer.commit()
        finally:
            writer.abort()
        try:
            yield Manifest(uid, blob, hashlib.sha1(body, usedforsecurity=False).hexdigest(), created)
        except BaseException:
            discard(self._database, self._blobs, blob.id)
            raise

    def _folder(self) -> str:
        """The blob batch that manifests go into: a new one now and then, since making a folder durable costs more than a file."""
        if self._manifests % _MANIFESTS_PER_FOLDER == 0:
            self._batch = blob_store.batch()
        self._manifests += 1
        return self._batch

    def show(
        self, connection: Connection, study_pk: int, study: Study, made: Manifest, before: DocumentEntry | None, now: int,
        *, forget: bool = False,
    ) -> None:  # fmt: skip
        """The study as it is from now on, with `made` as its manifest in place of `before`; `forget` what clients said of it.

        Raises `Unavailable` if a client made its ImagingStudy or Patient at the same moment.
        """
        zone, site = self._settings.zone, self._installation
        study = adoption.adopted(connection, study_pk, study)
        report_links.hold(connection, [study.patient.id])  # before her Patient is locked, as Bundles do
        address = f"{self._settings.base_url}/dicomweb"
        for each in (endpoint(site.endpoint_id, address, self._settings.organization), fhir_patient(study.patient)):
            projections.published(connection, each, now=now, base=self._base)
        shown = imaging_study(study, site.endpoint_id, zone)
        projections.published(connection, shown, now=now, base=self._base, forget=forget)
        entry = manifest_entry(
            study,
            entry_uuid=f"urn:uuid:{uuid.uuid4()}",
            unique_id=made.uid,
            sha1=made.sha1,
            size=made.blob.size,
            created=dtm(made.created),
            repository_unique_id=site.repository,
            home_community_id=f"urn:oid:{site.home_community}",
            zone=zone,
            language=self._settings.language,
        )
        documents.submit(
            connection,
            entry,
            *self._submission(entry, before, dtm(made.created)),
            blob=made.blob,
            patient_pk=catalogue.patient_pk(connection, study_pk),
            study_pk=study_pk,
        )
        manifest_submission.enqueue(connection, self._settings, study_pk)
        if before is not None:
            self._supersede(connection, _resource_id(before), now)
        projections.published(
            connection,
            document_reference(
                entry,
                id=_resource_id(entry),
                subject_id=study.patient.id,
                content_url=f"Binary/{_resource_id(entry)}",
                context_study_id=study.id,
                study_instance_uid=study.study_instance_uid,
                relations=((RPLC, _resource_id(before)),) if before else (),
            ),
            now=now,
            base=self._base,
        )

    def withdraw(
        self, connection: Connection, study_pk: int, study: Study, before: DocumentEntry | None, now: int, *, forget: bool
    ) -> None:
        """Nothing of the study is left to show; `forget`, nor is what clients said of it."""
        manifest_submission.enqueue(connection, self._settings, study_pk)
        if before is not None:
            documents.deprecate(connection, before.entry_uuid)
            self._supersede(connection, _resource_id(before), now)
        projections.published(connection, withdrawn(study), now=now, base=self._base, forget=forget)

    def _supersede(self, connection: Connection, id_: str, now: int) -> None:
        superseded = {**resources.content(connection, "DocumentReference", id_), "status": "superseded"}
        resources.put(connection, superseded, now=now, base=self._base)

    def _submission(
        self, entry: DocumentEntry, before: DocumentEntry | None, time: str
    ) -> tuple[SubmissionSet, list[Association]]:
        submission = submission_set(
            entry,
            entry_uuid=f"urn:uuid:{uuid.uuid4()}",
            unique_id=uuid_oid(uuid.uuid4()),
            source_id=self._installation.source,
            submission_time=time,
        )
        associations = [
            Association(
                f"urn:uuid:{uuid.uuid4()}", HAS_MEMBER, submission.entry_uuid, entry.entry_uuid, submission_set_status="Original"
            )
        ]
        if before is not None:
            associations.append(Association(f"urn:uuid:{uuid.uuid4()}", RPLC, entry.entry_uuid, before.entry_uuid))
        return submission, associations


def _resource_id(entry: DocumentEntry) -> str:
    """The DocumentReference of an entry has the entryUUID as its id, so either leads to the other."""
    return entry.entry_uuid.removeprefix("urn:uuid:")

"""Publishing a settled study: FHIR resources, manifest, Document Entry and visibility, all in one transaction.

What is slow (DICOM JSON, frame offsets, the manifest's bytes) is made before the transaction and kept, so that a crash
costs only the rest of the work. A late instance makes the next version of everything: ImagingStudy's ETag changes, the
new manifest replaces the old one (RPLC), and the study stays the same study.
"""

import hashlib
import uuid
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from datetime import datetime

import orjson
from sqlalchemy import Connection

from profiles import frames, manifest, part10
from profiles.dicom_json import level_attributes, metadata
from profiles.document import HAS_MEMBER, RPLC, Association, DocumentEntry, SubmissionSet
from profiles.document_reference import document_reference
from profiles.identifiers import uuid_oid
from profiles.imaging_study import endpoint, imaging_study
from profiles.manifest_entry import manifest_entry, submission_set
from profiles.patient import fhir_patient
from profiles.study import Study
from profiles.timestamps import dtm
from server.errors import Unavailable
from server.records import catalogue, documents, resources
from server.records.installation import Installation
from server.settings import Settings
from server.store import blobs as blob_store
from server.store import jobs
from server.store.blobs import Blob, BlobStore
from server.store.db import Database, micros, moment
from server.work.ingest import discard

_PREPARED_TOGETHER = 32
_MANIFESTS_PER_FOLDER = 1000


class Publisher:
    """Publishes studies. `run` is what the worker calls for jobs of kind `publish`; use it from one thread."""

    def __init__(self, settings: Settings, database: Database, blobs: BlobStore, installation: Installation) -> None:
        self._settings = settings
        self._database = database
        self._blobs = blobs
        self._installation = installation
        self._batch = ""
        self._manifests = 0

    def run(self, due: Sequence[jobs.Job]) -> int:
        """Publishes the studies whose rows are the jobs' keys, all or none. Returns how many had something new.

        Raises what the store raises, and `Unavailable` if somebody else published one of them meanwhile.
        """
        self._prepare([int(job.key) for job in due])
        plans = [self._plan(job) for job in due]
        now = micros()
        with ExitStack() as manifests:
            made = [manifests.enter_context(self._manifest(plan.study, now)) if plan.news else None for plan in plans]
            with self._database.write() as connection:
                for plan, manifest_ in zip(plans, made, strict=True):
                    if manifest_ is not None:
                        if not catalogue.publish(connection, plan.study_pk, plan.study, plan.news, updated=now):
                            raise Unavailable("the study was published by another process meanwhile")
                        self._documents(connection, plan, manifest_, now)
                    jobs.done(connection, plan.job)
        return len(made) - made.count(None)

    def _plan(self, job: jobs.Job) -> "_Plan":
        study_pk = int(job.key)
        with self._database.read() as connection:
            news = [pk for pk, _ in catalogue.pending(connection, study_pk, prepared=True)]
            return _Plan(
                job, study_pk, news, catalogue.load(connection, study_pk, prepared=True), documents.current(connection, study_pk)
            )

    def _prepare(self, study_pks: Sequence[int]) -> None:
        """Makes DICOM JSON and frame offsets of each new instance; a crash loses at most the last few."""
        with self._database.read() as connection:
            waiting = [found for study_pk in study_pks for found in catalogue.pending(connection, study_pk, prepared=False)]
        for start in range(0, len(waiting), _PREPARED_TOGETHER):
            made = [(pk, *self._rendered(blob_id)) for pk, blob_id in waiting[start : start + _PREPARED_TOGETHER]]
            with self._database.write() as connection:
                for pk, attributes, dicom_json, table in made:
                    catalogue.prepare(connection, pk, attributes=attributes, dicom_json=dicom_json, frame_table=table)

    def _rendered(self, blob_id: str) -> tuple[bytes, bytes, bytes | None]:
        with closing(self._blobs.open(blob_id)) as file:
            parsed = part10.parse(file)
            attributes = orjson.dumps(level_attributes(parsed.dataset, "instance"))
            whole = resources.packed(orjson.dumps(metadata(parsed.dataset, lambda path: f"bulkdata/{path}")))
            table = frames.table(parsed, file)
        return attributes, whole, table.to_bytes() if table else None

    @contextmanager
    def _manifest(self, study: Study, now: int) -> Iterator["_Manifest"]:
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
            yield _Manifest(uid, blob, hashlib.sha1(body, usedforsecurity=False).hexdigest(), created)
        except BaseException:
            discard(self._database, self._blobs, blob.id)
            raise

    def _folder(self) -> str:
        """The blob batch that manifests go into: a new one now and then, since making a folder durable costs more than a file."""
        if self._manifests % _MANIFESTS_PER_FOLDER == 0:
            self._batch = blob_store.batch()
        self._manifests += 1
        return self._batch

    def _documents(self, connection: Connection, plan: "_Plan", made: "_Manifest", now: int) -> None:
        study, before = plan.study, plan.before
        home, zone, site = self._settings.base_url, self._settings.zone, self._installation
        resources.put(connection, endpoint(site.endpoint_id, f"{home}/dicomweb", self._settings.organization), now=now)
        resources.put(connection, fhir_patient(study.patient), now=now)
        resources.put(connection, imaging_study(study, site.endpoint_id, zone), now=now)
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
            patient_pk=catalogue.patient_pk(connection, plan.study_pk),
            study_pk=plan.study_pk,
        )
        if before is not None:
            _supersede(connection, _resource_id(before), now)
        resources.put(
            connection,
            document_reference(
                entry,
                id=_resource_id(entry),
                subject_id=study.patient.id,
                content_url=f"Binary/{_resource_id(entry)}",
                context_study_id=study.id,
                study_instance_uid=study.study_instance_uid,
                replaces=_resource_id(before) if before else None,
            ),
            now=now,
        )

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


@dataclass(frozen=True, slots=True)
class _Plan:
    """One study as it will be: `news` are the rows of its instances that become visible, `before` its manifest until now."""

    job: jobs.Job
    study_pk: int
    news: Sequence[int]
    study: Study
    before: DocumentEntry | None


@dataclass(frozen=True, slots=True)
class _Manifest:
    uid: str
    blob: Blob
    sha1: str
    created: datetime


def _resource_id(entry: DocumentEntry) -> str:
    """The DocumentReference of an entry has the entryUUID as its id, so either leads to the other."""
    return entry.entry_uuid.removeprefix("urn:uuid:")


def _supersede(connection: Connection, id_: str, now: int) -> None:
    reference = orjson.loads(resources.read(connection, "DocumentReference", id_).body)
    # put stamps these anew
    del reference["meta"]["versionId"], reference["meta"]["lastUpdated"]
    resources.put(connection, {**reference, "status": "superseded"}, now=now)

"""Publishing a settled study: FHIR resources, manifest, Document Entry and visibility, all in one transaction.

What is slow (DICOM JSON, frame offsets, the manifest's bytes) is made before the transaction and kept, so that a crash
costs only the rest of the work. A late instance makes the next version of everything: ImagingStudy's ETag changes, the
new manifest replaces the old one (RPLC), and the study stays the same study.
"""

from collections.abc import Container, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass

import orjson

from profiles import frames, part10
from profiles.dicom_json import level_attributes, metadata
from profiles.document import DocumentEntry
from profiles.study import Study
from server.errors import Unavailable
from server.records import catalogue, changes, documents, rejections
from server.records.installation import Installation
from server.records.packing import packed
from server.settings import Settings
from server.store import blobs as blob_store
from server.store import jobs
from server.store.blobs import BlobStore
from server.store.db import Database, micros
from server.work.corrections import Copies
from server.work.faces import Faces
from server.work.reconcile import NOTE

_PREPARED_TOGETHER = 32


class Publisher:
    """Publishes studies. `run` is what the worker calls for jobs of kind `publish`; use it from one thread."""

    def __init__(self, settings: Settings, database: Database, blobs: BlobStore, installation: Installation) -> None:
        self._database = database
        self._blobs = blobs
        self._faces = Faces(settings, database, blobs, installation)
        self._copies = Copies(database, blobs, installation.patients.oid)

    def run(self, due: Sequence[jobs.Job]) -> int:
        """Publishes the studies whose rows are the jobs' keys, all or none. Returns how many had something new.

        Raises what the store raises, and `Unavailable` if one of them was published, corrected or withdrawn meanwhile.
        """
        study_pks = [int(job.key) for job in due]
        came = {pk for pk, _ in self._unprepared(study_pks)}
        self._copies.apply_late(study_pks)
        self._prepare(study_pks, came)
        # In the order in which others take several studies (`Reconciler.changing_all`), so that two do not wait for each other.
        plans = sorted((self._plan(job) for job in due), key=lambda plan: plan.study.study_instance_uid)
        with ExitStack() as manifests:
            created = micros()
            made = [manifests.enter_context(self._faces.manifest(plan.study, created)) if plan.news else None for plan in plans]
            with self._database.write() as connection:
                now = micros()  # here, so that what is seen already is stamped earlier (`history.settled`)
                for plan, manifest_ in zip(plans, made, strict=True):
                    if manifest_ is not None:
                        if not catalogue.publish(connection, plan.study_pk, plan.study, plan.news, updated=now):
                            raise Unavailable("the study was published or changed meanwhile; try again")
                        self._faces.show(connection, plan.study_pk, plan.study, manifest_, plan.before, now)
                        for note in rejections.notes(connection, plan.news):
                            jobs.enqueue(connection, NOTE, str(note), due=now)
                    jobs.done(connection, plan.job)
                changes.record(connection, "create", [pk for plan in plans for pk in plan.news])
        return len(made) - made.count(None)

    def _plan(self, job: jobs.Job) -> "_Plan":
        study_pk = int(job.key)
        with self._database.read() as connection:
            news = [pk for pk, _ in catalogue.pending(connection, study_pk, prepared=True)]
            return _Plan(
                job, study_pk, news, catalogue.load(connection, study_pk, prepared=True), documents.current(connection, study_pk)
            )

    def _unprepared(self, study_pks: Sequence[int]) -> list[tuple[int, str]]:
        with self._database.read() as connection:
            return [found for study_pk in study_pks for found in catalogue.pending(connection, study_pk, prepared=False)]

    def _prepare(self, study_pks: Sequence[int], came: Container[int]) -> None:
        """Makes DICOM JSON, frame offsets and hash of each new instance; a crash loses at most the last few.

        Only of those that `came` before `apply_late` looked: what came since may have to be corrected, and has a job of its own.
        What is corrected while it is made ready is made ready again.
        """
        while waiting := [(pk, blob_id) for pk, blob_id in self._unprepared(study_pks) if pk in came]:
            for start in range(0, len(waiting), _PREPARED_TOGETHER):
                self._prepare_some(waiting[start : start + _PREPARED_TOGETHER])

    def _prepare_some(self, waiting: Sequence[tuple[int, str]]) -> None:
        made = [(pk, blob_id, *self._rendered(blob_id)) for pk, blob_id in waiting]
        with self._database.write() as connection:
            for pk, blob_id, sha256, attributes, dicom_json, table in made:
                catalogue.hashed(connection, blob_id, sha256)
                catalogue.prepare(connection, pk, blob_id, attributes=attributes, dicom_json=dicom_json, frame_table=table)

    def _rendered(self, blob_id: str) -> tuple[bytes, bytes, bytes, bytes | None]:
        with closing(self._blobs.open(blob_id)) as file:
            parsed = part10.parse(file)
            attributes = orjson.dumps(level_attributes(parsed.dataset, "instance"))
            whole = packed(orjson.dumps(metadata(parsed.dataset, lambda path: f"bulkdata/{path}")))
            table = frames.table(parsed, file)
        return blob_store.digest(self._blobs, blob_id), attributes, whole, table.to_bytes() if table else None


@dataclass(frozen=True, slots=True)
class _Plan:
    """One study as it will be: `news` are the rows of its instances that become visible, `before` its manifest until now."""

    job: jobs.Job
    study_pk: int
    news: Sequence[int]
    study: Study
    before: DocumentEntry | None

"""Publishing: every face of a study at once, a next version for what comes late, nothing of what failed."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import orjson
import pytest
from fhir.resources.R4B import get_fhir_model_class
from peers.generated import Made, send
from peers.imageshare import node, publish_all
from peers.together import together
from sqlalchemy import func, select, update

from profiles import manifest
from profiles.document import APPROVED, DEPRECATED
from profiles.study import Study
from server.edges.context import Node
from server.errors import StorageFull, Unavailable
from server.records import catalogue, documents, registry, resources
from server.settings import load
from server.store import jobs
from server.store.blobs import Blob, FolderBlobs, FolderWriter, batch
from server.store.db import micros
from server.store.tables import Job
from server.upkeep import sweep_orphans
from server.work.faces import Faces, Manifest
from server.work.ingest import PUBLISH
from server.work.publish import Publisher

JOB = Job.__table__  # type: ignore[attr-defined]
FIRST = [Made(series=1, number=1), Made(series=1, number=2), Made(series=2, number=1, modality="MR")]


def _resources(opened: Node, type_: str) -> list[dict[str, object]]:
    with opened.database.read() as connection:
        ids = connection.execute(
            select(resources.RESOURCE.c.id).where(resources.RESOURCE.c.type == type_).order_by(resources.RESOURCE.c.pk)
        ).scalars()
        return [orjson.loads(resources.read(connection, type_, str(id_)).body) for id_ in ids]


def _one(opened: Node, type_: str) -> dict[str, object]:
    (found,) = _resources(opened, type_)
    return found


def _current(opened: Node) -> documents.StoredDocument:
    with opened.database.read() as connection:
        entry = documents.current(connection, 1)
        assert entry is not None
        (found,) = documents.by_uuid(connection, [entry.entry_uuid])
    return found


def _manifest(opened: Node) -> manifest.ManifestContent:
    return manifest.read(b"".join(opened.blobs.stream(_current(opened).blob_id)))


def _due_now(opened: Node) -> None:
    with opened.database.write() as connection:
        connection.execute(update(JOB).values(due=0))


def test_a_study_is_published_behind_every_face(opened: Node) -> None:
    send(opened, *FIRST)
    assert publish_all(opened) == 1
    study = _one(opened, "ImagingStudy")
    for type_ in ("Patient", "ImagingStudy", "Endpoint", "DocumentReference"):
        get_fhir_model_class(type_).model_validate_json(orjson.dumps(_one(opened, type_)))
    assert study["meta"]["versionId"] == "1"  # type: ignore[index]
    assert (study["numberOfSeries"], study["numberOfInstances"]) == (2, 3)
    assert study["identifier"][0] == {"system": "urn:dicom:uid", "value": f"urn:oid:{FIRST[0].study_uid}"}  # type: ignore[index]
    assert study["subject"] == {"reference": f"Patient/{_one(opened, 'Patient')['id']}"}
    assert study["endpoint"] == [{"reference": f"Endpoint/{opened.installation.endpoint_id}"}]
    content = _manifest(opened)
    assert {i.sop_instance_uid for s in content.series for i in s.instances} == {made.uid for made in FIRST}
    assert {s.retrieve_location_uid for s in content.series} == {opened.installation.imaging_source}
    entry, blob_id = _current(opened).entry, _current(opened).blob_id
    body = b"".join(opened.blobs.stream(blob_id))
    assert (entry.hash, entry.size) == (hashlib.sha1(body).hexdigest(), len(body))
    assert entry.unique_id == content.sop_instance_uid
    reference = _one(opened, "DocumentReference")
    assert reference["id"] == entry.entry_uuid.removeprefix("urn:uuid:")
    assert reference["status"] == "current"
    with opened.database.read() as connection:
        assert jobs.pending(connection) == 0
        assert {i.uid for i in catalogue.instances(connection, FIRST[0].study_uid)} == {made.uid for made in FIRST}


def test_a_late_instance_makes_the_next_version_of_everything_and_no_second_study(opened: Node) -> None:
    send(opened, *FIRST)
    publish_all(opened)
    before, before_entry = _one(opened, "ImagingStudy"), _current(opened).entry
    send(opened, Made(series=2, number=2, modality="MR"), Made(series=3, number=1, modality="OT"))
    publish_all(opened)

    study = _one(opened, "ImagingStudy")
    assert study["id"] == before["id"]
    with opened.database.read() as connection:
        stored = resources.read(connection, "ImagingStudy", str(study["id"]))
        assert stored.etag == 'W/"2"'
        assert orjson.loads(resources.vread(connection, "ImagingStudy", str(study["id"]), 1).body) == before
    assert (study["numberOfSeries"], study["numberOfInstances"]) == (3, 5)

    entry = _current(opened).entry
    assert entry.entry_uuid != before_entry.entry_uuid
    with opened.database.read() as connection:
        both = registry.objects(connection, registry.OBJECT.c.kind == "document")
    assert [(d.entry.entry_uuid, d.entry.status) for d in both] == [
        (entry.entry_uuid, APPROVED),
        (before_entry.entry_uuid, DEPRECATED),
    ]
    assert sum(len(s.instances) for s in _manifest(opened).series) == 5

    old, new = _resources(opened, "DocumentReference")
    assert (old["status"], new["status"]) == ("superseded", "current")
    assert new["relatesTo"] == [{"code": "replaces", "target": {"reference": f"DocumentReference/{old['id']}"}}]
    assert (_one(opened, "Patient")["meta"]["versionId"], len(_resources(opened, "Endpoint"))) == ("1", 1)  # type: ignore[index]


def test_nothing_new_publishes_nothing(opened: Node) -> None:
    send(opened, *FIRST)
    publish_all(opened)
    before = _one(opened, "ImagingStudy")
    with opened.database.write() as connection:
        jobs.enqueue(connection, PUBLISH, "1", due=0)
    publish_all(opened)
    assert _one(opened, "ImagingStudy") == before
    with opened.database.read() as connection:
        assert jobs.pending(connection) == 0


def test_a_patients_studies_share_one_patient(opened: Node) -> None:
    send(opened, Made(study=1), Made(study=2), Made(study=3, patient="P2"))
    publish_all(opened)
    assert (len(_resources(opened, "Patient")), len(_resources(opened, "ImagingStudy"))) == (2, 3)


def test_workers_that_take_one_job_publish_once(opened: Node) -> None:
    """A lease that ran out: two workers hold the same study at once."""
    send(opened, *FIRST)
    (job,) = jobs.claim(opened.database, PUBLISH, lease_seconds=-1)
    (again,) = jobs.claim(opened.database, PUBLISH)
    results = []

    def work(held: jobs.Job) -> None:
        publisher = Publisher(opened.settings, opened.database, opened.blobs, opened.installation)
        try:
            results.append(publisher.run([held]))
        except Unavailable:
            results.append(0)

    assert together(*(partial(work, held) for held in (job, again))) == []
    assert sorted(results) == [0, 1]
    assert _one(opened, "ImagingStudy")["meta"]["versionId"] == "1"  # type: ignore[index]
    assert len(_resources(opened, "DocumentReference")) == 1
    _blobs_are_those_of_rows(opened)


def _blobs_are_those_of_rows(opened: Node) -> None:
    with opened.database.read() as connection:
        assert {name for name, _ in opened.blobs.list()} == catalogue.blob_ids(connection)


class _FullWriter(FolderWriter):
    def commit(self) -> Blob:
        self.abort()
        raise StorageFull("the server has no room left; try again later")


class _FullDisk(FolderBlobs):
    """A real folder on a disk that is full when a blob is to be committed."""

    def create(self, batch: str, *, hashed: bool = True) -> FolderWriter:
        (self.root / batch).mkdir(parents=True, exist_ok=True)
        return _FullWriter(self, batch, hashed=hashed)


def test_a_full_disk_publishes_nothing_and_the_retry_everything(opened: Node) -> None:
    send(opened, *FIRST)
    blobs = {name for name, _ in opened.blobs.list()}
    (job,) = jobs.claim(opened.database, PUBLISH)
    full = _FullDisk(opened.settings.blob_folder)
    with pytest.raises(StorageFull):
        Publisher(opened.settings, opened.database, full, opened.installation).run([job])
    jobs.failed(opened.database, job, "StorageFull 6001")
    _nothing_is_visible(opened)
    assert {name for name, _ in opened.blobs.list()} == blobs
    _due_now(opened)
    publish_all(opened)
    assert _one(opened, "ImagingStudy")["numberOfInstances"] == 3


def _nothing_is_visible(opened: Node) -> None:
    with opened.database.read() as connection:
        assert catalogue.instances(connection, FIRST[0].study_uid) == []
        assert connection.execute(select(func.count()).select_from(resources.RESOURCE)).scalar() == 0
        assert connection.execute(select(func.count()).select_from(registry.OBJECT)).scalar() == 0
        assert catalogue.counts(connection) == {"studies": 0, "instances": 0, "pending": 3}


@pytest.mark.parametrize("where", ["publish", "put", "submit", "done"])
def test_a_failure_anywhere_in_the_transaction_leaves_nothing(opened: Node, where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module = {"publish": catalogue, "put": resources, "submit": documents, "done": jobs}[where]
    real = getattr(module, where)

    def fails(*arguments: object, **named: object) -> object:
        real(*arguments, **named)
        raise RuntimeError("in the middle")

    send(opened, *FIRST)
    blobs = {name for name, _ in opened.blobs.list()}
    with monkeypatch.context() as patched:
        patched.setattr(module, where, fails)
        publish_all(opened)
    _nothing_is_visible(opened)
    assert {name for name, _ in opened.blobs.list()} == blobs, "the manifest's blob is gone"
    _due_now(opened)
    assert publish_all(opened) == 1
    assert _one(opened, "ImagingStudy")["numberOfInstances"] == 3
    _blobs_are_those_of_rows(opened)


def test_a_manifest_that_a_crash_left_without_a_row_is_swept(opened: Node) -> None:
    send(opened, *FIRST)
    publish_all(opened)
    folder = batch()
    writer = opened.blobs.create(folder)
    writer.write(b"manifest")
    writer.commit()
    unfinished = opened.blobs.create(folder)
    unfinished.write(b"half")
    assert sweep_orphans(opened.settings, alone=False) == 0, "others may be about to name it"
    assert sweep_orphans(opened.settings, alone=True) == 2
    _blobs_are_those_of_rows(opened)
    unfinished.abort()


def test_an_instance_that_arrives_while_its_study_is_published_comes_with_the_next_version(
    opened: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, late = manifest.build, Made(series=9, number=1)

    def build(*arguments: object, **named: object) -> bytes:
        monkeypatch.setattr(manifest, "build", real)
        send(opened, late)
        return real(*arguments, **named)  # type: ignore[arg-type]

    send(opened, *FIRST)
    monkeypatch.setattr(manifest, "build", build)
    assert publish_all(opened) == 2
    study = _one(opened, "ImagingStudy")
    assert (study["meta"]["versionId"], study["numberOfInstances"]) == ("2", 4)  # type: ignore[index]
    with opened.database.read() as connection:
        first = orjson.loads(resources.vread(connection, "ImagingStudy", str(study["id"]), 1).body)
    assert first["numberOfInstances"] == 3
    assert sum(len(s.instances) for s in _manifest(opened).series) == 4


def test_the_quiet_period_is_a_row(tmp_path: Path, database_url: str) -> None:
    """It holds for whoever opens the database next."""
    with node(tmp_path / "data", database_url, quiet_period=60) as opened:
        before = micros()
        send(opened, *FIRST)
        with opened.database.read() as connection:
            due = connection.execute(select(JOB.c.due)).scalar_one()
        assert before + 60_000_000 <= due <= micros() + 60_000_000
    with node(tmp_path / "data", database_url) as again:
        assert publish_all(again) == 0
        _due_now(again)
        assert publish_all(again) == 1
        assert load(data=tmp_path / "data").quiet_period == 5


def test_a_study_is_stamped_when_it_is_published_not_when_that_was_begun(opened: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who asked for what changed in between would never be told of it."""
    made = Faces.manifest

    @contextmanager
    def slow(faces: Faces, study: Study, now: int) -> Iterator[Manifest]:
        with made(faces, study, now) as manifest, opened.database.write() as connection:
            resources.put(connection, {"resourceType": "Practitioner", "id": "meanwhile"})
        yield manifest

    monkeypatch.setattr(Faces, "manifest", slow)
    send(opened, *FIRST)
    publish_all(opened)
    with opened.database.read() as connection:
        meanwhile = resources.read(connection, "Practitioner", "meanwhile")
        published = resources.read(connection, "ImagingStudy", str(_one(opened, "ImagingStudy")["id"]))
    assert published.updated > meanwhile.updated

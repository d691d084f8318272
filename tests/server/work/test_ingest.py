"""Taking in: acknowledged means safe, refused means that nothing is left."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

import orjson
import pytest
from peers.generated import CT, ROOT, Made, send
from peers.imageshare import node, publish_all
from peers.together import together
from pydicom import dcmwrite
from pydicom.dataset import Dataset
from sqlalchemy import func, select
from sqlalchemy.exc import OperationalError

from profiles.audit_event import INSTANCES_TRANSFERRED
from server.edges.context import Node
from server.errors import (
    ContentConflict,
    ImageShareError,
    InstanceMismatch,
    MalformedInstance,
    PatientConflict,
    StorageFull,
    TooLarge,
)
from server.records import catalogue
from server.records.trail import events
from server.store.blobs import FolderBlobs
from server.store.db import Database
from server.work.ingest import Announced, Ingest, Sender


@pytest.fixture
def opened(tmp_path: Path, database_url: str) -> Iterator[Node]:
    with node(tmp_path / "data", database_url) as made:
        yield made


def _blobs(opened: Node) -> list[str]:
    return [name for name, _ in opened.blobs.list()]


def _rows(opened: Node) -> dict[str, int]:
    tables = (catalogue.PATIENT, catalogue.STUDY, catalogue.SERIES, catalogue.INSTANCE, catalogue.BLOB)
    with opened.database.read() as connection:
        return {table.name: connection.execute(select(func.count()).select_from(table)).scalar_one() for table in tables}


def _events(opened: Node) -> list[dict[str, object]]:
    with opened.database.read() as connection:
        return [orjson.loads(event.body) for event in events(connection, limit=100)]


def _bytes(opened: Node, uid: str) -> bytes:
    with opened.database.read() as connection:
        stored = catalogue.stored(connection, uid)
    assert stored is not None
    return b"".join(opened.blobs.stream(stored.blob_id))


def _file(dataset: Dataset) -> bytes:
    buffer = BytesIO()
    dcmwrite(buffer, dataset, enforce_file_format=True)
    return buffer.getvalue()


NOTHING = {"patient": 0, "study": 0, "series": 0, "instance": 0, "blob": 0}
ONE = {"patient": 1, "study": 1, "series": 1, "instance": 1, "blob": 1}


def test_stored_byte_for_byte(opened: Node) -> None:
    (receipt,) = send(opened, Made())
    assert (receipt.sop_instance_uid, receipt.study_instance_uid, receipt.new) == (Made().uid, Made().study_uid, True)
    assert _bytes(opened, Made().uid) == Made().part10()
    assert _rows(opened) == ONE


def test_the_same_bytes_again_are_a_success_that_changes_nothing(opened: Node) -> None:
    send(opened, Made())
    blobs = _blobs(opened)
    publish_all(opened)
    published = _blobs(opened)
    again = send(opened, Made(), Made(), name="OTHER")
    assert [receipt.new for receipt in again] == [False, False]
    assert _blobs(opened) == published
    assert set(blobs) < set(published)
    assert publish_all(opened) == 0, "nothing is due"


def test_another_preamble_is_not_other_content(opened: Node) -> None:
    """Two senders write two files of one instance: what counts is the dataset."""
    send(opened, Made())
    other = b"II*\0".ljust(128, b"\0") + Made().part10()[128:]
    assert [receipt.new for receipt in send(opened, other)] == [False]
    assert _bytes(opened, Made().uid) == Made().part10()


def test_other_bytes_under_the_same_uid_are_refused_and_the_first_stay(opened: Node) -> None:
    send(opened, Made())
    blobs = _blobs(opened)
    with pytest.raises(ContentConflict):
        send(opened, Made(pixel=9), name="LIAR")
    with pytest.raises(ContentConflict):
        send(opened, Made(size=5), name="LIAR")
    assert _bytes(opened, Made().uid) == Made().part10()
    assert (_blobs(opened), _rows(opened)) == (blobs, ONE)
    refusals = [event for event in _events(opened) if event["outcome"] == "4"]
    assert len(refusals) == 2
    assert "LIAR" in orjson.dumps(refusals[0]).decode()
    told = orjson.dumps(refusals[0]).decode()
    for secret in ("P1", "Thea", "A1", "GENERATED"):
        assert f'"{secret}' not in told, "of what was sent a refusal tells the UIDs only"


def _objects(event: dict[str, object]) -> list[tuple[str, str]]:
    """(attribute, UID) of the entities that are DICOM objects."""
    entities: list[dict[str, Any]] = orjson.loads(orjson.dumps(event.get("entity", [])))
    return [
        (each["detail"][0]["valueString"], each["what"]["identifier"]["value"].removeprefix("urn:oid:"))
        for each in entities
        if each["what"].get("identifier", {}).get("system") == "urn:dicom:uid" and "detail" in each
    ]


def test_a_refusal_says_which_instance_was_refused(opened: Node) -> None:
    made = Made()
    both = [("StudyInstanceUID", made.study_uid), ("SOPInstanceUID", made.uid)]
    send(opened, made)
    with pytest.raises(ContentConflict):
        send(opened, Made(pixel=9))
    assert _objects(_events(opened)[0]) == both
    nameless = made.dataset()
    nameless.SeriesInstanceUID = ""
    with pytest.raises(MalformedInstance):
        send(opened, _file(nameless))
    assert _objects(_events(opened)[0]) == both, "the header could be read, though it is not complete"
    with pytest.raises(MalformedInstance):
        send(opened, b"no DICOM file at all")
    assert _objects(_events(opened)[0]) == []


def test_a_refusal_says_what_was_announced(opened: Node) -> None:
    batch = opened.ingest.batch(Sender(INSTANCES_TRANSFERRED, "DEVICE", "127.0.0.1"))
    for body, found in ((Made().part10(), [("SOPInstanceUID", Made().uid)]), (b"cut off", [])):
        writer = batch.receive()
        writer.write(body)
        with pytest.raises(ImageShareError):
            batch.store(writer, Announced(sop_instance_uid="1.2.3", study_instance_uid="1.2"))
        objects = _objects(_events(opened)[0])
        assert objects[-2:] == [("StudyInstanceUID", "1.2"), ("SOPInstanceUID", "1.2.3")]
        assert set(found) <= set(objects)


def test_an_import_names_its_study_as_a_resource_and_by_its_uid(opened: Node) -> None:
    send(opened, Made())
    (event,) = _events(opened)
    assert orjson.loads(orjson.dumps(event["type"]))["code"] == "110104"
    what = orjson.loads(orjson.dumps(event["entity"]))[0]["what"]
    assert what["reference"].startswith("ImagingStudy/")
    assert what["identifier"] == {"system": "urn:dicom:uid", "value": f"urn:oid:{Made().study_uid}"}


def test_other_content_is_told_also_when_the_stored_one_is_longer(opened: Node) -> None:
    long = Made(size=8)
    send(opened, long)
    with pytest.raises(ContentConflict):
        send(opened, replace(long, size=4))


def test_another_patients_study_leaves_nothing(opened: Node) -> None:
    send(opened, Made(number=1))
    with pytest.raises(PatientConflict):
        send(opened, Made(number=2, patient="P2"))
    assert _rows(opened) == ONE
    assert len(_blobs(opened)) == 1


@pytest.mark.parametrize(
    "content",
    [b"", b"not DICOM" * 100, Made().part10()[:200], Made().part10()[:-3], Made().part10()[132:], b"\0" * 128 + b"DICM"],
    ids=["empty", "text", "cut in the header", "cut in the pixels", "no preamble", "only a preamble"],
)
def test_what_is_no_instance_leaves_nothing(opened: Node, content: bytes) -> None:
    with pytest.raises(MalformedInstance):
        send(opened, content)
    assert (_rows(opened), _blobs(opened)) == (NOTHING, [])
    assert [event["outcome"] for event in _events(opened)] == ["4"]


@pytest.mark.parametrize("keyword", ["StudyInstanceUID", "SeriesInstanceUID"])
@pytest.mark.parametrize("value", [None, "", "../../etc/passwd", "1.2." + "9" * 70, "1..2"])
def test_an_instance_without_its_uids_leaves_nothing(opened: Node, keyword: str, value: str | None) -> None:
    dataset = Made().dataset()
    if value is None:
        del dataset[keyword]
    else:
        dataset[keyword]._value = value
    with pytest.raises(MalformedInstance):
        send(opened, _file(dataset))
    assert (_rows(opened), _blobs(opened)) == (NOTHING, [])


@pytest.mark.parametrize(
    "announced",
    [Announced(sop_class_uid="1.2"), Announced(sop_instance_uid="1.2"), Announced(study_instance_uid="1.2"),
     Announced(transfer_syntax_uid="1.2")],
)  # fmt: skip
def test_another_instance_than_announced_leaves_nothing(opened: Node, announced: Announced) -> None:
    batch = opened.ingest.batch(Sender(INSTANCES_TRANSFERRED, "DEVICE", "127.0.0.1"))
    writer = batch.receive()
    writer.write(Made().part10())
    with pytest.raises(InstanceMismatch):
        batch.store(writer, announced)
    assert (_rows(opened), _blobs(opened)) == (NOTHING, [])
    writer = batch.receive()
    writer.write(Made().part10())
    assert batch.store(writer, Announced(CT, Made().uid, Made().study_uid)).new, "the batch goes on"


def test_too_large_leaves_nothing(tmp_path: Path) -> None:
    with node(tmp_path / "data", max_instance_bytes=500) as opened:
        with pytest.raises(TooLarge):
            send(opened, Made(size=64))
        assert (_rows(opened), _blobs(opened)) == (NOTHING, [])


def test_no_room_leaves_nothing(tmp_path: Path) -> None:
    with node(tmp_path / "data", min_free_bytes=1 << 62) as opened:
        with pytest.raises(StorageFull):
            send(opened, Made())
        assert (_rows(opened), _blobs(opened)) == (NOTHING, [])


@pytest.mark.parametrize("same", [True, False], ids=["the same bytes", "other bytes"])
def test_eight_senders_of_one_uid_at_once_store_it_once(opened: Node, same: bool) -> None:
    new: list[bool] = []

    def work(number: int) -> None:
        new.extend(receipt.new for receipt in send(opened, Made(pixel=0 if same else number), name=f"D{number}"))

    failed = together(*(partial(work, number) for number in range(8)))
    assert new.count(True) == 1
    assert {type(error) for error in failed} == (set() if same else {ContentConflict})
    assert len(new) + len(failed) == 8
    assert _rows(opened) == ONE
    assert len(_blobs(opened)) == 1


@pytest.mark.parametrize("same", [True, False], ids=["the same bytes", "other bytes"])
def test_a_sender_who_comes_second_between_look_and_commit(opened: Node, same: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The race above, in slow motion: the other's commit falls between this one's look and its own commit."""
    real = catalogue.stored
    looked: list[str] = []

    def stored(connection: object, uid: str) -> catalogue.StoredInstance | None:
        looked.append(uid)
        if len(looked) == 1:
            return None
        return real(connection, uid)  # type: ignore[arg-type]

    send(opened, Made())
    monkeypatch.setattr(catalogue, "stored", stored)
    if same:
        assert [receipt.new for receipt in send(opened, Made())] == [False]
    else:
        with pytest.raises(ContentConflict, match="other content"):
            send(opened, Made(pixel=1))
    assert len(looked) == 2
    assert _rows(opened) == ONE
    assert len(_blobs(opened)) == 1


class _LosesTheAnswer(Database):
    """Its commits take effect, but the connection is gone before it says so."""

    lost = False

    def write(self):  # type: ignore[no-untyped-def]
        @contextmanager
        def unit():  # type: ignore[no-untyped-def]
            with super(_LosesTheAnswer, self).write() as connection:
                yield connection
            if self.lost:
                raise OperationalError("COMMIT", {}, ConnectionError("gone"))

        return unit()


def test_a_commit_whose_answer_is_lost_does_not_lose_the_bytes(opened: Node) -> None:
    """The sender hears of a failure and sends again; what is there by then must be whole."""
    database = _LosesTheAnswer(opened.database.url.render_as_string(hide_password=False))
    ingest = Ingest(opened.settings, database, opened.blobs, opened.installation, opened.trail)
    batch = ingest.batch(Sender(INSTANCES_TRANSFERRED, "DEVICE", "127.0.0.1"))
    writer = batch.receive()
    writer.write(Made().part10())
    database.lost = True
    with pytest.raises(OperationalError):
        batch.store(writer)
    database.lost = False
    assert _rows(opened) == ONE
    assert _bytes(opened, Made().uid) == Made().part10()
    assert [receipt.new for receipt in send(opened, Made())] == [False]
    database.close()


class _Failing(Database):
    failing = False

    def write(self):  # type: ignore[no-untyped-def]
        if self.failing:
            raise OperationalError("BEGIN", {}, ConnectionError("gone"))
        return super().write()


def test_a_database_that_is_away_leaves_no_blob(opened: Node) -> None:
    database = _Failing(opened.database.url.render_as_string(hide_password=False))
    ingest = Ingest(opened.settings, database, opened.blobs, opened.installation, opened.trail)
    batch = ingest.batch(Sender(INSTANCES_TRANSFERRED, "DEVICE", "127.0.0.1"))
    database.failing = True
    writer = batch.receive()
    writer.write(Made().part10())
    with pytest.raises(OperationalError):
        batch.store(writer)
    assert (_rows(opened), _blobs(opened)) == (NOTHING, [])
    database.failing = False
    writer = batch.receive()
    writer.write(Made().part10())
    assert batch.store(writer).new, "what the failed transaction had placed is not believed"
    assert _rows(opened) == ONE
    database.close()


def test_an_association_that_is_aborted_leaves_nothing(opened: Node) -> None:
    batch = opened.ingest.batch(Sender(INSTANCES_TRANSFERRED, "DEVICE", "127.0.0.1"))
    writer = batch.receive()
    writer.write(Made().part10()[:300])
    writer.abort()
    assert (_rows(opened), _blobs(opened)) == (NOTHING, [])


def test_one_event_per_batch_and_study(opened: Node) -> None:
    send(opened, *(Made(study=study, number=number) for study in (1, 2) for number in (1, 2, 3)))
    told = [event for event in _events(opened) if event["outcome"] == "0"]
    assert len(told) == 2
    references = {str(orjson.loads(orjson.dumps(event["entity"]))[-1]["what"].get("reference")) for event in told}  # type: ignore[index]
    assert any(reference.startswith(("ImagingStudy/", "Patient/")) for reference in references)
    assert "DEVICE" in orjson.dumps(told[0]).decode()


def test_settling_begins_anew_with_each_instance(tmp_path: Path) -> None:
    with node(tmp_path / "data", quiet_period=3600) as opened:
        send(opened, Made(number=1))
        send(opened, Made(number=2))
        assert publish_all(opened) == 0
        with opened.database.read() as connection:
            assert catalogue.counts(connection) == {"studies": 0, "instances": 0, "pending": 2}


def test_a_patient_id_without_issuer_is_of_the_devices_authority(opened: Node) -> None:
    send(opened, Made(study=1), authority=f"{ROOT}.77")
    named = Made(study=2).dataset()
    named.IssuerOfPatientID = "HOSPITAL"
    send(opened, _file(named), authority=f"{ROOT}.77")
    nameless = Made(study=3).dataset()
    nameless.PatientID = ""
    send(opened, _file(nameless))
    with opened.database.read() as connection:
        rows = connection.execute(select(catalogue.PATIENT.c.authority, catalogue.PATIENT.c.namespace)).all()
    assert rows[0].authority == f"{ROOT}.77"
    assert rows[1].namespace == "HOSPITAL"
    assert rows[2].authority == opened.installation.unidentified.oid


def test_refusals_name_no_patient(opened: Node) -> None:
    secret = Made(patient="SECRET-4711", name="Secret^Name")
    send(opened, secret)
    for hostile in (replace(secret, pixel=1), replace(secret, number=2, patient="SECRET-4712")):
        with pytest.raises(ImageShareError) as caught:
            send(opened, hostile)
        assert "secret" not in caught.value.detail.lower()
    assert isinstance(opened.blobs, FolderBlobs)

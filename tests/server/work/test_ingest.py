"""Taking in: acknowledged means safe, refused means that nothing is left."""

import errno
import os
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from functools import partial
from io import BytesIO
from itertools import count
from pathlib import Path
from typing import Any, BinaryIO

import orjson
import pytest
from peers.generated import CT, ROOT, Made, send
from peers.imageshare import node, publish_all
from peers.together import together
from pydicom import dcmwrite
from pydicom.dataset import Dataset
from pydicom.uid import UID
from sqlalchemy import Connection, func, select
from sqlalchemy.exc import IntegrityError, OperationalError, SQLAlchemyError

import server.work.ingest
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
    Unavailable,
)
from server.records import catalogue, placing
from server.records.trail import events
from server.store.blobs import FolderBlobs, FolderWriter, Writer
from server.store.db import Database
from server.store.room import Room
from server.work.ingest import Announced, Batch, Ingest, Pending, Sender

DEVICE = Sender(INSTANCES_TRANSFERRED, "DEVICE", "127.0.0.1")


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
    batch = opened.ingest.batch(DEVICE)
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
    batch = opened.ingest.batch(DEVICE)
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


def test_a_uid_that_is_gone_again_when_it_is_looked_at_is_stored_after_all(opened: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever had the UID is purged between this one's commit, which found it taken, and its look at the bytes."""
    real = catalogue.stored
    looked: list[str] = []

    def stored(connection: Connection, uid: str) -> catalogue.StoredInstance | None:
        looked.append(uid)
        if len(looked) == 1:
            with opened.database.write() as other:
                other.execute(catalogue.INSTANCE.delete())
            return None
        return real(connection, uid)

    send(opened, Made())
    monkeypatch.setattr(catalogue, "stored", stored)
    assert [receipt.new for receipt in send(opened, Made(pixel=1))] == [True]
    assert _bytes(opened, Made().uid) == Made(pixel=1).part10()


def test_a_series_that_was_removed_while_it_is_sent_is_placed_anew(opened: Node) -> None:
    """What a batch remembers of a series is no promise: rows may be purged while an association goes on."""
    batch = opened.ingest.batch(DEVICE)
    assert batch.store(_written(batch, Made(number=1))).new
    with opened.database.write() as connection:
        for table in (catalogue.INSTANCE, catalogue.SERIES, catalogue.STUDY):
            connection.execute(table.delete())
    assert batch.store(_written(batch, Made(number=2))).new
    assert _rows(opened) == {**ONE, "blob": 2}


def test_a_conflict_leaves_nothing_of_the_study_that_it_claims(opened: Node) -> None:
    """A UID that is stored, sent again within another study: rows of that study are not left without instances."""
    send(opened, Made())
    liar = Made(study=2).dataset()
    liar.SOPInstanceUID = liar.file_meta.MediaStorageSOPInstanceUID = UID(Made().uid)
    with pytest.raises(ContentConflict):
        send(opened, _file(liar))
    assert (_rows(opened), len(_blobs(opened))) == (ONE, 1)


# --- several in one commit


def _written(batch: Batch, made: Made | bytes) -> Writer:
    writer = batch.receive()
    writer.write(made if isinstance(made, bytes) else made.part10())
    return writer


def _outcomes(pending: list[Pending]) -> list[bool | type[BaseException]]:
    found: list[bool | type[BaseException]] = []
    for one in pending:
        try:
            found.append(one.receipt().new)
        except (ImageShareError, SQLAlchemyError) as error:
            found.append(type(error))
    return found


def test_what_is_submitted_together_is_committed_together(opened: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    batch = opened.ingest.batch(DEVICE)
    pending = [batch.submit(_written(batch, Made(series=1 + number % 2, number=number))) for number in range(1, 9)]
    assert _rows(opened) == NOTHING
    commits: list[int] = []
    real = Database.write

    def counted(self: Database) -> AbstractContextManager[Connection]:
        commits.append(1)
        return real(self)

    monkeypatch.setattr(Database, "write", counted)
    assert _outcomes(pending) == [True] * 8
    assert len(commits) == 1
    assert _rows(opened) == {"patient": 1, "study": 1, "series": 2, "instance": 8, "blob": 8}
    assert [event["outcome"] for event in _events(opened)] == ["0"], "one event for the batch and its study"
    for number in range(1, 9):
        made = Made(series=1 + number % 2, number=number)
        assert _bytes(opened, made.uid) == made.part10()


def test_what_is_submitted_ahead_is_on_its_way_to_the_disk_and_nothing_is_told_before_it_is_there(
    opened: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each file is synced once, in whatever order; one that the disk refuses fails alone, and the rows come after all of them."""
    real, numbers, synced = os.fdatasync, count(), list[int]()

    def fdatasync(descriptor: int) -> None:
        if next(numbers) == 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(descriptor)
        synced.append(descriptor)

    monkeypatch.setattr(os, "fdatasync", fdatasync)
    batch = opened.ingest.batch(DEVICE)
    pending = [batch.submit(_written(batch, Made(number=number)), ahead=True) for number in range(1, 9)]
    for one in pending:
        assert one.incoming is not None
        assert one.incoming.syncing is not None
        one.incoming.syncing.exception(30)
    assert len(synced) == 7
    assert _rows(opened) == NOTHING
    assert sorted(_outcomes(pending), key=str) == [StorageFull, *[True] * 7]
    assert len(synced) == 7
    assert _rows(opened) == {**ONE, "instance": 7, "blob": 7}
    assert len(_blobs(opened)) == 7


def test_one_of_a_group_fails_alone(opened: Node) -> None:
    """Every kind of refusal among instances that are right; each is told what is true of it."""
    send(opened, Made(number=1), Made(study=2, patient="P2"))
    nameless = Made(number=20).dataset()
    nameless.SeriesInstanceUID = ""
    group: list[tuple[Made | bytes, bool | type[BaseException]]] = [
        (Made(number=2), True),
        (Made(number=1), False),
        (Made(number=1, pixel=3), ContentConflict),
        (Made(study=2, number=3, patient="P1"), PatientConflict),
        (_file(nameless), MalformedInstance),
        (b"no DICOM", MalformedInstance),
        (Made(number=4), True),
        (Made(number=4), False),
        (Made(number=4, pixel=1), ContentConflict),
        (Made(study=3, number=1), True),
    ]
    batch = opened.ingest.batch(DEVICE)
    assert _outcomes([batch.submit(_written(batch, made)) for made, _ in group]) == [expected for _, expected in group]
    assert _rows(opened) == {"patient": 2, "study": 3, "series": 3, "instance": 5, "blob": 5}
    assert len(_blobs(opened)) == 5
    assert _bytes(opened, Made(number=4).uid) == Made(number=4).part10(), "the first of a batch stays"
    assert len([event for event in _events(opened) if event["outcome"] == "4"]) == 5


def test_a_value_that_the_database_refuses_fails_alone(opened: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error in the middle of the transaction: it is done again, each by itself."""
    real = placing.admit

    def admit(connection: Connection, arrivals: list[tuple[placing.Arrival, placing.Place]]) -> set[str]:
        if any(arrival.instance.number == 3 for arrival, _ in arrivals):
            connection.execute(catalogue.BLOB.insert(), {"id": None, "size": 1, "created": 1})
        return real(connection, arrivals)

    monkeypatch.setattr(placing, "admit", admit)
    batch = opened.ingest.batch(DEVICE)
    pending = [batch.submit(_written(batch, Made(number=number))) for number in range(1, 6)]
    assert _outcomes(pending) == [True, True, IntegrityError, True, True]
    assert _rows(opened) == {**ONE, "instance": 4, "blob": 4}
    assert len(_blobs(opened)) == 4


def test_a_file_that_cannot_be_synced_fails_alone(opened: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk is full for one of them, as a quota may have it."""
    batch = opened.ingest.batch(DEVICE)
    pending = [batch.submit(_written(batch, Made(number=number))) for number in range(1, 6)]
    real, calls = os.fdatasync, []

    def fdatasync(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) == 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(descriptor)

    monkeypatch.setattr(os, "fdatasync", fdatasync)
    assert _outcomes(pending) == [True, True, StorageFull, True, True]
    assert _rows(opened) == {**ONE, "instance": 4, "blob": 4}
    assert len(_blobs(opened)) == 4


class _FailsAtCommit(Database):
    """Every fifth of its transactions is lost at the last moment."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self._numbers = count(1)

    def write(self):  # type: ignore[no-untyped-def]
        @contextmanager
        def unit():  # type: ignore[no-untyped-def]
            with super(_FailsAtCommit, self).write() as connection:
                yield connection
                if next(self._numbers) % 5 == 0:
                    raise OperationalError("COMMIT", {}, ConnectionError("gone"))

        return unit()


def test_many_threads_with_failures_among_them(opened: Node) -> None:
    """Eight devices at once, each with a conflict, a cut-off file and a commit that fails of the database now and then.

    What was answered with success is there, what was not left nothing, and to send it again succeeds.
    """
    send(opened, Made(study=99, pixel=1))
    database = _FailsAtCommit(opened.database.url.render_as_string(hide_password=False))
    ingest = Ingest(opened.settings, database, opened.blobs, opened.installation, opened.trail)
    stored: dict[str, bytes] = {}

    def device(number: int) -> None:
        batch = ingest.batch(replace(DEVICE, name=f"D{number}"))
        for first in range(1, 13, 3):
            wanted = [Made(study=1 + number % 4, series=number, number=each) for each in range(first, first + 3)]
            odd: list[Made | bytes] = [Made(study=99, pixel=2), wanted[0].part10()[:300]]
            for _ in range(40):
                pending = [batch.submit(_written(batch, each)) for each in (*wanted, *odd)]
                told = _outcomes(pending)
                assert told[-2] in (ContentConflict, Unavailable)
                assert told[-1] is MalformedInstance
                stored.update((made.uid, made.part10()) for made, new in zip(wanted, told, strict=False) if isinstance(new, bool))
                wanted = [made for made in wanted if made.uid not in stored]
                if not wanted:
                    break

    assert together(*(partial(device, number) for number in range(8))) == []
    database.close()
    assert len(stored) == 96
    for uid, body in stored.items():
        assert _bytes(opened, uid) == body
    rows = _rows(opened)
    assert (rows["instance"], rows["blob"], rows["study"], rows["series"]) == (97, 97, 5, 9)
    assert len(_blobs(opened)) == 97


def test_a_batch_is_told_in_the_trail_only_once_what_it_tells_is_committed(opened: Node) -> None:
    database = _Failing(opened.database.url.render_as_string(hide_password=False))
    ingest = Ingest(opened.settings, database, opened.blobs, opened.installation, opened.trail)
    batch = ingest.batch(DEVICE)
    database.failing = True
    with pytest.raises(OperationalError):
        batch.store(_written(batch, Made(number=1)))
    database.failing = False
    assert batch.store(_written(batch, Made(number=2))).new
    assert [event["outcome"] for event in _events(opened)] == ["0"]
    database.close()


def test_a_header_is_read_from_what_was_just_written(opened: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """The usual file is not opened again; an unusual one is, and stored as well."""
    opens: list[object] = []
    real = FolderWriter.reader

    def reader(self: FolderWriter) -> BinaryIO:
        opens.append(self)
        return real(self)

    monkeypatch.setattr(FolderWriter, "reader", reader)
    send(opened, Made(number=1), Made(number=2))
    assert opens == []
    padded = Made(number=3).part10() + b"\0\0"
    assert [receipt.new for receipt in send(opened, padded)] == [True]
    assert len(opens) == 1
    assert _bytes(opened, Made(number=3).uid) == padded
    assert _rows(opened) == {**ONE, "instance": 3, "blob": 3}


def test_a_batch_remembers_series_by_what_identifies_them(opened: Node) -> None:
    """Patients, studies and series in turn, and a file that only the parser reads between: each finds its own place."""
    made = [
        Made(study=study, series=series, number=number, patient=f"P{study}")
        for number in (1, 2, 3)
        for study in (1, 2)
        for series in (1, 2)
    ]
    unusual = replace(made[0], number=9).part10() + b"\0\0"
    send(opened, *made[:6], unusual, *made[6:])
    assert _rows(opened) == {"patient": 2, "study": 2, "series": 4, "instance": 13, "blob": 13}
    with opened.database.read() as connection:
        for each in made:
            stored = catalogue.stored(connection, each.uid)
            assert stored is not None
            assert (stored.study_uid, stored.series_uid) == (each.study_uid, each.series_uid)


def test_a_refusal_within_a_known_series_names_its_study_too(opened: Node) -> None:
    with pytest.raises(ContentConflict):
        send(opened, Made(number=1), Made(number=2), Made(number=2, pixel=1))
    assert _objects(_events(opened)[0]) == [("StudyInstanceUID", Made().study_uid), ("SOPInstanceUID", Made(number=2).uid)]


def test_a_batch_of_very_many_series_forgets_the_oldest(opened: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server.work.ingest, "_SERIES_REMEMBERED", 3)
    send(opened, *(Made(series=series, number=number) for number in (1, 2) for series in range(1, 8)))
    assert _rows(opened) == {**ONE, "series": 7, "instance": 14, "blob": 14}


def test_no_room_for_the_embedded_database_is_told_before_its_disk_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with node(tmp_path / "data", blob_url=f"file://{tmp_path / 'blobs'}", min_free_bytes=1) as opened:
        send(opened, Made(number=1))
        asked: list[Path] = []

        def require(self: Room, reserve: int, written: int = 0) -> None:
            asked.append(self._folder)
            if self._folder == tmp_path / "data":
                raise StorageFull("the server has no room left; try again later")

        monkeypatch.setattr(Room, "require", require)
        if opened.database.is_sqlite:
            with pytest.raises(StorageFull):
                send(opened, Made(number=2))
        else:
            send(opened, Made(number=2))
            assert tmp_path / "data" not in asked


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
    batch = ingest.batch(DEVICE)
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
    batch = ingest.batch(DEVICE)
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
    batch = opened.ingest.batch(DEVICE)
    writer = batch.receive()
    writer.write(Made().part10()[:300])
    writer.abort()
    assert (_rows(opened), _blobs(opened)) == (NOTHING, [])


def test_one_event_per_batch_and_study(opened: Node) -> None:
    send(opened, *(Made(study=study, number=number) for study in (1, 2) for number in (1, 2, 3)))
    told = [event for event in _events(opened) if event["outcome"] == "0"]
    assert len(told) == 2
    references = {str(orjson.loads(orjson.dumps(event["entity"]))[-1]["what"].get("reference")) for event in told}
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

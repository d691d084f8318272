"""Importing what lies on a disk: folders, ZIP files, the storage folder of a real Orthanc; again and again without change."""

import io
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from peers.generated import Made
from peers.imageshare import node, publish_all
from peers.orthanc import orthanc
from pydicom import dcmread
from pydicom.data import get_testdata_file
from typer.testing import CliRunner

from server.cli import app
from server.edges.context import Node
from server.errors import SettingsError, StorageFull
from server.importing import Importer, Report, listed
from server.outbound import cstore
from server.records import catalogue
from server.store.blobs import FolderBlobs
from server.upkeep import verify

MADE = [Made(study=study, series=series, number=number) for study in (1, 2) for series in (1, 2) for number in (1, 2)]


@pytest.fixture
def opened(tmp_path: Path, database_url: str) -> Iterator[Node]:
    with node(tmp_path / "data", database_url, max_instance_bytes=1 << 20) as made:
        yield made


def _run(opened: Node, *paths: Path, dry_run: bool = False) -> Report:
    return Importer(opened.ingest, readers=2, dry_run=dry_run).run(listed(paths))


def _counts(report: Report) -> tuple[int, int, int, int]:
    return report.stored, report.known, sum(report.refused.values()), report.passed_over


def _visible(opened: Node) -> set[str]:
    publish_all(opened)
    with opened.database.read() as connection:
        return {one.uid for study in (1, 2) for one in catalogue.instances(connection, Made(study=study).study_uid)}


def _folder(path: Path) -> Path:
    (path / "deep" / "er").mkdir(parents=True)
    for number, made in enumerate(MADE[:4]):
        (path / f"image{number}.bin").write_bytes(made.part10())
    for number, made in enumerate(MADE[4:]):
        (path / "deep" / "er" / str(number)).write_bytes(made.part10())
    (path / "notes.txt").write_text("no image")
    (path / "empty").write_bytes(b"")
    directory = get_testdata_file("DICOMDIR")
    assert isinstance(directory, str)
    (path / "INDEX").write_bytes(Path(directory).read_bytes())
    return path


def test_a_folder_is_imported_once_whatever_its_files_are_called(opened: Node, tmp_path: Path) -> None:
    folder = _folder(tmp_path / "in")
    assert _counts(_run(opened, folder, dry_run=True)) == (8, 0, 0, 3)
    assert list(opened.blobs.list()) == []
    report = _run(opened, folder)
    assert (_counts(report), len(report.studies)) == ((8, 0, 0, 3), 2)
    assert _visible(opened) == {made.uid for made in MADE}
    assert _counts(_run(opened, folder)) == (0, 8, 0, 3)
    assert verify(opened.settings) == []


def test_what_is_refused_is_counted_by_reason_and_stops_nothing(opened: Node, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "a").write_bytes(MADE[0].part10())
    (folder / "b").write_bytes(Made(pixel=9).part10())
    (folder / "c").write_bytes(MADE[1].part10()[:-3])
    (folder / "d").write_bytes(MADE[2].part10())
    (folder / "e").write_bytes(Made(number=7, size=1100).part10())
    report = _run(opened, folder)
    assert (report.stored, sum(report.refused.values())) == (2, 3)
    told = " ".join(report.refused)
    assert all(word in told for word in ("other content", "truncated", "at most 1048576 bytes"))
    assert report.examples[next(reason for reason in report.refused if "truncated" in reason)] == [str(folder / "c")]


def test_zip_files_are_looked_into(opened: Node, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "study.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for number, made in enumerate(MADE):
            archive.writestr(f"DICOM/{number}", made.part10())
        archive.writestr("README", "hello")
        archive.writestr("big", Made(number=7, size=1100).part10())
    (tmp_path / "empty.zip").write_bytes(b"")
    report = _run(opened, tmp_path / "study.zip", tmp_path / "empty.zip")
    assert (report.stored, sum(report.refused.values()), report.passed_over) == (8, 1, 1)
    assert _visible(opened) == {made.uid for made in MADE}


@pytest.mark.parametrize("compressed", [False, True])
def test_the_storage_folder_of_an_orthanc_is_imported(opened: Node, tmp_path: Path, *, compressed: bool) -> None:
    folder = tmp_path / "sent"
    folder.mkdir()
    for number, made in enumerate(MADE):
        (folder / str(number)).write_bytes(made.part10())
    storage = tmp_path / "orthanc"
    with orthanc(storage, {}, StorageCompression=compressed, StoreDicom=True) as peer:
        sent = list(cstore.send(sorted(folder.iterdir()), "127.0.0.1", peer.dicom_port, called="ORTHANC"))
        assert all(one.ok for one in sent)
        assert peer.get("/statistics")["CountInstances"] == len(MADE)
        files = {
            dcmread(io.BytesIO(_file(peer.http, one))).SOPInstanceUID: _file(peer.http, one) for one in peer.get("/instances")
        }
    assert _counts(_run(opened, storage))[:3] == (len(MADE), 0, 0)
    assert _visible(opened) == {made.uid for made in MADE}
    with opened.database.read() as connection:
        found = catalogue.by_sop_uid(connection, list(files))
    assert {uid: b"".join(opened.blobs.stream(one.blob_id)) for uid, one in found.items()} == files
    assert _counts(_run(opened, storage))[:3] == (0, len(MADE), 0)


def _file(base: str, id_: str) -> bytes:
    import urllib.request

    with urllib.request.urlopen(f"{base}/instances/{id_}/file", timeout=30) as answer:
        return bytes(answer.read())


def test_a_header_that_orthanc_kept_apart_is_not_taken_for_the_image(opened: Node, tmp_path: Path) -> None:
    """Without its index nothing else tells which is which; the header must not be stored in place of the image."""
    whole = MADE[0].part10()
    header = whole[: whole.index(b"\xe0\x7f\x10\x00")]
    for name, body in (("a", header), ("b", whole)):
        (tmp_path / name).write_bytes(struct.pack("<Q", len(body)) + zlib.compress(body))
    report = _run(opened, tmp_path / "a", tmp_path / "b")
    assert (report.stored, sum(report.refused.values())) == (1, 1)
    with opened.database.read() as connection:
        stored = catalogue.stored(connection, MADE[0].uid)
    assert stored is not None
    assert stored.size == len(whole)


@pytest.mark.parametrize(
    ("claimed", "cut", "stored"), [(0, None, True), (-1, None, False), (5, None, False), (0, -4, False), (1 << 40, None, False)]
)
def test_a_damaged_attachment_is_refused(opened: Node, tmp_path: Path, claimed: int, cut: int | None, *, stored: bool) -> None:
    body = MADE[0].part10()
    (tmp_path / "x").write_bytes((struct.pack("<Q", len(body) + claimed) + zlib.compress(body))[:cut])
    report = _run(opened, tmp_path / "x")
    assert (report.stored, sum(report.refused.values())) == ((1, 0) if stored else (0, 1))


def test_a_bomb_is_refused_without_being_inflated(opened: Node, tmp_path: Path) -> None:
    body = MADE[0].part10() + bytes(200 << 20)
    (tmp_path / "x").write_bytes(struct.pack("<Q", 1 << 19) + zlib.compress(body))
    assert list(_run(opened, tmp_path / "x").refused) == ["one object may have at most 524288 bytes here"]


def test_a_full_disk_ends_the_import_and_the_next_one_goes_on(
    opened: Node, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = _folder(tmp_path / "in")

    def full(*_: object, **__: object) -> None:
        raise StorageFull("no room")

    with monkeypatch.context() as patched:
        patched.setattr(FolderBlobs, "create", full)
        with pytest.raises(StorageFull):
            _run(opened, folder)
    assert _counts(_run(opened, folder)) == (8, 0, 0, 3)


def test_the_command(tmp_path: Path) -> None:
    folder = _folder(tmp_path / "in")
    (folder / "broken").write_bytes(MADE[0].part10()[:-1])
    command = ["import", str(folder), "--data", str(tmp_path / "data")]
    tried = CliRunner().invoke(app, [*command, "--dry-run"])
    assert (tried.exit_code, "8 instances would be stored" in tried.output) == (1, True)
    done = CliRunner().invoke(app, command)
    assert (done.exit_code, "8 instances stored" in done.output, "1 refused" in done.output) == (1, True, True)
    with pytest.raises(SettingsError, match="there is no"):
        listed([tmp_path / "nowhere"])

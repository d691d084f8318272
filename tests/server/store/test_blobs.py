"""The folder of blobs: whole or not there at all, written once, and never outside its root."""

import hashlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from peers.together import together

from server.errors import NotFound, SettingsError, StorageFull, TooLarge, Unavailable
from server.store import blobs as blob_store
from server.store.blobs import Ahead, Blob, FolderBlobs, batch

BATCH = "2026/01/02/0123456789abcdef"


@pytest.fixture
def blobs(tmp_path: Path) -> FolderBlobs:
    return FolderBlobs(tmp_path / "blobs")


def _files(blobs: FolderBlobs) -> list[Path]:
    return [path for path in blobs.root.rglob("*") if path.is_file()]


def test_commit_keeps_the_bytes_under_a_name_that_lasts(blobs: FolderBlobs) -> None:
    writer = blobs.create(batch())
    writer.write(b"one ")
    writer.write(memoryview(b"two"))
    with writer.reader() as so_far:
        assert so_far.read() == b"one two"
    assert [path.suffix for path in _files(blobs)] == [".part"]
    blob = writer.commit()
    assert (blob.size, blob.sha256) == (7, hashlib.sha256(b"one two").digest())
    assert blob_store.digest(blobs, blob.id) == blob.sha256
    again = FolderBlobs(blobs.root)
    assert b"".join(again.stream(blob.id)) == b"one two"
    assert again.size(blob.id) == 7
    assert [name for name, _ in again.list()] == [blob.id]


def test_commit_and_abort_again_have_no_effect(blobs: FolderBlobs) -> None:
    writer = blobs.create(batch())
    writer.write(b"x")
    blob = writer.commit()
    writer.abort()
    assert writer.commit() == blob
    assert blobs.size(blob.id) == 1
    with pytest.raises(ValueError, match="finished"):
        writer.write(b"more")


def test_abort_leaves_neither_file_nor_folder(blobs: FolderBlobs) -> None:
    name = batch()
    writer = blobs.create(name)
    writer.write(b"x")
    writer.abort()
    writer.abort()
    assert _files(blobs) == []
    assert not (blobs.root / name).exists()
    with pytest.raises(ValueError, match="given up"):
        writer.commit()


def test_bytes_and_name_are_synced_before_commit_returns(blobs: FolderBlobs, monkeypatch: pytest.MonkeyPatch) -> None:
    """The order that a power cut asks for: the bytes, then the name, then the folder's entry; new folders up to the root."""
    calls: list[str] = []

    def recorded(name: str, real: object) -> None:
        def call(*arguments: object) -> object:
            told = str(Path(f"/proc/self/fd/{arguments[0]}").readlink() if isinstance(arguments[0], int) else arguments[0])
            calls.append(f"{name} {Path(told).relative_to(blobs.root)}")
            return real(*arguments)  # type: ignore[operator]

        monkeypatch.setattr(os, name, call)

    recorded("fdatasync", os.fdatasync)
    recorded("fsync", os.fsync)
    recorded("rename", os.rename)
    writer = blobs.create("2026/01/05/a")
    assert calls == ["fsync 2026/01/05", "fsync 2026/01", "fsync 2026", "fsync ."]
    calls.clear()
    writer.write(b"x")
    blob = writer.commit()
    assert [call.split()[0] for call in calls] == ["fdatasync", "rename", "fsync"]
    assert calls[-1] == "fsync 2026/01/05/a"
    assert blob.id.startswith("2026/01/05/a/")


def test_several_are_committed_with_one_look_at_each_folder(blobs: FolderBlobs, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = batch(), batch()
    writers = [blobs.create(name, hashed=False) for name in (first, second, first, first)]
    for number, writer in enumerate(writers):
        writer.write(bytes([number]))
    synced: list[Path] = []
    real = blob_store._sync_folder

    def sync(folder: Path) -> None:
        synced.append(folder)
        real(folder)

    monkeypatch.setattr(blob_store, "_sync_folder", sync)
    writers[1].sync()
    writers[1].sync()
    made = blobs.commit(writers)
    assert sorted(synced) == sorted([blobs.root / first, blobs.root / second])
    for number, blob in enumerate(made):
        assert isinstance(blob, Blob)
        assert blob.sha256 is None
        assert b"".join(blobs.stream(blob.id)) == bytes([number])
    assert blobs.commit(writers) == made, "again has no effect"
    with pytest.raises(ValueError, match="finished"):
        writers[0].write(b"x")


def test_of_several_only_what_fails_is_lost(blobs: FolderBlobs, monkeypatch: pytest.MonkeyPatch) -> None:
    writers = [blobs.create(batch()) for _ in range(4)]
    for writer in writers:
        writer.write(b"x")
    Path(writers[1]._part).unlink()
    real = blob_store._sync_folder

    def sync(folder: Path) -> None:
        if str(folder) == writers[2].folder:
            raise OSError(5, "Input/output error")
        real(folder)

    monkeypatch.setattr(blob_store, "_sync_folder", sync)
    assert [type(each) for each in blobs.commit(writers)] == [Blob, Unavailable, Unavailable, Blob]
    assert len(_files(blobs)) == 2
    with pytest.raises(ValueError, match="given up"):
        writers[2].sync()


def test_a_writer_keeps_its_beginning_and_gives_any_part(blobs: FolderBlobs) -> None:
    writer = blobs.create(BATCH)
    body = bytes(range(256)) * 300
    for start in range(0, len(body), 1000):
        writer.write(body[start : start + 1000])
    assert writer.head == body[: blob_store.HEAD]
    assert writer.read(70_000, 8) == body[70_000:70_008]
    assert writer.read(len(body) - 2, 8) == body[-2:]
    writer.abort()
    with pytest.raises(ValueError, match="finished"):
        writer.read(0, 1)


def test_a_folder_that_was_dropped_while_it_was_empty_is_made_again(blobs: FolderBlobs) -> None:
    name = batch()
    blobs.create(name).abort()
    assert not (blobs.root / name).exists()
    writer = blobs.create(name)
    writer.write(b"x")
    assert blobs.size(writer.commit().id) == 1


def test_a_folder_that_cannot_be_synced_leaves_nothing(blobs: FolderBlobs, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = blobs.create(batch())
    writer.write(b"x")

    def fails(_: Path) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(blob_store, "_sync_folder", fails)
    with pytest.raises(Unavailable):
        writer.commit()
    assert _files(blobs) == []


def test_one_blob_has_a_limit(tmp_path: Path) -> None:
    blobs = FolderBlobs(tmp_path, limit=10)
    writer = blobs.create(BATCH)
    writer.write(b"0123456789")
    with pytest.raises(TooLarge):
        writer.write(b"x")
    assert _files(blobs) == []


def test_nothing_is_taken_below_the_reserve(tmp_path: Path) -> None:
    blobs = FolderBlobs(tmp_path, reserve=1 << 62)
    with pytest.raises(StorageFull):
        blobs.create(BATCH)
    assert list(tmp_path.iterdir()) == []


def test_the_reserve_is_looked_at_again_while_a_large_blob_arrives(tmp_path: Path) -> None:
    blobs = FolderBlobs(tmp_path)
    writer = blobs.create(BATCH)
    blobs.reserve = 1 << 62
    with pytest.raises(StorageFull):
        for _ in range(40):
            writer.write(bytes(1 << 20))
    assert _files(blobs) == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", folder], capture_output=True, check=False)
    if made.returncode:
        pytest.skip("only root may mount a small disk")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_a_full_disk_is_storage_full_and_leaves_nothing(small_disk: Path) -> None:
    blobs = FolderBlobs(small_disk / "blobs")
    kept = blobs.create(BATCH)
    kept.write(b"kept")
    blob = kept.commit()
    writer = blobs.create(BATCH)
    with pytest.raises(StorageFull):
        writer.write(bytes(1 << 20))
    assert [name for name, _ in blobs.list()] == [blob.id]
    again = blobs.create(BATCH)
    again.write(bytes(1000))
    again.commit()


@pytest.mark.parametrize("name", ["../secret", "a/../../secret", "/etc/passwd", "..", "a/..", "../blobs-of-another/x"])
def test_no_name_leads_outside(tmp_path: Path, name: str) -> None:
    (tmp_path / "secret").write_bytes(b"secret")
    blobs = FolderBlobs(tmp_path / "blobs")
    for attempt in (blobs.open, blobs.size, blobs.delete, blobs.create):
        with pytest.raises(NotFound):
            attempt(name)
    with pytest.raises(NotFound):
        list(blobs.stream(name))
    assert (tmp_path / "secret").read_bytes() == b"secret"


def test_what_is_not_there_is_not_found(blobs: FolderBlobs) -> None:
    for attempt in (blobs.open, blobs.size):
        with pytest.raises(NotFound):
            attempt("2026/01/05/a/b")
    blobs.delete("2026/01/05/a/b")


def test_blobs_are_begun_to_be_read_before_their_turn(blobs: FolderBlobs, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of those that come later once; what is not there is told by who sends it."""
    expected: list[str] = []
    monkeypatch.setattr(blobs, "expect", expected.append)
    names = [f"2026/01/05/a/{number}" for number in range(10)]
    ahead = Ahead(blobs, names)
    for _ in names:
        ahead.step()
    assert expected == names[4:]
    monkeypatch.undo()
    blobs.expect("2026/01/05/a/b")
    writer = blobs.create(BATCH)
    writer.write(b"0123456789")
    blobs.expect(writer.commit().id)


def test_a_blob_that_was_cut_is_not_told_as_whole(blobs: FolderBlobs) -> None:
    writer = blobs.create(BATCH)
    writer.write(b"0123456789")
    blob = writer.commit()
    with pytest.raises(NotFound, match="end early"):
        list(blobs.stream(blob.id, 5, 6))


@given(content=st.binary(max_size=200), offset=st.integers(0, 250), length=st.integers(0, 250))
def test_ranges(tmp_path_factory: pytest.TempPathFactory, content: bytes, offset: int, length: int) -> None:
    blobs = FolderBlobs(tmp_path_factory.mktemp("blobs"))
    writer = blobs.create(BATCH)
    writer.write(content)
    blob = writer.commit()
    length = min(length, max(0, len(content) - offset))
    assert b"".join(blobs.stream(blob.id, offset, length)) == content[offset : offset + length]
    assert b"".join(blobs.stream(blob.id, min(offset, len(content)))) == content[offset:]


def test_only_blobs_are_listed_and_what_is_set_aside_is_kept(blobs: FolderBlobs) -> None:
    writer = blobs.create(batch())
    writer.write(b"x")
    blob = writer.commit()
    (blobs.root / "thesis.txt").write_text("mine")
    (blobs.root / blob.id).with_suffix(".txt").write_text("mine, too")
    assert [name for name, _ in blobs.list()] == [blob.id]
    blobs.delete(blob.id, aside=True)
    blobs.delete(blob.id, aside=True)
    assert list(blobs.list()) == []
    assert [path.read_bytes() for path in (blobs.root / "quarantine").iterdir()] == [b"x"]
    with pytest.raises(NotFound):
        blobs.open(blob.id)


def test_a_folder_is_one_installations_or_nobodys(tmp_path: Path) -> None:
    ours = FolderBlobs(tmp_path / "blobs")
    ours.own("2.25.1")
    ours.own("2.25.1")
    with pytest.raises(SettingsError, match="another installation"):
        FolderBlobs(tmp_path / "blobs").own("2.25.2")
    (tmp_path / "documents").mkdir()
    (tmp_path / "documents" / "thesis.txt").write_text("mine")
    with pytest.raises(SettingsError, match="not empty"):
        FolderBlobs(tmp_path / "documents").own("2.25.1")
    assert [path.name for path in (tmp_path / "documents").iterdir()] == ["thesis.txt"]


def test_a_marker_that_was_cut_off_is_made_anew(tmp_path: Path) -> None:
    """A full disk or a power cut at the first start leaves it empty; images may have come since."""
    folder = FolderBlobs(tmp_path)
    (tmp_path / ".imageshare").touch()
    writer = folder.create(BATCH)
    writer.write(b"x")
    blob = writer.commit()
    folder.own("2.25.1")
    folder.own("2.25.1")
    assert folder.size(blob.id) == 1
    with pytest.raises(SettingsError, match="another installation"):
        folder.own("2.25.2")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".imageshare", "2026"]


def test_many_may_mark_a_fresh_volume_at_once(tmp_path: Path) -> None:
    (tmp_path / "lost+found").mkdir()
    assert together(*[lambda: FolderBlobs(tmp_path).own("2.25.1") for _ in range(8)]) == []
    assert (tmp_path / ".imageshare").read_text() == "2.25.1\n"


def test_a_store_that_waits_for_no_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def synced(_: int) -> None:
        raise AssertionError("the disk was waited for")

    monkeypatch.setattr(os, "fdatasync", synced)
    monkeypatch.setattr(os, "fsync", synced)
    store = FolderBlobs(tmp_path, durable=False)
    writer = store.create(batch())
    writer.write(b"soon")
    blob = writer.commit()
    assert b"".join(store.stream(blob.id)) == b"soon"

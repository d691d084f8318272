"""Upkeep: the folder's lock, damaged bytes, killed workers' leases."""

import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from peers.generated import Made, send
from peers.imageshare import node, publish_all
from pydantic import SecretStr
from sqlalchemy import Connection, select

from server import upkeep
from server.edges.context import Node
from server.errors import SettingsError
from server.records import catalogue
from server.settings import load
from server.store import jobs
from server.store.blobs import batch
from server.store.db import Database
from server.work.ingest import PUBLISH


@pytest.fixture
def opened(tmp_path: Path, database_url: str) -> Iterator[Node]:
    with node(tmp_path / "data", database_url) as made:
        yield made


def test_a_folder_has_one_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upkeep.time, "sleep", lambda _: None)
    settings = load(data=tmp_path / "data")
    with upkeep.owned(settings):
        with pytest.raises(SettingsError, match="another imageshare server"):
            with upkeep.owned(settings):
                pass
    with upkeep.owned(settings):
        pass
    assert settings.data.stat().st_mode & 0o077 == 0, "patient data is for nobody else on the machine"


def test_roles_that_run_apart_keep_a_whole_server_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that thinks it is alone sweeps; beside a receiver it would sweep what is just coming in."""
    monkeypatch.setattr(upkeep.time, "sleep", lambda _: None)
    settings = load(data=tmp_path / "data")
    with upkeep.owned(settings, shared=True), upkeep.owned(settings, shared=True):
        with pytest.raises(SettingsError, match="another imageshare server"):
            with upkeep.owned(settings):
                pass


def _orphan(opened: Node, *, finished: bool) -> Path:
    writer = opened.blobs.create(batch())
    writer.write(b"orphan")
    path = opened.settings.blob_folder / writer.commit().id
    return path if finished else path.rename(path.with_suffix(".part"))


def test_the_sweep_clears_orphans_and_nothing_else(opened: Node) -> None:
    send(opened, Made())
    publish_all(opened)
    kept = {name for name, _ in opened.blobs.list()}
    whole, part = _orphan(opened, finished=True), _orphan(opened, finished=False)
    others = opened.settings.blob_folder / "thesis.txt"
    others.write_text("mine")
    assert upkeep.sweep_orphans(opened.settings, alone=False) == 0, "they are young"
    for path in (whole, part):
        os.utime(path, (0, 0))
    assert upkeep.sweep_orphans(opened.settings, alone=False) == 2
    assert {name for name, _ in opened.blobs.list()} == kept
    assert others.exists()
    assert [path.read_bytes() for path in (opened.settings.blob_folder / "quarantine").iterdir()] == [b"orphan"]


def test_the_sweep_spares_what_is_committed_while_it_looks(opened: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """The files are listed before the rows are read: an instance whose row comes in between is no orphan."""
    real = catalogue.blob_ids

    def late(connection: Connection) -> set[str]:
        send(opened, Made(number=9))
        return real(connection)

    monkeypatch.setattr(catalogue, "blob_ids", late)
    send(opened, Made(number=1))
    whole = _orphan(opened, finished=True)
    assert upkeep.sweep_orphans(opened.settings, alone=True) == 1
    assert not whole.exists()
    assert upkeep.verify(opened.settings) == []


def test_another_installations_blobs_are_not_touched(opened: Node, tmp_path: Path) -> None:
    """A database that was mistyped, or restored from elsewhere, over somebody's blob folder."""
    send(opened, Made())
    before = list(opened.blobs.list())
    other = load(data=tmp_path / "other", blob_url=f"file://{opened.settings.blob_folder}")
    upkeep.make_ready(other)
    with pytest.raises(SettingsError, match="another installation"):
        upkeep.sweep_orphans(other, alone=True)
    assert list(opened.blobs.list()) == before


def test_who_is_alone_in_a_blob_folder_keeps_others_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy of the data folder, tried beside the server that it was copied from, has the same OID and the same blob folder."""
    monkeypatch.setattr(upkeep.time, "sleep", lambda _: None)
    settings = load(data=tmp_path / "data", blob_url=f"file://{tmp_path / 'blobs'}")
    upkeep.make_ready(settings)
    shutil.copytree(tmp_path / "data", tmp_path / "copy")
    copy = load(data=tmp_path / "copy", blob_url=f"file://{tmp_path / 'blobs'}")
    with upkeep.owned_blob_folder(settings, shared=False):
        for shared in (False, True):
            with pytest.raises(SettingsError, match="another imageshare server uses the blob folder"):
                with upkeep.owned_blob_folder(copy, shared=shared):
                    pass
    with upkeep.owned_blob_folder(copy, shared=True), upkeep.owned_blob_folder(settings, shared=True):
        pass


def test_verify_finds_what_is_missing_or_changed(opened: Node) -> None:
    send(opened, *(Made(number=number) for number in range(1, 5)))
    publish_all(opened)
    seen: list[tuple[int, int]] = []
    assert upkeep.verify(opened.settings, lambda done, total: seen.append((done, total))) == []
    assert seen[-1] == (5, 5)
    missing, longer, changed, *_ = sorted(name for name, _ in opened.blobs.list())
    root = opened.settings.blob_folder
    (root / missing).unlink()
    (root / longer).write_bytes((root / longer).read_bytes() + b"x")
    body = bytearray((root / changed).read_bytes())
    body[-1] ^= 1
    (root / changed).write_bytes(bytes(body))
    assert set(upkeep.verify(opened.settings)) == {missing, longer, changed}


def test_verify_hashes_what_is_not_hashed_yet(opened: Node) -> None:
    """Instances that were acknowledged and not published: from then on damage is found."""
    send(opened, Made(number=1), Made(number=2))
    assert _hashes(opened) == [None, None]
    assert upkeep.verify(opened.settings) == []
    assert None not in _hashes(opened)
    name, *_ = (name for name, _ in opened.blobs.list())
    path = opened.settings.blob_folder / name
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    assert upkeep.verify(opened.settings) == [name]


def test_publishing_hashes(opened: Node) -> None:
    send(opened, Made())
    (name,) = (name for name, _ in opened.blobs.list())
    publish_all(opened)
    assert None not in _hashes(opened)
    with opened.database.read() as connection:
        kept = connection.execute(select(catalogue.BLOB.c.sha256).where(catalogue.BLOB.c.id == name)).scalar_one()
    assert bytes(kept) == hashlib.sha256(Made().part10()).digest()


def _hashes(opened: Node) -> list[bytes | None]:
    with opened.database.read() as connection:
        return list(connection.execute(select(catalogue.BLOB.c.sha256)).scalars())


def test_a_killed_workers_job_is_free_at_once(opened: Node) -> None:
    send(opened, Made())
    assert len(jobs.claim(opened.database, PUBLISH)) == 1
    assert publish_all(opened) == 0
    upkeep.take_over(opened.settings)
    assert publish_all(opened) == 1


def test_a_database_that_cannot_be_reached_is_told_without_its_password(tmp_path: Path) -> None:
    url = SecretStr("postgresql+psycopg://user:s3cret@127.0.0.1:1/db?connect_timeout=1")
    with pytest.raises(SettingsError, match="cannot be reached") as caught:
        upkeep.make_ready(load(data=tmp_path, database_url=url))
    assert "s3cret" not in str(caught.value)


def test_a_server_that_runs_is_seen(tmp_path: Path) -> None:
    settings = load(data=tmp_path / "data")
    assert not upkeep.is_served(settings)
    assert not settings.data.exists()
    for shared in (False, True):
        with upkeep.owned(settings, shared=shared):
            assert upkeep.is_served(settings)
        assert not upkeep.is_served(settings)


def test_a_schema_of_a_newer_version_is_told(tmp_path: Path) -> None:
    settings = load(data=tmp_path)
    upkeep.make_ready(settings)
    database = Database(settings.database)
    with database.write() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = 'ffff'")
    database.close()
    with pytest.raises(SettingsError, match="newer version"):
        upkeep.make_ready(settings)
    with pytest.raises(SettingsError, match="revision ffff"):
        upkeep.require_ready(settings)

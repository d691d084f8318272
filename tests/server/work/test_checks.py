"""Rows and files, checked against each other: what is found, and what a repair does about it."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from peers.generated import Made, send
from peers.imageshare import node, publish_all
from sqlalchemy import delete, update

from server.edges.context import Node
from server.records import catalogue
from server.records.placing import BLOB
from server.store.blobs import batch
from server.store.tables import Job
from server.upkeep import disagreements, verify

ON_BOTH_ENGINES = True
JOB = Job.__table__  # type: ignore[attr-defined]


@pytest.fixture
def opened(tmp_path: Path, database_url: str) -> Iterator[Node]:
    with node(tmp_path / "data", database_url) as made:
        send(made, Made(), Made(number=2))
        publish_all(made)
        yield made


def _found(opened: Node, *, repair: bool = False) -> list[tuple[str, int, bool]]:
    return [(one.what.split(" (")[0], one.count, one.repaired) for one in disagreements(opened.settings, repair=repair)]


def test_a_sound_store_has_nothing_to_tell(opened: Node) -> None:
    assert _found(opened) == []


def test_files_without_rows_are_set_aside(opened: Node) -> None:
    writer = opened.blobs.create(batch())
    writer.write(b"orphan")
    path = opened.settings.blob_folder / writer.commit().id
    assert _found(opened) == [], "it may be coming in just now"
    os.utime(path, (0, 0))
    assert _found(opened) == [("files that no row names", 1, False)]
    assert path.exists()
    assert _found(opened, repair=True) == [("files that no row names", 1, True)]
    assert [one.read_bytes() for one in (opened.settings.blob_folder / "quarantine").iterdir()] == [b"orphan"]
    assert _found(opened) == []


def test_wrong_counts_are_counted_anew(opened: Node) -> None:
    with opened.database.write() as connection:
        connection.execute(update(catalogue.STUDY).values(instance_count=9))
        connection.execute(update(catalogue.SERIES).values(instance_count=0))
    assert [count for _, count, _ in _found(opened)] == [1, 1]
    assert all(repaired for _, _, repaired in _found(opened, repair=True))
    assert _found(opened) == []


def test_what_waits_without_a_job_gets_one(opened: Node) -> None:
    send(opened, Made(number=3))
    with opened.database.write() as connection:
        connection.execute(delete(JOB))
    assert _found(opened, repair=True) == [("studies that wait to be published without a job for it", 1, True)]
    publish_all(opened)
    with opened.database.read() as connection:
        assert len(catalogue.instances(connection, Made().study_uid)) == 3


def test_rows_that_nothing_names_are_told_and_kept(opened: Node) -> None:
    with opened.database.write() as connection:
        connection.execute(BLOB.insert().values(id="x", size=1, sha256=b"", created=0))
    assert _found(opened, repair=True) == [("blobs that no instance, no document and no Binary names", 1, False)]
    assert verify(opened.settings) == ["x"]

"""The worker: goes on whatever fails, and puts back what failed."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from peers.generated import Made, send
from peers.imageshare import node, publish_all
from sqlalchemy import select, update

from server.edges.context import Node
from server.records import catalogue
from server.store.tables import Job
from server.work.admission import PUBLISH
from server.worker import Worker

JOB = Job.__table__  # type: ignore[attr-defined]


@pytest.fixture
def opened(tmp_path: Path, database_url: str) -> Iterator[Node]:
    with node(tmp_path / "data", database_url) as made:
        yield made


def test_a_job_that_fails_is_put_back_with_its_reason_but_not_its_text(opened: Node) -> None:
    send(opened, Made(study=1), Made(study=2))
    with opened.database.read() as connection:
        stored = catalogue.stored(connection, Made(study=1).uid)
    assert stored is not None
    kept = b"".join(opened.blobs.stream(stored.blob_id))
    opened.blobs.delete(stored.blob_id)
    Worker(opened).once()  # not until nothing is due: the second try is due after a second
    with opened.database.read() as connection:
        row = connection.execute(select(JOB.c.error, JOB.c.attempts).where(JOB.c.kind == PUBLISH)).one()
        assert (row.error, row.attempts) == ("NotFound 4001", 1)
        assert catalogue.counts(connection) == {"studies": 1, "instances": 1, "pending": 1}
    path = opened.settings.blob_folder / stored.blob_id
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(kept)
    with opened.database.write() as connection:
        connection.execute(update(JOB).values(due=0))
    assert publish_all(opened) == 1
    with opened.database.read() as connection:
        assert catalogue.counts(connection) == {"studies": 2, "instances": 2, "pending": 0}


def test_it_outlives_a_database_that_is_away(opened: Node) -> None:
    worker, stop = Worker(opened), threading.Event()
    with opened.database.write() as connection:
        connection.exec_driver_sql("ALTER TABLE job RENAME TO away")
    thread = threading.Thread(target=worker.run, args=(stop,))
    thread.start()
    time.sleep(0.3)
    with opened.database.write() as connection:
        connection.exec_driver_sql("ALTER TABLE away RENAME TO job")
    send(opened, Made())
    deadline = time.monotonic() + 20
    pending = 1
    while pending and time.monotonic() < deadline:
        with opened.database.read() as connection:
            pending = catalogue.counts(connection)["pending"]
        time.sleep(0.02)
    stop.set()
    thread.join(10)
    assert pending == 0
    assert not thread.is_alive()

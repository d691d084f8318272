"""Fetches whose process dies in the midst of an answer, and workers that take over: nothing is lost, half published or fetched twice."""

import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import httpx2
import orjson
import pytest
from peers import imageshare
from peers.fetching import Consumer, Foreign, sent, served
from peers.imageshare import running
from peers.xds import REPOSITORY, SOURCE, Archive, cx, instance
from sqlalchemy import select, update
from sqlalchemy.exc import OperationalError

from profiles import manifest_reading
from profiles.identifiers import PatientIdentifier
from server import upkeep
from server.records import catalogue, documents, fetches
from server.records.fetches import Fetching
from server.settings import load
from server.store import jobs
from server.store.blobs import FolderBlobs
from server.store.db import Database
from server.store.leases import Held, LeaseLost
from server.store.tables import Job
from server.work.fetching import jobs as fetch_jobs
from server.work.fetching.asked import Asked
from server.work.fetching.fetcher import Fetcher
from server.work.fetching.jobs import FETCH, FetchJobs, ask

pytestmark = pytest.mark.timeout(180)
JOB = Job.__table__  # type: ignore[attr-defined]
IMAGES = 40
STUDY = "2.25.7"


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Foreign]:
    """A community with a study of more images than are committed at once."""
    with imageshare.node(tmp_path_factory.mktemp("large") / "data") as node:
        made = Foreign(Archive(node))
        made.archive.send(*(instance(study=STUDY, series=f"{STUDY}.1", pixels=128) for _ in range(IMAGES)))
        with served(made):
            yield made


def until(true: Callable[[], bool], what: str, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, what
        time.sleep(0.05)


def here(foreign: Foreign, data: Path) -> list[str]:
    """The instances of the study that are in this data folder, published or not."""
    if not (data / "imageshare.db").exists():
        return []
    with closing(Database(load(data=data).database)) as database:
        try:
            with database.read() as connection:
                return [*catalogue.studies_of(connection, list(sent(foreign, STUDY)))]
        except (OperationalError, sqlite3.OperationalError):  # the database is being made
            return []


def stalled(foreign: Foreign) -> None:
    """The next answer with images does not go on after 36 of them."""
    foreign.images.clear()
    foreign.goes_wrong(SOURCE, f"stall {sum(len(each) + 400 for each in list(sent(foreign, STUDY).values())[:36])}")


def fetched_once(foreign: Foreign, before: list[str]) -> None:
    """The first request was for all, the next for what was not here."""
    first, *others = foreign.images
    assert len(first) == IMAGES
    assert before
    assert sorted([*before, *(uid for each in others for uid in each)]) == sorted(first)


def test_kill_9_of_a_server_that_fetches(large: Foreign, tmp_path: Path) -> None:
    data = tmp_path / "data"
    settings = {"communities": orjson.dumps([large.settings(seconds=60)]).decode()}
    stalled(large)
    with running(data, **settings) as server, httpx2.Client(base_url=server.http, headers=_bearer(server)) as http:
        wanted = {"community": "county", "patient": cx(large.archive), "study": STUDY}
        begun = http.post("/dicomweb/fetches", json=wanted)
        assert begun.status_code == 202, begun.text
        until(lambda: here(large, data) != [], "nothing was fetched")
        server.kill()
    before = here(large, data)
    with running(data, **settings) as server, httpx2.Client(base_url=server.http, headers=_bearer(server)) as http:
        path = begun.headers["location"].partition("/dicomweb")[2]
        until(lambda: http.get(f"/dicomweb{path}").json()["state"] == "done", "it was not continued")
        (told,) = http.get(f"/dicomweb{path}").json()["documents"]
        assert (told["complete"], told["known"], told["new"]) == (True, len(before), IMAGES - len(before))
        fetched_once(large, before)
        until(lambda: _published(data) == IMAGES, "it is not published whole")
    assert upkeep.verify(load(data=data)) == []
    assert not list((data / "blobs").rglob("*.part"))


def test_kill_9_of_the_command(large: Foreign, tmp_path: Path) -> None:
    data = tmp_path / "data"
    environment = {
        **os.environ, "IMAGESHARE_COMMUNITIES": orjson.dumps([large.settings(seconds=60)]).decode(), "IMAGESHARE_MIN_FREE_BYTES": "0",
        "IMAGESHARE_DATA": str(data),
    }  # fmt: skip
    command = [sys.executable, "-m", "server.cli", "fetch", "county", "--patient", cx(large.archive), "--study", STUDY]
    stalled(large)
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            until(lambda: here(large, data) != [], "nothing was fetched")
        finally:
            process.send_signal(signal.SIGKILL)
    before = here(large, data)
    again = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert again.returncode == 0, again.stderr
    assert f"{IMAGES - len(before)} fetched from county, {len(before)} known already" in again.stdout
    fetched_once(large, before)
    assert len(here(large, data)) == IMAGES
    with running(data):  # which publishes what the command brought
        until(lambda: _published(data) == IMAGES, "it is not published whole")


@pytest.mark.parametrize("engine", ["sqlite", "postgresql"], indirect=True)
def test_a_second_worker_leaves_a_fetch_alone_as_long_as_the_first_lives(
    consumer: Consumer, foreign: Foreign, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its lease is renewed while it waits for a partner that takes longer than a lease for each answer."""
    _short_leases(monkeypatch, 1.0)
    id_ = _asked(consumer)
    foreign.slow = 1.5
    (job,) = jobs.claim(consumer.archive.node.database, FETCH, lease_seconds=1.0)
    first = threading.Thread(target=_jobs_of(consumer).run, args=([job],))
    first.start()
    taken = []
    while first.is_alive():
        taken += jobs.claim(consumer.archive.node.database, FETCH)
        time.sleep(0.05)
    assert taken == []
    found = _found(consumer, id_)
    assert (found.state, found.done) == ("done", 6)
    assert foreign.asked.count(SOURCE) == 1
    with consumer.archive.node.database.read() as connection:
        assert not jobs.is_known(connection, FETCH, id_)


@pytest.mark.parametrize("engine", ["sqlite", "postgresql"], indirect=True)
def test_who_has_lost_the_lease_stops_and_says_nothing(
    consumer: Consumer, foreign: Foreign, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a worker that slept for longer than its lease: another has taken the fetch over, and says what came of it."""
    database = consumer.archive.node.database
    id_ = _asked(consumer)
    (job,) = jobs.claim(database, FETCH)
    manifest = Fetcher._document

    def slept(self: Fetcher, *arguments: object) -> bytes:
        with database.write() as connection:
            connection.execute(update(JOB).values(leased_until=job.lease + 1_000_000))  # as another's claim does
        time.sleep(0.3)
        return manifest(self, *arguments)  # type: ignore[arg-type]

    with monkeypatch.context() as patched, pytest.raises(LeaseLost):
        patched.setattr(Fetcher, "_document", slept)
        _short_leases(patched, 0.4)
        _jobs_of(consumer).run([job])
    assert _found(consumer, id_).state == "waiting"
    assert SOURCE not in foreign.asked
    with database.write() as connection:
        jobs.release(connection)
    imageshare.publish_all(consumer.archive.node)
    assert _found(consumer, id_).state == "done"


def test_one_that_ends_with_its_worker_every_time_is_told_as_failed(consumer: Consumer, foreign: Foreign) -> None:
    id_ = _asked(consumer)
    with consumer.archive.node.database.write() as connection:
        connection.execute(update(JOB).where(JOB.c.kind == FETCH).values(attempts=fetch_jobs._MOST_TIMES))
    imageshare.publish_all(consumer.archive.node)
    found = _found(consumer, id_)
    assert (found.state, found.error) == ("failed", "it broke off 10 times, and is not begun again")
    assert REPOSITORY not in foreign.asked


def test_a_lease_ends_with_its_block(database: Database) -> None:
    with database.write() as connection:
        jobs.enqueue(connection, "k", "a", due=0)
    (job,) = jobs.claim(database, "k", lease_seconds=0.1)
    with Held(database, job, seconds=0.2) as held:
        time.sleep(0.5)
        held.check()
        assert jobs.claim(database, "k") == []
    with database.write() as connection:
        held.done(connection)
        assert connection.execute(select(JOB.c.pk)).first() is None
    with pytest.raises(LeaseLost):
        Held(database, job).__enter__()


def _bearer(server: imageshare.Running) -> dict[str, str]:
    return {"Authorization": f"Bearer {server.token('system/ImagingStudy.crs')}"}


def _published(data: Path) -> int:
    """How many instances the study's manifest names. There is at most one that is approved."""
    with closing(Database(load(data=data).database)) as database, database.read() as connection:
        found = documents.studies(connection)
        entry = documents.current(connection, found[0]) if found else None
        if entry is None:
            return 0
        assert len(found) == 1
        (document,) = documents.by_unique_id(connection, [entry.unique_id])
    manifest = manifest_reading.read(b"".join(FolderBlobs(data / "blobs").stream(document.blob_id)))
    return sum(len(series.instances) for series in manifest.content.series)


def _asked(consumer: Consumer) -> str:
    wanted = Asked(PatientIdentifier.from_cx(cx(consumer.foreign.archive)), study="2.25.1")
    with consumer.archive.node.database.write() as connection:
        return ask(connection, "county", wanted, fetch_jobs.Agent(identifier="tester"))


def _found(consumer: Consumer, id_: str) -> Fetching:
    with consumer.archive.node.database.read() as connection:
        found = fetches.find(connection, id_)
    assert found is not None
    return found


def _jobs_of(consumer: Consumer) -> FetchJobs:
    node = consumer.archive.node
    return FetchJobs(node.settings, node.database, node.installation, node.ingest, node.domain, node.writes, node.trail)


def _short_leases(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    monkeypatch.setattr(fetch_jobs, "Held", lambda database, job: Held(database, job, seconds=seconds))

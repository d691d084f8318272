"""kill -9 of everything in the middle of an ingest: nothing that was acknowledged is lost, nothing is half visible.

A data folder on SQLite and one on PostgreSQL live through three kills each, in `make test-deep` five and one through five, at moments that a seed
chooses. A C-STORE association and STOW-RS requests send all the time; after each restart the same folder is looked at, and the senders go on where they
were, as devices do.
"""

import os
import random
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from io import BytesIO
from itertools import count
from pathlib import Path

import httpx2
import pytest
from peers.generated import CT, Made
from peers.imageshare import Running, running
from pydantic import SecretStr
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom.ae import ApplicationEntity
from sqlalchemy import func, select

from profiles import manifest, part10
from server import upkeep
from server.access.tokens import Tokens
from server.records import catalogue, documents
from server.records.installation import installation
from server.settings import load
from server.store import jobs
from server.store.blobs import FolderBlobs
from server.store.db import Database
from server.store.tables import METADATA

pytestmark = pytest.mark.timeout(600)
FOLDERS, KILLS = (5, 5) if os.environ.get("IMAGESHARE_TEST_DEEP") == "1" else (1, 3)
LONGEST_ROUND = 1.0


@dataclass
class Sender:
    """Sends without end: instances of a few studies in turn, a new study now and then. `done` has what was acknowledged."""

    first_study: int
    numbers: Iterator[int] = field(default_factory=count)
    again: list[Made] = field(default_factory=list)
    """What was not acknowledged when the server went: it is sent again, as a device would."""
    done: dict[str, Made] = field(default_factory=dict)

    def next(self) -> Made:
        if self.again:
            return self.again.pop()
        number = next(self.numbers)
        study = self.first_study + number // 60 * 3 + number % 3
        return Made(study=study, series=1 + number % 2, number=number + 1, patient=f"P{study % 2}", size=4 << number % 6)

    def c_store(self, server: Running, acknowledged: Callable[[], None]) -> None:
        entity = ApplicationEntity("DEVICE")
        entity.add_requested_context(CT, ExplicitVRLittleEndian)
        association = entity.associate("127.0.0.1", server.dicom_port, ae_title="IMAGESHARE")
        while association.is_established:
            made = self.next()
            try:
                status = association.send_c_store(made.dataset())
            except (RuntimeError, ValueError):  # the association is gone
                status = None
            if not status or status.Status != 0x0000:
                self.again.append(made)
                break
            self.done[made.uid] = made
            acknowledged()
        entity.shutdown()
        if association.dul.socket and association.dul.socket.socket:  # pynetdicom leaves it open when the peer is gone
            association.dul.socket.socket.close()

    def stow(self, server: Running, token: str, acknowledged: Callable[[], None]) -> None:
        headers = {
            "Authorization": f"Bearer {token}",
            "Content-Type": 'multipart/related; type="application/dicom"; boundary=cut',
            "Accept": "application/dicom+json",
        }
        with httpx2.Client(base_url=server.http, headers=headers, timeout=60) as client:
            while True:
                together = [self.next() for _ in range(5)]
                parts = (b"--cut\r\nContent-Type: application/dicom\r\n\r\n" + made.part10() + b"\r\n" for made in together)
                try:
                    answer = client.post("/dicomweb/studies", content=b"".join(parts) + b"--cut--\r\n")
                except httpx2.TransportError:
                    self.again.extend(together)
                    return
                assert answer.status_code == 200, answer.text
                self.done.update((made.uid, made) for made in together)
                acknowledged()


def _dataset(body: bytes) -> bytes:
    """A Part 10 file without preamble and file meta information, which C-STORE does not send."""
    return body[part10.parse(BytesIO(body)).dataset_offset :]


@dataclass
class Folder:
    """What an operator could see in the data folder, from beside the server."""

    data: Path
    database_url: str

    def __post_init__(self) -> None:
        self.database = Database(self.database_url)
        self.blobs = FolderBlobs(self.data / "blobs")

    def token(self) -> str:
        return Tokens(self.database, installation(self.database)).issue(client="test", scope="system/*.cruds")

    def check(self, done: dict[str, Made]) -> None:
        """Everything that was acknowledged is here with equal bytes, and no study is visible by halves."""
        with self.database.read() as connection:
            for uid, made in done.items():
                stored = catalogue.stored(connection, uid)
                assert stored is not None, "an acknowledged instance is lost"
                body = b"".join(self.blobs.stream(stored.blob_id))
                assert body[stored.dataset_offset :] == _dataset(made.part10())
                assert len(body) == stored.size
            self._visible(connection)

    def _visible(self, connection: "catalogue.Connection") -> None:
        rows = connection.execute(catalogue.select(catalogue.STUDY.c.pk, catalogue.STUDY.c.uid, catalogue.STUDY.c.version)).all()
        for row in rows:
            found = {instance.uid for instance in catalogue.instances(connection, row.uid)}
            entry = documents.current(connection, row.pk)
            if row.version == 0:
                assert (found, entry) == (set(), None)
                continue
            study = catalogue.load(connection, row.pk)
            assert entry is not None
            (document,) = documents.by_uuid(connection, [entry.entry_uuid])
            listed = manifest.read(b"".join(self.blobs.stream(document.blob_id)))
            assert {i.sop_instance_uid for series in listed.series for i in series.instances} == found
            assert {i.sop_instance_uid for series in study.series for i in series.instances} == found
            counted = connection.execute(
                catalogue.select(catalogue.STUDY.c.instance_count).where(catalogue.STUDY.c.pk == row.pk)
            ).scalar_one()
            assert counted == len(found)

    def check_integrity(self) -> None:
        """Every row that is referred to is there, and every stored object is as its row says."""
        with self.database.read() as connection:
            for table in METADATA.sorted_tables:
                for key in table.foreign_keys:
                    missing = ~select(1).where(key.column == key.parent).correlate(table).exists()
                    lost = select(func.count()).select_from(table).where(key.parent.is_not(None), missing)
                    assert connection.execute(lost).scalar_one() == 0, str(key.parent)
        assert upkeep.verify(load(data=self.data, database_url=SecretStr(self.database_url))) == []

    def release(self) -> None:
        """The leases of whoever had jobs in hand run out."""
        with self.database.write() as connection:
            jobs.release(connection)

    def settled(self) -> bool:
        with self.database.read() as connection:
            return catalogue.counts(connection)["pending"] == 0

    def has_no_orphan(self) -> bool:
        files = {name for name, _ in self.blobs.list()}
        with self.database.read() as connection:
            return files == catalogue.blob_ids(connection)

    def close(self) -> None:
        self.database.close()


def _until(holds: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 90
    while not holds():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def _interrupted(server: Running, folder: Folder, senders: tuple[Sender, Sender], moment: float) -> None:
    """Both senders send; `moment` seconds after the first acknowledgement everything is killed."""
    begun = threading.Event()
    device, web = senders
    token = folder.token()
    threads = [
        threading.Thread(target=device.c_store, args=(server, begun.set)),
        threading.Thread(target=web.stow, args=(server, token, begun.set)),
    ]
    for thread in threads:
        thread.start()
    assert begun.wait(30), "".join(server.log)
    time.sleep(moment)
    server.kill()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()
    assert device.again, "the kill did not fall into an ingest"
    assert web.again


def _through_kills(data: Path, database_url: str | None, folder: Folder, seed: int) -> dict[str, Made]:
    """What was acknowledged, after `KILLS` kills and with the server stopped."""
    chance = random.Random(seed)
    device, web = Sender(first_study=1000), Sender(first_study=5000)
    for _ in range(KILLS):
        with running(data, database_url, quiet_period=0.1) as server:
            folder.check(device.done | web.done)
            _interrupted(server, folder, (device, web), chance.uniform(0, LONGEST_ROUND))
    done = device.done | web.done
    assert len(done) > KILLS
    return done


def _ends_whole(server: Running, folder: Folder, done: dict[str, Made]) -> None:
    _until(folder.settled, "what was pending is not published")
    folder.check(done)
    with httpx2.Client(headers={"Authorization": f"Bearer {folder.token()}"}, timeout=60) as client:
        for study in {made.study_uid for made in done.values()}:
            answer = client.get(f"{server.http}/dicomweb/studies/{study}/instances", params={"limit": "5000"})
            found = {item["00080018"]["Value"][0] for item in answer.json()}
            assert found >= {uid for uid, made in done.items() if made.study_uid == study}


@pytest.mark.parametrize("seed", range(FOLDERS))
def test_kill_9_in_the_middle_of_an_ingest(tmp_path: Path, seed: int) -> None:
    data = tmp_path / "data"
    folder = Folder(data, f"sqlite:///{data / 'imageshare.db'}")
    done = _through_kills(data, None, folder, seed)
    with running(data, quiet_period=0.1) as server:
        _until(folder.has_no_orphan, "a blob without a row is left")
        _ends_whole(server, folder, done)
    folder.check_integrity()
    folder.close()
    with closing(sqlite3.connect(data / "imageshare.db")) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_kill_9_in_the_middle_of_an_ingest_on_postgresql(tmp_path: Path, postgresql_database: str) -> None:
    """The database server lives on, as it does elsewhere: only ours are killed, with their transactions open."""
    data = tmp_path / "data"
    folder = Folder(data, postgresql_database)
    done = _through_kills(data, postgresql_database, folder, FOLDERS)
    # A server that shares its database leaves to others what they may have in hand: jobs until the lease ends (two minutes, which
    # the test does not wait for), and blobs without a row for an hour.
    folder.release()
    with running(data, postgresql_database, quiet_period=0.1) as server:
        _ends_whole(server, folder, done)
    folder.check_integrity()
    folder.close()

"""kill -9 in the midst of ITI-41 and ITI-42: a submission is there whole or not at all, what was acknowledged is, and no file is left over."""

import os
import threading
import time
from contextlib import closing
from pathlib import Path

import httpx2
import pytest
from peers.document_source import BOUNDARY, Message, answered, document, submitted
from peers.hl7_sender import DOMAIN, adt, code, pid, sending
from peers.imageshare import Running, running
from peers.registering import document as entry_of
from peers.registering import submitted as registered
from peers.xds import REGISTRY, REPOSITORY, payload
from pydantic import SecretStr

from ihe import ebrs, iti18, iti41, iti42, iti43, mtom, soap
from ihe.find_documents import FindDocuments
from ihe.iti43 import DocumentRequest
from profiles.document import DocumentEntry
from server import upkeep
from server.records import catalogue
from server.settings import Settings, load
from server.store.blobs import FolderBlobs
from server.store.db import Database

pytestmark = pytest.mark.timeout(300)
PATIENT = f"P1^^^&{DOMAIN}&ISO"
CONTENT = bytes(range(256)) * 400
ENOUGH = 15
KILLS = 4 if os.environ.get("IMAGESHARE_TEST_DEEP") == "1" else 1


class Source:
    """Sends two documents by ITI-41 and one entry by ITI-42, again and again. `done` are the uniqueIds of what was acknowledged."""

    def __init__(self) -> None:
        self.done: list[tuple[str, ...]] = []
        self.sent = 0

    def send(self, server: Running, enough: threading.Event) -> None:
        """Until the server is gone."""
        with httpx2.Client(timeout=60) as client:
            while True:
                self.sent += 1
                try:
                    done = self._provide(client, server.http) if self.sent % 2 else self._register(client, server.http)
                except httpx2.HTTPError:
                    return
                except BaseException:
                    enough.set()
                    raise
                self.done.append(done)
                if len(self.done) % ENOUGH == 0:
                    enough.set()

    def _provide(self, client: httpx2.Client, http: str) -> tuple[str, ...]:
        entries = [document(10 * self.sent + number) for number in (1, 2)]
        made = submitted(PATIENT, *entries, number=self.sent)
        message = Message.of(made, {each.entry_uuid: CONTENT + each.unique_id.encode() for each in entries})
        headers = {"Content-Type": mtom.content_type(BOUNDARY, iti41.REQUEST_ACTION)}
        answer = answered(client.post(f"{http}{REPOSITORY}", content=b"".join(message.pieces()), headers=headers))
        assert answer.errors == ()
        return tuple(each.unique_id for each in entries)

    def _register(self, client: httpx2.Client, http: str) -> tuple[str, ...]:
        sent = entry_of(patient_id=PATIENT, unique_id=f"2.999.2.{self.sent}")
        made = registered(sent, patient=PATIENT, unique=f"2.999.3.{self.sent}")
        answer = post(client, f"{http}{REGISTRY}", iti42.REQUEST_ACTION, iti42.request(made))
        assert ebrs.read(payload(answer)).errors == ()
        return (sent.unique_id,)


def post(client: httpx2.Client, url: str, action: str, body: object) -> httpx2.Response:
    message = soap.render_request(action, body, "urn:uuid:0a0a0a0a-0000-4000-8000-000000000001", url)  # type: ignore[arg-type]
    return client.post(url, content=message, headers={"Content-Type": soap.content_type(action)})


def found(http: str) -> dict[str, DocumentEntry]:
    with httpx2.Client(timeout=60) as client:
        query = iti18.request(FindDocuments(PATIENT).query())
        answer = iti18.parse_response(payload(post(client, f"{http}{REGISTRY}", iti18.REQUEST_ACTION, query)))
    return {each.unique_id: each for each in answer.entries}


def killed(server: Running, source: Source) -> None:
    enough = threading.Event()
    thread = threading.Thread(target=source.send, args=(server, enough))
    thread.start()
    assert enough.wait(60), "".join(server.log)
    server.kill()
    thread.join(60)
    assert not thread.is_alive()


def whole(server: Running, source: Source) -> None:
    """Acknowledged submissions are there; of each that is there, all documents are, and each can be had."""
    entries = found(server.http)
    assert {each for done in source.done for each in done} <= entries.keys()
    provided = [each for each in entries.values() if each.unique_id.startswith("2.999.1.")]
    pairs = {each.unique_id[:-1] for each in provided}
    assert len(provided) == 2 * len(pairs), "half a submission"
    wanted = [DocumentRequest(each.repository_unique_id, each.unique_id) for each in provided]
    with httpx2.Client(timeout=60) as client:
        url = f"{server.http}{REPOSITORY}"
        told = post(client, url, iti43.REQUEST_ACTION, iti43.request(wanted))
    assert told.content.count(CONTENT) == len(provided)
    assert len(entries) - len(provided) <= source.sent


def settings_of(data: Path, database_url: str) -> Settings:
    return load(data=data, database_url=SecretStr(database_url))


def has_no_orphan(data: Path, database_url: str) -> bool:
    settings = settings_of(data, database_url)
    files = {name for name, _ in FolderBlobs(data / "blobs").list()}
    with closing(Database(settings.database)) as database, database.read() as connection:
        return files == catalogue.blob_ids(connection)


@pytest.mark.postgresql_is_deep
def test_kill_9_in_the_midst_of_submissions(tmp_path: Path, database_url: str) -> None:
    data, source = tmp_path / "data", Source()
    for _ in range(KILLS):
        with running(data, database_url) as server:
            if source.sent == 0:
                with sending(("127.0.0.1", server.mllp_port)) as sender:
                    assert code(sender.send(adt("A01", pid("P1")))) == "AA"
            else:
                whole(server, source)
            killed(server, source)
    with running(data, database_url) as server:
        whole(server, source)
        if database_url.startswith("sqlite"):  # elsewhere another server might still be writing them: they wait for an hour
            until = time.monotonic() + 60
            while not has_no_orphan(data, database_url):
                assert time.monotonic() < until, "a blob without a row is left"
                time.sleep(0.1)
    assert upkeep.verify(settings_of(data, database_url)) == []
    assert len(source.done) >= KILLS * ENOUGH

"""ITI-41 to a server process: memory stays flat however much comes at once, and who goes away leaves nothing."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import httpx2
import pytest
from peers import imageshare
from peers.document_source import BOUNDARY, Message, document, submitted
from peers.soap_server import peak, served
from peers.xds import REPOSITORY, SOURCE, Archive, cx, get, instance, uids
from pydicom.uid import RLELossless
from sqlalchemy import func, select

from ihe import iti41, mtom, rad69, soap
from ihe.ebrs import SUCCESS
from ihe.mtom import Attachment
from server.records.registry import DOCUMENT

AT_ONCE = 4
PIECE = bytes(range(256)) * 4096
HEADERS = {"Content-Type": mtom.content_type(BOUNDARY, iti41.REQUEST_ACTION)}


@pytest.fixture
def archive(tmp_path: Path, database_url: str) -> Iterator[Archive]:
    with imageshare.node(tmp_path / "data", database_url) as node:
        made = Archive(node)
        made.send(instance())
        yield made


def large(archive: Archive, number: int, pieces: int) -> Iterator[bytes]:
    """A message with a document of so many MiB."""
    message = Message.of(submitted(cx(archive), document(number), number=number), {f"Document{number:02}": b""})
    attachment = Attachment(f"Document{number:02}@source", "text/plain", len(PIECE) * pieces)
    return mtom.chunks(message.root, [attachment], lambda _: (PIECE for _ in range(pieces)), BOUNDARY)


def documents(archive: Archive) -> int:
    with archive.node.database.read() as connection:
        return int(connection.execute(select(func.count()).select_from(DOCUMENT)).scalar_one())


def test_memory_is_flat_while_large_documents_come_at_once(archive: Archive) -> None:
    answers: list[int] = []

    def send(url: str, number: int, pieces: int) -> None:
        content = b"".join(large(archive, number, pieces)) if pieces == 1 else large(archive, number, pieces)
        answer = httpx2.post(url + REPOSITORY, content=content, headers=HEADERS, timeout=120)
        answers.append(answer.content.count(SUCCESS.encode()))

    with served(archive.node.settings) as (url, process):
        warming = [threading.Thread(target=send, args=(url, number, 1)) for number in range(1, 1 + AT_ONCE)]
        sending = [threading.Thread(target=send, args=(url, number, 48)) for number in range(11, 11 + AT_ONCE)]
        for some in (warming, sending):
            before = peak(process)
            for thread in some:
                thread.start()
            for thread in some:
                thread.join()
        # 192 MiB came, of each message a few pieces of 1 MiB are held.
        assert peak(process) - before < 48_000_000
    assert answers == [1] * 2 * AT_ONCE
    answer, found = get(archive, "2.999.1.11")
    assert answer.status == SUCCESS
    assert found["2.999.1.11"] == PIECE * 48


def test_who_goes_away_in_the_middle_leaves_nothing(archive: Archive) -> None:
    before = documents(archive)
    content = b"".join(large(archive, 1, 8))
    with served(archive.node.settings) as (url, _):
        host, port = url.removeprefix("http://").split(":")
        head = f"POST {REPOSITORY} HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Type: {HEADERS['Content-Type']}\r\nContent-Length: {len(content)}\r\n\r\n"
        with closing(socket.create_connection((host, int(port)), 20)) as leaves:
            leaves.sendall(head.encode() + content[: len(content) // 2])
        for _ in range(500):
            if archive.trail("ITI-41"):
                break
            time.sleep(0.02)
        (event,) = archive.trail("ITI-41")
        assert (event.outcome, event.why) == ("4", "the connection was closed before the end of the message")
        assert "urn:oid:1.2.3.4.5.1" in str(event.body["entity"])
        for _ in range(500):
            if not list(archive.node.settings.blob_folder.rglob("*.part")):
                break
            time.sleep(0.02)
        assert not list(archive.node.settings.blob_folder.rglob("*.part"))
        assert documents(archive) == before
        answer = httpx2.post(url + REPOSITORY, content=content, headers=HEADERS, timeout=60)
        assert SUCCESS.encode() in answer.content
    assert documents(archive) == before + 1


def test_what_was_transcoded_for_who_goes_away_does_not_stay(archive: Archive) -> None:
    files = [instance(series="2.25.1.2", pixels=1024) for _ in range(4)]
    archive.send(*files)
    body = archive.images_request([uids(file) for file in files], [RLELossless])
    message = soap.render_request(rad69.REQUEST_ACTION, body, "urn:uuid:1", "")
    with served(archive.node.settings) as (url, _):
        host, port = url.removeprefix("http://").split(":")
        head = f"POST {SOURCE} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/soap+xml\r\nContent-Length: {len(message)}\r\n\r\n"
        with closing(socket.create_connection((host, int(port)), 20)) as leaves:
            leaves.sendall(head.encode() + message)
            leaves.settimeout(120)
            assert leaves.recv(12) == b"HTTP/1.1 200"
            assert list(archive.node.settings.blob_folder.rglob("*.part"))
        for _ in range(500):
            if not list(archive.node.settings.blob_folder.rglob("*.part")):
                break
            time.sleep(0.02)
        assert not list(archive.node.settings.blob_folder.rglob("*.part"))

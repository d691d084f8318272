"""SOAP calls to partners, over real sockets: our own server, and partners that answer wrongly."""

import hashlib
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from lxml.etree import _Element
from peers import imageshare
from peers.soap_server import served
from peers.xds import REGISTRY, SOURCE, Archive, cx, instance, uids

from ihe import iti18, rad69, soap
from ihe.find_documents import FindDocuments
from ihe.soap import SoapFault
from server.errors import Unavailable
from server.outbound.soap import SoapClient
from server.settings import load

pytestmark = pytest.mark.timeout(120)
EXPLICIT = "1.2.840.10008.1.2.1"


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Archive]:
    with imageshare.node(tmp_path_factory.mktemp("archive") / "data") as node:
        yield Archive(node)


@pytest.fixture(scope="module")
def partner(archive: Archive) -> Iterator[str]:
    archive.send(instance(pixels=2048))
    with served(archive.node.settings) as (url, _):
        yield url


def test_a_registry_answers(archive: Archive, partner: str) -> None:
    with SoapClient(archive.node.settings, partner + REGISTRY) as client:
        for _ in range(2):
            query = iti18.request(FindDocuments(cx(archive)).query())
            answer = client.call(iti18.REQUEST_ACTION, query, expect=iti18.RESPONSE_ACTION)
            assert answer.get("status", "").endswith(":Success")


def test_images_come_as_they_are_stored(archive: Archive, partner: str) -> None:
    (file,) = archive.sent.values()
    with SoapClient(archive.node.settings, partner + SOURCE) as client:
        with client.retrieve(rad69.REQUEST_ACTION, _request(archive, file), expect=rad69.RESPONSE_ACTION) as reply:
            (told,) = rad69.parse_response(reply.body).documents
            parts = {part.content_id: hashlib.sha256(b"".join(part.chunks)).hexdigest() for part in reply.parts}
        assert parts == {told.content_id: hashlib.sha256(file).hexdigest()}
        # What is left unread of one answer does not stand in the way of the next.
        with client.retrieve(rad69.REQUEST_ACTION, _request(archive, file), expect=rad69.RESPONSE_ACTION) as reply:
            assert next(iter(reply.parts)).content_type == "application/dicom"
        with client.retrieve(rad69.REQUEST_ACTION, _request(archive, file), expect=rad69.RESPONSE_ACTION) as reply:
            assert [sum(map(len, part.chunks)) for part in reply.parts] == [len(file)]


def test_a_fault_is_raised(archive: Archive, partner: str) -> None:
    with SoapClient(archive.node.settings, partner + REGISTRY) as client:
        query = iti18.request(FindDocuments(cx(archive)).query())
        with pytest.raises(SoapFault) as fault:
            client.call("urn:what:is:this", query, expect=iti18.RESPONSE_ACTION)
        assert fault.value.subcode == "ActionNotSupported"


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 3\r\n\r\nno!", "HTTP 404 and no SOAP"),
        (b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n", "HTTP 302 and no SOAP"),
        (b"", "the connection ended before the answer"),
        (b"HTTP/1.1 200 OK\r\nContent-Type: application/soap+xml\r\nContent-Length: 900\r\n\r\n<a", "broke|ended|no HTTP"),
        (b"SSH-2.0-OpenSSH\r\n\r\n", "no HTTP server|the connection ended"),
        ("related", "relates|another message"),
        ("action", "Action"),
        ("parts", "cannot be read"),
    ],
)
def test_what_is_no_answer_is_told(tmp_path: Path, answer: bytes | str, told: str) -> None:
    made = answer if isinstance(answer, bytes) else _answer(answer)
    with _partner(lambda: made) as url, SoapClient(load(data=tmp_path), url, seconds=5) as client:
        with pytest.raises(Unavailable, match=told):
            with client.retrieve(iti18.REQUEST_ACTION, _query(), expect=iti18.RESPONSE_ACTION) as reply:
                for part in reply.parts:
                    assert sum(map(len, part.chunks))


def test_nobody_is_there(tmp_path: Path, free_port: int) -> None:
    with SoapClient(load(data=tmp_path), f"http://127.0.0.1:{free_port}/xds", seconds=5) as client:
        with pytest.raises(Unavailable, match="no answer at this address"):
            client.call(iti18.REQUEST_ACTION, _query(), expect=iti18.RESPONSE_ACTION)


def _query() -> _Element:
    return iti18.request(FindDocuments("1^^^&1.2.3&ISO").query())


def _request(archive: Archive, file: bytes) -> _Element:
    return archive.images_request([uids(file)], [EXPLICIT])


def _answer(what: str) -> bytes:
    action = "urn:another" if what == "action" else iti18.RESPONSE_ACTION
    body = soap.render(action, "urn:uuid:of-another" if what == "related" else "", _query(), "urn:uuid:1")
    kind = soap.content_type(action)
    if what == "parts":
        kind = 'multipart/related; boundary=b; type="application/xop+xml"; start="<r>"; start-info="application/soap+xml"'
        root = b"--b\r\nContent-Type: application/xop+xml\r\nContent-ID: <r>\r\n\r\n" + body
        body = root + b"\r\n--b\r\nContent-Type: text/plain\r\nContent-ID: <1>\r\n\r\nthe answer ends he"
    return f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


@contextmanager
def _partner(answer: Callable[[], bytes]) -> Iterator[str]:
    """A partner that reads a request and sends these bytes, then ends the connection."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            connection, _ = listening.accept()
            with connection:
                got = b""
                while b"Envelope>" not in got:
                    got += connection.recv(65_536)
                connection.sendall(answer())
                connection.shutdown(socket.SHUT_WR)
                while connection.recv(65_536):
                    pass

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/xds"
        thread.join(20)

"""STOW-RS as client, against our own DICOMweb edge and against servers that answer badly."""

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from email import message_from_bytes
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import httpx2
import pytest
import uvicorn
from peers.imageshare import node
from peers.scanner import after_head, instances, stored_bytes

from server.app import create_app
from server.edges.context import Node
from server.outbound import stow

ON_BOTH_ENGINES = True


def _files(folder: Path, count: int = 3) -> list[Path]:
    made = []
    for number, dataset in enumerate(instances(count)):
        made.append(folder / f"{number}.dcm")
        dataset.save_as(made[-1], enforce_file_format=True)
    return made


@contextmanager
def web(opened: Node) -> Iterator[str]:
    server = uvicorn.Server(uvicorn.Config(create_app(opened), port=0, log_level="critical", lifespan="off"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        waiting = threading.Event()
        while not server.started:
            waiting.wait(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}/dicomweb"
    finally:
        server.should_exit = True
        thread.join()


def _token(opened: Node) -> str:
    return opened.tokens.issue(client="test", scope="system/*.cruds")


def test_files_arrive_byte_for_byte_in_several_requests(tmp_path: Path) -> None:
    made = _files(tmp_path, 5)
    with node(tmp_path / "data") as opened, web(opened) as url:
        results = list(stow.send(made, url, token=_token(opened), batch_files=2))
        assert [(each.path, each.ok, each.size) for each in results] == [(path, True, path.stat().st_size) for path in made]
        for path, dataset in zip(made, instances(5), strict=True):
            assert stored_bytes(opened, dataset.SOPInstanceUID) == after_head(path.read_bytes())


def test_each_file_has_its_own_result(tmp_path: Path) -> None:
    first, second, third = _files(tmp_path)
    first.write_text("no image")
    with node(tmp_path / "data") as opened, web(opened) as url:
        assert [each.ok for each in stow.send([second, third], url, token=_token(opened))] == [True, True]
        changed = second.read_bytes().replace(b"THORAX", b"ABDOME")
        assert changed != second.read_bytes()
        second.write_bytes(changed)
        results = {each.path: each for each in stow.send([first, second, third], url, token=_token(opened))}
    assert "no preamble" in results[first].reason
    assert (results[second].ok, results[second].status) == (False, 0x0111)
    assert results[third].ok


def test_without_a_token_one_request_is_enough(tmp_path: Path) -> None:
    with node(tmp_path / "data") as opened, web(opened) as url:
        results = list(stow.send(_files(tmp_path), url, batch_files=1))
    assert {each.ok for each in results} == {False}
    assert {each.reason for each in results} == {
        "HTTP 401 Unauthorized: set IMAGESHARE_TOKEN to an access token that this server takes"
    }


def test_nobody_there(tmp_path: Path, free_port: int) -> None:
    (result,) = stow.send(_files(tmp_path, 1), f"http://127.0.0.1:{free_port}")
    assert result.reason == "there is no answer at this address"


def test_no_such_host(tmp_path: Path) -> None:
    (result,) = stow.send(_files(tmp_path, 1), "http://nobody.invalid/dicomweb", client=httpx2.Client(trust_env=False))
    assert result.reason == "there is no such host"


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (b"220 mail.example ESMTP\r\n\r\n", "what answers there is no HTTP server"),
        (b"", "the connection ended before the answer; is there a DICOMweb service at this address?"),
    ],
)
def test_what_answers_is_no_http_server(tmp_path: Path, said: bytes, reason: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def answer() -> None:
            connection, _ = listening.accept()
            with connection, connection.makefile("rb") as request:
                length = 0
                while (line := request.readline()).strip():
                    if line.lower().startswith(b"content-length:"):
                        length = int(line.partition(b":")[2])
                request.read(length)
                connection.sendall(said)

        thread = threading.Thread(target=answer)
        thread.start()
        results = list(stow.send(_files(tmp_path, 1), f"http://127.0.0.1:{listening.getsockname()[1]}"))
        thread.join()
    assert [each.reason for each in results] == [reason]


def test_https_where_there_is_none(tmp_path: Path, odd: "_OddServer") -> None:
    (result,) = stow.send(_files(tmp_path, 1), f"https://127.0.0.1:{odd.server_address[1]}")
    assert result.reason == "no TLS connection: what answers there speaks no TLS, or another version"


class _Odd(BaseHTTPRequestHandler):
    """Answers what its server says, and keeps what it was sent."""

    server: "_OddServer"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.seen.append((self.path, dict(self.headers), body))
        status, answer = self.server.answer
        self.send_response(status)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: object) -> None:
        pass


class _OddServer(HTTPServer):
    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Odd)
        self.seen: list[tuple[str, dict[str, str], bytes]] = []
        self.answer = (200, b"")


@pytest.fixture
def odd() -> Iterator[_OddServer]:
    server = _OddServer()
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize(
    ("status", "answer", "reason"),
    [
        (200, b"{}", "the answer does not name this instance"),
        (200, b"no JSON", "the answer does not name this instance"),
        (500, b"", "HTTP 500 Internal Server Error"),
        (503, b'{"00081198": {"Value": [{}]}}', "HTTP 503 Service Unavailable"),
        (507, b'{"status": 507, "detail": "no room\\nleft"}', "HTTP 507 Insufficient Storage: no room left"),
        (500, b'{"detail": [1]}', "HTTP 500 Internal Server Error"),
        (500, b"[]", "HTTP 500 Internal Server Error"),
        (403, b"", "HTTP 403 Forbidden: the access token does not allow it; set IMAGESHARE_TOKEN to one that does"),
        (404, b"", "HTTP 404 Not Found: there is no DICOMweb service at this URL"),
    ],
)
def test_answers_that_say_nothing(tmp_path: Path, odd: _OddServer, status: int, answer: bytes, reason: str) -> None:
    odd.answer = (status, answer)
    (result,) = stow.send(_files(tmp_path, 1), f"http://127.0.0.1:{odd.server_address[1]}/")
    assert (result.ok, result.reason) == (False, reason)


def _item(reason: int, comment: str = "") -> dict[str, object]:
    told: dict[str, object] = {"00081197": {"vr": "US", "Value": [reason]}}
    return {**told, "00000902": {"vr": "LO", "Value": [comment]}} if comment else told


@pytest.mark.parametrize(
    ("others", "reasons"),
    [
        ([_item(0xC000, "cut off")], ["0xC000 Cannot Understand: cut off"] * 2),
        ([_item(0xA700), _item(0xC000, "cut off")], ["0xA700 Refused: Out of Resources", "0xC000 Cannot Understand: cut off"]),
        (
            [_item(0xA700), _item(0xC000, "cut off"), _item(0xA700)],
            ["one of: 0xA700 Refused: Out of Resources; 0xC000 Cannot Understand: cut off"] * 2,
        ),
    ],
)
def test_failures_that_name_no_instance_are_told(
    tmp_path: Path, odd: _OddServer, others: list[dict[str, object]], reasons: list[str]
) -> None:
    """PS3.18 section 10.5.3.1: Other Failures Sequence (0008,119A), with the comment beside the reason."""
    uids = [dataset.SOPInstanceUID for dataset in instances(4)]
    failed = {**_item(0x0122, "not here"), "00081155": {"vr": "UI", "Value": [uids[1]]}}
    answer = {
        "00081198": {"vr": "SQ", "Value": [failed]},
        "00081199": {"vr": "SQ", "Value": [{"00081155": {"vr": "UI", "Value": [uids[0]]}}]},
        "0008119A": {"vr": "SQ", "Value": others},
    }
    odd.answer = (202, json.dumps(answer).encode())
    results = list(stow.send(_files(tmp_path, 4), f"http://127.0.0.1:{odd.server_address[1]}"))
    assert [each.ok for each in results] == [True, False, False, False]
    assert (results[1].status, results[1].reason) == (0x0122, "0x0122 Refused: SOP Class Not Supported: not here")
    assert [each.reason for each in results[2:]] == reasons


def test_the_request_is_what_the_standard_says(tmp_path: Path, odd: _OddServer) -> None:
    made = _files(tmp_path)
    list(stow.send(made, f"http://127.0.0.1:{odd.server_address[1]}/dicomweb/", token="abc"))
    ((path, headers, body),) = odd.seen
    assert path == "/dicomweb/studies"
    assert headers["Authorization"] == "Bearer abc"
    assert headers["Accept"] == "application/dicom+json"
    assert "Transfer-Encoding" not in headers
    message = message_from_bytes(b"Content-Type: " + headers["Content-Type"].encode() + b"\r\n\r\n" + body)
    assert message.get_content_type() == "multipart/related"
    assert message.get_param("type") == "application/dicom"
    parts = body.split(b"--" + str(message.get_param("boundary")).encode())
    assert parts[0] == b""
    assert parts[-1] == b"--\r\n"
    head = b"\r\nContent-Type: application/dicom\r\n\r\n"
    assert parts[1:-1] == [head + file.read_bytes() + b"\r\n" for file in made]

"""STOW-RS as client, against our own DICOMweb edge and against servers that answer badly."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from email import message_from_bytes
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import uvicorn
from peers.imageshare import node
from peers.scanner import after_head, instances, stored_bytes

from server.app import create_app
from server.edges.context import Node
from server.outbound import stow


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
    assert [(each.ok, each.reason) for each in results] == [(False, "HTTP 401 Unauthorized")] * 3


def test_nobody_there(tmp_path: Path, free_port: int) -> None:
    (result,) = stow.send(_files(tmp_path, 1), f"http://127.0.0.1:{free_port}")
    assert result.reason == "the request failed: ConnectError"


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
    ],
)
def test_answers_that_say_nothing(tmp_path: Path, odd: _OddServer, status: int, answer: bytes, reason: str) -> None:
    odd.answer = (status, answer)
    (result,) = stow.send(_files(tmp_path, 1), f"http://127.0.0.1:{odd.server_address[1]}/")
    assert (result.ok, result.reason) == (False, reason)


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

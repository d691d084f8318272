"""Requests that ask for another protocol, over real sockets: they are answered as if they did not."""

import socket
import threading
import time
from collections.abc import Iterator
from http.client import HTTPResponse

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from server.http_upgrades import IgnoringUpgrades

H2C = (
    "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAAEAAAAIAAAAAAAMAAAAAAAQBAAAAAAUAAEAAAAYABgAA\r\n"
)


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """A server that gives back what it was sent."""

    async def echo(request: Request) -> Response:
        return Response(request.method.encode() + b" " + await request.body())

    app = Starlette(routes=[Route("/echo", echo, methods=["GET", "POST"])])
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="off", http=IgnoringUpgrades))
    listening = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield listening.getsockname()[1]
    server.should_exit = True
    thread.join()


@pytest.fixture
def connection(port: int) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", port), 20) as opened:
        yield opened


def head(body: bytes | None, upgrade: str = H2C) -> bytes:
    framing = "" if body is None else f"Content-Length: {len(body)}\r\n"
    return f"{'GET' if body is None else 'POST'} /echo HTTP/1.1\r\nHost: here\r\n{upgrade}{framing}\r\n".encode()


def answer(connection: socket.socket) -> bytes:
    with HTTPResponse(connection) as response:
        response.begin()
        assert response.status == 200
        return response.read()


BODY = b"GET /echo HTTP/1.1\r\nUpgrade: h2c\r\n\r\n" * 10_000
"""Looks like requests, and is longer than one piece of what is received."""


@pytest.mark.parametrize("cut", [0, 1, 60, -1, -2])
def test_the_body_is_that_of_the_request(connection: socket.socket, cut: int) -> None:
    """However the bytes come, and with other requests before and after it on the connection."""
    for upgrade in (H2C, "", H2C):
        whole = head(BODY, upgrade) + BODY
        at = cut if cut > 0 else len(head(BODY, upgrade)) - cut - 1
        connection.sendall(whole[:at])
        time.sleep(0.02)
        connection.sendall(whole[at:])
        assert answer(connection) == b"POST " + BODY


def test_a_chunked_body(connection: socket.socket) -> None:
    request = head(None).replace(b"GET", b"POST")[:-2] + b"Transfer-Encoding: chunked\r\n\r\n"
    connection.sendall(request + b"3\r\nabc\r\n4\r\ndefg\r\n0\r\n\r\n")
    assert answer(connection) == b"POST abcdefg"


def test_requests_without_a_body_one_after_the_other(connection: socket.socket) -> None:
    """More of them in one piece than Python's calls may be deep."""
    count = 1500
    connection.sendall(b"GET / HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n" * count)
    found = b""
    while found.count(b"HTTP/1.1 404") < count:
        got = connection.recv(65536)
        assert got
        found += got


def test_what_is_no_http_is_refused(connection: socket.socket) -> None:
    connection.sendall(head(b"abc") + b"abc" + b"what is this\r\n\r\n")
    found = b""
    while got := connection.recv(65536):
        found += got
    assert b"400 Bad Request" in found

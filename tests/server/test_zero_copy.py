"""Bodies that the kernel sends from file to socket, over real sockets: whole, in order, and without leaving a file open."""

import fcntl
import logging
import os
import socket
import ssl
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import uvicorn
from peers.authority import Authority
from peers.vanishing import cable
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from server.edges.bodies import Piece, PiecesResponse, read
from server.store.blobs import FolderBlobs, batch
from server.zero_copy import ZeroCopyProtocol

SIZE = 3_000_000


@pytest.fixture
def blobs(tmp_path: Path) -> FolderBlobs:
    return FolderBlobs(tmp_path / "blobs")


@pytest.fixture
def sendfiles(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many bytes each sendfile took."""
    taken: list[int] = []
    real = os.sendfile

    def counting(out: int, in_: int, offset: int, count: int) -> int:
        taken.append(real(out, in_, offset, count))
        return taken[-1]

    monkeypatch.setattr(os, "sendfile", counting)
    return taken


def stored(blobs: FolderBlobs, content: bytes) -> str:
    writer = blobs.create(batch())
    writer.write(content)
    return writer.commit().id


@contextmanager
def serving(
    pieces: Callable[[], Iterator[Piece]], length: int, *, also: tuple[socket.socket, ...] = (), **settings: object
) -> Iterator[int]:
    def answer(_: Request) -> Response:
        return PiecesResponse(pieces(), {"Content-Length": str(length)})

    app = Starlette(routes=[Route("/", answer, methods=["GET", "POST"]), Route("/short", lambda _: Response(b"short"))])
    config = uvicorn.Config(app, port=0, log_config=None, lifespan="off", http=ZeroCopyProtocol, **settings)  # type: ignore[arg-type]
    server = uvicorn.Server(config)
    listening = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening, *also]})
    thread.start()
    try:
        while not server.started:
            time.sleep(0.01)
        yield listening.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join()


def ask(connection: socket.socket, path: str = "/", *, slowly: bool = False) -> bytes:
    """The body of the answer over a connection that is kept."""
    connection.sendall(f"GET {path} HTTP/1.1\r\nHost: here\r\n\r\n".encode())
    data = b""
    while b"\r\n\r\n" not in data:
        data += connection.recv(1)
    head, _, body = data.partition(b"\r\n\r\n")
    length = next(int(line.split(b":")[1]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length"))
    parts = [body]
    while sum(map(len, parts)) < length:
        if slowly and len(parts) % 16 == 0:
            time.sleep(0.05)  # more than a thread waits for
        got = connection.recv(65536)
        if not got:
            raise EOFError
        parts.append(got)
    return b"".join(parts)


def open_blobs(blobs: FolderBlobs) -> int:
    found = 0
    for link in Path("/proc/self/fd").iterdir():
        try:
            found += str(blobs.root) in str(link.readlink())
        except OSError:
            continue
    return found


def settled(condition: Callable[[], bool]) -> bool:
    ends = time.monotonic() + 30
    while not condition() and time.monotonic() < ends:
        time.sleep(0.02)
    return condition()


def is_full(connection: socket.socket) -> bool:
    """Whether nothing more arrives where nothing is read: the sender waits for room."""
    before = arrived(connection)
    time.sleep(0.5)
    return 0 < before == arrived(connection)


def arrived(connection: socket.socket) -> int:
    """Bytes that wait to be read."""
    return int.from_bytes(fcntl.ioctl(connection, termios.FIONREAD, bytes(4)), sys.byteorder)


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
@pytest.mark.parametrize("slowly", [False, True])
def test_extents_and_bytes_arrive_whole_and_in_order(blobs: FolderBlobs, sendfiles: list[int], loop: str, slowly: bool) -> None:
    content = os.urandom(SIZE)
    name = stored(blobs, content)

    def pieces() -> Iterator[Piece]:
        yield b"head"
        yield from blobs.extent(name)
        yield b""
        yield b"between"
        yield from blobs.extent(name, 1000, 70_000)
        yield b"tail"

    expected = b"".join((b"head", content, b"between", content[1000:71_000], b"tail"))
    with (
        serving(pieces, len(expected), loop=loop) as port,
        socket.create_connection(("127.0.0.1", port), 30) as connection,
    ):
        assert ask(connection, slowly=slowly) == expected
        assert ask(connection, "/short") == b"short"
        assert ask(connection) == expected
    assert sum(sendfiles) == 2 * (SIZE + 70_000)
    assert open_blobs(blobs) == 0


def test_requests_one_behind_the_other_are_answered_in_order(blobs: FolderBlobs) -> None:
    name = stored(blobs, b"x" * SIZE)
    with (
        serving(lambda: blobs.extent(name), SIZE) as port,
        socket.create_connection(("127.0.0.1", port), 30) as connection,
    ):
        connection.sendall(b"GET / HTTP/1.1\r\nHost: here\r\n\r\nGET /short HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n")
        everything = b""
        while got := connection.recv(1 << 20):
            everything += got
    assert everything.count(b"x" * SIZE) == 1
    assert everything.endswith(b"\r\n\r\nshort")
    assert everything.index(b"x" * SIZE) < everything.index(b"short")


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_a_client_that_leaves_lets_go_of_the_file(blobs: FolderBlobs, loop: str) -> None:
    name = stored(blobs, bytes(SIZE))

    def pieces() -> Iterator[Piece]:
        for _ in range(10):
            yield from blobs.extent(name)

    with serving(pieces, 10 * SIZE, loop=loop) as port:
        for read_first in (0, 100_000):
            with socket.create_connection(("127.0.0.1", port), 30) as connection:
                connection.sendall(b"GET / HTTP/1.1\r\nHost: here\r\n\r\n")
                while read_first > 0:
                    read_first -= len(connection.recv(65536))
                assert settled(lambda: open_blobs(blobs) == 1)
            assert settled(lambda: open_blobs(blobs) == 0)
        with socket.create_connection(("127.0.0.1", port), 30) as connection:
            assert ask(connection, "/short") == b"short"


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_a_client_that_says_it_leaves_and_takes_nothing_lets_go_of_the_file(blobs: FolderBlobs, loop: str) -> None:
    """It half closes the connection (RFC 9293 section 3.6), which a body that waits for room learns of by looking."""
    name = stored(blobs, bytes(SIZE))

    def pieces() -> Iterator[Piece]:
        for _ in range(10):
            yield from blobs.extent(name)

    with serving(pieces, 10 * SIZE, loop=loop) as port, socket.create_connection(("127.0.0.1", port), 30) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: here\r\n\r\n")
        assert settled(lambda: open_blobs(blobs) == 1)
        assert settled(lambda: is_full(connection))
        connection.shutdown(socket.SHUT_WR)
        assert settled(lambda: open_blobs(blobs) == 0)
        with socket.create_connection(("127.0.0.1", port), 30) as another:
            assert ask(another, "/short") == b"short"


def test_a_client_whose_network_goes_lets_go_of_the_file(blobs: FolderBlobs, caplog: pytest.LogCaptureFixture) -> None:
    """Its request has more than is held of what nobody reads, so that nothing but the sending meets the error (EHOSTUNREACH)."""
    name = stored(blobs, bytes(SIZE))

    def pieces() -> Iterator[Piece]:
        for _ in range(1000):
            yield from blobs.extent(name)

    with cable() as there, serving(pieces, 1000 * SIZE, also=(there.listening,)) as port:
        there.come()
        assert settled(lambda: open_blobs(blobs) == 1)
        there.pull()
        assert settled(lambda: open_blobs(blobs) == 0)
        with socket.create_connection(("127.0.0.1", port), 30) as connection:
            assert ask(connection, "/short") == b"short"
    assert [each.getMessage() for each in caplog.records if each.levelno >= logging.ERROR] == []


def test_a_body_that_turns_out_short_ends_the_connection(blobs: FolderBlobs) -> None:
    name = stored(blobs, bytes(SIZE))
    with (
        serving(lambda: blobs.extent(name), SIZE + 1) as port,
        socket.create_connection(("127.0.0.1", port), 30) as connection,
        pytest.raises((EOFError, ConnectionError)),
    ):
        ask(connection)
    assert open_blobs(blobs) == 0


def test_tls_sees_the_bytes(blobs: FolderBlobs, sendfiles: list[int], tmp_path: Path) -> None:
    content = os.urandom(SIZE)
    name = stored(blobs, content)
    authority = Authority(tmp_path / "authority")
    certificate, key = authority.issue("here")
    trusting = ssl.create_default_context(cafile=str(authority.path))
    with (
        serving(lambda: blobs.extent(name), SIZE, ssl_certfile=str(certificate), ssl_keyfile=str(key)) as port,
        socket.create_connection(("127.0.0.1", port), 30) as plain,
        trusting.wrap_socket(plain, server_hostname="127.0.0.1") as connection,
    ):
        assert ask(connection) == content
    assert not sendfiles
    assert open_blobs(blobs) == 0


def test_what_is_read_instead_is_the_same(blobs: FolderBlobs) -> None:
    name = stored(blobs, b"0123456789" * 100_000)

    def pieces() -> Iterator[Piece]:
        yield b"head"
        yield from blobs.extent(name, 5, 600_000)

    assert b"".join(read(pieces())) == b"head" + (b"0123456789" * 100_000)[5:600_005]

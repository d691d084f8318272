"""A load generator thin enough not to be what is measured: HTTP/1.1 over plain sockets, one thread per connection."""

import math
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from urllib.parse import urlsplit

_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked; its body, if any, is sent at once."""

    method: str
    path: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


class Connection:
    """One keep-alive connection. `send`, `get` and `post` return (status, bytes of body received); bodies are thrown away."""

    def __init__(self, base: str, headers: dict[str, str]) -> None:
        parts = urlsplit(base)
        self._host = parts.netloc
        self._socket = socket.create_connection((parts.hostname or "127.0.0.1", parts.port or 80), 120)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._headers = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        self._buffer = bytearray(_CHUNK)

    def send(self, request: Request) -> tuple[int, int]:
        more = "".join(f"{name}: {value}\r\n" for name, value in request.headers.items())
        if request.body or request.method in ("POST", "PUT", "PATCH"):
            more += f"Content-Length: {len(request.body)}\r\n"
        head = f"{request.method} {request.path} HTTP/1.1\r\nHost: {self._host}\r\n{self._headers}{more}\r\n"
        self._socket.sendall(head.encode() + request.body)
        return self._answer()

    def get(self, path: str, accept: str = "*/*") -> tuple[int, int]:
        return self.send(Request("GET", path, {"Accept": accept}))

    def fetch(self, path: str, accept: str = "*/*") -> tuple[int, bytes]:
        """The same, with the body kept; closes the connection."""
        self._socket.sendall(
            f"GET {path} HTTP/1.1\r\nHost: {self._host}\r\nAccept: {accept}\r\n{self._headers}Connection: close\r\n\r\n".encode()
        )
        whole = bytearray()
        while got := self._socket.recv(_CHUNK):
            whole += got
        head, _, body = bytes(whole).partition(b"\r\n\r\n")
        return int(head.split()[1]), body

    def post(self, path: str, content_type: str, length: int, body: Iterator[bytes], accept: str = "*/*") -> tuple[int, int]:
        self._socket.sendall(
            f"POST {path} HTTP/1.1\r\nHost: {self._host}\r\nContent-Type: {content_type}\r\nContent-Length: {length}\r\n"
            f"Accept: {accept}\r\n{self._headers}\r\n".encode()
        )
        for chunk in body:
            self._socket.sendall(chunk)
        return self._answer()

    def close(self) -> None:
        self._socket.close()

    def _answer(self) -> tuple[int, int]:
        head = bytearray()
        while (end := head.find(b"\r\n\r\n")) < 0:
            got = self._socket.recv(65536)
            if not got:
                raise ConnectionError("the server closed the connection")
            head += got
        lines = bytes(head[:end]).split(b"\r\n")
        status = int(lines[0].split()[1])
        fields = {name.strip().lower(): value.strip() for name, _, value in (line.partition(b":") for line in lines[1:])}
        rest = bytes(head[end + 4 :])
        if status in (204, 304):
            return status, 0
        if b"content-length" in fields:
            return status, self._counted(int(fields[b"content-length"]), len(rest))
        if fields.get(b"transfer-encoding", b"").lower() == b"chunked":
            return status, self._chunked(rest)
        return status, self._until_closed(len(rest))

    def _counted(self, length: int, have: int) -> int:
        while have < length:
            got = self._socket.recv_into(self._buffer)
            if not got:
                raise ConnectionError("the answer is cut off")
            have += got
        return length

    def _until_closed(self, have: int) -> int:
        while got := self._socket.recv_into(self._buffer):
            have += got
        return have

    def _chunked(self, rest: bytes) -> int:
        data = bytearray(rest)
        total = 0
        while True:
            while (line := data.find(b"\r\n")) < 0:
                data += self._received()
            size = int(bytes(data[:line]).split(b";")[0], 16)
            need = line + 2 + size + 2
            missing = need - len(data)
            while missing > 0:
                got = self._received()
                missing -= len(got)
                data += got
            del data[:need]
            total += size
            if size == 0:
                return total

    def _received(self) -> bytes:
        got = self._socket.recv(_CHUNK)
        if not got:
            raise ConnectionError("the answer is cut off")
        return got


@dataclass
class Load:
    """Latencies in seconds of every request of a run, and how long the run took."""

    latencies: list[float] = field(default_factory=list)
    elapsed: float = 0.0
    failed: int = 0
    refused: int = 0
    """The status of one of those that failed; 0 where the connection did."""
    bytes: int = 0
    """Of the longest answer."""
    client_seconds: float = 0.0
    """Of CPU that its threads took: the load generator shares the machine with what it measures."""

    @property
    def rate(self) -> float:
        return len(self.latencies) / self.elapsed if self.elapsed else 0.0

    def percentile(self, part: float) -> float:
        """In milliseconds."""
        ordered = sorted(self.latencies)
        return 1000 * ordered[min(len(ordered) - 1, int(part * len(ordered)))] if ordered else 0.0


def run(
    base: str,
    headers: dict[str, str],
    path: Callable[[int], str],
    *,
    connections: int,
    seconds: float,
    accept: str = "*/*",
    least: int = 0,
) -> Load:
    """Asks `path(n)` over and over on each of `connections` for `seconds`. An answer of less than `least` bytes has failed."""

    def request(turn: int) -> Request:
        return Request("GET", path(turn), {"Accept": accept})

    return drive(base, headers, request, connections=connections, seconds=seconds, least=least)


def drive(
    base: str,
    headers: dict[str, str],
    request: Callable[[int], Request],
    *,
    connections: int,
    seconds: float,
    least: int = 0,
    most: float = math.inf,
) -> Load:
    """`run` with requests of every kind; an answer of more than `most` bytes has failed too. What `request` takes to make one is no part of its latency. No two connections ask the same turn.

    Each asks once at least, however late it comes to it.
    """
    load, lock, began = Load(), threading.Lock(), time.perf_counter()

    def client(number: int) -> None:
        mine: list[float] = []
        failed = refused = 0
        turn = number
        try:
            with closing(Connection(base, headers)) as connection:
                while not mine or time.perf_counter() - began < seconds:
                    asked = request(turn)
                    start = time.perf_counter()
                    status, size = connection.send(asked)
                    mine.append(time.perf_counter() - start)
                    if status >= 400 or not least <= size <= most:
                        failed, refused = failed + 1, status
                    load.bytes = max(load.bytes, size)
                    turn += connections
        except OSError:
            failed += 1
        with lock:
            load.latencies += mine
            load.failed += failed
            load.refused = refused or load.refused
            load.client_seconds += time.thread_time()

    threads = [threading.Thread(target=client, args=(number,)) for number in range(connections)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    load.elapsed = time.perf_counter() - began
    return load

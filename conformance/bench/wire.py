"""A load generator thin enough not to be what is measured: HTTP/1.1 over plain sockets, one thread per connection."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from urllib.parse import urlsplit

_CHUNK = 1 << 20


class Connection:
    """One keep-alive connection. `get` and `post` return (status, bytes of body received); bodies are thrown away."""

    def __init__(self, base: str, headers: dict[str, str]) -> None:
        parts = urlsplit(base)
        self._host = parts.netloc
        self._socket = socket.create_connection((parts.hostname or "127.0.0.1", parts.port or 80), 120)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._headers = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        self._buffer = bytearray(_CHUNK)

    def get(self, path: str, accept: str = "*/*") -> tuple[int, int]:
        self._socket.sendall(f"GET {path} HTTP/1.1\r\nHost: {self._host}\r\nAccept: {accept}\r\n{self._headers}\r\n".encode())
        return self._answer()

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
        if b"content-length" in fields:
            return status, self._counted(int(fields[b"content-length"]), len(rest))
        if fields.get(b"transfer-encoding", b"").lower() == b"chunked":
            return status, self._chunked(rest)
        return status, 0 if status in (204, 304) else self._until_closed(len(rest))

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
    bytes: int = 0
    """Of the longest answer."""

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
    load, lock, began = Load(), threading.Lock(), time.perf_counter()

    def client(number: int) -> None:
        mine, failed = [], 0
        connection = Connection(base, headers)
        turn = number
        while time.perf_counter() - began < seconds:
            start = time.perf_counter()
            status, size = connection.get(path(turn), accept)
            mine.append(time.perf_counter() - start)
            failed += status >= 400 or size < least
            load.bytes = max(load.bytes, size)
            turn += connections
        connection.close()
        with lock:
            load.latencies += mine
            load.failed += failed

    threads = [threading.Thread(target=client, args=(number,)) for number in range(connections)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    load.elapsed = time.perf_counter() - began
    return load

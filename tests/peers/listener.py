"""A listener on loopback that answers as it is told, or only counts who comes: the canary of tests of what must not be called."""

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

Answer = Callable[[socket.socket], None]
"""Writes to a connection whose request has been read up to the end of its headers."""
_LONGEST: Final = 1 << 16


@dataclass
class Listener:
    """`requests` are what came, `names` the server names that TLS asked for; `connections` counts whoever connected."""

    host: str
    port: int
    connections: int = 0
    requests: list[bytes] = field(default_factory=list)
    names: list[str | None] = field(default_factory=list)


def answer(body: bytes = b"{}", *headers: str, status: str = "200 OK") -> Answer:
    """A plain HTTP answer."""
    head = "\r\n".join([f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers, "", ""]).encode()
    return lambda connection: connection.sendall(head + body)


@contextmanager
def listening(
    respond: Answer | None = None, *, certificate: tuple[Path, Path] | None = None, host: str = "127.0.0.1"
) -> Iterator[Listener]:
    """A listener on a free port. Without `respond` it closes every connection at once."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, 0), family=family) as server:
        listener = Listener(host, server.getsockname()[1])
        threading.Thread(target=_serve, args=(server, listener, respond, _tls(listener, certificate)), daemon=True).start()
        yield listener
        server.shutdown(socket.SHUT_RDWR)  # wakes the thread, which a close does not


def _tls(listener: Listener, certificate: tuple[Path, Path] | None) -> ssl.SSLContext | None:
    if certificate is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    context.sni_callback = lambda _, name, __: listener.names.append(name)
    return context


def _serve(server: socket.socket, listener: Listener, respond: Answer | None, tls: ssl.SSLContext | None) -> None:
    while True:
        try:
            connection, _ = server.accept()
        except OSError:
            return
        listener.connections += 1
        threading.Thread(target=_answer, args=(connection, listener, respond, tls), daemon=True).start()


def _answer(connection: socket.socket, listener: Listener, respond: Answer | None, tls: ssl.SSLContext | None) -> None:
    with suppress(OSError), connection:
        if respond is None:
            return
        with tls.wrap_socket(connection, server_side=True) if tls else connection as channel:
            received = b""
            while b"\r\n\r\n" not in received and len(received) < _LONGEST and (piece := channel.recv(4096)):
                received += piece
            listener.requests.append(received)
            respond(channel)

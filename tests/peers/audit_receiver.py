"""An audit repository of a test: syslog over TLS (RFC 5425) into a file, as a process that can be killed. Standard library and our framing alone."""

import os
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ihe import syslog

_SEPARATOR = b"\n\0\n"


class Receiver:
    """`messages` are those that it has stored, in the order in which they came. Started again, it goes on in the same file."""

    def __init__(self, folder: Path, certificate: tuple[Path, Path], authority: Path, port: int, *, orderly: bool = True) -> None:
        self._file = folder / "received"
        self._arguments = [
            str(port),
            str(certificate[0]),
            str(certificate[1]),
            str(authority),
            str(self._file),
            "1" if orderly else "0",
        ]
        self._port = port
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._process = subprocess.Popen([sys.executable, __file__, *self._arguments], stdin=subprocess.DEVNULL)
        until = time.monotonic() + 20
        while time.monotonic() < until:
            with suppress(OSError), socket.create_connection(("127.0.0.1", self._port), 1):
                return
            time.sleep(0.02)
        raise RuntimeError("the receiver did not start")

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    @property
    def messages(self) -> list[bytes]:
        return self._file.read_bytes().split(_SEPARATOR)[:-1] if self._file.exists() else []

    def wait(self, count: int, seconds: float = 30) -> list[bytes]:
        until = time.monotonic() + seconds
        while len(self.messages) < count and time.monotonic() < until:
            time.sleep(0.05)
        return self.messages


@contextmanager
def receiving(receiver: Receiver) -> Iterator[Receiver]:
    receiver.start()
    try:
        yield receiver
    finally:
        receiver.kill()


def _serve(port: int, certificate: str, key: str, authority: str, file: str, orderly: bool) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    context.load_verify_locations(authority)
    context.verify_mode = ssl.CERT_REQUIRED
    descriptor = os.open(file, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    with socket.create_server(("127.0.0.1", port)) as server:
        while True:
            connection, _ = server.accept()
            with suppress(OSError), connection, context.wrap_socket(connection, server_side=True) as channel:
                rest = b""
                while piece := channel.recv(1000):
                    found, rest = syslog.frames(rest + piece)
                    for message in found:
                        os.write(descriptor, message + _SEPARATOR)
                if orderly:
                    channel.unwrap()


if __name__ == "__main__":
    _port, _certificate, _key, _authority, _file, _orderly = sys.argv[1:]
    _serve(int(_port), _certificate, _key, _authority, _file, _orderly == "1")

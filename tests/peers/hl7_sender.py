"""Senders of HL7 v2 messages over MLLP as tests have them: sockets, and messages by hand."""

import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ihe import hl7v2
from ihe.hl7v2 import Message
from ihe.mllp import Blocks, framed
from server.edges.context import Node
from server.edges.mllp import MllpPort

SHARED = Path(__file__).resolve().parents[2] / ".." / "shared" / "testdata"
DOMAIN = "1.3.6.1.4.1.21367.2005.13.20.1000"


def adt(event: str, *segments: str, control: str = "1", version: str = "2.3.1", header: str = "") -> bytes:
    """A message, its segments given as text; `header` is what follows MSH-12."""
    head = f"MSH|^~\\&|APP|FACILITY|US|HERE|20260101120000||ADT^{event}|{control}|P|{version}{header}"
    return "\r".join([head, f"EVN|{event}|20260101120000", *segments, ""]).encode()


def pid(
    value: str, name: str = "Doe^Jane", born: str = "19800102", sex: str = "F", *, domain: str = DOMAIN, more: str = ""
) -> str:
    return f"PID|||{value}^^^&{domain}&ISO||{name}||{born}|{sex}{more}"


def mrg(value: str, domain: str = DOMAIN) -> str:
    return f"MRG|{value}^^^&{domain}&ISO"


class Sender:
    """One connection."""

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        self.socket.settimeout(30)
        self._blocks = Blocks(1 << 20)
        self._waiting: list[bytes] = []

    def send(self, message: bytes) -> Message:
        """The answer to one message."""
        self.socket.sendall(framed(message))
        return self.answer()

    def answer(self) -> Message:
        """The next answer. Raises EOFError where the other side closes instead."""
        while not self._waiting:
            if not (data := self.socket.recv(7)):
                raise EOFError
            self._waiting += [each.content for each in self._blocks.receive(data)]
        return hl7v2.read(self._waiting.pop(0))


def code(answer: Message) -> str:
    """MSA-1."""
    (msa,) = answer.named("MSA")
    return msa.text(1)


@contextmanager
def feeding(opened: Node) -> Iterator[MllpPort]:
    """The node's MLLP port, open."""
    port = MllpPort(opened)
    port.start()
    try:
        yield port
    finally:
        port.stop()


@contextmanager
def sending(address: tuple[str, int], context: ssl.SSLContext | None = None) -> Iterator[Sender]:
    """A connection to a port, closed afterwards."""
    with socket.create_connection(address, timeout=30) as plain:
        connection: Any = context.wrap_socket(plain, server_hostname=address[0]) if context is not None else plain
        with connection:
            yield Sender(connection)

"""Another community's Document Registry and Repository: our own parts over another database, on a real socket, which may go wrong."""

import socket
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvicorn
from lxml.etree import _Element
from peers import imageshare
from peers.xds import REGISTRY, REPOSITORY, SHARED, Archive, check_schema
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ihe import ebrs, mtom, soap
from ihe.ebrs import RegistryError
from ihe.soap import SoapFault
from profiles.identifiers import PatientIdentifier
from profiles.study import Patient
from server.records import patients

LOST, HANGS, SENDER, RECEIVER = "lost", "hangs", "Sender", "Receiver"
"""Faults: the message is taken, and its answer never comes, or only when the caller has gone; or there is a SOAP fault with this code."""
Fault = str | tuple[str, ...]
"""One of these, or codes that a message is answered with, by errors that name no patient."""

_ID = "urn:uuid:0a0a0a0a-0000-4000-8000-000000000002"


@dataclass
class Partner:
    """`faults` are those of the next messages, in order. `heard` are the payloads that came, each right by its schema."""

    archive: Archive
    url: str = ""
    faults: "deque[Fault]" = field(default_factory=deque)
    heard: list[_Element] = field(default_factory=list)
    hanging: threading.Event = field(default_factory=threading.Event)

    @property
    def repository(self) -> str:
        return self.url + REPOSITORY

    @property
    def registry(self) -> str:
        return self.url + REGISTRY

    def knows(self, cx: str) -> None:
        """The patient is registered there."""
        with self.archive.node.database.write() as connection:
            patients.made(connection, Patient(PatientIdentifier.from_cx(cx)))

    async def app(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Our edge behind what goes wrong."""
        if scope["type"] != "http":
            return
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        action = self._hear(headers["content-type"], body)
        fault = self.faults.popleft() if self.faults else ()
        if isinstance(fault, tuple) and fault:
            await _answer(_failure(action, fault), send)
            return
        if fault in (SENDER, RECEIVER):
            await _answer(soap.render_fault(SoapFault(str(fault), "of the partner"), "", _ID), send, 500)
            return
        arrived = iter([{"type": "http.request", "body": body, "more_body": False}])

        async def again() -> Message:
            return next(arrived, None) or await receive()

        async def nowhere(_: Message) -> None: ...

        edge: ASGIApp = self.archive.app
        await edge(scope, again, nowhere if fault in (LOST, HANGS) else send)
        if fault == HANGS:
            self.hanging.set()
            while (await receive())["type"] != "http.disconnect":
                pass
        elif fault == LOST:
            await send({"type": "http.response.start", "status": 502, "headers": [(b"content-length", b"0")]})
            await send({"type": "http.response.body", "body": b""})

    def _hear(self, content_type: str, body: bytes) -> str:
        root = body
        if content_type.startswith("multipart/"):
            first = next(iter(mtom.Reader(content_type).feed(body)))
            assert isinstance(first, mtom.Root)
            root = first.data
        envelope = soap.parse(root)
        if SHARED.exists():
            check_schema(envelope.body)
        self.heard.append(envelope.body)
        return envelope.action


def _failure(action: str, codes: tuple[str, ...]) -> bytes:
    payload = ebrs.to_element(ebrs.response_to([RegistryError(code, "of the partner") for code in codes], results=False))
    return soap.render(f"{action}Response", "", payload, _ID)


async def _answer(content: bytes, send: Send, status: int = 200) -> None:
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-type", b"application/soap+xml")]})
    await send({"type": "http.response.body", "body": content})


@contextmanager
def partner(data: Path, **settings: Any) -> Iterator[Partner]:
    """A partner that answers everybody on this machine."""
    with imageshare.node(data, **settings) as node, socket.create_server(("127.0.0.1", 0)) as listening:
        made = Partner(Archive(node), f"http://127.0.0.1:{listening.getsockname()[1]}")
        server = uvicorn.Server(uvicorn.Config(made.app, interface="asgi3", log_config=None, lifespan="off", access_log=False))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            while not server.started:
                time.sleep(0.01)
            yield made
        finally:
            server.should_exit = True
            thread.join(20)

"""Another community and this server as its Imaging Document Consumer: our own parts over two databases, on real sockets, where all may go wrong."""

import asyncio
import re
import socket
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs

import uvicorn
from fastapi import FastAPI
from peers import imageshare
from peers.xds import REGISTRY, REPOSITORY, SHARED, SOURCE, Archive, check_schema, cx, schema, uids
from starlette.types import Receive, Scope, Send

from ihe import mtom, soap, xml
from ihe.soap import SoapFault
from profiles.audit_event import Agent
from profiles.identifiers import PatientIdentifier
from server.edges import dicomweb
from server.edges import soap as soap_edge
from server.outbound.community import CommunityClient
from server.records import catalogue
from server.settings import Community
from server.work.fetching.asked import Asked, Fetched
from server.work.fetching.documents import DocumentFetcher
from server.work.fetching.fetcher import Fetcher

WAYS = ("rad69", "wado-uri", "wado-rs")
USER = Agent(identifier="tester")


@dataclass
class Foreign:
    """Another community. `faults` are what goes wrong with the next requests of a path, of WADO-URI with a space and the instance.

    `asked` are the paths that were asked, `images` the SOP Instance UIDs of each request for some. `slow` is how many seconds each takes to begin.
    """

    archive: Archive
    url: str = ""
    faults: dict[str, "deque[str]"] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    images: list[list[str]] = field(default_factory=list)
    slow: float = 0.0
    at_once: set[object] = field(default_factory=set)
    most_at_once: int = 0

    def settings(self, **changed: object) -> dict[str, object]:
        site = self.archive.node.installation
        return {
            "name": "county", "registry": self.url + REGISTRY, "repositories": {site.repository: self.url + REPOSITORY},
            "imaging_sources": {site.imaging_source: self.url + SOURCE}, "wado_uri": {site.imaging_source: self.url + "/wado"},
            "wado_rs": {site.imaging_source: self.url + "/dicomweb"}, "patient_authority": site.patients.oid,
            "token": self.archive.node.tokens.issue(client="consumer", scope="system/*.rs"), "seconds": 5, **changed,
        }  # fmt: skip

    def goes_wrong(self, path: str, *faults: str) -> None:
        self.faults[path] = deque(faults)

    async def app(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Our edges, and what goes wrong on the way."""
        if scope["method"] == "POST":
            receive, body = await _right(receive, dict(scope["headers"])[b"content-type"].decode())
            if scope["path"] == SOURCE:
                self.images.append([each.decode() for each in re.findall(rb"DocumentUniqueId>([0-9.]+)<", body)])
        self.asked.append(scope["path"])
        named = parse_qs(scope["query_string"].decode()).get("objectUID", [])
        waiting = self.faults.get(" ".join((scope["path"], *named)))
        fault = waiting.popleft() if waiting else ""
        under_way = object()
        self.at_once.add(under_way)
        self.most_at_once = max(len(self.at_once), self.most_at_once)

        async def sent(message: Any) -> None:
            if not message.get("more_body") and message["type"] == "http.response.body":
                self.at_once.discard(under_way)  # before the caller has it, who may ask for the next at once
            await send(message)

        try:
            await asyncio.sleep(self.slow)
            await self._answer(fault, scope, receive, sent)
        finally:
            self.at_once.discard(under_way)

    async def _answer(self, fault: str, scope: Scope, receive: Receive, send: Send) -> None:
        application = FastAPI()
        application.state.node = self.archive.node
        soap_edge.install(application)
        dicomweb.install(application)
        if fault == "silent":
            await asyncio.sleep(1.5)
        elif fault == "fault":
            said = soap.render_fault(SoapFault("Receiver", "of the partner"), "", "urn:uuid:1")
            kind = soap.content_type("http://www.w3.org/2005/08/addressing/fault").encode()
            await send({"type": "http.response.start", "status": 500, "headers": [(b"content-type", kind)]})
            await send({"type": "http.response.body", "body": said})
        elif not fault:
            await application(scope, receive, send)
        else:
            await _changed(application, fault, scope, receive, send)


async def _right(receive: Receive, content_type: str) -> tuple[Receive, bytes]:
    """Holds what came against its schema; to be received once more, and as it is."""
    body, more = b"", True
    while more:
        message = await receive()
        body, more = body + message.get("body", b""), message.get("more_body", False)
    root = body
    if content_type.startswith("multipart/"):
        first = next(iter(mtom.Reader(content_type).feed(body)))
        assert isinstance(first, mtom.Root)
        root = first.data
    payload = soap.parse(root).body
    if SHARED.exists() and xml.namespace_of(payload) == xml.XDSI_B:
        schema("XDSI.b_ImagingDocumentSource.xsd").assertValid(payload)
    elif SHARED.exists():
        check_schema(payload)
    waiting = iter([{"type": "http.request", "body": body, "more_body": False}])

    async def again() -> Any:
        return next(waiting, None) or await receive()

    return again, body


async def _changed(application: FastAPI, fault: str, scope: Scope, receive: Receive, send: Send) -> None:
    """`cut N`: the body ends after N bytes. `stall N`: it does not go on after N until the caller has gone. `say A=B` and `ask A=B`: bytes are others in the answer or the question."""
    how, _, what = fault.partition(" ")
    old, _, new = what.encode("latin-1").partition(b"=")
    parts: list[Any] = []

    async def heard() -> Any:
        message = await receive()
        return {**message, "body": message["body"].replace(old, new)} if how == "ask" and message.get("body") else message

    async def said(message: Any) -> None:
        parts.append(message)

    await application(scope, heard, said)
    start, *bodies = parts
    body = b"".join(each.get("body", b"") for each in bodies)
    if how == "say":
        body = body.replace(old, new)
        kept = [each for each in start["headers"] if each[0] != b"content-length"]
        start = {**start, "headers": [*kept, (b"content-length", str(len(body)).encode())]}
    await send(start)
    if how == "stall":
        await send({"type": "http.response.body", "body": body[: int(what)], "more_body": True})
        while (await receive())["type"] != "http.disconnect":
            pass
    elif how == "cut":
        await send({"type": "http.response.body", "body": body[: int(what)], "more_body": True})
        await asyncio.sleep(0.1)  # on its way before the connection ends
    else:
        await send({"type": "http.response.body", "body": body})


@contextmanager
def served(made: Foreign) -> Iterator[None]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        made.url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        server = uvicorn.Server(uvicorn.Config(made.app, interface="asgi3", log_config=None, lifespan="off", access_log=False))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            while not server.started:
                time.sleep(0.01)
            yield
        finally:
            server.should_exit = True
            thread.join(20)


@dataclass
class Consumer:
    """This server."""

    archive: Archive
    foreign: Foreign
    community: Community

    def fetch(self, *, patient: str = "", **asked: Any) -> list[Fetched]:
        wanted = Asked(PatientIdentifier.from_cx(patient or cx(self.foreign.archive)), **asked)
        node = self.archive.node
        with CommunityClient(node.settings, self.community) as client:
            images = Fetcher(self.community, client, node.database, node.ingest, node.trail, USER)
            others = DocumentFetcher(
                self.community, client, node.database, node.installation, node.ingest, node.domain, node.writes, node.trail, USER
            )
            found = images.find(wanted)
            made = [
                images.manifest(each, wanted) if each.mime_type == "application/dicom" else others.fetch(each, wanted.patient)
                for each in found
            ]
        imageshare.publish_all(node)
        return made

    def stored(self, study: str = "2.25.1") -> dict[str, bytes]:
        with self.archive.node.database.read() as connection:
            found = catalogue.instances(connection, study)
        return {each.uid: b"".join(self.archive.node.blobs.stream(each.blob_id)) for each in found}


def sent(foreign: Foreign, study: str = "2.25.1") -> dict[str, bytes]:
    return {uid: file for uid, file in foreign.archive.sent.items() if uids(file)[0] == study}

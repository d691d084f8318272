"""Our DICOMweb edge on a real socket, with the parts of one node in this process, and a client for it."""

import secrets
import socket
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path

import orjson
import requests
import uvicorn
from dicomweb_client.api import DICOMwebClient
from fastapi import FastAPI
from peers.imageshare import node, publish_all
from pydicom import dcmwrite
from pydicom.dataset import Dataset
from sqlalchemy import select

from ihe.multipart import PartData, PartStart, Splitter, boundary_of
from server.edges import dicomweb
from server.edges.context import Node
from server.records.catalogue import PATIENT
from server.records.trail import events


def part10(dataset: Dataset) -> bytes:
    """A data set with File Meta Information as a Part 10 file."""
    output = BytesIO()
    dcmwrite(output, dataset, enforce_file_format=True)
    return output.getvalue()


@dataclass
class Site:
    """A running edge. `url` ends with /dicomweb."""

    node: Node
    url: str
    session: requests.Session = field(default_factory=requests.Session)

    def token(self, scope: str = "system/*.cruds", patient: str | None = None) -> str:
        return self.node.tokens.issue(client="tester", scope=scope, patient=patient)

    def client(self, token: str | None = None) -> DICOMwebClient:
        return DICOMwebClient(self.url, headers={"Authorization": f"Bearer {token or self.token()}"})

    def get(self, path: str, accept: str | None = None, token: str | None = None, **headers: str) -> requests.Response:
        given = {"Authorization": f"Bearer {token or self.token()}", **{k.replace("_", "-"): v for k, v in headers.items()}}
        # requests would say */* itself.
        given["Accept"] = accept or "*/*"
        return self.session.get(self.url + path, headers=given, timeout=60)

    def post(
        self,
        body: bytes | Iterable[bytes],
        content_type: str,
        path: str = "/studies",
        accept: str = "application/dicom+json",
        token: str | None = None,
    ) -> requests.Response:
        headers = {"Authorization": f"Bearer {token or self.token()}", "Content-Type": content_type, "Accept": accept}
        return self.session.post(self.url + path, data=body, headers=headers, timeout=60)

    def store(self, files: Iterable[bytes], path: str = "/studies", accept: str = "application/dicom+json") -> requests.Response:
        boundary = secrets.token_hex(8)
        return self.post(
            multipart(files, boundary), f'multipart/related; type="application/dicom"; boundary={boundary}', path, accept
        )

    def publish(self) -> None:
        publish_all(self.node)

    def patient(self, value: str) -> str:
        """Resource id of the patient with this Patient ID."""
        with self.node.database.read() as connection:
            return str(connection.execute(select(PATIENT.c.id).where(PATIENT.c.value == value)).scalar_one())

    def trail(self) -> list[tuple[str, str, str]]:
        """(subtype, outcome, patient) of every event, oldest first."""
        with self.node.database.read() as connection:
            told = [(orjson.loads(one.body), one.patient) for one in events(connection, limit=10_000)]
        return [(body["subtype"][-1]["code"], body["outcome"], patient) for body, patient in reversed(told)]


def parts(response: requests.Response) -> list[tuple[str, bytes]]:
    """Content-Type and bytes of each part of a multipart answer."""
    found: list[tuple[str, bytearray]] = []
    for event in Splitter(boundary_of(response.headers["Content-Type"])).feed(response.content):
        if isinstance(event, PartStart):
            found.append((event.content_type, bytearray()))
        elif isinstance(event, PartData):
            found[-1][1].extend(event.data)
    return [(type_, bytes(data)) for type_, data in found]


def multipart(files: Iterable[bytes], boundary: str, content_type: str = "application/dicom") -> bytes:
    parts = [b"--%b\r\nContent-Type: %b\r\n\r\n%b\r\n" % (boundary.encode(), content_type.encode(), file) for file in files]
    return b"".join(parts) + b"--%b--\r\n" % boundary.encode()


@contextmanager
def site(data: Path, database_url: str | None = None, **settings: object) -> Iterator[Site]:
    """The edge on a free port of 127.0.0.1."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(64)
        base = f"http://127.0.0.1:{listener.getsockname()[1]}"
        with node(data, database_url, public_url=base, **settings) as opened:
            app = FastAPI(openapi_url=None)
            app.state.node = opened
            dicomweb.install(app)
            server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="off", access_log=False))
            thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
            thread.start()
            while not server.started:
                time.sleep(0.01)
            made = Site(opened, f"{base}/dicomweb")
            try:
                yield made
            finally:
                made.session.close()
                server.should_exit = True
                thread.join(20)
                app.state.renderer.close()

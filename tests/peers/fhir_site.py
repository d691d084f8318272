"""A node with the FHIR edge in front of it, in this process: what tests of the FHIR server ask, and what the trail says of it."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
from fastapi import FastAPI
from httpx2 import Response
from peers import imageshare
from starlette.testclient import TestClient

from server.edges import fhir
from server.edges.context import Node
from server.records import resources, trail
from server.records.resources import Stored

JSON = "application/fhir+json"
XML = "application/fhir+xml"


@dataclass
class FhirSite:
    """A node and a client of its FHIR side; `base` is the FHIR base URL in what it answers."""

    node: Node
    http: TestClient

    @property
    def base(self) -> str:
        return f"{self.node.settings.base_url}/fhir"

    def token(self, scope: str = "system/*.cruds", patient: str | None = None, client: str = "app") -> dict[str, str]:
        return {"Authorization": f"Bearer {self.node.tokens.issue(client=client, scope=scope, patient=patient)}"}

    def ask(
        self, method: str, path: str, token: Mapping[str, str] | None = None, *, body: Any = None, **headers: str
    ) -> Response:
        """One request. `path` is below the base; names of headers have `_` for `-`; `body` is sent as JSON, bytes as they are."""
        url = "/fhir" + (f"/{path}" if path and path[0] != "?" else path)
        given = {
            **(self.token() if token is None else token),
            **{name.replace("_", "-"): value for name, value in headers.items()},
        }
        if body is None:
            return self.http.request(method, url, headers=given)
        given = {"Content-Type": JSON, **given}
        if isinstance(body, bytes):
            return self.http.request(method, url, headers=given, content=body)
        return self.http.request(method, url, headers=given, json=body)

    def get(self, path: str, token: Mapping[str, str] | None = None, **headers: str) -> Response:
        return self.ask("GET", path, token, **headers)

    def bundle(self, path: str, token: Mapping[str, str] | None = None) -> dict[str, Any]:
        found = self.get(path, token)
        assert found.status_code == 200, found.text
        return dict(found.json())

    def ids(self, path: str, token: Mapping[str, str] | None = None, mode: str = "match") -> list[str]:
        """Ids of the entries of one mode, in their order."""
        entries = self.bundle(path, token).get("entry", ())
        return [each["resource"]["id"] for each in entries if each["search"]["mode"] == mode]

    def put(self, *given: Mapping[str, Any]) -> list[Stored]:
        """Stores resources past HTTP, each as its next version."""
        with self.node.database.write() as connection:
            return [resources.put(connection, each) for each in given]

    def delete(self, type_: str, id_: str) -> Stored:
        with self.node.database.write() as connection:
            return resources.delete(connection, type_, id_)

    def mark(self) -> int:
        """Where the trail ends now."""
        with self.node.database.read() as connection:
            return max((event.pk for event in trail.events(connection, limit=1)), default=0)

    def events(self, since: int = 0) -> list[dict[str, Any]]:
        """What came into the trail after `since`, newest first."""
        with self.node.database.read() as connection:
            found = list(trail.events(connection, trail.EVENT.c.pk > since, limit=100))
        return [dict(orjson.loads(event.body)) for event in found]


@contextmanager
def fhir_site(data: Path, database_url: str | None = None, **settings: object) -> Iterator[FhirSite]:
    """An empty node with its FHIR edge."""
    with imageshare.node(data, database_url, **settings) as node:
        app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
        app.state.node = node
        fhir.install(app)
        yield FhirSite(node, TestClient(app, raise_server_exceptions=False))


def issue(response: Response, status: int, code: str) -> dict[str, Any]:
    """The first issue of an OperationOutcome in JSON with this status and code."""
    assert response.status_code == status, response.text
    assert response.json()["resourceType"] == "OperationOutcome"
    found = response.json()["issue"][0]
    assert found["code"] == code, response.text
    return dict(found)

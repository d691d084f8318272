"""Three studies that came by DICOM, with the FHIR edge in front of them: who asks for them, and what the trail says of it."""

from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI
from fhir.resources.R4B.auditevent import AuditEvent
from fhir.resources.R4B.bundle import Bundle
from fhir.resources.R4B.operationoutcome import OperationOutcome
from httpx2 import Response
from peers.generated import Made
from starlette.testclient import TestClient

from server.edges import fhir
from server.edges.context import Node
from server.records import trail

JSON = "application/fhir+json"
CT_DAY1 = Made(study=1, patient="P1", modality="CT", accession="A1")
MR_SAME_PATIENT = Made(study=2, patient="P1", modality="MR", accession="A2")
CT_OTHER = Made(study=3, patient="P2", modality="CT", accession="A3", name="Other^Otto")


@dataclass
class Site:
    """A node with three studies of two patients (`mine`, `other`), and clients with tokens."""

    node: Node
    http: TestClient
    mine: str = ""
    other: str = ""

    def token(self, scope: str = "system/*.rs", patient: str | None = None, client: str = "app") -> dict[str, str]:
        return {"Authorization": f"Bearer {self.node.tokens.issue(client=client, scope=scope, patient=patient)}"}

    def get(self, path: str, headers: dict[str, str] | None = None, **more: str) -> Response:
        return self.http.get(f"/fhir/{path}", headers={**(headers or self.token()), **more})

    def bundle(self, path: str, headers: dict[str, str] | None = None) -> dict[str, Any]:
        found = self.get(path, headers)
        assert found.status_code == 200, found.text
        Bundle.model_validate(found.json())
        return dict(found.json())

    def ids(self, path: str, headers: dict[str, str] | None = None) -> list[str]:
        return [
            entry["resource"]["id"] for entry in self.bundle(path, headers).get("entry", ()) if entry["search"]["mode"] == "match"
        ]

    def study(self, made: Made) -> str:
        """Resource id of the study of an instance."""
        (found,) = self.ids(f"ImagingStudy?identifier=urn:dicom:uid|urn:oid:{made.study_uid}")
        return found

    def mark(self) -> int:
        """Where the trail ends now."""
        with self.node.database.read() as connection:
            return max((event.pk for event in trail.events(connection, limit=1)), default=0)

    def events(self, since: int = 0) -> list[dict[str, Any]]:
        """What came into the trail after `since`, newest first."""
        with self.node.database.read() as connection:
            found = list(trail.events(connection, trail.EVENT.c.pk > since, limit=100))
        return [AuditEvent.model_validate_json(event.body).model_dump(mode="json") for event in found]


def opened(node: Node) -> Site:
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    app.state.node = node
    fhir.install(app)
    site = Site(node, TestClient(app, raise_server_exceptions=False))
    patients = {p["identifier"][0]["value"]: p["id"] for p in (e["resource"] for e in site.bundle("Patient")["entry"])}
    site.mine, site.other = patients["P1"], patients["P2"]
    return site


def refusal(response: Response, status: int, code: str) -> dict[str, Any]:
    """The issue of an OperationOutcome with this status and code."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == JSON
    assert response.headers["x-request-id"]
    OperationOutcome.model_validate(response.json())
    (issue,) = response.json()["issue"]
    assert issue["code"] == code
    return dict(issue)

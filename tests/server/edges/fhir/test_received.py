"""Bodies are read for those who have a token, up to a limit; what is wrong with one is said after what comes before it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi import FastAPI
from peers import imageshare
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.testclient import TestClient

from profiles.audit_event import REST_CREATE
from server.edges import context
from server.edges.fhir.outcome import guarded
from server.edges.fhir.received import body, received


def _told(request: Request) -> Response:
    """What the handler is given, once it knows who asks."""
    context.decision(request)
    return Response(body(request))


@pytest.fixture
def http(tmp_path: Path) -> Iterator[TestClient]:
    with imageshare.node(tmp_path / "data") as node:
        app = FastAPI()
        app.state.node = node
        handler = received(guarded(_told, "create", REST_CREATE, lambda _: ()), limit=10)
        app.router.routes.append(Route("/fhir/x", handler, methods=["POST"]))
        yield TestClient(app, headers={"Authorization": f"Bearer {node.tokens.issue(client='app', scope='system/*.cruds')}"})


def _pieces(count: int) -> Iterator[bytes]:
    """A body whose length nobody told."""
    for _ in range(count):
        yield b"12345"


@pytest.mark.parametrize("count", [0, 1, 2])
def test_a_body_is_given_whole(http: TestClient, count: int) -> None:
    assert http.post("/fhir/x", content=_pieces(count)).content == b"12345" * count
    assert http.post("/fhir/x", content=b"12345" * count).content == b"12345" * count


def test_one_that_is_too_long_is_not(http: TestClient) -> None:
    for content in (b"12345678901", _pieces(3)):
        found = http.post("/fhir/x", content=content)
        assert (found.status_code, found.json()["issue"][0]["code"]) == (413, "too-long")


def test_strangers_are_told_so_whatever_they_send(http: TestClient) -> None:
    found = http.post("/fhir/x", content=b"12345678901", headers={"Authorization": "Bearer x"})
    assert (found.status_code, found.json()["issue"][0]["code"]) == (401, "login")

"""Bodies are read for those who have a token, up to a limit; what is wrong with one is said after what comes before it."""

import gzip
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from fastapi import FastAPI
from peers import imageshare
from peers.shows import shows
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.testclient import TestClient

from profiles.audit_event import REST_CREATE
from server.edges import context
from server.edges.fhir.content_coding import unpacked
from server.edges.fhir.outcome import guarded
from server.edges.fhir.received import body, received

_LIMIT = 100_000


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
        longer = received(guarded(_told, "create", REST_CREATE, lambda _: ()), limit=_LIMIT)
        app.router.routes.append(Route("/fhir/longer", longer, methods=["POST"]))
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


# --- Content-Encoding


def _posted(http: TestClient, content: bytes, coding: str = "gzip") -> httpx2.Response:
    return http.post("/fhir/longer", content=content, headers={"Content-Encoding": coding})


@pytest.mark.parametrize("coding", ["gzip", "x-gzip", " GZIP"])
@shows("header", "Content-Encoding")
def test_a_body_may_be_gzip(http: TestClient, coding: str) -> None:
    for content in (b"1", bytes(_LIMIT), b""):
        assert _posted(http, gzip.compress(content), coding).content == content
    assert _posted(http, gzip.compress(b"12345") + gzip.compress(b"67890"), coding).content == b"1234567890"
    assert _posted(http, b"", coding).content == b""
    assert _posted(http, b"12345", "identity").content == b"12345"


@pytest.mark.parametrize("size", [_LIMIT + 1, 20_000_000])
def test_the_limit_is_of_what_is_unpacked(http: TestClient, size: int) -> None:
    content = gzip.compress(bytes(size))
    assert len(content) < _LIMIT
    found = _posted(http, content)
    assert (found.status_code, found.json()["issue"][0]["code"]) == (413, "too-long")


def test_no_more_is_unpacked_at_once_than_a_piece() -> None:
    pieces = unpacked(gzip.compress(bytes(10_000_000)))
    assert [len(each) for each in pieces if each] == [1 << 20] * 9 + [10_000_000 - (9 << 20)]


@pytest.mark.parametrize(
    "content",
    [b"123", gzip.compress(b"12345")[:-1], gzip.compress(b"12345")[:12], gzip.compress(b"1") + b"x", gzip.compress(b"") * 101],
    ids=["none", "without end", "cut off", "more behind it", "many members"],
)
def test_what_is_no_gzip_is_refused(http: TestClient, content: bytes) -> None:
    found = _posted(http, content)
    assert (found.status_code, found.json()["issue"][0]["code"]) == (400, "structure")


@pytest.mark.parametrize("coding", ["br", "deflate", "zstd", "gzip, gzip"])
def test_other_codings_are_refused_with_what_is_taken(http: TestClient, coding: str) -> None:
    """RFC 9110 section 15.5.16."""
    found = _posted(http, b"1", coding)
    assert (found.status_code, found.headers["accept-encoding"]) == (415, "gzip")

"""The front page, health, and every dead end."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from lxml import html
from peers import imageshare
from peers.generated import Made, send
from starlette.testclient import TestClient

from server.app import create_app


@pytest.fixture
def http(tmp_path: Path) -> Iterator[TestClient]:
    with imageshare.node(tmp_path / "data", public_url="https://images.example/pacs") as node:
        send(node, Made(patient="SECRET-4711"))
        imageshare.publish_all(node)
        yield TestClient(create_app(node), raise_server_exceptions=False)


def test_the_front_page_leads_to_what_is_here_and_says_nothing_else(http: TestClient) -> None:
    page = http.get("/")
    assert page.status_code == 200
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert page.headers["content-security-policy"].startswith("default-src 'none'")
    assert page.headers["x-request-id"]
    assert "imageshare" in page.text
    assert "SECRET" not in page.text
    assert "style=" not in page.text
    links = [str(link) for link in html.fromstring(page.content).xpath("//a[not(starts-with(@href, '#'))]/@href")]
    assert {"/pacs/claim", "/pacs/sign-in?next=/images", "/pacs/developers"} <= set(links)
    for link in links:
        assert http.get(link.removeprefix("/pacs"), follow_redirects=False).status_code in (200, 303), link


def test_developers_are_told_what_answers(http: TestClient) -> None:
    page = http.get("/developers")
    assert "https://images.example/pacs/fhir<" in page.text
    assert "SECRET" not in page.text
    links = [str(link) for link in html.fromstring(page.content).xpath("//main//a/@href")]
    assert {"/pacs/fhir/metadata", "/pacs/livez"} <= set(links)
    for link in links:
        assert http.get(link.removeprefix("/pacs")).status_code == 200, link


@pytest.mark.parametrize(
    "path", ["/favicon.ico", "/dicomweb/nothing", "/dicomweb/patients/SECRET-4711", "/xds/nothing", "/livez/x", "/SECRET-4711"]
)
def test_a_path_that_is_none_is_a_problem(http: TestClient, path: str) -> None:
    """RFC 9457; the path is not repeated."""
    answer = http.get(path, headers={"X-Request-Id": "mine"})
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["x-request-id"] == "mine"
    assert answer.json() == {
        "type": "about:blank", "title": "Not Found", "status": 404, "number": 4001, "requestId": "mine",
        "detail": "nothing is answered at this address; / names what is",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("DELETE", "/dicomweb/studies", "GET, HEAD, OPTIONS, POST"),
        ("PUT", "/dicomweb/studies/1.2/metadata", "GET, HEAD, OPTIONS"),
        ("POST", "/", "GET, HEAD"),
        ("POST", "/livez", "GET, HEAD"),
    ],
)
def test_a_method_that_is_not_taken_is_a_problem(http: TestClient, method: str, path: str, allow: str) -> None:
    """RFC 9110 section 15.5.6: 405 names all methods that are."""
    answer = http.request(method, path)
    assert answer.status_code == 405
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["allow"] == allow
    assert answer.json()["requestId"] == answer.headers["x-request-id"]


def test_the_edges_keep_their_own_errors(http: TestClient) -> None:
    assert http.get("/fhir/Nothing/1").json()["resourceType"] == "OperationOutcome"
    assert http.get("/xds/registry").headers["content-type"].startswith("application/soap+xml")
    assert http.get("/dicomweb/studies").json()["status"] == 401


def test_a_database_that_is_away_is_503_at_every_door(tmp_path: Path) -> None:
    with imageshare.node(tmp_path / "data") as node:
        bearer = {"Authorization": f"Bearer {node.tokens.issue(client='c', scope='system/*.rs')}"}
        http = TestClient(create_app(node), raise_server_exceptions=False)
        assert http.get("/fhir/Patient", headers=bearer).status_code == 200
        (tmp_path / "data").rename(tmp_path / "elsewhere")
        node.database.close()  # its pool keeps files open
        try:
            assert http.get("/livez").status_code == 200
            assert http.get("/readyz").status_code == 503
            for path in ("/fhir/Patient", "/dicomweb/studies"):
                answer = http.get(path, headers=bearer)
                assert answer.status_code == 503
                assert answer.headers["retry-after"] == "5"
        finally:
            (tmp_path / "elsewhere").rename(tmp_path / "data")

"""What HTTP itself asks of the FHIR side: methods, paths, hostile requests."""

import gzip
import http.client
import json
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from peers.fhir_site import JSON, FhirSite, fhir_site, issue
from peers.imageshare import running
from peers.shows import shows


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FhirSite]:
    with fhir_site(tmp_path_factory.mktemp("http") / "data") as site:
        site.put({"resourceType": "Patient", "id": "one"})
        yield site


def test_no_token_no_answer(site: FhirSite) -> None:
    for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"):
        for path in (
            "Patient",
            "Patient/one",
            "Patient/one/_history/1",
            "Binary/x",
            "AuditEvent",
            "Nothing",
            "",
            "a/b/c/d",
            "_history",
            "Patient/_search",
        ):
            found = site.ask(method, path, {}, body=b"{}" if method in ("POST", "PUT", "PATCH") else None)
            assert found.status_code == 401, (method, path)
            assert found.headers["www-authenticate"] == 'Bearer realm="imageshare"'


def test_what_is_not_offered_is_an_operation_outcome(site: FhirSite) -> None:
    for path in (
        "Nothing",
        "Nothing/1",
        "Nothing/1/_history/1",
        "$export",
        "a/b/c/d/e",
        "Patient/1/2/3/4",
        "patient",
        "Nothing/1/Patient",
    ):
        issue(site.get(path), 404, "not-supported")


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("DELETE", "", "GET, HEAD, POST"), ("PUT", "Patient/one/_history", "GET, HEAD"), ("POST", "Patient/one", "GET, HEAD, PUT, PATCH, DELETE"), ("DELETE", "Patient/one/_history/1", "GET, HEAD"), ("PUT", "Patient/_search", None),
    ],
)  # fmt: skip
def test_a_method_that_a_path_does_not_take(site: FhirSite, method: str, path: str, allow: str | None) -> None:
    found = site.ask(method, path, body=b"{}" if method in ("POST", "PUT") else None)
    assert found.status_code in ((405,) if allow else (400, 404, 405))
    if allow:
        assert set(found.headers["allow"].split(", ")) == set(allow.split(", "))
        issue(found, 405, "not-supported")


def test_the_trail_is_not_written_by_clients(site: FhirSite) -> None:
    event = {"resourceType": "AuditEvent"}
    for method, path in (("POST", "AuditEvent"), ("PUT", "AuditEvent/x"), ("DELETE", "AuditEvent/x")):
        found = site.ask(method, path, body=event if method != "DELETE" else None)
        assert found.status_code in (403, 405), (method, found.text)


def test_options_tells_the_methods(site: FhirSite) -> None:
    found = site.ask("OPTIONS", "Patient/one")
    assert found.status_code in (200, 204)
    assert {"GET", "HEAD", "PUT", "PATCH", "DELETE"} <= set(found.headers["allow"].split(", "))
    assert {"GET", "POST"} <= set(site.ask("OPTIONS", "Patient").headers["allow"].split(", "))


@shows("header", "X-Request-Id")
def test_every_answer_has_its_request_id(site: FhirSite) -> None:
    for path in ("Patient/one", "Patient", "Nothing", "Patient?colour=red", "metadata"):
        assert site.get(path, X_Request_Id="r-1").headers["x-request-id"] == "r-1"
        assert site.get(path, X_Request_Id="r 1<script>").headers["x-request-id"] != "r 1<script>"


def test_a_method_in_a_header_is_not_looked_at(site: FhirSite) -> None:
    found = site.get("Patient/one", X_HTTP_Method_Override="DELETE")
    assert found.status_code == 200
    assert site.get("Patient/one").status_code == 200


def test_paths_are_percent_decoded_once(site: FhirSite) -> None:
    assert site.get("Patient/%6Fne").status_code == 200
    for path in ("Patient/..%2Fone", "Patient/one%00", "Patient/%ff"):
        assert site.get(path).status_code == 404


def test_nothing_of_a_request_comes_into_a_header(site: FhirSite) -> None:
    for path in (
        "Patient?_count=1&_id=one%0d%0aX-Evil:%201",
        "Patient/one%0d%0aX-Evil:%201",
        "Patient?_format=json%0d%0aX-Evil:%201",
    ):
        assert "x-evil" not in site.get(path).headers
    assert "x-evil" not in site.get("Patient/one", Accept="application/json;x=%0d%0aX-Evil: 1").headers


def test_a_failure_tells_nothing_of_itself(site: FhirSite, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise RuntimeError("secret")

    monkeypatch.setattr("server.records.resources.last", fails)
    found = site.get("Patient/one", X_Request_Id="r-1")
    assert "r-1" in issue(found, 500, "exception")["diagnostics"]
    assert "secret" not in found.text


def test_nothing_is_told_that_the_trail_cannot_keep(site: FhirSite, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object, **__: object) -> None:
        raise RuntimeError("the trail is away")

    site.node.strangers.flush()
    for way in ("write", "note"):
        monkeypatch.setattr(site.node.trail.__class__, way, fails)
    for path in ("Patient/one", "Patient", "Patient/one/_history", "_history", "Patient/one/*"):
        issue(site.get(path), 500, "exception")


def test_over_a_real_socket(tmp_path: Path) -> None:
    """What a server of its own does with methods, paths and compression, byte by byte."""
    with running(tmp_path / "data") as server:
        host = urlsplit(server.http).netloc
        token = {"Authorization": f"Bearer {server.token()}", "Content-Type": JSON}

        def ask(method: str, path: str, body: bytes = b"", **headers: str) -> tuple[int, dict[str, str], bytes]:
            connection = http.client.HTTPConnection(host, timeout=20)
            connection.request(
                method, path, body or None, {**token, **{name.replace("_", "-"): text for name, text in headers.items()}}
            )
            found = connection.getresponse()
            told = found.status, {name.lower(): text for name, text in found.getheaders()}, found.read()
            connection.close()
            return told

        patient = json.dumps({"resourceType": "Patient", "id": "one", "name": [{"family": "x" * 9000}]}).encode()
        assert ask("PUT", "/fhir/Patient/one", patient)[0] == 201
        status, headers, body = ask("GET", "/fhir/Patient/one")
        assert (status, int(headers["content-length"])) == (200, len(body))
        status, head, nothing = ask("HEAD", "/fhir/Patient/one")
        assert (status, head["content-length"], head["etag"], nothing) == (200, headers["content-length"], headers["etag"], b"")
        status, headers, packed = ask("GET", "/fhir/Patient/one", Accept_Encoding="gzip")
        assert headers["content-encoding"] == "gzip"
        assert gzip.decompress(packed) == body
        assert ask("GET", "/fhir/Patient/%6Fne")[0] == 200
        for path in ("/fhir/Patient/%256Fne", "/fhir/Patient/..%2Fone", "/fhir/Patient/one/", "/fhir/Patient/one%00"):
            status, headers, told = ask("GET", path)
            assert (status, headers["content-type"], json.loads(told)["resourceType"]) == (404, JSON, "OperationOutcome"), path
        status, headers, told = ask("GET", "/fhir/Patient?_id=one&_elements=name%0d%0aX-Evil:1")
        assert (status, "x-evil" in headers) == (400, False)
        assert ask("GET", "/fhir/Patient/one", If_None_Match='W/"1"')[0] == 304
        assert ask("GET", "/fhir?_type=Patient")[0] == ask("GET", "/fhir/?_type=Patient")[0] == 200

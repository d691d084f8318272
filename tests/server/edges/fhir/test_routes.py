"""The table of interactions: every path and method is answered in FHIR, and 405 says what there is instead."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from fhir.resources.R4B.operationoutcome import OperationOutcome
from hypothesis import given
from hypothesis import strategies as st
from peers.fhir_site import FhirSite, fhir_site
from peers.shows import shows

from server.edges.fhir.routes import INTERACTIONS
from server.work.fhir.operations import OPERATIONS


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FhirSite]:
    data: Path = tmp_path_factory.mktemp("routes") / "data"
    with fhir_site(data) as site:
        site.put({"resourceType": "Patient", "id": "a"})
        yield site


@shows("header", "Allow")
@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("PUT", "metadata", "GET, HEAD"),
        ("DELETE", "", "GET, HEAD, POST"),
        ("POST", "Patient/a", "GET, HEAD, PUT, PATCH, DELETE"),
        ("PUT", "Patient/a/_history/1", "GET, HEAD"),
        ("DELETE", "Patient/a/_history", "GET, HEAD"),
        ("GET", "Patient/_search", "POST"),
        ("DELETE", "Patient/_history", "GET, HEAD"),
        ("POST", "metadata", "GET, HEAD"),
        ("PUT", "Patient/a/$everything", "GET, HEAD, POST"),
        ("PATCH", "Binary/x", ""),
    ],
)
def test_a_method_that_is_not_taken(site: FhirSite, method: str, path: str, allow: str) -> None:
    found = site.ask(method, path)
    assert 400 <= found.status_code < 500
    OperationOutcome.model_validate(found.json())
    if allow:
        assert found.status_code == 405
        assert found.headers["allow"] == allow


def test_options_say_what_there_is(site: FhirSite) -> None:
    assert site.ask("OPTIONS", "Patient/a").headers["allow"] == "GET, HEAD, PUT, PATCH, DELETE"
    assert site.ask("OPTIONS", "Patient").headers["allow"] == "GET, HEAD, POST, PUT, PATCH, DELETE"
    assert site.ask("OPTIONS", "Binary").headers["allow"].startswith("GET, HEAD, POST")


@pytest.mark.parametrize(
    "path", ["Patient/a/b/c/d/e", "Patient/a/_history/1/2", "nothing", "Patient//a", "Patient/a/", "Patient/"]
)
def test_what_is_not_there(site: FhirSite, path: str) -> None:
    found = site.get(path)
    assert found.status_code in (404, 400)
    OperationOutcome.model_validate(found.json())
    assert site.ask("GET", path, {}).status_code == 401
    assert ("slash" in found.json()["issue"][0]["diagnostics"]) == path.endswith("/")


@given(
    method=st.sampled_from(["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]),
    parts=st.lists(
        st.sampled_from(["Patient", "a", "_history", "1", "$everything", "_search", "*", "Binary", "x", "%00", "..%2f", "$"]),
        max_size=6,
    ),
    query=st.sampled_from(["", "?_count=1", "?identifier=x", "?%zz", "?_format=xml"]),
    body=st.sampled_from([None, b"", b"{}", b"[", b'{"resourceType":"Patient"}']),
)
def test_no_path_is_a_fault(site: FhirSite, method: str, parts: list[str], query: str, body: bytes | None) -> None:
    if method == "DELETE" and parts[:2] == ["Patient", "a"]:
        return
    assert site.ask(method, "/".join(parts) + query, body=body).status_code < 500


def test_every_row_says_which_paragraph_it_is_of() -> None:
    """What a newcomer reads: each handler's docstring begins with the paragraph and shows the URL."""
    for each in INTERACTIONS:
        text = each.handler.__doc__ or ""
        assert "FHIR R4 section" in text.partition("\n")[0], each.path
    assert {each.name for each in OPERATIONS} == {
        "everything",
        "docref",
        "access-history",
        "validate",
        "meta",
        "meta-add",
        "meta-delete",
    }

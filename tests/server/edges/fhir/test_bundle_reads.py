"""What a Bundle may ask for besides writes: conditional reads, searches by POST, the CapabilityStatement, a Binary's content."""

import base64
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from httpx2 import Response
from peers.fhir_site import FhirSite, fhir_site
from peers.shows import shows

ON_BOTH_ENGINES = True
Json = dict[str, Any]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[FhirSite]:
    with fhir_site(tmp_path / "data") as site:
        site.put(
            {"resourceType": "Patient", "id": "a", "gender": "other"}, {"resourceType": "Patient", "id": "b", "gender": "male"}
        )
        yield site


def entry(method: str, url: str, resource: Json | None = None, **request: str) -> Json:
    return {**({} if resource is None else {"resource": resource}), "request": {"method": method, "url": url, **request}}


def sent(site: FhirSite, *entries: Json, kind: str = "batch", token: dict[str, str] | None = None) -> Response:
    response = site.ask("POST", "", token, body={"resourceType": "Bundle", "type": kind, "entry": list(entries)})
    assert response.status_code == 200, response.text
    return response


def statuses(response: Response) -> list[str]:
    return [each["response"]["status"][:3] for each in response.json()["entry"]]


@shows("conditional", "read")
def test_reads_by_date_send_nothing_twice(site: FhirSite) -> None:
    """FHIR R4 section 3.1.0.2.1: by ifModifiedSince, but by ifNoneMatch where there is one."""
    updated = site.get("Patient/a").json()["meta"]["lastUpdated"]
    before = (datetime.fromisoformat(updated) - timedelta(milliseconds=1)).isoformat(timespec="milliseconds")
    response = sent(
        site,
        entry("GET", "Patient/a", ifModifiedSince=updated),
        entry("GET", "Patient/a", ifModifiedSince=before),
        entry("GET", "Patient/a/_history/1", ifModifiedSince=updated),
        entry("GET", "Patient/a", ifModifiedSince=updated, ifNoneMatch='W/"9"'),
        entry("GET", "Patient/a", ifModifiedSince=before, ifNoneMatch='W/"1"'),
    )
    assert statuses(response) == ["304", "200", "304", "200", "304"]


@shows("search", "POST")
@pytest.mark.parametrize("kind", ["batch", "transaction"])
def test_searches_by_post(site: FhirSite, kind: str) -> None:
    form = {
        "resourceType": "Binary",
        "contentType": "application/x-www-form-urlencoded",
        "data": base64.b64encode(b"gender=male").decode(),
    }
    mark = site.mark()
    response = sent(
        site,
        entry("POST", "Patient/_search?gender=other"),
        entry("POST", "Patient/_search", form),
        entry("POST", "Patient/_search?gender=other", form),
        entry("POST", "_search?_type=Patient&gender=male"),
        kind=kind,
    )
    found = [[one["resource"]["id"] for one in each["resource"].get("entry", ())] for each in response.json()["entry"]]
    assert found == [["a"], ["b"], [], ["b"]]
    queries = {base64.b64decode(each["query"]) for event in site.events(mark) for each in event["entity"] if "query" in each}
    assert b"Patient?gender=other&gender=male" in queries


def test_what_is_no_search_by_post_is_refused(site: FhirSite) -> None:
    text = {"resourceType": "Binary", "contentType": "text/plain", "data": "eA=="}
    response = sent(
        site,
        entry("POST", "Patient/_search", text),
        entry("POST", "Patient/_search", {**text, "contentType": "application/x-www-form-urlencoded", "data": "w6Q="}),
        entry("POST", "Patient/a/_search"),
        entry("PUT", "Patient/_search", {"resourceType": "Patient"}),
        entry("POST", "Patient/_search?gender=%00"),
    )
    assert statuses(response) == ["400", "400", "404", "400", "400"]


def test_the_capability_statement_is_told(site: FhirSite) -> None:
    response = sent(site, entry("GET", "metadata"))
    assert response.json()["entry"][0]["resource"]["resourceType"] == "CapabilityStatement"


def test_a_binary_is_told_with_its_content(site: FhirSite) -> None:
    """FHIR R4 section 2.44.4; a large one, whose content is a file of its own, is read by itself."""
    made = sent(
        site, entry("PUT", "Binary/b", {"resourceType": "Binary", "id": "b", "contentType": "text/plain", "data": "aGVsbG8="})
    )
    assert statuses(made) == ["201"]
    place = site.ask("POST", "Binary", body=b"hello", Content_Type="text/plain").headers["Location"].partition("/fhir/")[2]
    response = sent(
        site, entry("GET", "Binary/b"), entry("GET", "Binary/b/_history/1"), entry("GET", place.partition("/_history")[0])
    )
    assert statuses(response) == ["200", "200", "501"]
    assert [each["resource"]["data"] for each in response.json()["entry"][:2]] == ["aGVsbG8="] * 2


@shows("interaction", "batch")
def test_operations_that_write_within_a_batch(site: FhirSite) -> None:
    """FHIR R4 section 3.1.0.11.1: each as if it had come alone; a transaction has no place for them (3.1.0.11.2)."""
    tag = {"resourceType": "Parameters", "parameter": [{"name": "meta", "valueMeta": {"tag": [{"code": "x"}]}}]}
    adding = entry("POST", "Patient/a/$meta-add", tag)
    trying = entry("POST", "Patient/$validate?mode=create", {"resourceType": "Patient"})
    mark = site.mark()
    response = sent(site, adding, trying, entry("GET", "Patient/a/$meta-add"))
    assert statuses(response) == ["200", "200", "405"]
    assert site.get("Patient/a").json()["meta"]["tag"] == [{"code": "x"}]
    assert [each["action"] for each in site.events(mark) if each["action"] == "U"] == ["U"], "once in the trail"
    for each in (adding, trying):
        refused = site.ask("POST", "", body={"resourceType": "Bundle", "type": "transaction", "entry": [each]})
        assert (refused.status_code, refused.json()["issue"][0]["code"]) == (400, "not-supported")
    assert statuses(sent(site, adding, token=site.token("user/Patient.r"))) == ["403"]

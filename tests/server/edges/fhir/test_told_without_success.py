"""What an interaction tells that ends in an error, or changes nothing, is in the trail of those whom it tells of."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from peers.fhir_site import FhirSite, fhir_site, issue
from starlette.requests import Request

from profiles.audit_event import AuditedEntity
from server.edges.fhir.search import asked_query
from server.errors import MalformedBody

ON_BOTH_ENGINES = True
Json = dict[str, Any]
_PATCH = "application/json-patch+json"


@pytest.fixture
def site(tmp_path: Path, database_url: str) -> Iterator[FhirSite]:
    with fhir_site(tmp_path / "data", database_url) as site:
        site.put({"resourceType": "Patient", "id": "a"}, {"resourceType": "Patient", "id": "b"})
        site.put(
            observation("hiv", "a", "1"), observation("one", "a", "2"), observation("two", "b", "2"), observation("gone", "a")
        )
        site.delete("Observation", "gone")
        yield site


def observation(id_: str, of: str, value: str = "0") -> Json:
    return {
        "resourceType": "Observation", "id": id_, "status": "final", "code": {"text": "x"}, "subject": {"reference": f"Patient/{of}"},
        "identifier": [{"system": "urn:s", "value": value}],
    }  # fmt: skip


def whom(events: list[Json]) -> set[str]:
    """The patients of events."""
    return {
        each["what"]["reference"] for event in events for each in event["entity"] if each.get("what", {}).get("reference", "").startswith("Patient/")
    }  # fmt: skip


def subtypes(events: list[Json]) -> set[tuple[str, str]]:
    return {(event["subtype"][0]["code"], event["outcome"]) for event in events}


# --- what was deleted


@pytest.mark.parametrize("path", ["Observation/gone", "Observation/gone/_history/2", "Observation/gone/$meta"])
def test_that_something_was_there_is_in_its_patients_trail(site: FhirSite, path: str) -> None:
    before = site.mark()
    issue(site.get(path), 410, "deleted")
    events = site.events(before)
    assert whom(events) == {"Patient/a"}
    assert {each["outcome"] for each in events} == {"4"}


def test_so_it_is_where_it_is_deleted_again(site: FhirSite) -> None:
    before = site.mark()
    assert site.ask("DELETE", "Observation/gone").status_code == 204
    events = site.events(before)
    assert whom(events) == {"Patient/a"}
    assert subtypes(events) == {("delete", "0")}


@pytest.mark.parametrize("kind", ["batch", "transaction"])
def test_so_it_is_within_a_bundle(site: FhirSite, kind: str) -> None:
    before = site.mark()
    site.ask(
        "POST",
        "",
        body={"resourceType": "Bundle", "type": kind, "entry": [{"request": {"method": "GET", "url": "Observation/gone"}}]},
    )
    assert whom(site.events(before)) == {"Patient/a"}


# --- conditions


_FAILING: list[tuple[str, str, dict[str, str], Any, int]] = [
    ("PATCH", "Observation?patient=a&identifier=urn:s|1", {"If_Match": 'W/"0"'}, b"[]", 412),
    ("PATCH", "Observation?patient=a&identifier=urn:s|7", {}, b"[]", 404),
    ("PUT", "Observation?identifier=urn:s|1", {"If_Match": 'W/"0"'}, observation("hiv", "a"), 412),
    ("PUT", "Observation?identifier=urn:s|1", {}, observation("other", "a"), 400),
    ("DELETE", "Observation?identifier=urn:s|1", {"If_Match": 'W/"0"'}, None, 412),
]


@pytest.mark.parametrize(("method", "url", "headers", "body", "status"), _FAILING)
def test_a_condition_is_in_the_trail_though_nothing_comes_of_it(
    site: FhirSite, method: str, url: str, headers: dict[str, str], body: Any, status: int
) -> None:
    before = site.mark()
    if method == "PATCH":
        headers = {**headers, "Content_Type": _PATCH}
    assert site.ask(method, url, None, body=body, **headers).status_code == status
    events = site.events(before)
    assert whom(events) == {"Patient/a"}
    assert subtypes(events) == {("search", "0")}


def test_so_it_is_where_several_meet_it(site: FhirSite) -> None:
    asked: list[tuple[str, str, dict[str, str], Any]] = [
        ("POST", "Observation", {"If_None_Exist": "identifier=urn:s|2"}, observation("x", "a")),
        ("PUT", "Observation?identifier=urn:s|2", {}, observation("one", "a")),
        ("DELETE", "Observation?identifier=urn:s|2", {}, None),
        ("PATCH", "Observation?identifier=urn:s|2", {"Content_Type": _PATCH}, b"[]"),
    ]
    for method, url, headers, body in asked:
        before = site.mark()
        assert site.ask(method, url, None, body=body, **headers).status_code == 412
        events = site.events(before)
        assert whom(events) == {"Patient/a", "Patient/b"}
        assert subtypes(events) == {("search", "0")}


def test_so_it_is_where_nothing_meets_it_and_nothing_is_deleted(site: FhirSite) -> None:
    before = site.mark()
    assert site.ask("DELETE", "Observation?patient=a&identifier=urn:s|7").status_code == 204
    events = site.events(before)
    assert whom(events) == {"Patient/a"}
    assert subtypes(events) == {("search", "0")}


@pytest.mark.parametrize("kind", ["batch", "transaction"])
def test_so_it_is_of_an_entry_of_a_bundle(site: FhirSite, kind: str) -> None:
    before = site.mark()
    entry = {"request": {"method": "DELETE", "url": "Observation?identifier=urn:s|1", "ifMatch": 'W/"0"'}}
    site.ask("POST", "", body={"resourceType": "Bundle", "type": kind, "entry": [entry]})
    assert whom(site.events(before)) == {"Patient/a"}


def test_what_is_no_condition_tells_nothing(site: FhirSite) -> None:
    before = site.mark()
    assert site.ask("DELETE", "Observation?colour=red").status_code == 400
    assert site.events(before) == []


def test_what_was_searched_by_a_form_that_was_cut_off_is_told_without_it(site: FhirSite) -> None:
    asked = {"type": "http", "method": "POST", "query_string": b"a=b", "path_params": {"type": "Observation"}, "headers": [], "app": site.http.app}  # fmt: skip
    request = Request(asked)
    request.state.body = MalformedBody("the body was cut off")
    assert asked_query(request) == (AuditedEntity(query=b"Observation?a=b"),)

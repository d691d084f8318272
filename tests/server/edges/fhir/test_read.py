"""Read, vread and their conditional forms: what is told of one resource, in which form, to whom."""

from collections.abc import Iterator
from email.utils import format_datetime, parsedate_to_datetime
from typing import Any

import pytest
from fhir.resources.R4B.operationoutcome import OperationOutcome
from fhir.resources.R4B.patient import Patient
from peers.fhir_site import JSON, FhirSite, fhir_site, issue
from peers.shows import shows

from server.records import resources
from server.store.db import moment

ONE: dict[str, Any] = {
    "resourceType": "Patient",
    "id": "one",
    "text": {"status": "generated", "div": '<div xmlns="http://www.w3.org/1999/xhtml">One</div>'},
    "active": True,
    "name": [{"family": "Eins"}],
    "contact": [{"name": {"family": "Zwei"}}],
}
WEIGHT: dict[str, Any] = {
    "resourceType": "Observation",
    "id": "weight",
    "status": "final",
    "code": {"text": "weight"},
    "subject": {"reference": "Patient/one"},
    "valueQuantity": {"value": 1, "unit": "kg"},
}
ELSEWHERE: dict[str, Any] = {"resourceType": "Practitioner", "id": "doctor", "name": [{"family": "Doctor"}]}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, module_database_url: str) -> Iterator[FhirSite]:
    with fhir_site(tmp_path_factory.mktemp("read") / "data", module_database_url) as site:
        site.put(ONE, WEIGHT, ELSEWHERE, {"resourceType": "Patient", "id": "other"})
        site.put({**ONE, "active": False})
        site.put({"resourceType": "Patient", "id": "gone", "active": True}, {"resourceType": "Practitioner", "id": "left"})
        site.delete("Patient", "gone")
        yield site


@shows("interaction", "read")
def test_read_gives_the_stored_bytes(site: FhirSite) -> None:
    found = site.get("Patient/one")
    with site.node.database.read() as connection:
        stored = resources.read(connection, "Patient", "one")
    assert found.content == stored.body
    assert Patient.model_validate(found.json()).id == "one"
    assert found.headers["content-type"] == JSON
    assert found.headers["etag"] == 'W/"2"'
    assert int(parsedate_to_datetime(found.headers["last-modified"]).timestamp()) == stored.updated // 1_000_000
    assert found.headers["cache-control"] == "private, no-cache"
    assert found.headers["x-content-type-options"] == "nosniff"


@shows("interaction", "vread")
def test_a_version_stays_as_it_was(site: FhirSite) -> None:
    first, second = site.get("Patient/one/_history/1"), site.get("Patient/one/_history/2")
    assert (first.json()["active"], second.json()["active"]) == (True, False)
    assert (first.headers["etag"], second.headers["etag"]) == ('W/"1"', 'W/"2"')
    assert second.content == site.get("Patient/one").content


@pytest.mark.parametrize("version", ["0", "3", "01", "x", "1.0", "٣", "99999999999999999999"])
def test_a_version_that_never_was_is_not_found(site: FhirSite, version: str) -> None:
    issue(site.get(f"Patient/one/_history/{version}"), 404, "not-found")


@pytest.mark.parametrize("id_", ["nothing", "a_b", "x" * 65, "%00", "%2e%2e", "%27%20OR%201=1"])
def test_what_is_not_there_is_not_found(site: FhirSite, id_: str) -> None:
    assert site.get(f"Patient/{id_}").status_code == 404


@shows("conditional", "read")
@shows("header", "If-None-Match")
@pytest.mark.parametrize("held", ['W/"2"', '"2"', 'W/"7", W/"2"', "*"])
def test_what_the_client_has_is_not_sent_again(site: FhirSite, held: str) -> None:
    found = site.get("Patient/one", If_None_Match=held)
    assert (found.status_code, found.content, found.headers["etag"]) == (304, b"", 'W/"2"')
    assert site.get("Patient/one", If_None_Match='W/"1"').status_code == 200


@shows("header", "If-Modified-Since")
def test_what_has_not_changed_since_is_not_sent_again(site: FhirSite) -> None:
    with site.node.database.read() as connection:
        changed = moment(resources.read(connection, "Patient", "one").updated)
    since = format_datetime(changed, usegmt=True)
    assert site.get("Patient/one", If_Modified_Since=since).status_code == 304
    assert site.get("Patient/one", If_Modified_Since="Thu, 01 Jan 2015 00:00:00 GMT").status_code == 200
    assert site.get("Patient/one", If_Modified_Since="yesterday").status_code == 200
    # RFC 9110 section 13.1.3: not looked at where If-None-Match is given
    assert site.get("Patient/one", If_Modified_Since=since, If_None_Match='W/"1"').status_code == 200


def test_what_was_deleted_is_gone_and_its_past_is_not(site: FhirSite) -> None:
    found = site.get("Patient/gone")
    issue(found, 410, "deleted")
    OperationOutcome.model_validate(found.json())
    assert found.headers["etag"] == 'W/"2"'
    assert found.headers["location"] == f"{site.base}/Patient/gone/_history/2"
    issue(site.get("Patient/gone/_history/2"), 410, "deleted")
    assert site.get("Patient/gone/_history/1").json()["active"] is True


def test_who_may_not_see_it_is_not_told_that_it_was_deleted(site: FhirSite) -> None:
    mine = site.token("patient/*.rs", "one")
    issue(site.get("Patient/gone", mine), 403, "forbidden")
    issue(site.get("Patient/gone/_history/2", mine), 403, "forbidden")
    issue(site.get("Patient/gone", site.token("patient/*.rs", "gone")), 410, "deleted")


@shows("result", "_summary", "_elements")
def test_a_read_may_be_of_a_part(site: FhirSite) -> None:
    summary = site.get("Patient/one?_summary=true").json()
    assert summary["name"] == ONE["name"]
    assert not {"text", "contact"} & summary.keys()
    assert summary["meta"]["tag"][0]["code"] == "SUBSETTED"
    assert site.get("Patient/one?_summary=text").json().keys() == {"resourceType", "id", "meta", "text", "active"}
    assert site.get("Patient/one?_summary=data").json().keys() == {"resourceType", "id", "meta", "active", "name", "contact"}
    assert site.get("Patient/one?_summary=false").content == site.get("Patient/one").content
    assert site.get("Patient/one?_elements=contact").json().keys() == {"resourceType", "id", "meta", "active", "contact"}
    assert site.get("Patient/one/_history/1?_elements=name").json().keys() == {"resourceType", "id", "meta", "active", "name"}
    part = site.get("Observation/weight?_elements=value").content
    assert b'"valueQuantity":{"value":1,"unit":"kg"}' in part, "a number is as it was written"


@pytest.mark.parametrize(
    "query", ["_summary=most", "_summary=count", "_elements=colour", "colour=red", "_summary=true&_summary=text",
              "_summary=true&_elements=name", "_pretty=maybe", "patient=x"],
)  # fmt: skip
def test_a_read_takes_no_other_parameters(site: FhirSite, query: str) -> None:
    found = site.get(f"Patient/one?{query}")
    assert found.status_code == 400
    assert found.json()["issue"][0]["diagnostics"]


def test_head_is_get_without_a_body(site: FhirSite) -> None:
    for path in ("Patient/one", "Patient/one/_history/1", "Patient?_id=one", "metadata", "Patient/nothing"):
        got, head = site.get(path), site.ask("HEAD", path)
        assert head.content == b""
        assert head.status_code == got.status_code
        assert head.headers.get("etag") == got.headers.get("etag")


def test_only_what_is_of_the_tokens_patient_is_read(site: FhirSite) -> None:
    mine = site.token("patient/*.rs", "one")
    assert site.get("Observation/weight", mine).status_code == 200
    for path in ("Patient/other", "Practitioner/doctor"):
        issue(site.get(path, mine), 403, "forbidden")
        assert site.get(path, site.token("user/*.rs")).status_code == 200
    issue(site.get("Patient/one", site.token("patient/Observation.rs", "one")), 403, "forbidden")
    issue(site.get("Patient/one", site.token("user/Patient.s")), 403, "forbidden")
    issue(site.ask("GET", "Patient/one", {}), 401, "login")


def test_a_read_is_in_the_trail(site: FhirSite) -> None:
    before = site.mark()
    site.get("Observation/weight/_history/1", X_Request_Id="r-7")
    (event,) = site.events(before)
    assert event["subtype"][0]["code"] == "vread"
    assert [each["what"].get("reference") for each in event["entity"]][:2] == ["Observation/weight/_history/1", "Patient/one"]
    assert "r-7" in str(event["entity"])
    before = site.mark()
    site.get("Patient/other", site.token("patient/*.rs", "one"))
    (event,) = site.events(before)
    assert event["outcome"] == "4"
    assert "Patient/other" in str(event["entity"])


def test_types_that_there_are_not_are_not_there(site: FhirSite) -> None:
    for path in ("Study/1", "Parameters/1", "patient/one", "Patientx/one"):
        issue(site.get(path), 404, "not-supported")

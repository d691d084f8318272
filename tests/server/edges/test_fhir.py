"""What came by DICOM, over FHIR, on both engines: what is told of it, to whom, and what the trail says. FHIR itself: the tests in `fhir/`."""

import base64
from collections.abc import Iterator
from dataclasses import dataclass, replace
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from fastapi import FastAPI
from fhir.resources.R4B.auditevent import AuditEvent
from fhir.resources.R4B.bundle import Bundle
from fhir.resources.R4B.operationoutcome import OperationOutcome
from httpx2 import Response
from peers import imageshare
from peers.generated import Made, send
from pydicom import dcmread
from pydicom.filebase import DicomBytesIO
from starlette.testclient import TestClient

from server.edges import fhir
from server.edges.context import Node
from server.records import resources, trail

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


@pytest.fixture
def site(tmp_path: Path, database_url: str) -> Iterator[Site]:
    with imageshare.node(tmp_path / "data", database_url) as node:
        send(node, CT_DAY1, MR_SAME_PATIENT)
        send(node, CT_OTHER)
        imageshare.publish_all(node)
        yield opened(node)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The same on SQLite, for what no engine has a part in and no test changes."""
    with imageshare.node(tmp_path_factory.mktemp("fhir") / "data") as node:
        send(node, CT_DAY1, MR_SAME_PATIENT, CT_OTHER)
        imageshare.publish_all(node)
        yield opened(node)


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


# --- read


def test_read_gives_the_stored_bytes(site: Site) -> None:
    id_ = site.study(CT_DAY1)
    found = site.get(f"ImagingStudy/{id_}")
    with site.node.database.read() as connection:
        stored = resources.read(connection, "ImagingStudy", id_)
    assert found.content == stored.body
    assert found.headers["content-type"] == JSON
    assert found.headers["etag"] == 'W/"1"'
    assert int(parsedate_to_datetime(found.headers["last-modified"]).timestamp()) == stored.updated // 1_000_000
    assert found.headers["cache-control"] == "private, no-cache"
    assert found.headers["x-content-type-options"] == "nosniff"


def test_a_late_instance_makes_a_new_version_and_the_old_one_stays(site: Site) -> None:
    id_ = site.study(CT_DAY1)
    before = site.get(f"ImagingStudy/{id_}")
    send(site.node, replace(CT_DAY1, number=2))
    imageshare.publish_all(site.node)
    after = site.get(f"ImagingStudy/{id_}", **{"If-None-Match": before.headers["etag"]})
    assert (after.status_code, after.headers["etag"], after.json()["numberOfInstances"]) == (200, 'W/"2"', 2)
    assert site.get(f"ImagingStudy/{id_}/_history/1").content == before.content
    assert site.get(f"ImagingStudy/{id_}/_history/2").content == after.content
    assert len(site.ids(f"DocumentReference?patient={site.mine}&status=current")) == 2
    assert len(site.ids(f"DocumentReference?patient={site.mine}&status=superseded")) == 1
    assert len(site.ids("ImagingStudy")) == 3


# --- search


def test_search_by_each_parameter(site: Site) -> None:
    first, second, third = site.study(CT_DAY1), site.study(MR_SAME_PATIENT), site.study(CT_OTHER)
    everything = {first, second, third}
    for query, wanted in {
        f"patient={site.mine}": {first, second},
        f"patient=Patient/{site.mine}": {first, second},
        f"patient={site.node.settings.base_url}/fhir/Patient/{site.mine}": {first, second},
        f"patient={site.mine},{site.other}": everything,
        f"patient={site.mine}&patient={site.other}": set(),
        f"_id={first}": {first},
        f"_id={first},{third}": {first, third},
        f"identifier=urn:oid:{CT_OTHER.study_uid}": {third},
        "identifier=A2": {second},
        "identifier=|A2": {second},
        "identifier=urn:dicom:uid|A2": set(),
        "identifier=urn:dicom:uid|": everything,
        "modality=CT": {first, third},
        "modality=http://dicom.nema.org/resources/ontology/DCM|MR": {second},
        "modality=CT,MR": everything,
        f"modality=CT&patient={site.mine}": {first},
        "status=available": everything,
        "status=cancelled": set(),
        "started=2026-01-05": everything,
        "started=ge2026&started=lt2026-01-05": set(),
        "started=2026-01-05T09:30:00%2B00:00": everything,
        "_lastUpdated=gt2020": everything,
        "_lastUpdated=lt2020": set(),
    }.items():
        assert set(site.ids(f"ImagingStudy?{query}")) == wanted, query


def test_what_one_polls_for_is_what_came_since(site: Site) -> None:
    seen = [site.get(f"ImagingStudy/{id_}").json()["meta"]["lastUpdated"] for id_ in site.ids("ImagingStudy")]
    newest = max(seen)
    assert site.ids(f"ImagingStudy?_lastUpdated=gt{newest}") == []
    assert len(site.ids(f"ImagingStudy?_lastUpdated=ge{newest}")) == seen.count(newest)
    late = replace(CT_DAY1, number=9)
    send(site.node, late)
    imageshare.publish_all(site.node)
    assert site.ids(f"ImagingStudy?patient={site.mine}&_lastUpdated=gt{newest}") == [site.study(late)]


def test_a_match_is_told_with_its_url_and_its_bytes(small: Site) -> None:
    id_ = small.study(CT_DAY1)
    found = small.get(f"ImagingStudy?_id={id_}")
    (entry,) = found.json()["entry"]
    assert entry["fullUrl"] == f"{small.node.settings.base_url}/fhir/ImagingStudy/{id_}"
    assert entry["search"] == {"mode": "match"}
    assert small.get(f"ImagingStudy/{id_}").content in found.content
    assert found.json()["total"] == 1
    assert found.json()["link"] == [
        {"relation": "self", "url": f"{small.node.settings.base_url}/fhir/ImagingStudy?_id={id_}"},
    ]
    assert found.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("include", ["ImagingStudy:endpoint", "ImagingStudy:endpoint:Endpoint"])
def test_the_endpoint_comes_along_once(site: Site, include: str) -> None:
    found = site.bundle(f"ImagingStudy?_include={include}", site.token("patient/ImagingStudy.rs", site.mine))
    modes = [(entry["search"]["mode"], entry["resource"]["resourceType"]) for entry in found["entry"]]
    assert modes == [("match", "ImagingStudy"), ("match", "ImagingStudy"), ("include", "Endpoint")]
    assert found["total"] == 2
    assert found["entry"][2]["resource"]["address"] == f"{site.node.settings.base_url}/dicomweb"


def test_all_pages_make_the_whole(site: Site) -> None:
    for query in (
        "ImagingStudy?",
        "ImagingStudy?modality=CT,MR&",
        "ImagingStudy?_sort=_lastUpdated&",
        "Patient?",
        "DocumentReference?",
    ):
        whole = site.ids(f"{query}_count=1000")
        found: list[str] = []
        path: str | None = f"{query}_count=1"
        while path:
            page = site.bundle(path)
            assert len(page["entry"]) == 1
            found.append(page["entry"][0]["resource"]["id"])
            following = [link["url"] for link in page["link"] if link["relation"] == "next"]
            assert all(url.startswith(f"{site.node.settings.base_url}/fhir/") for url in following)
            path = following[0].partition("/fhir/")[2] if following else None
        assert found == whole


def test_search_by_post_is_search(small: Site) -> None:
    url = "/fhir/ImagingStudy/_search"
    found = small.http.post(url, data={"patient": small.mine, "_count": "1"}, headers=small.token())
    assert found.status_code == 200
    assert len(found.json()["entry"]) == 1
    (following,) = [link["url"] for link in found.json()["link"] if link["relation"] == "next"]
    assert dict(parse_qsl(urlsplit(following).query))["patient"] == small.mine
    assert len(small.ids(following.partition("/fhir/")[2])) == 1
    both = small.http.post(f"{url}?modality=MR", data={"patient": small.mine}, headers=small.token())
    assert [entry["resource"]["modality"][0]["code"] for entry in both.json()["entry"]] == ["MR"]
    refusal(small.http.post(url, json={"patient": small.mine}, headers=small.token()), 415, "not-supported")
    refusal(small.http.post(url, content=b"patient=%ff", headers=form(small)), 400, "invalid")
    limit = small.node.settings.max_message_bytes
    refusal(small.http.post(url, content=b"a" * (limit + 1), headers=form(small)), 413, "too-long")
    refusal(small.http.post(url, data={"patient": small.mine}), 401, "login")


def form(site: Site) -> dict[str, str]:
    return {**site.token(), "Content-Type": "application/x-www-form-urlencoded"}


# --- access


def test_a_token_that_is_none_of_ours_is_told_so(small: Site) -> None:
    expired = small.node.tokens.issue(client="app", scope="system/*.rs", seconds=-60)
    forged = small.token()["Authorization"][7:-4] + "AAAA"
    for token in (expired, forged, "nonsense"):
        small.node.strangers.flush()  # what follows is the first refusal of its minute
        found = small.get("Patient", {"Authorization": f"Bearer {token}"})
        refusal(found, 401, "login")
        assert 'error="invalid_token"' in found.headers["www-authenticate"]
        assert token not in found.text
    assert {event["outcome"] for event in small.events()[:3]} == {"4"}


def test_another_patient_is_refused_whether_there_is_one_or_not(site: Site) -> None:
    mine = site.token("patient/*.rs", site.mine)
    texts = set()
    for patient in (site.other, "nobody", f"{site.mine},{site.other}"):
        for type_ in ("ImagingStudy", "DocumentReference", "AuditEvent"):
            texts.add(refusal(site.get(f"{type_}?patient={patient}", mine), 403, "forbidden")["diagnostics"])
    assert len(texts) == 1
    for path in (
        f"Patient/{site.other}",
        f"ImagingStudy/{site.study(CT_OTHER)}",
        f"ImagingStudy/{site.study(CT_OTHER)}/_history/1",
    ):
        refusal(site.get(path, mine), 403, "forbidden")
        assert site.get(path).status_code == 200
    texts.add(refusal(site.get("ImagingStudy/nothing", mine), 403, "forbidden")["diagnostics"])
    assert len(texts) == 1
    refusal(site.get("ImagingStudy/nothing"), 404, "not-found")


def test_a_search_finds_the_tokens_patient_only(site: Site) -> None:
    mine = site.token("patient/*.rs", site.mine)
    assert site.ids("Patient", mine) == [site.mine]
    assert site.ids(f"Patient?_id={site.other}", mine) == []
    assert site.ids("Patient?identifier=P2", mine) == []
    assert len(site.ids("ImagingStudy", mine)) == 2
    assert site.ids(f"ImagingStudy?identifier=urn:oid:{CT_OTHER.study_uid}", mine) == []
    assert len(site.ids("ImagingStudy?modality=CT&_total=accurate", mine)) == 1
    assert len(site.ids("DocumentReference", mine)) == 2


@pytest.mark.parametrize(
    "scope", ["", "openid", "patient/Observation.rs", "patient/ImagingStudy.c", "patient/ImagingStudy.rs?x=y"]
)
def test_a_scope_that_does_not_cover_it_opens_nothing(small: Site, scope: str) -> None:
    headers = small.token(scope, small.mine)
    for path in (
        "ImagingStudy",
        f"ImagingStudy/{small.study(CT_DAY1)}",
        f"Patient/{small.mine}",
        "Endpoint",
        "AuditEvent",
        "Binary/x",
    ):
        refusal(small.get(path, headers), 403, "forbidden")


def test_read_and_search_are_granted_apart(small: Site) -> None:
    id_ = small.study(CT_DAY1)
    reads, searches = small.token("patient/ImagingStudy.r", small.mine), small.token("patient/ImagingStudy.s", small.mine)
    assert small.get(f"ImagingStudy/{id_}", reads).status_code == 200
    refusal(small.get("ImagingStudy", reads), 403, "forbidden")
    assert small.get("ImagingStudy", searches).status_code == 200
    refusal(small.get(f"ImagingStudy/{id_}", searches), 403, "forbidden")


def test_a_patient_scope_without_a_patient_opens_nothing(small: Site) -> None:
    for path in ("ImagingStudy", "Endpoint", f"Patient/{small.mine}"):
        refusal(small.get(path, small.token("patient/*.rs")), 403, "forbidden")


def test_who_may_see_studies_may_see_where_they_are(small: Site) -> None:
    headers = small.token("patient/ImagingStudy.rs", small.mine)
    (id_,) = small.ids("Endpoint?status=active", headers)
    assert id_ == small.node.installation.endpoint_id
    assert small.get(f"Endpoint/{id_}", headers).status_code == 200
    assert small.get(f"Endpoint/{id_}", small.token("patient/Endpoint.r", small.mine)).status_code == 200


# --- Binary


def test_the_document_is_told_in_its_own_type_or_as_a_resource(site: Site) -> None:
    found = site.bundle(f"DocumentReference?patient={site.other}", site.token("patient/DocumentReference.rs", site.other))
    (reference,) = (entry["resource"] for entry in found["entry"])
    attachment = reference["content"][0]["attachment"]
    headers = site.token("patient/DocumentReference.r", site.other)
    raw = site.get(attachment["url"], headers)
    assert raw.headers["content-type"] == attachment["contentType"] == "application/dicom"
    assert int(raw.headers["content-length"]) == len(raw.content) == attachment["size"]
    assert raw.headers["content-disposition"].startswith("attachment")
    assert dcmread(DicomBytesIO(raw.content)).SOPClassUID.name == "Key Object Selection Document Storage"
    for resource in (site.get(attachment["url"], headers, Accept=JSON), site.get(f"{attachment['url']}?_format=json", headers)):
        assert resource.json()["contentType"] == "application/dicom"
        assert base64.b64decode(resource.json()["data"]) == raw.content
        assert resource.headers["content-type"] == JSON
    refusal(site.get(attachment["url"], site.token("patient/DocumentReference.r", site.mine)), 403, "forbidden")
    refusal(site.get("Binary/nothing"), 404, "not-found")
    read = site.events()[0:6]
    assert any(each["entity"][0]["what"].get("reference") == attachment["url"] for each in read if each["outcome"] == "0")


# --- the trail


def test_a_read_is_in_the_trail(site: Site) -> None:
    id_ = site.study(CT_DAY1)
    before = site.mark()
    site.get(f"ImagingStudy/{id_}", site.token("patient/*.rs", site.mine), **{"X-Request-Id": "r-7"})
    (event,) = site.events(before)
    assert event["subtype"][0]["code"] == "read"
    assert event["outcome"] == "0"
    references = [each["what"].get("reference") for each in event["entity"]]
    assert references[:2] == [f"ImagingStudy/{id_}", f"Patient/{site.mine}"]
    assert event["agent"][0]["who"]["identifier"]["value"] == "app"
    assert "PatientRead" in event["meta"]["profile"][0]
    assert "r-7" in str(event["entity"])


def test_a_search_is_in_the_trail_once_for_each_patient(site: Site) -> None:
    before = site.mark()
    site.ids("ImagingStudy?modality=CT,MR")
    events = site.events(before)
    assert {each["what"]["reference"] for event in events for each in event["entity"] if "reference" in each.get("what", {})} == {
        f"Patient/{site.mine}",
        f"Patient/{site.other}",
    }
    assert len(events) == 2
    for event in events:
        assert base64.b64decode(event["entity"][0]["query"]) == b"ImagingStudy?modality=CT,MR"
        assert "PatientQuery" in event["meta"]["profile"][0]


def test_a_patients_trail_does_not_tell_of_whom_else_somebody_searched(site: Site) -> None:
    site.ids(f"ImagingStudy?patient={site.mine},{site.other}")
    theirs = site.token("patient/AuditEvent.rs", site.mine)
    seen = site.bundle("AuditEvent", theirs)
    assert seen["entry"]
    for entry in seen["entry"]:
        alone = site.get(f"AuditEvent/{entry['resource']['id']}", theirs).json()
        for event in (entry["resource"], alone):
            AuditEvent.model_validate(event)
            assert not any("query" in entity for entity in event["entity"])
            assert site.other not in str(event)
    assert any("query" in entity for entry in site.bundle("AuditEvent")["entry"] for entity in entry["resource"]["entity"])


def test_a_search_that_found_nothing_is_in_the_trail_too(small: Site) -> None:
    for query, patient in ((f"patient={small.mine}&modality=XA", small.mine), ("modality=XA", "")):
        before = small.mark()
        assert small.ids(f"ImagingStudy?{query}") == []
        (event,) = small.events(before)
        assert (f"Patient/{patient}" in str(event)) == bool(patient)


def test_a_posted_search_is_in_the_trail_with_its_form(small: Site) -> None:
    small.http.post("/fhir/ImagingStudy/_search?_count=5", data={"patient": small.mine}, headers=small.token())
    (query,) = [each["query"] for each in small.events()[0]["entity"] if "query" in each]
    assert base64.b64decode(query) == f"ImagingStudy?_count=5&patient={small.mine}".encode()


def test_each_refusal_is_in_the_trail(small: Site) -> None:
    mine = small.token("patient/*.rs", small.mine)
    for path, headers in (
        (f"Patient/{small.other}", mine),
        (f"Patient/{small.other}/_history/1", mine),
        (f"ImagingStudy?patient={small.other}", mine),
        ("Binary/x", small.token("patient/Patient.r", small.mine)),
        ("Patient", {"X-None": ""}),
        ("Patient", {"Authorization": "Bearer x"}),
    ):
        small.node.strangers.flush()
        before = small.mark()
        assert small.get(path, headers).status_code in (401, 403)
        (event,) = small.events(before)
        assert event["outcome"] == "4"
        assert event["outcomeDesc"]
    assert small.events()[0]["agent"][0]["who"]["identifier"]["value"] == "anonymous"
    assert f"Patient/{small.other}" in str(small.events()[5])


def test_refused_attempts_are_in_the_trail_of_whose_data_they_were(site: Site) -> None:
    """What the patient asks: who wanted my images and was turned away."""
    study = site.study(CT_OTHER)
    (document,) = [
        each["resource"]["id"] for each in site.bundle(f"DocumentReference?patient={site.other}")["entry"]
    ]  # fmt: skip
    mine, narrow = site.token("patient/*.rs", site.mine), site.token("patient/Observation.rs", site.mine)
    victim = f"AuditEvent?patient={site.other}&outcome=4"
    asked = {
        f"Patient/{site.other}": f"Patient/{site.other}",
        f"ImagingStudy/{study}": f"ImagingStudy/{study}",
        f"ImagingStudy/{study}/_history/1": f"ImagingStudy/{study}/_history/1",
        f"Binary/{document}": f"Binary/{document}",
        f"ImagingStudy?patient={site.other}": f"ImagingStudy?patient={site.other}",
        f"DocumentReference?patient=Patient/{site.other},{site.mine}": f"DocumentReference?patient=Patient/{site.other},{site.mine}",
    }
    for headers in (mine, narrow):
        for path, named in asked.items():
            before = site.mark()
            text = refusal(site.get(path, headers), 403, "forbidden")["diagnostics"]
            assert site.other not in text
            event, *others = site.events(before)
            if headers is mine:
                assert others == []
            assert {event["id"] for event in site.events(before)} & set(site.ids(victim))
            entity = event["entity"][0]
            assert named == (base64.b64decode(entity["query"]).decode() if "query" in entity else entity["what"]["reference"])
            assert event["outcome"] == "4"
            assert "meta" not in event or not event["meta"].get("profile"), "BALP's patterns are for what succeeded"
    theirs = site.token("patient/AuditEvent.rs", site.other)
    assert len(site.ids(victim, theirs)) == 2 * len(asked)


def test_refusals_can_be_listed(site: Site) -> None:
    site.get(f"Patient/{site.other}", site.token("patient/*.rs", site.mine))
    refused = site.ids("AuditEvent?outcome=4")
    assert len(refused) == 1
    done = site.ids("AuditEvent?outcome=0&_count=1000")
    assert done
    assert not set(done) & set(refused)
    for system in ("http://hl7.org/fhir/audit-event-outcome", "http://terminology.hl7.org/CodeSystem/audit-event-outcome"):
        assert site.ids(f"AuditEvent?outcome={system}|4") == refused
    assert site.ids("AuditEvent?outcome=4,8,12") == refused
    assert site.ids("AuditEvent?outcome=urn:other|4") == []
    assert site.bundle("AuditEvent?outcome=4&_summary=count")["total"] == 1
    told = {each["type"]: each for each in site.http.get("/fhir/metadata").json()["rest"][0]["resource"]}
    assert "outcome" in {each["name"] for each in told["AuditEvent"]["searchParam"]}


def test_a_request_that_nothing_takes_says_what_it_was_for(small: Site) -> None:
    small.node.strangers.flush()
    before = small.mark()
    assert small.http.put(f"/fhir/Patient/{small.mine}", json={}).status_code == 401
    (event,) = small.events(before)
    assert event["entity"][0]["what"]["reference"] == f"Patient/{small.mine}"


def test_the_trail_is_read_as_audit_events(site: Site) -> None:
    site.get(f"Patient/{site.other}")
    mine = site.token("patient/AuditEvent.rs", site.mine)
    found = site.bundle("AuditEvent?_count=1", mine)
    (entry,) = found["entry"]
    assert f"Patient/{site.mine}" in str(entry)
    assert f"Patient/{site.other}" not in str(site.bundle("AuditEvent", mine))
    id_ = entry["resource"]["id"]
    assert site.get(f"AuditEvent/{id_}", mine).json() == entry["resource"]
    refusal(site.get(f"AuditEvent/{id_}", site.token("patient/*.rs", site.other)), 403, "forbidden")
    refusal(site.get("AuditEvent/nothing", mine), 403, "forbidden")
    refusal(site.get("AuditEvent/nothing"), 404, "not-found")
    assert site.ids(f"AuditEvent?_id={id_}") == [id_]
    assert site.ids("AuditEvent?date=lt2020") == []
    events = site.bundle(f"AuditEvent?patient={site.mine}&date=ge2020&_sort=-date")["entry"]
    times = [each["resource"]["recorded"] for each in events]
    assert times == sorted(times, reverse=True)

"""What the trail says of FHIR requests for what came by DICOM, on both engines."""

import base64
from collections.abc import Iterator
from pathlib import Path

import pytest
from fhir.resources.R4B.auditevent import AuditEvent
from peers import imageshare
from peers.generated import send
from peers.published import CT_DAY1, CT_OTHER, MR_SAME_PATIENT, Site, opened, refusal


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

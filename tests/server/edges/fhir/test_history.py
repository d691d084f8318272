"""Histories at all three levels: each version once, newest first, in pages, to whom its resource is open."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fhir.resources.R4B.bundle import Bundle
from peers.fhir_site import FhirSite, fhir_site, issue
from peers.shows import shows

from server.records import history


def patient(id_: str, **more: Any) -> dict[str, Any]:
    return {"resourceType": "Patient", "id": id_, **more}


def observation(id_: str, of: str, text: str) -> dict[str, Any]:
    return {
        "resourceType": "Observation", "id": id_, "status": "final", "code": {"text": text}, "subject": {"reference": f"Patient/{of}"},
    }  # fmt: skip


@pytest.fixture
def site(tmp_path: Path, database_url: str) -> Iterator[FhirSite]:
    with fhir_site(tmp_path / "data", database_url) as site:
        site.put(patient("a", active=True), patient("b"), observation("o", "a", "first"))
        site.put(patient("a", active=False), observation("o", "a", "second"))
        site.put({"resourceType": "Practitioner", "id": "p"})
        site.delete("Patient", "b")
        yield site


def told(bundle: dict[str, Any]) -> list[tuple[str, str, str]]:
    """(method, URL, ETag) of each entry."""
    return [(each["request"]["method"], each["request"]["url"], each["response"]["etag"]) for each in bundle.get("entry", ())]


@shows("interaction", "history-instance")
def test_of_a_resource(site: FhirSite) -> None:
    found = site.bundle("Patient/b/_history")
    Bundle.model_validate(found)
    assert found["type"] == "history"
    assert found["total"] == 2
    assert told(found) == [("DELETE", "Patient/b", 'W/"2"'), ("PUT", "Patient/b", 'W/"1"')]
    deleted, first = found["entry"]
    assert "resource" not in deleted
    assert deleted["response"]["status"].startswith("204")
    assert first["resource"]["meta"]["versionId"] == "1"
    assert first["response"]["status"].startswith("201")
    assert {each["fullUrl"] for each in found["entry"]} == {f"{site.base}/Patient/b"}
    assert site.get("Patient/a/_history").json()["entry"][0]["resource"] == site.get("Patient/a").json()
    issue(site.get("Patient/nothing/_history"), 404, "not-found")


@shows("interaction", "history-type")
def test_of_a_type(site: FhirSite) -> None:
    assert told(site.bundle("Observation/_history")) == [("PUT", "Observation/o", 'W/"2"'), ("PUT", "Observation/o", 'W/"1"')]
    assert len(told(site.bundle("Patient/_history"))) == 4
    assert "entry" not in site.bundle("Condition/_history")


@shows("interaction", "history-system")
def test_of_the_system(site: FhirSite) -> None:
    found = site.bundle("_history")
    urls = [url for _, url, _ in told(found)]
    assert urls[:2] == ["Patient/b", "Practitioner/p"]
    assert {url.partition("/")[0] for url in urls} >= {"Patient", "Observation", "Practitioner"}
    times = [each["response"]["lastModified"] for each in found["entry"]]
    assert times == sorted(times, reverse=True)


@shows("result", "_since", "_at")
def test_since_and_at(site: FhirSite) -> None:
    entries = site.bundle("Patient/a/_history")["entry"]
    second, first = (each["response"]["lastModified"] for each in entries)
    assert len(told(site.bundle(f"Patient/a/_history?_since={second}"))) == 1
    assert len(told(site.bundle(f"Patient/a/_history?_since={first}"))) == 2
    assert told(site.bundle("Patient/_history?_since=2999-01-01T00:00:00Z")) == []
    assert len(told(site.bundle("Patient/a/_history?_at=2020"))) == 0
    assert told(site.bundle("Patient/a/_history?_at=2999")) == [("PUT", "Patient/a", 'W/"2"')]
    for query in (
        "_since=yesterday",
        "_since=2026",
        "_at=yesterday",
        "_count=-1",
        "_count=x",
        "_list=1",
        "name=x",
        "_count=1&_count=2",
    ):
        assert site.get(f"Patient/_history?{query}").status_code == 400


@pytest.mark.parametrize("path", ["Patient/a/_history", "Patient/_history", "_history"])
def test_all_pages_make_the_whole(site: FhirSite, path: str) -> None:
    whole = told(site.bundle(f"{path}?_count=1000"))
    found, following = [], f"{path}?_count=1"
    while following:
        page = site.bundle(following)
        links = {each["relation"]: each["url"] for each in page["link"]}
        found += told(page)
        if len(found) == 1:
            site.put(patient("late", active=True))  # what is new comes before the first page
        following = links.get("next", "").removeprefix(f"{site.base}/")
    assert found == whole


def test_a_page_link_is_for_its_request_and_its_caller_only(site: FhirSite) -> None:
    link = site.bundle("Patient/_history?_count=1")["link"][-1]["url"].removeprefix(f"{site.base}/")
    issue(site.get(link, site.token(client="somebody")), 400, "value")
    issue(site.get(link.replace("Patient/", "Observation/")), 400, "value")
    issue(site.get(link.replace("_count=1", "_count=2")), 400, "value")


def test_each_version_is_told_to_whom_its_resource_is_open(site: FhirSite) -> None:
    mine = site.token("patient/*.rs", "a")
    assert len(told(site.bundle("Patient/_history", mine))) == 2
    assert {url for _, url, _ in told(site.bundle("_history", mine))} == {"Patient/a", "Observation/o"}
    issue(site.get("Patient/b/_history", mine), 403, "forbidden")
    issue(site.get("Practitioner/p/_history", mine), 403, "forbidden")
    assert {url for _, url, _ in told(site.bundle("_history", site.token("user/Practitioner.s")))} == {"Practitioner/p"}
    issue(site.get("Patient/_history", site.token("user/Patient.r")), 403, "forbidden")
    issue(site.get("Patient/a/_history", site.token("user/Patient.s")), 403, "forbidden")
    issue(site.get("_history", site.token("user/Patient.r")), 403, "forbidden")


def test_up_to_when_it_is_whole_does_not_tell_when_others_write(site: FhirSite, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who follows her own data hears of nobody else's: the moment is that of the last version which she is told."""
    monkeypatch.setattr(history.settled, "__kwdefaults__", {"clocks": 0})  # which on PostgreSQL would be less
    mine, all_ = site.token("patient/*.rs", "a"), site.token()
    for path in ("Patient/_history", "_history", "Patient/a/_history"):
        found = site.bundle(path, mine)
        site.put(patient("b", active=True))
        assert site.bundle(path, mine)["meta"] == found["meta"] == {"lastUpdated": found["entry"][0]["response"]["lastModified"]}
    everything = site.bundle("_history", all_)
    assert everything["meta"]["lastUpdated"] != site.bundle("_history", mine)["meta"]["lastUpdated"]
    since = site.bundle("_history", mine)["meta"]["lastUpdated"]
    for asked, answer in ((since, since), ("2999-01-01T00:00:00.000Z",) * 2):
        assert site.bundle(f"Condition/_history?_since={asked}", mine)["meta"]["lastUpdated"] == answer
    assert site.bundle("Condition/_history", mine)["meta"]["lastUpdated"].startswith("1970-01-01T")
    site.put(patient("a", active=True))
    assert told(site.bundle(f"_history?_since={since}", mine))[0] == ("PUT", "Patient/a", 'W/"3"')


def test_a_history_is_in_the_trail(site: FhirSite) -> None:
    before = site.mark()
    site.get("Patient/a/_history")
    (event,) = site.events(before)
    assert event["subtype"][0]["code"] == "history-instance"
    assert "Patient/a" in str(event["entity"])
    before = site.mark()
    site.get("_history")
    events = site.events(before)
    assert {each["subtype"][0]["code"] for each in events} == {"history-system"}
    assert len(events) == 2  # one of each patient


def test_a_part_of_each_version(site: FhirSite) -> None:
    found = site.bundle("Patient/a/_history?_elements=active")
    assert found["entry"][0]["resource"].keys() == {"resourceType", "id", "meta", "active"}
    issue(site.get("AuditEvent/_history"), 405, "not-supported")

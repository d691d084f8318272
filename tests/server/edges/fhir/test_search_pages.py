"""Links between the pages of a search (FHIR R4 section 3.1.1.5.4), back and forth; and searches whose pages look at what no index has."""

from collections.abc import Iterator
from typing import Any

import pytest
from peers.fhir_site import FhirSite, fhir_site, issue
from peers.shows import shows

from server.work.fhir import searching

COUNT = 7


@pytest.fixture
def site(tmp_path_factory: pytest.TempPathFactory, database_url: str) -> Iterator[FhirSite]:
    with fhir_site(tmp_path_factory.mktemp("pages") / "data", database_url) as site:
        for number in range(COUNT):
            name = [{"family": f"F{number % 3}"}]
            site.put({"resourceType": "Patient", "id": f"p{number}", "name": name, "birthDate": f"19{50 + number}"})
            site.put({"resourceType": "Observation", "id": f"o{number}", "status": "final", "code": {"text": "x"}, "subject": {"reference": "Patient/p0"}})  # fmt: skip
        yield site


def links(page: dict[str, Any]) -> dict[str, str]:
    return {each["relation"]: each["url"] for each in page["link"]}


def ids(page: dict[str, Any]) -> list[str]:
    return [each["resource"]["id"] for each in page.get("entry", ())]


@shows("result", "previous")
@pytest.mark.parametrize(
    "query", ["Patient?_count=2", "Patient?_count=2&_sort=family,-birthdate", "Patient?_sort=-_lastUpdated&_count=2", "Patient/p0/*?_count=3", "?_type=Patient,Observation&_count=3"],
)  # fmt: skip
def test_the_page_before_is_the_same_again(site: FhirSite, query: str) -> None:
    page, forth = site.bundle(query), list[dict[str, Any]]()
    assert "previous" not in links(page)
    while True:
        forth.append(page)
        if "next" not in links(page):
            break
        page = site.bundle(links(page)["next"].removeprefix(site.base).removeprefix("/"))
    assert len(forth) > 2
    for before in reversed(forth[:-1]):
        page = site.bundle(links(page)["previous"].removeprefix(site.base).removeprefix("/"))
        assert ids(page) == ids(before)
        if before is not forth[0]:  # where the search begins anew
            assert links(page) == links(before)
    assert "previous" not in links(page)


def test_a_cursor_remembers_some_pages_and_stays_short(site: FhirSite, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(searching, "_MOST_REMEMBERED", 30)
    page, longest = site.bundle("Patient?_count=1"), 0
    while "next" in links(page):
        longest = max(longest, len(links(page)["next"]))
        page = site.bundle(links(page)["next"].removeprefix(f"{site.base}/"))
    assert longest < 300 + len(site.base)
    steps = 0
    while "previous" in links(page):
        page = site.bundle(links(page)["previous"].removeprefix(f"{site.base}/"))
        steps += 1
    assert 0 < steps < COUNT - 1
    assert "first" in links(page)


def test_the_page_before_is_for_whom_it_was_made(site: FhirSite) -> None:
    page = site.bundle("Patient?_count=1")
    for _ in range(2):
        page = site.bundle(links(page)["next"].removeprefix(f"{site.base}/"))
    path = links(page)["previous"].removeprefix(f"{site.base}/")
    issue(site.get(path, site.token("system/*.rs", client="other")), 400, "value")


def test_near_over_http(site: FhirSite) -> None:
    site.put({"resourceType": "Location", "id": "here", "position": {"latitude": 52.52, "longitude": 13.405}})
    assert site.ids("Location?near=52.5|13.4|5|km") == ["here"]
    assert site.ids("Location?near=52.5%7C13.4%7C5%7Ckm") == ["here"]
    assert site.ids("Location?near=52.5|13.4|500|m") == []
    assert links(site.bundle("Location?near=52.5|13.4|5|[mi_us]"))["self"].startswith(f"{site.base}/Location?near=52.5|13.4|5|")
    for value in ("52.5", "91|0", "0|181", "a|b", "1|2|-1", "1|2|3|parsec", "1|2|3|km|5", "1|2|1e9999", "||", "1,2|3"):
        issue(site.get(f"Location?near={value}"), 400, "value")
    issue(site.get("Location?near:below=1|2"), 400, "not-supported")
    issue(site.get("Location?_sort=near"), 400, "not-supported")


def test_what_an_app_did_is_found_in_the_trail(site: FhirSite) -> None:
    """FHIR R4, search parameters of AuditEvent: an app of a patient finds the patient's own events, and is asked for no other patient."""
    site.get("Patient/p0", site.token(client="viewer"))
    site.get("Patient/p1", site.token(client="viewer"))
    site.get("Patient/p1", site.token(client="another"))
    (one, two) = site.ids("AuditEvent?agent:identifier=viewer&action=R")
    assert one != two
    mine = site.token("patient/AuditEvent.rs", "p0")
    assert site.ids("AuditEvent?agent:identifier=viewer", mine) == [two]
    assert site.ids("AuditEvent?entity=Patient/p0&action=R") == [two]
    assert site.ids("AuditEvent?entity=Patient/p0&action=R", mine) == [two]
    issue(site.get("AuditEvent?entity=Patient/p1", mine), 403, "forbidden")
    assert site.bundle("AuditEvent?agent:identifier=viewer&action=R&_summary=count")["total"] == 2
    issue(site.get("AuditEvent?agent-name:text=x"), 400, "not-supported")
    issue(site.get("AuditEvent?agent.name=x"), 400, "not-supported")


@pytest.mark.parametrize(
    "query", ["Patient?_has:AuditEvent:patient:type=rest", "Patient?_revinclude=AuditEvent:patient", "AuditEvent?_include=AuditEvent:agent",
              "AuditEvent?_revinclude=*", "Provenance?entity:AuditEvent.type=rest", "Patient?_has:AuditEvent:entity:_has:Provenance:target:agent=x"],
)  # fmt: skip
def test_what_would_lead_through_the_trail_is_refused_and_not_left_out(site: FhirSite, query: str) -> None:
    issue(site.get(query), 400, "not-supported")

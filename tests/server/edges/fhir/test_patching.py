"""Patches: worked out while nobody waits for them, written only over what they were worked out for; preconditions."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from peers.fhir_site import FhirSite, fhir_site, issue
from peers.shows import shows

from profiles.fhir import patching
from server.work.fhir import patch as work

ON_BOTH_ENGINES = True
Json = dict[str, Any]
JSON_PATCH = "application/json-patch+json"
PATIENT: Json = {"resourceType": "Patient", "id": "p", "identifier": [{"system": "urn:example", "value": "1"}]}
ACTIVE = b'[{"op":"add","path":"/active","value":true}]'
PATHS = ["Patient/p", "Patient?identifier=urn:example|1"]


@pytest.fixture
def site(tmp_path: Path, database_url: str) -> Iterator[FhirSite]:
    with fhir_site(tmp_path / "data", database_url) as site:
        site.put(PATIENT)
        yield site


def patching_meets(monkeypatch: pytest.MonkeyPatch, meanwhile: Callable[[], object]) -> list[int]:
    """`meanwhile` happens in another thread each time that a patch is being worked out, and has to come to its end."""
    times: list[int] = []

    def patched(resource: Json, body: bytes, media_type: str) -> Json:
        times.append(1)
        with ThreadPoolExecutor(1) as other:
            other.submit(meanwhile).result(timeout=20)
        return patching.patched(resource, body, media_type)

    class Observed:
        patched_by_parameters = staticmethod(patching.patched_by_parameters)

    Observed.patched = staticmethod(patched)  # type: ignore[attr-defined]
    monkeypatch.setattr(work, "patching", Observed)
    return times


@pytest.mark.parametrize("path", PATHS)
def test_others_write_while_a_patch_is_worked_out(site: FhirSite, monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    times = patching_meets(monkeypatch, lambda: site.put({"resourceType": "Patient", "id": "other"}))
    response = site.ask("PATCH", path, body=ACTIVE, Content_Type=JSON_PATCH)
    assert (response.status_code, response.json()["active"]) == (200, True)
    assert len(times) == 1


@pytest.mark.parametrize("path", PATHS)
def test_what_was_changed_meanwhile_is_patched_anew(site: FhirSite, monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    genders = iter(["male", "female"])

    def meanwhile() -> None:
        if gender := next(genders, None):
            site.put({**PATIENT, "gender": gender})

    times = patching_meets(monkeypatch, meanwhile)
    response = site.ask("PATCH", path, body=ACTIVE, Content_Type=JSON_PATCH)
    assert response.status_code == 200, response.text
    assert (response.json()["gender"], response.json()["active"], response.headers["etag"]) == ("female", True, 'W/"4"')
    assert len(times) == 3


def test_a_patch_of_what_changes_all_the_time_is_worked_out_while_others_wait(
    site: FhirSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers = iter(range(4))

    def meanwhile() -> None:
        if (number := next(numbers, None)) is not None:
            site.put({**PATIENT, "name": [{"text": str(number)}]})

    times = patching_meets(monkeypatch, meanwhile)
    response = site.ask("PATCH", "Patient/p", body=ACTIVE, Content_Type=JSON_PATCH)
    assert (response.status_code, response.json()["name"], response.json()["active"]) == (200, [{"text": "3"}], True)
    assert len(times) == 5


@shows("header", "If-Match")
def test_what_was_changed_meanwhile_fails_if_match(site: FhirSite, monkeypatch: pytest.MonkeyPatch) -> None:
    patching_meets(monkeypatch, lambda: site.put({**PATIENT, "gender": "male"}))
    response = site.ask("PATCH", "Patient/p", body=ACTIVE, Content_Type=JSON_PATCH, If_Match='W/"1"')
    issue(response, 412, "conflict")
    assert "active" not in site.get("Patient/p").json()


def test_what_was_deleted_meanwhile_is_gone(site: FhirSite, monkeypatch: pytest.MonkeyPatch) -> None:
    patching_meets(monkeypatch, lambda: site.delete("Patient", "p"))
    issue(site.ask("PATCH", "Patient/p", body=ACTIVE, Content_Type=JSON_PATCH), 410, "deleted")


def test_nothing_is_worked_out_for_who_may_not_write(site: FhirSite, monkeypatch: pytest.MonkeyPatch) -> None:
    times = patching_meets(monkeypatch, lambda: None)
    for token in (site.token("user/Patient.r"), site.token("patient/Patient.u", "other"), site.token("user/Observation.u")):
        issue(site.ask("PATCH", "Patient/p", token, body=ACTIVE, Content_Type=JSON_PATCH), 403, "forbidden")
    assert times == []


# --- If-None-Match


@shows("header", "If-None-Match")
@pytest.mark.parametrize("path", PATHS)
def test_if_none_match_keeps_what_is_there(site: FhirSite, path: str) -> None:
    """RFC 9110 section 13.1.2: the request is not performed."""
    changed = {**PATIENT, "active": True}
    for held in ("*", 'W/"1"', '"1"', '"7", W/"1"'):
        issue(site.ask("PUT", path, body=changed, If_None_Match=held), 412, "conflict")
    assert site.get("Patient/p").headers["etag"] == 'W/"1"'
    assert site.ask("PUT", path, body=changed, If_None_Match='W/"2"').headers["etag"] == 'W/"2"'


def test_if_none_match_makes_what_is_not_there(site: FhirSite) -> None:
    """Also what is there no longer: it has no representation."""
    other = {"resourceType": "Patient", "id": "new"}
    assert site.ask("PUT", "Patient/new", body=other, If_None_Match="*").status_code == 201
    site.delete("Patient", "new")
    assert site.ask("PUT", "Patient/new", body=other, If_None_Match="*").status_code == 201
    issue(site.ask("PUT", "Patient/new", body=other, If_None_Match="*"), 412, "conflict")


def test_if_none_match_is_not_passed_over_elsewhere(site: FhirSite) -> None:
    patched = site.ask("PATCH", "Patient/p", body=ACTIVE, Content_Type=JSON_PATCH, If_None_Match="*")
    issue(patched, 400, "not-supported")
    issue(site.ask("DELETE", "Patient/p", If_None_Match="*"), 400, "not-supported")
    assert site.get("Patient/p").headers["etag"] == 'W/"1"'

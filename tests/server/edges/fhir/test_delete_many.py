"""Conditional delete of several (FHIR R4 section 3.1.0.7.1), where an installation has it: all or nothing, no more than a bound, each patient told."""

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from peers.fhir_site import FhirSite, fhir_site, issue
from peers.shows import shows

from server.work.fhir import delete

ON_BOTH_ENGINES = True


@pytest.fixture
def site(tmp_path: Path) -> Iterator[FhirSite]:
    with fhir_site(tmp_path / "data", fhir_conditional_delete="multiple") as site:
        site.put(*(observation(str(number), f"Patient/{'ab'[number % 2]}") for number in range(5)))
        yield site


def observation(id_: str, subject: str) -> dict[str, Any]:
    return {
        "resourceType": "Observation",
        "id": id_,
        "status": "final",
        "code": {"coding": [{"code": "x"}]},
        "subject": {"reference": subject},
    }


@shows("conditional", "delete")
def test_all_that_meet_the_condition_are_deleted(site: FhirSite) -> None:
    site.put({**observation("kept", "Patient/a"), "code": {"coding": [{"code": "y"}]}})
    mark = site.mark()
    answer = site.ask("DELETE", "Observation?code=x", Prefer="return=OperationOutcome")
    assert (answer.status_code, answer.json()["issue"][0]["diagnostics"][:2]) == (200, "5 ")
    assert site.ids("Observation") == ["kept"]
    assert site.get("Observation/1").status_code == 410
    assert site.get("Observation/1/_history/1").status_code == 200
    events = [each for each in site.events(mark) if each["subtype"][0]["code"] == "delete"]
    assert [each["action"] for each in events] == ["D", "D"]
    whose = sorted(
        entity["what"]["reference"] for each in events for entity in each["entity"] if entity.get("role", {}).get("code") == "1"
    )
    assert whose == ["Patient/a", "Patient/b"], "one for each patient"
    queries = {base64.b64decode(entity["query"]) for each in events for entity in each["entity"] if "query" in entity}
    assert queries == {b"Observation?code=x"}
    assert site.ask("DELETE", "Observation?code=x").status_code == 204
    assert site.ask("DELETE", "Observation?code=y").status_code == 204
    assert site.ids("Observation") == []


def test_all_or_nothing(site: FhirSite) -> None:
    """Who may see them all, and delete those of one patient only, deletes none; and a version that is not that of all is none's."""
    token = site.token("user/Observation.s patient/Observation.d", patient="a")
    issue(site.ask("DELETE", "Observation?code=x", token), 403, "forbidden")
    site.put({**observation("4", "Patient/a"), "note": [{"text": "x"}]})
    issue(site.ask("DELETE", "Observation?code=x", If_Match='W/"1"'), 412, "conflict")
    assert len(site.ids("Observation")) == 5


def test_a_confined_caller_deletes_what_it_sees(site: FhirSite) -> None:
    token = site.token("patient/Observation.ds", patient="a")
    assert site.ask("DELETE", "Observation?code=x", token).status_code == 204
    assert sorted(site.ids("Observation")) == ["1", "3"]


def test_no_more_than_a_bound(site: FhirSite, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delete, "MOST", 4)
    issue(site.ask("DELETE", "Observation?code=x"), 412, "too-costly")
    assert len(site.ids("Observation")) == 5


@pytest.mark.parametrize("kind", ["batch", "transaction"])
def test_within_a_bundle(site: FhirSite, kind: str) -> None:
    entries = [{"request": {"method": "DELETE", "url": "Observation?code=x"}}]
    answer = site.ask("POST", "", body={"resourceType": "Bundle", "type": kind, "entry": entries})
    assert [each["response"]["status"] for each in answer.json()["entry"]] == ["204 No Content"]
    assert site.ids("Observation") == []


def test_what_is_deleted_is_written_by_no_other_entry(site: FhirSite) -> None:
    again = {"resource": observation("1", "Patient/a"), "request": {"method": "PUT", "url": "Observation/1"}}
    entries = [again, {"request": {"method": "DELETE", "url": "Observation?code=x"}}]
    issue(site.ask("POST", "", body={"resourceType": "Bundle", "type": "transaction", "entry": entries}), 400, "invalid")
    assert len(site.ids("Observation")) == 5


def test_it_is_said(site: FhirSite) -> None:
    (rest,) = site.bundle("metadata")["rest"]
    told = {each["type"]: each["conditionalDelete"] for each in rest["resource"]}
    assert (told["Observation"], told["AuditEvent"]) == ("multiple", "not-supported")

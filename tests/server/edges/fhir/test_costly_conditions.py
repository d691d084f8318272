"""A condition that takes too long is refused before anybody has to wait for it, alone and in a Bundle (FHIR R4 sections 3.1.0.4.3 and 3.1.0.8.1)."""

from collections.abc import Iterator
from typing import Any

import pytest
from peers.fhir_site import FhirSite, fhir_site, issue

from server.records.fhir_search import limits
from server.work.fhir import conditional

ON_BOTH_ENGINES = True
PATIENT: dict[str, Any] = {"resourceType": "Patient", "name": [{"family": "Test"}]}
CONDITION = "family:contains=est"


@pytest.fixture
def site(tmp_path_factory: pytest.TempPathFactory, database_url: str) -> Iterator[FhirSite]:
    with fhir_site(tmp_path_factory.mktemp("costly") / "data", database_url) as site:
        site.put(*({**PATIENT, "id": f"p{number}", "name": [{"family": f"x{number}"}]} for number in range(50)))
        yield site


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """No condition has any time."""
    monkeypatch.setattr(conditional, "SECONDS", -1.0)
    monkeypatch.setattr(conditional, "_EACH", 0.0)
    monkeypatch.setattr(limits, "_STEPS", 1)


def bundle(kind: str, method: str, url: str, **request: str) -> dict[str, Any]:
    resource = {} if method == "DELETE" else {"resource": PATIENT}
    return {"resourceType": "Bundle", "type": kind, "entry": [{**resource, "request": {"method": method, "url": url, **request}}]}


@pytest.mark.usefixtures("hurried")
@pytest.mark.parametrize(
    ("method", "path", "body", "headers"),
    [
        ("POST", "Patient", PATIENT, {"If_None_Exist": CONDITION}),
        ("PUT", f"Patient?{CONDITION}", PATIENT, {}),
        ("DELETE", f"Patient?{CONDITION}", None, {}),
        ("PATCH", f"Patient?{CONDITION}", b"[]", {"Content_Type": "application/json-patch+json"}),
        ("POST", "", bundle("transaction", "POST", "Patient", ifNoneExist=CONDITION), {}),
        ("POST", "", bundle("transaction", "DELETE", f"Patient?{CONDITION}"), {}),
    ],
)
def test_it_is_refused_while_somebody_else_writes(
    site: FhirSite, method: str, path: str, body: Any, headers: dict[str, str]
) -> None:
    """Without having waited for its turn: on SQLite it would for all the time that the other one has it."""
    token = site.token()  # whose key is made with the first one
    with site.node.database.write():
        refused = site.ask(method, path, token, body=body, **headers)
    issue(refused, 400, "too-costly")


@pytest.mark.usefixtures("hurried")
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_in_a_batch_it_is_refused_by_itself(site: FhirSite, method: str) -> None:
    asked = (
        bundle("batch", "POST", "Patient", ifNoneExist=CONDITION)
        if method == "POST"
        else bundle("batch", method, f"Patient?{CONDITION}")
    )
    asked["entry"].append({"resource": PATIENT, "request": {"method": "POST", "url": "Patient"}})
    answered = site.ask("POST", "", body=asked).json()["entry"]
    assert [each["response"]["status"][:3] for each in answered] == ["400", "201"]
    assert answered[0]["response"]["outcome"]["issue"][0]["code"] == "too-costly"


def test_all_conditions_of_a_request_share_their_time(site: FhirSite, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many entries a batch has; those of the next request have theirs."""
    monkeypatch.setattr(conditional, "SECONDS", 3600.0)
    monkeypatch.setattr(conditional, "_EACH", -1800.0)
    monkeypatch.setattr(limits, "_STEPS", 1)
    asked = bundle("transaction", "PUT", "Patient?family:contains=a")
    asked["entry"] = [
        {"resource": PATIENT, "request": {"method": "PUT", "url": f"Patient?family:contains={each}"}}
        for each in ("a", "b", "c", "d")
    ]
    for _ in range(2):
        issue(site.ask("POST", "", body=asked), 400, "too-costly")
    assert site.ask("PUT", "Patient?family:contains=e", body=PATIENT).status_code == 201


def test_requests_that_clients_call_the_same_have_each_its_own_time(site: FhirSite, monkeypatch: pytest.MonkeyPatch) -> None:
    """X-Request-Id is theirs to choose."""
    monkeypatch.setattr(conditional, "SECONDS", 3600.0)
    monkeypatch.setattr(conditional, "_EACH", -1800.0)
    monkeypatch.setattr(limits, "_STEPS", 1)
    for _ in range(4):
        asked = site.ask("PUT", "Patient?family:contains=e", body=PATIENT, X_Request_Id="7e1c8a52-3d5f-4d0e-9b64-3c1a9a6a2f10")
        assert asked.status_code in (200, 201), asked.text


def test_a_search_that_a_busy_machine_could_not_do_may_be_tried_again(site: FhirSite, monkeypatch: pytest.MonkeyPatch) -> None:
    """503 and Retry-After where it has not worked too long; PostgreSQL does not tell, so there it is what takes too long."""
    monkeypatch.setattr(limits, "_PATIENCE", 0)
    monkeypatch.setattr(limits, "_STEPS", 1)
    refused = site.get(f"Patient?{CONDITION}")
    if site.node.database.is_sqlite:
        assert "try again" in issue(refused, 503, "throttled")["diagnostics"]
        assert int(refused.headers["Retry-After"]) > 0
    else:
        issue(refused, 400, "too-costly")

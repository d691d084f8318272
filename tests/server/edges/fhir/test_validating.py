"""`$validate` over HTTP: to whom, in which transaction, and what the trail has of it and of other operations."""

import base64
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from peers.fhir_site import FhirSite, fhir_site, issue

from profiles.fhir import profile_check
from profiles.fhir.issues import Issue
from server.work.fhir import validate as work

ON_BOTH_ENGINES = True
Json = dict[str, Any]
FORM = "application/x-www-form-urlencoded"
CALLS = [
    ("POST", "Patient/$validate", {"resourceType": "Patient"}),
    ("POST", "Patient/$validate?mode=create", {"resourceType": "Patient"}),
    ("POST", "Patient/a/$validate?mode=update", {"resourceType": "Patient", "id": "a"}),
    ("GET", "Patient/a/$validate", None),
]


@pytest.fixture
def site(tmp_path: Path, database_url: str) -> Iterator[FhirSite]:
    with fhir_site(tmp_path / "data", database_url) as site:
        site.put({"resourceType": "Patient", "id": "a"}, {"resourceType": "Patient", "id": "b"})
        yield site


def validated(monkeypatch: pytest.MonkeyPatch, site: FhirSite) -> list[int]:
    """While a resource is looked at, others write."""
    times: list[int] = []

    def validate(resource: Json, **how: Any) -> tuple[Issue, ...]:
        times.append(1)
        with ThreadPoolExecutor(1) as other:
            other.submit(site.put, {"resourceType": "Patient", "id": f"other{len(times)}"}).result(timeout=20)
        return tuple(profile_check.validate(resource, **how))

    class Observed:
        pass

    Observed.validate = staticmethod(validate)  # type: ignore[attr-defined]
    monkeypatch.setattr(work, "profile_check", Observed)
    return times


@pytest.mark.parametrize(("method", "path", "resource"), CALLS)
def test_others_write_while_a_resource_is_looked_at(
    site: FhirSite, monkeypatch: pytest.MonkeyPatch, method: str, path: str, resource: Json | None
) -> None:
    times = validated(monkeypatch, site)
    assert site.ask(method, path, body=resource).status_code == 200
    assert len(times) == 1


@pytest.mark.parametrize(
    ("scope", "patient", "method", "path"),
    [
        ("user/Patient.r", None, "POST", "Patient/$validate?mode=create"),
        ("user/Patient.rc", None, "POST", "Patient/a/$validate?mode=update"),
        ("user/Patient.rcu", None, "POST", "Patient/a/$validate?mode=delete"),
        ("patient/Patient.rcud", "b", "POST", "Patient/a/$validate?mode=update"),
    ],
)
def test_what_may_not_be_done_is_not_looked_at(
    site: FhirSite, monkeypatch: pytest.MonkeyPatch, scope: str, patient: str | None, method: str, path: str
) -> None:
    times = validated(monkeypatch, site)
    refused = site.ask(method, path, site.token(scope, patient), body={"resourceType": "Patient", "id": "a"})
    issue(refused, 403, "forbidden")
    assert times == []


def test_a_trial_leaves_nothing_behind(site: FhirSite) -> None:
    site.ask("POST", "Patient/$validate?mode=create", body={"resourceType": "Patient"})
    site.ask("POST", "Patient/a/$validate?mode=update", body={"resourceType": "Patient", "id": "a", "gender": "male"})
    site.get("Patient/a/$validate?mode=delete")
    assert sorted(site.ids("Patient")) == ["a", "b"]
    assert site.get("Patient/a").headers["etag"] == 'W/"1"'


def test_what_is_wrong_is_told_once_and_of_the_trial_too(site: FhirSite) -> None:
    wrong = {"resourceType": "Patient", "id": "a", "gender": "x"}
    plain = site.ask("POST", "Patient/$validate", body=wrong).json()
    assert site.ask("POST", "Patient/a/$validate?mode=update", body=wrong).json() == plain
    other = site.ask("POST", "Patient/a/$validate?mode=update", body={"resourceType": "Patient", "id": "b"})
    assert [each["severity"] for each in other.json()["issue"]].count("error") == 1


def test_a_reference_that_leads_nowhere_is_told_to_who_may_know(site: FhirSite) -> None:
    """To a patient/ scope nobody else's data are there or not there; a write of it is taken (`fhir_references`)."""
    lost = {
        "resourceType": "Observation", "status": "final", "code": {"text": "x"}, "subject": {"reference": "Patient/a"},
        "focus": [{"reference": "Patient/nobody"}], "performer": [{"reference": "Practitioner/nobody"}], "encounter": {"reference": "Encounter/e"},
    }  # fmt: skip

    def leading_nowhere(token: dict[str, str]) -> list[str]:
        issues = site.ask("POST", "Observation/$validate", token, body=lost).json()["issue"]
        found = [each for each in issues if each["code"] == "not-found"]
        assert {each["severity"] for each in found} <= {"information"}
        return [each["expression"][0] for each in found]

    every = ["Observation.encounter.reference", "Observation.focus[0].reference", "Observation.performer[0].reference"]
    assert sorted(leading_nowhere(site.token())) == every
    assert leading_nowhere(site.token("user/Observation.c user/Practitioner.r")) == ["Observation.performer[0].reference"]
    assert leading_nowhere(site.token("patient/*.cruds", "a")) == []
    assert leading_nowhere(site.token("user/Observation.cruds")) == []
    many = {**lost, "focus": [{"reference": f"Patient/{number}"} for number in range(3000)]}
    issues = site.ask("POST", "Observation/$validate", body=many).json()["issue"]
    assert 0 < len(issues) < 1000


# --- the trail


def queries(event: Json) -> list[bytes]:
    return [base64.b64decode(each["query"]) for each in event["entity"] if "query" in each]


def patients(event: Json) -> list[str]:
    return [each["what"]["reference"] for each in event["entity"] if "reference" in each.get("what", {})]


@pytest.mark.parametrize("query", ["", "?mode=delete", "?mode=update"])
def test_the_patient_has_each_look_in_the_trail(site: FhirSite, query: str) -> None:
    mark = site.mark()
    assert site.get(f"Patient/a/$validate{query}").status_code == 200
    (event,) = site.events(mark)
    assert (event["subtype"][0]["code"], event["outcome"]) == ("operation", "0")
    assert patients(event) == ["Patient/a"]
    assert queries(event) == [f"Patient/a/$validate{query}".encode()]


def test_a_form_is_in_the_trail(site: FhirSite) -> None:
    mark = site.mark()
    form = site.ask("POST", "DocumentReference/$docref?_pretty=true", body=b"patient=a&start=2020", Content_Type=FORM)
    assert form.status_code == 200
    (event,) = site.events(mark)
    assert queries(event) == [b"DocumentReference/$docref?_pretty=true&patient=a&start=2020"]


def test_parameters_are_in_the_trail_and_a_resource_is_not(site: FhirSite) -> None:
    mark = site.mark()
    given = {
        "resourceType": "Parameters",
        "parameter": [
            {"name": "patient", "valueId": "a"},
            {"name": "start", "valueDate": "2020-01-01"},
            {"name": "on-demand", "valueBoolean": False},
        ],
    }
    assert site.ask("POST", "DocumentReference/$docref", body=given).status_code == 200
    secret = {"name": "resource", "resource": {"resourceType": "Patient", "name": [{"family": "Secret"}]}}
    called = {"resourceType": "Parameters", "parameter": [{"name": "mode", "valueCode": "create"}, secret]}
    assert site.ask("POST", "Patient/$validate", body=called).status_code == 200
    validating, docref = site.events(mark)
    assert queries(docref) == [b"DocumentReference/$docref?patient=a&start=2020-01-01&on-demand=false"]
    assert queries(validating) == [b"Patient/$validate?mode=create"]


def test_what_was_refused_is_in_the_trail_with_its_form(site: FhirSite) -> None:
    mark = site.mark()
    mine = site.token("patient/*.rs", "a")
    issue(site.ask("POST", "DocumentReference/$docref", mine, body=b"patient=b", Content_Type=FORM), 403, "forbidden")
    (event,) = site.events(mark)
    assert queries(event) == [b"DocumentReference/$docref?patient=b"]
    assert event["outcome"] == "4"


def test_a_form_has_a_limit(site: FhirSite) -> None:
    limit = site.node.settings.max_message_bytes
    form = b"patient=" + b"a" * limit
    issue(site.ask("POST", "DocumentReference/$docref", body=form, Content_Type=FORM), 413, "too-long")

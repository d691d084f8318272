"""What one Bundle may cost: room for its answers, others' turn to write, commits of the trail; and nothing that fails hides what was done."""

import base64
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from httpx2 import Response
from peers.fhir_site import FhirSite, fhir_site, issue

from server.records import trail
from server.work.fhir import bundles, entry_writes, storing, transaction
from server.work.fhir.writes import Writes

ON_BOTH_ENGINES = True
Json = dict[str, Any]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[FhirSite]:
    with fhir_site(tmp_path / "data") as site:
        yield site


def patient(id_: str, **more: Any) -> Json:
    return {"resourceType": "Patient", "id": id_, **more}


def entry(method: str, url: str, resource: Json | None = None, **request: str) -> Json:
    return {**({} if resource is None else {"resource": resource}), "request": {"method": method, "url": url, **request}}


def sent(site: FhirSite, kind: str, *entries: Json, token: dict[str, str] | None = None, **headers: str) -> Response:
    return site.ask("POST", "", token, body={"resourceType": "Bundle", "type": kind, "entry": list(entries)}, **headers)


def answers(response: Response) -> list[Json]:
    assert response.status_code == 200, response.text
    return list(response.json()["entry"])


def statuses(response: Response) -> list[str]:
    return [each["response"]["status"][:3] for each in answers(response)]


def whose(events: list[Json]) -> set[str]:
    """The patients whom events are about."""
    return {each["what"]["reference"] for event in events for each in event["entity"] if each.get("role", {}).get("code") == "1"}


# --- reads within a transaction


def test_a_transaction_that_only_reads_keeps_nobody_from_writing(site: FhirSite, monkeypatch: pytest.MonkeyPatch) -> None:
    site.put(patient("a"))

    def writes(*_: object) -> None:
        raise AssertionError("it took a transaction for writing")

    monkeypatch.setattr(Writes, "alone", writes)
    mark = site.mark()
    response = sent(site, "transaction", entry("GET", "Patient/a"), entry("GET", "Patient"), token=site.token("user/Patient.rs"))
    assert statuses(response) == ["200", "200"]
    assert sorted(each["subtype"][0]["code"] for each in site.events(mark)) == ["read", "search"]
    failed = sent(site, "transaction", entry("GET", "Patient/a"), entry("GET", "Patient/none"))
    assert issue(failed, 404, "not-found")["expression"] == ["Bundle.entry[1].request"]


def test_a_transaction_that_writes_reads_little(site: FhirSite, monkeypatch: pytest.MonkeyPatch) -> None:
    reads = [entry("GET", "Patient?_summary=count")] * 201
    issue(
        sent(site, "transaction", entry("POST", "Basic", {"resourceType": "Basic", "code": {"text": "x"}}), *reads),
        413,
        "too-costly",
    )
    assert site.ids("Basic") == []
    assert len(answers(sent(site, "transaction", *reads))) == 201
    monkeypatch.setattr(transaction, "_READING_SECONDS", -1.0)
    issue(sent(site, "transaction", entry("PUT", "Patient/b", patient("b")), reads[0]), 413, "too-costly")
    assert site.ids("Patient") == []


# --- the answer's size


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundles, "MOST_TOLD", 1000)


@pytest.mark.usefixtures("small")
def test_answers_have_room_for_so_much(site: FhirSite) -> None:
    site.put(patient("a", name=[{"text": "x" * 600}]), patient("b"))
    reads = [entry("GET", "Patient/a"), entry("GET", "Patient/a"), entry("HEAD", "Patient/a"), entry("GET", "Patient/b")]
    response = sent(site, "batch", *reads)
    assert statuses(response) == ["200", "413", "200", "200"]
    told = answers(response)[1]["response"]["outcome"]["issue"][0]
    assert (told["code"], told["expression"]) == ("too-costly", ["Bundle.entry[1].request"])
    issue(sent(site, "transaction", *reads), 413, "too-costly")


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("kind", ["batch", "transaction"])
def test_what_was_written_stands_where_there_is_no_room_to_tell_it(site: FhirSite, kind: str) -> None:
    writes = [entry("PUT", f"Patient/{id_}", patient(id_, name=[{"text": "x" * 600}])) for id_ in ("a", "b")]
    response = sent(site, kind, *writes, Prefer="return=representation")
    assert statuses(response) == ["201", "201"]
    assert ["resource" in each for each in answers(response)] == [True, False]
    assert sorted(site.ids("Patient")) == ["a", "b"]


# --- what goes wrong with one entry


@pytest.mark.parametrize("url", ["Patient?_id=a%00", "Patient?name%00=a", "Patient/a?_summary=%00"])
def test_nul_is_refused_and_nothing_else_is(site: FhirSite, url: str) -> None:
    response = sent(site, "batch", entry("PUT", "Patient/a", patient("a")), entry("GET", url), entry("GET", "Patient/a"))
    assert statuses(response) == ["201", "400", "200"]


def test_what_nobody_expected_is_that_entrys_alone(
    site: FhirSite, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The client is told what became of the others, and the log where it was, without what was in it."""

    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("of secret content")

    monkeypatch.setattr(entry_writes, "delete", broken)
    monkeypatch.setattr("server.work.fhir.history.history", broken)
    response = sent(
        site, "batch", entry("PUT", "Patient/a", patient("a")), entry("DELETE", "Patient/b"), entry("GET", "_history")
    )
    assert statuses(response) == ["201", "500", "500"]
    told = answers(response)[1]["response"]["outcome"]["issue"][0]
    assert told["code"] == "exception"
    assert site.get("Patient/a").status_code == 200
    logged = "".join(capsys.readouterr())
    assert "RuntimeError" in logged
    assert "secret" not in response.text + logged


def test_a_batchs_resources_are_checked_before_others_wait(site: FhirSite, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    before, check = Writes.alone, storing.checked

    def alone(*given: Any) -> Any:
        asked.append("write")
        return before(*given)

    def checked(*given: Any) -> None:
        asked.append("check")
        check(*given)

    monkeypatch.setattr(Writes, "alone", alone)
    monkeypatch.setattr(entry_writes, "checked", checked)
    patch = {"resourceType": "Binary", "contentType": "application/json-patch+json"}
    patch["data"] = base64.b64encode(b'[{"op":"add","path":"/active","value":true}]').decode()
    site.put(patient("c"))
    entries = [
        entry("PUT", "Patient/a", patient("a")),
        entry("POST", "Patient", {"resourceType": "Patient", "gender": "x"}),
        entry("PATCH", "Patient/c", patch),
    ]
    assert statuses(sent(site, "batch", *entries)) == ["201", "400", "200"]
    assert asked == ["check", "check", "write"]
    assert site.get("Patient/c").json()["active"] is True


# --- the trail


def test_the_trail_of_many_reads_and_refusals_is_few_commits(site: FhirSite, monkeypatch: pytest.MonkeyPatch) -> None:
    site.put(patient("a"), patient("b"))
    token = site.token("patient/Patient.rs", patient="a")
    commits: list[int] = []
    before = trail.Trail._commit

    def commit(self: trail.Trail, written: Sequence[Any]) -> None:
        commits.append(len(written))
        before(self, written)

    monkeypatch.setattr(trail.Trail, "_commit", commit)
    mark = site.mark()
    reads = [entry("GET", "Patient/a"), entry("GET", "Patient"), entry("GET", "Patient/b"), entry("DELETE", "Patient/b")]
    assert set(statuses(sent(site, "batch", *reads * 10, token=token))) == {"200", "403"}
    assert len(commits) <= 2
    events = site.events(mark)
    assert sorted(each["outcome"] for each in events) == ["0"] * 20 + ["4"] * 20
    refused = [each for each in events if each["outcome"] == "4"]
    assert whose(refused) == {"Patient/b"}, "in the trail of whose it was"


def test_a_search_of_many_patients_is_in_the_trail_of_each(site: FhirSite) -> None:
    site.put(*(patient(str(number)) for number in range(5)))
    for kind in ("batch", "transaction"):
        mark = site.mark()
        written = entry("PUT", f"Basic/{kind}", {"resourceType": "Basic", "id": kind, "code": {"text": "x"}})
        answers(sent(site, kind, entry("GET", "Patient"), written))
        found = [each for each in site.events(mark) if each["subtype"][0]["code"] == "search"]
        assert len(found) == 5
        assert len(whose(found)) == 5


def test_a_refused_transaction_says_of_what(site: FhirSite) -> None:
    site.put(patient("b"))
    mark = site.mark()
    assert sent(site, "transaction", entry("DELETE", "Patient/b"), token=site.token("user/Patient.r")).status_code == 403
    (event,) = site.events(mark)
    assert {"reference": "Patient/b"} in [each["what"] for each in event["entity"] if "what" in each]

"""Batch and transaction: order, references, conditions, all or nothing, and what a Bundle of requests may not do."""

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fhir.resources.R4B.bundle import Bundle
from httpx2 import Response
from peers.fhir_site import XML, FhirSite, fhir_site, issue
from peers.shows import shows

from server.work.fhir import bundles

ON_BOTH_ENGINES = True
SYNTHEA = Path(__file__).resolve().parents[5] / "shared" / "testdata" / "synthea_r4"
Json = dict[str, Any]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[FhirSite]:
    with fhir_site(tmp_path / "data") as site:
        yield site


def urn(number: int) -> str:
    return f"urn:uuid:00000000-0000-4000-8000-{number:012d}"


def patient(value: str = "1", **more: Any) -> Json:
    return {"resourceType": "Patient", "identifier": [{"system": "urn:example", "value": value}], **more}


def observation(subject: str, **more: Any) -> Json:
    return {"resourceType": "Observation", "status": "final", "code": {"text": "x"}, "subject": {"reference": subject}, **more}


def entry(method: str, url: str, resource: Json | None = None, full_url: str = "", **request: str) -> Json:
    found: Json = {"fullUrl": full_url} if full_url else {}
    if resource is not None:
        found["resource"] = resource
    return {**found, "request": {"method": method, "url": url, **request}}


def sent(
    site: FhirSite, *entries: Json, kind: str = "transaction", token: dict[str, str] | None = None, **headers: str
) -> Response:
    return site.ask("POST", "", token, body={"resourceType": "Bundle", "type": kind, "entry": list(entries)}, **headers)


def done(response: Response) -> list[Json]:
    assert response.status_code == 200, response.text
    Bundle.model_validate(response.json())
    return list(response.json()["entry"])


def statuses(response: Response) -> list[str]:
    return [each["response"]["status"][:3] for each in done(response)]


def made(site: FhirSite, resource: Json) -> str:
    response = site.ask("POST", resource["resourceType"], body=resource)
    assert response.status_code == 201, response.text
    return str(response.json()["id"])


# --- transaction


@shows("interaction", "transaction")
def test_references_to_entries_become_those_of_what_they_make(site: FhirSite) -> None:
    """FHIR R4 section 3.1.0.11.3: in references, uris and the links of narratives, whichever entry comes first."""
    narrative = {"status": "generated", "div": f'<div xmlns="http://www.w3.org/1999/xhtml"><a href="{urn(1)}">her</a></div>'}
    response = sent(
        site,
        entry("POST", "Observation", observation(urn(1), text=narrative), urn(2)),
        entry("POST", "Patient", patient(managingOrganization={"reference": "Organization/7"}), urn(1)),
        entry("POST", "Organization", {"resourceType": "Organization", "name": "x"}, "http://elsewhere.example/Organization/7"),
        entry("POST", "Observation", observation("Patient/9"), "http://elsewhere.example/Observation/1"),
        entry("POST", "Patient", patient("9"), "http://elsewhere.example/Patient/9"),
    )
    first, second, _, fourth, fifth = (each["response"]["location"] for each in done(response))
    named = second.removesuffix("/_history/1")
    stored = site.get(first.partition("/_history")[0]).json()
    assert stored["subject"]["reference"] == named
    assert f'href="{named}"' in stored["text"]["div"]
    assert site.get(named).json()["managingOrganization"] == {"reference": "Organization/7"}, "the entry's own URL is a urn"
    assert site.get(fourth.partition("/_history")[0]).json()["subject"]["reference"] == fifth.removesuffix("/_history/1")


def test_the_order_is_that_of_the_standard(site: FhirSite) -> None:
    """FHIR R4 section 3.1.0.11.2: DELETE, POST, PUT, GET; answers in the order of the request."""
    gone, kept = made(site, patient("gone")), made(site, patient("kept"))
    response = sent(
        site,
        entry("GET", "Patient?_sort=identifier"),
        entry("GET", f"Patient/{kept}"),
        entry("PUT", f"Patient/{kept}", patient("kept", id=kept, active=True)),
        entry("POST", "Patient", patient("gone"), ifNoneExist="identifier=urn:example|gone"),
        entry("DELETE", f"Patient/{gone}"),
        entry("HEAD", f"Patient/{kept}"),
    )
    assert statuses(response) == ["200", "200", "200", "201", "204", "200"]
    found, read, *_, head = done(response)
    assert [each["resource"]["identifier"][0]["value"] for each in found["resource"]["entry"]] == ["gone", "kept"]
    assert read["resource"]["active"] is True
    assert "resource" not in head


def test_conditions_within_a_transaction(site: FhirSite) -> None:
    """If-None-Exist, conditional update, patch and delete, and references by condition, also to what the transaction makes."""
    known = made(site, patient("known"))
    made(site, patient("old"))
    body = base64.b64encode(b'[{"op":"add","path":"/gender","value":"other"}]').decode()
    response = sent(
        site,
        entry("POST", "Observation", observation("Patient?identifier=urn:example|new"), urn(1)),
        entry("POST", "Observation", observation(urn(3)), urn(2)),
        entry("POST", "Patient", patient("known"), urn(3), ifNoneExist="identifier=urn:example|known"),
        entry("PUT", "Patient?identifier=urn:example|new", patient("new"), urn(4)),
        entry("DELETE", "Patient?identifier=urn:example|old"),
        entry("PATCH", "Patient?identifier=urn:example|known", {"resourceType": "Binary", "contentType": "application/json-patch+json", "data": body}),
        entry("POST", "Observation", observation("Patient?identifier=known"), urn(5)),
    )  # fmt: skip
    assert statuses(response) == ["201", "201", "200", "201", "204", "200", "201"]
    places = [each["response"].get("location", "").partition("/_history")[0] for each in done(response)]
    subjects = [site.get(places[place]).json()["subject"]["reference"] for place in (0, 1, 6)]
    assert subjects == [places[3], f"Patient/{known}", f"Patient/{known}"]
    assert site.get(f"Patient/{known}").json()["gender"] == "other"


@pytest.mark.parametrize(
    ("entries", "status", "code", "expression"),
    [
        ([entry("POST", "Patient", patient(gender="x"))], 400, "code-invalid", "Bundle.entry[1].resource.gender"),
        ([entry("POST", "Observation", observation(urn(9)))], 400, "not-found", "Bundle.entry[1].resource.subject.reference"),
        ([entry("POST", "Observation", observation("Patient?identifier=none"))], 400, "not-found", "Bundle.entry[1].resource"),
        ([entry("POST", "Observation", observation("Patient?identifier=twice"))], 412, "multiple-matches", "Bundle.entry[1].request"),
        ([entry("PUT", "Patient/a", patient(id="a"), ifMatch='W/"5"')], 412, "conflict", "Bundle.entry[1].request"),
        ([entry("PUT", "Patient/a", patient(id="b"))], 400, "invalid", "Bundle.entry[1].resource.id"),
        ([entry("PUT", "Patient/a", patient(id="a")), entry("DELETE", "Patient/a")], 400, "invalid", "Bundle.entry[1].request"),
        ([entry("POST", "Patient", patient("9"), urn(1)), entry("POST", "Patient", patient("8"), urn(1))], 400, "invalid", "Bundle.entry[2].fullUrl"),
        ([entry("POST", "Observation", patient())], 400, "invalid", "Bundle.entry[1].resource"),
        ([entry("POST", "Observation", observation(urn(1)), urn(2)), entry("POST", "Practitioner", {"resourceType": "Practitioner"}, urn(1))], 400, "value", "Bundle.entry[1].resource.subject.reference"),
        ([entry("GET", "Patient/none")], 404, "not-found", "Bundle.entry[1].request"),
        ([entry("GET", "Patient?nonsense=1")], 400, None, "Bundle.entry[1].request"),
        ([entry("POST", "Nonsense", patient())], 404, "not-supported", "Bundle.entry[1].request"),
        ([entry("POST", "Patient/$match", patient())], 404, "not-supported", "Bundle.entry[1].request"),
        ([entry("POST", "http://elsewhere.example/Patient", patient())], 400, "invalid", "Bundle.entry[1].request.url"),
        ([{"resource": patient()}], 400, None, None),
        ([entry("PATCH", "Patient/none", {"resourceType": "Binary", "contentType": "application/json-patch+json", "data": "W10="})], 404, "not-found", "Bundle.entry[1].request"),
    ],
)  # fmt: skip
def test_one_entry_that_fails_undoes_all(
    site: FhirSite, entries: list[Json], status: int, code: str | None, expression: str | None
) -> None:
    for _ in range(2):
        made(site, patient("twice"))
    before, mark = site.bundle("_history"), site.mark()
    response = sent(site, entry("POST", "Patient", patient("first")), *entries)
    assert response.status_code == status, response.text
    found = issue(response, status, code or response.json()["issue"][0]["code"])
    if expression:
        assert found["expression"] == [expression]
    after = site.bundle("_history")
    assert after.get("entry") == before.get("entry")
    assert {each["outcome"] for each in site.events(mark) if each["subtype"][0]["code"] != "history-system"} <= {"4"}


def test_a_transaction_that_fails_leaves_one_event(site: FhirSite) -> None:
    mark = site.mark()
    sent(site, entry("POST", "Patient", patient()), entry("GET", "Patient/none"))
    (event,) = site.events(mark)
    assert (event["outcome"], event["subtype"][0]["code"]) == ("4", "transaction")


def test_every_entry_is_in_the_trail(site: FhirSite) -> None:
    mark = site.mark()
    sent(
        site,
        entry("POST", "Patient", patient(), urn(1)),
        entry("POST", "Observation", observation(urn(1))),
        entry("GET", "Patient"),
    )
    assert sorted(each["subtype"][0]["code"] for each in site.events(mark)) == ["create", "create", "search"]
    whose = {
        each["what"]["reference"]
        for event in site.events(mark)
        for each in event["entity"]
        if "role" in each and each["role"]["code"] == "1"
    }
    assert len(whose) == 1


def test_a_patient_scope_is_held_to_in_every_entry(site: FhirSite) -> None:
    mine, other = made(site, patient("mine")), made(site, patient("other"))
    token = site.token("patient/*.cruds", patient=mine)
    assert statuses(sent(site, entry("POST", "Observation", observation(f"Patient/{mine}")), token=token)) == ["201"]
    for refused in (
        entry("POST", "Observation", observation(f"Patient/{other}")),
        entry("POST", "Observation", observation(urn(1), focus=[{"reference": f"Patient/{mine}"}]), urn(2)),
        entry("DELETE", f"Patient/{other}"),
        entry("GET", f"Patient/{other}"),
    ):
        response = sent(
            site,
            entry("POST", "Observation", observation(f"Patient/{mine}")),
            entry("POST", "Patient", patient("x"), urn(1)),
            refused,
            token=token,
        )
        assert response.status_code == 403, response.text
        single = sent(site, refused, token=token)
        assert single.status_code in (400, 403)
    mark = site.mark()
    sent(site, entry("POST", "Observation", observation(f"Patient/{other}")), token=token)
    (event,) = site.events(mark)
    assert {"reference": f"Patient/{other}"} in [each["what"] for each in event["entity"]], "in the trail of whose it was"
    assert len(site.ids("Observation")) == 1


def test_the_answers_have_what_the_client_prefers(site: FhirSite) -> None:
    one = entry("POST", "Patient", patient())
    (minimal,) = done(sent(site, one))
    (whole,) = done(sent(site, one, Prefer="return=representation"))
    (told,) = done(sent(site, one, Prefer="return=OperationOutcome"))
    assert minimal.keys() == {"response"}
    assert whole["resource"]["resourceType"] == "Patient"
    assert whole["fullUrl"] == f"{site.base}/Patient/{whole['resource']['id']}"
    assert told["response"]["outcome"]["resourceType"] == "OperationOutcome"


def test_references_are_looked_for_once_all_is_written(tmp_path: Path) -> None:
    with fhir_site(tmp_path / "data", fhir_references="check") as site:
        both = (entry("POST", "Observation", observation(urn(1))), entry("POST", "Patient", patient(), urn(1)))
        assert statuses(sent(site, *both)) == ["201", "201"]
        found = issue(sent(site, entry("POST", "Observation", observation("Patient/none"))), 422, "not-found")
        assert found["expression"] == ["Bundle.entry[0].resource.subject.reference"]


def test_a_document_and_its_content_come_together(site: FhirSite) -> None:
    """FHIR R4 section 2.44: the Binary's security context is the DocumentReference of the same transaction."""
    binary = {"resourceType": "Binary", "contentType": "text/plain", "securityContext": {"reference": urn(2)}, "data": "aGVsbG8="}
    content = [{"attachment": {"contentType": "text/plain", "url": urn(3)}}]
    document = {"resourceType": "DocumentReference", "status": "current", "subject": {"reference": urn(1)}, "content": content}
    response = sent(
        site, entry("POST", "Binary", binary, urn(3)), entry("POST", "DocumentReference", document, urn(2)), entry("POST", "Patient", patient(), urn(1))
    )  # fmt: skip
    stored, reference, whose = (each["response"]["location"].partition("/_history")[0] for each in done(response))
    assert site.get(stored).content == b"hello"
    assert site.get(reference).json()["content"][0]["attachment"]["url"] == stored
    other = made(site, patient("other"))
    assert site.get(stored, site.token("patient/*.rs", patient=whose.partition("/")[2])).status_code == 200
    assert site.get(stored, site.token("patient/*.rs", patient=other)).status_code == 403
    again = [entry("DELETE", stored), entry("POST", "Bundle", {"resourceType": "Bundle", "type": "batch"})]
    assert statuses(sent(site, *again, kind="batch")) == ["204", "422"]
    issue(sent(site, again[1]), 422, "business-rule")


def test_a_transaction_in_xml(site: FhirSite) -> None:
    document = (
        b'<Bundle xmlns="http://hl7.org/fhir"><type value="transaction"/><entry><resource><Patient><active value="true"/></Patient></resource>'
        b'<request><method value="POST"/><url value="Patient"/></request></entry></Bundle>'
    )
    response = site.ask("POST", "", body=document, Content_Type=XML, Accept=XML)
    assert response.status_code == 200, response.text
    assert b'<status value="201 Created"/>' in response.content


def test_an_empty_bundle_is_answered_by_an_empty_one(site: FhirSite) -> None:
    for kind in ("transaction", "batch"):
        response = site.ask("POST", "", body={"resourceType": "Bundle", "type": kind})
        assert (response.status_code, response.json()["type"], "entry" in response.json()) == (200, f"{kind}-response", False)


@pytest.mark.parametrize(
    "body", [{"resourceType": "Patient"}, {"resourceType": "Bundle", "type": "collection"}, {"resourceType": "Bundle"}, {"resourceType": "Bundle", "type": "batch", "entry": "x"}]
)  # fmt: skip
def test_what_is_no_bundle_of_requests_is_refused(site: FhirSite, body: Json) -> None:
    assert site.ask("POST", "", body=body).status_code == 400


def test_a_bundle_of_too_many_requests_is_refused(site: FhirSite) -> None:
    many = [entry("GET", "Patient")] * (bundles.MOST_ENTRIES + 1)
    issue(sent(site, *many, kind="batch"), 413, "too-long")


def test_real_transactions_are_taken_as_they_are(site: FhirSite) -> None:
    files = sorted(SYNTHEA.rglob("*.json"))[:2] if SYNTHEA.is_dir() else []
    if not files:
        pytest.skip("no ../shared/testdata/synthea_r4")
    for file in files:
        response = site.ask("POST", "", body=file.read_bytes())
        assert set(statuses(response)) == {"201"}
        again = [each["response"]["location"] for each in done(response)]
        assert len(set(again)) == len(again)


# --- batch


@shows("interaction", "batch")
def test_each_entry_of_a_batch_stands_alone(site: FhirSite) -> None:
    known = made(site, patient("known"))
    response = sent(
        site,
        entry("POST", "Patient", patient("new")),
        entry("POST", "Patient", patient(gender="x")),
        entry("GET", f"Patient/{known}"),
        entry("GET", "Patient/none"),
        entry("PUT", f"Patient/{known}", patient("known", id=known), ifMatch='W/"9"'),
        entry("POST", "Observation", observation(urn(1))),
        entry("DELETE", "Patient/none"),
        entry("GET", f"Patient/{known}/_history/1", ifNoneMatch='W/"1"'),
        entry("GET", f"Patient/{known}/_history"),
        entry("GET", f"Patient/{known}/Observation"),
        entry("POST", "Patient/$validate", patient(gender="x")),
        entry("GET", f"Patient/{known}/$everything"),
        entry("POST", f"Patient/{known}/$meta-add", {"resourceType": "Parameters"}),
        kind="batch",
    )
    assert statuses(response) == ["201", "400", "200", "404", "412", "201", "204", "304", "200", "200", "200", "200", "400"]
    answers = done(response)
    assert answers[1]["response"]["outcome"]["issue"][0]["expression"] == ["Bundle.entry[1].resource.gender"]
    assert answers[2]["resource"]["id"] == known
    assert answers[10]["resource"]["resourceType"] == "OperationOutcome"
    assert [each["resource"]["id"] for each in answers[11]["resource"]["entry"]] == [known]
    assert site.bundle("Patient")["total"] == 2


def test_a_batch_is_held_to_scopes_entry_by_entry(site: FhirSite) -> None:
    mine, other = made(site, patient("mine")), made(site, patient("other"))
    token, mark = site.token("patient/*.cruds", patient=mine), site.mark()
    response = sent(
        site,
        entry("POST", "Observation", observation(f"Patient/{mine}")),
        entry("POST", "Observation", observation(f"Patient/{other}")),
        entry("GET", f"Patient/{other}"),
        entry("DELETE", f"Patient/{other}"),
        kind="batch",
        token=token,
    )
    assert statuses(response) == ["201", "403", "403", "403"]
    assert sorted(each["outcome"] for each in site.events(mark)) == ["0", "4", "4", "4"]
    issue(site.ask("POST", "", {}, body={"resourceType": "Bundle", "type": "batch"}), 401, "login")


def test_an_entry_of_a_batch_that_is_no_request_fails_alone(site: FhirSite) -> None:
    """FHIR R4 section 3.1.0.11.1: the success or failure of one entry does not change that of another."""
    site.put({"resourceType": "Patient", "id": "a"})
    found = done(
        sent(
            site,
            entry("GET", "Patient/a"),
            {"request": {"method": "FOO", "url": "Patient/a"}},
            {"fullUrl": urn(1), "resource": patient()},
            entry("GET", "http://elsewhere.example/Patient/1"),
            entry("GET", ""),
            entry("POST", "Patient", patient(), ifNoneExist="?"),
            entry("POST", "Patient", patient()),
            kind="batch",
        )
    )
    assert [each["response"]["status"][:3] for each in found] == ["200", "400", "400", "400", "400", "400", "201"]
    told = found[1]["response"]["outcome"]["issue"][0]
    assert told["expression"] == ["Bundle.entry[1].request.method"]


def test_what_is_wrong_with_the_batch_itself_refuses_it_whole(site: FhirSite) -> None:
    found = site.ask(
        "POST", "", body={"resourceType": "Bundle", "type": "batch", "total": "x", "entry": [entry("GET", "Patient/a")]}
    )
    assert found.status_code == 400


@pytest.mark.parametrize("kind", ["batch", "transaction"])
def test_a_condition_that_is_empty_is_none(site: FhirSite, kind: str) -> None:
    """Everything would meet it, and what a client wants to be there once would be there twice."""
    found = sent(site, entry("POST", "Patient", patient(), ifNoneExist="?"), kind=kind)
    assert (found.status_code if kind == "transaction" else int(statuses(found)[0])) == 400
    for given in ("", "?"):
        assert site.ask("POST", "Patient", body=patient(), If_None_Exist=given).status_code == 400
    assert site.bundle("Patient?_summary=count")["total"] == 0

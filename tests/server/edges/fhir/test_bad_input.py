"""What strangers send, by the kinds of it: an OperationOutcome with its place, the right status, nothing half-written."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from fhir.resources.R4B.operationoutcome import OperationOutcome
from peers.fhir_site import JSON, XML, FhirSite, fhir_site, issue

from server.edges.fhir.capability import Site, capability_statement

ON_BOTH_ENGINES = True
Json = dict[str, Any]
NAMESPACE = 'xmlns="http://hl7.org/fhir"'
_ENTITIES = "".join(f'<!ENTITY {chr(98 + n)} "{f"&{chr(97 + n)};" * 10}">' for n in range(9))


@pytest.fixture
def site(tmp_path: Path) -> Iterator[FhirSite]:
    with fhir_site(tmp_path / "data") as site:
        yield site


def observation(id_: str, *members: str) -> Json:
    member = {"hasMember": [{"reference": f"Observation/{each}"} for each in members]} if members else {}
    return {"resourceType": "Observation", "id": id_, "status": "final", "code": {"text": "x"}, **member}


# --- bodies


@pytest.mark.parametrize(
    ("body", "media_type", "status", "expression"),
    [
        (f"<Patient {NAMESPACE}><active", XML, 400, None),
        (f'<!DOCTYPE p [<!ENTITY e SYSTEM "file:///etc/passwd">]><Patient {NAMESPACE}><name><text value="&e;"/></name></Patient>', XML, 400, None),
        (f'<!DOCTYPE p [<!ENTITY a "aaaaaaaaaa">{_ENTITIES}]><Patient {NAMESPACE}><name><text value="&j;"/></name></Patient>', XML, 400, None),
        (f"<Patient {NAMESPACE}>" + "<contact>" * 10_000, XML, 400, None),
        (f'<Patient {NAMESPACE}><active value="true"/><active value="false"/></Patient>', XML, 400, "Patient.active"),
        ('{"resourceType":"Patient","contact":[' * 10_000, JSON, 400, None),
        ('{"resourceType":"Patient","name":[{"family":"a","family":"b"}]}', JSON, 400, "Patient.name[0].family"),
        ('{"resourceType":"Patient","name":[{"family":["a"]}]}', JSON, 400, "Patient.name[0].family"),
        ('{"resourceType":"Patient","active":"true"}', JSON, 400, "Patient.active"),
        ('{"resourceType":"Patient","multipleBirthInteger":1e30}', JSON, 400, "Patient.multipleBirth"),
        ('{"resourceType":"Patient","birthDate":"2026-02-30"}', JSON, 400, "Patient.birthDate"),
        ('{"resourceType":"Patient","name":[{"family":"a\\u0000"}]}', JSON, 400, "Patient.name[0].family"),
        ('{"resourceType":"Patient"}', "text/plain", 415, None),
        ('{"resourceType":"Patient"}', "", 415, None),
        ('{"resourceType":"Patient"}', XML, 400, None),
    ],
)  # fmt: skip
def test_what_is_no_resource_is_refused(site: FhirSite, body: str, media_type: str, status: int, expression: str | None) -> None:
    for method, path in (("POST", "Patient"), ("PUT", "Patient/a"), ("PUT", "Patient?identifier=x"), ("POST", "")):
        answer = site.ask(method, path, body=body.encode(), Content_Type=media_type)
        assert answer.status_code == status, answer.text
        found = OperationOutcome.model_validate(answer.json()).issue[0]
        assert not (path and expression) or found.expression == [expression]
        assert "passwd" not in answer.text
    assert site.ids("Patient") == []
    assert "entry" not in site.bundle("_history")


def test_a_broken_invariant_is_told_of_by_validate(site: FhirSite) -> None:
    """FHIR R4 section 3.1.0.1.4: 400 is for what can't be read; rules beyond structure are for `$validate`, whose answer names them."""
    answer = site.ask("POST", "Patient/$validate", body={"resourceType": "Patient", "contact": [{"gender": "female"}]})
    assert answer.status_code == 200
    (found,) = [each for each in answer.json()["issue"] if each["severity"] == "error"]
    assert (found["code"], found["expression"]) == ("invariant", ["Patient.contact[0]"])
    assert "pat-1" in str(found)


# --- searches


def test_sql_in_every_parameter(site: FhirSite) -> None:
    """Of every type, each parameter that is claimed, by the value and by what stands behind its name."""
    site.put({"resourceType": "Patient", "id": "a", "name": [{"family": "A"}]})
    value = quote("x' OR '1'='1'); DROP TABLE resource; --")
    for told in capability_statement(Site("x", "http://127.0.0.1/fhir"))["rest"][0]["resource"]:
        names = [each["name"] for each in told.get("searchParam", ()) if each["type"] in ("string", "token", "uri", "reference")]
        for start in range(0, len(names), 8):
            query = "&".join(f"{name}={value}" for name in names[start : start + 8])
            answer = site.get(f"{told['type']}?{query}")
            assert answer.status_code in (200, 400), (query, answer.text)
            assert answer.status_code == 400 or answer.json().get("total", 0) == 0, query
    for query in (
        f"_sort={value}",
        f"_elements={value}",
        f"_include={value}",
        f"_type={value}",
        f"_has:{value}=1",
        f"name{value}=1",
        f"_count={value}",
        f"_filter={value}",
    ):
        assert site.get(f"Patient?{query}").status_code == 400, query
    assert site.ids("Patient") == ["a"]


CIRCLES = (
    "_include:iterate=Observation:has-member", "_revinclude:iterate=Observation:has-member", "_include:iterate=*&_revinclude:iterate=*",
    "_include=Observation:has-member&_include:iterate=Observation:has-member&_revinclude:iterate=*",
)  # fmt: skip


def test_includes_that_lead_round_in_a_circle_end(site: FhirSite) -> None:
    site.put(observation("a", "b"), observation("b", "c"), observation("c", "a", "c"))
    for query in CIRCLES:
        assert sorted(site.ids(f"Observation?_id=a&{query}", mode="include")) == ["b", "c"]


FILTERS = (
    "(" * 5000, "not (" * 500 + 'name eq "x"' + ")" * 500, " and ".join(['name eq "x"'] * 1500), " or ".join(['name eq "x"'] * 1500), 'name eq "' + "x" * 100_000 + '"', 'name eq "x', "name",
    "name eq", "name xx y", 'name eq "x"; DROP TABLE resource', "general-practitioner[" * 200, ".".join(["general-practitioner"] * 60) + ' eq "x"', 'name eq "\\', "birthdate gt 99999999-01-01",
    "nonsense eq 1", "\u0000",
)  # fmt: skip


def test_a_hostile_filter_is_refused(site: FhirSite) -> None:
    site.put({"resourceType": "Patient", "id": "a", "name": [{"family": "A"}]})
    for text in FILTERS:
        query = f"_filter={quote(text)}"
        answers = [site.ask("POST", "Patient/_search", body=query.encode(), Content_Type="application/x-www-form-urlencoded")]
        if len(query) < 60_000:  # what a client still takes as a URL
            answers += [site.get(f"Patient?{query}"), site.ask("DELETE", f"Patient?{query}")]
        for answer in answers:
            assert answer.status_code in (400, 413), (text[:100], answer.text)
            OperationOutcome.model_validate(answer.json())
    assert site.ids("Patient") == ["a"]


def test_an_absurd_count_is_refused(site: FhirSite) -> None:
    for count in ("-1", "9" * 400, "1e3", "٣", "", "0x10", "1,2", "NaN"):
        for path in ("Patient", "", "Patient/_history", "_history"):
            assert site.get(f"{path}?_count={quote(count)}").status_code == 400, (path, count[:9])


def test_nul_in_a_path_is_nowhere(site: FhirSite) -> None:
    """PostgreSQL takes no text with it."""
    patch = b'[{"op":"add","path":"/active","value":true}]'
    for method, path in (
        ("GET", "Patient/a%00"), ("PUT", "Patient/%00"), ("DELETE", "Patient/%00"), ("PATCH", "Patient/%00"), ("GET", "Patient/%00/_history"), ("GET", "Patient/a/_history/%00"),
        ("GET", "Patient/%00/Observation"), ("GET", "Patient/%00/$everything"), ("POST", "Patient/%00/$meta-add"), ("GET", "Binary/%00"), ("PUT", "Binary/%00"), ("DELETE", "Binary/%00"), ("GET", "%00"), ("GET", "%00/a"),
    ):  # fmt: skip
        body = None if method in ("GET", "DELETE") else patch
        issue(site.ask(method, path, body=body, Content_Type="application/json-patch+json"), 404, "not-supported")


# --- what contradicts


def test_of_two_that_change_one_version_one_is_told_so(site: FhirSite) -> None:
    """FHIR R4 section 3.1.0.5, in each way to change something."""
    assert site.ask("PUT", "Patient/a", body={"resourceType": "Patient", "id": "a"}).status_code == 201
    assert (
        site.ask("PUT", "Patient/a", body={"resourceType": "Patient", "id": "a", "active": True}, If_Match='W/"1"').status_code
        == 200
    )
    old = 'W/"1"'
    patch = b'[{"op":"remove","path":"/active"}]'
    for answer in (
        site.ask("PUT", "Patient/a", body={"resourceType": "Patient", "id": "a"}, If_Match=old),
        site.ask("PUT", "Patient?_id=a", body={"resourceType": "Patient", "id": "a"}, If_Match=old),
        site.ask("PATCH", "Patient/a", body=patch, Content_Type="application/json-patch+json", If_Match=old),
        site.ask("PATCH", "Patient?_id=a", body=patch, Content_Type="application/json-patch+json", If_Match=old),
        site.ask("DELETE", "Patient/a", If_Match=old),
        site.ask("DELETE", "Patient?_id=a", If_Match=old),
    ):
        issue(answer, 412, "conflict")
    for wrong in ("1", "x", 'W/"x"', 'W/"' + "9" * 400 + '"'):
        assert site.ask("DELETE", "Patient/a", If_Match=wrong).status_code in (400, 412), wrong
    assert site.bundle("Patient/a/_history")["total"] == 2


@pytest.mark.parametrize(("setting", "status"), [("allow", 200), ("check", 422)])
def test_a_transaction_that_leads_nowhere(tmp_path: Path, setting: str, status: int) -> None:
    """What its entries name is in it or here; urn:uuid of nobody is never taken (section 3.1.0.11.2)."""
    with fhir_site(tmp_path / "checking", fhir_references=setting) as site:

        def sent(reference: str) -> int:
            entries = [
                {
                    "resource": {**observation("x"), "subject": {"reference": reference}},
                    "request": {"method": "POST", "url": "Observation"},
                }
            ]
            entries.insert(
                0, {"resource": {"resourceType": "Basic", "code": {"text": "x"}}, "request": {"method": "POST", "url": "Basic"}}
            )
            answer = site.ask("POST", "", body={"resourceType": "Bundle", "type": "transaction", "entry": entries})
            if answer.status_code >= 400:
                OperationOutcome.model_validate(answer.json())
                assert site.ids("Observation") == site.ids("Basic") == []
            return answer.status_code

        assert sent("urn:uuid:00000000-0000-4000-8000-000000000000") in (400, 422)
        assert sent("Patient?identifier=nobody") == 400
        assert sent("Patient/nobody") == status

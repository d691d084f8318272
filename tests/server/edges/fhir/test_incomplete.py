"""While rows of searches are made anew nothing is concluded from what is not found: not by who searches, not by who writes on a condition."""

from collections.abc import Iterator
from typing import Any

import pytest
from peers.fhir_site import FhirSite, fhir_site, issue
from peers.imageshare import publish_all
from sqlalchemy import delete, text

from server.records import index_rows, parameters
from server.records.resources import RESOURCE

PATIENT: dict[str, Any] = {"resourceType": "Patient", "name": [{"family": "Test"}]}
AUTHOR: dict[str, Any] = {
    "resourceType": "SearchParameter", "id": "author", "url": "http://example.org/author", "name": "n", "status": "active",
    "description": "d", "code": "written-by", "base": ["Basic"], "type": "string", "expression": "Basic.author.display",
}  # fmt: skip


@pytest.fixture
def site(tmp_path_factory: pytest.TempPathFactory, database_url: str) -> Iterator[FhirSite]:
    with fhir_site(tmp_path_factory.mktemp("incomplete") / "data", database_url) as site:
        yield site


@pytest.fixture
def updated(site: FhirSite) -> FhirSite:
    """As after an update from revision 0007: resources without rows, which the worker has yet to make."""
    site.put({**PATIENT, "id": "p"})
    site.put({"resourceType": "ImagingStudy", "id": "i", "status": "available", "subject": {"reference": "Patient/p"}})
    with site.node.database.write() as connection:
        for table in index_rows.WALKED:
            connection.execute(delete(table))
        connection.execute(RESOURCE.update().values(indexed=None))
        for type_ in ("Patient", "ImagingStudy"):
            parameters.begin(connection, type_, parameters.EVERY)
    return site


LOOKS = [
    "Patient?name=test", "Patient?name:missing=true", "Patient?_sort=family", "ImagingStudy?patient.name=test", "Basic?patient.name=test",
    "Patient?_has:ImagingStudy:patient:status=available", "Patient/p/ImagingStudy", "Patient/p/*", "ImagingStudy?_include=ImagingStudy:patient",
    "ImagingStudy?_include=*", "Patient?_revinclude=ImagingStudy:patient", "Patient?_revinclude=*", "Basic?_revinclude:iterate=*",
    "Basic?_sort=patient.birthdate", "Patient/p/$everything", "Patient/$everything", "?_type=Patient,Basic&_tag=x",
]  # fmt: skip


@pytest.mark.parametrize("query", LOOKS)
def test_what_is_not_found_says_nothing_until_all_is_indexed(updated: FhirSite, query: str) -> None:
    """FHIR R4 section 3.1.0.1.2: 503, with the time to try again; who is lenient gets what there is, and a warning (section 3.1.1.3)."""
    refused = updated.get(query)
    assert "being indexed" in issue(refused, 503, "transient")["diagnostics"]
    assert int(refused.headers["Retry-After"]) > 0
    told = updated.get(query, Prefer="handling=lenient")
    assert told.status_code == 200, told.text
    warned = [each["resource"] for each in told.json()["entry"] if each["search"]["mode"] == "outcome"]
    assert [each["code"] for each in warned[0]["issue"]] == ["incomplete"] * len(warned[0]["issue"])
    publish_all(updated.node)
    assert updated.get(query).status_code == 200


@pytest.mark.parametrize(
    "query", ["Patient", "Patient?_id=p", "Patient?_lastUpdated=gt2020", "Practitioner?name=x", "Basic?_count=1"]
)
def test_what_needs_no_rows_in_the_making_is_answered(updated: FhirSite, query: str) -> None:
    assert updated.get(query).status_code == 200


def test_nothing_is_created_or_changed_on_a_condition_until_all_is_indexed(updated: FhirSite) -> None:
    """FHIR R4 sections 3.1.0.8.1, 3.1.0.4.3, 3.1.0.7.1 and 3.1.0.11.4: 'no match' is not known; to be lenient is no way out."""
    condition = "family:exact=Test"
    asked = [
        ("POST", "Patient", PATIENT, condition), ("PUT", f"Patient?{condition}", PATIENT, ""), ("DELETE", f"Patient?{condition}", None, ""),
        ("POST", "", bundle(PATIENT, condition), ""), ("POST", "", referring(f"Patient?{condition}"), ""),
    ]  # fmt: skip
    for method, path, body, none_exist in asked:
        headers = {"If_None_Exist": none_exist} if none_exist else {}
        refused = updated.ask(method, path, body=body, Prefer="handling=lenient", **headers)
        assert "being indexed" in issue(refused, 503, "transient")["diagnostics"], (method, path)
    publish_all(updated.node)
    assert updated.ask("POST", "Patient", body=PATIENT, If_None_Exist=condition).status_code == 200
    assert updated.ask("DELETE", f"Patient?{condition}&_id=p").status_code in (200, 204, 409)


def bundle(resource: dict[str, Any], condition: str) -> dict[str, Any]:
    request = {"method": "POST", "url": resource["resourceType"], "ifNoneExist": condition}
    return {"resourceType": "Bundle", "type": "transaction", "entry": [{"resource": resource, "request": request}]}


def referring(reference: str) -> dict[str, Any]:
    basic = {"resourceType": "Basic", "code": {"text": "x"}, "subject": {"reference": reference}}
    return {
        "resourceType": "Bundle",
        "type": "transaction",
        "entry": [{"resource": basic, "request": {"method": "POST", "url": "Basic"}}],
    }


def test_a_condition_on_a_new_parameter_waits_until_it_is_indexed(site: FhirSite) -> None:
    basic = {"resourceType": "Basic", "code": {"text": "x"}, "author": {"display": "Dr Z"}}
    site.put({**basic, "id": "b"}, AUTHOR)
    refused = site.ask("POST", "Basic", body=basic, If_None_Exist="written-by=dr z")
    assert "for written-by" in issue(refused, 503, "transient")["diagnostics"]
    publish_all(site.node)
    assert site.ask("POST", "Basic", body=basic, If_None_Exist="written-by=dr z").status_code == 200
    assert site.ids("Basic?written-by=dr z") == ["b"]


def test_a_parameter_in_the_making_of_one_type_is_no_matter_of_another_one(site: FhirSite) -> None:
    """Two parameters of one code may be of different types: that of Basic was indexed long ago."""
    site.put({"resourceType": "Basic", "id": "b", "code": {"text": "x"}, "author": {"display": "Dr Z"}}, AUTHOR)
    publish_all(site.node)
    site.put({**PATIENT, "id": "p"})
    expression = "Patient.name.family"
    site.put({**AUTHOR, "id": "other", "url": "http://example.org/other", "base": ["Patient"], "expression": expression})
    assert site.ids("Basic?written-by=dr") == ["b"]
    issue(site.get("Patient?written-by=test"), 503, "transient")


def test_a_resource_that_cannot_be_indexed_keeps_no_other_from_it(site: FhirSite, capsys: pytest.CaptureFixture[str]) -> None:
    """It is told by its row number, without its content."""
    site.put(*({**PATIENT, "id": f"p{number}"} for number in range(3)))
    with site.node.database.write() as connection:
        connection.execute(text("UPDATE resource SET body = :body WHERE id = 'p1'"), {"body": b"Test"})
        pk = connection.execute(text("SELECT pk FROM resource WHERE id = 'p1'")).scalar_one()
        for table in index_rows.WALKED:
            connection.execute(delete(table))
        connection.execute(RESOURCE.update().values(indexed=None))
        parameters.begin(connection, "Patient", parameters.EVERY)
    publish_all(site.node)
    assert site.bundle("Patient?name=test&_summary=count")["total"] == 2
    (told,) = [line for line in capsys.readouterr().out.splitlines() if "not_indexed" in line]
    assert f"pk={pk}" in told
    assert "Test" not in told

"""Who saw what: in plain words, with the names that a patient may know, and nobody else's."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from fhir.resources.R4B.operationdefinition import OperationDefinition
from fhir.resources.R4B.parameters import Parameters
from peers.shows import shows
from peers.smart_site import SmartSite, smart_site

from profiles.fhir.validation import check
from profiles.operation_definitions import operation_definitions
from server.work.access_history import AccessRow, rows
from server.work.fhir.access_history import DEFINITION, PARAMETERS

ON_BOTH_ENGINES = True


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, module_database_url: str) -> Iterator[SmartSite]:
    with smart_site(tmp_path_factory.mktemp("history") / "data", module_database_url, organization="Sankt Anna") as made:
        system = made.node.tokens.issue(client="script", scope="system/*.cruds")
        for resource in (
            {"resourceType": "Practitioner", "id": "p1", "name": [{"prefix": ["Dr."], "given": ["Greta"], "family": "House"}]},
            {"resourceType": "Organization", "id": "o1", "name": "Clinic Nord"},
            {
                "resourceType": "PractitionerRole", "id": "r1", "practitioner": {"reference": "Practitioner/p1"},
                "organization": {"reference": "Organization/o1"},
            },
        ):  # fmt: skip
            url = f"/fhir/{resource['resourceType']}/{resource['id']}"
            put = made.http.put(url, content=orjson.dumps(resource), headers={"Authorization": f"Bearer {system}", "Content-Type": "application/fhir+json"})  # fmt: skip
            assert put.status_code == 201, put.text
        yield made


def seen(site: SmartSite, *, of: str = "A", count: int = 1) -> tuple[AccessRow, ...]:
    with site.node.database.read() as connection:
        return rows(connection, [site.patients[of]], None, count)


def token(site: SmartSite, scope: str = "patient/*.rs", who: str = "patient", **more: Any) -> str:
    return str(site.tokens("public", scope, who, **more)["access_token"])


def told(row: AccessRow) -> tuple[str, str, str, str, str]:
    return row.who, row.organization, row.app, row.what, row.outcome


def test_the_patient_is_the_patient(site: SmartSite) -> None:
    access = token(site)
    assert site.fhir(f"ImagingStudy?patient={site.patients['A']}", access).status_code == 200
    (row,) = seen(site)
    assert told(row) == ("the patient", "", "A public app", "searched for imaging studies", "allowed")
    assert (row.purpose, row.patient) == ("", site.patients["A"])
    assert site.fhir(f"AuditEvent/{row.event}", access).status_code == 200


def test_who_acts_for_the_patient_has_a_name(site: SmartSite) -> None:
    assert site.fhir(f"Patient/{site.patients['A']}", token(site, who="proxy")).status_code == 200
    assert told(seen(site)[0]) == ("Proxy", "", "A public app", "looked at personal details", "allowed")


def test_a_professional_has_a_name_and_an_organization(site: SmartSite) -> None:
    access = token(site, "user/*.rs", "practitioner")
    assert site.fhir(f"Patient/{site.patients['A']}", access).status_code == 200
    assert told(seen(site)[0]) == ("Practitioner", "Clinic Nord", "A public app", "looked at personal details", "allowed")
    access = token(site, "user/*.rs", "staff")
    assert site.fhir(f"Patient/{site.patients['A']}/$everything", access).status_code == 200
    assert told(seen(site)[0]) == ("Staff", "Sankt Anna", "A public app", "asked for everything in the record", "allowed")


def test_a_program_by_itself_is_named_by_its_registration(site: SmartSite) -> None:
    access = site.backend().json()["access_token"]
    assert site.fhir(f"Patient/{site.patients['A']}", access).status_code == 200
    assert told(seen(site)[0])[:3] == ("", "", "A service")


def test_another_patient_who_was_refused_is_somebody(site: SmartSite) -> None:
    """That there was an attempt is the patient's affair, and whose it was is the other's."""
    access = token(site, who="other", patient=site.patients["B"])
    assert site.fhir(f"Patient/{site.patients['A']}", access).status_code == 403
    (row,) = seen(site)
    assert told(row) == ("another person", "", "A public app", "looked at personal details", "refused")
    mine = token(site)
    event = site.fhir(f"AuditEvent/{row.event}", mine)
    assert event.status_code == 200
    assert site.patients["B"] not in event.text
    other = site.people["other"]
    assert other.id not in event.text
    assert other.name not in str(row)
    found = site.fhir(f"AuditEvent?agent=Patient/{site.patients['B']}", mine).json()
    assert "entry" not in found, "nor is it told by what a search finds"
    staff = site.node.tokens.issue(client="script", scope="system/*.rs")
    assert site.fhir(f"AuditEvent?agent=Patient/{site.patients['B']}&patient={site.patients['A']}", staff).json()["entry"]


def test_a_device_has_the_name_that_it_calls_itself(site: SmartSite) -> None:
    imports = [row for row in seen(site, count=500) if row.what == "sent images here"]
    assert {row.app for row in imports} == {"DEVICE"}


def access(row: dict[str, Any]) -> dict[str, Any]:
    return {part["name"]: next(value for name, value in part.items() if name.startswith("value")) for part in row["part"]}


@shows("operation", "access-history")
def test_the_operation_tells_it_in_pages_and_is_told_of_itself(site: SmartSite) -> None:
    mine, id_ = token(site), site.patients["A"]
    for _ in range(3):
        site.fhir(f"Patient/{id_}", mine)
    first = site.fhir(f"Patient/{id_}/$access-history?_count=2", mine)
    assert first.status_code == 200, first.text
    Parameters.model_validate(first.json())
    assert check(first.json()) == []
    page = [access(each) for each in first.json()["parameter"] if each["name"] == "access"]
    assert [each["what"] for each in page] == ["looked at personal details"] * 2
    assert page[0]["who"] == "the patient"
    assert page[0]["event"]["reference"].startswith("AuditEvent/")
    following = next(each["valueUrl"] for each in first.json()["parameter"] if each["name"] == "next")
    second = site.fhir(following.partition("/fhir/")[2], mine)
    assert second.status_code == 200, second.text
    more = [access(each) for each in second.json()["parameter"] if each["name"] == "access"]
    assert more[0]["what"] == "looked at personal details"
    assert {each["event"]["reference"] for each in more}.isdisjoint({each["event"]["reference"] for each in page})
    assert [row.what for row in seen(site, count=2)] == ["looked at this list"] * 2
    assert site.fhir(f"Patient/{id_}/$access-history?_count=2&cursor=x", mine).status_code == 400
    assert site.fhir(f"Patient/{id_}/$access-history?when=x", mine).status_code == 400


def test_the_operation_takes_a_time(site: SmartSite) -> None:
    mine, id_ = token(site), site.patients["A"]
    for asked, some in (("start=2020-01-01", True), ("end=2020-01-01", False), ("start=2020-01-01&end=2020-12-31", False)):
        found = site.fhir(f"Patient/{id_}/$access-history?{asked}", mine).json()["parameter"]
        assert any(each["name"] == "access" for each in found) == some, asked


@pytest.mark.parametrize(
    ("scope", "who", "status"),
    [
        ("patient/*.rs", "other", 403),
        ("patient/ImagingStudy.rs", "patient", 403),
        ("patient/AuditEvent.r", "patient", 403),
        ("patient/AuditEvent.rs", "patient", 200),
        ("patient/*.rs", "proxy", 200),
        ("user/AuditEvent.rs", "staff", 200),
    ],
)
def test_it_is_for_who_may_search_the_patients_events(site: SmartSite, scope: str, who: str, status: int) -> None:
    more = {"patient": site.patients["B"]} if who == "other" else {}
    found = site.fhir(f"Patient/{site.patients['A']}/$access-history", token(site, scope, who, **more))
    assert found.status_code == status, found.text
    if status == 403:
        assert told(seen(site)[0])[-1] == "refused"
        nobody = site.fhir("Patient/nobody/$access-history", token(site, scope, who, **more))
        assert nobody.status_code == 403, "the same for whom there is not"


def test_staff_is_told_that_there_is_no_such_patient(site: SmartSite) -> None:
    assert site.fhir("Patient/nobody/$access-history", token(site, "user/AuditEvent.rs", "staff")).status_code == 404


def test_its_definition_is_sound_and_has_its_parameters() -> None:
    definition = operation_definitions()[DEFINITION]
    OperationDefinition.model_validate(definition)
    assert check(definition) == []
    assert {each["name"] for each in definition["parameter"] if each["use"] == "in"} == set(PARAMETERS)


def test_rows_go_on_where_they_ended(site: SmartSite, tmp_path: Path) -> None:
    whole = seen(site, count=12)
    with site.node.database.read() as connection:
        first = rows(connection, [site.patients["A"]], None, 5)
        rest = rows(connection, [site.patients["A"]], first[-1].place, 7)
    assert (*first, *rest) == whole
    assert [row.when for row in whole] == sorted((row.when for row in whole), reverse=True)
    with site.node.database.read() as connection:
        assert rows(connection, [], None, 5) == ()

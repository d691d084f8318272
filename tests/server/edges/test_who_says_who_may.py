"""Consents and roles say who may see what: they are written by those whom they do not bind (`Decision.writes`)."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from peers.generated import Made
from peers.smart_site import SmartSite, smart_site
from peers.withholding import call, consent, consented, get, of_patient, put, script, stored, token

from server.access.people import accounts, proxies
from server.store.db import micros

ON_BOTH_ENGINES = True
Json = dict[str, Any]
CARDIOLOGY = {"role": {"text": "x"}, "reference": {"reference": "Organization/cardio"}}
ROLE = {
    "resourceType": "PractitionerRole", "id": "role", "practitioner": {"reference": "Practitioner/p1"},
    "organization": {"reference": "Organization/cardio"},
}  # fmt: skip
STUDIES = [{"system": "http://hl7.org/fhir/resource-types", "code": "ImagingStudy"}]
FIRST = Made(study=1, patient="A")


@pytest.fixture
def site(tmp_path: Path) -> Iterator[SmartSite]:
    with smart_site(tmp_path) as made:
        stored(
            made,
            {"resourceType": "Organization", "id": "cardio", "name": "Cardiology"},
            {"resourceType": "Practitioner", "id": "p1"},
        )
        yield made


def _patient(site: SmartSite) -> str:
    return f"/fhir/Patient/{site.patients['A']}"


def _seen(site: SmartSite, path: str) -> int:
    """What a practitioner is answered with a new token."""
    return get(site, path, token(site, scope="user/*.rs")).status_code


# --- roles


def test_who_is_denied_gets_no_access_by_a_role_that_he_writes_himself(site: SmartSite) -> None:
    consented(site, {"type": "deny", "provision": [{"type": "permit", "actor": [CARDIOLOGY]}]})
    refused = put(site, ROLE, token(site))
    assert refused.status_code == 403
    assert "says who may see what" in refused.text
    assert _seen(site, _patient(site)) == 404
    stored(site, ROLE)
    assert _seen(site, _patient(site)) == 200


def test_who_is_denied_by_his_organization_does_not_leave_it_by_himself(site: SmartSite) -> None:
    stored(site, ROLE)
    consented(site, {"type": "deny", "actor": [CARDIOLOGY]})
    doctor = token(site)
    assert put(site, {**ROLE, "active": False}, doctor).status_code == 403
    assert call(site, "DELETE", "/fhir/PractitionerRole/role", doctor).status_code == 403
    assert _seen(site, _patient(site)) == 404


@pytest.mark.parametrize(("who", "status"), [("practitioner", 403), ("staff", 403), ("administrator", 201)])
def test_administrators_say_who_has_which_role(site: SmartSite, who: str, status: int) -> None:
    assert put(site, ROLE, token(site, who)).status_code == status


def test_nor_is_it_written_by_condition_or_within_a_bundle(site: SmartSite) -> None:
    doctor = token(site)
    assert call(site, "PUT", "/fhir/PractitionerRole?practitioner=Practitioner/p1", doctor, ROLE).status_code == 403
    entry = {"resource": ROLE, "request": {"method": "POST", "url": "PractitionerRole"}}
    for kind in ("transaction", "batch"):
        call(site, "POST", "/fhir", doctor, {"resourceType": "Bundle", "type": kind, "entry": [entry]})
    assert get(site, "/fhir/PractitionerRole", script(site)).json()["total"] == 0


# --- consents


def test_who_is_denied_some_data_does_not_end_the_consent(site: SmartSite) -> None:
    consented(site, {"type": "deny", "class": STUDIES})
    doctor, path = token(site), f"/dicomweb/studies/{FIRST.study_uid}"
    held = get(site, "/fhir/Consent/c", doctor)
    assert held.status_code == 200
    assert put(site, {**held.json(), "status": "inactive"}, doctor).status_code == 403
    assert call(site, "DELETE", "/fhir/Consent/c", doctor).status_code == 403
    patch = {"resourceType": "Parameters", "parameter": [{"name": "operation", "part": [
        {"name": "type", "valueCode": "replace"}, {"name": "path", "valueString": "Consent.status"}, {"name": "value", "valueCode": "inactive"},
    ]}]}  # fmt: skip
    assert call(site, "PATCH", "/fhir/Consent/c", doctor, patch, **{"Content-Type": "application/fhir+json"}).status_code == 403
    assert _seen(site, path) == 404


def test_where_a_permission_is_needed_nobody_gives_it_to_himself(tmp_path: Path) -> None:
    with smart_site(tmp_path, consent_default="deny") as site:
        assert put(site, consent(site, {"type": "permit"}), token(site)).status_code == 403
        assert _seen(site, _patient(site)) == 404
        unnamed = site.node.tokens.issue(client="script", scope="user/*.cruds")
        assert put(site, consent(site, {"type": "permit"}), unnamed).status_code == 403
        of_record = token(site, scope="patient/*.cruds", patient=site.patients["A"])
        assert put(site, consent(site, {"type": "permit"}), of_record).status_code == 403


@pytest.mark.parametrize("who", ["patient", "proxy"])
def test_a_patient_and_her_proxy_consent(site: SmartSite, who: str) -> None:
    mine = of_patient(site, who=who)
    assert put(site, consent(site, {"type": "deny"}), mine).status_code == 201
    assert put(site, consent(site, {"type": "permit"}), mine).status_code == 200
    assert call(site, "DELETE", "/fhir/Consent/c", mine).status_code == 204


@pytest.mark.parametrize("who", ["staff", "administrator"])
def test_staff_records_what_a_patient_signed(site: SmartSite, who: str) -> None:
    assert put(site, consent(site, {"type": "deny"}), token(site, who)).status_code == 201


def test_a_token_of_the_command_line_for_a_patient_is_the_patients(site: SmartSite) -> None:
    mine = site.node.tokens.issue(client="script", scope="patient/*.cruds", patient=site.patients["A"])
    assert put(site, consent(site, {"type": "deny"}), mine).status_code == 201


def test_a_parent_does_not_end_what_a_teenager_keeps_from_her(site: SmartSite) -> None:
    patient = site.patients["A"]
    with site.node.database.write() as connection:
        mother = accounts.add(connection, kind="proxy", email="m@example.org", name="Mother", fhir_user="RelatedPerson/mom")
        proxies.begin(connection, account=mother.id, patient=patient, relation="parent", begins=micros() - 1)
    site.people["mother"] = mother
    hers = token(site, "mother", "patient/*.cruds", patient=patient)
    assert put(site, consent(site, {"type": "deny"}, id_="other"), hers).status_code == 201
    actor = {"role": {"text": "x"}, "reference": {"reference": "RelatedPerson/mom"}}
    consented(site, {"type": "deny", "actor": [actor], "class": STUDIES})
    assert call(site, "DELETE", "/fhir/Consent/c", hers).status_code == 403
    assert put(site, consent(site, {"type": "permit"}), hers).status_code == 403
    assert get(site, "/fhir/Consent/c", script(site)).json()["provision"]["type"] == "deny"


def test_who_may_not_delete_is_told_so_whether_or_not_there_is_anything(site: SmartSite) -> None:
    reader = token(site, scope="user/*.rs")
    for id_ in ("cardio", "nothing"):
        assert call(site, "DELETE", f"/fhir/Organization?_id={id_}", reader).status_code == 403
    assert get(site, "/fhir/Organization/cardio", reader).status_code == 200


def test_who_may_not_write_is_told_so_before_what_is_wrong_with_it(site: SmartSite) -> None:
    reader = token(site, scope="user/*.rs")
    wrong = {"resourceType": "Organization", "id": "cardio", "name": 7}
    assert put(site, wrong, reader).status_code == 403
    assert call(site, "POST", "/fhir/Organization", reader, wrong).status_code == 403

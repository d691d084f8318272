"""Whose a resource is, to consents: also of whom it is that no Patient compartment of R4 has, of what is about something else, and who is meant."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from peers.generated import Made
from peers.smart_site import SmartSite, smart_site
from peers.withholding import call, consent, consented, get, observation, script, stored, study_ids, token

from profiles.audit_event import Agent
from server.access.people import accounts
from server.store.db import micros
from server.store.tables import Reindexing
from server.work.corrections import Corrector
from server.work.reconcile import Actor, Reconciler

ON_BOTH_ENGINES = True
Json = dict[str, Any]
FIRST = Made(study=1, patient="A")
CONFIDENTIALITY = (
    "http://terminology.hl7.org/CodeSystem/v3-Confidentiality",
    "http://hl7.org/fhir/v3/Confidentiality",
    "urn:oid:2.16.840.1.113883.5.25",
)
ACT_CODE = ("http://terminology.hl7.org/CodeSystem/v3-ActCode", "http://hl7.org/fhir/v3/ActCode", "urn:oid:2.16.840.1.113883.5.4")  # fmt: skip
NAMING = ("Contract", "Device", "GuidanceResponse", "Task")


@pytest.fixture
def site(tmp_path: Path) -> Iterator[SmartSite]:
    with smart_site(tmp_path) as made:
        yield made


def _naming(type_: str, patient: str) -> Json:
    """A resource that names a patient and is in no compartment of hers."""
    reference, secret = {"reference": f"Patient/{patient}"}, {"text": "secret"}
    content: dict[str, Json] = {
        "Task": {"status": "requested", "intent": "order", "for": reference, "description": "secret"},
        "Device": {"patient": reference, "lotNumber": "secret"},
        "Contract": {"subject": [reference], "name": "secret"},
        "GuidanceResponse": {"moduleUri": "urn:x", "status": "success", "subject": reference, "note": [secret]},
    }
    return {"resourceType": type_, "id": "x", **content[type_]}


def _provenance(*targets: str) -> Json:
    return {
        "resourceType": "Provenance", "id": "x", "target": [{"reference": each} for each in targets],
        "recorded": "2026-01-01T00:00:00Z", "agent": [{"who": {"display": "secret"}}],
    }  # fmt: skip


def _doctor(site: SmartSite) -> str:
    return token(site, scope="user/*.rs")


# --- what is outside the compartment


@pytest.mark.parametrize("type_", NAMING)
def test_what_names_a_patient_is_withheld_with_all_of_hers(site: SmartSite, type_: str) -> None:
    stored(site, _naming(type_, site.patients["A"]))
    doctor, path, patient = _doctor(site), f"/fhir/{type_}/x", site.patients["A"]
    searches = [f"/fhir/{type_}", f"/fhir/{type_}?patient={patient}", f"/fhir/{type_}/_history"]
    assert get(site, path, doctor).status_code == 200
    assert all("secret" in get(site, each, doctor).text for each in searches)
    consented(site, {"type": "deny"})
    for at in (path, f"{path}/_history/1", f"{path}/_history"):
        assert get(site, at, doctor).status_code == 404
    assert all("secret" not in get(site, each, doctor).text for each in searches)
    assert get(site, path, script(site)).status_code == 200
    assert call(site, "DELETE", path, script(site)).status_code == 204
    for at in (path, f"{path}/_history/1", f"{path}/_history"):
        assert get(site, at, doctor).status_code == 404


def test_it_is_told_as_far_as_a_consent_goes(site: SmartSite) -> None:
    stored(site, _naming("Task", site.patients["A"]), _naming("Device", site.patients["A"]))
    consented(site, {"type": "deny", "class": [{"system": "http://hl7.org/fhir/resource-types", "code": "Task"}]})
    doctor = _doctor(site)
    assert [get(site, f"/fhir/{each}/x", doctor).status_code for each in ("Task", "Device")] == [404, 200]


def test_where_a_permission_is_needed_it_is_needed_for_these_too(tmp_path: Path) -> None:
    with smart_site(tmp_path, consent_default="deny") as site:
        nobodys = {"resourceType": "Device", "id": "nobodys"}
        stored(site, *(_naming(type_, site.patients["A"]) for type_ in NAMING), nobodys)
        paths = [f"/fhir/{type_}/x" for type_ in NAMING]
        assert {get(site, path, _doctor(site)).status_code for path in paths} == {404}
        assert get(site, "/fhir/Device/nobodys", _doctor(site)).status_code == 200
        consented(site, {"type": "permit"}, patient="B")
        assert {get(site, path, _doctor(site)).status_code for path in paths} == {404}
        consented(site, {"type": "permit"}, id_="d")
        assert {get(site, path, _doctor(site)).status_code for path in paths} == {200}


def test_while_rows_are_made_anew_it_is_not_known_whose_they_are(site: SmartSite) -> None:
    stored(site, _naming("Device", site.patients["A"]), _naming("Task", site.patients["A"]))
    consented(site, {"type": "deny"}, patient="B")
    doctor = _doctor(site)
    assert [get(site, f"/fhir/{each}/x", doctor).status_code for each in ("Task", "Device")] == [200, 200]
    with site.node.database.write() as connection:
        connection.execute(Reindexing.__table__.insert().values(type="Task", codes="*", began=micros()))  # type: ignore[attr-defined]
    assert [get(site, f"/fhir/{each}/x", doctor).status_code for each in ("Task", "Device")] == [404, 200]


# --- what is about something


@pytest.mark.parametrize("target", ["ImagingStudy", "Task", "Appointment", "Patient"])
def test_where_it_came_from_is_withheld_with_it(site: SmartSite, target: str) -> None:
    both = [{"actor": {"reference": f"Patient/{site.patients[each]}"}, "status": "accepted"} for each in "BA"]
    appointment = {"resourceType": "Appointment", "id": "x", "status": "booked", "participant": both}
    stored(site, _naming("Task", site.patients["A"]), appointment)
    names = {
        "ImagingStudy": f"ImagingStudy/{study_ids(site)[FIRST.study_uid]}", "Task": "Task/x", "Appointment": "Appointment/x",
        "Patient": f"Patient/{site.patients['A']}",
    }  # fmt: skip
    stored(site, _provenance(f"Patient/{site.patients['B']}", names[target]))
    doctor = _doctor(site)
    assert get(site, "/fhir/Provenance/x", doctor).status_code == 200
    consented(site, {"type": "deny"})
    assert get(site, "/fhir/Provenance/x", doctor).status_code == 404
    assert "secret" not in get(site, f"/fhir/Provenance?target={names[target]}", doctor).text


# --- labels by another name


@pytest.mark.parametrize("other", range(3))
@pytest.mark.parametrize(("systems", "code"), [(CONFIDENTIALITY, "R"), (ACT_CODE, "PSY")])
def test_a_label_is_the_same_by_another_name_of_its_system(
    site: SmartSite, systems: tuple[str, ...], code: str, other: int
) -> None:
    stored(
        site,
        *(observation(site, f"o{n}", meta={"security": [{"system": each, "code": code}]}) for n, each in enumerate(systems)),
        observation(site, "plain"),
    )
    consented(site, {"type": "deny", "securityLabel": [{"system": systems[other], "code": code}]})
    doctor = _doctor(site)
    assert [get(site, f"/fhir/Observation/{each}", doctor).status_code for each in ("o0", "o1", "o2", "plain")] == [
        404,
        404,
        404,
        200,
    ]


def test_a_label_of_sensitivity_is_restricted_by_whatever_name(site: SmartSite) -> None:
    labels = [[{"system": each, "code": "PSY"}] for each in ACT_CODE]
    stored(site, *(observation(site, f"o{number}", meta={"security": each}) for number, each in enumerate(labels)))
    consented(site, {"type": "deny", "securityLabel": [{"system": CONFIDENTIALITY[0], "code": "R"}]})
    assert {get(site, f"/fhir/Observation/o{each}", _doctor(site)).status_code for each in range(3)} == {404}


# --- who is meant


NAMED: Json = {"role": {"text": "x"}, "reference": {"reference": "Practitioner/p1"}}


@pytest.fixture
def unnamed(site: SmartSite) -> list[str]:
    """Tokens of users of whom it is not known who they are."""
    with site.node.database.write() as connection:
        for kind in ("practitioner", "staff"):
            site.people[kind] = accounts.add(connection, kind=kind, email=f"{kind}@example.com", name="Somebody")
    own = [token(site, kind, "user/*.rs") for kind in ("practitioner", "staff")]
    return [*own, site.node.tokens.issue(client="viewer", scope="user/*.rs")]


def test_a_denial_of_somebody_is_one_of_who_is_not_known(site: SmartSite, unnamed: list[str]) -> None:
    path = f"/fhir/Patient/{site.patients['A']}"
    assert {get(site, path, each).status_code for each in unnamed} == {200}
    consented(site, {"type": "deny", "actor": [NAMED]})
    assert {get(site, path, each).status_code for each in unnamed} == {404}
    assert get(site, f"/fhir/Patient/{site.patients['B']}", unnamed[0]).status_code == 200
    assert get(site, path, script(site)).status_code == 200


def test_a_permission_of_somebody_is_none_of_who_is_not_known(site: SmartSite, unnamed: list[str]) -> None:
    consented(site, {"type": "deny", "provision": [{"type": "permit", "actor": [NAMED]}]})
    path = f"/fhir/Patient/{site.patients['A']}"
    assert {get(site, path, each).status_code for each in unnamed} == {404}
    consented(site, {"type": "permit", "provision": [{"type": "deny", "actor": [NAMED]}]})
    assert {get(site, path, each).status_code for each in unnamed} == {404}
    consented(site, {"type": "deny", "provision": [{"type": "permit", "actor": [NAMED]}, {"type": "permit"}]})
    assert {get(site, path, each).status_code for each in unnamed} == {200}


# --- after a merge


def test_an_absolute_reference_means_the_same_after_a_merge(site: SmartSite) -> None:
    node, path = site.node, f"/fhir/Patient/{site.patients['A']}"
    actor = {"role": {"text": "x"}, "reference": {"reference": f"{site.base}/fhir/Practitioner/p1"}}
    stored(site, consent(site, {"type": "deny", "provision": [{"type": "permit", "actor": [actor]}]}))
    assert get(site, path, _doctor(site)).status_code == 200
    reconciler = Reconciler(node.settings, node.database, node.blobs, node.installation, node.trail)
    corrector = Corrector(reconciler, node.database, node.blobs, node.installation.patients.oid)
    corrector.merge(site.patients["A"], site.patients["B"], actor=Actor(Agent(identifier="tester")))
    assert get(site, path, _doctor(site)).status_code == 200

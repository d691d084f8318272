"""A token for one study: whose it is may be known, and nothing else that hangs on the patient, nor is she changed."""

import base64
from collections.abc import Iterator
from pathlib import Path

import pytest
from peers.smart_site import SmartSite, smart_site
from peers.withholding import FHIR, call, get, observation, put, script, stored, study_ids, token

ON_BOTH_ENGINES = True


@pytest.fixture
def site(tmp_path: Path) -> Iterator[SmartSite]:
    with smart_site(tmp_path) as made:
        yield made


def _one(site: SmartSite) -> str:
    return token(site, "patient", "patient/*.cruds", patient=site.patients["A"], studies=(site.studies["A"][0],))


def test_a_binary_of_the_patient_is_none_of_the_study(site: SmartSite) -> None:
    letter = {
        "resourceType": "Binary", "id": "letter", "contentType": "text/plain", "data": base64.b64encode(b"text").decode(),
        "securityContext": {"reference": f"Patient/{site.patients['A']}"},
    }  # fmt: skip
    stored(site, letter)
    one = _one(site)
    assert get(site, "/fhir/Binary/letter", one).status_code == 403
    assert call(site, "DELETE", "/fhir/Binary/letter", one).status_code == 403
    assert put(site, letter, one, **FHIR).status_code == 403
    assert call(site, "POST", "/fhir/Binary", one, letter, **FHIR).status_code == 403
    assert get(site, "/fhir/Binary/letter", script(site)).content == b"text"


def test_who_the_patient_is_may_be_read_and_not_changed(site: SmartSite) -> None:
    path, one = f"/fhir/Patient/{site.patients['A']}", _one(site)
    held = get(site, path, one)
    assert held.status_code == 200
    assert put(site, {**held.json(), "telecom": [{"value": "1"}]}, one).status_code == 403
    assert call(site, "DELETE", path, one).status_code == 403


def test_what_refers_to_another_resource_of_the_studys_id_is_not_about_the_study(site: SmartSite) -> None:
    """Ids are told apart by type: a client may give any."""
    study = study_ids(site)[site.studies["A"][0]]
    about = observation(site, "about", derivedFrom=[{"reference": f"ImagingStudy/{study}"}])
    other = observation(site, "other", derivedFrom=[{"reference": f"Observation/{study}"}])
    stored(site, observation(site, study), about, other)
    one = _one(site)
    assert get(site, "/fhir/Observation/about", one).status_code == 200
    assert get(site, "/fhir/Observation/other", one).status_code == 403
    found = get(site, "/fhir/Observation", one).json()
    assert [each["resource"]["id"] for each in found["entry"]] == ["about"]


def test_what_is_about_another_study_of_the_patient_is_not_about_this_one(site: SmartSite) -> None:
    ids = study_ids(site)
    for name, uid in zip(("this", "that"), site.studies["A"], strict=True):
        stored(site, observation(site, name, derivedFrom=[{"reference": f"ImagingStudy/{ids[uid]}"}]))
    one = _one(site)
    assert [get(site, f"/fhir/Observation/{name}", one).status_code for name in ("this", "that")] == [200, 403]
    assert [each["resource"]["id"] for each in get(site, "/fhir/Observation", one).json()["entry"]] == ["this"]


def test_a_scope_for_some_of_a_type_is_for_those_of_its_patient(site: SmartSite) -> None:
    """SMART App Launch 2.2, scopes with a query: it narrows what the patient in context opens, and opens nobody else's."""
    for name in ("A", "B"):
        stored(site, observation(site, f"of-{name}", name, code={"coding": [{"system": "http://loinc.org", "code": "8480-6"}]}))
    some = token(site, "practitioner", "patient/Observation.rs?code=http://loinc.org|8480-6", patient=site.patients["A"])
    assert [get(site, f"/fhir/Observation/of-{name}", some).status_code for name in ("A", "B")] == [200, 403]
    assert [each["resource"]["id"] for each in get(site, "/fhir/Observation", some).json()["entry"]] == ["of-A"]


def test_whose_the_study_is_may_be_read_of_nobody_else(site: SmartSite) -> None:
    """Also where the scopes are not for one patient."""
    one = token(site, "practitioner", "user/*.rs patient/*.rs", patient=site.patients["A"], studies=(site.studies["A"][0],))
    assert [get(site, f"/fhir/Patient/{site.patients[name]}", one).status_code for name in ("A", "B")] == [200, 403]

"""Endpoints are nobody's: whoever may see studies reads them, and only who may write what is nobody's changes them, or what belongs to them."""

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from peers.smart_site import SmartSite, smart_site
from peers.withholding import FHIR, call, get, of_patient, put, script, stored, token

ON_BOTH_ENGINES = True
CONNECTION = {"system": "http://terminology.hl7.org/CodeSystem/endpoint-connection-type", "code": "dicom-wado-rs"}
ENDPOINT = {
    "resourceType": "Endpoint", "id": "e", "status": "active", "payloadType": [{"text": "x"}], "address": "https://x.example.org",
    "connectionType": CONNECTION,
}  # fmt: skip


@pytest.fixture
def site(tmp_path: Path) -> Iterator[SmartSite]:
    with smart_site(tmp_path) as made:
        stored(made, ENDPOINT)
        yield made


def _binary(id_: str) -> dict[str, Any]:
    data = base64.b64encode(b"text").decode()
    context = {"reference": "Endpoint/e"}
    return {"resourceType": "Binary", "id": id_, "contentType": "text/plain", "securityContext": context, "data": data}


def _is_there(site: SmartSite, path: str) -> bool:
    return get(site, path, script(site)).status_code == 200


@pytest.mark.parametrize("scope", ["patient/*.cruds", "patient/Endpoint.cruds", "patient/*.write"])
def test_a_patients_app_neither_changes_nor_deletes_an_endpoint(site: SmartSite, scope: str) -> None:
    mine = of_patient(site, scope=scope)
    assert call(site, "DELETE", "/fhir/Endpoint/e", mine).status_code == 403
    assert put(site, {**ENDPOINT, "address": "https://evil.example.org"}, mine).status_code == 403
    assert call(site, "POST", "/fhir/Endpoint", mine, ENDPOINT).status_code == 403
    assert get(site, "/fhir/Endpoint/e", script(site)).json()["address"] == ENDPOINT["address"]


@pytest.mark.parametrize("kind", ["transaction", "batch"])
def test_nor_within_a_bundle(site: SmartSite, kind: str) -> None:
    entry = {"request": {"method": "DELETE", "url": "Endpoint/e"}}
    call(site, "POST", "/fhir", of_patient(site), {"resourceType": "Bundle", "type": kind, "entry": [entry]})
    assert _is_there(site, "/fhir/Endpoint/e")


def test_nor_does_somebody_with_a_reach_or_a_token_for_one_study(site: SmartSite) -> None:
    reach, study = (site.patients["A"],), (site.studies["A"][0],)
    for by in (
        token(site, "patient"),
        token(site, reach=reach),
        token(site, "patient", patient=site.patients["A"], studies=study),
    ):
        assert call(site, "DELETE", "/fhir/Endpoint/e", by).status_code == 403
    assert _is_there(site, "/fhir/Endpoint/e")


def test_whoever_sees_studies_still_reads_and_finds_endpoints(site: SmartSite) -> None:
    mine = of_patient(site, scope="patient/ImagingStudy.rs")
    assert get(site, "/fhir/Endpoint/e", mine).status_code == 200
    assert get(site, "/fhir/Endpoint?_id=e", mine).json()["total"] == 1


def test_who_may_write_for_every_patient_writes_endpoints(site: SmartSite) -> None:
    doctor = token(site)
    assert put(site, {**ENDPOINT, "name": "x"}, doctor).status_code == 200
    assert call(site, "DELETE", "/fhir/Endpoint/e", doctor).status_code == 204


def test_a_patients_app_changes_nothing_that_belongs_to_an_endpoint(site: SmartSite) -> None:
    stored(site, _binary("b"))
    mine = of_patient(site)
    assert put(site, _binary("b"), mine, **FHIR).status_code == 403
    assert call(site, "POST", "/fhir/Binary", mine, _binary("c"), **FHIR).status_code == 403
    assert call(site, "DELETE", "/fhir/Binary/b", mine).status_code == 403
    assert _is_there(site, "/fhir/Binary/b")

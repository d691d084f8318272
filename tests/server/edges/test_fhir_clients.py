"""FHIR clients of others against a real server process: fhirpy and fhirclient search, page and include."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import requests
from fhirclient.client import FHIRClient
from fhirclient.models.fhirsearch import FHIRSearch
from fhirclient.models.imagingstudy import ImagingStudy
from fhirpy import SyncFHIRClient
from fhirpy.base.exceptions import ForbiddenError, OperationOutcome
from peers import imageshare
from peers.generated import Made, send
from peers.imageshare import Running

STUDIES = 7
MADE = [Made(study=number, patient=f"P{number % 2}", modality="CT" if number % 3 else "MR") for number in range(1, STUDIES + 1)]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, module_database_url: str) -> Iterator[Running]:
    data: Path = tmp_path_factory.mktemp("clients") / "data"
    with imageshare.node(data, module_database_url) as node:
        send(node, *MADE, *(replace(made, number=2) for made in MADE))
        imageshare.publish_all(node)
    with imageshare.running(data, module_database_url) as running:
        yield running


@pytest.fixture(scope="module")
def token(server: Running) -> str:
    return server.token("system/*.rs")


def test_fhirpy_finds_pages_and_includes(server: Running, token: str) -> None:
    client = SyncFHIRClient(f"{server.http}/fhir", authorization=f"Bearer {token}")
    studies = client.resources("ImagingStudy").limit(2).fetch_all()
    assert len({study["id"] for study in studies}) == STUDIES
    mr = client.resources("ImagingStudy").search(modality="MR").sort("-started").fetch_all()
    assert {study["modality"][0]["code"] for study in mr} == {"MR"}
    assert len(mr) == sum(made.modality == "MR" for made in MADE)
    one = client.resources("ImagingStudy").search(identifier=f"urn:dicom:uid|urn:oid:{MADE[0].study_uid}")
    bundle = one.include("ImagingStudy", "endpoint").fetch_raw()
    assert [entry["resource"]["resourceType"] for entry in bundle["entry"]] == ["ImagingStudy", "Endpoint"]
    study = one.get()
    patient = study["subject"].to_resource()
    assert patient["identifier"][0]["value"] == MADE[0].patient
    assert len(client.resources("ImagingStudy").search(patient=patient["id"]).fetch_all()) == 4


def test_fhirpy_counts(server: Running, token: str) -> None:
    """It counts with a parameter of one server's own (`_totalMethod`), which only a lenient search lets pass."""
    client = SyncFHIRClient(f"{server.http}/fhir", authorization=f"Bearer {token}", extra_headers={"Prefer": "handling=lenient"})
    assert client.resources("ImagingStudy").count() == STUDIES


def test_fhirpy_is_told_what_is_wrong(server: Running, token: str) -> None:
    client = SyncFHIRClient(f"{server.http}/fhir", authorization=f"Bearer {server.token('patient/*.rs', 'P0')}")
    assert [patient["identifier"][0]["value"] for patient in client.resources("Patient").fetch_all()] == ["P0"]
    with pytest.raises(ForbiddenError, match="forbidden"):
        client.resources("ImagingStudy").search(patient="somebody").fetch_all()
    client = SyncFHIRClient(f"{server.http}/fhir", authorization=f"Bearer {token}")
    with pytest.raises(OperationOutcome) as wrong:
        client.resources("ImagingStudy").search(colour="red").fetch_all()
    assert wrong.value.resource["issue"][0]["location"] == ["http.colour"]


def test_fhirclient_finds_and_reads(server: Running, token: str) -> None:
    client = FHIRClient(settings={"app_id": "test", "api_base": f"{server.http}/fhir"})
    client.server.session.headers["Authorization"] = f"Bearer {token}"
    search: FHIRSearch = ImagingStudy.where({"_count": "3", "modality": "CT"})
    found = list(search.perform_resources_iter(client.server))
    assert len(found) == sum(made.modality == "CT" for made in MADE)
    again = ImagingStudy.read(found[0].id, client.server)
    assert again.numberOfInstances == 2
    assert again.as_json() == found[0].as_json()
    client.server.session.close()


def test_the_server_calls_itself_what_its_clients_call_it(server: Running, token: str) -> None:
    found = requests.get(f"{server.http}/fhir/Patient?_count=1", headers={"Authorization": f"Bearer {token}"}, timeout=30).json()
    assert all(link["url"].startswith(f"{server.http}/fhir/Patient?") for link in found["link"])
    assert found["entry"][0]["fullUrl"].startswith(f"{server.http}/fhir/Patient/")

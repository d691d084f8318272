"""FHIR clients of others, unmodified, against a real server process: CRUD, search with paging, history, transaction, conditional create.

Everything that they are told is parsed by `fhir.resources` (R4B) too.
"""

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fhir.resources.R4B import get_fhir_model_class
from fhirclient.client import FHIRClient
from fhirclient.models import bundle as fhirclient_bundle
from fhirclient.models.humanname import HumanName
from fhirclient.models.observation import Observation
from fhirclient.models.patient import Patient
from fhirclient.server import FHIRNotFoundException
from fhirpy import SyncFHIRClient
from fhirpy.base.exceptions import MultipleResourcesFound, ResourceNotFound
from fhirpy.base.exceptions import OperationOutcome as Refused
from peers import imageshare, node_clients
from peers.generated import Made, send
from peers.imageshare import Running
from peers.shows import shows

Json = dict[str, Any]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, module_database_url: str) -> Iterator[Running]:
    data: Path = tmp_path_factory.mktemp("clients") / "data"
    with imageshare.node(data, module_database_url) as node:
        send(node, Made(study=1, patient="P1"), Made(study=2, patient="P1", modality="MR"))
        imageshare.publish_all(node)
    with imageshare.running(data, module_database_url) as running:
        yield running


@pytest.fixture(scope="module")
def token(server: Running) -> str:
    return server.token("system/*.cruds")


def parsed(resource: Json) -> Json:
    """The same, once `fhir.resources` has taken it."""
    get_fhir_model_class(resource["resourceType"]).model_validate(resource)
    return resource


# --- fhirpy


@pytest.fixture
def fhirpy(server: Running, token: str) -> SyncFHIRClient:
    return SyncFHIRClient(f"{server.http}/fhir", authorization=f"Bearer {token}")


@shows("interaction", "create", "read", "update", "delete", "history-instance")
def test_fhirpy_writes(fhirpy: SyncFHIRClient) -> None:
    patient = fhirpy.resource("Patient", name=[{"family": "Py"}])
    patient.save()
    parsed(dict(patient.serialize()))
    assert patient["meta"]["versionId"] == "1"
    patient["active"] = True
    patient.save()
    assert patient["meta"]["versionId"] == "2"
    again = fhirpy.reference("Patient", patient.id).to_resource()
    assert again["active"] is True
    history = fhirpy.execute(f"Patient/{patient.id}/_history", method="get")
    assert [each["resource"]["meta"]["versionId"] for each in parsed(history)["entry"]] == ["2", "1"]
    patient.delete()
    with pytest.raises(ResourceNotFound):
        fhirpy.reference("Patient", patient.id).to_resource()


@shows("conditional", "create", "update")
@shows("result", "_count")
def test_fhirpy_searches_pages_and_writes_by_condition(fhirpy: SyncFHIRClient) -> None:
    identifier = [{"system": "http://example.org/py", "value": "1"}]
    condition = {"If-None-Exist": "identifier=http://example.org/py|1"}  # its own get_or_create is of another server's dialect
    careful = SyncFHIRClient(fhirpy.url, authorization=fhirpy.authorization, extra_headers=condition)
    patient, same = (careful.resource("Patient", identifier=identifier) for _ in range(2))
    patient.save()
    same.save()
    assert same.id == patient.id
    patients = fhirpy.resources("Patient").search(identifier="http://example.org/py|1")
    changed, _ = patients.update(fhirpy.resource("Patient", identifier=identifier, active=True))
    assert (changed.id, changed["meta"]["versionId"]) == (patient.id, "2")
    for number in range(5):
        fhirpy.resource("Observation", status="final", code={"text": f"o{number}"}, subject=patient.to_reference()).save()
    found = fhirpy.resources("Observation").search(subject=patient).limit(2).fetch_all()
    assert len({each.id for each in found}) == 5
    twice = fhirpy.resources("Observation").search(subject=patient)
    with pytest.raises(MultipleResourcesFound):
        twice.update(fhirpy.resource("Observation", status="final", code={"text": "x"}))


@shows("interaction", "transaction")
def test_fhirpy_sends_a_transaction(fhirpy: SyncFHIRClient) -> None:
    entry = [
        {"resource": {"resourceType": "Patient", "active": True}, "request": {"method": "POST", "url": "Patient"}}
        for _ in range(3)
    ]
    done = parsed(fhirpy.execute("", method="post", data={"resourceType": "Bundle", "type": "transaction", "entry": entry}))
    assert [each["response"]["status"][:3] for each in done["entry"]] == ["201"] * 3
    wrong = [*entry, {"resource": {"resourceType": "Patient", "gender": "x"}, "request": {"method": "POST", "url": "Patient"}}]
    before = parsed(fhirpy.execute("Patient", method="get", params={"_summary": "count"}))["total"]
    with pytest.raises(Refused) as refused:
        fhirpy.execute("", method="post", data={"resourceType": "Bundle", "type": "transaction", "entry": wrong})
    assert parsed(refused.value.resource)["issue"][0]["expression"][0].startswith("Bundle.entry[3]")
    assert fhirpy.execute("Patient", method="get", params={"_summary": "count"})["total"] == before


# --- fhirclient of PyPI


@shows("interaction", "create", "read", "update", "delete", "search-type")
def test_fhirclient_writes_and_searches(server: Running, token: str) -> None:
    client = FHIRClient(settings={"app_id": "test", "api_base": f"{server.http}/fhir"})
    client.server.session.headers["Authorization"] = f"Bearer {token}"
    patient = Patient()
    patient.name = [HumanName({"family": "Client"})]
    made = parsed(patient.create(client.server))
    patient = Patient.read(made["id"], client.server)
    patient.active = True
    assert parsed(patient.update(client.server))["meta"]["versionId"] == "2"
    for number in range(5):
        given = {
            "resourceType": "Observation",
            "status": "final",
            "code": {"text": f"o{number}"},
            "subject": {"reference": f"Patient/{patient.id}"},
        }
        Observation(given).create(client.server)
    search = Observation.where({"subject": f"Patient/{patient.id}", "_count": "2"})
    assert len(list(search.perform_resources_iter(client.server))) == 5
    history = client.server.request_json(f"Patient/{patient.id}/_history")
    assert len(fhirclient_bundle.Bundle(parsed(history)).entry) == 2
    capabilities = client.server.request_json("metadata")
    importlib.import_module("fhirclient.models.capabilitystatement").CapabilityStatement(parsed(capabilities))
    patient.delete(client.server)
    with pytest.raises(FHIRNotFoundException):
        client.server.request_json("Patient/nobody")
    client.server.session.close()


# --- npm


def run(script: str, server: Running, token: str) -> Json:
    try:
        told: Json = node_clients.run(script, f"{server.http}/fhir", token)
    except node_clients.NoNode as reason:
        pytest.skip(str(reason))
    for each in told.values():
        for resource in each if isinstance(each, list) else [each]:
            if isinstance(resource, dict) and "resourceType" in resource:
                parsed(resource)
    return told


@shows(
    "interaction", "create", "read", "vread", "update", "patch", "delete", "history-instance", "history-type", "history-system"
)
@shows("interaction", "search-type", "transaction", "batch", "capabilities")
@shows("conditional", "create")
@shows("operation", "everything", "validate")
def test_fhir_kit_client(server: Running, token: str) -> None:
    told = run("fhir-kit-client.mjs", server, token)
    assert told["read"]["name"] == [{"family": "Kit"}]
    assert told["updated"]["meta"]["versionId"] == "2"
    assert told["patched"]["active"] is False
    assert "active" not in told["vread"]
    assert [each["resource"]["meta"]["versionId"] for each in told["history"]["entry"]] == ["3", "2", "1"]
    assert {each["request"]["url"].partition("/")[0] for each in told["typeHistory"]["entry"]} == {"Patient"}
    assert told["systemHistory"]["type"] == "history"
    assert [len(page["entry"]) for page in told["pages"]] == [2, 2, 1]
    assert len(told["posted"]["entry"]) == len(told["compartment"]["entry"]) == 5
    assert len(told["everything"]["entry"]) == 6
    assert told["validated"]["issue"][0]["severity"] == "error"
    both = [each["response"]["location"] for each in told["transaction"]["entry"]]
    assert [location.split("/")[0] for location in both] == ["Patient", "Observation"]
    assert told["batch"]["entry"][0]["resource"]["id"] == told["read"]["id"]
    assert told["conditional"][0]["id"] == told["conditional"][1]["id"]
    assert told["capabilities"]["fhirVersion"] == "4.0.1"
    assert told["gone"] == 410


@shows("interaction", "create", "read", "update", "patch", "delete", "history-instance", "search-type", "transaction")
@shows("conditional", "create")
def test_fhirclient_of_npm(server: Running, token: str) -> None:
    told = run("fhirclient.mjs", server, token)
    assert told["read"]["name"] == [{"family": "Smart"}]
    assert told["updated"]["meta"]["versionId"] == "2"
    assert told["patched"]["active"] is False
    assert len(told["history"]["entry"]) == 3
    assert [len(page["entry"]) for page in told["pages"]] == [2, 2, 1]
    assert len(told["resources"]) == 5
    assert told["transaction"]["entry"][0]["response"]["status"].startswith("201")
    assert told["conditional"][0]["id"] == told["conditional"][1]["id"]
    assert (told["version"], told["release"]) == ("4.0.1", 4)
    assert told["gone"] == 410

"""By which identifiers images find their patient is for those to say who are trusted with all patients, not for a `patient/` scope."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from peers.fhir_site import FhirSite, fhir_site, issue
from peers.generated import Made, send
from peers.imageshare import publish_all

ON_BOTH_ENGINES = True
PATCH = "application/json-patch+json"
UID = {"system": "urn:dicom:uid", "value": f"urn:oid:{Made().study_uid}"}


@pytest.fixture
def site(tmp_path: Path) -> Iterator[FhirSite]:
    with fhir_site(tmp_path / "data") as made:
        yield made


def _named(site: FhirSite, value: str = "P1") -> dict[str, Any]:
    return {"system": f"urn:oid:{site.node.installation.patients.oid}", "value": value}


def _patient(*identifiers: dict[str, Any], id_: str = "own") -> dict[str, Any]:
    return {"resourceType": "Patient", "id": id_, **({"identifier": list(identifiers)} if identifiers else {})}


def _put(site: FhirSite, token: dict[str, str], patient: dict[str, Any]) -> Any:
    return site.ask("PUT", "Patient/own", token, body=patient)


def _patched(site: FhirSite, token: dict[str, str], patient: dict[str, Any]) -> Any:
    patch = [{"op": "add", "path": "/identifier", "value": patient.get("identifier", [])}]
    return site.ask("PATCH", "Patient/own", token, body=patch, Content_Type=PATCH)


def _in_transaction(site: FhirSite, token: dict[str, str], patient: dict[str, Any]) -> Any:
    entry = {"resource": patient, "request": {"method": "PUT", "url": "Patient/own"}}
    return site.ask("POST", "", token, body={"resourceType": "Bundle", "type": "transaction", "entry": [entry]})


@pytest.mark.parametrize("write", [_put, _patched, _in_transaction])
@pytest.mark.parametrize("scope", ["patient/*.cruds", "patient/Patient.u"])
def test_a_patient_does_not_take_over_the_studies_of_another(site: FhirSite, write: Callable[..., Any], scope: str) -> None:
    """Nor learns who is known: the answer is the same for an identifier that somebody has."""
    site.put(_patient(), _patient(_named(site, "P7"), id_="known"))
    token = site.token(scope, "own")
    for value in ("P1", "P7"):
        issue(write(site, token, _patient(_named(site, value))), 403, "forbidden")
    send(site.node, Made())
    publish_all(site.node)
    (study,) = [each["resource"] for each in site.bundle("ImagingStudy")["entry"]]
    assert study["subject"]["reference"] not in ("Patient/own", "Patient/known")
    issue(site.get(f"ImagingStudy/{study['id']}", site.token("patient/*.rs", "own")), 403, "forbidden")


def test_a_patient_keeps_the_identifiers_that_others_gave_and_may_say_the_rest(site: FhirSite) -> None:
    insured = {"system": "http://insurer", "value": "1"}
    site.put(_patient(_named(site)))
    token = site.token("patient/*.cruds", "own")
    issue(_put(site, token, _patient(insured)), 403, "forbidden")
    assert _put(site, token, {**_patient(_named(site), insured), "language": "de"}).status_code == 200
    assert _put(site, site.token("user/*.cruds"), _patient(insured)).status_code == 200


@pytest.mark.parametrize("door", ["create", "update", "transaction", "transaction with an id"])
@pytest.mark.parametrize("is_there", [False, True])
def test_a_patient_names_no_study(site: FhirSite, door: str, is_there: bool) -> None:
    """Also where the study is there: whether it is, is not told."""
    study = {
        "resourceType": "ImagingStudy",
        "id": "s",
        "status": "available",
        "subject": {"reference": "Patient/own"},
        "identifier": [UID],
    }
    site.put(_patient(), _patient(id_="other"))
    if is_there:
        site.put({**study, "id": "theirs", "subject": {"reference": "Patient/other"}})
    token = site.token("patient/*.cruds", "own")
    if door == "create":
        told = site.ask("POST", "ImagingStudy", token, body=study)
    elif door == "update":
        told = site.ask("PUT", "ImagingStudy/s", token, body=study)
    else:
        request = (
            {"method": "POST", "url": "ImagingStudy"} if door == "transaction" else {"method": "PUT", "url": "ImagingStudy/s"}
        )
        bundle = {"resourceType": "Bundle", "type": "transaction", "entry": [{"resource": study, "request": request}]}
        told = site.ask("POST", "", token, body=bundle)
    issue(told, 403, "forbidden")
    del study["identifier"]
    assert site.ask("PUT", "ImagingStudy/s", token, body=study).status_code == 201


def test_a_patients_document_has_its_identifier_and_tells_of_no_other(site: FhirSite) -> None:
    """IHE MHD: a document comes with one. Who has the same already is not told to a patient, but to who may see all."""
    document = {
        "resourceType": "DocumentReference", "status": "current", "subject": {"reference": "Patient/own"},
        "masterIdentifier": {"system": "urn:ietf:rfc:3986", "value": "urn:oid:1.2.3"}, "content": [{"attachment": {"title": "t"}}],
    }  # fmt: skip
    site.put(_patient(), {**document, "id": "theirs", "subject": {"reference": "Patient/other"}})
    token = site.token("patient/*.cruds", "own")
    assert site.ask("POST", "DocumentReference", token, body=document).status_code == 201
    issue(site.ask("POST", "DocumentReference", body=document), 409, "conflict")

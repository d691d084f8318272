"""Create, update, patch and delete, plain and conditional: what is stored, what is refused, to whom, and what the trail says of it."""

import gzip
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import pytest
from fhir.resources.R4B.auditevent import AuditEvent
from fhir.resources.R4B.operationoutcome import OperationOutcome
from peers.fhir_site import XML, FhirSite, fhir_site, issue
from peers.shows import shows

ON_BOTH_ENGINES = True
PATIENT: dict[str, Any] = {
    "resourceType": "Patient",
    "identifier": [{"system": "urn:example", "value": "1"}],
    "name": [{"family": "Muster", "given": ["Eva"]}],
}
BY_IDENTIFIER = "identifier=urn:example|1"
JSON_PATCH = "application/json-patch+json"


def observation(patient: str, **more: Any) -> dict[str, Any]:
    return {
        "resourceType": "Observation",
        "status": "final",
        "code": {"text": "weight"},
        "subject": {"reference": f"Patient/{patient}"},
        **more,
    }


@pytest.fixture
def site(tmp_path: Path) -> Iterator[FhirSite]:
    with fhir_site(tmp_path / "data") as site:
        yield site


def made(site: FhirSite, resource: dict[str, Any] = PATIENT) -> str:
    response = site.ask("POST", resource["resourceType"], body=resource)
    assert response.status_code == 201, response.text
    return str(response.json()["id"])


# --- create


@shows("interaction", "create")
@shows("header", "Location", "ETag")
def test_a_create_names_what_it_made(site: FhirSite) -> None:
    response = site.ask("POST", "Patient", body={**PATIENT, "id": "mine", "meta": {"versionId": "7", "tag": [{"code": "t"}]}})
    id_ = response.json()["id"]
    assert (response.status_code, id_ != "mine") == (201, True), "the server names what is created"
    assert response.headers["location"] == f"{site.base}/Patient/{id_}/_history/1"
    assert response.headers["etag"] == 'W/"1"'
    assert parsedate_to_datetime(response.headers["last-modified"]).tzinfo is not None
    assert response.json()["meta"]["versionId"] == "1"
    assert response.json()["meta"]["tag"] == [{"code": "t"}]
    assert site.get(f"Patient/{id_}").content == response.content


@shows("conditional", "create")
@shows("header", "If-None-Exist")
def test_a_conditional_create_makes_one_only(site: FhirSite) -> None:
    first = site.ask("POST", "Patient", body=PATIENT, If_None_Exist=BY_IDENTIFIER)
    again = site.ask("POST", "Patient", body={**PATIENT, "active": True}, If_None_Exist=f"?{BY_IDENTIFIER}")
    assert (first.status_code, again.status_code) == (201, 200)
    assert again.headers["etag"] == 'W/"1"'
    assert again.json() == first.json(), "what is there stays as it is"
    made(site)
    issue(site.ask("POST", "Patient", body=PATIENT, If_None_Exist=BY_IDENTIFIER), 412, "multiple-matches")
    assert len(site.ids("Patient")) == 2


@pytest.mark.parametrize("condition", ["nonsense=1", "_count=1", "birthdate=yesterday", "identifier=%FF", "identifier=a%00b"])
def test_a_condition_that_is_no_search_creates_nothing(site: FhirSite, condition: str) -> None:
    response = site.ask("POST", "Patient", body=PATIENT, If_None_Exist=condition, Prefer="handling=lenient")
    assert response.status_code == 400, response.text
    assert site.ids("Patient") == []


@shows("format", "xml")
def test_a_resource_in_xml_is_stored_as_well(site: FhirSite) -> None:
    document = b'<Patient xmlns="http://hl7.org/fhir"><active value="true"/></Patient>'
    response = site.ask("POST", "Patient", body=document, Content_Type=XML, Accept=XML)
    assert (response.status_code, response.headers["content-type"]) == (201, XML)
    id_ = response.headers["location"].split("/")[-3]
    assert site.get(f"Patient/{id_}").json()["active"] is True


def test_decimals_are_stored_as_they_were_written(site: FhirSite) -> None:
    body = b'{"resourceType":"Observation","status":"final","code":{"text":"x"},"valueQuantity":{"value":1.00}}'
    response = site.ask("POST", "Observation", body=body)
    assert b'"value":1.00' in site.get(f"Observation/{response.json()['id']}").content


@pytest.mark.parametrize(
    ("body", "status", "code", "expression"),
    [
        (b"{", 400, "structure", None),
        (b'{"resourceType":"Patient","active":true,"active":false}', 400, "structure", "Patient.active"),
        (b'{"resourceType":"Patient","nonsense":1}', 400, "structure", "Patient.nonsense"),
        (b'{"resourceType":"Patient","gender":"x"}', 400, "code-invalid", "Patient.gender"),
        (b'{"resourceType":"Observation","status":"final","code":{"text":"x"}}', 400, "structure", "Observation"),
        (b"[" * 10_000, 400, "structure", None),
    ],
)
def test_what_is_no_valid_resource_is_refused_with_its_place(
    site: FhirSite, body: bytes, status: int, code: str, expression: str | None
) -> None:
    response = site.ask("POST", "Patient", body=body)
    found = issue(response, status, code)
    OperationOutcome.model_validate(response.json())
    assert found.get("expression") == ([expression] if expression else None)
    assert site.ids("Patient") == []


def test_what_is_not_written_here_says_so(site: FhirSite) -> None:
    assert "GET" in site.ask("POST", "AuditEvent", body={"resourceType": "AuditEvent"}).headers["allow"]
    issue(site.ask("POST", "AuditEvent", body={"resourceType": "AuditEvent"}), 405, "not-supported")
    issue(site.ask("POST", "Parameters", body={"resourceType": "Parameters"}), 404, "not-supported")
    batch = {"resourceType": "Bundle", "type": "transaction"}
    assert issue(site.ask("POST", "Bundle", body=batch), 422, "business-rule")["expression"] == ["Bundle.type"]
    issue(site.ask("POST", "Patient", body=b"x", Content_Type="text/plain"), 415, "not-supported")
    issue(site.ask("POST", "Patient?active=true", body=PATIENT), 400, "not-supported")


def test_a_bundle_that_is_a_document_is_stored(site: FhirSite) -> None:
    collection = {
        "resourceType": "Bundle",
        "type": "collection",
        "entry": [{"fullUrl": "urn:uuid:11111111-1111-4111-8111-111111111111", "resource": PATIENT}],
    }
    assert site.ask("POST", "Bundle", body=collection).status_code == 201


# --- update


@shows("interaction", "update")
def test_an_update_is_the_next_version(site: FhirSite) -> None:
    id_ = made(site)
    response = site.ask("PUT", f"Patient/{id_}", body={**PATIENT, "id": id_, "active": True})
    assert (response.status_code, response.headers["etag"]) == (200, 'W/"2"')
    assert response.headers["location"] == f"{site.base}/Patient/{id_}/_history/2"
    same = site.ask("PUT", f"Patient/{id_}", body={**PATIENT, "id": id_, "active": True})
    assert (same.status_code, same.headers["etag"]) == (200, 'W/"2"'), "what changes nothing makes no version"
    assert "active" not in site.get(f"Patient/{id_}/_history/1").json()


def test_an_update_has_the_id_of_its_url(site: FhirSite) -> None:
    id_ = made(site)
    for body in ({**PATIENT, "id": "other"}, PATIENT):
        assert issue(site.ask("PUT", f"Patient/{id_}", body=body), 400, "invalid")["expression"] == ["Patient.id"]
    issue(site.ask("PUT", "Patient/a_b", body={**PATIENT, "id": "a_b"}), 400, "value")


@shows("header", "If-Match")
def test_an_update_of_a_version_that_is_not_current_is_refused(site: FhirSite) -> None:
    id_ = made(site)
    new = {**PATIENT, "id": id_, "active": True}
    assert site.ask("PUT", f"Patient/{id_}", body=new, If_Match='W/"1"').status_code == 200
    issue(site.ask("PUT", f"Patient/{id_}", body={**new, "active": False}, If_Match='W/"1"'), 412, "conflict")
    issue(site.ask("PUT", "Patient/none", body={**new, "id": "none"}, If_Match='W/"1"'), 412, "conflict")
    assert site.get(f"Patient/{id_}").json()["active"] is True
    issue(site.ask("DELETE", f"Patient/{id_}", If_Match='W/"1"'), 412, "conflict")
    assert site.ask("DELETE", f"Patient/{id_}", If_Match='W/"2"').status_code == 204


def test_an_update_may_create(site: FhirSite, tmp_path: Path) -> None:
    """FHIR R4 section 3.1.0.4.1."""
    body = {**PATIENT, "id": "mine"}
    response = site.ask("PUT", "Patient/mine", body=body)
    assert (response.status_code, response.headers["location"]) == (201, f"{site.base}/Patient/mine/_history/1")
    with fhir_site(tmp_path / "strict", fhir_update_creates=False) as strict:
        issue(strict.ask("PUT", "Patient/mine", body=body), 405, "not-supported")


@shows("conditional", "update")
def test_a_conditional_update_creates_changes_or_refuses(site: FhirSite) -> None:
    """FHIR R4 section 3.1.0.4.3, case by case."""
    where = f"Patient?{BY_IDENTIFIER}"
    first = site.ask("PUT", where, body=PATIENT)
    id_ = first.json()["id"]
    assert first.status_code == 201
    assert site.ask("PUT", where, body={**PATIENT, "active": True}).headers["etag"] == 'W/"2"'
    assert site.ask("PUT", where, body={**PATIENT, "id": id_, "active": False}).headers["etag"] == 'W/"3"'
    issue(site.ask("PUT", where, body={**PATIENT, "id": "other"}), 400, "invalid")
    elsewhere = site.ask(
        "PUT",
        "Patient?identifier=urn:example|2",
        body={**PATIENT, "id": "named", "identifier": []} | {"identifier": [{"value": "2"}]},
    )
    assert (elsewhere.status_code, elsewhere.json()["id"]) == (201, "named")
    issue(site.ask("PUT", "Patient?identifier=urn:example|3", body={**PATIENT, "id": id_}), 409, "conflict")
    made(site)
    issue(site.ask("PUT", where, body=PATIENT), 412, "multiple-matches")
    issue(site.ask("PUT", "Patient", body=PATIENT), 400, "invalid")


@shows("header", "Content-Encoding")
def test_a_resource_may_be_sent_compressed(site: FhirSite) -> None:
    body = gzip.compress(b'{"resourceType":"Patient","gender":"male"}')
    response = site.ask("POST", "Patient", body=body, Content_Encoding="gzip")
    assert (response.status_code, response.json()["gender"]) == (201, "male")
    refused = site.ask("POST", "Patient", body=body, Content_Encoding="br")
    issue(refused, 415, "not-supported")
    assert refused.headers["accept-encoding"] == "gzip"


# --- patch


@shows("interaction", "patch")
@shows("format", "application/json-patch+json")
def test_a_patch_changes_what_it_says(site: FhirSite) -> None:
    id_ = made(site)
    response = site.ask("PATCH", f"Patient/{id_}", body=b'[{"op":"add","path":"/active","value":true}]', Content_Type=JSON_PATCH)
    assert (response.status_code, response.headers["etag"], response.json()["active"]) == (200, 'W/"2"', True)
    with_method = site.bundle(f"Patient/{id_}/_history")["entry"][0]["request"]["method"]
    assert with_method == "PATCH"


@shows("format", "application/xml-patch+xml")
def test_an_xml_patch_and_a_fhirpath_patch_do_so_too(site: FhirSite) -> None:
    id_ = made(site)
    xml = b'<diff xmlns:f="http://hl7.org/fhir"><add sel="f:Patient"><active xmlns="http://hl7.org/fhir" value="true"/></add></diff>'
    response = site.ask("PATCH", f"Patient/{id_}", body=xml, Content_Type="application/xml-patch+xml")
    assert response.status_code in (200, 422), response.text
    parameters = {
        "resourceType": "Parameters",
        "parameter": [
            {
                "name": "operation",
                "part": [
                    {"name": "type", "valueCode": "add"},
                    {"name": "path", "valueString": "Patient"},
                    {"name": "name", "valueString": "birthDate"},
                    {"name": "value", "valueDate": "1980-01-05"},
                ],
            }
        ],
    }
    assert site.ask("PATCH", f"Patient/{id_}", body=parameters).json()["birthDate"] == "1980-01-05"


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b'[{"op":"replace","path":"/id","value":"x"}]', 422),
        (b'[{"op":"add","path":"/gender","value":"x"}]', 422),
        (b'[{"op":"test","path":"/active","value":true}]', 422),
        (b"nonsense", 400),
    ],
)
def test_a_patch_that_does_not_fit_changes_nothing(site: FhirSite, body: bytes, status: int) -> None:
    id_ = made(site)
    assert site.ask("PATCH", f"Patient/{id_}", body=body, Content_Type=JSON_PATCH).status_code == status
    assert site.get(f"Patient/{id_}").headers["etag"] == 'W/"1"'


@shows("conditional", "patch")
def test_a_conditional_patch_is_of_the_one_that_matches(site: FhirSite) -> None:
    body = b'[{"op":"add","path":"/active","value":true}]'
    where = f"Patient?{BY_IDENTIFIER}"
    issue(site.ask("PATCH", where, body=body, Content_Type=JSON_PATCH), 404, "not-found")
    made(site)
    assert site.ask("PATCH", where, body=body, Content_Type=JSON_PATCH).json()["active"] is True
    made(site)
    issue(site.ask("PATCH", where, body=body, Content_Type=JSON_PATCH), 412, "multiple-matches")


# --- delete


@shows("header", "Prefer")
def test_a_preference_is_said_to_be_applied_where_it_was(site: FhirSite) -> None:
    """RFC 7240 section 3: of a delete there is nothing to return, but an OperationOutcome."""
    for returned, applied in (
        ("representation", None),
        ("minimal", "return=minimal"),
        ("OperationOutcome", "return=OperationOutcome"),
    ):
        found = site.ask("DELETE", f"Patient/{made(site)}", Prefer=f"return={returned}")
        assert found.headers.get("preference-applied") == applied
    kept = site.ask("PUT", "Patient/x", body={**PATIENT, "id": "x"}, Prefer="return=representation")
    assert kept.headers["preference-applied"] == "return=representation"


@shows("interaction", "delete")
def test_what_is_deleted_is_gone_and_may_come_again(site: FhirSite) -> None:
    id_ = made(site)
    assert site.ask("DELETE", f"Patient/{id_}").status_code == 204
    issue(site.get(f"Patient/{id_}"), 410, "deleted")
    assert site.ids("Patient") == []
    again = site.ask("DELETE", f"Patient/{id_}", Prefer="return=OperationOutcome")
    assert (again.status_code, again.json()["resourceType"]) == (200, "OperationOutcome")
    assert site.ask("DELETE", "Patient/never").status_code == 204
    issue(site.ask("PATCH", f"Patient/{id_}", body=b"[]", Content_Type=JSON_PATCH), 410, "deleted")
    back = site.ask("PUT", f"Patient/{id_}", body={**PATIENT, "id": id_})
    assert (back.status_code, back.headers["etag"]) == (201, 'W/"3"')
    assert [entry["request"]["method"] for entry in site.bundle(f"Patient/{id_}/_history")["entry"]] == ["PUT", "DELETE", "POST"]


@shows("conditional", "delete")
def test_a_conditional_delete_is_of_one(site: FhirSite) -> None:
    where = f"Patient?{BY_IDENTIFIER}"
    assert site.ask("DELETE", where).status_code == 204
    made(site)
    second = made(site)
    issue(site.ask("DELETE", where), 412, "multiple-matches")
    site.ask("DELETE", f"Patient/{second}")
    assert site.ask("DELETE", where).status_code == 204
    assert site.ids("Patient") == []
    issue(site.ask("DELETE", "Patient"), 400, "invalid")


# --- what the client prefers


@shows("header", "Prefer")
def test_the_answer_is_what_the_client_prefers(site: FhirSite) -> None:
    minimal = site.ask("POST", "Patient", body=PATIENT, Prefer="return=minimal")
    assert (minimal.status_code, minimal.content) == (201, b"")
    assert minimal.headers["location"]
    outcome = site.ask("POST", "Patient", body=PATIENT, Prefer="return=OperationOutcome")
    assert (outcome.status_code, outcome.json()["resourceType"]) == (201, "OperationOutcome")
    whole = site.ask("POST", "Patient", body=PATIENT, Prefer="return=representation, respond-async")
    assert (whole.status_code, whole.json()["resourceType"]) == (201, "Patient")


# --- who may


def test_scopes_say_what_may_be_written(site: FhirSite) -> None:
    id_ = made(site)
    body = {**PATIENT, "id": id_}
    for scope, method, path, given in (
        ("system/*.ruds", "POST", "Patient", PATIENT),
        ("system/*.crds", "PUT", f"Patient/{id_}", body),
        ("system/*.crus", "DELETE", f"Patient/{id_}", None),
        ("system/Observation.cruds", "PUT", f"Patient/{id_}", body),
    ):
        issue(site.ask(method, path, site.token(scope), body=given), 403, "forbidden")
    issue(site.ask("POST", "Patient", site.token("system/*.c"), body=PATIENT, If_None_Exist=BY_IDENTIFIER), 403, "forbidden")
    assert (
        site.ask("PATCH", f"Patient/{id_}", site.token("system/*.crds"), body=b"[]", Content_Type=JSON_PATCH).status_code == 403
    )
    assert site.get(f"Patient/{id_}").headers["etag"] == 'W/"1"'


def test_a_patient_scope_writes_in_its_compartment_only(site: FhirSite) -> None:
    mine, other = made(site), made(site)
    app = site.token("patient/*.cruds", patient=mine)
    own = site.ask("POST", "Observation", app, body=observation(mine))
    assert own.status_code == 201
    id_ = own.json()["id"]
    strange = made(site, observation(other))
    refused = {
        "into another's": site.ask("POST", "Observation", app, body=observation(other)),
        "of nobody": site.ask("POST", "Practitioner", app, body={"resourceType": "Practitioner", "active": True}),
        "a Patient": site.ask("POST", "Patient", app, body=PATIENT),
        "moved out": site.ask("PUT", f"Observation/{id_}", app, body=observation(other, id=id_)),
        "moved in": site.ask("PUT", f"Observation/{strange}", app, body=observation(mine, id=strange)),
        "another's deleted": site.ask("DELETE", f"Observation/{strange}", app),
        "another's patched": site.ask("PATCH", f"Observation/{strange}", app, body=b"[]", Content_Type=JSON_PATCH),
        "another Patient": site.ask("PUT", f"Patient/{other}", app, body={**PATIENT, "id": other}),
        "a Patient of one's own": site.ask("PUT", "Patient/new", app, body={**PATIENT, "id": "new"}),
        "another's condition": site.ask("DELETE", f"Observation?patient={other}", app),
    }
    assert {name: each.status_code for name, each in refused.items()} == dict.fromkeys(refused, 403)
    assert len({each.json()["issue"][0]["diagnostics"] for name, each in refused.items() if "another's" in name}) == 1
    assert site.get(f"Observation/{strange}").headers["etag"] == 'W/"1"'
    assert site.get(f"Observation/{id_}").json()["subject"] == {"reference": f"Patient/{mine}"}
    assert site.ask("PUT", f"Observation/{id_}", app, body=observation(mine, id=id_, status="amended")).status_code == 200
    assert site.ask("PUT", f"Patient/{mine}", app, body={**PATIENT, "id": mine, "active": True}).status_code == 200
    assert site.ask("DELETE", f"Observation/{id_}", app).status_code == 204


def test_the_id_of_what_another_patient_deleted_opens_nothing(site: FhirSite) -> None:
    """Who took its id could read what it was."""
    mine, other = made(site), made(site)
    strange = made(site, observation(other))
    site.ask("DELETE", f"Observation/{strange}")
    app = site.token("patient/*.cruds", patient=mine)
    issue(site.ask("PUT", f"Observation/{strange}", app, body=observation(mine, id=strange)), 403, "forbidden")
    assert site.get(f"Observation/{strange}/_history/1", app).status_code == 403


def test_a_condition_finds_only_what_the_caller_may_see(site: FhirSite) -> None:
    mine, other = made(site), made(site)
    code = {"coding": [{"system": "urn:c", "code": "w"}]}
    made(site, observation(other, code=code))
    app = site.token("patient/*.cruds", patient=mine)
    body = observation(mine, code=code)
    first = site.ask("POST", "Observation", app, body=body, If_None_Exist="code=urn:c|w")
    again = site.ask("POST", "Observation", app, body=body, If_None_Exist="code=urn:c|w")
    assert (first.status_code, again.status_code) == (201, 200)
    assert again.json()["id"] == first.json()["id"]


def test_who_may_only_create_is_not_told_what_is_there(site: FhirSite) -> None:
    made(site)
    response = site.ask(
        "POST",
        "Patient",
        site.token("system/Patient.cs"),
        body={**PATIENT, "name": []} | {"name": [{"text": "x"}]},
        If_None_Exist=BY_IDENTIFIER,
    )
    assert response.status_code < 300
    assert b"Muster" not in response.content


# --- references


def test_references_to_nowhere_are_taken_or_refused(site: FhirSite, tmp_path: Path) -> None:
    assert site.ask("POST", "Observation", body=observation("nowhere")).status_code == 201
    with fhir_site(tmp_path / "checking", fhir_references="check") as checking:
        found = issue(checking.ask("POST", "Observation", body=observation("nowhere")), 422, "not-found")
        assert found["expression"] == ["Observation.subject.reference"]
        id_ = made(checking)
        assert checking.ask("POST", "Observation", body=observation(id_)).status_code == 201
        checking.ask("DELETE", f"Patient/{id_}")
        issue(checking.ask("POST", "Observation", body=observation(id_)), 422, "not-found")


# --- search parameters


def test_a_search_parameter_that_cannot_be_indexed_is_refused(site: FhirSite) -> None:
    parameter = {
        "resourceType": "SearchParameter", "url": "http://x.example/p", "name": "P", "status": "active", "description": "x", "code": "shoe",
        "base": ["Patient"], "type": "token", "expression": "Patient.((",
    }  # fmt: skip
    assert site.ask("POST", "SearchParameter", body=parameter).status_code == 422
    good = {**parameter, "expression": "Patient.gender"}
    assert site.ask("POST", "SearchParameter", body=good).status_code == 201
    made(site, {**PATIENT, "gender": "female"})
    assert site.ask("DELETE", "Patient?shoe=female").status_code == 204
    assert site.ids("Patient") == []


# --- the trail


def test_every_write_is_in_the_trail_as_one_event(site: FhirSite) -> None:
    """BALP 1.1.4 section 3:5.7.3: PatientCreate, PatientUpdate for an update and a patch, PatientDelete."""
    mark = site.mark()
    id_ = made(site)
    site.ask("PUT", f"Patient/{id_}", body={**PATIENT, "id": id_, "active": True})
    site.ask("PATCH", f"Patient/{id_}", body=b'[{"op":"remove","path":"/active"}]', Content_Type=JSON_PATCH)
    site.ask("DELETE", f"Patient/{id_}")
    events = site.events(mark)
    assert [(each["action"], each["subtype"][0]["code"]) for each in events] == [
        ("D", "delete"), ("U", "patch"), ("U", "update"), ("C", "create"),
    ]  # fmt: skip
    for version, event in enumerate(reversed(events), start=1):
        AuditEvent.model_validate(event)
        assert event["outcome"] == "0"
        references = [each["what"].get("reference") for each in event["entity"]]
        assert references[:2] == [f"Patient/{id_}/_history/{version}", f"Patient/{id_}"]
    assert [each.get("meta", {}).get("profile", [""])[0].rpartition(".")[2] for each in events] == [
        "PatientDelete",
        "PatientUpdate",
        "PatientUpdate",
        "PatientCreate",
    ]


def test_a_refused_write_is_in_the_trail_of_whose_it_was(site: FhirSite) -> None:
    mine, other = made(site), made(site)
    mark = site.mark()
    app = site.token("patient/*.cruds", patient=mine)
    assert site.ask("POST", "Observation", app, body=observation(other)).status_code == 403
    (event,) = site.events(mark)
    assert (event["outcome"], event["action"]) == ("4", "C")
    assert {"reference": f"Patient/{other}"} in [each["what"] for each in event["entity"]]
    issue(site.ask("POST", "Patient", body={"resourceType": "Patient", "gender": "x"}), 400, "code-invalid")
    assert len(site.events(mark)) == 1, "what was not allowed is told, what was not valid is not"

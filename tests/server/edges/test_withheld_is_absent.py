"""What consents withhold is answered as what is not there (decision 25), by writes, operations, the feed and what is left of things too."""

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from peers import imageshare
from peers.generated import Made, send
from peers.smart_site import SmartSite, smart_site
from peers.withholding import FHIR, call, consented, get, observation, of_patient, put, script, stored, study_ids, token

ON_BOTH_ENGINES = True
Json = dict[str, Any]
FIRST, THIRD = Made(study=1, patient="A"), Made(study=2, patient="A")
RESTRICTED = [{"system": "http://terminology.hl7.org/CodeSystem/v3-Confidentiality", "code": "R"}]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[SmartSite]:
    with smart_site(tmp_path) as made:
        yield made


@pytest.fixture
def denied(site: SmartSite) -> str:
    """The token of a practitioner from whom patient A keeps everything."""
    stored(site, observation(site, "there"))
    consented(site, {"type": "deny"})
    return token(site)


# --- writes


@pytest.mark.parametrize("match", ["", 'W/"1"'])
def test_a_delete_of_it_is_answered_alike_deletes_nothing_and_is_a_refusal_in_the_trail(
    site: SmartSite, denied: str, match: str
) -> None:
    headers = {"If-Match": match} if match else {}
    known, unknown = (call(site, "DELETE", f"/fhir/Observation/{id_}", denied, None, **headers) for id_ in ("there", "nowhere"))
    assert (known.status_code, known.content) == (unknown.status_code, unknown.content)
    assert known.status_code == (412 if match else 204)
    assert get(site, "/fhir/Observation/there", script(site)).status_code == 200
    if not match:
        refused = [each for each in site.events() if each["outcome"] == "4" and each["action"] == "D"]
        assert len(refused) == 1
        assert f"Patient/{site.patients['A']}" in str(refused[0]["entity"])


@pytest.mark.parametrize("kind", ["transaction", "batch"])
def test_so_it_is_within_a_bundle(site: SmartSite, denied: str, kind: str) -> None:
    entries = [{"request": {"method": "DELETE", "url": f"Observation/{id_}"}} for id_ in ("there", "nowhere")]
    answer = call(site, "POST", "/fhir", denied, {"resourceType": "Bundle", "type": kind, "entry": entries})
    known, unknown = (each["response"] for each in answer.json()["entry"])
    assert known == unknown
    assert get(site, "/fhir/Observation/there", script(site)).status_code == 200


def test_an_identifier_of_a_study_that_is_withheld_is_no_conflict_and_stays_whose_it_is(site: SmartSite, denied: str) -> None:
    def made(uid: str) -> int:
        identifier = [{"system": "urn:dicom:uid", "value": f"urn:oid:{uid}"}]
        subject = {"reference": f"Patient/{site.patients['B']}"}
        study = {"resourceType": "ImagingStudy", "status": "available", "subject": subject, "identifier": identifier}
        return call(site, "POST", "/fhir/ImagingStudy", denied, study).status_code

    before = study_ids(site)[FIRST.study_uid]
    assert [made(FIRST.study_uid), made("1.2.3.999")] == [201, 201]
    assert made(site.studies["B"][0]) == 409
    assert study_ids(site)[FIRST.study_uid] == before


def test_to_change_is_not_to_read(site: SmartSite) -> None:
    """A scope `u` without `r`: JSON Patch's `test` would say whether an element has a value."""
    stored(site, observation(site, "x", note=[{"text": "secret"}]))
    writer, reader = (of_patient(site, scope=f"patient/Observation.{letters}") for letters in ("u", "ru"))

    def patched(by: str, body: bytes) -> int:
        headers = {"Authorization": f"Bearer {by}", "Content-Type": "application/json-patch+json"}
        return site.http.patch("/fhir/Observation/x", content=body, headers=headers).status_code

    asked = [b'[{"op": "test", "path": "/note/0/text", "value": "%s"}]' % value for value in (b"secret", b"other")]
    assert [patched(writer, each) for each in asked] == [403, 403]
    assert [patched(reader, each) for each in asked] == [200, 422]
    assert patched(writer, b'[{"op": "replace", "path": "/status", "value": "amended"}]') == 204


def test_a_name_is_not_corrected_in_studies_that_are_withheld(site: SmartSite) -> None:
    id_, doctor = study_ids(site)[FIRST.study_uid], token(site)
    _label(site, id_)
    consented(site, {"type": "deny", "securityLabel": RESTRICTED})
    path = f"/dicomweb/studies/{THIRD.study_uid}"
    assert get(site, path, doctor).status_code == 200

    def corrected(by: str, attribute: Json) -> int:
        return call(site, "PATCH", path, by, attribute).status_code

    name, description = (
        {"00100010": {"vr": "PN", "Value": [{"Alphabetic": "Other^Name"}]}},
        {"00081030": {"vr": "LO", "Value": ["x"]}},
    )
    assert [corrected(doctor, name), corrected(doctor, description), corrected(script(site), name)] == [403, 204, 204]


# --- operations and the feed


def test_a_history_of_accesses(site: SmartSite, denied: str) -> None:
    known, unknown = (get(site, f"/fhir/Patient/{each}/$access-history", denied) for each in (site.patients["A"], "nobody"))
    assert known.status_code == unknown.status_code == 404


def test_a_validation_of_references_to_it(site: SmartSite, denied: str) -> None:
    def told(reference: str, by: str) -> int:
        task = {"resourceType": "Task", "status": "requested", "intent": "order", "focus": {"reference": reference}}
        return len(call(site, "POST", "/fhir/Task/$validate", by, task).json()["issue"])

    assert told("Observation/there", denied) == told("Observation/nowhere", denied)
    assert told("Observation/there", script(site)) < told("Observation/nowhere", script(site))


def test_the_newest_change_is_the_newest_that_is_not_withheld(site: SmartSite, denied: str) -> None:
    path = "/dicomweb/changefeed/latest?includeMetadata=false"
    before = get(site, path, denied)
    send(site.node, Made(study=7, patient="A"))
    imageshare.publish_all(site.node)
    after = get(site, path, denied)
    assert (before.status_code, before.text) == (200, after.text)
    assert get(site, path, script(site)).text != after.text


def test_a_study_that_arrives(site: SmartSite, denied: str) -> None:
    doctor, new = of_patient(site, scope="patient/*.rs", who="practitioner"), Made(study=8, patient="A")
    send(site.node, new)
    assert get(site, f"/dicomweb/studies/{new.study_uid}", doctor).status_code == 403
    assert get(site, f"/dicomweb/studies/{new.study_uid}", of_patient(site)).status_code == 503


def test_an_encounter_that_is_withheld_is_no_context(site: SmartSite) -> None:
    subject = {"reference": f"Patient/{site.patients['A']}"}
    stored(site, {"resourceType": "Encounter", "id": "enc", "status": "finished", "class": {"code": "AMB"}, "subject": subject})

    def encounter() -> str | None:
        scope = "launch/patient launch/encounter patient/*.rs"
        found: str | None = site.tokens("public", scope, "practitioner", patient=site.patients["A"]).get("encounter")
        return found

    assert encounter() == "enc"
    kind = {"system": "http://hl7.org/fhir/resource-types", "code": "Encounter"}
    consented(site, {"type": "deny", "class": [kind]})
    assert encounter() is None


# --- what was, and what is left


def _both(site: SmartSite, type_: str) -> Json:
    """Something of patients A and B."""
    patients = [{"reference": f"Patient/{site.patients[each]}"} for each in "AB"]
    if type_ == "Group":
        members = [{"entity": each} for each in patients]
        return {"resourceType": "Group", "id": "x", "type": "person", "actual": True, "name": "secret", "member": members}
    participants = [{"actor": each, "status": "accepted"} for each in patients]
    return {"resourceType": "Appointment", "id": "x", "status": "booked", "description": "secret", "participant": participants}


@pytest.mark.parametrize("type_", ["Group", "Appointment"])
def test_what_was_several_patients_and_is_deleted(site: SmartSite, type_: str) -> None:
    stored(site, _both(site, type_))
    consented(site, {"type": "deny"}, patient="B")
    doctor, paths = (
        token(site, scope="user/*.rs"),
        (f"/fhir/{type_}/x", f"/fhir/{type_}/x/_history/1", f"/fhir/{type_}/x/_history"),
    )
    assert [get(site, path, doctor).status_code for path in paths] == [404] * 3
    assert call(site, "DELETE", f"/fhir/{type_}/x", script(site)).status_code == 204
    assert [get(site, path, doctor).status_code for path in paths] == [404] * 3
    assert "secret" not in get(site, f"/fhir/{type_}/_history", doctor).text


def test_what_was_several_patients_before(site: SmartSite) -> None:
    given = _both(site, "Group")
    stored(site, given, {**given, "member": given["member"][:1]})
    consented(site, {"type": "deny"}, patient="B")
    doctor = token(site, scope="user/*.rs")
    assert get(site, "/fhir/Group/x", doctor).status_code == 200
    assert site.patients["B"] not in get(site, "/fhir/Group/x/_history/1", doctor).text
    assert site.patients["B"] not in get(site, "/fhir/Group/_history", doctor).text


def test_a_binary_whose_context_is_deleted(site: SmartSite) -> None:
    subject = {"reference": f"Patient/{site.patients['B']}"}
    content = [{"attachment": {"url": "Binary/x"}}]
    binary = {
        "resourceType": "Binary", "id": "x", "contentType": "text/plain", "data": base64.b64encode(b"secret").decode(),
        "securityContext": {"reference": "DocumentReference/doc"},
    }  # fmt: skip
    stored(
        site,
        {"resourceType": "DocumentReference", "id": "doc", "status": "current", "subject": subject, "content": content},
        binary,
    )
    consented(site, {"type": "deny"}, patient="B")
    doctor = token(site)
    assert get(site, "/fhir/Binary/x", doctor).status_code == 404
    assert call(site, "DELETE", "/fhir/DocumentReference/doc", script(site)).status_code == 204
    assert get(site, "/fhir/Binary/x", doctor).status_code == 404
    assert [call(site, "DELETE", f"/fhir/Binary/{each}", doctor).status_code for each in ("x", "no")] == [204, 204]
    assert put(site, binary, doctor, **FHIR).status_code == 404
    assert get(site, "/fhir/Binary/x", script(site)).content == b"secret"


def _label(site: SmartSite, id_: str) -> None:
    meta = {"resourceType": "Parameters", "parameter": [{"name": "meta", "valueMeta": {"security": RESTRICTED}}]}
    assert call(site, "POST", f"/fhir/ImagingStudy/{id_}/$meta-add", script(site), meta).status_code == 200


def test_a_label_outlives_the_images_and_holds_those_that_come_again(site: SmartSite) -> None:
    id_, doctor, path = study_ids(site)[FIRST.study_uid], token(site, scope="user/*.rs"), f"/dicomweb/studies/{FIRST.study_uid}"
    document = get(site, f"/fhir/DocumentReference?related=ImagingStudy/{id_}", script(site)).json()["entry"][0]["resource"]["id"]
    _label(site, id_)
    consented(site, {"type": "deny", "securityLabel": RESTRICTED})
    assert get(site, path, doctor).status_code == 404
    assert call(site, "DELETE", path, script(site)).status_code == 204
    imageshare.publish_all(site.node)
    assert get(site, f"/fhir/ImagingStudy/{id_}", doctor).status_code == 404
    assert get(site, f"/fhir/DocumentReference/{document}", script(site)).json()["status"] == "entered-in-error"
    assert get(site, f"/fhir/DocumentReference/{document}", doctor).status_code == 404
    assert call(site, "POST", f"{path}/restore", script(site)).status_code == 204
    send(site.node, FIRST)
    imageshare.publish_all(site.node)
    assert (get(site, path, doctor).status_code, get(site, path, script(site)).status_code) == (404, 200)


def test_who_does_not_see_all_studies_of_a_patient_does_not_say_in_all_of_them_who_she_is(site: SmartSite) -> None:
    hidden = {"meaning": "instance", "reference": {"reference": f"ImagingStudy/{study_ids(site)[THIRD.study_uid]}"}}
    consented(site, {"type": "permit", "provision": [{"type": "deny", "data": [hidden]}]})
    doctor, path = token(site), f"/dicomweb/studies/{FIRST.study_uid}"
    name = {"00100010": {"vr": "PN", "Value": [{"Alphabetic": "Other^Name"}]}}
    refused = call(site, "PATCH", path, doctor, name)
    assert refused.status_code == 403, refused.text
    assert "Other" not in get(site, f"/fhir/Patient/{site.patients['A']}", script(site)).text
    assert call(site, "PATCH", path, doctor, {"00080050": {"vr": "SH", "Value": ["A2"]}}).status_code == 204


def test_who_does_not_see_a_study_does_not_remove_it_from_the_images(site: SmartSite) -> None:
    hidden = {"meaning": "instance", "reference": {"reference": f"ImagingStudy/{study_ids(site)[THIRD.study_uid]}"}}
    consented(site, {"type": "permit", "provision": [{"type": "deny", "data": [hidden]}]})
    doctor = token(site)
    known, unknown = (call(site, "DELETE", f"/dicomweb/studies/{uid}", doctor) for uid in (THIRD.study_uid, "2.25.1"))
    assert (known.status_code, unknown.status_code) == (404, 404)
    assert get(site, f"/dicomweb/studies/{THIRD.study_uid}/metadata", script(site)).status_code == 200
    assert call(site, "DELETE", f"/dicomweb/studies/{FIRST.study_uid}", doctor).status_code == 204


def test_where_a_permission_is_needed_it_is_needed_for_what_was_there_once_too(tmp_path: Path) -> None:
    """What is told of it no Consent can be held against: so only where nothing of the patient's is kept from the caller."""
    with smart_site(tmp_path, consent_default="deny") as site:
        stored(site, observation(site, "once"))
        assert call(site, "DELETE", "/fhir/Observation/once", script(site)).status_code == 204
        path, trail = "/fhir/Observation/once/_history/1", f"/fhir/AuditEvent?patient={site.patients['A']}"
        consented(site, {"type": "permit"}, patient="B", id_="b")
        assert get(site, path, token(site)).status_code == 404
        assert get(site, trail, token(site)).json()["total"] == 0
        consented(site, {"type": "permit"})
        assert get(site, path, token(site)).status_code == 200
        assert get(site, trail, token(site)).json()["total"] > 0
        consented(site, {"type": "permit", "provision": [{"type": "deny", "securityLabel": RESTRICTED}]})
        assert get(site, path, token(site)).status_code == 404

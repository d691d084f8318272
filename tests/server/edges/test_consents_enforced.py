"""Consents, constrained scopes and tokens for single studies at every door of FHIR and DICOMweb: on the next request, and nothing can be inferred."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from peers import imageshare
from peers.generated import Made, send
from peers.smart_site import SmartSite, smart_site
from sqlalchemy import select

from server.access.oauth import granting
from server.access.oauth.granting import Granted
from server.records.catalogue import STUDY
from server.records.trail import events
from server.store.db import micros

ON_BOTH_ENGINES = True
FIRST, SECOND, THIRD = Made(study=1, patient="A"), Made(study=1, series=2, patient="A"), Made(study=2, patient="A")
Json = dict[str, Any]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[SmartSite]:
    """Study 1 of A has two series, study 2 one."""
    with smart_site(tmp_path) as made:
        send(made.node, Made(study=1, series=2, patient="A", name="Alba^Anna"))
        imageshare.publish_all(made.node)
        yield made


def _token(site: SmartSite, who: str = "practitioner", scope: str = "user/*.rs", **given: Any) -> str:
    """Of a grant of one of the people."""
    with site.node.database.write() as connection:
        granted = Granted("", "public", scope, site.people[who].id, expires=micros() + 3600 * 10**6, **given)
        id_ = granting.begin(connection, granted).id
        return site.node.tokens.issue_for(connection, grant=id_, client="public", subject="x", scope=scope, seconds=600).token


def _script(site: SmartSite) -> str:
    return site.node.tokens.issue(client="script", scope="system/*.cruds")


def _put(site: SmartSite, resource: Json, token: str | None = None, **headers: str) -> Any:
    name = f"{resource['resourceType']}/{resource['id']}"
    given = {"Authorization": f"Bearer {token or _script(site)}", **headers}
    return site.http.put(f"/fhir/{name}", json=resource, headers=given)


def _consent(site: SmartSite, provision: Json, patient: str = "A", id_: str = "c", status: str = "active") -> None:
    consent = {
        "resourceType": "Consent", "id": id_, "status": status, "scope": {"text": "privacy"}, "category": [{"text": "privacy"}],
        "patient": {"reference": f"Patient/{site.patients[patient]}"}, "policy": [{"uri": "urn:policy"}], "provision": provision,
    }  # fmt: skip
    answer = _put(site, consent)
    assert answer.status_code in (200, 201), answer.text


def _get(site: SmartSite, path: str, token: str, **headers: str) -> Any:
    return site.http.get(path, headers={"Authorization": f"Bearer {token}", **headers})


def _ids(site: SmartSite) -> dict[str, str]:
    """ImagingStudy ids by Study Instance UID."""
    with site.node.database.read() as connection:
        return {uid: id_ for uid, id_ in connection.execute(select(STUDY.c.uid, STUDY.c.id))}


def _doors(site: SmartSite, made: Made = FIRST) -> list[str]:
    """Every way to something of a study; each answers 200 or 206 to who may."""
    id_, patient = _ids(site)[made.study_uid], site.patients["A"]
    study, series = f"/dicomweb/studies/{made.study_uid}", f"/dicomweb/studies/{made.study_uid}/series/{made.series_uid}"
    instance = f"{series}/instances/{made.uid}"
    document = _get(site, f"/fhir/DocumentReference?related=ImagingStudy/{id_}", _script(site)).json()["entry"][0]["resource"]
    return [
        f"/fhir/ImagingStudy/{id_}", f"/fhir/ImagingStudy/{id_}/_history", f"/fhir/ImagingStudy/{id_}/_history/1", f"/fhir/ImagingStudy/{id_}/$meta",
        f"/fhir/Patient/{patient}", f"/fhir/Patient/{patient}/$everything", f"/fhir/DocumentReference/{document['id']}", f"/fhir/Binary/{document['id']}",
        study, f"{study}/metadata", f"{study}/series", f"{study}/instances", f"{study}/rendered", f"{study}/thumbnail", series,
        f"{series}/metadata", f"{series}/instances", instance, f"{instance}/metadata", f"{instance}/frames/1", f"{instance}/rendered",
        f"/wado?requestType=WADO&studyUID={made.study_uid}&seriesUID={made.series_uid}&objectUID={made.uid}&contentType=application/dicom",
    ]  # fmt: skip


SEARCHES = (
    "/fhir/ImagingStudy", "/fhir/ImagingStudy/_history", "/fhir/_history", "/fhir?_type=ImagingStudy,Patient,DocumentReference", "/fhir/DocumentReference",
    "/fhir/Patient", "/dicomweb/studies", "/dicomweb/series", "/dicomweb/instances", "/dicomweb/changefeed", "/fhir/Patient?_revinclude=ImagingStudy:patient",
    "/fhir/Patient?_has:ImagingStudy:patient:status=available", "/fhir/Endpoint?_revinclude=ImagingStudy:endpoint", "/fhir/AuditEvent",
)  # fmt: skip


def _tells(answer: Any, *of: str) -> bool:
    assert answer.status_code in (200, 204), answer.text
    return any(each in answer.text for each in of)


def test_a_denial_acts_on_the_next_request_at_every_door_and_its_end_too(site: SmartSite) -> None:
    doctor, own, proxy = _token(site), _token(site, "patient", patient=site.patients["A"]), _token(site, "proxy")
    doors, mine = _doors(site), (site.patients["A"], FIRST.study_uid)
    for provision, status, is_told in (
        ({"type": "permit"}, "active", True),
        ({"type": "deny"}, "active", False),
        ({"type": "deny"}, "inactive", True),
    ):
        _consent(site, provision, status=status)
        for path in doors:
            answer = _get(site, path, doctor)
            assert answer.status_code == (200 if is_told else 404), (path, answer.text)
            assert is_told or not any(each in answer.text for each in mine if each not in path), path
        for path in SEARCHES:
            assert _tells(_get(site, path, doctor), *mine) is is_told, path
        for token in (own, proxy):
            assert {_get(site, path, token).status_code for path in doors} == {200}
    assert _tells(_get(site, "/fhir/ImagingStudy", doctor), site.patients["B"])


def test_what_is_refused_by_a_consent_is_in_the_patients_trail(site: SmartSite) -> None:
    _consent(site, {"type": "deny"})
    doctor = _token(site)
    for path in (f"/fhir/Patient/{site.patients['A']}", f"/dicomweb/studies/{FIRST.study_uid}"):
        assert _get(site, path, doctor).status_code == 404
        with site.node.database.read() as connection:
            newest = next(iter(events(connection, limit=1)))
        assert newest.patient == site.patients["A"]
        assert b'"outcome":"4"' in newest.body


def test_deleting_a_consent_ends_it(site: SmartSite) -> None:
    _consent(site, {"type": "deny"})
    doctor, path = _token(site), f"/fhir/Patient/{site.patients['A']}"
    assert _get(site, path, doctor).status_code == 404
    assert site.http.delete("/fhir/Consent/c", headers={"Authorization": f"Bearer {_script(site)}"}).status_code == 204
    assert _get(site, path, doctor).status_code == 200


def test_a_consent_of_a_transaction_acts_as_any_other(site: SmartSite) -> None:
    consent = {
        "resourceType": "Consent", "status": "active", "scope": {"text": "privacy"}, "category": [{"text": "privacy"}], "policy": [{"uri": "urn:policy"}],
        "patient": {"reference": f"Patient/{site.patients['A']}"}, "provision": {"type": "deny"},
    }  # fmt: skip
    entry = {"resource": consent, "request": {"method": "POST", "url": "Consent"}}
    bundle = {"resourceType": "Bundle", "type": "transaction", "entry": [entry]}
    answer = site.http.post("/fhir", json=bundle, headers={"Authorization": f"Bearer {_script(site)}"})
    assert answer.status_code == 200, answer.text
    assert _get(site, f"/fhir/Patient/{site.patients['A']}", _token(site)).status_code == 404


def test_what_of_a_consent_is_not_enforced_is_told_to_who_writes_it(site: SmartSite) -> None:
    consent = {
        "resourceType": "Consent", "id": "w", "status": "active", "scope": {"text": "privacy"}, "category": [{"text": "privacy"}], "policy": [{"uri": "urn:policy"}],
        "patient": {"reference": f"Patient/{site.patients['A']}"},
        "provision": {"type": "deny", "provision": [{"type": "permit", "code": [{"coding": [{"code": "x"}]}]}]},
    }  # fmt: skip
    answer = _put(site, consent, Prefer="return=OperationOutcome")
    (issue,) = answer.json()["issue"]
    assert (issue["severity"], issue["expression"]) == ("warning", ["Consent.provision.provision[0].code"])


def test_without_a_consent_nothing_is_told_where_the_setting_says_so(tmp_path: Path) -> None:
    with smart_site(tmp_path, consent_default="deny") as site:
        doctor, own = _token(site), _token(site, "patient", patient=site.patients["A"])
        path = f"/fhir/Patient/{site.patients['A']}"
        assert (_get(site, path, doctor).status_code, _get(site, path, own).status_code) == (404, 200)
        assert _get(site, "/fhir/Practitioner", doctor).status_code == 200
        _consent(site, {"type": "permit"})
        assert _get(site, path, doctor).status_code == 200
        assert _get(site, f"/fhir/Patient/{site.patients['B']}", doctor).status_code == 404
        assert _get(site, "/fhir/Patient", doctor).json()["total"] == 1


# --- a series


def _names_series(made: Made) -> Json:
    identifier = {"system": "urn:dicom:uid", "value": f"urn:oid:{made.series_uid}"}
    return {"data": [{"meaning": "instance", "reference": {"identifier": identifier}}]}


def test_a_series_that_is_denied_is_as_if_it_were_not_there(site: SmartSite) -> None:
    """SMART Imaging Access: a study that policy makes partial is denied, not trimmed; its ImagingStudy, which lists all series, is not told."""
    _consent(site, {"type": "permit", "provision": [{"type": "deny", **_names_series(SECOND)}]})
    doctor, study = _token(site), f"/dicomweb/studies/{FIRST.study_uid}"
    hidden, other = f"{study}/series/{SECOND.series_uid}", f"{study}/series/{FIRST.series_uid}"
    assert _get(site, study, doctor).status_code == 403
    assert _get(site, f"{study}/rendered", doctor).status_code == 403
    for below in ("", "/metadata", f"/instances/{SECOND.uid}", f"/instances/{SECOND.uid}/frames/1"):
        assert _get(site, hidden + below, doctor).status_code == 404, below
    for below in ("", "/metadata", f"/instances/{FIRST.uid}", f"/instances/{FIRST.uid}/frames/1"):
        assert _get(site, other + below, doctor).status_code == 200, below
    for path in (f"{study}/metadata", f"{study}/series", f"{study}/instances"):
        answer = _get(site, path, doctor)
        assert (answer.status_code, len(answer.json())) == (200, 1), path
        assert SECOND.series_uid not in answer.text
    answer = _get(site, f"{hidden}/instances", doctor)
    assert (answer.status_code, answer.content) == (204, b"")
    for path in (f"{study}/series?includefield=00201206", f"{study}/series?ModalitiesInStudy=CT"):
        assert _get(site, path, doctor).status_code == 403, path
    for path in (
        "/dicomweb/studies",
        "/dicomweb/series",
        "/fhir/ImagingStudy",
        f"/fhir/ImagingStudy?series={SECOND.series_uid}",
        "/fhir/DocumentReference",
    ):
        answer = _get(site, path, doctor)
        assert FIRST.study_uid not in answer.text.replace(f"series={SECOND.series_uid}", ""), path
    assert THIRD.study_uid in _get(site, "/dicomweb/studies", doctor).text
    assert _get(site, study, _token(site, "patient", patient=site.patients["A"])).status_code == 200


def test_the_tag_of_metadata_in_part_is_not_that_of_all(site: SmartSite) -> None:
    doctor, path = _token(site), f"/dicomweb/studies/{FIRST.study_uid}/metadata"
    whole = _get(site, path, doctor).headers["etag"]
    _consent(site, {"type": "permit", "provision": [{"type": "deny", **_names_series(SECOND)}]})
    answer = _get(site, path, doctor, **{"If-None-Match": whole})
    assert answer.status_code == 200
    assert _get(site, path, doctor, **{"If-None-Match": answer.headers["etag"]}).status_code == 304


def test_a_series_that_alone_is_permitted_is_all_that_is_told(site: SmartSite) -> None:
    _consent(site, {"type": "deny", "provision": [{"type": "permit", **_names_series(FIRST)}]})
    doctor, study = _token(site), f"/dicomweb/studies/{FIRST.study_uid}"
    statuses = [
        _get(site, f"{study}{below}", doctor).status_code
        for below in ("", f"/series/{FIRST.series_uid}", f"/series/{SECOND.series_uid}")
    ]
    assert statuses == [403, 200, 404]
    assert _get(site, f"/dicomweb/studies/{THIRD.study_uid}", doctor).status_code == 404


# --- inference

HIDDEN: list[Json] = [
    {"resourceType": "Observation", "id": "h1", "status": "final", "code": {"coding": [{"system": "urn:c", "code": "A"}]}},
    {"resourceType": "Observation", "id": "h2", "status": "amended", "code": {"coding": [{"system": "urn:c", "code": "B"}]}, "effectiveDateTime": "2026-02-01"},
    {"resourceType": "Condition", "id": "h3", "code": {"coding": [{"system": "urn:c", "code": "A"}]}},
    {"resourceType": "Encounter", "id": "h4", "status": "finished", "class": {"code": "AMB"}},
]  # fmt: skip
ASKED = (
    "Observation?_total=accurate", "Observation?_count=1&_sort=-date", "Observation?_sort=status&_summary=count", "Observation?subject:Patient.name=alba",
    "Patient?_has:Observation:subject:code=A&_total=accurate", "Patient?_has:Condition:subject:code=A", "Patient?_revinclude=*", "Patient?_sort=name&_total=accurate",
    "Observation?_include=*", "Observation?encounter.class=AMB", "Patient?_has:Encounter:patient:class=AMB", "Observation/_history", "_history",
    "Patient/$everything", "$meta", "Observation/$meta", "Observation?_filter=code eq A", "Observation?_id=h1,h2,v1", "?_type=Observation,Condition&_total=accurate",
    "Observation/h1", "Observation/h1/_history", "Observation/h1/_history/1", "Condition/h3", "Observation/never",
)  # fmt: skip


def _told(site: SmartSite, token: str) -> list[tuple[str, int, str]]:
    found = []
    for path in ASKED:
        answer = _get(site, f"/fhir/{path}", token)
        text = re.sub(
            r'"_?cursor=[^"]*|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|\d{4}-\d\d-\d\dT[0-9:.+Z-]*|_cursor=[A-Za-z0-9_%-]*|"[0-9a-f]{16}"',
            "",
            answer.text,
        )
        found.append((path, answer.status_code, text))
    return found


@pytest.mark.parametrize("how", ["consent", "scope"])
def test_nothing_that_is_told_depends_on_what_is_withheld(site: SmartSite, how: str) -> None:
    """Totals, pages, sorts, chains, `_has`, includes, histories and refusals are the same whatever there is of A, or of other codes."""
    subject = {"subject": {"reference": f"Patient/{site.patients['A']}"}}
    for number, patient in enumerate("AB"):
        visible = {
            "resourceType": "Observation", "id": f"v{number}", "status": "final", "code": {"coding": [{"system": "urn:c", "code": "V"}]},
            "subject": {"reference": f"Patient/{site.patients[patient]}"},
        }  # fmt: skip
        assert _put(site, visible).status_code == 201
    if how == "consent":
        _consent(site, {"type": "deny"})
        token = _token(site)
    else:
        token = _token(site, scope="user/Patient.rs user/Observation.rs?code=urn:c|V")
    before = _told(site, token)
    for resource in HIDDEN:
        assert _put(site, {**resource, **subject}).status_code == 201
    assert _told(site, token) == before
    for resource in HIDDEN[:2]:
        assert _put(site, {**resource, **subject, "status": "corrected"}).status_code == 200
    assert site.http.delete("/fhir/Observation/h2", headers={"Authorization": f"Bearer {_script(site)}"}).status_code == 204
    assert _told(site, token) == before
    assert any('"id":"v1"' in text for _, _, text in before)


# --- constrained scopes


def _observation(id_: str, category: str, patient: str) -> Json:
    return {
        "resourceType": "Observation", "id": id_, "status": "final", "code": {"text": id_}, "category": [{"coding": [{"system": "urn:c", "code": category}]}],
        "subject": {"reference": f"Patient/{patient}"},
    }  # fmt: skip


def test_a_scope_with_a_query_opens_what_meets_it(site: SmartSite) -> None:
    """SMART App Launch 2.2, finer-grained resource constraints: reads of others are refused, searches leave them out, writes cannot leave it."""
    patient = site.patients["A"]
    for id_, category in (("lab", "laboratory"), ("vital", "vital-signs")):
        assert _put(site, _observation(id_, category, patient)).status_code == 201
    assert _put(site, _observation("lab", "vital-signs", patient)).status_code == 200
    assert _put(site, _observation("lab", "laboratory", patient)).status_code == 200
    token = _token(site, "patient", "patient/Observation.cruds?category=urn:c|laboratory patient/Patient.rs", patient=patient)
    statuses = {
        path: _get(site, f"/fhir/Observation/{path}", token).status_code
        for path in ("lab", "vital", "none", "lab/_history/3", "lab/_history/2", "lab/_history/1")
    }
    assert statuses == {
        "lab": 200,
        "vital": 403,
        "none": 403,
        "lab/_history/3": 200,
        "lab/_history/2": 403,
        "lab/_history/1": 403,
    }
    assert [each["resource"]["id"] for each in _get(site, "/fhir/Observation", token).json()["entry"]] == ["lab"]
    assert len(_get(site, "/fhir/Observation/lab/_history", token).json()["entry"]) == 1
    assert len(_get(site, "/fhir/Observation/_history", token).json()["entry"]) == 1
    assert "vital" not in _get(site, f"/fhir/Patient/{patient}/$everything", token).text
    assert _put(site, _observation("new", "vital-signs", patient), token).status_code == 403
    assert _put(site, _observation("lab", "vital-signs", patient), token).status_code == 403
    assert _put(site, _observation("vital", "laboratory", patient), token).status_code == 403
    assert _put(site, _observation("new", "laboratory", patient), token).status_code == 201
    headers = {"Authorization": f"Bearer {token}"}
    assert site.http.delete("/fhir/Observation/vital", headers=headers).status_code == 403
    assert site.http.delete("/fhir/Observation/new", headers=headers).status_code == 204


def test_a_scope_for_one_study_opens_it_in_dicomweb_too(site: SmartSite) -> None:
    scope = f"patient/ImagingStudy.rs?identifier=urn:dicom:uid|urn:oid:{FIRST.study_uid}"
    token = _token(site, "patient", scope, patient=site.patients["A"])
    assert [_get(site, f"/dicomweb/studies/{made.study_uid}", token).status_code for made in (FIRST, THIRD)] == [200, 403]
    assert {each["0020000D"]["Value"][0] for each in _get(site, "/dicomweb/studies", token).json()} == {FIRST.study_uid}
    assert _get(site, "/fhir/ImagingStudy", token).json()["total"] == 1
    assert _get(site, "/fhir/Patient", token).status_code == 403


@pytest.mark.parametrize(
    "query",
    [
        "subject.name=alba",
        "_has:Observation:subject:code=A",
        "_filter=status eq final or status eq amended",
        "_list=1",
        "no-such=1",
        "code:in=urn:v",
    ],
)
def test_a_query_that_the_resource_alone_does_not_answer_opens_nothing(site: SmartSite, query: str) -> None:
    token = _token(site, scope=f"user/Observation.rs?{query.replace(' ', '%20')} user/Patient.r")
    assert _get(site, "/fhir/Observation", token).status_code == 403


# --- tokens for studies


def test_a_token_for_a_study_opens_that_and_what_is_about_it(site: SmartSite) -> None:
    ids, patient = _ids(site), site.patients["A"]
    about = {
        "resourceType": "DiagnosticReport", "id": "about", "status": "final", "code": {"text": "x"}, "subject": {"reference": f"Patient/{patient}"},
        "imagingStudy": [{"reference": f"ImagingStudy/{ids[THIRD.study_uid]}"}],
    }  # fmt: skip
    assert _put(site, about).status_code == 201
    assert (
        _put(site, {**about, "id": "other", "imagingStudy": [{"reference": f"ImagingStudy/{ids[FIRST.study_uid]}"}]}).status_code
        == 201
    )
    assert _put(site, _observation("plain", "x", patient)).status_code == 201
    token = _token(site, "patient", "patient/*.rs", patient=patient, studies=(THIRD.study_uid,))
    assert [_get(site, path, token).status_code for path in _doors(site, THIRD) if not path.endswith("_history/1")].count(
        200
    ) == len(_doors(site)) - 1
    refused = [*_doors(site), "/fhir/DiagnosticReport/other", "/fhir/Observation/plain", f"/fhir/Patient/{site.patients['B']}"]
    for path in refused:
        if not path.startswith(f"/fhir/Patient/{patient}"):
            assert _get(site, path, token).status_code == 403, path
    for path in (
        "/fhir/ImagingStudy",
        "/dicomweb/studies",
        "/dicomweb/instances",
        "/fhir/DocumentReference",
        f"/fhir/Patient/{patient}/$everything",
    ):
        answer = _get(site, path, token)
        assert answer.status_code == 200, path
        assert FIRST.study_uid not in answer.text
        assert ids[FIRST.study_uid] not in answer.text
    everything = _get(site, f"/fhir/Patient/{patient}/$everything", token).text
    assert '"about"' in everything
    assert '"plain"' not in everything
    assert _get(site, "/fhir/AuditEvent", token).json()["total"] == 0
    assert _get(site, f"/fhir/Patient/{patient}/$access-history", token).status_code == 403

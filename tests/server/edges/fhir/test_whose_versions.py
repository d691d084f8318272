"""Whose a version was and whose its resource is: who is told of one patient learns nothing of another, by whatever id he asks for."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from peers.fhir_site import FhirSite, fhir_site, issue
from peers.generated import Made, send
from peers.imageshare import publish_all
from sqlalchemy import select

from profiles.audit_event import Agent
from profiles.identifiers import AssigningAuthority, PatientIdentifier
from profiles.study import Patient
from server.records import catalogue, rejections
from server.work.corrections import Corrector
from server.work.reconcile import Actor, Reconciler, Target

Json = dict[str, Any]
ACTOR = Actor(Agent(identifier="tester", address="127.0.0.1"))
_FIRST = [Made(series=1, number=1), Made(series=2, number=1)]
_STUDY = _FIRST[0].study_uid
_OTHER = ("the token is for another patient", 403)
_VARYING = frozenset({"x-request-id"})


def observation(id_: str, of: str, text: str = "x") -> Json:
    return {"resourceType": "Observation", "id": id_, "status": "final", "code": {"text": text}, "subject": {"reference": f"Patient/{of}"}}  # fmt: skip


@pytest.fixture
def site(tmp_path: Path, database_url: str) -> Iterator[FhirSite]:
    with fhir_site(tmp_path / "data", database_url) as site:
        site.put({"resourceType": "Patient", "id": "a"}, {"resourceType": "Patient", "id": "b"})
        yield site


def versions(site: FhirSite, path: str, token: dict[str, str]) -> list[str]:
    """The versions of a history, as `id/version`, newest first."""
    return [
        f"{each['fullUrl'].rpartition('/')[2]}/{each['response']['etag'][3:-1]}"
        for each in site.bundle(path, token).get("entry", ())
    ]


# --- what becomes another patient's


@pytest.fixture
def corrected(site: FhirSite) -> FhirSite:
    """An Observation that was filed for the wrong patient."""
    site.put(observation("o", "a", "of a"))
    site.put(observation("o", "b", "of b"))
    site.put(observation("o", "b", "of b, again"))
    return site


def test_the_new_patient_reads_nothing_of_the_former(corrected: FhirSite) -> None:
    hers = corrected.token("patient/*.rs", "b")
    issue(corrected.get("Observation/o/_history/1", hers), 403, "forbidden")
    assert corrected.get("Observation/o/_history/2", hers).json()["code"]["text"] == "of b"
    for path in ("Observation/o/_history", "Observation/_history"):
        assert versions(corrected, path, hers) == ["o/3", "o/2"]
    assert "o/1" not in versions(corrected, "_history", hers)


def test_nor_the_former_of_the_new(corrected: FhirSite) -> None:
    his = corrected.token("patient/*.rs", "a")
    for path in ("Observation/o", "Observation/o/_history", "Observation/o/_history/1", "Observation/o/_history/2"):
        issue(corrected.get(path, his), 403, "forbidden")
    assert versions(corrected, "Observation/_history", his) == []
    assert versions(corrected, "_history", his) == ["a/1"]


def test_who_may_see_both_sees_all_and_both_have_it_in_their_trail(corrected: FhirSite) -> None:
    token = corrected.token("user/*.rs")
    assert versions(corrected, "Observation/o/_history", token) == ["o/3", "o/2", "o/1"]
    for path in ("Observation/o/_history/1", "Observation/o/_history"):
        before = corrected.mark()
        assert corrected.get(path, token).status_code == 200
        told = "".join(str(each["entity"]) for each in corrected.events(before))
        assert "'Patient/a'" in told
        assert "'Patient/b'" in told


def test_an_id_that_was_another_patients_once_tells_nothing_of_her(site: FhirSite) -> None:
    site.put(observation("o", "a", "of a"))
    site.delete("Observation", "o")
    hers = site.token("patient/*.rs", "a")
    assert site.get("Observation/o", hers).status_code == 410
    assert versions(site, "Observation/o/_history", hers) == ["o/2", "o/1"]
    site.put(observation("o", "b", "of b"))
    his = site.token("patient/*.rs", "b")
    assert versions(site, "Observation/o/_history", his) == versions(site, "Observation/_history", his) == ["o/3"]
    for version in (1, 2):
        assert refusal(site, f"Observation/o/_history/{version}", his) == refusal(site, f"Observation/o/_history/{version}", hers)


def test_a_moved_study_leaves_nothing_of_the_former_patient(site: FhirSite) -> None:
    send(site.node, *_FIRST, Made(study=3, patient="P2", name="Right^Rita"))
    publish_all(site.node)
    former, (id_, _) = site.ids("Patient?identifier=P1"), study(site)
    to = Patient(PatientIdentifier("P2", AssigningAuthority(site.node.installation.patients.oid)))
    corrector(site).move_study(_STUDY, to, actor=ACTOR)
    (owner,) = site.ids("Patient?identifier=P2")
    path = f"ImagingStudy/{id_}/_history"
    assert versions(site, path, site.token("patient/*.rs", owner)) == versions(site, path, site.token()) == [f"{id_}/2"]
    assert refusal(site, f"{path}/1", site.token("patient/*.rs", former[0])) == _OTHER


# --- what was withdrawn


def study(site: FhirSite) -> tuple[str, str]:
    """The ids of the ImagingStudy and its patient."""
    with site.node.database.read() as connection:
        joined = select(catalogue.STUDY.c.id, catalogue.PATIENT.c.id.label("patient")).join(
            catalogue.PATIENT, catalogue.STUDY.c.patient_pk == catalogue.PATIENT.c.pk
        )
        id_, patient = connection.execute(joined.where(catalogue.STUDY.c.uid == _STUDY)).one()
        return id_, patient


def reconciler(site: FhirSite) -> Reconciler:
    node = site.node
    return Reconciler(node.settings, node.database, node.blobs, node.installation, node.trail)


def corrector(site: FhirSite) -> Corrector:
    node = site.node
    return Corrector(reconciler(site), node.database, node.blobs, node.installation.patients.oid)


@pytest.mark.parametrize(
    ("series", "reason", "is_withheld"),
    [
        (_FIRST[0].series_uid, rejections.PATIENT_SAFETY, True),
        (None, rejections.PATIENT_SAFETY, True),
        (None, rejections.QUALITY, True),
        (_FIRST[0].series_uid, rejections.QUALITY, False),
    ],
)
def test_of_a_study_with_rejected_images_an_app_sees_what_is_left(
    site: FhirSite, series: str | None, reason: str, is_withheld: bool
) -> None:
    send(site.node, *_FIRST)
    publish_all(site.node)
    reconciler(site).reject(Target(_STUDY, series), reason=reason, actor=ACTOR)
    id_, patient = study(site)
    app, path = site.token("patient/*.rs", patient), f"ImagingStudy/{id_}/_history"
    told = [f"{id_}/2"] if is_withheld else [f"{id_}/2", f"{id_}/1"]
    assert versions(site, path, app) == versions(site, "ImagingStudy/_history", app) == told
    assert [each for each in versions(site, "_history", app) if each.startswith(id_)] == told
    assert site.get(f"{path}/2", app).status_code == 200
    assert site.get(f"{path}/1", app).status_code == (403 if is_withheld else 200)
    assert versions(site, path, site.token("user/*.rs")) == [f"{id_}/2", f"{id_}/1"]
    assert site.get(f"{path}/1", site.token("user/*.rs")).status_code == 200
    reconciler(site).restore(Target(_STUDY, series), actor=ACTOR)
    assert versions(site, path, app) == [f"{id_}/3", f"{id_}/2", f"{id_}/1"]


# --- what is there at all


def refusal(site: FhirSite, path: str, token: dict[str, str], method: str = "GET", body: Json | None = None) -> tuple[str, int]:
    found = site.ask(method, path, token, body=body)
    return found.json()["issue"][0].get("diagnostics", "") if found.content else "", found.status_code


_META: Json = {"resourceType": "Parameters", "parameter": [{"name": "meta", "valueMeta": {"tag": [{"code": "t"}]}}]}
_ASKED: list[tuple[str, str, str, Json | None]] = [
    ("GET", "Observation", "", None),
    ("GET", "Observation", "/_history/1", None),
    ("GET", "Observation", "/_history", None),
    ("GET", "Observation", "/$meta", None),
    ("GET", "Observation", "/$validate", None),
    ("POST", "Observation", "/$meta-add", _META),
    ("DELETE", "Observation", "", None),
    ("GET", "Patient", "", None),
    ("GET", "Patient", "/$everything", None),
    ("DELETE", "Patient", "", None),
    ("GET", "Encounter", "/$everything", None),
    ("GET", "Practitioner", "", None),
    ("GET", "Binary", "", None),
    ("GET", "Binary", "/_history/1", None),
    ("GET", "AuditEvent", "", None),
]


@pytest.mark.parametrize(("method", "type_", "rest", "body"), _ASKED)
@pytest.mark.parametrize("scope", ["patient/*.cruds", "patient/Medication.rs"])
def test_what_is_not_there_is_as_what_is_another_patients(
    site: FhirSite, method: str, type_: str, rest: str, body: Json | None, scope: str
) -> None:
    def encounter(id_: str) -> Json:
        return {"resourceType": "Encounter", "id": id_, "status": "finished", "class": {"code": "AMB"}, "subject": {"reference": "Patient/b"}}  # fmt: skip

    site.put(
        observation("theirs", "b"),
        observation("gone", "b"),
        encounter("theirs"),
        encounter("gone"),
        {"resourceType": "Patient", "id": "theirs"},
        {"resourceType": "Patient", "id": "gone"},
        {"resourceType": "Practitioner", "id": "theirs"},
        {"resourceType": "Practitioner", "id": "gone"},
        {"resourceType": "Binary", "id": "theirs", "contentType": "text/plain", "data": "eA==", "securityContext": {"reference": "Observation/theirs"}},
        {"resourceType": "Binary", "id": "gone", "contentType": "text/plain", "data": "eA=="},
    )  # fmt: skip
    for each in ("Observation", "Encounter", "Patient", "Practitioner", "Binary"):
        site.delete(each, "gone")
    app = site.token(scope, "a")
    there = site.ask(method, f"{type_}/theirs{rest}", app, body=body)
    assert there.status_code == 403
    for id_ in ("gone", "nothing"):
        found = site.ask(method, f"{type_}/{id_}{rest}", app, body=body)
        assert (found.status_code, found.content) == (there.status_code, there.content)
        assert {each for each in found.headers.items() if each[0] not in _VARYING} == {
            each for each in there.headers.items() if each[0] not in _VARYING
        }


def test_a_version_is_not_looked_at_before_whose_it_is(site: FhirSite) -> None:
    site.put(observation("theirs", "b"))
    app = site.token("patient/*.cruds", "a")
    for id_ in ("theirs", "nothing"):
        for tag in ('W/"1"', 'W/"9"'):
            assert site.ask("DELETE", f"Observation/{id_}", app, If_Match=tag).status_code == 403
            patched = site.ask(
                "PATCH", f"Observation/{id_}", app, body=b"[]", Content_Type="application/json-patch+json", If_Match=tag
            )
            issue(patched, 403, "forbidden")


def test_ones_own_deleted_ones_are_told_and_to_others_what_is_not_there(site: FhirSite) -> None:
    site.put(observation("gone", "a"))
    site.delete("Observation", "gone")
    app = site.token("patient/*.cruds", "a")
    issue(site.get("Observation/gone", app), 410, "deleted")
    assert site.ask("DELETE", "Observation/gone", app).status_code == 204
    anybody = site.token("user/*.cruds")
    issue(site.get("Observation/nothing", anybody), 404, "not-found")
    assert site.ask("DELETE", "Observation/nothing", anybody).status_code == 204
    issue(site.ask("POST", "Observation/gone/$meta-add", anybody, body=_META), 410, "deleted")
    issue(site.ask("POST", "Observation/nothing/$meta-add", anybody, body=_META), 404, "not-found")

"""The two stories of SMART Imaging Access (Argonaut draft, authorization patterns): a parent and a teenager, and a quality service for the heart."""

from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from peers import imageshare
from peers.generated import Made, send
from peers.smart_site import SmartSite, smart_site
from pydicom import dcmwrite

from server.access import epoch, rights
from server.access.oauth import clients
from server.access.oauth.clients import CLIENT_CREDENTIALS, Client
from server.access.people import accounts, proxies
from server.access.people.proxies import PROXY
from server.store.db import micros

ON_BOTH_ENGINES = True
Json = dict[str, Any]
ANKLE, ULTRASOUND = Made(study=1, patient="A"), Made(study=2, patient="A")
CARDIAC, KNEE = (Made(study=each, patient="A", name="Alba^Anna", modality="MR") for each in (11, 12))
HEART_CT = Made(study=13, patient="A", name="Alba^Anna")
MIXED, MIXED_CT = (
    Made(study=14, series=each, patient="B", name="Berg^Bert", modality=kind) for each, kind in ((1, "MR"), (2, "CT"))
)
HEART, KNEE_CODE = "80891009", "72696002"
SNOMED = "http://snomed.info/sct"


@pytest.fixture
def site(tmp_path: Path) -> Iterator[SmartSite]:
    with smart_site(tmp_path) as made:
        yield made


def _get(site: SmartSite, path: str, token: str, **headers: str) -> Any:
    return site.http.get(path, headers={"Authorization": f"Bearer {token}", **headers})


def _put(site: SmartSite, resource: Json) -> None:
    script = site.node.tokens.issue(client="script", scope="system/*.cruds")
    name = f"{resource['resourceType']}/{resource['id']}"
    answer = site.http.put(f"/fhir/{name}", json=resource, headers={"Authorization": f"Bearer {script}"})
    assert answer.status_code in (200, 201), answer.text


def _found(answer: Any) -> list[str]:
    """Study Instance UIDs of a Bundle; its total counts no others."""
    assert answer.status_code == 200, answer.text
    bundle = answer.json()
    studies = [each["resource"] for each in bundle.get("entry", ()) if each["resource"]["resourceType"] == "ImagingStudy"]
    assert bundle["total"] == len(studies)
    return sorted(each["identifier"][0]["value"].removeprefix("urn:oid:") for each in studies)


def _whole(uid: str) -> str:
    return f"/dicomweb/studies/{uid}"


PART_10 = {"Accept": "multipart/related; type=application/dicom; transfer-syntax=*"}
_OTHERS = tuple(f"{made.study_uid}." for made in (KNEE, HEART_CT))
"""How UIDs below them begin."""
BELOW = ("", "/metadata", "/series", "/instances", "/rendered", "/thumbnail")


# --- a parent and a teenager


@pytest.fixture
def family(site: SmartSite) -> SmartSite:
    """A is the child, born in 1960 as its images say; the proxy is a parent, whom the child's Consent keeps out of the ultrasound."""
    script = site.node.tokens.issue(client="script", scope="system/*.rs")
    answer = _get(site, f"/fhir/ImagingStudy?identifier=urn:oid:{ULTRASOUND.study_uid}", script).json()
    hidden = answer["entry"][0]["resource"]["id"]
    _put(site, {"resourceType": "RelatedPerson", "id": "parent", "patient": {"reference": f"Patient/{site.patients['A']}"}})
    with site.node.database.write() as connection:
        parent = accounts.add(connection, kind="proxy", email="parent@example.org", fhir_user="RelatedPerson/parent")
        proxies.begin(connection, account=parent.id, patient=site.patients["A"], relation="parent", begins=micros() - 1)
    site.people["parent"] = parent
    provision = {
        "type": "deny", "actor": [{"role": {"coding": [{"code": "IRCP"}]}, "reference": {"reference": "RelatedPerson/parent"}}],
        "data": [{"meaning": "dependents", "reference": {"reference": f"ImagingStudy/{hidden}"}}],
    }  # fmt: skip
    _put(site, {
        "resourceType": "Consent", "id": "teenager", "status": "active", "scope": {"text": "privacy"}, "category": [{"text": "privacy"}],
        "patient": {"reference": f"Patient/{site.patients['A']}"}, "policy": [{"uri": "urn:policy"}],
        "provision": {"type": "permit", "provision": [provision]},
    })  # fmt: skip
    return site


def test_a_parent_sees_the_ankle_and_not_that_there_is_anything_else(family: SmartSite) -> None:
    """Standalone launch of a health app: one token for the search and for the images."""
    patient, other = family.patients["A"], family.patients["B"]
    token = family.tokens(scope="launch/patient patient/ImagingStudy.rs", who="parent")["access_token"]
    found = _get(family, f"/fhir/ImagingStudy?patient={patient}&_include=ImagingStudy:endpoint", token)
    assert ULTRASOUND.study_uid not in found.text
    assert _found(_get(family, f"/fhir/ImagingStudy?patient={patient}", token)) == [ANKLE.study_uid]
    assert _found(_get(family, f"/fhir/ImagingStudy?patient={patient}&identifier=urn:oid:{ULTRASOUND.study_uid}", token)) == []
    assert _found(_get(family, f"/fhir/ImagingStudy?patient={patient}&_lastUpdated=gt2000-01-01", token)) == [ANKLE.study_uid]
    assert _get(family, f"/fhir/ImagingStudy?patient={other}", token).status_code == 403
    assert _get(family, _whole(ANKLE.study_uid), token, **PART_10).status_code == 200
    for below in BELOW:
        assert _get(family, _whole(ANKLE.study_uid) + below, token).status_code == 200, below
        for uid in (ULTRASOUND.study_uid, family.studies["B"][0]):
            answer = _get(family, _whole(uid) + below, token)
            assert answer.status_code in (403, 404) or (answer.status_code, answer.content) == (204, b""), (below, uid)
    assert ULTRASOUND.study_uid not in _get(family, "/dicomweb/studies", token).text


def test_what_names_the_parent_is_kept_from_nobody_else(family: SmartSite) -> None:
    for who in ("patient", "proxy", "practitioner"):
        token = family.tokens(scope="launch/patient patient/ImagingStudy.rs", who=who, patient=family.patients["A"])[
            "access_token"
        ]
        assert _found(_get(family, "/fhir/ImagingStudy", token)) == [ANKLE.study_uid, ULTRASOUND.study_uid], who


def test_what_names_nobody_is_not_kept_from_a_parent(family: SmartSite) -> None:
    _put(family, {
        "resourceType": "Consent", "id": "all", "status": "active", "scope": {"text": "privacy"}, "category": [{"text": "privacy"}],
        "patient": {"reference": f"Patient/{family.patients['A']}"}, "policy": [{"uri": "urn:policy"}], "provision": {"type": "deny"},
    })  # fmt: skip
    token = family.tokens(scope="launch/patient patient/ImagingStudy.rs", who="parent")["access_token"]
    assert _found(_get(family, "/fhir/ImagingStudy", token)) == [ANKLE.study_uid]


def test_the_parent_is_not_offered_it_either(family: SmartSite) -> None:
    """The page on which studies are chosen shows what there is to see."""
    asking = family.asking(scope="launch/patient launch/imagingstudy patient/ImagingStudy.rs")
    asked = family.node.authorizing.asked(family.authorize(asking).headers["location"].rpartition("/")[2])
    assert asked is not None
    found = family.node.authorizing.choices(asked, family.people["parent"], patient=family.patients["A"])
    assert [each.uid for each in found.studies] == [ANKLE.study_uid]


def test_who_saw_it_is_for_who_may_see_all_of_it(family: SmartSite) -> None:
    """Neither the page nor an app tells the parent who looked at what is kept from the parent."""
    script = family.node.tokens.issue(client="script", scope="system/*.rs")
    assert _get(family, _whole(ULTRASOUND.study_uid), script).status_code == 200
    with family.node.database.read() as connection:
        whole = {who: rights.whole_records(connection, family.people[who], micros()) for who in ("parent", "proxy", "patient")}
    assert whole == {"parent": frozenset(), **dict.fromkeys(("proxy", "patient"), frozenset([family.patients["A"]]))}
    token = family.tokens(scope="launch/patient patient/*.rs", who="parent")["access_token"]
    assert _get(family, "/fhir/AuditEvent", token).json()["total"] == 0
    history = _get(family, f"/fhir/Patient/{family.patients['A']}/$access-history", token)
    assert history.status_code in (200, 403)
    assert "images" not in history.text


def test_the_child_grows_up(family: SmartSite) -> None:
    """The age rule: once the child is as old as that, the running token of the parent's app opens nothing, and the parent is offered nothing."""
    parent, patient = family.people["parent"], family.patients["A"]
    token = ""
    for age in (150, 18):  # born in 1960
        with family.node.database.write() as connection:
            (held,) = [each for each in proxies.of_account(connection, parent.id) if not each.ended]
            connection.execute(PROXY.update().where(PROXY.c.id == held.id).values(until_age=age))
            epoch.raise_(connection)
        token = token or family.tokens(scope="launch/patient patient/ImagingStudy.rs", who="parent")["access_token"]
        is_child = age == 150
        for path in (f"/fhir/ImagingStudy?patient={patient}", _whole(ANKLE.study_uid)):
            assert _get(family, path, token).status_code == (200 if is_child else 403), path
        asked = family.node.authorizing.asked(family.authorize(family.asking()).headers["location"].rpartition("/")[2])
        assert asked is not None
        assert [each.id for each in family.node.authorizing.choices(asked, parent).patients] == ([patient] if is_child else [])


# --- a quality service for the heart


@pytest.fixture
def quality(site: SmartSite) -> SmartSite:
    """A has more: an MR of the heart, one of the knee, a CT of the heart; B an MR of the heart with a CT series."""
    parts = {CARDIAC: "HEART", KNEE: "KNEE", HEART_CT: "HEART", MIXED: "HEART", MIXED_CT: "HEART"}
    send(site.node, *(_of_part(made, part) for made, part in parts.items()))
    imageshare.publish_all(site.node)
    return site


def _of_part(made: Made, part: str) -> bytes:
    dataset, buffer = made.dataset(), BytesIO()
    dataset.BodyPartExamined = part
    dcmwrite(buffer, dataset, enforce_file_format=True)
    return buffer.getvalue()


def _service(site: SmartSite, scope: str) -> str:
    """A token of a service that is registered for this, and no more."""
    with site.node.database.write() as connection:
        known = clients.find(connection, "backend")
        assert known is not None
        service = Client(
            "quality", "Quality", "asymmetric", scope=scope, jwks=known.jwks, grant_types=frozenset({CLIENT_CREDENTIALS})
        )
        clients.add(connection, service)
    site.keys["quality"] = site.keys["backend"]
    assert site.backend("system/Observation.rs", client="quality").json()["error"] == "invalid_scope"
    answer = site.backend(scope, client="quality")
    assert answer.status_code == 200, answer.text
    return str(answer.json()["access_token"])


@pytest.mark.parametrize("bodysite", [HEART, f"{SNOMED}%7C{HEART}"])
def test_a_quality_service_gets_the_hearts_and_learns_of_nothing_else(quality: SmartSite, bodysite: str) -> None:
    scope = f"system/Patient.rs system/ImagingStudy.rs?modality=MR&bodysite={bodysite}"
    token, hearts = _service(quality, scope), [CARDIAC.study_uid, MIXED.study_uid]
    assert _found(_get(quality, "/fhir/ImagingStudy", token)) == hearts
    assert _get(quality, "/fhir/ImagingStudy?_summary=count", token).json()["total"] == 2
    assert (
        _get(quality, "/fhir/ImagingStudy?modality=CT&_summary=count", token).json()["total"] == 1
    )  # one of the two has CT as well
    for query in (f"identifier=urn:oid:{KNEE.study_uid}", f"bodysite={KNEE_CODE}", "modality:not=MR"):
        assert _found(_get(quality, f"/fhir/ImagingStudy?{query}", token)) == [], query
    for has, names in ((f"bodysite={KNEE_CODE}", []), ("modality=MR", ["A", "B"]), ("modality=CT", ["B"])):
        bundle = _get(quality, f"/fhir/Patient?_has:ImagingStudy:patient:{has}", token).json()
        told = sorted(each["resource"]["id"] for each in bundle.get("entry", ()))
        assert (bundle["total"], told) == (len(names), sorted(quality.patients[name] for name in names)), has
    assert sorted({each["0020000D"]["Value"][0] for each in _get(quality, "/dicomweb/studies", token).json()}) == hearts
    for path in ("/dicomweb/series", "/dicomweb/instances", "/fhir/Patient?_revinclude=ImagingStudy:patient"):
        answer = _get(quality, path, token)
        assert answer.status_code == 200, path
        assert not any(uid in answer.text for uid in _OTHERS), path


def test_a_quality_service_fetches_the_hearts_alone(quality: SmartSite) -> None:
    token = _service(quality, f"system/ImagingStudy.rs?modality=MR&bodysite={HEART}")
    for below in BELOW:
        for made in (CARDIAC, MIXED):
            assert _get(quality, _whole(made.study_uid) + below, token).status_code == 200, (below, made)
        for made in (KNEE, HEART_CT, ANKLE):
            answer = _get(quality, _whole(made.study_uid) + below, token)
            assert answer.status_code in (403, 404) or (answer.status_code, answer.content) == (204, b""), (below, made)
    assert _get(quality, _whole(CARDIAC.study_uid), token, **PART_10).status_code == 200
    assert _get(quality, f"/fhir/Patient/{quality.patients['A']}", token).status_code == 403


def test_what_policy_makes_partial_is_denied_and_not_trimmed(quality: SmartSite) -> None:
    token = _service(quality, f"system/ImagingStudy.rs?modality=MR&bodysite={HEART}")
    series = {"identifier": {"system": "urn:dicom:uid", "value": f"urn:oid:{MIXED_CT.series_uid}"}}
    _put(quality, {
        "resourceType": "Consent", "id": "series", "status": "active", "scope": {"text": "privacy"}, "category": [{"text": "privacy"}],
        "patient": {"reference": f"Patient/{quality.patients['B']}"}, "policy": [{"uri": "urn:policy"}],
        "provision": {"type": "permit", "provision": [{"type": "deny", "data": [{"meaning": "instance", "reference": series}]}]},
    })  # fmt: skip
    whole = _whole(MIXED.study_uid)
    assert _get(quality, whole, token, **PART_10).status_code == 403
    assert _get(quality, f"{whole}/series/{MIXED.series_uid}", token).status_code == 200
    assert _get(quality, f"{whole}/series/{MIXED_CT.series_uid}", token).status_code == 404
    assert MIXED_CT.series_uid not in _get(quality, f"{whole}/metadata", token).text
    assert _found(_get(quality, "/fhir/ImagingStudy", token)) == [CARDIAC.study_uid]
    assert _get(quality, _whole(CARDIAC.study_uid), token, **PART_10).status_code == 200

"""Shares as SMART Health Links: opened by apps with the key alone, within what was chosen; counted, told and ended as with a browser."""

import base64
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import orjson
import pytest
from httpx2 import Response
from joserfc import jwe
from joserfc.jwk import OctKey
from peers import node_clients
from peers.node_clients import NoNode
from peers.sharing import events, health_link, made, opened, payload, share_of
from peers.visitor import Pages, Visitor, pages
from starlette.testclient import TestClient

from profiles.smart.health_link import LONGEST_URL
from server.access.shares import TRIES
from server.worker import Worker

Json = dict[str, Any]
OTHERS = {"Origin": "https://viewer.example.com"}
PDF = b"%PDF-1.4 a report"


class App:
    """An app that was given a link. It has no cookies."""

    def __init__(self, town: Pages, link: str) -> None:
        self.link = payload(link)
        self.path = urlsplit(self.link["url"]).path
        self.http = TestClient(town.site.http.app, base_url=town.site.base, raise_server_exceptions=False)

    def manifest(self, passcode: str = "", **more: Any) -> Response:
        asked = {"recipient": "Dr Berg", **({"passcode": passcode} if passcode else {}), **more}
        return self.http.post(self.path, json=asked, headers=OTHERS)

    def read(self, file: str) -> Json:
        key = OctKey.import_key({"kty": "oct", "k": self.link["key"]})
        found = jwe.decrypt_compact(file, key, algorithms=["dir", "A256GCM", "DEF"])
        assert found.plaintext is not None
        body: Json = orjson.loads(found.plaintext)
        return body

    def embedded(self, answer: Response, place: int = 0) -> Json:
        assert answer.status_code == 200, answer.text
        return self.read(answer.json()["files"][place]["embedded"])


def shared(town: Pages, **fields: Any) -> tuple[Visitor, str, str, App]:
    """A patient who shares: her browser, the link, the passcode, and an app with the SMART Health Link."""
    patient, link, passcode = made(town, **fields)
    return patient, link, passcode.replace(" ", ""), App(town, health_link(patient))


def of_type(bundle: Json, type_: str) -> list[Json]:
    return [each["resource"] for each in bundle["entry"] if each["resource"]["resourceType"] == type_]


@pytest.fixture(scope="module", autouse=True)
def report(town: Pages) -> None:
    """A report with an attachment, of each study of patient A."""
    site, token = town.site, town.site.node.tokens.issue(client="everything", scope="system/*.cruds")
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/fhir+json"}
    patient = {"reference": f"Patient/{site.patients['A']}"}
    found = site.fhir(f"ImagingStudy?patient={site.patients['A']}", token).json()["entry"]
    for number, each in enumerate(found):
        body = {
            "resourceType": "DiagnosticReport", "id": f"report-{number}", "status": "final", "code": {"text": "Report"}, "subject": patient,
            "conclusion": "All is well.", "imagingStudy": [{"reference": f"ImagingStudy/{each['resource']['id']}"}],
            "presentedForm": [{"contentType": "application/pdf", "url": f"Binary/pdf-{number}"}],
        }  # fmt: skip
        pdf = {
            "resourceType": "Binary", "id": f"pdf-{number}", "contentType": "application/pdf", "data": base64.b64encode(PDF).decode(),
            "securityContext": {"reference": f"DiagnosticReport/report-{number}"},
        }  # fmt: skip
        for made_of in (body, pdf):
            url = f"/fhir/{made_of['resourceType']}/{made_of['id']}"
            assert site.http.put(url, json=made_of, headers=headers).status_code == 201


def test_the_link_says_what_the_standard_wants_and_nothing_of_the_patient(town: Pages) -> None:
    patient, link, _, app = shared(town)
    assert set(app.link) == {"url", "key", "exp", "flag", "label", "v"}
    assert app.link["flag"] == "LP"
    assert len(app.link["url"]) <= LONGEST_URL
    assert len(app.link["key"]) == 43
    assert app.link["exp"] == share_of(town, link).expires // 1_000_000
    assert app.link["label"] == "Medical images"
    assert health_link(patient).startswith(f"{urlsplit(link)._replace(fragment='').geturl()}#shlink:/"), (
        "our own page is the viewer"
    )
    assert app.link["key"] not in app.link["url"]


@pytest.mark.parametrize(("fields", "flag"), [({"openings": "5", "passcode": []}, "U"), ({"openings": "5"}, "P"), ({"passcode": []}, "LU"),
                                              ({"passcode": [], "apps": "yes", "openings": "5"}, None)])  # fmt: skip
def test_its_flags(town: Pages, fields: dict[str, Any], flag: str | None) -> None:
    assert shared(town, **fields)[3].link.get("flag") == flag


def test_an_app_gets_study_reports_and_patient_by_the_passcode(town: Pages) -> None:
    patient, link, passcode, app = shared(town)
    answer = app.manifest(passcode)
    assert answer.headers["access-control-allow-origin"] == "*"
    assert answer.headers["cache-control"] == "no-store"
    (file,) = answer.json()["files"]
    assert (file["contentType"], file["fhirVersion"], file["status"]) == ("application/fhir+json", "4.0.1", "can-change")
    bundle = app.embedded(answer)
    assert [each["id"] for each in of_type(bundle, "Patient")] == [town.site.patients["A"]]
    (study,) = of_type(bundle, "ImagingStudy")
    assert study["identifier"][0]["value"] == f"urn:oid:{share_of(town, link).studies[0]}"
    (said,) = of_type(bundle, "DiagnosticReport")
    assert said["conclusion"] == "All is well."
    assert said["presentedForm"] == [{"contentType": "application/pdf", "data": base64.b64encode(PDF).decode()}]
    patient.get("/share")
    assert "Dr Berg" in patient.text
    told = [each for each in events(town) if any(one["code"] == "disclose" for one in each.get("subtype", ()))]
    assert told, "the disclosure is in the trail"
    Worker(town.site.node).once()
    assert "Dr Berg has opened images that you share" in town.letter()


def test_the_bundle_leads_to_the_viewer_without_another_opening(town: Pages) -> None:
    _, link, passcode, app = shared(town, openings="1")
    (viewer,) = of_type(app.embedded(app.manifest(passcode)), "Endpoint")
    assert viewer["connectionType"]["code"] == "shl-interactive-experience"
    doctor = opened(town, viewer["address"])
    assert doctor.page.status_code == 200
    assert doctor.tree.xpath("//canvas[@id='canvas']")
    assert share_of(town, link).openings == 1
    assert app.manifest(passcode).status_code == 404, "used as often as it may be"


def test_without_reports_there_are_none(town: Pages) -> None:
    _, _, passcode, app = shared(town, reports=[])
    bundle = app.embedded(app.manifest(passcode))
    assert of_type(bundle, "ImagingStudy")
    assert not of_type(bundle, "DiagnosticReport")


def test_a_link_without_passcode_is_one_file(town: Pages) -> None:
    _, link, _, app = shared(town, passcode=[], openings="1")
    for nothing in (app.http.get(app.path), app.http.get(app.path, params={"recipient": " "})):
        assert nothing.status_code == 400, "who does not say who they are, such as a mail scanner, opens nothing"
    assert share_of(town, link).openings == 0
    answer = app.http.get(app.path, params={"recipient": "Dr Berg"}, headers=OTHERS)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/jose"
    assert answer.headers["access-control-allow-origin"] == "*"
    assert of_type(app.read(answer.text), "ImagingStudy")
    assert app.http.get(app.path, params={"recipient": "Dr Berg"}).status_code == 404


def test_a_wrong_passcode_is_counted_for_life(town: Pages) -> None:
    _, link, passcode, app = shared(town)
    for _ in range(2):
        asked = app.manifest()
        assert (asked.status_code, asked.json()["remainingAttempts"]) == (401, TRIES), "without one, none is used up"
    for left in range(TRIES - 1, -1, -1):
        wrong = app.manifest("000000" if passcode != "000000" else "111111")
        assert (wrong.status_code, wrong.json()["remainingAttempts"]) == (401, left)
    assert app.manifest(passcode).status_code == 404
    assert opened(town, link, passcode).page.status_code == 404, "at its other face too"
    assert share_of(town, link).openings == 0


def test_large_files_have_an_address_of_their_own_once(town: Pages) -> None:
    _, _, passcode, app = shared(town)
    answer = app.manifest(passcode, embeddedLengthMax=100)
    (file,) = answer.json()["files"]
    assert "embedded" not in file
    path = urlsplit(file["location"]).path
    other = shared(town, passcode=[])[3]
    assert other.http.get(f"{other.path}/{path.rpartition('/')[2]}").status_code == 404, "not with the path of another link"
    found = app.http.get(path, headers=OTHERS)
    assert (found.status_code, found.headers["content-type"]) == (200, "application/jose")
    assert found.headers["access-control-allow-origin"] == "*"
    assert of_type(app.read(found.text), "ImagingStudy")
    assert events(town)[0]["entity"], "who got it is in the trail"
    assert app.http.get(path).status_code == 404, "once"
    assert app.http.get(path[:-4] + "AAAA").status_code == 404


def test_an_address_of_a_file_ends_with_the_share_and_by_the_clock(town: Pages, monkeypatch: pytest.MonkeyPatch) -> None:
    patient, link, passcode, app = shared(town)
    locations = [urlsplit(app.manifest(passcode, embeddedLengthMax=0).json()["files"][0]["location"]).path for _ in range(2)]
    later = time.time_ns() // 1000 + 3601 * 1_000_000
    with monkeypatch.context() as patched:
        patched.setattr("server.work.portal.health_links.micros", lambda: later)
        assert app.http.get(locations[0]).status_code == 404
    stop(town, patient, link)
    assert app.http.get(locations[1]).status_code == 404
    assert app.manifest(passcode).status_code == 404


def test_apps_get_a_token_for_what_is_shared_and_nothing_else(town: Pages) -> None:
    patient, link, passcode, app = shared(town, apps="yes")
    answer = app.manifest(passcode)
    assert [each["contentType"] for each in answer.json()["files"]] == ["application/fhir+json", "application/smart-api-access"]
    access = app.embedded(answer, 1)
    assert access["token_type"] == "Bearer"
    assert 0 < access["expires_in"] <= 3600
    assert access["aud"] == f"{town.site.base}/fhir"
    headers = {"Authorization": f"Bearer {access['access_token']}"}
    found = app.http.get(f"/fhir/{access['query'][0]}", headers=headers)
    uids = share_of(town, link).studies
    studies = [each["resource"] for each in found.json()["entry"] if each["resource"]["resourceType"] == "ImagingStudy"]
    assert [each["identifier"][0]["value"] for each in studies] == [f"urn:oid:{each}" for each in uids]
    assert app.http.get(f"/dicomweb/studies/{uids[0]}/metadata", headers=headers).status_code == 200
    other = next(each for each in town.site.studies["A"] if each not in uids)
    assert app.http.get(f"/dicomweb/studies/{other}/metadata", headers=headers).status_code in (403, 404)
    stop(town, patient, link)
    assert app.http.get(f"/dicomweb/studies/{uids[0]}/metadata", headers=headers).status_code == 401


def test_a_camera_opens_it_as_a_page(town: Pages) -> None:
    """The page's script takes the key out of the fragment (`test_sharing_in_a_browser`); the key is what opens the share."""
    _, link, passcode, app = shared(town)
    assert opened(town, f"{urlsplit(link).path}#{app.link['key']}", passcode).page.status_code == 200


def test_its_path_alone_opens_nothing_in_a_browser(town: Pages) -> None:
    """It stands in logs of proxies."""
    _, link, _, app = shared(town, passcode=[])
    assert opened(town, f"{urlsplit(link).path}#{app.path.rpartition('/')[2]}").page.status_code == 404


@pytest.mark.parametrize(("body", "status"), [(b"{", 400), (b"[]", 400), (b"{}", 400), (b'{"recipient": 5}', 400), (b'{"recipient": "\\u0000"}', 400),
    (b'{"recipient": "x", "embeddedLengthMax": -1}', 400), (b'{"recipient": "x", "embeddedLengthMax": "9"}', 400), (b'{"recipient": "x", "passcode": 5}', 400),
    (b'{"recipient": "' + b"x" * 20_000 + b'"}', 413)])  # fmt: skip
def test_what_is_no_request_opens_nothing_and_says_why(town: Pages, body: bytes, status: int) -> None:
    _, link, _, app = shared(town, passcode=[], apps="yes")
    answer = app.http.post(app.path, content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == status
    assert answer.json()["detail"]
    assert share_of(town, link).openings == 0


def test_other_ways_to_ask_are_refused(town: Pages) -> None:
    _, link, passcode, app = shared(town)
    form = app.http.post(app.path, data={"recipient": "Dr Berg", "passcode": passcode})
    assert form.status_code == 415
    assert app.http.get(app.path, params={"recipient": "Dr Berg"}).status_code == 400, "it asks for a passcode"
    unknown = app.http.post("/shl/" + "A" * 43, json={"recipient": "Dr Berg"})
    assert unknown.status_code == 404
    assert share_of(town, link).openings == 0


def test_web_pages_of_others_may_ask(town: Pages) -> None:
    app = shared(town)[3]
    asked = {**OTHERS, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type"}
    allowed = app.http.options(app.path, headers=asked)
    assert allowed.headers["access-control-allow-origin"] == "*"
    assert "POST" in allowed.headers["access-control-allow-methods"]
    assert "content-type" in allowed.headers["access-control-allow-headers"].lower()
    assert "access-control-allow-credentials" not in allowed.headers


def stop(town: Pages, patient: Visitor, link: str) -> None:
    patient.get("/share")
    csrf = patient.tree.xpath("//input[@name='csrf']/@value")[0]
    answer = patient.http.post(f"{urlsplit(link).path}/stop", data={"csrf": csrf}, headers={"Origin": town.site.base})
    assert answer.status_code == 303


# --- a viewer that others wrote


@pytest.fixture(scope="module")
def listening(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pages]:
    with pages(tmp_path_factory.mktemp("health-links"), on_a_socket=True, sign_in_failures_per_address=0) as site:
        yield site


def viewed(link: str, passcode: str = "-", most: str = "-") -> Json:
    """What kill-the-clipboard makes of a link."""
    try:
        found: Json = node_clients.run("health-link.mjs", link, passcode or "-", most)
    except NoNode as reason:
        pytest.skip(str(reason))
    return found


@pytest.mark.peers
@pytest.mark.parametrize(("fields", "flag"), [({}, "LP"), ({"passcode": []}, "LU"), ({"openings": "5"}, "P")])
@pytest.mark.parametrize("most", ["-", "0"])
def test_a_foreign_viewer_opens_it(listening: Pages, fields: dict[str, Any], flag: str, most: str) -> None:
    patient, link, passcode = made(listening, **fields)
    found = viewed(health_link(patient), passcode.replace(" ", ""), most)
    assert "error" not in found, found
    assert (found["label"], found["flag"]) == ("Medical images", flag)
    (bundle,) = found["resources"]
    (study,) = of_type(bundle, "ImagingStudy")
    assert study["identifier"][0]["value"] == f"urn:oid:{share_of(listening, link).studies[0]}"
    assert share_of(listening, link).openings == 1


@pytest.mark.peers
def test_a_foreign_viewer_says_what_is_wrong(listening: Pages) -> None:
    patient, link, passcode = made(listening)
    given = health_link(patient)
    wrong = "000000" if passcode != "000 000" else "111111"
    assert viewed(given, wrong)["error"] == "SHL_INVALID_PASSCODE_ERROR"
    stop(listening, patient, link)
    assert viewed(given, passcode.replace(" ", ""))["error"] == "SHL_MANIFEST_NOT_FOUND_ERROR"

"""The viewer out of an EHR: in a frame of another site, where the browser keeps nothing for us; and everything that an EHR may say that is not right."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import orjson
import pytest
from peers import pixel_forms
from peers.browser import DESKTOP, Window, window
from peers.imageshare import publish_all
from peers.node_clients import NoNode
from peers.visitor import Pages, Visitor, pages
from playwright.sync_api import Browser
from sqlalchemy import text
from starlette.testclient import TestClient

from conformance.bench import ehr as ehrs
from conformance.bench.ehr import Ehr, served
from profiles.audit_event import INSTANCES_TRANSFERRED
from profiles.phantom import phantom_study
from server.access import ehr_launch
from server.access.oauth import clients
from server.access.oauth.clients import Client
from server.access.people import accounts
from server.records import trail
from server.store.db import micros
from server.work.ingest import Sender

SCREENS = Path(__file__).resolve().parents[4] / "build" / "screens"
AUTHORITY = "1.2.3.4.5"
_KEPT = """() => { document.cookie = "probe=1; SameSite=None; Secure"; try { localStorage.setItem("probe", "1"); } catch (error) { return document.cookie + error.name; } }"""


@dataclass
class Site:
    """Our server, an EHR beside it, and the ids of two studies of its patient."""

    town: Pages
    ehr: Ehr
    studies: dict[str, str]

    @property
    def base(self) -> str:
        return self.town.site.base

    def launch(self, visitor: Visitor | None = None, **query: str) -> Visitor:
        """As far as the EHR's answer: what comes of it is the visitor's page."""
        visitor = visitor or self.town.visitor()
        started = visitor.http.get("/launch", params={"iss": self.ehr.fhir, "launch": "l1", **query})
        if started.status_code != 303:
            visitor.page = started
            return visitor
        visitor.get(self.answer(started.headers["location"]))
        return visitor

    def answer(self, authorize: str) -> str:
        """Where the EHR sends the browser."""
        request = {name: values[0] for name, values in parse_qs(urlsplit(authorize).query).items()}
        answered = TestClient(self.ehr.routes(), base_url=self.ehr.base).get("/authorize", params=request, follow_redirects=False)
        return str(answered.headers["location"])


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    socket_ = ehrs.free()
    port = socket_.getsockname()[1]
    given = {**ehrs.settings(port, AUTHORITY), "authorities": {"SITE": AUTHORITY}, "sign_in_failures_per_address": 0}
    with pages(tmp_path_factory.mktemp("launch"), on_a_socket=True, **given) as town:
        node = town.site.node
        batch = node.ingest.batch(Sender(INSTANCES_TRANSFERRED, "SCANNER", "127.0.0.1"))
        for seed, slices in ((7, 6), (8, 3)):
            for made in phantom_study(slices, 128, seed, patient_id="M-77", issuer="SITE", date=f"202601{seed:02}"):
                writer = batch.receive()
                writer.write(pixel_forms.encoded(made))
                batch.store(writer)
        publish_all(node)
        with node.database.read() as connection:
            rows = connection.execute(
                text(
                    "select s.uid, s.id from study s join patient p on s.patient_pk = p.pk where p.value = 'M-77' order by s.date"
                )
            )
            studies = dict(tuple(row) for row in rows)
        with ehrs.running(socket_, town.site.base) as ehr:
            ehr.knows("77", "M-77")
            ehr.knows("78", "nobody's here")
            yield Site(town, ehr, studies)


@pytest.fixture(autouse=True)
def _says(site: Site) -> None:
    site.ehr.says = {"patient": "77"}


def config_of(visitor: Visitor) -> dict[str, Any]:
    """What the viewer's page brings along."""
    found: dict[str, Any] = orjson.loads(str(visitor.tree.xpath("//script[@id='viewer-config']/text()")[0]))
    return found


@pytest.mark.peers
def test_in_a_frame_of_the_chart(site: Site, browser: Browser) -> None:
    """EHR on localhost, app on 127.0.0.1, no cookies of third parties: from the chart to pixels."""
    uid = next(iter(site.studies))
    site.ehr.has_study("i1", uid)
    site.ehr.says |= {"fhirContext": [{"reference": "ImagingStudy/i1"}]}
    with window(browser) as view:
        requests = list[Any]()
        view.page.on("request", lambda each: requests.append(each))  # noqa: PLW0108 Playwright marks what it is given
        view.page.goto(f"{site.ehr.base}/chart")
        frame = view.page.frame_locator("iframe")
        frame.locator("canvas[data-drawn=exact]").wait_for(timeout=60_000)
        shown(view, "launched-chart")
        assert frame.locator("h1").inner_text() == "CT scan of the chest"
        assert view.page.frames[-1].evaluate(_KEPT) == "SecurityError", (
            "this browser lets a frame of another site keep nothing at all"
        )
        assert view.context.cookies(site.base) == [], "nothing was kept in the browser"
        ours = [each for each in requests if "/dicomweb/" in each.url]
        assert ours
        assert all(each.headers.get("authorization", "").startswith("Bearer ") for each in ours)
        assert [each.url for each in requests if "ehr-token" in each.url] == []
        token = ours[0].headers["authorization"].partition(" ")[2]
        assert [each.url for each in requests if token in each.url] == []
        with contextlib.suppress(NoNode):
            assert view.barriers(view.page.frames[-1]) == []


@pytest.mark.peers
def test_choosing_in_a_frame(site: Site, browser: Browser) -> None:
    with window(browser) as view:
        view.page.goto(f"{site.ehr.base}/chart")
        frame = view.page.frame_locator("iframe")
        frame.get_by_role("heading", name="Which images?").wait_for(timeout=60_000)
        shown(view, "launched-choice")
        with contextlib.suppress(NoNode):
            assert view.barriers(view.page.frames[-1]) == []
        frame.get_by_role("button", name="Open").first.click()
        frame.locator("canvas[data-drawn=exact]").wait_for(timeout=60_000)
        assert view.wrongs == []


def shown(view: Window, name: str) -> None:
    SCREENS.mkdir(parents=True, exist_ok=True)
    view.page.screenshot(path=str(SCREENS / f"{name}-{DESKTOP['width']}.png"))


@pytest.mark.parametrize("by", ["reference", "absolute", "ours", "identifier"])
def test_the_study_that_the_ehr_names_comes_first(site: Site, by: str) -> None:
    uid, id_ = next(iter(site.studies.items()))
    site.ehr.has_study("i1", uid)
    site.ehr.says["fhirContext"] = [
        {
            "reference": {"reference": "ImagingStudy/i1"}, "absolute": {"reference": f"{site.ehr.fhir}/ImagingStudy/i1"},
            "ours": {"reference": f"{site.base}/fhir/ImagingStudy/{id_}"},
            "identifier": {"type": "ImagingStudy", "identifier": {"system": "urn:dicom:uid", "value": f"urn:oid:{uid}"}},
        }[by]
    ]  # fmt: skip
    studies = config_of(site.launch())["studies"]
    assert [each["uid"] for each in studies] == [uid, *(each for each in site.studies if each != uid)]


def test_without_a_study_one_chooses(site: Site) -> None:
    visitor = site.launch()
    assert "Which images?" in visitor.text
    wanted = next(iter(site.studies.values()))
    handle = visitor.tree.xpath("//input[@name='handle']/@value")[0]
    chosen = site.town.visitor()  # the browser kept nothing
    chosen.page = chosen.http.post("/launch/study", data={"handle": handle, "study": wanted}, headers={"Origin": site.base})
    assert config_of(chosen)["studies"][0]["uid"] == next(iter(site.studies))
    other = site.town.site.studies["A"][0]
    for form in ({"handle": handle, "study": other}, {"handle": "x", "study": wanted}, {"study": wanted}, {"handle": handle}):
        refused = chosen.http.post("/launch/study", data=form, headers={"Origin": site.base})
        assert refused.status_code in (404, 410), form
    assert (
        chosen.http.post(
            "/launch/study", data={"handle": handle, "study": wanted}, headers={"Origin": "https://evil.example"}
        ).status_code
        == 403
    )


def test_its_token_opens_this_patient_and_nothing_else(site: Site) -> None:
    handle = site.launch().tree.xpath("//input[@name='handle']/@value")[0]
    token = site.town.visitor().http.post("/viewer/token", data={"handle": handle}).json()["token"]
    headers = {"Authorization": f"Bearer {token}"}
    http = site.town.visitor().http
    assert http.get(f"/dicomweb/studies/{next(iter(site.studies))}/metadata", headers=headers).status_code == 200
    assert http.get(f"/dicomweb/studies/{site.town.site.studies['A'][0]}/metadata", headers=headers).status_code in (403, 404)
    found = http.get("/dicomweb/studies", headers=headers).json()
    assert {each["0020000D"]["Value"][0] for each in found} == set(site.studies)
    assert http.post("/fhir/Consent", json={"resourceType": "Consent"}, headers=headers).status_code == 403


@pytest.mark.parametrize(
    ("says", "status", "words"),
    [
        ({"deny": True}, 403, "did not allow"),
        ({"patient": "78"}, 404, "no images of this patient"),
        ({"patient": "79"}, 404, "no images of this patient"),
        ({"patient": None}, 403, "whose images"),
        ({"patient": "../77"}, 503, "did not answer as it should"),
        ({"id_token": {"nonce": "another"}}, 403, "not right"),
        ({"id_token": {"aud": "another"}}, 403, "not right"),
        ({"id_token": {"iss": "https://evil.example"}}, 403, "not right"),
        ({"id_token": {"exp": 1}}, 403, "not right"),
        ({"back": {"iss": "https://evil.example"}}, 403, "not right"),
    ],
)
def test_what_an_ehr_may_say_that_opens_nothing(site: Site, says: dict[str, Any], status: int, words: str) -> None:
    site.ehr.says |= says
    visitor = site.launch()
    assert visitor.page.status_code == status, visitor.text
    assert words in visitor.text
    assert "viewer-config" not in visitor.page.text


def test_a_state_is_good_once(site: Site) -> None:
    visitor = site.town.visitor()
    started = visitor.http.get("/launch", params={"iss": site.ehr.fhir, "launch": "l1"})
    back = site.answer(started.headers["location"])
    assert visitor.get(back).status_code == 200
    assert visitor.get(back).status_code == 410
    assert "over" in visitor.text


@pytest.mark.parametrize("query", ["", "?state=x", "?state=x&code=y", "?code=y", "?error=access_denied"])
def test_an_answer_to_no_question(site: Site, query: str) -> None:
    visitor = site.town.visitor()
    assert visitor.get(f"/launch/back{query}").status_code == 410


def test_a_state_that_is_too_old(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    visitor = site.town.visitor()
    started = visitor.http.get("/launch", params={"iss": site.ehr.fhir, "launch": "l1"})
    back = site.answer(started.headers["location"])
    later = micros() + (ehr_launch.SECONDS + 1) * 1_000_000
    monkeypatch.setattr(ehr_launch, "micros", lambda: later)
    assert visitor.get(back).status_code == 410


@pytest.mark.parametrize("query", [{"iss": "https://evil.example/fhir"}, {"iss": ""}, {"launch": ""}, {"launch": "x" * 5000}])
def test_only_ehrs_that_are_known_launch(site: Site, query: dict[str, str]) -> None:
    refused = site.launch(**query)
    assert refused.page.status_code == 403
    assert "not connected" in refused.text
    assert site.ehr.base in refused.page.headers["content-security-policy"], "it says so in the frame"


def test_who_may_frame_it(site: Site) -> None:
    visitor = site.launch()
    assert f"frame-ancestors {site.ehr.base}" in visitor.page.headers["content-security-policy"]
    assert "x-frame-options" not in visitor.page.headers
    assert "set-cookie" not in visitor.page.headers
    assert visitor.page.headers["referrer-policy"] == "same-origin", (
        "with none at all browsers would not say that the form is ours"
    )


def test_it_ends_with_the_ehrs_token_and_goes_on_by_its_refresh_token(site: Site) -> None:
    site.ehr.says |= {"expires_in": 60, "refresh": True}
    handle = site.launch().tree.xpath("//input[@name='handle']/@value")[0]
    http, before = site.town.visitor().http, len(site.ehr.asked)
    assert http.post("/viewer/token", data={"handle": handle}).status_code == 200
    assert site.ehr.asked[before:] == ["refresh_token"]
    assert http.post("/viewer/token", data={"handle": handle}).status_code == 200, "with the token that came with it"
    site.ehr.says["deny"] = True
    first = http.post("/viewer/token", data={"handle": handle}).json()
    assert first["expires"] <= micros() / 1_000_000 + 60, "it was not prolonged"


def test_an_ehr_that_is_away_for_a_while_is_asked_again(site: Site) -> None:
    site.ehr.says |= {"expires_in": 60, "refresh": True}
    handle = site.launch().tree.xpath("//input[@name='handle']/@value")[0]
    http = site.town.visitor().http
    site.ehr.says |= {"away": True, "expires_in": 3600}
    short = http.post("/viewer/token", data={"handle": handle}).json()
    assert short["expires"] <= micros() / 1_000_000 + 60
    site.ehr.says["away"] = False
    assert http.post("/viewer/token", data={"handle": handle}).json()["expires"] > micros() / 1_000_000 + 300


def test_with_a_secret(tmp_path: Path) -> None:
    socket_ = ehrs.free()
    port = socket_.getsockname()[1]
    connected = {
        "issuer": f"http://localhost:{port}/fhir", "client_id": ehrs.CLIENT, "client_secret": "s3cret", "patient_authority": "1.2.3",
        "patient_system": ehrs.SYSTEM,
    }  # fmt: skip
    with (
        pages(tmp_path, ehrs=(connected,), fetch_allowed_hosts=(f"localhost:{port}",)) as town,
        ehrs.running(socket_, town.site.base) as ehr,
    ):
        ehr.knows("77", "nobody's here")
        for secret, status in (("s3cret", 404), ("another", 403)):
            ehr.says = {"patient": "77", "secret": secret}
            assert Site(town, ehr, {}).launch().page.status_code == status, "after the code was exchanged, or not"


def test_without_a_refresh_token_it_ends(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.ehr.says["expires_in"] = 60
    handle = site.launch().tree.xpath("//input[@name='handle']/@value")[0]
    later = micros() + 61_000_000
    monkeypatch.setattr("server.access.viewing.micros", lambda: later)
    assert site.town.visitor().http.post("/viewer/token", data={"handle": handle}).status_code == 401


def test_the_trail_says_which_ehr_and_who(site: Site) -> None:
    site.launch()
    with site.town.site.node.database.read() as connection:
        bodies = [orjson.loads(each.body) for each in trail.events(connection, limit=20)]
    assert any("imageshare-viewer" in orjson.dumps(each).decode() for each in bodies)


# --- Invoke Image Display (RAD-106), and launches by ourselves


@pytest.fixture
def patient(site: Site) -> Visitor:
    """Somebody signed in who may see the studies."""
    with site.town.site.node.database.write() as connection:
        (id_,) = connection.execute(text("select id from patient where value = 'M-77'")).scalars()
        accounts.own(connection, site.town.site.people["patient"].id, id_)
    return site.town.signed_in("patient")


def invoked(site: Site, visitor: Visitor, **asked: str) -> str:
    visitor.get("/IHEInvokeImageDisplay", **asked)
    return str(visitor.page.url.path)


def test_another_system_invokes_the_display(site: Site, patient: Visitor) -> None:
    (old, old_id), (_new, new_id) = site.studies.items()
    person = f"M-77^^^&{AUTHORITY}&ISO"
    assert invoked(site, patient, requestType="STUDY", studyUID=old) == f"/images/{old_id}/view"
    assert invoked(site, patient, requestType="STUDY", accessionNumber="CT-2026-0001") == f"/images/{new_id}/view"
    assert invoked(site, patient, requestType="PATIENT", patientID=person, mostRecentResults="1") == f"/images/{new_id}/view"
    assert (
        invoked(site, patient, requestType="PATIENT", patientID=person, upperDateTime="2026-01-07T23:59:59")
        == f"/images/{old_id}/view"
    )
    assert invoked(site, patient, requestType="PATIENT", patientID=person, modalitiesInStudy="MR") == "/IHEInvokeImageDisplay"
    assert patient.page.status_code == 404


@pytest.mark.parametrize(
    ("asked", "status"),
    [
        ({}, 400), ({"requestType": "STUDY"}, 400), ({"requestType": "SERIES", "studyUID": "1.2"}, 400), ({"requestType": "PATIENT"}, 400),
        ({"requestType": "PATIENT", "patientID": "M-77"}, 400), ({"requestType": "STUDY", "studyUID": "1.2", "accessionNumber": "1"}, 400),
        ({"requestType": "STUDY", "studyUID": "1.2.3"}, 404), ({"requestType": "PATIENT", "patientID": "M-99^^^&1.2&ISO"}, 404),
    ],
)  # fmt: skip
def test_invocations_that_show_nothing(site: Site, patient: Visitor, asked: dict[str, str], status: int) -> None:
    assert invoked(site, patient, **asked) == "/IHEInvokeImageDisplay"
    assert patient.page.status_code == status


def test_others_images_are_not_displayed(site: Site, patient: Visitor) -> None:
    other = site.town.signed_in("other")
    invoked(site, other, requestType="STUDY", studyUID=next(iter(site.studies)))
    assert other.page.status_code == 404


def test_who_has_not_signed_in_comes_there_afterwards(site: Site, patient: Visitor) -> None:
    old, id_ = next(iter(site.studies.items()))
    visitor = site.town.visitor()
    assert invoked(site, visitor, requestType="STUDY", studyUID=old) == "/sign-in"
    visitor.sign_in("patient@example.org")
    assert visitor.page.url.path == f"/images/{id_}/view"


def test_we_launch_it_ourselves(tmp_path: Path) -> None:
    """This server as the EHR: a registered client launches our own viewer, by our own authorization server, with the same person's rights."""
    socket_ = ehrs.free()
    port = socket_.getsockname()[1]
    base = f"http://127.0.0.1:{port}"
    given: dict[str, Any] = {
        "ehrs": ({"issuer": f"{base}/fhir", "client_id": "viewer"},),
        "fetch_allowed_hosts": (f"127.0.0.1:{port}",),
    }
    with pages(tmp_path, http_port=port, **given) as town, served(town.site.http.app, socket_):
        site = town.site
        with site.node.database.write() as connection:
            scope = "launch openid fhirUser patient/Patient.rs patient/ImagingStudy.rs"
            clients.add(connection, Client("viewer", "Viewer", "public", redirect_uris=(f"{base}/launch/back",), scope=scope))
        handle = site.launch(app="viewer", patient=site.patients["A"]).json()["launch"]
        started = site.http.get("/launch", params={"iss": f"{base}/fhir", "launch": handle})
        back = site.agree(site.http.get(started.headers["location"]), "patient")
        visitor = town.visitor()
        visitor.get("/launch/back", **back)
        if "Which images?" in visitor.text:
            form = {
                "handle": visitor.tree.xpath("//input[@name='handle']/@value")[0],
                "study": visitor.tree.xpath("//button[@name='study']/@value")[0],
            }
            visitor.page = visitor.http.post("/launch/study", data=form, headers={"Origin": base})
        viewer = config_of(visitor)
        assert {each["uid"] for each in viewer["studies"]} == set(site.studies["A"])
        assert site.http.post("/viewer/token", data={"handle": viewer["handle"]}).status_code == 200
        with site.node.database.write() as connection:
            accounts.disable(connection, site.people["patient"].id)
        ended = site.http.post("/viewer/token", data={"handle": viewer["handle"]})
        assert ended.status_code == 401, "with the rights of the person, and no longer"

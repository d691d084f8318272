"""SMART apps of others, unmodified, over a real socket: standalone and EHR launch, refresh, and images with the same token."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import httpx2
import pytest
from dicomweb_client.api import DICOMwebClient
from dicomweb_client.session_utils import create_session_from_auth
from fhirclient.client import FHIRClient
from fhirclient.models.imagingstudy import ImagingStudy
from peers import node_clients
from peers.requires import requires
from peers.smart_site import BACK, SmartSite, listening
from requests.auth import AuthBase

SCOPE = "launch/patient openid fhirUser offline_access patient/*.read"
NATIVE = "openid fhirUser offline_access patient/*.rs"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SmartSite]:
    folder: Path = tmp_path_factory.mktemp("apps")
    with listening(folder / "data") as made:
        yield made


def agreed(site: SmartSite, url: str, who: str = "patient") -> str:
    """Where the browser is sent, once the person has agreed to what the app asks at `url`."""
    response = httpx2.get(url, follow_redirects=False)
    answer = site.agree(response, who)
    asked = dict(parse_qsl(urlsplit(url).query))
    return f"{asked['redirect_uri']}?{urlencode(answer)}"


# --- fhirclient for Python


def _python_app(site: SmartSite, client: str, **more: Any) -> FHIRClient:
    secret = {"app_secret": site.secret[client]} if client in site.secret else {}
    return FHIRClient({"app_id": client, "api_base": f"{site.base}/fhir", "redirect_uri": BACK, "scope": SCOPE, **secret, **more})


@requires(348, 353, 355, 356)
@pytest.mark.parametrize("client", ["public", "secret"])
def test_fhirclient_of_python_standalone(site: SmartSite, client: str) -> None:
    app = _python_app(site, client)
    app.prepare()
    app.handle_callback(agreed(site, app.authorize_url))
    assert app.patient is not None
    assert app.patient.id == site.patients["A"]
    assert app.launch_context["need_patient_banner"] is True
    found = list(ImagingStudy.where({"patient": app.patient.id}).perform_resources_iter(app.server))
    assert {each.identifier[0].value for each in found} == {f"urn:oid:{uid}" for uid in site.studies["A"]}
    before = app.server.auth.access_token
    assert app.reauthorize()
    assert app.server.auth.access_token != before
    assert len(list(ImagingStudy.where({}).perform_resources_iter(app.server))) == 2


@requires(349, 352)
@pytest.mark.parametrize("client", ["public", "secret"])
def test_fhirclient_of_python_from_an_ehr(site: SmartSite, client: str) -> None:
    handle = site.launch(client, patient=site.patients["B"]).json()["launch"]
    app = _python_app(site, client, launch_token=handle, scope="openid fhirUser patient/*.read")
    app.handle_callback(agreed(site, app.authorize_url, "practitioner"))
    assert app.patient is not None
    assert app.patient.id == site.patients["B"]


# --- fhirclient.js


def _visited(port: int, path: str) -> httpx2.Response:
    return httpx2.get(f"http://127.0.0.1:{port}{path}", follow_redirects=False, timeout=30)


@requires(348, 349, 352, 353)
@pytest.mark.parametrize("launched", [False, True])
def test_fhirclient_js(site: SmartSite, launched: bool) -> None:
    scope = f"launch {NATIVE}" if launched else f"launch/patient {NATIVE}"
    try:
        with node_clients.running("smart-app.mjs", f"{site.base}/fhir", "native", "-", scope) as app:
            handle = site.launch("native", patient=site.patients["A"]).json()["launch"]
            query = f"?{urlencode({'iss': f'{site.base}/fhir', 'launch': handle})}" if launched else ""
            begun = _visited(app["port"], f"/launch{query}")
            assert begun.status_code == 302, begun.text
            back = urlsplit(agreed(site, begun.headers["location"]))
            step = _visited(app["port"], f"{back.path}?{back.query}")
            while step.status_code == 302:
                to = urlsplit(step.headers["location"])
                step = _visited(app["port"], f"{to.path}?{to.query}")
            told = step.json()
    except node_clients.NoNode as reason:
        pytest.skip(str(reason))
    assert "error" not in told, told
    assert told["patient"]["id"] == told["after"] == site.patients["A"]
    assert {each["identifier"][0]["value"] for each in told["studies"]} == {f"urn:oid:{uid}" for uid in site.studies["A"]}
    assert told["refreshed"] is True
    assert told["user"] == f"Patient/{site.patients['A']}"
    assert told["token"]["need_patient_banner"] is True


# --- openid-client


def _relying(site: SmartSite, **given: Any) -> Any:
    try:
        return node_clients.run("openid-client.mjs", json.dumps({"issuer": site.base, "aud": f"{site.base}/fhir", **given}))
    except node_clients.NoNode as reason:
        pytest.skip(str(reason))


@requires(205, 210, 355, 356, 357, 358)
@pytest.mark.parametrize("client", ["public", "secret", "asymmetric"])
def test_openid_client(site: SmartSite, client: str) -> None:
    """It checks `iss` of the answer, and signature, `iss`, `aud`, times and nonce of the ID token."""
    how: dict[str, Any] = {"how": "none"}
    if client in site.secret:
        how = {"how": "secret", "secret": site.secret[client]}
    elif client in site.keys:
        how = {"how": "key", "key": site.keys[client].as_dict(private=True)}
    common = {
        "client": client, "scope": "launch/patient openid fhirUser offline_access patient/*.rs", "redirect": BACK, "verifier": "v" * 43,
        "state": "s1", "nonce": "n1", **how,
    }  # fmt: skip
    begun = _relying(site, **common)
    assert begun["issuer"] == site.base
    told = _relying(site, **common, callback=agreed(site, begun["url"]))
    assert told["claims"]["sub"] == site.people["patient"].id
    assert told["claims"]["fhirUser"] == f"{site.base}/fhir/Patient/{site.patients['A']}"
    assert told["tokens"]["patient"] == site.patients["A"]
    assert told["refreshed"]["access_token"] != told["tokens"]["access_token"]
    assert (told["after"], told["again"]) == ("invalid_grant", "invalid_grant")


def test_openid_client_as_a_service(site: SmartSite) -> None:
    key = site.keys["backend"].as_dict(private=True)
    told = _relying(site, client="backend", how="key", key=key, scope="system/*.rs", service=True)
    assert told["tokens"]["scope"] == "system/*.rs"
    assert told["introspected"]["active"] is True


# --- images with the same token


class _Bearer(AuthBase):
    def __init__(self, token: str) -> None:
        self._token = token

    def __call__(self, request: Any) -> Any:
        request.headers["Authorization"] = f"Bearer {self._token}"
        return request


def test_a_dicomweb_client_with_the_token_of_a_launch(site: SmartSite) -> None:
    token = site.tokens(scope="launch/patient patient/ImagingStudy.rs")["access_token"]
    images = DICOMwebClient(f"{site.base}/dicomweb", session=create_session_from_auth(_Bearer(token)))
    found = images.search_for_studies()
    assert {each["0020000D"]["Value"][0] for each in found} == set(site.studies["A"])
    (instance,) = images.retrieve_study(site.studies["A"][0])
    assert instance.PatientID == "A"
    with pytest.raises(Exception, match="403"):
        images.retrieve_study(site.studies["B"][0])

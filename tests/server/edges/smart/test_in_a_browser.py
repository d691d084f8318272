"""SMART's fhirclient.js, unmodified, in Chromium: an app on another site than ours, opened by an EHR and by a person, until its token is renewed."""

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode

import pytest
from peers import browser_app_server
from peers.browser import NoBrowser, Window, chromium, window
from peers.node_clients import NoNode
from peers.people import PASSWORD
from peers.requires import requires
from peers.visitor import Pages, pages
from playwright.sync_api import Browser, expect

from server.access.oauth import clients
from server.access.oauth.clients import Client

pytestmark = pytest.mark.peers
_SCOPE = "openid fhirUser offline_access patient/*.rs"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    try:
        with chromium() as running:
            yield running
    except NoBrowser as reason:
        pytest.skip(str(reason))


@pytest.fixture(scope="module")
def origin() -> Iterator[str]:
    """Where the app is."""
    try:
        with browser_app_server.app() as url:
            yield url
    except NoNode as reason:
        pytest.skip(str(reason))


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory, origin: str) -> Iterator[Pages]:
    """Our pages on a socket, where the app is known; and another that says it is from elsewhere."""
    with pages(tmp_path_factory.mktemp("site"), on_a_socket=True) as opened:
        back, scope = (f"{origin}/index.html",), f"launch launch/patient {_SCOPE}"
        with opened.site.node.database.write() as connection:
            clients.add(
                connection, Client("browser", "An app in a browser", "public", redirect_uris=back, scope=scope, origins=(origin,))
            )
            clients.add(connection, Client("elsewhere", "An app without origin", "public", redirect_uris=back, scope=scope))
        yield opened


@pytest.fixture
def view(browser: Browser) -> Iterator[Window]:
    with window(browser) as opened:
        yield opened


def _launch(real: Pages, origin: str, **asked: str) -> str:
    return f"{origin}/launch.html?{urlencode({'client': 'browser', **asked})}"


def _allow(view: Window, who: str) -> None:
    """What the person does between the app's first page and its second."""
    page = view.page
    page.get_by_label("E-mail address").fill(f"{who}@example.org")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in", exact=True).click()
    page.get_by_role("button", name="Allow", exact=True).click()


def _told(view: Window, origin: str) -> dict[str, Any]:
    """What the app sees in the end."""
    view.page.wait_for_url(f"{origin}/index.html**")
    told = view.page.locator("#told")
    expect(told).not_to_be_empty(timeout=30_000)
    found: dict[str, Any] = json.loads(told.inner_text())
    return found


def _is_whole(real: Pages, told: dict[str, Any], patient: str) -> None:
    assert "error" not in told, told
    assert told["patient"] == told["after"] == told["token"]["patient"] == real.site.patients[patient]
    assert set(told["studies"]) == {f"urn:oid:{uid}" for uid in real.site.studies[patient]}
    assert told["refreshed"] is True
    status, size = told["images"]
    assert status == 200
    assert size > 500
    assert told["cookies"] == ""


@requires(348, 353)
def test_standalone(view: Window, real: Pages, origin: str) -> None:
    view.page.goto(_launch(real, origin, fhir=f"{real.site.base}/fhir", scope=f"launch/patient {_SCOPE}"))
    _allow(view, "patient")
    told = _told(view, origin)
    _is_whole(real, told, "A")
    assert told["user"] == f"Patient/{real.site.patients['A']}"
    assert view.wrongs == []


@requires(349, 352)
def test_from_an_ehr(view: Window, real: Pages, origin: str) -> None:
    handle = real.site.launch("browser", patient=real.site.patients["B"]).json()["launch"]
    view.page.goto(_launch(real, origin, iss=f"{real.site.base}/fhir", launch=handle, scope=f"launch {_SCOPE}"))
    _allow(view, "practitioner")
    told = _told(view, origin)
    _is_whole(real, told, "B")
    assert told["user"] == "Practitioner/p1"
    assert view.wrongs == []


@requires(17)
def test_an_app_whose_origin_is_not_registered_is_kept_out_by_the_browser(view: Window, real: Pages, origin: str) -> None:
    """The origin is another client's, so that the preflight passes; the token is not for it, so that what it opens cannot be read."""
    view.page.goto(_launch(real, origin, client="elsewhere", fhir=f"{real.site.base}/fhir", scope=f"launch/patient {_SCOPE}"))
    _allow(view, "patient")
    told = _told(view, origin)
    assert "error" in told
    assert real.site.patients["A"] not in json.dumps(told)


def test_who_refuses_is_back_in_the_app(view: Window, real: Pages, origin: str) -> None:
    view.page.goto(_launch(real, origin, fhir=f"{real.site.base}/fhir", scope=f"launch/patient {_SCOPE}"))
    view.page.get_by_label("E-mail address").fill("patient@example.org")
    view.page.get_by_label("Password").fill(PASSWORD)
    view.page.get_by_role("button", name="Sign in", exact=True).click()
    view.page.get_by_role("button", name="Don’t allow", exact=True).click()
    told = _told(view, origin)
    assert "access_denied" in told["error"] or "denied" in told["error"].lower()

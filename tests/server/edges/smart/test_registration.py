"""RFC 7591 and 7592: apps that register themselves, where that is allowed."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from joserfc.jwk import ECKey, RSAKey
from peers.listener import answer, listening
from peers.requires import requires
from peers.smart_site import ASSERTION_TYPE, BACK, SmartSite, smart_site

from server.access.oauth import clients
from server.access.oauth.public_keys import ALGORITHMS, chosen, require_public
from server.errors import Refused

INITIAL = "initial-access-token-of-this-test"
KEYS = {"keys": [ECKey.generate_key("P-384", {"kid": "k1"}).as_dict(private=False)]}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, module_database_url: str) -> Iterator[SmartSite]:
    folder: Path = tmp_path_factory.mktemp("registration")
    with smart_site(folder / "data", module_database_url, client_registration="token", client_registration_token=INITIAL) as made:
        yield made


def register(site: SmartSite, token: str = INITIAL, **changed: Any) -> Any:
    body = {"client_name": "My app", "redirect_uris": [BACK], "token_endpoint_auth_method": "none", **changed}
    return site.http.post("/oauth/register", json=body, headers={"Authorization": f"Bearer {token}"} if token else {})


@requires(24, 297, 316)
@pytest.mark.parametrize("method", ["none", "client_secret_basic", "client_secret_post", "private_key_jwt"])
def test_every_kind_registers_itself(site: SmartSite, method: str) -> None:
    keys = {"jwks": KEYS} if method == "private_key_jwt" else {}
    told = register(site, token_endpoint_auth_method=method, grant_types=["authorization_code", "refresh_token"], **keys)
    assert told.status_code == 201, told.text
    assert told.headers["cache-control"] == "no-store"
    body = told.json()
    assert ("client_secret" in body) == method.startswith("client_secret")
    assert body["redirect_uris"] == [BACK]
    assert body["client_name"] == "My app"
    if "client_secret" in body:
        assert body["client_secret_expires_at"] == 0
        site.secret[body["client_id"]] = body["client_secret"]
    if method != "private_key_jwt":
        assert site.tokens(body["client_id"], "patient/*.rs offline_access")["refresh_token"]


@requires(296)
def test_keys_by_url(site: SmartSite) -> None:
    told = register(site, token_endpoint_auth_method="private_key_jwt", jwks_uri="https://app.example.org/jwks")
    assert told.json()["jwks_uri"] == "https://app.example.org/jwks"


@requires(438)
def test_not_without_the_initial_access_token(site: SmartSite, tmp_path: Path) -> None:
    for token in ("", "x", INITIAL[:-1], INITIAL.upper()):
        assert register(site, token).status_code == 401
    with smart_site(tmp_path / "closed") as closed:
        assert register(closed).status_code == 403
        assert "registration_endpoint" not in closed.http.get("/fhir/.well-known/smart-configuration").json()
    with smart_site(tmp_path / "open", client_registration="open") as opened:
        assert register(opened, "").status_code == 201
        assert (
            opened.http.get("/fhir/.well-known/smart-configuration").json()["registration_endpoint"].endswith("/oauth/register")
        )


def test_nobody_registers_for_more_than_the_setting_lets(site: SmartSite) -> None:
    told = register(site, scope="system/*.cruds user/*.cruds patient/*.cruds patient/ImagingStudy.rs openid").json()
    assert told["scope"] == "patient/*.rs patient/ImagingStudy.rs openid"
    assert register(site, grant_types=["client_credentials"]).json()["error"] == "invalid_client_metadata"
    assert register(site, grant_types=["implicit"]).json()["error"] == "invalid_client_metadata"
    mine = register(site, may=["introspect", "launch"], reach=None, device="Device/x").json()
    with site.node.database.read() as connection:
        client = clients.find(connection, mine["client_id"])
    assert client is not None
    assert (client.may, client.device) == (frozenset(), "")


@pytest.mark.parametrize(
    "changed",
    [
        {"redirect_uris": []},
        {"redirect_uris": None},
        {"redirect_uris": ["http://app.example.org/back"]},
        {"redirect_uris": ["https://app.example.org/back#x"]},
        {"redirect_uris": ["https://u@app.example.org/back"]},
        {"redirect_uris": ["https://*.example.org/back"]},
        {"redirect_uris": ["javascript:alert(1)"]},
        {"redirect_uris": ["data:x"]},
        {"redirect_uris": ["app:/back"]},
        {"redirect_uris": ["javascript.x:/back"]},
        {"redirect_uris": ["data.x:/back"]},
        {"redirect_uris": ["https:///back"]},
        {"redirect_uris": ["https://app.example.org/b ack"]},
        {"redirect_uris": [BACK, 7]},
        {"redirect_uris": [BACK] * 21},
        {"client_name": ""},
        {"client_name": "x" * 201},
        {"client_name": "a\nb"},
        {"client_name": None},
        {"token_endpoint_auth_method": "client_secret_jwt"},
        {"token_endpoint_auth_method": "private_key_jwt"},
        {"token_endpoint_auth_method": "private_key_jwt", "jwks": {"keys": []}},
        {"token_endpoint_auth_method": "private_key_jwt", "jwks": KEYS, "jwks_uri": "https://app.example.org/jwks"},
        {"jwks": KEYS},
        {"response_types": ["token"]},
        {"logo_uri": "javascript:alert(1)"},
        {"logo_uri": "file:///etc/passwd"},
        {"jwks_uri": "ftp://x"},
        {"token_endpoint_auth_method": "private_key_jwt", "jwks_uri": "http://app.example.org/jwks"},
        {"token_endpoint_auth_method": "private_key_jwt", "jwks_uri": "http://127.0.0.1/jwks"},
    ],
)
def test_metadata_that_are_wrong(site: SmartSite, changed: dict[str, Any]) -> None:
    refused = register(site, **changed)
    assert refused.status_code == 400, refused.text
    assert refused.json()["error"] in ("invalid_client_metadata", "invalid_redirect_uri")


def test_it_is_told_what_is_wrong(site: SmartSite) -> None:
    """RFC 7591 section 3.2.2."""
    assert register(site, redirect_uris=["http://app.example.org/back"]).json()["error"] == "invalid_redirect_uri"
    refused = register(site, token_endpoint_auth_method="client_secret_jwt").json()
    assert refused["error_description"].startswith("token_endpoint_auth_method is one of none, client_secret_basic")


def test_what_is_no_json_object(site: SmartSite) -> None:
    headers = {"Authorization": f"Bearer {INITIAL}", "Content-Type": "application/json"}
    for content in (b"[]", b"7", b"null"):
        assert site.http.post("/oauth/register", content=content, headers=headers).status_code == 400
    assert site.http.post("/oauth/register", content=b"{", headers=headers).status_code == 400
    assert site.http.post("/oauth/register", data={"a": "b"}, headers={"Authorization": f"Bearer {INITIAL}"}).status_code == 415


def test_a_client_reads_changes_and_deletes_itself(site: SmartSite) -> None:
    """RFC 7592 section 2."""
    told = register(site).json()
    url, headers = told["registration_client_uri"], {"Authorization": f"Bearer {told['registration_access_token']}"}
    read = site.http.get(url, headers=headers)
    assert read.json()["client_id"] == told["client_id"]
    assert "client_secret" not in read.json()
    tokens = site.tokens(told["client_id"])
    changed = {
        "client_id": told["client_id"],
        "client_name": "Other",
        "redirect_uris": [BACK],
        "token_endpoint_auth_method": "none",
    }
    assert site.http.put(url, json=changed, headers=headers).json()["client_name"] == "Other"
    for wrong in ({"client_id": "public"}, {"token_endpoint_auth_method": "client_secret_basic"}, {"redirect_uris": ["x"]}):
        assert site.http.put(url, json={**changed, **wrong}, headers=headers).status_code == 400
    for bad in ({}, {"Authorization": "Bearer x"}, {"Authorization": f"Bearer {INITIAL}"}):
        for method in ("GET", "DELETE"):
            assert site.http.request(method, url, headers=bad).status_code == 401
        assert site.http.put(url, json=changed, headers=bad).status_code == 401
    for other in ("public", "secret", "nobody"):
        assert site.http.get(f"/oauth/register/{other}", headers=headers).status_code == 401
    assert site.http.delete(url, headers=headers).status_code == 204
    assert site.http.get(url, headers=headers).status_code == 401
    assert site.fhir("ImagingStudy", tokens["access_token"]).status_code == 401


@pytest.mark.parametrize(
    "changed", [{"client_name": "General Hospital viewer"}, {"redirect_uris": ["https://app.example.org/other"]}]
)
def test_what_was_allowed_an_app_of_another_name_or_address_is_over(site: SmartSite, changed: dict[str, Any]) -> None:
    """Whoever allowed it has not seen that. What changes otherwise changes nothing."""
    grants, session = ["authorization_code", "refresh_token"], site.session("patient")
    told = register(site, grant_types=grants).json()
    url, own = f"/oauth/register/{told['client_id']}", {"Authorization": f"Bearer {told['registration_access_token']}"}
    same = {"client_id": told["client_id"], "client_name": "My app", "redirect_uris": [BACK], "grant_types": grants}
    same["token_endpoint_auth_method"] = "none"
    tokens = site.tokens(told["client_id"], "patient/*.rs offline_access")
    waiting = site.authorize(site.asking(told["client_id"]))
    assert site.http.put(url, json={**same, "contacts": ["a@example.org"]}, headers=own).status_code == 200
    assert site.fhir("ImagingStudy", tokens["access_token"]).status_code == 200
    asked = site.node.authorizing.asked(waiting.headers["location"].rpartition("/")[2])
    assert asked is not None
    shown = site.node.authorizing.digest(asked, session, patient=site.patients["A"])
    assert site.http.put(url, json={**same, **changed}, headers=own).status_code == 200
    assert site.fhir("ImagingStudy", tokens["access_token"]).status_code == 401
    assert site.refresh(tokens["refresh_token"], told["client_id"]).json()["error"] == "invalid_grant"
    again = site.node.authorizing.asked(asked.request_id)
    assert again is None or site.node.authorizing.digest(again, session, patient=site.patients["A"]) != shown


def test_what_a_client_does_with_itself_is_in_the_trail(site: SmartSite) -> None:
    """Who, what and from where; no secret and no token. What was refused is no change."""
    told = register(site, token_endpoint_auth_method="client_secret_basic").json()
    url, own = f"/oauth/register/{told['client_id']}", {"Authorization": f"Bearer {told['registration_access_token']}"}
    changed = {"client_id": told["client_id"], "client_name": "Another", "redirect_uris": [BACK]}
    assert site.http.put(url, json=changed, headers=own).status_code == 200
    assert site.http.put(url, json={**changed, "redirect_uris": []}, headers=own).status_code == 400
    assert site.http.delete(url, headers=own).status_code == 204
    mine = [each for each in reversed(site.events()) if told["client_id"] in str(each.get("entity"))]
    assert [each["outcomeDesc"] for each in mine] == [f"client {what} by itself" for what in ("registered", "changed", "removed")]
    for each in mine:
        assert each["agent"][0]["who"]["identifier"]["value"] == told["client_id"]
        assert each["agent"][0]["network"]["address"]
        assert not any(told[name] in str(each) for name in ("client_secret", "registration_access_token"))


# --- strangers: whoever registers itself says what it likes


@pytest.fixture
def opened(tmp_path: Path, database_url: str) -> Iterator[SmartSite]:
    with smart_site(tmp_path / "data", database_url, client_registration="open", fetch_allowed_hosts=["127.0.0.1"]) as made:
        yield made


def _asserted(site: SmartSite, client: str) -> Any:
    key = ECKey.generate_key("P-384", {"kid": "k1"})
    form = {"client_assertion_type": ASSERTION_TYPE, "client_assertion": site.assertion(client, key=key)}
    return site.http.post("/oauth/token", data={"grant_type": "authorization_code", "code": "x", **form})


@pytest.mark.parametrize("name", ["jwks_uri", "logo_uri", "client_uri"])
def test_hosts_of_our_own_are_none_of_strangers(opened: SmartSite, name: str) -> None:
    """`fetch_allowed_hosts` is for whom an administrator registers."""
    with listening(answer(b'{"keys":[]}')) as inside:
        url = f"http://127.0.0.1:{inside.port}/admin/restart?now=yes"
        told = register(
            opened, token_endpoint_auth_method="private_key_jwt", **{"jwks_uri": "https://app.example.org/jwks", name: url}
        )
        assert told.json()["error"] == "invalid_client_metadata"
        told = register(opened, token_endpoint_auth_method="private_key_jwt", jwks_uri=url.replace("http:", "https:"))
        assert told.status_code == 201
        assert _asserted(opened, told.json()["client_id"]).json()["error"] == "invalid_client"
        with opened.node.database.write() as connection:  # as if it had been taken once
            connection.execute(
                clients.CLIENT.update().where(clients.CLIENT.c.id == told.json()["client_id"]).values(jwks_uri=url, logo_uri=url)
            )
        assert _asserted(opened, told.json()["client_id"]).json()["error"] == "invalid_client"
        assert opened.node.logos.picture(url, of_stranger=True) is None
        assert inside.connections == 0
        assert opened.node.logos.picture(url) is None
        assert inside.connections == 1


def test_slow_urls_of_strangers_keep_nobody_elses_waiting(
    tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many as may wait at once wait for hosts that take TLS and say nothing; the issuer of the settings is still asked."""
    monkeypatch.setattr("server.outbound.web.is_public", lambda _: True)
    trusted = {"issuer": "https://ehr.example.org", "patient_authority": "1.2.3.4", "client_id": "a", "client_secret": "b"}
    silent = answer()
    with listening(silent) as one, listening(silent) as two, listening(answer(b'{"active":false}')) as ehr:
        asked = {**trusted, "introspection_endpoint": f"http://127.0.0.1:{ehr.port}/i"}
        settings = {"client_registration": "open", "fetch_allowed_hosts": ["127.0.0.1"], "trusted_issuers": [asked]}
        with smart_site(tmp_path / "data", database_url, **settings) as site, ThreadPoolExecutor(24) as pool:
            told = [
                register(site, token_endpoint_auth_method="private_key_jwt", jwks_uri=f"https://{each}/jwks").json()["client_id"]
                for each in (f"127.0.0.1:{one.port}", f"localhost:{two.port}")
            ]
            strangers = site.node.logos._web[True]
            waiting = [pool.submit(_asserted, site, each) for each in told * 12]
            while strangers._waiting.total() < 24 and not any(each.done() for each in waiting):
                time.sleep(0.01)
            assert not any(each.done() for each in waiting)
            assert site.fhir("ImagingStudy", "an-opaque-token-of-the-ehr").status_code == 401
            assert {each.result().json()["error"] for each in waiting} == {"invalid_client"}


def test_a_browser_app_may_call_from_where_it_is_sent_back_to(opened: SmartSite, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.edges.smart.cors._FRESH_SECONDS", -1.0)
    uris = [
        "https://SPA.example.net/back",
        "https://spa.example.net:443/other",
        "https://[2001:db8::1]:8443/b",
        "org.example.app:/back",
    ]
    told = register(opened, redirect_uris=[*uris, "http://127.0.0.1/back"]).json()
    known = opened.node.oauth.query_client(told["client_id"])
    assert known is not None
    assert known.origins == ("https://spa.example.net", "https://[2001:db8::1]:8443")
    for origin, allowed in (("https://spa.example.net", True), ("https://evil.example.net", False)):
        preflight = opened.http.options("/oauth/token", headers={"Origin": origin, "Access-Control-Request-Method": "POST"})
        assert preflight.headers.get("access-control-allow-origin") == (origin if allowed else None)
    secret = register(opened, token_endpoint_auth_method="client_secret_basic").json()
    held = opened.node.oauth.query_client(secret["client_id"])
    assert held is not None
    assert held.origins == ()


def test_a_client_that_changes_itself_all_day_is_stopped(opened: SmartSite) -> None:
    """Each change has every kept Decision made anew. Of nobody else's changes any are used up."""
    app, other = register(opened).json(), register(opened).json()

    def change(whose: dict[str, Any], token: str) -> int:
        body = {
            "client_id": whose["client_id"],
            "client_name": "x",
            "redirect_uris": [BACK],
            "token_endpoint_auth_method": "none",
        }
        url = whose["registration_client_uri"]
        return int(opened.http.put(url, json=body, headers={"Authorization": f"Bearer {token}"}).status_code)

    assert [change(app, "wrong") for _ in range(3)] == [401] * 3
    assert [change(app, app["registration_access_token"]) for _ in range(61)] == [200] * 60 + [429]
    assert change(other, other["registration_access_token"]) == 200
    own = {"Authorization": f"Bearer {app['registration_access_token']}"}
    assert opened.http.get(app["registration_client_uri"], headers=own).status_code == 200
    assert opened.http.delete(app["registration_client_uri"], headers=own).status_code == 204


def test_an_error_sends_nobody_to_whom_a_stranger_registered(opened: SmartSite) -> None:
    """RFC 9700 section 4.11.2: a link to us with a slip in it must not lead to them. What the person answers goes back."""
    app = register(opened, redirect_uris=["https://evil.example.net/back"]).json()
    for wrong in (
        {"scope": "nothing"},
        {"response_type": "token"},
        {"state": None},
        {"prompt": "none"},
        {"code_challenge": None},
    ):
        asking = opened.asking(app["client_id"], **{"redirect_uri": "https://evil.example.net/back", **wrong})
        for post in (False, True):
            answer = opened.authorize(asking, post=post)
            assert answer.status_code == 400
            assert "location" not in answer.headers
            assert "evil.example.net" not in answer.text
    asking = opened.asking(app["client_id"], redirect_uri="https://evil.example.net/back")
    assert "code" in opened.agree(opened.authorize(asking))


_VALUES: st.SearchStrategy[Any] = (
    st.none() | st.integers() | st.text(max_size=5) | st.lists(st.integers() | st.text(max_size=5), max_size=2) | st.just({})
)
_MEMBERS = st.sampled_from(["kty", "kid", "use", "key_ops", "alg", "crv", "x", "y", "n", "e"])


@given(
    changed=st.dictionaries(_MEMBERS, _VALUES, max_size=4),
    key=st.sampled_from([ECKey.generate_key("P-384"), RSAKey.generate_key(2048)]),
)
@example(changed={"key_ops": 5}, key=ECKey.generate_key("P-384"))
def test_whatever_a_key_is_made_of_it_is_taken_or_refused(changed: dict[str, Any], key: Any) -> None:
    jwks = {"keys": [{**key.as_dict(private=False), "kid": "k1", **changed}]}
    with suppress(Refused):
        require_public(jwks)
    for algorithm in ALGORITHMS:
        chosen(jwks, "k1", algorithm)


@pytest.mark.parametrize("name", ["client_uri", "logo_uri"])
def test_an_app_shows_no_page_or_picture_of_a_host_that_it_is_not_sent_back_to(site: SmartSite, name: str) -> None:
    """RFC 7591 section 5."""
    refused = register(site, **{name: "https://www.riverside-hospital.example/"})
    assert (refused.status_code, refused.json()["error"]) == (400, "invalid_client_metadata")
    native = register(site, redirect_uris=["org.example.app:/back"], **{name: "https://www.riverside-hospital.example/"})
    assert native.status_code == 400
    assert register(site, **{name: "https://app.example.org/about"}).json()[name] == "https://app.example.org/about"

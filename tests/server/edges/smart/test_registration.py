"""RFC 7591 and 7592: apps that register themselves, where that is allowed."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from joserfc.jwk import ECKey
from peers.requires import requires
from peers.smart_site import BACK, SmartSite, smart_site

from server.access.oauth import clients

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

"""What the server says of itself, and who may read what from another origin."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from authlib.oauth2.rfc8414 import AuthorizationServerMetadata
from authlib.oidc.discovery import OpenIDProviderMetadata
from fhir.resources.R4B.bundle import Bundle
from peers.requires import requires
from peers.smart_site import BACK, ORIGIN, SCOPE, SmartSite, smart_site

from server.access.oauth import clients
from server.access.oauth.clients import Client
from server.edges.smart.cors import OPEN

EVIL = "https://evil.example.org"
CONFIGURATION = "/fhir/.well-known/smart-configuration"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SmartSite]:
    folder: Path = tmp_path_factory.mktemp("discovery")
    with smart_site(folder / "data", public_url="https://images.example.org/share/") as made:
        yield made


@requires(30, 372, 373, 374, 377, 380)
@pytest.mark.parametrize("accept", ["", "*/*", "application/fhir+json", "application/fhir+xml", "text/html"])
def test_the_configuration_is_json_whatever_is_accepted(site: SmartSite, accept: str) -> None:
    found = site.http.get(CONFIGURATION, headers={"Accept": accept} if accept else {})
    assert found.status_code == 200
    assert found.headers["content-type"] == "application/json"


@requires(228, 285, 286, 287, 288, 289, 348, 349, 350, 351, 368, 370, 378, 381, 382, 383, 384, 385, 393, 394, 439)
def test_the_configuration_says_what_there_is(site: SmartSite) -> None:
    told = site.http.get(CONFIGURATION).json()
    base = "https://images.example.org/share"
    assert told["issuer"] == base
    for name, value in told.items():
        if name.endswith(("_endpoint", "_uri")):
            assert value.startswith(f"{base}/"), name
    assert told["code_challenge_methods_supported"] == ["S256"]
    assert set(told["grant_types_supported"]) == {"authorization_code", "refresh_token", "client_credentials"}
    assert "private_key_jwt" in told["token_endpoint_auth_methods_supported"]
    assert told["token_endpoint_auth_signing_alg_values_supported"] == ["RS384", "ES384"]
    wanted = {
        "launch-standalone", "launch-ehr", "client-public", "client-confidential-symmetric", "client-confidential-asymmetric",
        "sso-openid-connect", "context-standalone-patient", "context-ehr-patient", "context-ehr-encounter", "context-banner",
        "context-style", "permission-offline", "permission-online", "permission-patient", "permission-user", "permission-v1",
        "permission-v2", "authorize-post", "smart-imaging-access",
    }  # fmt: skip
    assert wanted <= set(told["capabilities"])
    assert told["associated_endpoints"][0]["url"] == f"{base}/fhir"
    assert "smart-imaging-access" in told["associated_endpoints"][0]["capabilities"]
    assert {"system/ImagingStudy.rs", "patient/ImagingStudy.rs"} <= set(told["scopes_supported"])


def test_the_metadata_are_valid_by_their_own_rfcs(site: SmartSite) -> None:
    server = site.http.get("/.well-known/oauth-authorization-server").json()
    AuthorizationServerMetadata(server).validate()
    assert server["authorization_response_iss_parameter_supported"] is True
    provider = site.http.get("/.well-known/openid-configuration").json()
    OpenIDProviderMetadata(provider).validate()
    told = site.http.get(CONFIGURATION).json()
    for name in (
        "issuer",
        "jwks_uri",
        "authorization_endpoint",
        "token_endpoint",
        "revocation_endpoint",
        "introspection_endpoint",
    ):
        assert told[name] == server[name] == provider[name]


@requires(207)
def test_the_keys_are_public(site: SmartSite) -> None:
    site.tokens(scope="openid patient/*.rs")
    keys = site.http.get("/oauth/jwks").json()["keys"]
    assert {key["kty"] for key in keys} == {"EC", "RSA"}
    assert all(not {"d", "p", "q", "k"} & set(key) for key in keys)
    assert all(key["kid"] and key["use"] == "sig" for key in keys)


def test_the_keys_are_there_before_anything_was_signed(tmp_path: Path) -> None:
    """Who keeps the set from the beginning has what ID tokens will be signed with."""
    with smart_site(tmp_path) as fresh:
        first = fresh.http.get("/oauth/jwks").json()["keys"]
        fresh.tokens(scope="openid patient/*.rs")
        assert {key["kty"] for key in first} == {"EC", "RSA"}
        assert fresh.http.get("/oauth/jwks").json()["keys"] == first


def test_the_capability_statement_names_the_endpoints_as_of_old(site: SmartSite) -> None:
    security = site.http.get("/fhir/metadata").json()["rest"][0]["security"]
    (found,) = [each for each in security["extension"] if each["url"].endswith("/StructureDefinition/oauth-uris")]
    uris = {each["url"]: each["valueUri"] for each in found["extension"]}
    told = site.http.get(CONFIGURATION).json()
    assert (uris["authorize"], uris["token"]) == (told["authorization_endpoint"], told["token_endpoint"])
    assert security["cors"] is True


@requires(396, 398, 409, 410, 412, 417, 418, 419, 430, 431, 432)
def test_the_brand_is_one_organization_with_its_endpoint(site: SmartSite) -> None:
    told = site.http.get(CONFIGURATION).json()
    found = site.http.get("/brands")
    bundle = found.json()
    Bundle.model_validate(bundle)
    assert bundle["type"] == "collection"
    assert bundle["timestamp"]
    brands = [each["resource"] for each in bundle["entry"] if each["resource"]["resourceType"] == "Organization"]
    matching = [brand for brand in brands if told["user_access_brand_identifier"] in brand["identifier"]]
    assert len(matching) == 1
    assert told["user_access_brand_identifier"]["value"]
    urls = {each["fullUrl"]: each["resource"] for each in bundle["entry"]}
    (endpoint,) = matching[0]["endpoint"]
    assert urls[endpoint["reference"]]["address"] == f"{told['issuer']}/fhir"
    assert all(each["resource"]["meta"]["lastUpdated"] for each in bundle["entry"])
    assert found.headers["etag"].startswith('W/"')
    assert site.http.get("/brands", headers={"If-None-Match": found.headers["etag"]}).status_code == 304
    assert site.http.get("/brands").json()["timestamp"] == bundle["timestamp"]


# --- CORS


@requires(16, 400, 423)
@pytest.mark.parametrize("path", sorted(OPEN))
def test_any_origin_reads_what_is_the_same_for_everybody(site: SmartSite, path: str) -> None:
    found = site.http.get(path, headers={"Origin": EVIL})
    assert found.status_code == 200
    assert found.headers["access-control-allow-origin"] == "*"
    assert "access-control-allow-credentials" not in found.headers
    preflight = site.http.options(path, headers={"Origin": EVIL, "Access-Control-Request-Method": "GET"})
    assert preflight.status_code == 204
    assert preflight.headers["access-control-allow-origin"] == "*"


@requires(17)
@pytest.mark.parametrize(
    "path", ["/oauth/token", "/oauth/revoke", "/oauth/introspect", "/fhir/ImagingStudy", "/fhir", "/dicomweb/studies"]
)
def test_registered_origins_alone_call_with_tokens(site: SmartSite, path: str) -> None:
    for origin, known in ((ORIGIN, True), (EVIL, False), ("null", False), (f"{ORIGIN}.evil.org", False), (ORIGIN.upper(), False)):
        headers = {"Origin": origin, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
        preflight = site.http.options(path, headers=headers)
        assert preflight.headers.get("access-control-allow-origin") == (origin if known else None)
        assert preflight.headers["vary"] == "Origin"
        if known:
            assert "Authorization" in preflight.headers["access-control-allow-headers"]
            assert "POST" in preflight.headers["access-control-allow-methods"]
        for method in ("GET", "POST"):
            answer = site.http.request(method, path, headers={"Origin": origin})
            assert answer.headers.get("access-control-allow-origin") == (origin if known else None)
            assert "Origin" in answer.headers["vary"]
            assert "access-control-allow-credentials" not in answer.headers


@requires(17)
def test_an_origin_reads_what_its_own_clients_token_opens(site: SmartSite) -> None:
    with site.node.database.write() as connection:
        clients.add(connection, Client("other", "Other", "public", (BACK,), SCOPE, origins=("https://other.example.org",)))
    token = site.tokens("public")["access_token"]
    mine = site.fhir("ImagingStudy", token, Origin=ORIGIN)
    assert mine.headers["access-control-allow-origin"] == ORIGIN
    assert "ETag" in mine.headers["access-control-expose-headers"]
    other = site.fhir("ImagingStudy", token, Origin="https://other.example.org")
    assert "access-control-allow-origin" not in other.headers


def test_other_pages_are_for_nobody_else(site: SmartSite) -> None:
    for path in ("/oauth/authorize", "/oauth/register", "/oauth/launch", "/", "/metrics"):
        found = site.http.get(path, headers={"Origin": ORIGIN})
        assert "access-control-allow-origin" not in found.headers


def test_a_request_without_origin_is_as_before(site: SmartSite) -> None:
    found = site.http.get(CONFIGURATION)
    assert "access-control-allow-origin" not in found.headers
    assert site.http.options("/oauth/token").status_code == 405


# --- logs


def test_no_secret_is_logged_even_where_everything_is(site: SmartSite, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> None:  # fmt: skip
    """Authlib writes access and refresh tokens at DEBUG."""
    with caplog.at_level(logging.DEBUG):
        told = site.tokens("secret", "openid patient/*.rs offline_access")
        later = site.refresh(told["refresh_token"], "secret").json()
        site.backend()
        site.http.post(
            "/oauth/token", data={"grant_type": "refresh_token", "refresh_token": "canary-token", "client_id": "public"}
        )
    written = caplog.text + "".join(capfd.readouterr())
    for secret in (
        told["access_token"],
        told["refresh_token"],
        told["id_token"],
        later["refresh_token"],
        site.secret["secret"],
        "canary-token",
    ):
        assert secret not in written
    assert logging.getLogger("authlib").getEffectiveLevel() >= logging.INFO

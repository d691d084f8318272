"""The token endpoint: codes become tokens once, for whom they were made, with what the person gave."""

import base64
import json
import re
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from joserfc import jws, jwt
from joserfc.jwk import KeySet
from peers.requires import requires
from peers.smart_site import ASSERTION_TYPE, BACK, Pkce, SmartSite, basic, smart_site

from server.access.oauth import clients
from server.access.people import accounts, proxies
from server.errors import NotFound
from server.records import resources
from server.store.tables import AuthorizationCode, RefreshToken

CODE = AuthorizationCode.__table__  # type: ignore[attr-defined]
REFRESH = RefreshToken.__table__  # type: ignore[attr-defined]
KINDS = ["public", "secret", "asymmetric"]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, module_database_url: str) -> Iterator[SmartSite]:
    folder: Path = tmp_path_factory.mktemp("token")
    with smart_site(folder / "data", module_database_url) as made:
        yield made


# --- responses


@requires(73, 74, 75, 78, 84, 85, 86, 87, 88, 355, 356, 357)
@pytest.mark.parametrize("client", KINDS)
def test_every_kind_of_client_gets_tokens(site: SmartSite, client: str) -> None:
    pkce = Pkce()
    response = site.redeem(site.code(client, "patient/*.rs", pkce=pkce), pkce, client)
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"
    assert response.headers["cache-control"] == "no-store"
    assert response.headers["pragma"] == "no-cache"
    told = response.json()
    assert told["token_type"] == "Bearer"
    assert told["scope"] == "patient/*.rs"
    assert told["expires_in"] == 3600
    assert re.fullmatch(r"[A-Za-z0-9._~+/-]+=*", told["access_token"])
    assert "refresh_token" not in told
    assert site.fhir("ImagingStudy", told["access_token"]).json()["total"] == 2


@requires(367, 369)
def test_scopes_come_back_in_the_form_that_was_asked(site: SmartSite) -> None:
    for scope in ("patient/ImagingStudy.rs", "patient/ImagingStudy.read", "patient/*.read patient/Observation.rs"):
        assert site.tokens(scope=scope)["scope"] == scope


@requires(89, 365)
def test_a_refresh_token_is_for_who_may_stay(site: SmartSite) -> None:
    assert "refresh_token" in site.tokens(scope="patient/*.rs offline_access")
    assert "refresh_token" in site.tokens(scope="patient/*.rs online_access")
    assert "refresh_token" not in site.tokens(scope="patient/*.rs offline_access", offline=False)
    assert "refresh_token" not in site.tokens(scope="patient/*.rs")


@requires(149, 168, 170, 173, 175, 353, 359, 360, 363)
def test_the_context_stands_beside_the_token(site: SmartSite) -> None:
    told = site.tokens(scope="launch/patient patient/*.rs")
    assert told["patient"] == site.patients["A"]
    assert told["need_patient_banner"] is True
    style = site.http.get(told["smart_style_url"])
    assert style.json()["color_background"].startswith("#")
    assert "encounter" not in told
    assert "patient" not in site.tokens(scope="user/*.rs openid", who="practitioner")


@requires(171, 364)
def test_an_encounter_can_be_in_context(site: SmartSite) -> None:
    encounter = {"resourceType": "Encounter", "status": "finished", "class": {"code": "AMB"}, "subject": {"reference": f"Patient/{site.patients['A']}"}}  # fmt: skip
    with site.node.database.write() as connection:
        stored = resources.create(connection, encounter)
    told = site.tokens(scope="launch/patient launch/encounter patient/*.rs")
    assert told["encounter"] == stored.id
    assert "encounter" not in site.tokens(scope="launch/encounter patient/*.rs", who="other", patient=site.patients["B"])


# --- OpenID Connect


@requires(197, 198, 200, 205, 207, 209, 210, 358)
def test_an_id_token_says_who_signed_in(site: SmartSite) -> None:
    told = site.tokens(scope="openid fhirUser profile patient/Patient.rs launch/patient", asking={"nonce": "n-1"})
    keys = KeySet.import_key_set(site.http.get("/oauth/jwks").json())
    token = jwt.decode(told["id_token"], keys, algorithms=["RS256"])
    claims = token.claims
    person = site.people["patient"]
    assert claims["iss"] == site.http.get("/fhir/.well-known/smart-configuration").json()["issuer"] == site.base
    assert (claims["sub"], claims["aud"], claims["nonce"]) == (person.id, "public", "n-1")
    assert claims["fhirUser"] == f"{site.base}/fhir/Patient/{site.patients['A']}"
    assert claims["iat"] <= claims["exp"] <= claims["iat"] + 3600
    assert claims["auth_time"] <= claims["iat"]
    assert claims["name"] == person.name
    who = site.fhir(claims["fhirUser"].removeprefix(f"{site.base}/fhir/"), told["access_token"])
    assert who.json()["resourceType"] == "Patient"


@requires(197)
def test_who_has_no_resource_is_not_given_fhir_user(site: SmartSite) -> None:
    told = site.tokens(scope="openid fhirUser user/*.rs", who="staff")
    assert told["scope"] == "openid user/*.rs"
    payload = jwt.decode(
        told["id_token"], KeySet.import_key_set(site.http.get("/oauth/jwks").json()), algorithms=["RS256"]
    ).claims
    assert "fhirUser" not in payload
    assert "nonce" not in payload


def test_without_openid_there_is_no_id_token(site: SmartSite) -> None:
    assert "id_token" not in site.tokens(scope="patient/*.rs")
    assert "id_token" not in site.tokens(scope="fhirUser patient/*.rs")


def test_an_id_token_opens_nothing(site: SmartSite) -> None:
    told = site.tokens(scope="openid patient/*.rs")
    assert site.fhir("ImagingStudy", told["id_token"]).status_code == 401


# --- refusals of codes


@requires(31)
def test_the_verifier_is_needed_and_has_to_be_the_right_one(site: SmartSite) -> None:
    for client in KINDS:
        pkce = Pkce()
        code = site.code(client, pkce=pkce)
        wrong = {"a" * 43, pkce.challenge, pkce.verifier + "a", pkce.verifier[:-1], "", "é" * 43}
        for verifier in wrong:
            refused = site.redeem(code, pkce, client, code_verifier=verifier)
            assert refused.status_code == 400
            assert refused.json()["error"] in ("invalid_grant", "invalid_request")
        assert site.redeem(code, pkce, client).status_code == 200  # none of that used it up


@requires(18)
def test_a_code_is_for_its_client_and_its_redirect_uri(site: SmartSite) -> None:
    """Abuse case 11: the code with another client, another redirect URI."""
    pkce = Pkce()
    code = site.code("public", pkce=pkce)
    for client in ("secret", "asymmetric", "native"):
        assert site.redeem(code, pkce, client).json()["error"] == "invalid_grant"
    for uri in ("https://app.example.org/other", "", f"{BACK}/"):
        assert site.redeem(code, pkce, redirect_uri=uri).json()["error"] == "invalid_grant"
    assert site.redeem(code, pkce).status_code == 200


def test_a_code_that_comes_twice_ends_all_that_came_of_it(site: SmartSite) -> None:
    pkce = Pkce()
    code = site.code("public", "patient/*.rs offline_access", pkce=pkce)
    told = site.redeem(code, pkce).json()
    assert site.fhir("ImagingStudy", told["access_token"]).status_code == 200
    assert site.redeem(code, pkce).json()["error"] == "invalid_grant"
    assert site.fhir("ImagingStudy", told["access_token"]).status_code == 401
    assert site.refresh(told["refresh_token"]).json()["error"] == "invalid_grant"


def test_another_client_cannot_end_it_with_a_used_code(site: SmartSite) -> None:
    pkce = Pkce()
    code = site.code("public", pkce=pkce)
    told = site.redeem(code, pkce).json()
    site.redeem(code, pkce, "secret")
    assert site.fhir("ImagingStudy", told["access_token"]).status_code == 200


def test_a_code_lives_a_minute(site: SmartSite) -> None:
    pkce = Pkce()
    code = site.code(pkce=pkce)
    with site.node.database.write() as connection:
        expires = connection.execute(CODE.select().order_by(CODE.c.expires.desc())).first()
        assert expires is not None
        connection.execute(CODE.update().values(expires=CODE.c.expires - 60_000_000))
    assert site.redeem(code, pkce).json()["error"] == "invalid_grant"


def test_who_may_not_see_the_patient_any_more_gets_no_token_for_the_code(tmp_path: Path) -> None:
    with smart_site(tmp_path) as site:
        pkce = Pkce()
        code = site.code(who="proxy", pkce=pkce)
        with site.node.database.write() as connection:
            (held,) = proxies.of_account(connection, site.people["proxy"].id)
            proxies.end(connection, held.id)
        assert site.redeem(code, pkce).json()["error"] == "invalid_grant"


def test_an_address_that_was_taken_back_gets_no_code_and_none_is_good_for_it(tmp_path: Path) -> None:
    with smart_site(tmp_path) as site:
        pkce, session = Pkce(), site.session("patient")
        code, waiting = site.code("public", pkce=pkce), site.authorize(site.asking("public"))
        with site.node.database.write() as connection:
            known = clients.find(connection, "public")
            assert known is not None
            clients.change(connection, replace(known, redirect_uris=("https://app.example.org/new",)))
        assert site.redeem(code, pkce).json()["error"] == "invalid_grant"
        with pytest.raises(NotFound):
            site.node.authorizing.deny(waiting.headers["location"].rpartition("/")[2], session)


@requires(356)
def test_a_disabled_client_and_account_get_nothing(site: SmartSite) -> None:
    pkce = Pkce()
    code, told = site.code("secret", pkce=pkce), site.tokens("secret", "patient/*.rs offline_access")
    with site.node.database.write() as connection:
        clients.disable(connection, "secret")
    try:
        assert site.fhir("ImagingStudy", told["access_token"]).status_code == 401
        assert site.redeem(code, pkce, "secret").json()["error"] == "invalid_client"
        assert site.authorize(site.asking("secret")).status_code == 400
    finally:
        with site.node.database.write() as connection:
            clients.disable(connection, "secret", disabled=False)
    with site.node.database.write() as connection:
        accounts.disable(connection, site.people["patient"].id)
    try:
        assert site.redeem(code, pkce, "secret").json()["error"] == "invalid_grant"
        assert site.refresh(told["refresh_token"], "secret").json()["error"] == "invalid_grant"
        assert site.fhir("ImagingStudy", told["access_token"]).status_code == 401
    finally:
        with site.node.database.write() as connection:
            accounts.enable(connection, site.people["patient"].id)


# --- authentication of clients


@requires(340)
@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": basic("secret", "wrong")},
        {"Authorization": basic("nobody", "wrong")},
        {"Authorization": basic("public", "")},
        {"Authorization": basic("asymmetric", "x")},
        {"Authorization": "Basic !!!"},
        {"Authorization": "Basic /////w=="},
        {"Authorization": "Basic bm9jb2xvbg=="},
        {},
    ],
)
def test_who_is_not_who_it_says(site: SmartSite, headers: dict[str, str]) -> None:
    pkce = Pkce()
    code = site.code("secret", pkce=pkce)
    form = {"grant_type": "authorization_code", "code": code, "redirect_uri": BACK, "code_verifier": pkce.verifier}
    for more in ({}, {"client_id": "secret"}):
        refused = site.http.post("/oauth/token", data={**form, **more}, headers=headers)
        assert refused.json()["error"] in ("invalid_client", "invalid_request"), refused.text
        assert refused.status_code in (400, 401)
        if refused.status_code == 401:
            assert refused.headers["www-authenticate"].startswith("Basic")
        assert refused.headers["cache-control"] == "no-store"
    assert site.redeem(code, pkce, "secret").status_code == 200


@pytest.mark.parametrize("odd", ["a\0b", "\ud800", "\x7f", "\u00e9", "a b", "x" * 5000])
def test_odd_characters_are_no_fault_of_ours(site: SmartSite, odd: str) -> None:
    """Anybody may say anything of who they are; databases do not take all of it."""

    def part(value: dict[str, Any]) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")

    unsigned = f"{part({'alg': 'ES384', 'kid': 'k1', 'typ': 'JWT'})}.{part({'sub': odd, 'iss': odd})}.AAAA"
    claims = {
        "iss": "asymmetric",
        "sub": "asymmetric",
        "aud": f"{site.base}/oauth/token",
        "exp": int(time.time()) + 200,
        "jti": f"{odd}\0",
    }
    header = {"alg": "RS384", "kid": "k1", "typ": "JWT"}
    assertion = jws.serialize_compact(header, json.dumps(claims).encode(), site.keys["asymmetric"], algorithms=["RS384"])
    signed = {"client_assertion_type": ASSERTION_TYPE, "client_assertion": assertion}
    quoted = quote(odd.encode("utf-8", "replace"))
    form = {"grant_type": "authorization_code", "code": "x"}
    told = [
        site.http.post("/oauth/token", data=form, headers={"Authorization": basic(quoted, "x")}),
        site.http.post("/oauth/token", data={**form, **signed, "client_assertion": unsigned}),
        site.http.post("/oauth/token", data={**form, **signed}),
        site.http.get(f"/oauth/register/{quoted}", headers={"Authorization": "Bearer x"}),
        site.http.get("/oauth/authorize", params=site.asking(quoted)),
    ]
    assert [each.status_code for each in told if not 400 <= each.status_code < 500] == []


def test_a_secret_goes_in_the_form_too(site: SmartSite) -> None:
    pkce = Pkce()
    code = site.code("secret", pkce=pkce)
    form = {
        "grant_type": "authorization_code", "code": code, "redirect_uri": BACK, "code_verifier": pkce.verifier,
        "client_id": "secret", "client_secret": site.secret["secret"],
    }  # fmt: skip
    both = site.http.post("/oauth/token", data=form, headers={"Authorization": basic("secret", site.secret["secret"])})
    assert both.json()["error"] == "invalid_request"
    assert site.http.post("/oauth/token", data={**form, "client_secret": "wrong"}).json()["error"] == "invalid_client"
    other = {name: value for name, value in form.items() if name != "client_secret"} | {"client_id": "public"}
    mixed = site.http.post("/oauth/token", data=other, headers={"Authorization": basic("secret", site.secret["secret"])})
    assert mixed.json()["error"] == "invalid_request"
    assert site.http.post("/oauth/token", data=form).status_code == 200


def test_a_confidential_client_does_not_pass_for_a_public_one(site: SmartSite) -> None:
    for client in ("secret", "asymmetric"):
        pkce = Pkce()
        code = site.code(client, pkce=pkce)
        form = {"grant_type": "authorization_code", "code": code, "redirect_uri": BACK, "code_verifier": pkce.verifier, "client_id": client}  # fmt: skip
        assert site.http.post("/oauth/token", data=form).json()["error"] == "invalid_client"


@requires(251)
@pytest.mark.parametrize(
    ("form", "code"),
    [
        ({}, "invalid_request"),
        ({"grant_type": ""}, "invalid_request"),
        ({"grant_type": "password", "username": "a", "password": "b"}, "unsupported_grant_type"),
        ({"grant_type": "implicit"}, "unsupported_grant_type"),
        ({"grant_type": '"\\é'}, "unsupported_grant_type"),
        ({"grant_type": "urn:ietf:params:oauth:grant-type:jwt-bearer"}, "unsupported_grant_type"),
        ({"grant_type": "authorization_code"}, "invalid_request"),
        ({"grant_type": "authorization_code", "code": "x" * 43, "code_verifier": "x" * 43}, "invalid_grant"),
        ({"grant_type": "refresh_token"}, "invalid_request"),
        ({"grant_type": "refresh_token", "refresh_token": "x"}, "invalid_grant"),
        ({"grant_type": "client_credentials", "scope": "system/*.rs"}, "invalid_client"),
    ],
)
def test_what_is_no_token_request(site: SmartSite, form: dict[str, str], code: str) -> None:
    refused = site.http.post("/oauth/token", data={"client_id": "public", **form})
    assert refused.json()["error"] == code, refused.text
    assert refused.status_code in (400, 401)
    assert refused.headers["pragma"] == "no-cache"


def test_parameters_twice_in_the_query_or_of_another_form(site: SmartSite) -> None:
    pkce = Pkce()
    code = site.code(pkce=pkce)
    form = [("grant_type", "authorization_code"), ("code", code), ("redirect_uri", BACK), ("code_verifier", pkce.verifier), ("client_id", "public")]  # fmt: skip
    for pair in form:
        content = "&".join(f"{name}={value}" for name, value in [*form, pair])
        told = site.http.post("/oauth/token", content=content, headers={"Content-Type": "application/x-www-form-urlencoded"})
        assert told.json()["error"] == "invalid_request"
    assert site.http.post("/oauth/token", params=dict(form)).status_code == 415
    assert site.http.post("/oauth/token", params=dict(form), data={"x": "y"}).json()["error"] == "invalid_request"
    assert site.http.post("/oauth/token", json=dict(form)).status_code == 415
    assert site.http.get("/oauth/token", params=dict(form)).status_code == 405
    assert site.redeem(code, pkce).status_code == 200


# --- what is kept


def test_codes_and_tokens_are_in_the_database_as_hashes_only(site: SmartSite) -> None:
    pkce = Pkce()
    code = site.code("secret", "openid patient/*.rs offline_access", pkce=pkce)
    told = site.redeem(code, pkce, "secret").json()
    later = site.refresh(told["refresh_token"], "secret").json()
    secrets = [code, pkce.verifier, told["access_token"], told["refresh_token"], later["refresh_token"], site.secret["secret"]]
    with site.node.database.read() as connection:
        for table in (
            "authorization_code",
            "refresh_token",
            "access_grant",
            "oauth_client",
            "authorization_request",
            "audit_event",
        ):
            rows = repr(connection.exec_driver_sql(f"SELECT * FROM {table}").all())
            assert not [each for each in secrets if each in rows], table


def test_the_trail_has_every_token_and_every_refusal(site: SmartSite) -> None:
    told = site.tokens("secret")
    newest = next(event for event in site.events() if event["subtype"][0]["code"] == "ITI-71")
    assert newest["outcome"] == "0"
    assert f"Patient/{site.patients['A']}" in str(newest)
    assert told["access_token"] not in str(newest)
    site.http.post("/oauth/token", data={"grant_type": "refresh_token", "refresh_token": "x", "client_id": "public"})
    site.node.strangers.flush()
    refused = next(event for event in site.events() if event["outcome"] == "4")
    assert refused["subtype"][0]["code"] == "ITI-71"


def test_basic_without_a_colon_is_no_basic(site: SmartSite) -> None:
    """RFC 7617 section 2."""
    form = {"grant_type": "authorization_code", "code": "x", "redirect_uri": BACK, "code_verifier": "v" * 43}
    alone = "Basic " + base64.b64encode(b"secret").decode()
    refused = site.http.post("/oauth/token", data=form, headers={"Authorization": alone}).json()
    assert (refused["error"], refused["error_description"]) == ("invalid_request", "the Authorization header is no HTTP Basic")


def test_a_refresh_without_a_token_is_told_that(site: SmartSite) -> None:
    refused = site.token({"grant_type": "refresh_token"}, "secret").json()
    assert (refused["error"], refused["error_description"]) == ("invalid_request", "refresh_token is missing")


def test_which_grants_there_are_is_told(site: SmartSite) -> None:
    told = site.token({"grant_type": "password"}).json()["error_description"]
    assert told == "grant_type is authorization_code, refresh_token, client_credentials"

"""RFC 7662 and 7009: what a token stands for, to whom it may be told, and tokens that are given back."""

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from joserfc import jwt
from joserfc.jwk import KeySet
from peers.requires import requires
from peers.smart_site import ASSERTION_TYPE, SmartSite, basic, smart_site

from server.access.oauth import clients
from server.access.people import proxies

INACTIVE = {"active": False}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, module_database_url: str) -> Iterator[SmartSite]:
    folder: Path = tmp_path_factory.mktemp("introspection")
    with smart_site(folder / "data", module_database_url) as made:
        yield made


def introspect(site: SmartSite, token: str, by: str = "ehr", *, bearer: str = "", **form: str) -> Any:
    headers = {"Authorization": f"Bearer {bearer}" if bearer else basic(by, site.secret[by])}
    return site.http.post("/oauth/introspect", data={"token": token, **form}, headers=headers)


@requires(271, 272, 273, 274, 275, 276, 277, 278, 279, 283)
def test_an_access_token_with_its_context(site: SmartSite) -> None:
    session = site.session("patient")
    told = site.tokens(scope="openid fhirUser launch/patient patient/*.rs", session=session)
    found = introspect(site, told["access_token"])
    assert found.status_code == 200
    assert found.headers["cache-control"] == "no-store"
    body = found.json()
    assert body["active"] is True
    assert (body["scope"], body["client_id"], body["patient"]) == (told["scope"], "public", told["patient"])
    assert body["need_patient_banner"] is told["need_patient_banner"]
    assert body["smart_style_url"] == told["smart_style_url"]
    assert isinstance(body["exp"], int)
    assert 0 < body["exp"] - time.time() <= told["expires_in"]
    keys = KeySet.import_key_set(site.http.get("/oauth/jwks").json())
    claims = jwt.decode(told["id_token"], keys, algorithms=["RS256"]).claims
    assert {name: body[name] for name in ("iss", "sub", "fhirUser")} == {
        name: claims[name] for name in ("iss", "sub", "fhirUser")
    }
    site.node.people.sessions.close(session)
    told_of = site.events()[0]
    assert told_of["subtype"][0]["code"] == "ITI-102"
    assert f"Patient/{site.patients['A']}" in str(told_of)
    assert "ehr" in str(told_of["agent"][0])


@requires(282, 283)
def test_the_bearer_of_a_token_may_ask(site: SmartSite) -> None:
    mine, other = site.tokens("public"), site.tokens("secret")
    assert introspect(site, mine["access_token"], bearer=mine["access_token"]).json()["active"] is True
    assert introspect(site, other["access_token"], bearer=mine["access_token"]).json() == INACTIVE
    with site.node.database.write() as connection:
        found = clients.find(connection, "backend")
        assert found is not None
        clients.change(connection, replace(found, may=frozenset({"introspect"})))
    service = site.backend().json()["access_token"]
    assert introspect(site, other["access_token"], bearer=service).json()["active"] is True
    for bad in ("x", other["access_token"][:-3] + "AAA", mine["access_token"] + "A"):
        assert introspect(site, other["access_token"], bearer=bad).status_code == 401


def test_the_bearer_of_a_token_of_no_client_may_not_ask(site: SmartSite) -> None:
    """The administrator's, of the command line."""
    told, script = site.tokens(scope="patient/*.rs"), site.node.tokens.issue(client="script", scope="system/*.rs")
    refused = introspect(site, told["access_token"], bearer=script)
    assert (refused.status_code, refused.json()["error"]) == (401, "invalid_client")


def test_it_is_said_once_what_is_asked_about(site: SmartSite) -> None:
    held = site.tokens(scope="patient/*.rs")["access_token"]
    for way in (f"Bearer {held}", basic("ehr", site.secret["ehr"])):
        headers = {"Authorization": way, "Content-Type": "application/x-www-form-urlencoded"}
        refused = site.http.post("/oauth/introspect", content=f"token={held}&token=x", headers=headers)
        assert (refused.status_code, refused.json()["error"]) == (400, "invalid_request")


def test_a_client_sees_its_own_tokens_alone(site: SmartSite) -> None:
    mine, other = site.tokens("secret", "patient/*.rs offline_access"), site.tokens("public", "patient/*.rs offline_access")
    for name in ("access_token", "refresh_token"):
        assert introspect(site, mine[name], "secret").json()["active"] is True
        assert introspect(site, other[name], "secret").json() == INACTIVE
        assert introspect(site, other[name]).json()["active"] is True


def test_who_is_nobody_may_not_ask(site: SmartSite) -> None:
    told = site.tokens("public")
    for form in ({}, {"client_id": "public"}, {"client_id": "secret", "client_secret": "x"}):
        refused = site.http.post("/oauth/introspect", data={"token": told["access_token"], **form})
        assert refused.json()["error"] == "invalid_client"
        assert "scope" not in refused.json()
    form = {
        "token": told["access_token"],
        "client_assertion_type": ASSERTION_TYPE,
        "client_assertion": site.assertion("asymmetric"),
    }
    assert site.http.post("/oauth/introspect", data=form).json() == INACTIVE
    assert site.http.post("/oauth/introspect", data=form).json()["error"] == "invalid_client"


def test_what_is_no_live_token(site: SmartSite) -> None:
    told = site.tokens("public", "openid patient/*.rs offline_access")
    later = site.refresh(told["refresh_token"]).json()
    assert introspect(site, told["refresh_token"]).json() == INACTIVE  # it was used
    for token in ("x", told["id_token"], told["access_token"][:-3] + "AAA", "x" * 9000):
        assert introspect(site, token).json() == INACTIVE
    assert introspect(site, "").json()["error"] == "invalid_request"
    assert introspect(site, later["refresh_token"]).json()["active"] is True
    site.node.authorizing.disconnect(site.people["patient"], site.node.authorizing.connected(site.people["patient"])[0].grant)
    for token in (later["refresh_token"], later["access_token"], told["access_token"]):
        assert introspect(site, token).json() == INACTIVE


def test_a_token_of_whom_the_person_may_not_see_any_more(site: SmartSite) -> None:
    """Other servers go by what is told here, and know of no proxies."""
    told = site.tokens(scope="launch/patient patient/*.rs offline_access", who="proxy")
    for which in ("access_token", "refresh_token"):
        assert introspect(site, told[which]).json()["active"] is True
    with site.node.database.write() as connection:
        (held,) = proxies.of_account(connection, site.people["proxy"].id)
        proxies.end(connection, held.id)
    for which in ("access_token", "refresh_token"):
        assert introspect(site, told[which]).json() == INACTIVE


@requires(273)
def test_a_token_that_opens_less_than_it_says_is_inactive(site: SmartSite) -> None:
    """Its client is registered for less by now; by its refresh token it gets one that says so."""
    told = site.tokens("asymmetric", "openid patient/*.rs user/*.read offline_access")
    assert introspect(site, told["access_token"]).json()["scope"] == told["scope"]
    with site.node.database.write() as connection:
        known = clients.find(connection, "asymmetric")
        assert known is not None
        clients.change(connection, replace(known, scope="openid patient/Patient.rs offline_access"))
    assert introspect(site, told["access_token"]).json() == INACTIVE
    assert introspect(site, told["refresh_token"]).json()["scope"] == "openid patient/Patient.rs offline_access"
    later = site.refresh(told["refresh_token"], "asymmetric").json()
    assert later["scope"] == "openid patient/Patient.rs offline_access"
    assert introspect(site, later["access_token"]).json()["scope"] == later["scope"]
    with site.node.database.write() as connection:
        clients.change(connection, known)
    assert site.refresh(later["refresh_token"], "asymmetric").json()["scope"] == told["scope"]


def test_a_token_of_the_command_line(site: SmartSite) -> None:
    token = site.node.tokens.issue(client="script", scope="system/*.rs", patient="p")
    body = introspect(site, token).json()
    assert (body["active"], body["client_id"], body["patient"], body["scope"]) == (True, "script", "p", "system/*.rs")
    assert introspect(site, token, "secret").json() == INACTIVE


# --- RFC 7009


def revoke(site: SmartSite, token: str, client: str = "public", **form: str) -> Any:
    headers = {"Authorization": basic(client, site.secret[client])} if client in site.secret else {}
    named = {} if headers else {"client_id": client}
    return site.http.post("/oauth/revoke", data={"token": token, **named, **form}, headers=headers)


@pytest.mark.parametrize("which", ["access_token", "refresh_token"])
@pytest.mark.parametrize("client", ["public", "secret"])
def test_a_token_that_is_given_back_ends_its_grant(site: SmartSite, client: str, which: str) -> None:
    told = site.tokens(client, "patient/*.rs offline_access")
    answer = revoke(site, told[which], client, token_type_hint=which)
    assert answer.status_code == 200
    assert site.fhir("ImagingStudy", told["access_token"]).status_code == 401
    assert site.refresh(told["refresh_token"], client).json()["error"] == "invalid_grant"
    assert revoke(site, told[which], client).status_code == 200


def test_nobody_gives_back_what_is_anothers(site: SmartSite) -> None:
    told = site.tokens("secret", "patient/*.rs offline_access")
    for token in (told["access_token"], told["refresh_token"], "x", "x" * 9000):
        assert revoke(site, token, "public").status_code == 200
    assert site.fhir("ImagingStudy", told["access_token"]).status_code == 200
    assert (
        site.http.post("/oauth/revoke", data={"token": told["access_token"], "client_id": "secret"}).json()["error"]
        == "invalid_client"
    )
    assert revoke(site, "", "public").json()["error"] == "invalid_request"
    assert site.refresh(told["refresh_token"], "secret").status_code == 200


def test_another_hint_is_only_a_hint(site: SmartSite) -> None:
    told = site.tokens("public", "patient/*.rs offline_access")
    assert revoke(site, told["access_token"], token_type_hint="refresh_token").status_code == 200
    assert site.fhir("ImagingStudy", told["access_token"]).status_code == 401

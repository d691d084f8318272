"""Refresh tokens: each good once, a lost answer can be had again, and one that comes twice ends everything."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from peers.requires import requires
from peers.smart_site import SmartSite, smart_site

from server.access import epoch
from server.access.people import proxies
from server.store.tables import AccessGrant, RefreshToken, Session

SESSION = Session.__table__  # type: ignore[attr-defined]
GRANT = AccessGrant.__table__  # type: ignore[attr-defined]
REFRESH = RefreshToken.__table__  # type: ignore[attr-defined]
SCOPE = "openid patient/ImagingStudy.rs patient/Observation.read offline_access"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, module_database_url: str) -> Iterator[SmartSite]:
    folder: Path = tmp_path_factory.mktemp("refresh")
    with smart_site(folder / "data", module_database_url) as made:
        yield made


def _later(site: SmartSite, seconds: int) -> None:
    """As if everything that was used had been used that much earlier."""
    with site.node.database.write() as connection:
        connection.execute(REFRESH.update().where(REFRESH.c.used.is_not(None)).values(used=REFRESH.c.used - seconds * 1_000_000))


@requires(101, 104, 109, 110, 111, 112, 113, 114, 365)
@pytest.mark.parametrize("client", ["public", "secret", "asymmetric"])
def test_new_tokens_without_a_person(site: SmartSite, client: str) -> None:
    first = site.tokens(client, SCOPE)
    token = first["refresh_token"]
    for _ in range(3):
        told = site.refresh(token, client)
        assert told.status_code == 200, told.text
        assert told.headers["cache-control"] == "no-store"
        body = told.json()
        assert (body["scope"], body["token_type"], body["expires_in"]) == (SCOPE, "Bearer", 3600)
        assert body["patient"] == site.patients["A"]
        assert body["refresh_token"] != token
        assert site.fhir("ImagingStudy", body["access_token"]).json()["total"] == 2
        token = body["refresh_token"]


@requires(104, 115)
def test_the_scope_may_shrink_and_never_grow(site: SmartSite) -> None:
    token = site.tokens(scope=SCOPE)["refresh_token"]
    for more in (
        "patient/*.rs",
        "patient/ImagingStudy.cruds",
        f"{SCOPE} user/*.rs",
        "patient/ImagingStudy.r?_id=1 system/*.rs",
        "launch",
    ):
        refused = site.refresh(token, scope=more)
        assert refused.json()["error"] == "invalid_scope", more
    told = site.refresh(token, scope="patient/ImagingStudy.r").json()  # none of that used it up
    assert told["scope"] == "patient/ImagingStudy.r"
    assert site.fhir("ImagingStudy", told["access_token"]).status_code == 403
    assert site.refresh(told["refresh_token"]).json()["scope"] == SCOPE


@requires(103)
def test_another_client_neither_uses_nor_burns_it(site: SmartSite) -> None:
    token = site.tokens("secret", SCOPE)["refresh_token"]
    for client in ("public", "asymmetric", "native"):
        assert site.refresh(token, client).json()["error"] == "invalid_grant"
    assert site.refresh(token, "secret").status_code == 200


def test_a_public_client_may_leave_its_name_out(site: SmartSite) -> None:
    """RFC 6749 section 6: a client authenticates if it has something to do so with."""
    token = site.tokens("public", SCOPE)["refresh_token"]
    assert site.http.post("/oauth/token", data={"grant_type": "refresh_token", "refresh_token": token}).status_code == 200
    for client in ("secret", "asymmetric"):
        token = site.tokens(client, SCOPE)["refresh_token"]
        refused = site.http.post("/oauth/token", data={"grant_type": "refresh_token", "refresh_token": token})
        assert refused.json()["error"] == "invalid_client"
        assert site.refresh(token, client).status_code == 200


def test_a_lost_answer_can_be_had_again(site: SmartSite) -> None:
    token = site.tokens(scope=SCOPE)["refresh_token"]
    lost = site.refresh(token).json()["refresh_token"]
    again = site.refresh(token).json()["refresh_token"]
    assert again == lost
    assert site.refresh(again).status_code == 200


def test_but_only_of_the_last_one_and_only_for_half_a_minute(site: SmartSite) -> None:
    """Abuse case 12: the grace is for the immediate predecessor alone."""
    first = site.tokens(scope=SCOPE)["refresh_token"]
    second = site.refresh(first).json()["refresh_token"]
    third = site.refresh(second).json()
    assert site.refresh(first).json()["error"] == "invalid_grant"
    assert site.refresh(third["refresh_token"]).json()["error"] == "invalid_grant"
    assert site.fhir("ImagingStudy", third["access_token"]).status_code == 401

    token = site.tokens(scope=SCOPE)["refresh_token"]
    later = site.refresh(token).json()
    _later(site, 29)
    assert site.refresh(token).status_code == 200
    _later(site, 2)
    assert site.refresh(token).json()["error"] == "invalid_grant"
    assert site.refresh(later["refresh_token"]).json()["error"] == "invalid_grant"
    assert site.fhir("ImagingStudy", later["access_token"]).status_code == 401


def test_the_database_alone_gives_no_successor(site: SmartSite) -> None:
    token = site.tokens(scope=SCOPE)["refresh_token"]
    successor = site.refresh(token).json()["refresh_token"]
    with site.node.database.read() as connection:
        rows = connection.execute(REFRESH.select()).all()
    assert all(successor.encode() not in (row.successor or b"") for row in rows)
    assert all(token not in str(row) and successor not in str(row) for row in rows)


def test_an_expired_one_is_refused(site: SmartSite) -> None:
    token = site.tokens(scope=SCOPE)["refresh_token"]
    with site.node.database.write() as connection:
        ninety_days = 90 * 86_400_000_000  # (g)(10): at least three months
        connection.execute(REFRESH.update().values(expires=REFRESH.c.expires - ninety_days))
        connection.execute(GRANT.update().values(expires=GRANT.c.expires - ninety_days))
    told = site.refresh(token)
    assert told.status_code == 200
    with site.node.database.write() as connection:
        connection.execute(REFRESH.update().values(expires=1))
    assert site.refresh(told.json()["refresh_token"]).json()["error"] == "invalid_grant"


@requires(100, 366)
def test_online_access_ends_with_the_session(site: SmartSite) -> None:
    session, people = site.session("patient"), site.node.people
    told = site.tokens(scope="patient/*.rs online_access", session=session)
    told = site.refresh(told["refresh_token"]).json()
    assert site.fhir("ImagingStudy", told["access_token"]).status_code == 200
    people.sessions.close(session)
    assert site.fhir("ImagingStudy", told["access_token"]).status_code == 401
    assert site.refresh(told["refresh_token"]).json()["error"] == "invalid_grant"
    offline = site.tokens(scope="patient/*.rs offline_access", session=(other := site.session("patient")))
    people.sessions.close(other)
    assert site.refresh(offline["refresh_token"]).status_code == 200


def test_tokens_of_a_proxy_die_with_the_proxy(site: SmartSite) -> None:
    """Abuse case 24."""
    told = site.tokens(scope="patient/*.rs offline_access", who="proxy")
    assert site.fhir("ImagingStudy", told["access_token"]).json()["total"] == 2
    with site.node.database.write() as connection:
        (held,) = proxies.of_account(connection, site.people["proxy"].id)
        proxies.end(connection, held.id)
    assert site.refresh(told["refresh_token"]).json()["error"] == "invalid_grant"
    assert site.fhir("ImagingStudy", told["access_token"]).status_code in (401, 403)


def test_online_access_ends_with_the_session_that_it_was_allowed_in(site: SmartSite) -> None:
    """Whoever else is signed in, the same person elsewhere too."""
    elsewhere, allowed = site.session("patient"), site.session("patient")
    told = site.tokens(scope="patient/*.rs online_access", session=allowed)
    assert site.fhir("ImagingStudy", told["access_token"]).status_code == 200
    with site.node.database.write() as connection:  # it is idle for too long
        connection.execute(SESSION.update().where(SESSION.c.id == allowed.id).values(idle=0))
        epoch.raise_(connection)
    assert site.fhir("ImagingStudy", told["access_token"]).status_code == 401
    assert site.refresh(told["refresh_token"]).json()["error"] == "invalid_grant"
    site.node.people.sessions.close(elsewhere)

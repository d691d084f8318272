"""Refresh tokens (SMART App Launch 2.2, "Refresh access token"; RFC 6749 section 6; RFC 9700 section 4.14)."""

from concurrent.futures import ThreadPoolExecutor
from typing import Final

from conformance.smart.cases.token import not_kept
from conformance.smart.kit import Area, Skipped, check
from conformance.smart.system import Grant, System, oauth_error, refused

AREA = Area("refresh")
case = AREA.case

SCOPE: Final = "launch/patient patient/ImagingStudy.rs patient/Patient.rs offline_access"


def _offline(system: System, client: str = "public") -> Grant:
    """A new grant with a refresh token."""
    system.able("permission-offline")
    grant = system.fresh(SCOPE, client=client)
    check(grant.body.get("refresh_token"), "offline_access was asked for, and no refresh token came")
    return grant


@case("issued", "offline_access brings a refresh token", 89, 101, 365)
def _(system: System) -> None:
    _offline(system)


@case("not-asked", "Without offline_access or online_access none comes", 89)
def _(system: System) -> None:
    grant = system.fresh("launch/patient patient/ImagingStudy.rs")
    check("refresh_token" not in grant.body, "a refresh token came that nobody asked for")


@case("response", "A refresh answers with access_token, token_type, expires_in and scope", 101, 110, 111, 112, 113)
def _(system: System) -> None:
    first = _offline(system)
    answer = system.refresh(first)
    second = system.granted_by(answer)
    check(str(second.body.get("token_type", "")).lower() == "bearer", f"token_type {second.body.get('token_type')}")
    check(isinstance(second.body.get("expires_in"), int), "no expires_in")
    check(isinstance(second.body.get("scope"), str), "no scope")
    check(second.token != first.token, "the same access token came again")
    not_kept(answer)


@case("scope-same", "Without scope it gives what was granted at first", 109, 114)
def _(system: System) -> None:
    first = _offline(system)
    second = system.granted_by(system.refresh(first))
    check(second.scopes == first.scopes, f"scope {sorted(second.scopes)} instead of {sorted(first.scopes)}")


@case("scope-less", "It may give less than was granted at first", 104, 115)
def _(system: System) -> None:
    second = system.granted_by(system.refresh(_offline(system), scope="patient/ImagingStudy.rs"))
    check(second.scopes <= {"patient/ImagingStudy.rs"}, f"more came than was asked: {sorted(second.scopes)}")
    refused(system.read(f"Patient/{system.target.patient('a')}", second.token))


@case("scope-more", "It never gives more", 104)
def _(system: System) -> None:
    answer = system.refresh(_offline(system), scope=f"{SCOPE} patient/*.cruds user/*.cruds")
    if answer.status_code != 200:
        oauth_error(answer, "invalid_scope")
        return
    more = {each for each in system.granted_by(answer).scopes if each not in SCOPE.split()}
    check(not more, f"it also gave {sorted(more)}")


@case("patient", "The patient of the launch stays", 104, 109)
def _(system: System) -> None:
    first = _offline(system)
    second = system.granted_by(system.refresh(first))
    check(second.body.get("patient") in (None, first.body.get("patient")), "it is another patient")
    answer = system.read(f"ImagingStudy?patient={system.target.patient('a')}", second.token)
    check(answer.status_code == 200, f"status {answer.status_code} with the new token")


@case("other-client", "A refresh token is worth nothing to another client, and is not burnt by it", 103)
def _(system: System) -> None:
    first = _offline(system)
    oauth_error(system.refresh(first, client="secret"), "invalid_grant", "invalid_client")
    system.granted_by(system.refresh(first))


@case("bad-scope-burns-nothing", "A refusal for a wrong scope burns nothing", 103)
def _(system: System) -> None:
    first = _offline(system)
    if system.refresh(first, scope="system/*.cruds").status_code == 200:
        raise Skipped("the scope was ignored, not refused")
    system.granted_by(system.refresh(first))


@case("rotates", "A public client gets another refresh token each time", source="RFC 9700 section 4.14.2")
def _(system: System) -> None:
    first = _offline(system)
    second = system.granted_by(system.refresh(first))
    check(second.body.get("refresh_token"), "no new refresh token")
    check(second.body["refresh_token"] != first.body["refresh_token"], "the same refresh token stays")


@case("reuse", "One that was used before ends the whole grant", source="RFC 9700 section 4.14.2")
def _(system: System) -> None:
    first = _offline(system)
    second = system.granted_by(system.refresh(first), "public")
    third = system.granted_by(system.refresh(second), "public")
    oauth_error(system.refresh(first), "invalid_grant")
    oauth_error(system.refresh(third), "invalid_grant")
    refused(system.read(f"ImagingStudy?patient={system.target.patient('a')}", third.token), 401)


@case("race", "Of many that come at once with one token, no two live on apart", source="RFC 9700 section 4.14.2")
def _(system: System) -> None:
    first = _offline(system)
    with ThreadPoolExecutor(6) as threads:
        answers = list(threads.map(lambda _: system.refresh(first), range(6)))
    check(
        all(each.status_code in (200, 400, 401) for each in answers), f"statuses {sorted(each.status_code for each in answers)}"
    )
    ends = [system.granted_by(each, "public") for each in answers if each.status_code == 200]
    tokens = {str(each.body.get("refresh_token")): each for each in ends}
    after = [
        system.granted_by(answer, "public") for each in tokens.values() if (answer := system.refresh(each)).status_code == 200
    ]
    further = [each for each in after if system.refresh(each).status_code == 200]
    check(len(further) <= 1, f"{len(further)} branches of one grant live on")


@case("unknown", "One that nobody made is refused", source="RFC 6749 section 5.2")
def _(system: System) -> None:
    form = {"grant_type": "refresh_token", "refresh_token": "kit-no-token"}
    oauth_error(system.token_request(form, system.target.client("public")), "invalid_grant")


@case("unauthenticated", "A client with a secret refreshes nothing without it", 103)
def _(system: System) -> None:
    system.able("client-confidential-symmetric")
    grant = _offline(system, "secret")
    app = system.target.client("secret")
    form = {"grant_type": "refresh_token", "refresh_token": str(grant.body["refresh_token"]), "client_id": app.id}
    oauth_error(system.token_request(form, None), "invalid_client", "invalid_grant")
    system.granted_by(system.refresh(grant))


@case("revoked", "A refresh token that was revoked is worth nothing, nor is its access token", source="RFC 7009 section 2.1")
def _(system: System) -> None:
    url = system.endpoint("revocation_endpoint")
    grant = _offline(system)
    answer = system.authenticated(url, {"token": str(grant.body["refresh_token"])}, system.target.client("public"))
    check(answer.status_code == 200, f"revocation answered {answer.status_code}")
    oauth_error(system.refresh(grant), "invalid_grant")
    refused(system.read(f"ImagingStudy?patient={system.target.patient('a')}", grant.token), 401)


@case("online", "online_access brings a refresh token while the person is there", 100, 366)
def _(system: System) -> None:
    system.able("permission-online")
    grant = system.fresh("launch/patient patient/ImagingStudy.rs online_access")
    check(grant.body.get("refresh_token"), "no refresh token came")
    system.granted_by(system.refresh(grant))

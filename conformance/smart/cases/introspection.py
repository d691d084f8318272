"""Token introspection (SMART App Launch 2.2, Token Introspection; RFC 7662)."""

from typing import Any, Final

from conformance.smart.kit import Area, Skipped, check
from conformance.smart.system import Grant, System, refused

AREA = Area("introspection")
case = AREA.case

SCOPE: Final = "openid fhirUser launch/patient patient/ImagingStudy.rs"


def _told(system: System, token: str, client: str = "introspector") -> dict[str, Any]:
    """What the endpoint says of a token to a client that may ask."""
    url = system.endpoint("introspection_endpoint")
    name = client if client in system.target.clients else "secret"
    answer = system.authenticated(url, {"token": token}, system.target.client(name))
    check(answer.status_code == 200, f"status {answer.status_code}: {answer.text[:200]}")
    return dict(answer.json())


def _grant(system: System) -> Grant:
    return system.grant(SCOPE if "sso-openid-connect" in system.capabilities else "launch/patient patient/ImagingStudy.rs")


@case("active", "A token that lives is told as active, with scope, client_id and exp", 271, 272, 273, 274, 275, 276, 283)
def _(system: System) -> None:
    grant = _grant(system)
    found = _told(system, grant.token)
    check(found.get("active") is True, f"active is {found.get('active')!r}")
    check(set(str(found.get("scope", "")).split()) == grant.scopes, f"scope is {found.get('scope')}")
    check(found.get("client_id") == system.target.client("public").id, f"client_id is {found.get('client_id')}")
    check(isinstance(found.get("exp"), int), f"exp is {found.get('exp')!r}")
    check(abs(found["exp"] - (grant.at + float(grant.body["expires_in"]))) <= 10, "exp and expires_in disagree")


@case("context", "Its launch context is told too", 277)
def _(system: System) -> None:
    grant = _grant(system)
    found = _told(system, grant.token)
    for name in ("patient", "encounter", "intent", "fhirContext", "need_patient_banner", "tenant", "smart_style_url"):
        check(name not in grant.body or found.get(name) == grant.body[name], f"{name} is {found.get(name)!r}")


@case("identity", "And who the person is, where an id_token was issued", 278, 279, 280)
def _(system: System) -> None:
    grant = _grant(system)
    if "id_token" not in grant.body:
        raise Skipped("no id_token was issued")
    from conformance.smart import jwts

    parts = jwts.parts(str(grant.body["id_token"]))
    check(parts is not None, "the id_token is no JWT")
    claims = parts[1] if parts else {}
    found = _told(system, grant.token)
    for name in ("iss", "sub", "fhirUser"):
        check(name not in claims or found.get(name) == claims[name], f"{name} is {found.get(name)!r}")


@case("unknown", "Of what is no token it says active: false, and nothing else", 271, 272, source="RFC 7662 section 2.2")
def _(system: System) -> None:
    for token in ("kit-no-token", "a.b.c", "eyJhbGciOiJub25lIn0.e30."):
        check(_told(system, token) == {"active": False}, f"it said {_told(system, token)}")


@case("revoked", "Of a revoked token it says the same", 272, source="RFC 7662 section 2.2")
def _(system: System) -> None:
    url = system.endpoint("revocation_endpoint")
    grant = system.fresh("launch/patient patient/ImagingStudy.rs")
    system.authenticated(url, {"token": grant.token}, system.target.client("public"))
    check(_told(system, grant.token) == {"active": False}, "it is still active")


@case("unauthenticated", "Nobody is told without authentication", 271, source="RFC 7662 section 2.1")
def _(system: System) -> None:
    answer = system.wire.post(system.endpoint("introspection_endpoint"), form={"token": _grant(system).token})
    check(answer.status_code in (400, 401, 403), f"status {answer.status_code}")


@case("public-client", "Nor is a client that only says its name", 271, source="RFC 7662 section 4")
def _(system: System) -> None:
    url = system.endpoint("introspection_endpoint")
    form = {"token": _grant(system).token, "client_id": system.target.client("public").id}
    answer = system.wire.post(url, form=form)
    check(answer.status_code in (400, 401, 403), f"status {answer.status_code}")


@case("by-bearer", "A client may show a bearer token instead, and ask about any token", 282, 283)
def _(system: System) -> None:
    url = system.endpoint("introspection_endpoint")
    grant = _grant(system)
    own = system.backend_grant(system.target.tokens.get("introspection_scope", "system/ImagingStudy.rs"))
    answer = system.wire.post(url, form={"token": grant.token}, token=own.token)
    check(answer.status_code == 200, f"status {answer.status_code}: {answer.text[:200]}")
    check(answer.json().get("active") is True, "the token is not told as active")


@case("bearer-expired", "But not by a token that is worth nothing", 282)
def _(system: System) -> None:
    answer = system.wire.post(system.endpoint("introspection_endpoint"), form={"token": "x"}, token="kit-no-token")
    refused(answer, 400, 401, 403)


@case("not-kept", "The answer is not kept", source="RFC 7662 section 4")
def _(system: System) -> None:
    url = system.endpoint("introspection_endpoint")
    name = "introspector" if "introspector" in system.target.clients else "secret"
    answer = system.authenticated(url, {"token": _grant(system).token}, system.target.client(name))
    check("no-store" in answer.headers.get("cache-control", ""), "no Cache-Control: no-store")


@case("no-token", "A request without token is an error", 271)
def _(system: System) -> None:
    url = system.endpoint("introspection_endpoint")
    name = "introspector" if "introspector" in system.target.clients else "secret"
    answer = system.authenticated(url, {}, system.target.client(name))
    check(answer.status_code == 400, f"status {answer.status_code}")

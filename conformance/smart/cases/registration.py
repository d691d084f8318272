"""Dynamic registration of clients (RFC 7591, RFC 7592), and what SMART App Launch 2.2 asks of any registration."""

from typing import Any

import httpx2

from conformance.smart import jwts
from conformance.smart.kit import Area, Skipped, check
from conformance.smart.system import System

AREA = Area("registration")
case = AREA.case

_REDIRECT = "https://app.example.org/callback"


def _register(system: System, *, authorized: bool = True, **given: Any) -> httpx2.Response:
    url = system.endpoint("registration_endpoint")
    token = system.target.initial_access_token or None if authorized else None
    body = {
        "client_name": "Kit",
        "redirect_uris": [_REDIRECT],
        "grant_types": ["authorization_code"],
        "response_types": ["code"],
        "token_endpoint_auth_method": "none",
        "scope": "launch/patient patient/ImagingStudy.rs",
        **given,
    }
    answer = system.wire.post(url, json={name: value for name, value in body.items() if value is not None}, token=token)
    if authorized and answer.status_code in (401, 403):
        raise Skipped("registration is closed; give initial_access_token in the target file")
    return answer


def _registered(system: System, **given: Any) -> dict[str, Any]:
    answer = _register(system, **given)
    check(answer.status_code == 201, f"status {answer.status_code}: {answer.text[:300]}")
    return dict(answer.json())


@case("public", "A public client gets a client_id and what it registered, and no secret", 18, 24, 316)
def _(system: System) -> None:
    found = _registered(system)
    check(found.get("client_id"), "no client_id")
    check(found.get("redirect_uris") == [_REDIRECT], f"redirect_uris {found.get('redirect_uris')}")
    check("client_secret" not in found, "a public client got a secret")


@case("jwks", "A client may hand over its keys", 24, 297, 316)
def _(system: System) -> None:
    key = jwts.public_part(jwts.new_key())
    found = _registered(system, token_endpoint_auth_method="private_key_jwt", jwks={"keys": [key]})
    check(found.get("client_id"), "no client_id")
    check("client_secret" not in found, "a client with keys got a secret")


@case("jwks-uri", "Or the URL where they are", 24, 296, 316)
def _(system: System) -> None:
    found = _registered(
        system,
        token_endpoint_auth_method="private_key_jwt",
        jwks_uri="https://app.example.org/jwks.json",
    )
    check(found.get("client_id"), "no client_id")


@case("private-key", "A key with what is private is refused", 305, source="RFC 7591 section 3.2.2")
def _(system: System) -> None:
    answer = _register(system, token_endpoint_auth_method="private_key_jwt", jwks={"keys": [jwts.new_key()]})
    check(answer.status_code == 400, f"status {answer.status_code}")


def _refused(id: str, title: str, **given: Any) -> None:
    @case(id, title, 18, source="RFC 7591 section 3.2.2")
    def _(system: System) -> None:
        answer = _register(system, **given)
        check(answer.status_code == 400, f"status {answer.status_code}: {answer.text[:200]}")
        check(answer.json().get("error"), "no error is named")


_refused("http-redirect", "A redirect_uri without TLS is refused", redirect_uris=["http://app.example.org/callback"])
_refused("fragment", "So is one with a fragment", redirect_uris=["https://app.example.org/callback#x"])
_refused("script", "So is a script", redirect_uris=["javascript:alert(1)"])
_refused("wildcard", "So is one with a wildcard", redirect_uris=["https://*.example.org/callback"])
_refused("none", "So is a client without one", redirect_uris=[])
_refused(
    "local-keys",
    "So are keys at an address of the server's own machine",
    token_endpoint_auth_method="private_key_jwt",
    jwks_uri="http://127.0.0.1/jwks",
)


@case("closed", "Without leave nobody registers, or nobody gets more than a patient may give", 18, source="RFC 7591 section 5")
def _(system: System) -> None:
    answer = _register(system, authorized=False, scope="system/*.cruds", grant_types=["client_credentials"])
    if answer.status_code == 201:
        check("system/" not in str(answer.json().get("scope", "")), "anybody registers for system/ scopes")
    else:
        check(answer.status_code in (400, 401, 403), f"status {answer.status_code}")


@case("managed", "A client reads and removes its registration by the token that it got", source="RFC 7592 section 2")
def _(system: System) -> None:
    found = _registered(system)
    if "registration_client_uri" not in found:
        raise Skipped("registrations cannot be managed")
    url, token = found["registration_client_uri"], found["registration_access_token"]
    check(system.wire.get(url, token=token).status_code == 200, "it cannot be read")
    check(system.wire.get(url, token="kit").status_code == 401, "anybody reads it")
    check(system.wire.ask("DELETE", url, token=token).status_code == 204, "it cannot be removed")
    check(system.wire.get(url, token=token).status_code in (401, 404), "it is still there")

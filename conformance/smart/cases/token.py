"""The token endpoint with a code, and what an access token is worth (SMART App Launch 2.2; RFC 6749 sections 4.1.3, 5.1, 5.2; RFC 9700)."""

import re
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import httpx2

from conformance.smart import jwts
from conformance.smart.kit import Area, Skipped, check
from conformance.smart.system import Changes, System, oauth_error, refused

AREA = Area("token")
case = AREA.case

SCOPE: Final = "launch/patient patient/ImagingStudy.rs"
_CODE_LIFE: Final = 61


def not_kept(answer: httpx2.Response) -> None:
    """RFC 6749 section 5.1: what holds tokens is not kept by anybody on the way."""
    check("no-store" in answer.headers.get("cache-control", "").lower(), "Cache-Control: no-store is missing")
    check("no-cache" in answer.headers.get("pragma", "").lower(), "Pragma: no-cache is missing")


@case("response", "A token response has access_token, token_type Bearer, scope and expires_in", 73, 74, 75, 76, 78, 84, 88, 355)
def _(system: System) -> None:
    answer = system.redeem(system.authorize(SCOPE))
    check(answer.status_code == 200, f"status {answer.status_code}: {answer.text[:200]}")
    check(answer.headers.get("content-type", "").startswith("application/json"), "it is no application/json")
    found = answer.json()
    check(isinstance(found.get("access_token"), str) and found["access_token"], "no access_token")
    check(str(found.get("token_type", "")).lower() == "bearer", f"token_type {found.get('token_type')}")
    check(isinstance(found.get("scope"), str), "no scope")
    check(isinstance(found.get("expires_in"), int) and found["expires_in"] > 0, f"expires_in {found.get('expires_in')}")


@case("an-hour", "An access token lives an hour at most", 91)
def _(system: System) -> None:
    seconds = system.grant(SCOPE).body.get("expires_in")
    check(isinstance(seconds, int) and seconds <= 3600, f"expires_in {seconds}")


@case("characters", "An access token has only the characters that RFC 6750 allows", 85)
def _(system: System) -> None:
    check(re.fullmatch(r"[A-Za-z0-9\-._~+/]+=*", system.grant(SCOPE).token), "it has others")


@case("size", "An access token fits into a header", 134)
def _(system: System) -> None:
    check(len(system.grant(SCOPE).token) <= 4096, f"it has {len(system.grant(SCOPE).token)} characters")


@case("headers", "A token response is not kept: no-store and no-cache", 86, 87)
def _(system: System) -> None:
    not_kept(system.redeem(system.authorize(SCOPE)))


@case("headers-of-errors", "Nor is an error", 86, 87)
def _(system: System) -> None:
    not_kept(system.token_request({"grant_type": "authorization_code", "code": "kit"}, system.target.client("public")))


@case("use", "An access token opens what its scope says", 94, 95, 353)
def _(system: System) -> None:
    answer = system.read(f"ImagingStudy?patient={system.target.patient('a')}", system.token(SCOPE))
    check(answer.status_code == 200, f"status {answer.status_code}: {answer.text[:200]}")


@case("none", "Without a token there is nothing, and WWW-Authenticate says why", 94, source="RFC 6750 section 3")
def _(system: System) -> None:
    answer = system.read(f"ImagingStudy?patient={system.target.patient('a')}")
    refused(answer, 401)
    check("bearer" in answer.headers.get("www-authenticate", "").lower(), "no WWW-Authenticate: Bearer")


@case("once", "A code works once", 58, source="RFC 6749 section 4.1.2")
def _(system: System) -> None:
    answered = system.authorize(SCOPE)
    system.granted_by(system.redeem(answered))
    oauth_error(system.redeem(answered), "invalid_grant")


@case("replay-revokes", "A code that comes twice takes back the tokens of the first time", source="RFC 6749 section 4.1.2")
def _(system: System) -> None:
    answered = system.authorize(SCOPE)
    first = system.granted_by(system.redeem(answered))
    oauth_error(system.redeem(answered), "invalid_grant")
    refused(system.read(f"ImagingStudy?patient={system.target.patient('a')}", first.token), 401)


@case("race", "Of many that redeem one code at once, one at most gets a token", source="RFC 9700 section 4.5")
def _(system: System) -> None:
    answered = system.authorize(SCOPE)
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda _: system.redeem(answered).status_code, range(8)))
    check(found.count(200) <= 1, f"{found.count(200)} tokens for one code")
    check(all(each < 500 for each in found), f"statuses {sorted(found)}")


@case("code-expires", "A code works for a short time only", 58)
def _(system: System) -> None:
    if system.target.patience < _CODE_LIFE:
        raise Skipped(f"it would wait {_CODE_LIFE} s; set patience in the target file")
    answered = system.authorize(SCOPE)
    time.sleep(_CODE_LIFE)
    oauth_error(system.redeem(answered), "invalid_grant")


def _refused(
    id: str, title: str, changed: Changes, *numbers: int, errors: tuple[str, ...] = ("invalid_grant",), source: str = ""
) -> None:
    @case(id, title, *numbers, 73, source=source)
    def _(system: System) -> None:
        oauth_error(system.redeem(system.authorize(SCOPE), changed=changed), *errors)


_refused(
    "no-verifier", "No token without code_verifier", {"code_verifier": None}, 31, errors=("invalid_grant", "invalid_request")
)
_refused("empty-verifier", "Nor with an empty one", {"code_verifier": ""}, 31, errors=("invalid_grant", "invalid_request"))
_refused("other-verifier", "Nor with another one", {"code_verifier": "a" * 64}, 31, errors=("invalid_grant", "invalid_request"))
_refused(
    "other-redirect", "Nor for another redirect_uri", {"redirect_uri": "https://other.invalid/"}, source="RFC 6749 section 4.1.3"
)
_refused(
    "no-redirect",
    "Nor without redirect_uri",
    {"redirect_uri": None},
    errors=("invalid_grant", "invalid_request"),
    source="RFC 6749 section 4.1.3",
)
_refused("other-code", "Nor for a code that nobody made", {"code": "kit-no-code"})
_refused("no-grant-type", "Nor without grant_type", {"grant_type": None}, errors=("invalid_request", "unsupported_grant_type"))
_refused("password", "Nor for a password", {"grant_type": "password", "username": "x", "password": "y"}, errors=("unsupported_grant_type", "invalid_request", "unauthorized_client"), source="RFC 9700 section 2.4")  # fmt: skip


@case("challenge-as-verifier", "The challenge of S256 is no verifier", 31, 15)
def _(system: System) -> None:
    from conformance.smart.system import challenge

    answered = system.authorize(SCOPE)
    answer = system.redeem(answered, changed={"code_verifier": challenge(answered.verifier)})
    oauth_error(answer, "invalid_grant", "invalid_request")


@case("other-client", "A code is for the client that it was made for", source="RFC 6749 section 4.1.3")
def _(system: System) -> None:
    answer = system.redeem(system.authorize(SCOPE), client=system.target.client("secret"))
    oauth_error(answer, "invalid_grant", "invalid_client")


@case("twice", "A parameter that comes twice is refused", source="RFC 6749 section 3.2")
def _(system: System) -> None:
    answered = system.authorize(SCOPE)
    form = [
        ("grant_type", "authorization_code"), ("code", answered.code), ("redirect_uri", answered.client.redirect_uri),
        ("code_verifier", answered.verifier), ("client_id", answered.client.id), ("code", "another"),
    ]  # fmt: skip
    oauth_error(system.wire.post(system.endpoint("token_endpoint"), form=form), "invalid_request", "invalid_grant")


@case("by-get", "The token endpoint takes no GET", source="RFC 6749 section 3.2")
def _(system: System) -> None:
    answered = system.authorize(SCOPE)
    answer = system.wire.get(
        system.endpoint("token_endpoint"),
        params={
            "grant_type": "authorization_code", "code": answered.code, "redirect_uri": answered.client.redirect_uri,
            "code_verifier": answered.verifier, "client_id": answered.client.id,
        },
    )  # fmt: skip
    check(answer.status_code in (400, 404, 405), f"status {answer.status_code}")


@case("symmetric-basic", "A client with a secret authenticates by Basic", 356)
def _(system: System) -> None:
    system.able("client-confidential-symmetric")
    system.granted_by(system.redeem(system.authorize(SCOPE, client="secret")))


@case("symmetric-wrong", "No token for a wrong secret: invalid_client, 401", 356, 251, source="RFC 6749 section 5.2")
def _(system: System) -> None:
    system.able("client-confidential-symmetric")
    from dataclasses import replace

    wrong = replace(system.target.client("secret"), secret="not-the-secret")
    answer = system.redeem(system.authorize(SCOPE, client="secret"), client=wrong)
    oauth_error(answer, "invalid_client")
    check(answer.status_code == 401, f"status {answer.status_code}")


@case("symmetric-none", "Nor without the secret", 356)
def _(system: System) -> None:
    system.able("client-confidential-symmetric")
    from dataclasses import replace

    bare = replace(system.target.client("secret"), secret="")
    oauth_error(system.redeem(system.authorize(SCOPE, client="secret"), client=bare), "invalid_client", "invalid_grant")


@case("asymmetric-launch", "A client with a key redeems its code by an assertion", 357)
def _(system: System) -> None:
    system.able("client-confidential-asymmetric")
    system.granted_by(system.redeem(system.authorize(SCOPE, client="asymmetric")))


@case("no-bearer-in-query", "A token in a URL opens nothing", source="RFC 6750 section 2.3, RFC 9700 section 4.3.2")
def _(system: System) -> None:
    token = system.token(SCOPE)
    for name in ("access_token", "token"):
        answer = system.wire.get(f"{system.fhir}/ImagingStudy", params={"patient": system.target.patient("a"), name: token})
        refused(answer, 400, 401, 403)


@case("id-token-is-none", "An id_token opens nothing", source="RFC 9068 section 5")
def _(system: System) -> None:
    system.able("sso-openid-connect")
    found = system.grant(f"{SCOPE} openid fhirUser").body.get("id_token")
    if not found:
        raise Skipped("no id_token was issued")
    refused(system.read(f"ImagingStudy?patient={system.target.patient('a')}", str(found)), 401)


@case("refresh-token-is-none", "A refresh token opens nothing")
def _(system: System) -> None:
    found = system.grant(f"{SCOPE} offline_access").body.get("refresh_token")
    if not found:
        raise Skipped("no refresh token was issued")
    refused(system.read(f"ImagingStudy?patient={system.target.patient('a')}", str(found)), 401)


@case("tampered", "A token that was changed opens nothing", 94)
def _(system: System) -> None:
    refused(system.read(f"ImagingStudy?patient={system.target.patient('a')}", jwts.tampered(system.token(SCOPE))), 401)


@case("unsigned", "A token with alg none opens nothing", 94, source="RFC 8725 section 3.1")
def _(system: System) -> None:
    found = jwts.parts(system.token(SCOPE))
    if not found:
        raise Skipped("access tokens are no JWTs")
    for typ in ("at+jwt", "JWT"):
        refused(system.read(f"ImagingStudy?patient={system.target.patient('a')}", jwts.unsigned(found[1], typ)), 401)


@case("own-key", "A token that somebody else signed opens nothing", 94, source="RFC 8725 section 3.2")
def _(system: System) -> None:
    found = jwts.parts(system.token(SCOPE))
    if not found:
        raise Skipped("access tokens are no JWTs")
    header, claims = found
    alg = str(header.get("alg", "RS256"))
    key = jwts.new_key(str(header.get("kid", "kit")), alg)
    for more in ({}, {"jwk": jwts.public_part(key)}, {"jku": "https://attacker.invalid/jwks"}):
        refused(
            system.read(f"ImagingStudy?patient={system.target.patient('a')}", jwts.signed({**header, **more}, claims, key)), 401
        )


@case("hmac-of-key", "A token by HS256 with a public key as its secret opens nothing", 94, source="RFC 8725 section 2.1")
def _(system: System) -> None:
    found = jwts.parts(system.token(SCOPE))
    if not found:
        raise Skipped("access tokens are no JWTs")
    for key in system.wire.get(system.endpoint("jwks_uri")).json()["keys"]:
        refused(system.read(f"ImagingStudy?patient={system.target.patient('a')}", jwts.with_hmac_of(key, found[1])), 401)


@case("expired", "An expired token opens nothing", 77, 94, 265)
def _(system: System) -> None:
    token = system.target.tokens.get("expired")
    if not token:
        raise Skipped("the target file has no expired token")
    refused(system.read(f"ImagingStudy?patient={system.target.patient('a')}", token), 401)


@case("revoked", "A revoked token opens nothing", 94, source="RFC 7009 section 2.1")
def _(system: System) -> None:
    url = system.endpoint("revocation_endpoint")
    grant = system.fresh(SCOPE)
    answer = system.authenticated(url, {"token": grant.token}, system.target.client("public"))
    check(answer.status_code == 200, f"revocation answered {answer.status_code}: {answer.text[:200]}")
    refused(system.read(f"ImagingStudy?patient={system.target.patient('a')}", grant.token), 401)


@case("revoke-unknown", "Revocation of a token that nobody made is answered like any other", source="RFC 7009 section 2.2")
def _(system: System) -> None:
    url = system.endpoint("revocation_endpoint")
    answer = system.authenticated(url, {"token": "kit-no-token"}, system.target.client("public"))
    check(answer.status_code == 200, f"status {answer.status_code}")


@case("revoke-of-others", "A client cannot revoke what is another's", source="RFC 7009 section 2.1")
def _(system: System) -> None:
    url = system.endpoint("revocation_endpoint")
    grant = system.fresh(SCOPE)
    system.authenticated(url, {"token": grant.token}, system.target.client("secret"))
    answer = system.read(f"ImagingStudy?patient={system.target.patient('a')}", grant.token)
    check(answer.status_code == 200, f"another client ended it: {answer.status_code}")

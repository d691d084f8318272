"""Its token endpoint, and what access tokens are worth."""

import base64
import hashlib
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet
from peers.faulty_smart.authorizing import KEPT, Wrong, state_of
from peers.faulty_smart.state import (
    CLIENT_EC,
    CLIENT_RSA,
    ORIGIN,
    PATIENTS,
    SIGNING,
    Grant,
    Registered,
    State,
    handle,
    now,
)
from starlette.requests import Request
from starlette.responses import JSONResponse, Response


async def token(request: Request) -> Response:
    state = state_of(request)
    headers = {} if state.wrong("cacheable") else dict(KEPT)
    if request.headers.get("origin") == ORIGIN:
        headers["Access-Control-Allow-Origin"] = ORIGIN
    if request.method == "OPTIONS":
        return preflight(request)
    try:
        pairs = parse_qsl((await request.body()).decode(), True)
        form = dict(pairs)
        if len(form) != len(pairs):
            raise Wrong("invalid_request", "a parameter came twice")
        grants = {"authorization_code": _by_code, "refresh_token": _by_refresh, "client_credentials": _by_itself}
        kind = form.get("grant_type", "")
        if kind not in grants:
            raise Wrong("unsupported_grant_type" if kind else "invalid_request", "no such grant_type")
        client = authenticated(state, request, form)
        return JSONResponse(grants[kind](state, client, form), headers=headers)
    except Wrong as error:
        headers |= {"WWW-Authenticate": "Basic"} if error.status == 401 else {}
        return JSONResponse({"error": error.code, "error_description": error.words}, error.status, headers)


def preflight(request: Request) -> Response:
    """Of a registered origin."""
    if request.headers.get("origin") != ORIGIN:
        return Response(status_code=403)
    return Response(
        status_code=204,
        headers={
            "Access-Control-Allow-Origin": ORIGIN,
            "Access-Control-Allow-Methods": "GET, POST, PUT",
            "Access-Control-Allow-Headers": "authorization, content-type",
        },
    )


def authenticated(state: State, request: Request, form: Mapping[str, str]) -> Registered:
    """RFC 6749 section 2.3: who asks."""
    if "client_assertion" in form or "client_assertion_type" in form:
        return _asserted(state, form)
    authorization = request.headers.get("authorization", "")
    if authorization.startswith("Basic "):
        name, _, secret = base64.b64decode(authorization[6:]).decode().partition(":")
        secret = dict(parse_qsl(f"x={secret}")).get("x", "")
    else:
        name, secret = form.get("client_id", ""), form.get("client_secret", "")
    client = state.clients.get(name)
    if client is None or client.keys or secret != client.secret:
        raise Wrong("invalid_client", "this client is not who it says", 401)
    return client


def _asserted(state: State, form: Mapping[str, str]) -> Registered:
    if not form.get("client_assertion_type", "").endswith(":jwt-bearer"):
        raise Wrong("invalid_client", "another client_assertion_type is due", 401)
    refusal = Wrong("invalid_client", "this assertion is not valid", 401)
    try:
        keys = KeySet([CLIENT_RSA, CLIENT_EC])
        found = jwt.decode(form.get("client_assertion", ""), keys, algorithms=["RS384", "ES384"])
    except (JoseError, ValueError, KeyError) as error:
        raise refusal from error
    header, claims = found.header, found.claims
    client = state.clients.get(str(claims.get("iss")))
    moment = now()
    life = 3700 if state.wrong("long-assertions") else 300
    audience = claims.get("aud")
    if (
        client is None
        or not client.keys
        or claims.get("sub") != client.id
        or {"jku", "crit"} & set(header)
        or not header.get("kid")
        or (
            audience not in (f"{state.base}/oauth/token", [f"{state.base}/oauth/token"]) and not state.wrong("assertion-audience")
        )
        or not isinstance(claims.get("exp"), int)
        or not moment < claims["exp"] <= moment + life
        or claims.get("nbf", 0) > moment
        or not claims.get("jti")
    ):
        raise refusal
    if claims["jti"] in state.assertions and not state.wrong("jti-reuse"):
        raise refusal
    state.assertions.add(claims["jti"])
    return client


def _by_code(state: State, client: Registered, form: Mapping[str, str]) -> dict[str, Any]:
    made = state.codes.get(form.get("code", ""))
    refusal = Wrong("invalid_grant", "this code is not valid")
    if made is None or (made["client_id"] != client.id and not state.wrong("code-of-others")):
        raise refusal
    if made["redirect_uri"] != form.get("redirect_uri"):
        raise refusal
    verifier, challenge = form.get("code_verifier", ""), made.get("code_challenge", "")
    hashed = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
    if challenge not in (hashed, verifier if state.wrong("plain-pkce") else hashed) and not state.wrong("verifier-ignored"):
        raise refusal
    grant = state.grants[made["grant"]]
    if made["used"] and not state.wrong("code-reuse"):
        grant.ended = grant.ended or not state.wrong("replay-keeps-tokens")
        raise refusal
    if made["expires"] < now():
        raise refusal
    made["used"] = True
    return _tokens(state, made["grant"], grant.scope)


def _by_refresh(state: State, client: Registered, form: Mapping[str, str]) -> dict[str, Any]:
    made = state.refreshes.get(form.get("refresh_token", ""))
    refusal = Wrong("invalid_grant", "this refresh token is not valid")
    grant = state.grants[made["grant"]] if made else None
    if made is None or grant is None or grant.ended or (grant.client != client.id and not state.wrong("refresh-of-others")):
        raise refusal
    if made["used"] and not state.wrong("refresh-stays"):
        grant.ended = not state.wrong("refresh-reuse")
        raise refusal
    asked = form.get("scope") or grant.scope
    if not set(asked.split()) <= set(grant.scope.split()) and not state.wrong("refresh-widens"):
        raise Wrong("invalid_scope", "a refresh gives no more than there was")
    made["used"] = True
    answer = _tokens(state, made["grant"], asked, refreshed=True)
    if state.wrong("refresh-stays"):
        answer["refresh_token"] = form["refresh_token"]
    return answer


def _by_itself(state: State, client: Registered, form: Mapping[str, str]) -> dict[str, Any]:
    if not client.backend and not (state.wrong("secret-backend") and client.secret):
        raise Wrong("unauthorized_client", "this client has people")
    scope = " ".join(
        each for each in form.get("scope", "").split() if each in client.scope.split() or state.wrong("secret-backend")
    )
    if not scope:
        raise Wrong("invalid_scope", "none of these scopes is registered")
    id_ = handle()
    state.grants[id_] = Grant(client.id, "", scope, "", {})
    return _access(state, id_, scope, 3600 if state.wrong("long-backend") else 300)


def _access(state: State, grant_id: str, scope: str, seconds: int) -> dict[str, Any]:
    grant = state.grants[grant_id]
    claims = {
        "iss": state.base, "aud": state.fhir, "sub": grant.account or grant.client, "client_id": grant.client, "scope": scope,
        "iat": now(), "exp": now() + seconds, "jti": handle(), "grant": grant_id, "patient": grant.patient,
    }  # fmt: skip
    token = jwt.encode({"alg": "RS256", "typ": "at+jwt", "kid": SIGNING.kid}, claims, SIGNING, algorithms=["RS256"])
    return {"access_token": token, "token_type": "Bearer", "expires_in": seconds, "scope": scope}


def _tokens(state: State, grant_id: str, scope: str, *, refreshed: bool = False) -> dict[str, Any]:
    grant, words = state.grants[grant_id], scope.split()
    answer = {**_access(state, grant_id, scope, 3600), **grant.context}
    if grant.patient:
        answer["patient"] = grant.patient
    if refreshed or {"offline_access", "online_access"} & set(words):
        refresh = handle()
        state.refreshes[refresh] = {"grant": grant_id, "used": False}
        answer["refresh_token"] = refresh
    if "openid" in words:
        claims = {"iss": state.base, "sub": grant.account, "aud": grant.client, "iat": now(), "exp": now() + 3600}
        if grant.nonce:
            claims["nonce"] = grant.nonce
        if "fhirUser" in words:
            claims["fhirUser"] = f"{state.fhir}/{state.accounts[grant.account].fhir_user}"
        header = {"alg": "RS256", "typ": "JWT", "kid": SIGNING.kid}
        answer["id_token"] = jwt.encode(header, claims, SIGNING, algorithms=["RS256"])
    return answer


def validated(state: State, given: str) -> tuple[Grant, dict[str, Any]] | None:
    """The grant and claims of an access token; None where it is worth nothing."""
    try:
        if state.wrong("unsigned") or state.wrong("any-signature"):
            head, body = (_json(each) for each in given.split(".")[:2])
            if head.get("alg") == "none" or state.wrong("any-signature"):
                return _of_claims(state, body)
        found = jwt.decode(given, SIGNING, algorithms=["RS256"])
    except (JoseError, ValueError):
        return None
    if found.header.get("typ") != "at+jwt":
        if not state.wrong("id-token-opens"):
            return None
        return Grant("app", str(found.claims["sub"]), "patient/*.rs", PATIENTS["a"], {}), {
            **found.claims,
            "scope": "patient/*.rs",
        }
    return _of_claims(state, dict(found.claims))


def _json(part: str) -> dict[str, Any]:
    import json

    return dict(json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))))


def _of_claims(state: State, claims: dict[str, Any]) -> tuple[Grant, dict[str, Any]] | None:
    grant = state.grants.get(str(claims.get("grant")))
    fits = claims.get("iss") == state.base or state.wrong("any-signature")
    audience = claims.get("aud") == state.fhir or state.wrong("audience-ignored")
    if grant is None or grant.ended or not fits or not audience or claims["exp"] < now():
        return None
    return grant, claims

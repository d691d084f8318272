"""Its authorization server."""

import base64
import hashlib
import re
from collections.abc import Mapping
from html import escape
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet
from peers.faulty_smart.state import (
    CLIENT_EC,
    CLIENT_RSA,
    FHIR,
    INITIAL,
    ORIGIN,
    PATIENTS,
    REDIRECT,
    SIGNING,
    Grant,
    Registered,
    State,
    handle,
    now,
)
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from profiles.smart.scopes import is_resource_scope, narrowed, parse_scope, words_of

_PAGE: Final = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
}
_KEPT: Final = {"Cache-Control": "no-store", "Pragma": "no-cache"}
_CHALLENGE: Final = re.compile(r"[A-Za-z0-9._~-]{43,128}")
_LETTERS: Final = "cruds"


class Wrong(Exception):
    """An OAuth error."""

    def __init__(self, code: str, words: str, status: int = 400) -> None:
        super().__init__(words)
        self.code, self.words, self.status = code, words, status


def _state(request: Request) -> State:
    found: State = request.app.state.smart
    return found


def configuration(state: State) -> dict[str, Any]:
    """The SMART configuration."""
    base = state.base
    return {
        "issuer": base,
        "jwks_uri": f"{base}/oauth/jwks",
        "authorization_endpoint": f"{base}/oauth/authorize",
        "token_endpoint": f"{base}/oauth/token",
        "introspection_endpoint": f"{base}/oauth/introspect",
        "revocation_endpoint": f"{base}/oauth/revoke",
        "registration_endpoint": f"{base}/oauth/register",
        "management_endpoint": f"{base}/account/apps",
        "user_access_brand_bundle": f"{base}/brands",
        "user_access_brand_identifier": {"system": "urn:ietf:rfc:3986", "value": "https://example.org"},
        "grant_types_supported": ["authorization_code", "client_credentials"],
        "response_types_supported": ["code"],
        "scopes_supported": ["openid", "fhirUser", "launch/patient", "patient/*.cruds", "system/ImagingStudy.rs"],
        "code_challenge_methods_supported": ["S256"],
        "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post", "private_key_jwt"],
        "token_endpoint_auth_signing_alg_values_supported": ["RS384", "ES384"],
        "id_token_signing_alg_values_supported": ["RS256"],
        "capabilities": [
            "launch-ehr", "launch-standalone", "authorize-post", "client-public", "client-confidential-symmetric",
            "client-confidential-asymmetric", "sso-openid-connect", "context-banner", "context-style", "context-ehr-patient",
            "context-ehr-encounter", "context-standalone-patient", "permission-offline", "permission-online", "permission-patient",
            "permission-user", "permission-v1", "permission-v2", "smart-imaging-access",
            "http://fhir.org/argonaut/smart-imaging/capabilities/app-launch",
            "http://fhir.org/argonaut/smart-imaging/capabilities/backend-services",
        ],
    }  # fmt: skip


# --- authorize


async def authorize(request: Request) -> Response:
    state = _state(request)
    pairs = parse_qsl((await request.body()).decode(), True) if request.method == "POST" else request.query_params.multi_items()
    given = dict(pairs)
    client = state.clients.get(given.get("client_id", ""))
    if client is None or client.backend:
        return _page("<h1>This app is not known here</h1>", 400)
    if not _redirect_fits(state, given.get("redirect_uri", "")):
        return _page("<h1>This app may not be sent to that address</h1>", 400)
    try:
        if len(given) != len(pairs):
            raise Wrong("invalid_request", "a parameter came twice")
        given["scope"] = _validated(state, given, client)
    except Wrong as error:
        return _back(state, given, error=error.code, error_description=error.words)
    id_ = handle()
    state.requests[id_] = given
    return RedirectResponse(f"/sign-in/{id_}", 303, _PAGE)


def _redirect_fits(state: State, redirect: str) -> bool:
    if state.wrong("open-redirect") and redirect:
        return True
    return redirect == REDIRECT or (state.wrong("redirect-prefix") and redirect.startswith(REDIRECT))


def _validated(state: State, given: Mapping[str, str], client: Registered) -> str:
    if given.get("response_type") != "code":
        raise Wrong("unsupported_response_type" if "response_type" in given else "invalid_request", "response_type is code")
    if not given.get("state"):
        raise Wrong("invalid_request", "state is missing")
    if given.get("aud", "").rstrip("/") != state.fhir and not state.wrong("aud-ignored"):
        raise Wrong("invalid_request", "aud is another server")
    method, challenge = given.get("code_challenge_method"), given.get("code_challenge", "")
    lenient = (state.wrong("no-pkce") and not challenge) or (state.wrong("plain-pkce") and method in (None, "plain"))
    if not lenient and (method != "S256" or not _CHALLENGE.fullmatch(challenge)):
        raise Wrong("invalid_request", "PKCE with S256 is due")
    if "launch" in given and given["launch"] not in state.launches:
        raise Wrong("invalid_request", "no such launch")
    asked = _rewritten(state, given.get("scope", ""))
    scope = " ".join(word for word in _granted(asked, client.scope))
    if not any(is_resource_scope(each) or each == "openid" for each in scope.split()):
        raise Wrong("invalid_scope", "none of these scopes is offered")
    return scope


def _granted(asked: str, registered: str) -> list[str]:
    """Of the asked words those that are registered; a role of a launch scope makes no difference."""
    found = []
    for word in words_of(asked):
        plain = word.partition("?")[0] if word.startswith("launch/") else word
        if plain in registered.split() or (is_resource_scope(word) and narrowed(word, registered)):
            found.append(word)
    return found


def _rewritten(state: State, scope: str) -> str:
    """The fault of reading letters in any order."""
    if not state.wrong("scope-unordered"):
        return scope
    words = []
    for word in scope.split():
        head, _, letters = word.partition(".")
        known = is_resource_scope(word) and letters and set(letters) <= set(_LETTERS)
        words.append(f"{head}.{''.join(each for each in _LETTERS if each in letters)}" if known else word)
    return " ".join(words)


def _back(state: State, given: Mapping[str, str], **said: str) -> Response:
    """A redirect to the app."""
    parameters = dict(said)
    if not state.wrong("no-iss"):
        parameters["iss"] = state.base
    if "state" in given and not state.wrong("state-dropped"):
        parameters["state"] = given["state"]
    return RedirectResponse(f"{given['redirect_uri']}?{urlencode(parameters)}", 303, _PAGE)


def _page(body: str, status: int = 200) -> HTMLResponse:
    return HTMLResponse(f"<!doctype html><title>Sign in</title><main>{body}</main>", status, _PAGE)


async def sign_in(request: Request) -> Response:
    state, id_ = _state(request), request.path_params["id"]
    if id_ not in state.requests:
        return _page("<h1>This request is over</h1>", 400)
    if request.method == "POST":
        form = dict(parse_qsl((await request.body()).decode()))
        if form.get("email") in state.accounts and form.get("password") == "kit":
            cookie = handle()
            state.sessions[cookie] = form["email"]
            answer = RedirectResponse(f"/consent/{id_}", 303, _PAGE)
            answer.set_cookie("session", cookie, httponly=True, samesite="lax")
            return answer
    return _page(
        f'<form method="post" action="/sign-in/{id_}"><input type="email" name="email" required><input type="password" name="password">'
        "<button>Sign in</button></form>"
    )


async def consent(request: Request) -> Response:
    state, id_ = _state(request), request.path_params["id"]
    given, who = state.requests.get(id_), state.sessions.get(request.cookies.get("session", ""))
    if given is None or who is None:
        return _page("<h1>This request is over</h1>", 400)
    if request.method == "GET":
        return _page(_consent_form(state, id_, given, who))
    pairs = parse_qsl((await request.body()).decode(), True)
    form = dict(pairs)
    if form.get("csrf") != hashlib.sha256(f"{id_}{who}".encode()).hexdigest():
        return _page("<h1>This form is not ours</h1>", 403)
    state.requests.pop(id_)
    if form.get("answer") != "allow":
        return _back(state, given, error="access_denied", error_description="it was refused")
    chosen = [value for name, value in pairs if name == "scope"]
    return _approved(state, given, who, chosen, form)


def _consent_form(state: State, id_: str, given: Mapping[str, str], who: str) -> str:
    scopes = "".join(
        f'<label><input type="checkbox" name="scope" value="{escape(each, True)}" checked> {escape(each)}</label>'
        for each in given["scope"].split()
    )
    patients = "".join(f'<option value="{PATIENTS[each]}">{each}</option>' for each in state.accounts[who].patients)
    studies = "".join(
        f'<label><input type="radio" name="study" value="{each.uid}"> {each.name}</label>' for each in state.studies
    )
    csrf = hashlib.sha256(f"{id_}{who}".encode()).hexdigest()
    return (
        f'<form method="post" action="/consent/{id_}"><input type="hidden" name="csrf" value="{csrf}">{scopes}'
        f'<select name="patient">{patients}</select>{studies}'
        '<button name="answer" value="deny">Deny</button><button name="answer" value="allow">Allow</button></form>'
    )


def _approved(state: State, given: Mapping[str, str], who: str, chosen: list[str], form: Mapping[str, str]) -> Response:
    client = state.clients[given["client_id"]]
    scope = [each for each in given["scope"].split() if each in chosen]
    context: dict[str, Any] = {}
    patient = ""
    if "launch" in given:
        made = state.launches[given["launch"]]
        if made.pop("used", False) or made.get("client_id", client.id) != client.id:
            return _back(state, given, error="invalid_request", error_description="this launch is over")
        made["used"] = not state.wrong("launch-reuse")
        patient = str(made["patient"])
        context = {
            each: made[each] for each in ("encounter", "intent", "tenant", "fhirContext", "need_patient_banner") if each in made
        }
        context["smart_style_url"] = f"{state.base}/style.json"
    elif any(each.startswith(("patient/", "launch/patient")) for each in scope):
        own = [PATIENTS[each] for each in state.accounts[who].patients]
        patient = form["patient"] if form.get("patient") in own else own[0]
    if "launch/imagingstudy" in given["scope"] and form.get("study"):
        study = next(each for each in state.studies if each.uid == form["study"])
        context["fhirContext"] = [{"reference": f"ImagingStudy/{study.id}"}]
    if state.wrong("scope-widened"):
        scope = client.scope.split()
    grant_id, code = handle(), handle()
    state.grants[grant_id] = Grant(client.id, who, " ".join(scope), patient, context, nonce=given.get("nonce", ""))
    state.codes[code] = {**given, "grant": grant_id, "used": False, "expires": now() + 60}
    return _back(state, given, code=code)


# --- token


async def token(request: Request) -> Response:
    state = _state(request)
    headers = {} if state.wrong("cacheable") else dict(_KEPT)
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
        client = _client(state, request, form)
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


def _client(state: State, request: Request, form: Mapping[str, str]) -> Registered:
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
    if grant is None or grant.ended or not fits or claims.get("aud") != state.fhir or claims["exp"] < now():
        return None
    return grant, claims


# --- the other endpoints


async def introspect(request: Request) -> Response:
    state = _state(request)
    form = dict(parse_qsl((await request.body()).decode()))
    bearer = request.headers.get("authorization", "").removeprefix("Bearer ")
    try:
        own = validated(state, bearer)
        if not state.wrong("introspection-open") and not (own and not own[0].account):
            client = _client(state, request, form)
            if not client.secret and not client.keys:
                raise Wrong("invalid_client", "a public client is not told", 401)
        if "token" not in form:
            raise Wrong("invalid_request", "token is missing")
    except Wrong as error:
        return JSONResponse({"error": error.code}, error.status)
    found = validated(state, form["token"])
    if found is None:
        return JSONResponse({"active": False}, headers=_KEPT)
    grant, claims = found
    told = {each: claims[each] for each in ("scope", "client_id", "exp", "iss", "sub") if each in claims}
    if grant.account:
        told["fhirUser"] = f"{state.fhir}/{state.accounts[grant.account].fhir_user}"
    context = {**grant.context, **({"patient": grant.patient} if grant.patient else {})}
    return JSONResponse({"active": True, **told, **context}, headers=_KEPT)


async def revoke(request: Request) -> Response:
    state = _state(request)
    form = dict(parse_qsl((await request.body()).decode()))
    try:
        client = _client(state, request, form)
    except Wrong as error:
        return JSONResponse({"error": error.code}, error.status)
    refresh = state.refreshes.get(form.get("token", ""))
    access = validated(state, form.get("token", ""))
    grant = state.grants[refresh["grant"]] if refresh else access[0] if access else None
    if grant is not None and grant.client == client.id:
        grant.ended = not state.wrong("revocation-ignored")
    return Response(status_code=200)


async def register(request: Request) -> Response:
    state = _state(request)
    if request.headers.get("authorization") != f"Bearer {INITIAL}":
        return JSONResponse({"error": "invalid_token"}, 401)
    given = await request.json()
    redirects = given.get("redirect_uris") or []
    keys = given.get("jwks", {}).get("keys", [])
    bad = not redirects or any(not each.startswith("https://") or "#" in each or "*" in each for each in redirects)
    if bad or any("d" in each for each in keys) or not given.get("jwks_uri", "https://x").startswith("https://"):
        return JSONResponse({"error": "invalid_client_metadata"}, 400)
    id_, token_ = handle(), handle()
    made = {**given, "client_id": id_, "registration_client_uri": f"{state.base}/oauth/register/{id_}"}
    made["registration_access_token"] = token_
    state.registrations[id_] = made
    return JSONResponse(made, 201)


async def registered(request: Request) -> Response:
    state = _state(request)
    made = state.registrations.get(request.path_params["id"])
    if made is None or request.headers.get("authorization") != f"Bearer {made['registration_access_token']}":
        return JSONResponse({"error": "invalid_token"}, 401)
    if request.method == "DELETE":
        del state.registrations[made["client_id"]]
        return Response(status_code=204)
    return JSONResponse(made)


async def launch(request: Request) -> Response:
    """The EHR's own door, for a client by itself with the scope launch."""
    state = _state(request)
    found = validated(state, request.headers.get("authorization", "").removeprefix("Bearer "))
    if found is None or "launch" not in found[1]["scope"].split():
        return JSONResponse({"error": "invalid_token"}, 401)
    made = handle()
    state.launches[made] = dict(await request.json())
    return JSONResponse({"launch": made}, 201)


async def jwks(request: Request) -> Response:
    return JSONResponse({"keys": [SIGNING.as_dict(private=False)]}, headers={"Access-Control-Allow-Origin": "*"})


async def discovery(request: Request) -> Response:
    state = _state(request)
    html = state.wrong("html-discovery") and "text/html" in request.headers.get("accept", "")
    headers = {"Access-Control-Allow-Origin": "*"}
    return HTMLResponse("<p>hello", headers=headers) if html else JSONResponse(configuration(state), headers=headers)


def scopes_of(text: str) -> list[Any]:
    """The scopes of a token."""
    return [each for word in text.split() if (each := parse_scope(word)) is not None]


ROUTES: Final = [
    Route("/oauth/authorize", authorize, methods=["GET", "POST"]),
    Route("/sign-in/{id}", sign_in, methods=["GET", "POST"]),
    Route("/consent/{id}", consent, methods=["GET", "POST"]),
    Route("/oauth/token", token, methods=["POST", "OPTIONS"]),
    Route("/oauth/introspect", introspect, methods=["POST"]),
    Route("/oauth/revoke", revoke, methods=["POST"]),
    Route("/oauth/register", register, methods=["POST"]),
    Route("/oauth/register/{id}", registered, methods=["GET", "DELETE"]),
    Route("/oauth/launch", launch, methods=["POST"]),
    Route("/oauth/jwks", jwks),
    Route(f"{FHIR}/.well-known/smart-configuration", discovery),
    Route("/.well-known/openid-configuration", discovery),
    Route("/.well-known/oauth-authorization-server", discovery),
]

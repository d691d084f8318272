"""The rest of its authorization server, and the routes of all of it."""

from typing import Any, Final
from urllib.parse import parse_qsl

from peers.faulty_smart.authorizing import KEPT, Wrong, authorize, consent, sign_in, state_of
from peers.faulty_smart.state import (
    FHIR,
    INITIAL,
    SIGNING,
    State,
    handle,
)
from peers.faulty_smart.tokens import authenticated, token, validated
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from profiles.smart.scopes import parse_scope


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


async def introspect(request: Request) -> Response:
    state = state_of(request)
    form = dict(parse_qsl((await request.body()).decode()))
    bearer = request.headers.get("authorization", "").removeprefix("Bearer ")
    try:
        own = validated(state, bearer)
        if not state.wrong("introspection-open") and not (own and not own[0].account):
            client = authenticated(state, request, form)
            if not client.secret and not client.keys:
                raise Wrong("invalid_client", "a public client is not told", 401)
        if "token" not in form:
            raise Wrong("invalid_request", "token is missing")
    except Wrong as error:
        return JSONResponse({"error": error.code}, error.status)
    found = validated(state, form["token"])
    if found is None:
        return JSONResponse({"active": False}, headers=KEPT)
    grant, claims = found
    told: dict[str, Any] = {each: claims[each] for each in ("scope", "client_id", "exp", "iss", "sub") if each in claims}
    if grant.account:
        told["fhirUser"] = f"{state.fhir}/{state.accounts[grant.account].fhir_user}"
    context = {**grant.context, **({"patient": grant.patient} if grant.patient else {})}
    return JSONResponse({"active": True, **told, **context}, headers=KEPT)


async def revoke(request: Request) -> Response:
    state = state_of(request)
    form = dict(parse_qsl((await request.body()).decode()))
    try:
        client = authenticated(state, request, form)
    except Wrong as error:
        return JSONResponse({"error": error.code}, error.status)
    refresh = state.refreshes.get(form.get("token", ""))
    access = validated(state, form.get("token", ""))
    grant = state.grants[refresh["grant"]] if refresh else access[0] if access else None
    if grant is not None and grant.client == client.id:
        grant.ended = not state.wrong("revocation-ignored")
    return Response(status_code=200)


async def register(request: Request) -> Response:
    state = state_of(request)
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
    state = state_of(request)
    made = state.registrations.get(request.path_params["id"])
    if made is None or request.headers.get("authorization") != f"Bearer {made['registration_access_token']}":
        return JSONResponse({"error": "invalid_token"}, 401)
    if request.method == "DELETE":
        del state.registrations[made["client_id"]]
        return Response(status_code=204)
    return JSONResponse(made)


async def launch(request: Request) -> Response:
    """The EHR's own door, for a client by itself with the scope launch."""
    state = state_of(request)
    found = validated(state, request.headers.get("authorization", "").removeprefix("Bearer "))
    if found is None or "launch" not in found[1]["scope"].split():
        return JSONResponse({"error": "invalid_token"}, 401)
    made = handle()
    state.launches[made] = dict(await request.json())
    return JSONResponse({"launch": made}, 201)


async def jwks(request: Request) -> Response:
    return JSONResponse({"keys": [SIGNING.as_dict(private=False)]}, headers={"Access-Control-Allow-Origin": "*"})


async def discovery(request: Request) -> Response:
    state = state_of(request)
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

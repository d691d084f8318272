"""RFC 7591 and 7592: apps that register themselves, as far as the setting `client_registration` lets them."""

import hmac
import secrets
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final
from urllib.parse import urlsplit

from authlib.oauth2.rfc6749 import OAuth2Error
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from sqlalchemy import Connection

from profiles.audit_event import Agent
from profiles.smart.scopes import narrowed
from server.access.oauth import clients, granting
from server.access.oauth.clients import AUTHORIZATION_CODE, METHODS, REFRESH_TOKEN, Client, hashed, new_secret
from server.access.oauth.granting import SECOND
from server.access.oauth.messages import Answer, Message, answer, bearer
from server.access.oauth.server import OAuthServer
from server.errors import ImageShareError, TooManyAttempts
from server.settings import bracketed
from server.store.db import micros

_KINDS: Final = {method: kind for kind, methods in METHODS.items() for method in methods}


class Metadata(BaseModel):
    """RFC 7591 section 2. What is not known here is ignored, as its section 2 asks."""

    model_config = ConfigDict(extra="ignore", strict=True, frozen=True)

    client_name: str = Field(min_length=1, max_length=200)
    redirect_uris: list[str] = Field(min_length=1, max_length=20)
    token_endpoint_auth_method: str = "client_secret_basic"
    grant_types: list[str] = [AUTHORIZATION_CODE]
    response_types: list[str] = ["code"]
    scope: str = Field(default="", max_length=2048)
    client_uri: str = ""
    logo_uri: str = ""
    launch_uri: str = Field(default="", validation_alias="initiate_login_uri")
    contacts: list[str] = Field(default=[], max_length=10)
    jwks_uri: str = ""
    jwks: dict[str, Any] | None = None


def register(server: OAuthServer, message: Message) -> Answer:
    """RFC 7591 section 3: a new client, with what it needs to change itself (RFC 7592)."""
    try:
        _require_open(server, message)
        client = _client(server, Client(secrets.token_urlsafe(16), "", ""), message.body)
        token = new_secret()
        client = replace(client, registration_hash=hashed(token))
        with server.database.write() as connection:
            secret = clients.add(connection, client)
            _tell(server, connection, client.id, "client registered by itself", message)
    except OAuth2Error as error:
        return server.refusal(error)
    except ImageShareError as error:
        return server.refusal(_wrong(error.detail))
    return answer(201, _told(server, replace(client, created=micros()), secret, token))


def manage(server: OAuthServer, message: Message, client_id: str, count: Callable[[str], None]) -> Answer:
    """RFC 7592 section 2: GET, PUT and DELETE of a client by itself, with its registration access token.

    `count` is called with the client's id before it is changed, and may raise `TooManyAttempts`: every change has all rights looked at anew.
    """
    try:
        client, token = _own(server, message, client_id)
        if message.method == "DELETE":
            with server.database.write() as connection:
                granting.end_of_client(connection, client.id, "the app was deregistered")
                clients.remove(connection, client.id)
                _tell(server, connection, client.id, "client removed by itself", message)
            return answer(204, None)
        if message.method == "PUT":
            count(client.id)
            client = _changed(server, client, message)
    except TooManyAttempts:
        raise
    except OAuth2Error as error:
        return server.refusal(error)
    except ImageShareError as error:
        return server.refusal(_wrong(error.detail))
    return answer(200, _told(server, client, "", token))


def _changed(server: OAuthServer, client: Client, message: Message) -> Client:
    """RFC 7592 section 2.2: all of it anew. How it authenticates stays: a secret is not made of nothing.

    What people allowed an app of another name or address ends: they did not allow this one.
    """
    body = message.body
    if not isinstance(body, dict) or body.get("client_id") != client.id:
        raise _wrong("client_id has to be that of the client")
    changed = _client(server, client, body)
    if changed.kind != client.kind:
        raise _wrong("the kind of client stays; register a new one for another token_endpoint_auth_method")
    with server.database.write() as connection:
        clients.change(connection, changed)
        if _shown(changed) != _shown(client):
            granting.end_of_client(connection, client.id, "the app says that it is another one now")
        _tell(server, connection, client.id, "client changed by itself", message)
    return changed


def _shown(client: Client) -> tuple[object, ...]:
    """What people see of an app when they allow it."""
    return client.name, client.logo_uri, client.client_uri, sorted(client.redirect_uris)


def _tell(server: OAuthServer, connection: Connection, client: str, what: str, message: Message) -> None:
    by = Agent(identifier=client, address=message.address)
    server.told.client_changed(connection, client, what, by, message.request_id)


def _require_open(server: OAuthServer, message: Message) -> None:
    settings = server.settings
    if settings.client_registration == "open":
        return
    expected, shown = settings.client_registration_token, bearer(message.authorization) or ""
    if settings.client_registration == "token" and expected is not None:
        if hmac.compare_digest(shown.encode(), expected.get_secret_value().encode()):
            return
        raise OAuth2Error(error="invalid_token", description="the initial access token is missing or wrong", status_code=401)
    raise OAuth2Error(
        error="access_denied", description="apps do not register themselves here; ask who runs this server", status_code=403
    )


def _own(server: OAuthServer, message: Message, client_id: str) -> tuple[Client, str]:
    token = bearer(message.authorization) or ""
    client = server.query_client(client_id)
    known = client.registration_hash if client is not None and client.registration_hash else hashed("")
    if not hmac.compare_digest(hashed(token), known) or client is None or not token:
        raise OAuth2Error(error="invalid_token", description="the registration access token is missing or wrong", status_code=401)
    return client, token


def _client(server: OAuthServer, before: Client, body: object) -> Client:
    """What was sent as a client. Raises `OAuth2Error` or what `clients.require_valid` raises."""
    try:
        given = Metadata.model_validate(body)
    except ValidationError as error:
        fields = ", ".join(sorted({str(each["loc"][0]) if each["loc"] else "body" for each in error.errors(include_input=False)}))
        raise _wrong(f"missing or malformed: {fields[:200]}") from None
    kind = _KINDS.get(given.token_endpoint_auth_method)
    if kind is None:
        raise _wrong(f"token_endpoint_auth_method is one of {', '.join(_KINDS)}")
    if not set(given.grant_types) <= {AUTHORIZATION_CODE, REFRESH_TOKEN} or given.response_types != ["code"]:
        raise _wrong("grant_types are authorization_code and refresh_token, response_types is code")
    allowed = server.settings.client_registration_scope
    client = replace(
        before, name=given.client_name, kind=kind, redirect_uris=tuple(given.redirect_uris),
        grant_types=frozenset({AUTHORIZATION_CODE, *given.grant_types}),
        scope=narrowed(given.scope, allowed) if given.scope else allowed, client_uri=given.client_uri, logo_uri=given.logo_uri,
        launch_uri=given.launch_uri, contacts=tuple(given.contacts), jwks_uri=given.jwks_uri, jwks=given.jwks,
    )  # fmt: skip
    try:
        clients.require_valid(client)  # no hosts of our own: whoever registers is a stranger
    except ImageShareError as error:
        code = "invalid_redirect_uri" if "redirect URI" in error.detail else "invalid_client_metadata"
        raise OAuth2Error(error=code, description=_plain(error.detail)) from None
    _require_own_pages(client)
    return replace(client, origins=_origins(client.redirect_uris) if kind == "public" else ())


def _require_own_pages(client: Client) -> None:
    """RFC 7591 section 5: an app shows people no page or picture of a host that it is not sent back to. Raises `OAuth2Error`."""
    hosts = {urlsplit(uri).hostname for uri in client.redirect_uris}
    if any(urlsplit(uri).hostname not in hosts for uri in (client.client_uri, client.logo_uri) if uri):
        raise _wrong("client_uri and logo_uri are of a host that a redirect URI has: no app shows itself as somebody else")


def _origins(redirect_uris: Sequence[str]) -> tuple[str, ...]:
    """SMART App Launch 2.2, CORS: an app in a browser calls from where it is sent back to. RFC 7591 has no member that would say it."""
    parts = [urlsplit(uri) for uri in redirect_uris]
    hosts = [(bracketed(each.hostname), each.port) for each in parts if each.scheme == "https" and each.hostname]
    return tuple(dict.fromkeys(f"https://{host}" if port in (None, 443) else f"https://{host}:{port}" for host, port in hosts))


def _wrong(detail: str) -> OAuth2Error:
    return OAuth2Error(error="invalid_client_metadata", description=_plain(detail))


def _plain(detail: str) -> str:
    """RFC 6749 section 5.2: what an error description may be made of."""
    return "".join(mark if mark.isascii() and mark.isprintable() and mark not in '"\\' else "'" for mark in detail)


def _told(server: OAuthServer, client: Client, secret: str, token: str) -> dict[str, Any]:
    """RFC 7591 section 3.2.1. A secret only where one was made just now, and only then how long it lasts (0: for good)."""
    method = METHODS[client.kind][0]
    optional = {
        "client_uri": client.client_uri, "logo_uri": client.logo_uri, "initiate_login_uri": client.launch_uri,
        "contacts": list(client.contacts), "jwks_uri": client.jwks_uri, "jwks": client.jwks,
    }  # fmt: skip
    return {
        "client_id": client.id,
        "client_id_issued_at": client.created // SECOND,
        **({"client_secret": secret, "client_secret_expires_at": 0} if secret else {}),
        "client_name": client.name,
        "redirect_uris": list(client.redirect_uris),
        "token_endpoint_auth_method": method,
        "grant_types": sorted(client.grant_types),
        "response_types": ["code"],
        "scope": client.scope,
        **{name: value for name, value in optional.items() if value},
        "registration_client_uri": f"{server.issuer}/oauth/register/{client.id}",
        "registration_access_token": token,
    }

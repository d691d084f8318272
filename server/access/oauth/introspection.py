"""RFC 7662 and SMART App Launch 2.2, "Token Introspection": what a token stands for, told to whom it may be told."""

from collections.abc import Mapping
from typing import Any, Final

from authlib.oauth2.rfc6749 import InvalidClientError, InvalidGrantError, InvalidRequestError, OAuth2Error
from sqlalchemy import Connection, select

from profiles.smart.scopes import narrowed, parse_scopes, words_of
from server.access import rights
from server.access.decisions import Decision
from server.access.oauth import clients, granting
from server.access.oauth.clients import INTROSPECT, Client, hashed
from server.access.oauth.granting import SECOND, Granted
from server.access.oauth.issuing import is_out_of_reach, require_right
from server.access.oauth.messages import Answer, Message, Request, answer, bearer
from server.access.oauth.refresh import REFRESH
from server.access.oauth.server import OAuthServer
from server.access.people import accounts
from server.errors import Unauthenticated
from server.store.db import micros

_INACTIVE: Final = {"active": False}
METHODS: Final = ("client_secret_basic", "client_secret_post", "private_key_jwt")


def introspect(server: OAuthServer, message: Message) -> Answer:
    """RFC 7662 section 2. Who asks is a client with its secret or key, or the bearer of an access token (SMART)."""
    try:
        caller = _caller(server, message)
        token = Request(message).form.get("token")
        if not token:
            raise InvalidRequestError("token is missing")
    except OAuth2Error as error:
        return server.refusal(error)
    with server.database.read() as connection:
        told = _of_access_token(server, connection, caller, token) or _of_refresh_token(connection, caller, token)
    if told["active"]:
        server.told.introspected(caller.id, told, message)
    return answer(200, told)


def _caller(server: OAuthServer, message: Message) -> Client:
    token = bearer(message.authorization)
    if token is None:
        return server.authenticated(message, METHODS)[1]
    Request(message).refuse_repeated()
    try:
        named = server.tokens.decide(token).subject
    except Unauthenticated as error:
        raise OAuth2Error(error="invalid_token", description=error.detail.replace('"', "'"), status_code=401) from None
    client = server.query_client(named)
    if client is None:
        raise InvalidClientError("the access token is of no client that is registered here", status_code=401)
    return client


def _may_know(caller: Client, client: str) -> bool:
    return caller.id == client or INTROSPECT in caller.may


def _of_access_token(server: OAuthServer, connection: Connection, caller: Client, token: str) -> dict[str, Any] | None:
    """What to say of it; None where it is none of our access tokens."""
    try:
        claims = server.tokens.claims(token, connection)
        decided, _ = rights.decision(connection, claims=claims, now=micros())
    except Unauthenticated:
        return None
    if not _may_know(caller, str(claims["client_id"])) or not _opens_all(decided, str(claims["scope"])):
        return dict(_INACTIVE)
    granted = granting.find(connection, str(claims["grant"])) if claims.get("grant") else None
    return {
        **(granted.told if granted else {}),
        **({"patient": claims["patient"]} if claims.get("patient") else {}),
        "active": True,
        "scope": claims["scope"],
        "client_id": claims["client_id"],
        "token_type": "Bearer",
        **{name: claims[name] for name in ("exp", "iat", "jti", "aud")},
        **_identity(server, connection, granted, claims),
    }


def _opens_all(decided: Decision, scope: str) -> bool:
    """Whether the token still opens what its scope says: other servers go by that, and it has to be that of the token response (SMART).

    It does not where a proxy has ended, or where the client is registered for less than before; that client gets another token by its refresh
    token, or asks anew.
    """
    return not is_out_of_reach(decided) and set(parse_scopes(scope)) <= set(decided.scopes)


def _identity(server: OAuthServer, connection: Connection, granted: Granted | None, claims: Mapping[str, Any]) -> dict[str, Any]:
    """SMART: `iss` and `sub` of the ID token, and `fhirUser`, where there was one."""
    words = words_of(granted.scope if granted else "")
    person = accounts.find(connection, granted.account) if granted and granted.account else None
    if person is None or "openid" not in words:
        return {"iss": claims["iss"], "sub": claims["sub"]}
    known = {"fhirUser": f"{server.audience}/{person.fhir_user}"} if "fhirUser" in words and person.fhir_user else {}
    return {"iss": server.issuer, "sub": person.id, **known}


def _of_refresh_token(connection: Connection, caller: Client, token: str) -> dict[str, Any]:
    """RFC 7662 section 2.2 of a refresh token; of what is none, is over or another's, only that."""
    now = micros()
    row = connection.execute(select(REFRESH).where(REFRESH.c.hash == hashed(token))).first()
    granted = granting.find(connection, row.grant) if row is not None else None
    if row is None or granted is None or row.used is not None or row.expires <= now or not granted.holds(now):
        return dict(_INACTIVE)
    client = clients.enabled(connection, granted.client)
    if client is None or not _may_know(caller, client.id):
        return dict(_INACTIVE)
    try:
        require_right(connection, granted, now)
    except InvalidGrantError:
        return dict(_INACTIVE)
    return {
        **granted.told,
        "active": True,
        "scope": narrowed(granted.scope, client.scope),
        "client_id": client.id,
        "exp": row.expires // SECOND,
    }

"""RFC 6749 section 4.4 as SMART Backend Services have it: a program by itself, with a signed assertion and what it was registered for."""

from typing import Any, Final

from authlib.oauth2.rfc6749 import InvalidScopeError
from authlib.oauth2.rfc6749.grants import ClientCredentialsGrant

from profiles.r4.definitions import resource_types
from profiles.smart.scopes import narrowed, parse_scope, parse_scopes, words_of
from server.access.oauth import granting
from server.access.oauth.clients import Client
from server.access.oauth.granting import SECOND, Granted
from server.access.oauth.issuing import Issue
from server.access.oauth.messages import Request

SECONDS: Final = 300
"""SMART Backend Services: an access token of a program lives five minutes at most."""


class BackendGrant(ClientCredentialsGrant):
    """One request for a token by a program."""

    TOKEN_ENDPOINT_AUTH_METHODS = ("private_key_jwt",)
    request: Request

    def authenticate_token_endpoint_client(self) -> Client:
        """`OAuthServer.token` has done it, outside of the transaction."""
        client: Client = self.request.client
        return client

    def validate_requested_scope(self) -> None:
        """`scope` is needed. What is granted are the system/ scopes in it that the client is registered for.

        SMART Backend Services, "Enforce authorization": who asks for a kind of data that there is not is told so at once.
        """
        asked = self.request.payload.scope or ""
        if unknown := [each.type for each in parse_scopes(asked) if each.type not in ("*", *resource_types())]:
            raise InvalidScopeError(f"FHIR R4 has no {unknown[0]}; ask without it")
        kept = narrowed(asked, self.request.client.scope)
        self.request.scope = " ".join(word for word in words_of(kept) if _is_of_system(word))
        if not self.request.scope:
            raise InvalidScopeError("scope has to name system/ scopes that this client is registered for")

    def generate_token(self, **_: Any) -> dict[str, Any]:
        """Leaves the `Issue` on the request. What it returns Authlib would log."""
        client, scope = self.request.client, self.request.scope
        seconds = min(SECONDS, self.server.access_seconds)
        reach = None if client.reach is None else tuple(sorted(client.reach))
        granted = Granted("", client.id, scope, reach=reach, expires=self.request.now + seconds * SECOND)
        self.request.issue = Issue(client, granting.begin(self.request.connection, granted), scope, seconds)
        return {}

    def save_token(self, token: dict[str, Any]) -> None:
        """There is nothing to keep of an access token: it is signed, and its grant is kept."""


def _is_of_system(word: str) -> bool:
    scope = parse_scope(word)
    return scope is not None and scope.context == "system"

"""RFC 6749 section 4.1: the authorization code grant, with what SMART App Launch 2.2 asks beyond it."""

import hmac
from dataclasses import dataclass
from typing import Any, Final

from authlib.oauth2.rfc6749 import InvalidClientError, InvalidGrantError, InvalidRequestError, OAuth2Error
from authlib.oauth2.rfc6749.grants import AuthorizationCodeGrant
from sqlalchemy import Connection, select, update

from profiles.smart.scopes import narrowed, words_of
from server.access.oauth import granting, refresh
from server.access.oauth.clients import REFRESH_TOKEN, Client, hashed, new_secret
from server.access.oauth.granting import SECOND, Granted
from server.access.oauth.issuing import TOKEN_METHODS, Issue, require_right
from server.access.oauth.messages import Request
from server.access.people import accounts
from server.store.db import micros
from server.store.tables import AuthorizationCode

_CODE: Final = AuthorizationCode.__table__  # type: ignore[attr-defined]

CODE_SECONDS: Final = 60
_REFUSED: Final = "the code is wrong, expired, used already, or another client's; begin anew at the authorization endpoint"
_LONGEST: Final = 2048
"""Characters of `state`, `nonce` and `scope`: they are kept, and `state` goes back in a URL."""


@dataclass(frozen=True, slots=True)
class Code:
    """A row of `authorization_code` that may be redeemed. Its methods are those that Authlib asks for."""

    hash: str
    grant: str
    redirect_uri: str
    challenge: str
    nonce: str

    def get_redirect_uri(self) -> str:
        return self.redirect_uri

    def get_scope(self) -> str:
        return ""  # the grant has it


def new_code(connection: Connection, granted: Granted, *, redirect_uri: str, challenge: str, nonce: str) -> str:
    """RFC 6749 section 4.1.2: a code for this grant, which lives for a minute and is kept as its hash."""
    code = new_secret()
    connection.execute(
        _CODE.insert().values(
            hash=hashed(code), grant=granted.id, redirect_uri=redirect_uri, challenge=challenge, nonce=nonce,
            expires=micros() + CODE_SECONDS * SECOND,
        )
    )  # fmt: skip
    return code


class CodeGrant(AuthorizationCodeGrant):
    """One authorization request, or one redemption of a code."""

    TOKEN_ENDPOINT_AUTH_METHODS = TOKEN_METHODS
    request: Request

    # --- authorization endpoint

    @staticmethod
    def validate_authorization_redirect_uri(request: Request, client: Client) -> str:
        """RFC 6749 section 3.1.2.3. Nothing is ever redirected before this."""
        asked: str | None = request.payload.redirect_uri
        if not asked:
            raise InvalidRequestError("redirect_uri is missing")
        if not client.check_redirect_uri(asked):
            raise InvalidRequestError("this redirect_uri is not registered for the app")
        if request.payload.response_type != "code":
            said = "response_type has to be code"
            raise OAuth2Error(error="unsupported_response_type", description=said, redirect_uri=asked)
        return asked

    def validate_authorization_request(self) -> str:
        """RFC 6749 section 4.1.1; `aud` and `state` as SMART App Launch 2.2 has them. Gives the redirect URI."""
        try:
            redirect_uri: str = super().validate_authorization_request()
        except InvalidClientError:
            raise InvalidClientError("this app is not known here, or is not let in any more") from None
        try:
            self._smart(self.request.payload.data)
        except OAuth2Error as error:
            error.redirect_uri = redirect_uri
            raise
        return redirect_uri

    def _smart(self, given: dict[str, str]) -> None:
        if not given.get("state"):
            raise InvalidRequestError("state is missing")
        if any(len(given.get(name, "")) > _LONGEST for name in ("state", "nonce", "scope")):
            raise InvalidRequestError("state, nonce and scope have at most 2048 characters each")
        audience = [given[name] for name in ("aud", "resource") if given.get(name)]
        if not audience or any(each.rstrip("/") != self.server.audience for each in audience):
            raise InvalidRequestError("aud has to be the FHIR base URL of this server")
        if "request" in given or "request_uri" in given:
            raise OAuth2Error(error="request_not_supported", description="parameters are taken as they are, not in a JWT")

    # --- token endpoint

    def authenticate_token_endpoint_client(self) -> Client:
        """`OAuthServer.token` has done it, outside of the transaction."""
        client: Client = self.request.client
        return client

    def query_authorization_code(self, code: str, client: Client) -> Code | None:
        """RFC 6749 section 4.1.2: of this client, in time, not used. One that was used ends all that came of it."""
        connection, now = self.request.connection, self.request.now
        found = select(_CODE, granting.GRANT.c.client).join(granting.GRANT, granting.GRANT.c.id == _CODE.c.grant)
        row = connection.execute(found.where(_CODE.c.hash == hashed(code))).first()
        if row is None or not hmac.compare_digest(row.client.encode(), client.id.encode()):
            raise InvalidGrantError(_REFUSED)
        if row.used is not None:
            self._replayed(row.grant)
        if row.expires <= now or not client.check_redirect_uri(row.redirect_uri):  # it may have been taken back meanwhile
            raise InvalidGrantError(_REFUSED)
        return Code(row.hash, row.grant, row.redirect_uri, row.challenge, row.nonce)

    def authenticate_user(self, authorization_code: Code) -> Granted:
        """Claims the code, once and for all; the last thing that is asked before tokens are made."""
        connection, now = self.request.connection, self.request.now
        claimed = update(_CODE).where(_CODE.c.hash == authorization_code.hash, _CODE.c.used.is_(None)).values(used=now)
        if connection.execute(claimed.returning(_CODE.c.hash)).first() is None:
            self._replayed(authorization_code.grant)
        granted = granting.find(connection, authorization_code.grant)
        if granted is None or not granted.holds(now):
            raise InvalidGrantError(_REFUSED)
        require_right(connection, granted, now)
        return granted

    def _replayed(self, grant: str) -> None:
        """RFC 9700 section 4.5: somebody has the code who should not; nobody is to have what came of it."""
        granting.end(self.request.connection, grant, "its authorization code was used twice")
        raise InvalidGrantError(_REFUSED)

    def generate_token(self, user: Granted, **_: Any) -> dict[str, Any]:
        """Leaves the `Issue` on the request. What it returns Authlib would log."""
        connection, client, words = self.request.connection, self.request.client, words_of(user.scope)
        lives = "offline_access" in words or "online_access" in words
        token = (
            refresh.first(connection, user, self.server.refresh_micros) if lives and REFRESH_TOKEN in client.grant_types else ""
        )
        person = accounts.find(connection, user.account) if user.account else None
        scope = narrowed(user.scope, client.scope)  # what it is registered for by now
        self.request.issue = Issue(
            client, user, scope, self.server.access_seconds, token, person, self.request.authorization_code.nonce,
            with_id_token="openid" in words,
        )  # fmt: skip
        return {}

    def save_token(self, token: dict[str, Any]) -> None:
        """There is nothing to keep of an access token: it is signed, and its grant is kept."""

    def delete_authorization_code(self, authorization_code: Code) -> None:
        """It stays, as used, so that a replay is known for one."""

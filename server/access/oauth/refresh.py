"""RFC 6749 section 6 with rotation (RFC 9700 section 4.14.2): each refresh token is good once, and one that comes again ends its grant.

A client that lost the answer may ask again for half a minute, with the token that it used last, and gets the same successor: it is kept
sealed with a key that only the used token gives. So there are never two tokens of one grant that are good, and the database has neither.
"""

import hashlib
import secrets
from dataclasses import dataclass, field
from typing import Any, Final

from authlib.oauth2.rfc6749 import InvalidGrantError, InvalidRequestError, InvalidScopeError
from authlib.oauth2.rfc6749.grants import RefreshTokenGrant
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from sqlalchemy import Connection, Row, select, update

from profiles.smart.scopes import narrowed, words_of
from server.access.oauth import granting
from server.access.oauth.clients import Client, hashed, new_secret
from server.access.oauth.granting import SECOND, Granted
from server.access.oauth.issuing import TOKEN_METHODS, Issue, require_right
from server.access.oauth.messages import Request
from server.store.db import micros
from server.store.tables import RefreshToken

REFRESH: Final = RefreshToken.__table__  # type: ignore[attr-defined]

GRACE_SECONDS: Final = 30
_REFUSED: Final = "the refresh token is wrong, expired, used already, or another client's; the person has to authorize anew"
_NONCE_BYTES: Final = 12


@dataclass(frozen=True, slots=True)
class Presented:
    """A refresh token that came, its row, and the grant that it is of. Its methods are those that Authlib asks for."""

    token: str = field(repr=False)
    row: Row[Any] = field(repr=False)
    granted: Granted

    def check_client(self, client: Client) -> bool:
        return self.granted.client == client.id

    def get_scope(self) -> str:
        return self.granted.scope


def first(connection: Connection, granted: Granted, life: int) -> str:
    """The first refresh token of a grant, which lasts as long as that; `life` is in microseconds."""
    expires = micros() + life
    granting.extend(connection, granted.id, expires)
    return _new(connection, granted.id, 1, expires)


def _new(connection: Connection, grant: str, number: int, expires: int) -> str:
    token = new_secret()
    connection.execute(REFRESH.insert().values(hash=hashed(token), grant=grant, number=number, expires=expires))
    return token


def client_of(connection: Connection, token: str) -> str | None:
    """The id of the client that a refresh token was issued to, however old it is; None for what is none."""
    joined = select(granting.GRANT.c.client).join(REFRESH, REFRESH.c.grant == granting.GRANT.c.id)
    found: str | None = connection.execute(joined.where(REFRESH.c.hash == hashed(token))).scalar()
    return found


class RefreshGrant(RefreshTokenGrant):
    """One request for new tokens."""

    TOKEN_ENDPOINT_AUTH_METHODS = TOKEN_METHODS
    request: Request

    def authenticate_token_endpoint_client(self) -> Client:
        """`OAuthServer.token` has done it, outside of the transaction."""
        client: Client = self.request.client
        return client

    def authenticate_refresh_token(self, refresh_token: str) -> Presented:
        """Looks it up, and changes nothing: neither client nor scope have been compared yet."""
        connection = self.request.connection
        row = connection.execute(select(REFRESH).where(REFRESH.c.hash == hashed(refresh_token))).first()
        granted = granting.find(connection, row.grant) if row is not None else None
        if row is None or granted is None or granted.client != self.request.client.id:
            raise InvalidGrantError(_REFUSED)
        return Presented(refresh_token, row, granted)

    def _validate_token_scope(self, token: Presented) -> None:
        """RFC 6749 section 6: what is asked is within what was granted, word for word."""
        asked = self.request.payload.scope
        if asked and any(narrowed(word, token.get_scope()) != word for word in words_of(asked)):
            raise InvalidScopeError("the scope asks for more than was granted; leave it out to get the same again")

    def authenticate_user(self, refresh_token: Presented) -> Granted:
        """Claims the token, once and for all; the last thing that is asked before tokens are made."""
        now, granted = self.request.now, refresh_token.granted
        if refresh_token.row.expires <= now or not granted.holds(now):
            raise InvalidGrantError(_REFUSED)
        require_right(self.request.connection, granted, now)
        self.request.successor = self._claimed(refresh_token) or self._again(refresh_token)
        return granted

    def _claimed(self, presented: Presented) -> str:
        """The successor, for the one who is first to use this token; the empty string for all others."""
        connection, now = self.request.connection, self.request.now
        claimed = update(REFRESH).where(REFRESH.c.hash == presented.row.hash, REFRESH.c.used.is_(None)).values(used=now)
        if connection.execute(claimed.returning(REFRESH.c.hash)).first() is None:
            return ""
        expires = now + self.server.refresh_micros
        successor = _new(connection, presented.granted.id, presented.row.number + 1, expires)
        sealed = _sealed(presented.token, successor)
        connection.execute(update(REFRESH).where(REFRESH.c.hash == presented.row.hash).values(successor=sealed))
        granting.extend(connection, presented.granted.id, expires)
        return successor

    def _again(self, presented: Presented) -> str:
        """The same successor as before, if it was made just now and nobody has used it; else somebody has a token who should not."""
        connection = self.request.connection
        row = connection.execute(select(REFRESH).where(REFRESH.c.hash == presented.row.hash)).one()  # as the winner left it
        successor = _opened(presented.token, row.successor) if row.successor else ""
        unused = select(REFRESH.c.hash).where(REFRESH.c.hash == hashed(successor), REFRESH.c.used.is_(None))
        recent = row.used is not None and row.used + GRACE_SECONDS * SECOND > self.request.now
        if not successor or not recent or connection.execute(unused).first() is None:
            granting.end(connection, presented.granted.id, "a refresh token was used twice")
            raise InvalidGrantError(_REFUSED)
        return successor

    def issue_token(self, user: Granted, _: Presented) -> dict[str, Any]:
        """Leaves the `Issue` on the request. What it returns Authlib would log."""
        registered = self.request.client.scope  # which may be less by now
        scope = narrowed(self.request.payload.scope or user.scope, registered)
        self.request.issue = Issue(self.request.client, user, scope, self.server.access_seconds, self.request.successor)
        return {}

    def save_token(self, token: dict[str, Any]) -> None:
        """There is nothing to keep of an access token."""

    def revoke_old_credential(self, refresh_token: Presented) -> None:
        """It was claimed before."""

    def _validate_request_token(self, client: Client) -> Presented:
        if not self.request.form.get("refresh_token"):
            raise InvalidRequestError("refresh_token is missing")
        presented: Presented = super()._validate_request_token(client)
        return presented


def _key(token: str) -> bytes:
    """Another hash than the one that is kept: 256 bits of which the database knows nothing."""
    return hashlib.blake2b(token.encode(), digest_size=32, person=b"successor").digest()


def _sealed(token: str, successor: str) -> bytes:
    nonce = secrets.token_bytes(_NONCE_BYTES)
    return nonce + AESGCM(_key(token)).encrypt(nonce, successor.encode(), None)


def _opened(token: str, sealed: bytes) -> str:
    try:
        return AESGCM(_key(token)).decrypt(sealed[:_NONCE_BYTES], bytes(sealed[_NONCE_BYTES:]), None).decode()
    except InvalidTag:
        return ""

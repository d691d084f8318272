"""Access tokens: JWTs signed by this server (RFC 9068, ES256), verified with the keys in the database, and the Decision behind each.

`aud` has the installation's own URN, so a token of another server fails even under the same host name. A token names a grant; what that opens
now, and not when the token was issued, is the Decision: it is kept for a token as long as the epoch stays the same (`access.epoch`).
"""

import hashlib
import secrets
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import GuestProtocol
from sqlalchemy import Connection

from server.access import epoch, rights
from server.access.decisions import Decision
from server.access.foreign import Foreign
from server.access.keys import ACCESS_TOKENS, LONGEST_LIFE, Key, Keys
from server.errors import Unauthenticated
from server.records.installation import Installation
from server.store.db import Database

_TYPE: Final = "at+jwt"
_HEADER: Final = frozenset(("alg", "kid", "typ"))
"""What a token of ours has: nothing that asks for a key of its own, or for what is not done here."""
_LEEWAY: Final = 5
"""Seconds by which another process of this server may be ahead when it issues. What has expired has expired."""
_LONGEST: Final = 8192
_REMEMBERED: Final = 4096
"""Tokens whose signature need not be verified again (0.4 ms each); known by their hash, so that none is kept."""
_STRANGE: Final = "the access token is not one of this server's"


@dataclass(frozen=True, slots=True)
class Issued:
    """A token, its `jti`, and when it expires in seconds since 1970."""

    token: str
    id: str
    expires: int

    def __repr__(self) -> str:
        return f"Issued(id={self.id!r}, expires={self.expires})"


@dataclass(frozen=True, slots=True)
class _Decided:
    """A Decision of this epoch, until this moment in microseconds."""

    decision: Decision
    epoch: int
    until: int


class Tokens:
    """Issues and verifies. `issuer` and `audience` are our URLs, for other servers that verify our tokens; both may be absent."""

    def __init__(
        self,
        database: Database,
        installation: Installation,
        *,
        issuer: str = "",
        audience: str = "",
        foreign: Foreign | None = None,
        permits: bool = True,
    ) -> None:
        self._database = database
        self._foreign = foreign
        self._permits = permits
        self._own = installation.issuer
        self._issuer = issuer or self._own
        self._audience: str | list[str] = [self._own, audience] if audience else self._own
        self.keys = Keys(database)
        self._verified: dict[bytes, tuple[str, Mapping[str, Any]]] = {}
        """Key id and claims: the key is asked for each time, so that nothing which it signed outlives it."""
        self._decided: dict[bytes, _Decided] = {}

    def issue(self, *, client: str, scope: str, patient: str | None = None, seconds: int = 3600) -> str:
        """A token that stands for itself, without a grant: for `client` with `scope`, bound to the Patient resource id `patient` if given."""
        claims = {"iss": self._own, "aud": self._own, "sub": client, "client_id": client, "scope": scope}
        if patient:
            claims["patient"] = patient
        return self._signed(claims, seconds, None).token

    def issue_for(
        self,
        connection: Connection,
        *,
        grant: str,
        client: str,
        subject: str,
        scope: str,
        seconds: int,
        more: Mapping[str, Any] | None = None,
    ) -> Issued:
        """RFC 9068 section 2.2: a token of the grant of this id, in the transaction that claims the code or refresh token for it.

        `subject` is the account, or the client by itself; `more` are further claims, such as `patient` and `encounter`.
        """
        claims = {
            **(more or {}), "iss": self._issuer, "aud": self._audience, "sub": subject, "client_id": client, "scope": scope, "grant": grant,
        }  # fmt: skip
        return self._signed(claims, seconds, connection)

    def decide(self, token: str, connection: Connection | None = None, number: int | None = None) -> Decision:
        """The Decision that the token stands for in the view of `connection`, or in one of its own. `number` is that view's epoch, if known.

        Raises `Unauthenticated`, which says why but repeats nothing of the token.
        """
        return self.decide_at(token, connection, number)[0]

    def decide_at(self, token: str, connection: Connection | None = None, number: int | None = None) -> tuple[Decision, int]:
        """As `decide`, with the epoch that the Decision is of."""
        if self._foreign is not None and self._foreign.takes(token):
            verified = self._foreign.verified(token)
            with self._view(connection) as view:
                return self._foreign.decision(view, verified), epoch.current(view) if number is None else number
        digest = _digest(token)
        self._claims(digest, token)  # before anything is asked of the database: anybody may send anything
        with self._view(connection) as view:
            now_is = epoch.current(view) if number is None else number
            self.keys.renew(view, now_is)
            claims = self._claims(digest, token)
            known, now = self._decided.get(digest), time.time_ns() // 1000
            if known is None or known.epoch != now_is or known.until <= now:
                known = _Decided(*_reordered(rights.decision(view, claims=claims, now=now, permits=self._permits), now_is))
                _remember(self._decided, digest, known)
        return known.decision, now_is

    def waits(self, token: str) -> bool:
        """Whether `decide` has to ask the authorization server of a foreign token, which takes its time."""
        return self._foreign is not None and self._foreign.takes(token) and self._foreign.waits(token)

    def claims(self, token: str, connection: Connection | None = None) -> Mapping[str, Any]:
        """The claims of a token of ours that has not expired (RFC 7519 section 4). Whether its grant still stands says `decide`.

        With a `connection`, of a key that is believed in its view. Raises `Unauthenticated`.
        """
        digest = _digest(token)
        if connection is not None:
            self._claims(digest, token)  # before anything is asked of the database
            self.keys.renew(connection, epoch.current(connection))
        return self._claims(digest, token)

    @contextmanager
    def _view(self, connection: Connection | None) -> Iterator[Connection]:
        if connection is not None:
            yield connection
        else:
            with self._database.read() as own:
                yield own

    def _signed(self, claims: Mapping[str, Any], seconds: int, connection: Connection | None) -> Issued:
        key = self.keys.signing(ACCESS_TOKENS, connection)
        now, number = int(time.time()), secrets.token_urlsafe(16)
        header = {"alg": ACCESS_TOKENS, "typ": _TYPE, "kid": key.kid}
        whole = {**claims, "iat": now, "exp": now + seconds, "jti": number}
        return Issued(jwt.encode(header, whole, key, algorithms=[ACCESS_TOKENS]), number, now + seconds)

    def _claims(self, digest: bytes, token: str) -> Mapping[str, Any]:
        known = self._verified.get(digest)
        if known is None:
            known = self._verify(token)
            _remember(self._verified, digest, known)
        kid, claims = known
        if not self.keys.is_believed(kid):
            raise Unauthenticated(_STRANGE)
        if claims["exp"] <= time.time():
            raise Unauthenticated("the access token has expired")
        return claims

    def _verify(self, token: str) -> tuple[str, Mapping[str, Any]]:
        """Key id and claims of a token whose signature, kind, audience and times are good (RFC 9068 section 4, RFC 8725 section 3)."""
        if len(token) > _LONGEST:
            raise Unauthenticated(_STRANGE)
        try:
            decoded = jwt.decode(token, self._find, algorithms=[ACCESS_TOKENS])
        except (JoseError, ValueError, TypeError, KeyError):
            raise Unauthenticated(_STRANGE) from None
        claims = decoded.claims
        if decoded.header.keys() != _HEADER:
            raise Unauthenticated(_STRANGE)
        if decoded.header.get("typ") != _TYPE or not self._is_ours(claims):
            raise Unauthenticated("the access token is for another server")
        now, expires, issued = time.time(), claims.get("exp"), claims.get("iat")
        if not isinstance(expires, int) or expires <= now:
            raise Unauthenticated("the access token has expired")
        if not isinstance(issued, int) or issued - _LEEWAY > now:
            raise Unauthenticated("the access token is not valid yet")
        if expires - issued > LONGEST_LIFE:  # its key may be forgotten after that, and nothing here issues it
            raise Unauthenticated(_STRANGE)
        return str(decoded.header["kid"]), claims

    def _is_ours(self, claims: Mapping[str, Any]) -> bool:
        audience = claims.get("aud")
        named = audience if isinstance(audience, list) else [audience]
        return claims.get("iss") in (self._own, self._issuer) and self._own in named

    def _find(self, recipient: GuestProtocol) -> Key:
        return self.keys.verifying(str(recipient.headers().get("kid", "")), ACCESS_TOKENS)


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "replace")).digest()


def _reordered(made: tuple[Decision, int], number: int) -> tuple[Decision, int, int]:
    return made[0], number, made[1]


def _remember(kept: dict[bytes, Any], digest: bytes, value: object) -> None:
    if len(kept) >= _REMEMBERED:
        kept.clear()
    kept[digest] = value

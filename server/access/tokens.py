"""Access tokens: JWTs signed by this server (RFC 9068 shape, ES256), verified with the keys in the database.

`iss` and `aud` are the installation's own URN, so a token of another server fails even under the same host name.
"""

import hashlib
import secrets
import threading
import time

import orjson
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, GuestProtocol
from sqlalchemy import select, text

from server.access.decisions import Decision, parse_scopes
from server.errors import Unauthenticated
from server.records.installation import Installation
from server.store.db import Database, insert, micros
from server.store.tables import SigningKey

_KEY = SigningKey.__table__  # type: ignore[attr-defined]
_ALGORITHMS = ["ES256"]
_LEEWAY = 5
"""Seconds by which another process of this server may be ahead when it issues. What has expired has expired."""
_REMEMBERED = 4096
"""Tokens whose signature need not be verified again (0.4 ms each); known by their hash, so that none is kept."""


class Tokens:
    """Issues and verifies. Keys are read once and again when a token names one that is not known yet."""

    def __init__(self, database: Database, installation: Installation) -> None:
        self._database = database
        self._issuer = installation.issuer
        self._keys: dict[str, ECKey] = {}
        self._signing: ECKey | None = None
        self._lock = threading.Lock()
        self._loaded = -1e9
        self._verified: dict[bytes, tuple[Decision, int]] = {}

    def issue(self, *, client: str, scope: str, patient: str | None = None, seconds: int = 3600) -> str:
        """A token for `client` with `scope`, bound to the Patient resource id `patient` if given."""
        key = self._signing_key()
        now = int(time.time())
        claims: dict[str, object] = {
            "iss": self._issuer,
            "aud": self._issuer,
            "sub": client,
            "client_id": client,
            "scope": scope,
            "iat": now,
            "exp": now + seconds,
            "jti": secrets.token_urlsafe(16),
        }
        if patient:
            claims["patient"] = patient
        return jwt.encode({"alg": "ES256", "typ": "at+jwt", "kid": key.kid}, claims, key, algorithms=_ALGORITHMS)

    def decide(self, token: str) -> Decision:
        """The Decision that the token stands for. Raises `Unauthenticated`, which says why but repeats nothing of it."""
        if len(token) > 8192:
            raise Unauthenticated("the access token is not one of this server's")
        digest = hashlib.sha256(token.encode("utf-8", "replace")).digest()
        known = self._verified.get(digest)
        if known is None:
            known = self._verify(token)
            if len(self._verified) >= _REMEMBERED:
                self._verified.clear()
            self._verified[digest] = known
        decided, expires = known
        if expires <= time.time():
            raise Unauthenticated("the access token has expired")
        return decided

    def _verify(self, token: str) -> tuple[Decision, int]:
        """The Decision of a token whose signature and times are good, and when it expires."""
        try:
            decoded = jwt.decode(token, self._find, algorithms=_ALGORITHMS)
        except (JoseError, ValueError, TypeError, KeyError):
            raise Unauthenticated("the access token is not one of this server's") from None
        claims = decoded.claims
        if decoded.header.get("typ") != "at+jwt" or claims.get("iss") != self._issuer or claims.get("aud") != self._issuer:
            raise Unauthenticated("the access token is for another server")
        now = time.time()
        expires, issued = claims.get("exp"), claims.get("iat")
        if not isinstance(expires, int) or expires <= now:
            raise Unauthenticated("the access token has expired")
        if not isinstance(issued, int) or issued - _LEEWAY > now:
            raise Unauthenticated("the access token is not valid yet")
        decided = Decision(
            subject=str(claims.get("client_id", "")),
            scopes=parse_scopes(str(claims.get("scope", ""))),
            patient=str(claims["patient"]) if claims.get("patient") else None,
            token_id=str(claims.get("jti", "")),
        )
        return decided, expires

    def _find(self, recipient: GuestProtocol) -> ECKey:
        kid = str(recipient.headers().get("kid", ""))
        if (
            kid not in self._keys and time.monotonic() - self._loaded > 1
        ):  # a flood of unknown kids must not become a flood of queries
            self._load()
        return self._keys[kid]

    def _load(self) -> None:
        with self._database.read() as connection:
            rows = connection.execute(select(_KEY.c.kid, _KEY.c.private_jwk, _KEY.c.retired).order_by(_KEY.c.created)).all()
        with self._lock:
            self._verified.clear()  # a key may have gone
            self._keys = {row.kid: ECKey.import_key(orjson.loads(row.private_jwk)) for row in rows}
            self._signing = next((self._keys[row.kid] for row in reversed(rows) if row.retired is None), None)
            self._loaded = time.monotonic()

    def _signing_key(self) -> ECKey:
        """The newest key that is not retired; makes one on first use."""
        self._load()
        if self._signing is None:
            key = ECKey.generate_key("P-256", {"use": "sig", "alg": "ES256"}, private=True)
            key.ensure_kid()
            with self._database.write() as connection:
                if not self._database.is_sqlite:  # whose write lock is one for all
                    connection.execute(text("LOCK TABLE signing_key IN SHARE ROW EXCLUSIVE MODE"))
                if connection.execute(select(_KEY.c.kid).where(_KEY.c.retired.is_(None)).limit(1)).first() is None:
                    connection.execute(
                        insert(connection, _KEY).values(
                            kid=key.kid,
                            algorithm="ES256",
                            private_jwk=orjson.dumps(key.as_dict(private=True)).decode(),
                            created=micros(),
                        )
                    )
            self._load()
        assert self._signing is not None
        return self._signing

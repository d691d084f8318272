"""RFC 7523 section 3 as SMART App Launch 2.2 has it (asymmetric client authentication): a JWT signed by the client, good once."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

from authlib.oauth2.rfc6749 import InvalidClientError
from authlib.oauth2.rfc7523 import JWTBearerClientAssertion
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, RSAKey
from sqlalchemy import Connection

from server.access.oauth.clients import Client
from server.access.oauth.granting import SECOND
from server.access.oauth.messages import Request
from server.access.oauth.public_keys import chosen
from server.errors import ImageShareError
from server.store.db import insert
from server.store.tables import AssertionId

_ASSERTION: Final = AssertionId.__table__  # type: ignore[attr-defined]

ASSERTION_TYPE: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_MOST_SECONDS: Final = 300
_LEEWAY: Final = 5
"""Seconds by which the client's clock may be off."""
_LONGEST: Final = 8192
_FOREIGN: Final = ("jwk", "x5u", "x5c", "crit", "b64")
"""Headers that would choose the key, or ask for something that is not done here."""
_FRESH_SECONDS: Final = 10.0


class JwksFetch(Protocol):
    """Gives the JWK Set at a client's URL, as long cached as its Cache-Control lets; `fresh` past the cache. Raises `ImageShareError`."""

    def __call__(self, url: str, *, fresh: bool = False) -> Mapping[str, Any]: ...


@dataclass(frozen=True, slots=True)
class Assertion:
    """An assertion that is good in all but that it may have been used before."""

    client: str
    jti: str
    expires: int


class ClientAssertion(JWTBearerClientAssertion):
    """Authlib's takes an HMAC's and any RSA algorithm, and refuses those that SMART has; so little of it is left here."""

    CLIENT_AUTH_METHOD = "private_key_jwt"

    def __init__(self, audiences: frozenset[str], fetch: JwksFetch, fetch_of_strangers: JwksFetch) -> None:
        super().__init__()
        self._audiences = audiences
        self._fetch, self._fetch_of_strangers = fetch, fetch_of_strangers
        self._refetched: dict[str, float] = {}

    def __call__(self, query_client: Callable[[str], Client | None], request: Request) -> Client:
        """RFC 7523 section 3. What is left to do is `claim`. Raises `InvalidClientError`, always in the same few words."""
        given = request.form
        assertion = given.get("client_assertion", "")
        if given.get("client_assertion_type") != ASSERTION_TYPE or not assertion or len(assertion) > _LONGEST:
            raise InvalidClientError("client_assertion has to be a JWT, and client_assertion_type that of RFC 7523")
        header, claims = self.extract_assertion(assertion)
        client = query_client(claims["sub"]) if isinstance(claims.get("sub"), str) else None
        if client is None or client.kind != "asymmetric" or given.get("client_id", client.id) != client.id:
            raise InvalidClientError("the assertion is of no client that is registered here with a key")
        algorithm, key = str(header.get("alg")), self._key(client, header)
        try:
            verified = jwt.decode(assertion, key, algorithms=[algorithm]).claims
        except (JoseError, ValueError, TypeError):
            raise InvalidClientError("the signature of the assertion is wrong") from None
        request.assertion = self._judged(verified, client)
        return client

    def _key(self, client: Client, header: Mapping[str, Any]) -> RSAKey | ECKey:
        """SMART App Launch 2.2, signature verification: the one registered key of this kid that fits the algorithm."""
        kid, algorithm = header.get("kid"), header.get("alg")
        if not isinstance(kid, str) or not isinstance(algorithm, str) or any(name in header for name in _FOREIGN):
            raise InvalidClientError("the header of the assertion has to be alg (RS384 or ES384), kid, typ and at most jku")
        if header.get("typ", "JWT") != "JWT" or ("jku" in header and header["jku"] != client.jwks_uri):
            raise InvalidClientError("typ is JWT, and jku, if it is there, the URL that is registered for the keys")
        found = chosen(self._jwks(client, fresh=False), kid, algorithm)
        if found is None and client.jwks_uri and self._may_refetch(client.jwks_uri):
            found = chosen(self._jwks(client, fresh=True), kid, algorithm)
        if found is None:
            raise InvalidClientError("no key of the client has this kid and fits RS384 or ES384")
        return found

    def _jwks(self, client: Client, *, fresh: bool) -> Mapping[str, Any]:
        if client.jwks is not None:
            return client.jwks
        try:
            return (self._fetch_of_strangers if client.registered_itself else self._fetch)(client.jwks_uri, fresh=fresh)
        except ImageShareError:
            raise InvalidClientError("the keys of the client could not be fetched from their URL") from None

    def _may_refetch(self, url: str) -> bool:
        """A new kid is looked for at once, but not for each of a flood of them."""
        now = time.monotonic()
        if now - self._refetched.get(url, -1e9) < _FRESH_SECONDS:
            return False
        self._refetched[url] = now
        return True

    def _judged(self, claims: Mapping[str, Any], client: Client) -> Assertion:
        now = time.time()
        expires, jti = claims.get("exp"), claims.get("jti")
        if claims.get("iss") != client.id or claims.get("sub") != client.id:
            raise InvalidClientError("iss and sub of the assertion have to be the client id")
        if not isinstance(claims.get("aud"), str) or claims["aud"] not in self._audiences:
            raise InvalidClientError("aud of the assertion has to be the URL of the token endpoint, alone")
        if type(expires) is not int or not now < expires <= now + _MOST_SECONDS + _LEEWAY:
            raise InvalidClientError("exp of the assertion has to be within the next five minutes")
        if any(
            not isinstance(claims.get(name, 0), int | float) or claims.get(name, 0) > now + _LEEWAY for name in ("nbf", "iat")
        ):
            raise InvalidClientError("the assertion is not valid yet")
        if not isinstance(jti, str) or not 0 < len(jti) <= 255 or not jti.isprintable():
            raise InvalidClientError("jti of the assertion has to be 1 to 255 printable characters")
        return Assertion(client.id, jti, expires)


def claim(connection: Connection, assertion: Assertion) -> None:
    """RFC 7523 section 3, item 7: each `jti` once. Raises `InvalidClientError`."""
    values = {"client": assertion.client, "jti": assertion.jti, "expires": (assertion.expires + _LEEWAY) * SECOND}
    made = insert(connection, _ASSERTION).values(values).on_conflict_do_nothing().returning(_ASSERTION.c.jti)
    if connection.execute(made).first() is None:
        raise InvalidClientError("the assertion was used before; make a new one with a new jti for each request")

"""JWTs that others signed (RFC 7519, RFC 8725): their keys by URL, and only those algorithms that are named."""

import base64
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeGuard

import orjson
from joserfc import jws, jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, RSAKey

from server.access.fetching import Fetching
from server.errors import Unauthenticated

Key = RSAKey | ECKey
_FITS: Final[Mapping[str, tuple[str, str | None]]] = {
    "RS256": ("RSA", None),
    "RS384": ("RSA", None),
    "ES256": ("EC", "P-256"),
    "ES384": ("EC", "P-384"),
}
"""Algorithm -> type and curve of its keys (RFC 7518 section 3.1)."""
_CHOOSES: Final = ("jwk", "jku", "x5u", "x5c", "crit", "b64", "zip")
"""Headers by which a token would bring its own key, or ask for what is not done here."""
_LONGEST: Final = 8192
_LEAST_RSA_BITS: Final = 2048
_MOST_KEYS: Final = 50
_FRESH_SECONDS: Final = 10.0
LEEWAY: Final = 5
"""Seconds by which another's clock may be ahead of ours. What has expired has expired."""
_WRONG: Final = "the token is not signed by a key of its issuer"


class ForeignKeys:
    """Verifies, and asks for keys anew where one is not known, but not for each of a flood of tokens."""

    def __init__(self, fetching: Fetching) -> None:
        self._fetching = fetching
        self._asked: dict[str, float] = {}

    def verified(self, token: str, jwks_uri: str, algorithms: Sequence[str]) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
        """Header and claims of a JWT that a key at `jwks_uri` has signed, and whose times are good (RFC 7519 section 4.1).

        Issuer, audience and the rest are the caller's to judge. Raises `Unauthenticated`; `Unavailable` where the keys cannot be had.
        """
        header = said_header(token)
        algorithm, kid = header.get("alg"), header.get("kid")
        if not isinstance(algorithm, str) or algorithm not in algorithms or not isinstance(kid, str | None):
            raise Unauthenticated("the token is signed in a way that is not taken here")
        if any(name in header for name in _CHOOSES):
            raise Unauthenticated("the token is signed in a way that is not taken here")
        key = _chosen(self._fetching.jwks(jwks_uri), kid, algorithm)
        if key is None and self._may_ask(jwks_uri):
            key = _chosen(self._fetching.jwks(jwks_uri, fresh=True), kid, algorithm)
        if key is None:
            raise Unauthenticated(_WRONG)
        try:
            claims = jwt.decode(token, key, algorithms=[algorithm]).claims
        except (JoseError, ValueError, TypeError):
            raise Unauthenticated(_WRONG) from None
        require_in_time(claims)
        return header, claims

    def _may_ask(self, url: str) -> bool:
        now = time.monotonic()
        if now - self._asked.get(url, -_FRESH_SECONDS) < _FRESH_SECONDS:
            return False
        self._asked[url] = now
        return True


def said_header(token: str) -> Mapping[str, Any]:
    """The header of what looks like a JWT, which is not verified. Raises `Unauthenticated`."""
    if len(token) > _LONGEST or token.count(".") != 2:
        raise Unauthenticated("this is no signed JWT")
    try:
        return dict(jws.extract_compact(token.encode()).headers())
    except (JoseError, ValueError, TypeError):
        raise Unauthenticated("this is no signed JWT") from None


def said_claims(token: str) -> Mapping[str, Any]:
    """The claims of what looks like a JWT, which is not verified; none where there is no JSON object."""
    payload = token.partition(".")[2].partition(".")[0]
    try:
        found = orjson.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def require_in_time(claims: Mapping[str, Any]) -> None:
    """RFC 7519 sections 4.1.4 to 4.1.6; `exp` has to be there. Raises `Unauthenticated`."""
    now = time.time()
    expires = claims.get("exp")
    if not _is_number(expires) or expires <= now:
        raise Unauthenticated("the token has expired")
    for name in ("nbf", "iat"):
        if name in claims and (not _is_number(claims[name]) or claims[name] > now + LEEWAY):
            raise Unauthenticated("the token is not valid yet")


def _is_number(value: object) -> TypeGuard[float]:
    return type(value) in (int, float)


def _chosen(jwks: Mapping[str, Any], kid: str | None, algorithm: str) -> Key | None:
    """The one key of this id that fits; without an id the one that fits at all."""
    keys = jwks.get("keys")
    if not isinstance(keys, list) or len(keys) > _MOST_KEYS:
        return None
    kty, curve = _FITS[algorithm]
    found = [
        key
        for key in keys
        if isinstance(key, dict) and key.get("kty") == kty and key.get("crv") == curve and kid in (None, key.get("kid"))
    ]
    found = [key for key in found if key.get("use", "sig") == "sig" and key.get("alg", algorithm) == algorithm]
    return _imported(found[0]) if len(found) == 1 else None


def _imported(key: Mapping[str, Any]) -> Key | None:
    """By its public numbers alone: what a JWK says besides, such as a certificate, is not looked at."""
    try:
        if key["kty"] == "RSA":
            rsa = RSAKey.import_key({name: key[name] for name in ("kty", "n", "e")})
            return rsa if rsa.raw_value.key_size >= _LEAST_RSA_BITS else None
        return ECKey.import_key({name: key[name] for name in ("kty", "crv", "x", "y")})
    except (JoseError, ValueError, TypeError, KeyError):
        return None

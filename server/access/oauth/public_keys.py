"""RFC 7517: the public keys of clients, and which of them verifies an assertion."""

from collections.abc import Mapping
from typing import Any, Final

from joserfc.errors import JoseError
from joserfc.jwk import ECKey, RSAKey

from server.errors import Refused

ALGORITHMS: Final = ("RS384", "ES384")
"""SMART App Launch 2.2, asymmetric client authentication: what a server takes, and no others."""
_FITS: Final = {"RS384": "RSA", "ES384": "EC"}
_PRIVATE: Final = ("d", "p", "q", "dp", "dq", "qi", "oth", "k")
_MOST_KEYS: Final = 50
_LEAST_RSA_BITS: Final = 2048


def require_public(jwks: Mapping[str, Any]) -> None:
    """Raises `Refused` for what is no JWK Set of public keys of which at least one can sign an assertion."""
    keys = jwks.get("keys")
    if not isinstance(keys, list) or not all(isinstance(key, dict) for key in keys) or not 0 < len(keys) <= _MOST_KEYS:
        raise Refused(f'a JWK Set is {{"keys": [...]}} with 1 to {_MOST_KEYS} keys (RFC 7517 section 5)')
    if any(name in key for key in keys for name in _PRIVATE):
        raise Refused("the JWK Set has a private key in it: make a new one, and register its public part only")
    if not any(_usable(key, algorithm) is not None for key in keys for algorithm in ALGORITHMS):
        raise Refused("the JWK Set has no key with a kid for RS384 (RSA of 2048 bits or more) or ES384 (P-384)")


def chosen(jwks: Mapping[str, Any], kid: str, algorithm: str) -> RSAKey | ECKey | None:
    """The one key of that `kid` that fits `algorithm`; None where there is none, or more than one."""
    keys = jwks.get("keys")
    if algorithm not in ALGORITHMS or not isinstance(keys, list) or len(keys) > _MOST_KEYS:
        return None
    found = [key for key in keys if isinstance(key, dict) and key.get("kid") == kid and key.get("kty") == _FITS[algorithm]]
    return _usable(found[0], algorithm) if len(found) == 1 else None


def _usable(key: Mapping[str, Any], algorithm: str) -> RSAKey | ECKey | None:
    """The key if it may verify signatures of this algorithm; private and symmetric ones never."""
    public = {name: value for name, value in key.items() if name not in ("x5u", "x5c", "x5t", "x5t#S256")}
    if not isinstance(key.get("kid"), str) or any(name in key for name in _PRIVATE):
        return None
    operations = key.get("key_ops", ["verify"])
    if key.get("use", "sig") != "sig" or not isinstance(operations, list) or "verify" not in operations:
        return None
    if key.get("alg", algorithm) != algorithm:
        return None
    try:
        if algorithm == "RS384" and key.get("kty") == "RSA":
            rsa = RSAKey.import_key(public)
            return rsa if rsa.raw_value.key_size >= _LEAST_RSA_BITS else None
        if algorithm == "ES384" and key.get("kty") == "EC" and key.get("crv") == "P-384":
            return ECKey.import_key(public)
    except (JoseError, ValueError, TypeError, KeyError):
        return None
    return None

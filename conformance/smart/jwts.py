"""JWTs that the kit makes (client assertions, forged tokens) and reads (id_token, access tokens). joserfc, with the algorithm named each time."""

import base64
import json
import secrets
import time
from collections.abc import Mapping
from typing import Any

from joserfc import jwt
from joserfc.jwk import ECKey, KeySet, KeySetSerialization, OctKey, RSAKey


def assertion(
    client_id: str,
    audience: str,
    key: Mapping[str, Any],
    *,
    header: Mapping[str, Any] | None = None,
    claims: Mapping[str, Any] | None = None,
    seconds: int = 240,
) -> str:
    """A client assertion (SMART App Launch 2.2, client-confidential-asymmetric). Header members or claims that are None are left out."""
    alg = str((header or {}).get("alg") or key.get("alg") or "RS384")
    top = {"typ": "JWT", "alg": alg, "kid": key.get("kid"), **(header or {})}
    now = int(time.time())
    body = {
        "iss": client_id,
        "sub": client_id,
        "aud": audience,
        "exp": now + seconds,
        "iat": now,
        "jti": secrets.token_urlsafe(24),
        **(claims or {}),
    }
    return signed(_without_none(top), _without_none(body), key)


def signed(header: Mapping[str, Any], claims: Mapping[str, Any], key: Mapping[str, Any]) -> str:
    """A JWT with exactly this header and these claims."""
    content = f"{_part(header)}.{_part(claims)}"
    return f"{content}.{_base64(_signature(str(header['alg']), _key(key), content.encode()))}"


def _signature(alg: str, key: RSAKey | ECKey, content: bytes) -> bytes:
    """RFC 7518 sections 3.3 and 3.4. Not by a JOSE library: those make no header that a server has to refuse."""
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec, padding
    from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

    hash_ = hashes.SHA256() if alg.endswith("256") else hashes.SHA384()
    private = key.private_key
    if isinstance(private, ec.EllipticCurvePrivateKey):
        length = (private.key_size + 7) // 8
        pair = decode_dss_signature(private.sign(content, ec.ECDSA(hash_)))
        return b"".join(each.to_bytes(length, "big") for each in pair)
    assert private is not None, "the key is a public one"
    return private.sign(content, padding.PKCS1v15(), hash_)


def unsigned(claims: Mapping[str, Any], typ: str = "JWT") -> str:
    """A JWT with alg none."""
    return f"{_part({'alg': 'none', 'typ': typ})}.{_part(claims)}."


def with_hmac_of(public: Mapping[str, Any], claims: Mapping[str, Any]) -> str:
    """HS256 with the PEM of a public key as the secret: the confusion of algorithms."""
    import hmac

    pem = _key(public).as_pem(private=False)
    content = f"{_part({'alg': 'HS256', 'typ': 'at+jwt', 'kid': public.get('kid')})}.{_part(claims)}"
    return f"{content}.{_base64(hmac.digest(pem, content.encode(), 'sha256'))}"


def parts(token: str) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """Header and claims, nothing verified; None where it is no JWT."""
    pieces = token.split(".")
    if len(pieces) != 3:
        return None
    try:
        header, claims = (json.loads(base64.urlsafe_b64decode(each + "=" * (-len(each) % 4))) for each in pieces[:2])
    except ValueError:
        return None
    return (header, claims) if isinstance(header, dict) and isinstance(claims, dict) else None


def verified(token: str, keys: KeySetSerialization, algorithm: str) -> dict[str, Any]:
    """The claims of a JWT that one of these keys signed by this algorithm; raises joserfc's errors."""
    return dict(jwt.decode(token, KeySet.import_key_set(keys), algorithms=[algorithm]).claims)


def new_key(kid: str = "kit", algorithm: str = "RS384") -> dict[str, Any]:
    """A private JWK of nobody."""
    made = (
        ECKey.generate_key({"ES256": "P-256"}.get(algorithm, "P-384"), private=True)
        if algorithm.startswith("ES")
        else RSAKey.generate_key(2048, private=True)
    )
    return {**made.as_dict(private=True), "kid": kid, "alg": algorithm, "use": "sig"}


def public_part(key: Mapping[str, Any]) -> dict[str, Any]:
    """The same JWK without what is private."""
    return {name: value for name, value in key.items() if name not in ("d", "p", "q", "dp", "dq", "qi", "k")}


def tampered(token: str) -> str:
    """The same JWT with another scope or subject under the old signature; of an opaque token, its last character changed."""
    found = parts(token)
    if found is None:
        return token[:-1] + ("A" if token[-1] != "A" else "B")
    head, _, signature = token.split(".")
    claims = {**found[1], "scope": "system/*.cruds", "patient": None, "sub": "kit"}
    return f"{head}.{_part(claims)}.{signature}"


def _key(key: Mapping[str, Any]) -> Any:
    plain = {name: value for name, value in key.items() if name not in ("alg", "use", "key_ops")}
    match key.get("kty"):
        case "EC":
            return ECKey.import_key(plain)
        case "oct":
            return OctKey.import_key(plain)
        case _:
            return RSAKey.import_key(plain)


def _without_none(given: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in given.items() if value is not None}


def _part(content: Mapping[str, Any]) -> str:
    return _base64(json.dumps(content, separators=(",", ":")).encode())


def _base64(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()

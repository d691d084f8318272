"""Values that leave this server and come back: encrypted and authenticated, and good only for what they were sealed for.

AES-SIV (RFC 5297) needs no nonce that all processes would have to keep unique. What is equal looks equal: whoever minds puts chance into it.
"""

import base64
import binascii
import hashlib
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final

import orjson
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV

_LONGEST: Final = 4096


def seal(key: bytes, purpose: str, value: Any, bound: Sequence[str] = ()) -> str:
    """An opaque, URL-safe text for `value`, which is of JSON. It opens again for this purpose and the same `bound` only."""
    sealed = _cipher(key, purpose).encrypt(orjson.dumps(value), [orjson.dumps(list(bound))])
    return base64.urlsafe_b64encode(sealed).rstrip(b"=").decode("ascii")


def unseal(key: bytes, purpose: str, text: str, bound: Sequence[str] = ()) -> Any:
    """What was sealed; None for what was not, or not here, or for something else."""
    if len(text) > _LONGEST:
        return None
    try:
        sealed = base64.b64decode(text.encode("ascii") + b"=" * (-len(text) % 4), altchars=b"-_", validate=True)
        if base64.urlsafe_b64encode(sealed).rstrip(b"=").decode("ascii") != text:  # bits that mean nothing were changed
            return None
        return orjson.loads(_cipher(key, purpose).decrypt(sealed, [orjson.dumps(list(bound))]))
    except (InvalidTag, binascii.Error, ValueError):
        return None


@lru_cache(maxsize=8)
def _cipher(key: bytes, purpose: str) -> AESSIV:
    return AESSIV(hashlib.blake2b(purpose.encode(), key=key[:64], digest_size=64).digest())

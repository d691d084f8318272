"""Page links: where a page ended, sealed so that it fits this request of this caller only, and that nobody reads it on its way.

It has the sort keys of a resource, such as a name; URLs stand in the logs of proxies and browsers.
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

from server.access.decisions import Decision
from server.work.fhir.refusals import ParameterError

_UNBOUND: Final = frozenset({"_cursor", "_format", "_pretty"})
Parameters = Sequence[tuple[str, str]]


def seal(key: bytes, position: Sequence[Any], path: str, parameters: Parameters, made: Decision) -> str:
    """An opaque, URL-safe cursor for the page after `position`, of the request of `path` with `parameters`."""
    sealed = _cipher(key).encrypt(orjson.dumps(position), [_bound(path, parameters, made)])
    return base64.urlsafe_b64encode(sealed).rstrip(b"=").decode("ascii")


def unseal(key: bytes, text: str, path: str, parameters: Parameters, made: Decision) -> list[Any]:
    """The position in a cursor. Raises `ParameterError` if it was made for another request or caller, or not here."""
    try:
        sealed = base64.urlsafe_b64decode(text.encode("ascii") + b"=" * (-len(text) % 4))
        plain = _cipher(key).decrypt(sealed, [_bound(path, parameters, made)])
    except (InvalidTag, binascii.Error, ValueError):
        raise ParameterError("_cursor", "this page link is not for this request and this token; begin it again") from None
    found: list[Any] = orjson.loads(plain)
    return found


@lru_cache(maxsize=4)
def _cipher(key: bytes) -> AESSIV:
    """RFC 5297: encrypted and authenticated, without a nonce that all processes would have to keep unique; equal places look equal."""
    return AESSIV(hashlib.blake2b(key, digest_size=64, person=b"fhir page link").digest())


def _bound(path: str, parameters: Parameters, made: Decision) -> bytes:
    """What it is for. The token itself is not part of it: a refreshed token of the same rights may go on."""
    scopes = sorted([scope.context, scope.type, "".join(sorted(scope.interactions)), scope.query] for scope in made.scopes)
    meant = [each for each in parameters if each[0] not in _UNBOUND]
    return orjson.dumps([path, meant, made.subject, made.patient, scopes])

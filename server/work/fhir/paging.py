"""Page links: where a page ended, sealed so that it fits this request of this caller only."""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Sequence
from typing import Any, Final

import orjson

from server.access.decisions import Decision
from server.work.fhir.refusals import ParameterError

_SEAL: Final = 16
_UNBOUND: Final = frozenset({"_cursor", "_format", "_pretty"})
Parameters = Sequence[tuple[str, str]]


def seal(key: bytes, position: Sequence[Any], path: str, parameters: Parameters, made: Decision) -> str:
    """An opaque, URL-safe cursor for the page after `position`, of the request of `path` with `parameters`."""
    plain = orjson.dumps(position)
    return base64.urlsafe_b64encode(_seal(key, plain, path, parameters, made) + plain).rstrip(b"=").decode("ascii")


def unseal(key: bytes, text: str, path: str, parameters: Parameters, made: Decision) -> list[Any]:
    """The position in a cursor. Raises `ParameterError` if it was made for another request or caller, or not here."""
    try:
        sealed = base64.urlsafe_b64decode(text.encode("ascii") + b"=" * (-len(text) % 4))
    except (binascii.Error, ValueError):
        sealed = b""
    plain = sealed[_SEAL:]
    if not hmac.compare_digest(sealed[:_SEAL], _seal(key, plain, path, parameters, made)):
        raise ParameterError("_cursor", "this page link is not for this request and this token; begin it again")
    found: list[Any] = orjson.loads(plain)
    return found


def _seal(key: bytes, plain: bytes, path: str, parameters: Parameters, made: Decision) -> bytes:
    """The token itself is not part of it: a refreshed token of the same rights may go on."""
    scopes = sorted([scope.context, scope.type, "".join(sorted(scope.interactions))] for scope in made.scopes)
    meant = [each for each in parameters if each[0] not in _UNBOUND]
    bound = orjson.dumps([path, meant, made.subject, made.patient, scopes])
    return hmac.digest(key, hashlib.sha256(bound).digest() + plain, hashlib.sha256)[:_SEAL]

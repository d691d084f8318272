"""Page links: where a page ended, sealed so that it fits this search of this caller only."""

import base64
import binascii
import hashlib
import hmac

import orjson

from server.access.decisions import Decision
from server.edges.fhir.outcome import ParameterError
from server.edges.fhir.query import Search
from server.records.search import Position

_SEAL = 16


def seal(key: bytes, position: Position, search: Search, made: Decision) -> str:
    """An opaque, URL-safe cursor for the page after `position`."""
    plain = orjson.dumps([position.began, position.key, position.pk, position.number])
    return base64.urlsafe_b64encode(_seal(key, plain, search, made) + plain).rstrip(b"=").decode("ascii")


def unseal(key: bytes, text: str, search: Search, made: Decision) -> Position:
    """The position in a cursor. Raises `ParameterError` if it was made for another search or caller, or not here."""
    try:
        sealed = base64.urlsafe_b64decode(text.encode("ascii") + b"=" * (-len(text) % 4))
    except (binascii.Error, ValueError):
        sealed = b""
    plain = sealed[_SEAL:]
    if not hmac.compare_digest(sealed[:_SEAL], _seal(key, plain, search, made)):
        raise ParameterError("_cursor", "this page link is not for this search and this token; begin the search again")
    return Position(*orjson.loads(plain))


def _seal(key: bytes, plain: bytes, search: Search, made: Decision) -> bytes:
    """The token itself is not part of it: a refreshed token of the same rights may go on."""
    scopes = sorted([scope.context, scope.type, "".join(sorted(scope.interactions))] for scope in made.scopes)
    bound = orjson.dumps([search.query.type, search.understood, made.subject, made.patient, scopes])
    return hmac.digest(key, hashlib.sha256(bound).digest() + plain, hashlib.sha256)[:_SEAL]

"""What comes to an endpoint of the authorization server and what goes back, without any web framework: the ground under Authlib."""

import base64
import binascii
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import unquote_plus

import orjson
from authlib.oauth2.rfc6749 import InvalidRequestError, OAuth2Payload, OAuth2Request
from sqlalchemy import Connection

from server.access.foreign_keys import said_claims

Pairs = Sequence[tuple[str, str]]

_UNSEEN: Final = "https://authorization-server.invalid/"
"""Authlib wants to see https. Ours is behind whatever ends TLS, and knows itself by `public_url` alone."""
JSON: Final = ("Content-Type", "application/json")
UNCACHED: Final = (("Cache-Control", "no-store"), ("Pragma", "no-cache"))


@dataclass(frozen=True, slots=True)
class Message:
    """A request. Names and values are decoded and in their order; `authorization` is that header, `body` JSON where that is asked for."""

    method: str = "POST"
    query: Pairs = ()
    form: Pairs = field(default=(), repr=False)
    authorization: str = field(default="", repr=False)
    body: Any = field(default=None, repr=False)
    address: str = ""
    request_id: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """`body` is JSON, or nothing."""

    status: int
    body: bytes = field(default=b"", repr=False)
    headers: tuple[tuple[str, str], ...] = UNCACHED


def answer(status: int, body: object, headers: Sequence[tuple[str, str]] = ()) -> Answer:
    """RFC 6749 section 5.1: JSON that nobody keeps. A body of None is none."""
    kept = tuple(each for each in headers if each[0] not in ("Content-Type", "Cache-Control", "Pragma"))
    if body is None:
        return Answer(status, b"", (*UNCACHED, *kept))
    return Answer(status, orjson.dumps(body), (JSON, *UNCACHED, *kept))


class Payload(OAuth2Payload):
    """Names and values of a query or a form, as Authlib asks for them."""

    def __init__(self, pairs: Pairs) -> None:
        self._datalist: defaultdict[str, list[str]] = defaultdict(list)
        for name, value in pairs:
            self._datalist[name].append(value)
        self._data = {name: values[0] for name, values in self._datalist.items()}

    @property
    def data(self) -> dict[str, str]:
        return self._data

    @property
    def datalist(self) -> defaultdict[str, list[str]]:
        return self._datalist


class Request(OAuth2Request):
    """A `Message` as Authlib's grants see it, with what they share: the connection of their transaction."""

    connection: Connection
    now: int

    def __init__(self, message: Message) -> None:
        super().__init__(message.method, _UNSEEN, headers={"Authorization": message.authorization})
        self.message = message
        self._args, self._form = Payload(message.query), Payload(message.form)
        self.payload = self._form if message.method == "POST" else self._args

    @property
    def args(self) -> dict[str, str]:
        return self._args.data

    @property
    def form(self) -> dict[str, str]:
        return self._form.data

    def refuse_repeated(self) -> None:
        """RFC 6749 sections 3.1 and 3.2: no parameter more than once. Of `resource` (RFC 8707) there may be several, but not here."""
        for source in (self._args, self._form):
            if any(len(values) > 1 for values in source.datalist.values()):
                raise InvalidRequestError("a parameter is there more than once")


def basic(authorization: str) -> tuple[str, str] | None:
    """Client id and secret of HTTP Basic (RFC 6749 section 2.3.1, form-encoded); None where there is none. Raises `InvalidRequestError`."""
    scheme, _, rest = authorization.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        name, colon, secret = base64.b64decode(rest.strip(), validate=True).decode("utf-8").partition(":")
    except (binascii.Error, UnicodeDecodeError):
        raise InvalidRequestError("the Authorization header is no HTTP Basic") from None
    if not colon:
        raise InvalidRequestError("the Authorization header is no HTTP Basic")
    return unquote_plus(name), unquote_plus(secret)


def claimed(message: Message) -> str:
    """Which client a request says that it is from, of which nothing is looked at yet; empty where it does not say."""
    try:
        named = basic(message.authorization)
    except InvalidRequestError:
        return ""
    if named is not None:
        return named[0]
    form = dict(message.form)
    return form.get("client_id") or _subject(form.get("client_assertion", ""))


def _subject(assertion: str) -> str:
    subject = said_claims(assertion).get("sub")
    return subject if isinstance(subject, str) else ""


def bearer(authorization: str) -> str | None:
    """The token of RFC 6750 section 2.1; None where there is none."""
    scheme, _, token = authorization.partition(" ")
    return token.strip() if scheme.lower() == "bearer" and token.strip() else None

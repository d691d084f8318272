"""RFC 6749 section 2 and RFC 7591: the programs that are registered, and what each may ask for."""

import hashlib
import hmac
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import SplitResult, urlsplit

from authlib.oauth2.rfc6749 import ClientMixin
from sqlalchemy import Connection, Row, delete, select, update

from server.access import epoch
from server.access.fetching import is_own
from server.access.oauth.public_keys import require_public
from server.errors import Conflict, NotFound, Refused
from server.store.db import insert, micros
from server.store.tables import OAuthClient

CLIENT: Final = OAuthClient.__table__  # type: ignore[attr-defined]

KINDS: Final = ("public", "secret", "asymmetric")
AUTHORIZATION_CODE, REFRESH_TOKEN, CLIENT_CREDENTIALS = "authorization_code", "refresh_token", "client_credentials"
GRANT_TYPES: Final = (AUTHORIZATION_CODE, REFRESH_TOKEN, CLIENT_CREDENTIALS)
INTROSPECT, LAUNCH = "introspect", "launch"
PERMISSIONS: Final = (INTROSPECT, LAUNCH)
METHODS: Final = {
    "public": ("none",),
    "secret": ("client_secret_basic", "client_secret_post"),
    "asymmetric": ("private_key_jwt",),
}
"""How each kind authenticates at the endpoints (RFC 7591 section 2)."""
_LOOPBACK: Final = ("127.0.0.1", "::1")
_LOCAL: Final = (*_LOOPBACK, "localhost")


@dataclass(frozen=True, slots=True)
class Client(ClientMixin):
    """One registered program. Its methods are those that Authlib asks for."""

    id: str
    name: str
    kind: str
    redirect_uris: tuple[str, ...] = ()
    scope: str = ""
    grant_types: frozenset[str] = frozenset({AUTHORIZATION_CODE, REFRESH_TOKEN})
    may: frozenset[str] = frozenset()
    launch_uri: str = ""
    origins: tuple[str, ...] = ()
    jwks: Mapping[str, Any] | None = field(default=None, repr=False)
    jwks_uri: str = ""
    logo_uri: str = ""
    client_uri: str = ""
    contacts: tuple[str, ...] = ()
    device: str = ""
    reach: frozenset[str] | None = None
    disabled: bool = False
    created: int = 0
    secret_hash: str = field(default="", repr=False)
    registration_hash: str | None = field(default=None, repr=False)

    @property
    def registered_itself(self) -> bool:
        """RFC 7591: it is then a stranger, who says of itself what it likes."""
        return self.registration_hash is not None

    def get_client_id(self) -> str:
        return self.id

    def get_default_redirect_uri(self) -> None:
        """There is none: SMART App Launch has every request name its own."""
        return

    def get_allowed_scope(self, scope: str) -> str:
        """As asked; `Authorizing` narrows it, which knows how one scope covers another."""
        return scope

    def check_redirect_uri(self, redirect_uri: str) -> bool:
        """RFC 9700 section 2.1: as registered, to the letter; of a loopback address any port (RFC 8252 section 7.3)."""
        return redirect_uri in self.redirect_uris or any(
            _same_but_for_port(registered, redirect_uri) for registered in self.redirect_uris
        )

    def check_client_secret(self, client_secret: str) -> bool:
        return bool(self.secret_hash) and hmac.compare_digest(hashed(client_secret), self.secret_hash)

    def check_endpoint_auth_method(self, method: str, _: str) -> bool:
        return method in METHODS[self.kind]

    def check_response_type(self, response_type: str) -> bool:
        return response_type == "code" and AUTHORIZATION_CODE in self.grant_types

    def check_grant_type(self, grant_type: str) -> bool:
        return grant_type in self.grant_types


def hashed(secret: str) -> str:
    """How secrets of ours, of 128 random bits and more, are kept: SHA-256 in hexadecimal."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def new_secret() -> str:
    """256 random bits, base64url."""
    return secrets.token_urlsafe(32)


# --- the table


def find(connection: Connection, id: str) -> Client | None:
    """The client, also if it is disabled. Anybody may ask for anything: what is no client id at all is not asked of the database."""
    if not _is_id(id):
        return None
    row = connection.execute(select(CLIENT).where(CLIENT.c.id == id)).first()
    return None if row is None else _of(row)


def enabled(connection: Connection, id: str) -> Client | None:
    found = find(connection, id)
    return None if found is None or found.disabled else found


def every(connection: Connection) -> list[Client]:
    """All of them, by name."""
    return [_of(row) for row in connection.execute(select(CLIENT).order_by(CLIENT.c.name, CLIENT.c.id))]


def origins(connection: Connection) -> dict[str, frozenset[str]]:
    """Web origin -> the clients that are registered with it."""
    found: dict[str, set[str]] = {}
    for client, names in connection.execute(select(CLIENT.c.id, CLIENT.c.origins).where(CLIENT.c.disabled == 0)):
        for name in names:
            found.setdefault(name, set()).add(client)
    return {name: frozenset(ids) for name, ids in found.items()}


def add(connection: Connection, client: Client, hosts: Iterable[str] = ()) -> str:
    """Registers it; gives its secret, which is never shown again, or the empty string. Raises as `require_valid`, and `Conflict`."""
    require_valid(client, hosts)
    secret = new_secret() if client.kind == "secret" else ""
    values = _values(client) | {"created": micros(), "secret_hash": hashed(secret) if secret else ""}
    made = insert(connection, CLIENT).values(id=client.id, **values).on_conflict_do_nothing().returning(CLIENT.c.id)
    if connection.execute(made).first() is None:
        raise Conflict("there is a client of this id already; choose another one")
    epoch.raise_(connection)
    return secret


def change(connection: Connection, client: Client, hosts: Iterable[str] = ()) -> None:
    """Replaces what is registered but its secret. Raises as `require_valid`, and `NotFound`."""
    require_valid(client, hosts)
    values = _values(client)
    if connection.execute(update(CLIENT).where(CLIENT.c.id == client.id).values(**values).returning(CLIENT.c.id)).first() is None:
        raise NotFound("there is no client of this id; see imageshare client list")
    epoch.raise_(connection)


def remove(connection: Connection, id: str) -> None:
    connection.execute(delete(CLIENT).where(CLIENT.c.id == id))
    epoch.raise_(connection)


def disable(connection: Connection, id: str, *, disabled: bool = True) -> None:
    """None of its tokens is worth anything while it is disabled. Raises `NotFound`."""
    changed = update(CLIENT).where(CLIENT.c.id == id).values(disabled=int(disabled)).returning(CLIENT.c.id)
    if connection.execute(changed).first() is None:
        raise NotFound("there is no client of this id; see imageshare client list")
    epoch.raise_(connection)


def _of(row: Row[Any]) -> Client:
    return Client(
        id=row.id, name=row.name, kind=row.kind, redirect_uris=tuple(row.redirect_uris), scope=row.scope,
        grant_types=frozenset(row.grant_types.split()), may=frozenset(row.may.split()), launch_uri=row.launch_uri,
        origins=tuple(row.origins), jwks=row.jwks, jwks_uri=row.jwks_uri, logo_uri=row.logo_uri, client_uri=row.client_uri,
        contacts=tuple(row.contacts), device=row.device, reach=None if row.reach is None else frozenset(row.reach),
        disabled=bool(row.disabled), created=row.created, secret_hash=row.secret_hash, registration_hash=row.registration_hash,
    )  # fmt: skip


def _values(client: Client) -> dict[str, Any]:
    return {
        "name": client.name, "kind": client.kind, "redirect_uris": list(client.redirect_uris), "scope": client.scope,
        "grant_types": " ".join(sorted(client.grant_types)), "may": " ".join(sorted(client.may)), "launch_uri": client.launch_uri,
        "origins": list(client.origins), "jwks": client.jwks, "jwks_uri": client.jwks_uri, "logo_uri": client.logo_uri,
        "client_uri": client.client_uri, "contacts": list(client.contacts), "device": client.device,
        "reach": None if client.reach is None else sorted(client.reach), "disabled": int(client.disabled),
        "registration_hash": client.registration_hash,
    }  # fmt: skip


# --- what is taken


def require_valid(client: Client, hosts: Iterable[str] = ()) -> None:
    """Raises `Refused`, which says what a registration lacks. `hosts` is the setting `fetch_allowed_hosts`."""
    if not _is_id(client.id):
        raise Refused("a client id is of printable ASCII without spaces, quotes and colons")
    if not client.name.strip() or len(client.name) > 200 or not client.name.isprintable():
        raise Refused("a client has a name for people, of at most 200 characters")
    if client.kind not in KINDS:
        raise Refused(f"a client is {', '.join(KINDS[:-1])} or {KINDS[-1]}")
    _require_grants(client)
    for uri in client.redirect_uris:
        require_redirect_uri(uri)
    for uri in filter(None, (client.logo_uri, client.client_uri, client.jwks_uri)):
        _require_web(uri, hosts)
    if client.launch_uri:
        _require_web(client.launch_uri, (*hosts, *_LOCAL))  # opened by a browser, and of apps in the making on its own machine
    for origin in client.origins:
        require_origin(origin)


def _is_id(text: str) -> bool:
    return bool(text) and text.isascii() and text.isprintable() and not any(mark in text for mark in ' ":')


def _require_grants(client: Client) -> None:
    if unknown := client.grant_types - set(GRANT_TYPES):
        raise Refused(f"grant types are {', '.join(GRANT_TYPES)}; not {', '.join(sorted(unknown))}")
    if unknown := client.may - set(PERMISSIONS):
        raise Refused(f"permissions are {', '.join(PERMISSIONS)}; not {', '.join(sorted(unknown))}")
    if client.may and client.kind == "public":
        raise Refused("a public client cannot prove who it is, so it may neither introspect nor launch")
    if AUTHORIZATION_CODE in client.grant_types and not client.redirect_uris:
        raise Refused("a client that people authorize needs a redirect URI")
    if CLIENT_CREDENTIALS in client.grant_types and client.kind != "asymmetric":
        raise Refused("client_credentials needs an asymmetric client (SMART Backend Services)")
    if (client.kind == "asymmetric") != bool(client.jwks or client.jwks_uri) or (client.jwks and client.jwks_uri):
        raise Refused("an asymmetric client has either a JWK Set or the URL of one, and no other client has one")
    if client.jwks:
        require_public(client.jwks)


_NO_DOMAIN: Final = frozenset({"javascript", "data", "vbscript", "file", "blob", "about", "intent", "http", "https"})
"""No reversed domain begins so; other programs may read a scheme only so far."""


def require_redirect_uri(uri: str) -> None:
    """RFC 9700 section 4.1 and RFC 8252 section 7: https, a private scheme with a dot in it, or http to this very machine."""
    parts = _split(uri)
    web = parts.scheme == "https" and parts.hostname
    native = "." in parts.scheme and parts.scheme.partition(".")[0] not in _NO_DOMAIN
    local = parts.scheme == "http" and parts.hostname in _LOCAL
    if not (web or native or local):
        raise Refused("a redirect URI is https, a private scheme such as org.example.app:/back, or http to a loopback address")
    if parts.fragment or "#" in uri or parts.username is not None or "*" in uri:
        raise Refused("a redirect URI has no fragment, no user and no wildcard")


def require_origin(origin: str) -> None:
    """RFC 6454 section 6.2: scheme, host and port, as a browser says it."""
    parts = _split(origin)
    if parts.scheme not in ("http", "https") or not parts.hostname or origin != f"{parts.scheme}://{parts.netloc}".lower():
        raise Refused("an origin is scheme, host and port in lower case, such as https://app.example.org")
    if parts.username is not None:
        raise Refused("an origin has no user")


def _require_web(uri: str, hosts: Iterable[str]) -> None:
    """RFC 7591 section 5: with TLS, but for `hosts`."""
    parts = _split(uri)
    host = parts.hostname or ""
    plain = parts.scheme == "http" and is_own(host, parts.port or 80, hosts)
    if not host or parts.username is not None or parts.fragment or not (plain or parts.scheme == "https"):
        raise Refused(
            "the URLs of a client are https, with a host, without user and fragment; for a host of your own see fetch_allowed_hosts"
        )


def _split(uri: str) -> SplitResult:
    if not uri.isascii() or not uri.isprintable() or any(mark in uri for mark in ' "<>\\^`{|}'):
        raise Refused("a URI has neither spaces nor quotes, and is of ASCII")
    try:
        parts = urlsplit(uri)
        _ = parts.port
    except ValueError:
        raise Refused("this is no URI") from None
    return parts


def _same_but_for_port(registered: str, asked: str) -> bool:
    try:
        ours, theirs = _split(registered), _split(asked)
    except Refused:
        return False
    if ours.scheme != "http" or ours.hostname not in _LOOPBACK or theirs.username is not None:
        return False
    return _without_port(ours) == _without_port(theirs)


def _without_port(parts: SplitResult) -> Sequence[str | None]:
    return parts.scheme, parts.hostname, parts.path, parts.query, parts.fragment

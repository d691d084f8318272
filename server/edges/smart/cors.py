"""The Fetch standard's CORS protocol, as SMART App Launch 2.2 asks: discovery for any origin, tokens and data for registered ones.

Never with credentials: cookies of a browser open nothing here that an app could read.
"""

import time
from collections.abc import Iterable
from typing import Final

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import HTTPConnection
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from profiles.smart.configuration import style_path
from server.access.decisions import Decision
from server.access.oauth import clients
from server.edges.context import node
from server.errors import ImageShareError
from server.settings import TrustedIssuer
from server.store.db import Database

OPEN: Final = frozenset(
    {
        "/fhir/.well-known/smart-configuration", "/.well-known/oauth-authorization-server", "/.well-known/openid-configuration",
        "/fhir/metadata", "/oauth/jwks", "/brands", style_path(),
    }
)  # fmt: skip
"""What any origin may read: it is the same for everybody."""
_HEALTH_LINKS: Final = "/shl/"
"""What web pages of others open SMART Health Links with: nobody's cookie opens anything there, and who has no key reads nothing of it."""
_OAUTH: Final = ("/oauth/token", "/oauth/revoke", "/oauth/introspect")
_DATA: Final = ("/fhir", "/dicomweb", "/wado")
_METHODS: Final = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"
_HEADERS: Final = (
    "Accept, Authorization, Content-Type, If-Match, If-Modified-Since, If-None-Exist, If-None-Match, Prefer, Range, X-Request-Id"
)
_EXPOSED: Final = (
    "Content-Disposition, Content-Location, Content-Range, ETag, Last-Modified, Link, Location, Retry-After, Warning, WWW-Authenticate,"
    " X-Request-Id"
)
_SECONDS: Final = 600
_FRESH_SECONDS: Final = 1.0


class Origins:
    """The origins of registered clients and of `trusted_issuers`. Reads the table at most once a second."""

    def __init__(self, database: Database, issuers: Iterable[TrustedIssuer]) -> None:
        self._database = database
        self._issuers = tuple(issuers)
        self._known: dict[str, frozenset[str]] = {}
        self._until = 0.0

    def whose(self, origin: str) -> frozenset[str]:
        """The clients that are registered with this origin, by their ids, and the foreign issuers of which it is, which no client id is like."""
        if self._until < time.monotonic():
            with self._database.read() as connection:
                self._known = clients.origins(connection)
            self._until = time.monotonic() + _FRESH_SECONDS
        return self._known.get(origin, frozenset()) | {each.issuer for each in self._issuers if origin in each.origins}


class Cors:
    """ASGI middleware. A request that names no `Origin` passes as it is."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._origins: Origins | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope) if scope["type"] == "http" else None
        origin = headers.get("origin") if headers is not None else None
        if headers is None or origin is None or not _is_shared(scope["path"]):
            await self._app(scope, receive, send)
            return
        if _is_open(scope["path"]):
            known = None
        else:
            known = await self._whose(scope, origin)
        if scope["method"] == "OPTIONS" and "access-control-request-method" in headers:
            await _preflight(origin, known)(scope, receive, send)
            return

        async def allowed(message: Message) -> None:
            if message["type"] == "http.response.start":
                told = MutableHeaders(raw=list(message["headers"]))
                _allow(told, origin, known, scope)
                message = {**message, "headers": told.raw}
            await send(message)

        await self._app(scope, receive, allowed)

    async def _whose(self, scope: Scope, origin: str) -> frozenset[str]:
        if self._origins is None:
            own = node(HTTPConnection(scope))
            self._origins = Origins(own.database, own.settings.trusted_issuers)
        try:
            return await run_in_threadpool(self._origins.whose, origin)
        except ImageShareError:  # without a database no origin is known
            return frozenset()


def _is_open(path: str) -> bool:
    return path in OPEN or path.startswith(_HEALTH_LINKS)


def _is_shared(path: str) -> bool:
    return _is_open(path) or path in _OAUTH or any(path == root or path.startswith(f"{root}/") for root in _DATA)


def _preflight(origin: str, known: frozenset[str] | None) -> Response:
    """Fetch section 3.2.2. It has no token, so that any client's origin will do."""
    response = Response(status_code=204, headers={"Vary": "Origin"})
    if known is None or known:
        response.headers["Access-Control-Allow-Origin"] = "*" if known is None else origin
        response.headers["Access-Control-Allow-Methods"] = _METHODS
        response.headers["Access-Control-Allow-Headers"] = _HEADERS
        response.headers["Access-Control-Max-Age"] = str(_SECONDS)
    return response


def _is_of(known: frozenset[str], decided: Decision | None) -> bool:
    """Whether the token of a request, if it has one, is of a client or foreign issuer of its origin. One of the command line is nobody's."""
    if decided is None:
        return True
    return decided.issuer in known if decided.issuer else not decided.grant or decided.subject in known


def _allow(headers: MutableHeaders, origin: str, known: frozenset[str] | None, scope: Scope) -> None:
    """The page of this origin may read the answer: an open document, or what its own client's token opens."""
    if known is None:
        headers["Access-Control-Allow-Origin"] = "*"
    else:
        headers.add_vary_header("Origin")
        if not known or not _is_of(known, scope.get("state", {}).get("decision")):
            return
        headers["Access-Control-Allow-Origin"] = origin
    headers["Access-Control-Expose-Headers"] = _EXPOSED

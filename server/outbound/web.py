"""Fetching from URLs that others name: the keys of a client, a logo, what an OpenID provider or a foreign authorization server says of itself.

Whoever can name a URL could have this server call what only it can reach (OWASP: server-side request forgery). So: https and public addresses
alone, but for the hosts of `fetch_allowed_hosts`; a name is resolved once and that address is called; no redirects, proxies, cookies or
packed bodies; bounds on size, on the time of the whole, and on how many wait at once.
"""

import functools
import ipaddress
import socket
import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode, urlsplit

import httpcore2
import orjson

from server import files
from server.access.fetching import is_own
from server.errors import Busy, ImageShareError, Refused, Unavailable
from server.outbound.freshness import seconds_fresh
from server.settings import Settings, bracketed

Resolve = Callable[[str, int], Sequence[str]]
"""A host and port -> its addresses, best first. Raises `OSError`."""

LONGEST_SECONDS: Final = 3600.0
"""Nothing is kept longer, whatever its sender allows."""
_FAILED_SECONDS: Final = 10.0
"""A URL that failed is not asked again for so long: whoever floods us does not flood others through us."""
_KEPT: Final = 256
_AT_ONCE, _AT_ONCE_OF_A_HOST = 24, 12
"""Threads that fetch or wait for one who does; a silent host must leave some of the 40 of a process."""
_JSON_BYTES: Final = 1 << 18
_JSON_SECONDS: Final = 5.0
_GLOBAL_UNICAST: Final = ipaddress.IPv6Network("2000::/3")
_ELSEWHERE: Final = tuple(map(ipaddress.ip_network, ("192.88.99.0/24", "2001::/32", "2002::/16")))
"""What leads elsewhere than it says: relays of 6to4 (RFC 7526), Teredo (RFC 4380), 6to4 (RFC 3056). NAT64 is outside of 2000::/3."""
_UNREACHED: Final = "a server that has to be asked for this did not answer as it should; try again later"


@dataclass(frozen=True, slots=True)
class Fetched:
    """An answer. Names of `headers` are in lower case; of a header that is there twice they have the last."""

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class _Kept:
    """An answer or a failure, until this moment of the monotonic clock."""

    until: float
    answer: Fetched | None = None
    error: ImageShareError | None = None


class Web:
    """One process's way to URLs that others name, with what it remembers of them."""

    def __init__(self, settings: Settings, resolve: Resolve | None = None, *, for_strangers: bool = False) -> None:
        """`for_strangers`: for URLs that anybody may have named: no hosts of our own are called, and their waiting is apart from all other.

        Raises `SettingsError` where `fetch_ca` cannot be read.
        """
        self._allowed = frozenset[str]() if for_strangers else settings.fetch_allowed_hosts
        self._resolve = _InTime(resolve or addresses)
        self._tls = None if settings.fetch_ca is None else _trusting(settings.fetch_ca)
        self._kept: dict[tuple[str, str], _Kept] = {}
        self._locks: dict[tuple[str, str], threading.Lock] = {}
        self._waiting: Counter[str] = Counter()
        self._lock = threading.Lock()

    def fetch(
        self,
        url: str,
        *,
        limit: int,
        seconds: float,
        accept: str = "*/*",
        form: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Fetched:
        """What `url` answers, of at most `limit` bytes within `seconds` in all; a POST where there is a `form`. Any status, redirects too.

        Raises `Refused` for a URL that is not fetched, `Unavailable` where no such answer comes, `Busy` where too many wait already.
        """
        target = self._target(url)
        with self._turn(target.host.decode()):
            return self._fetch(target, limit, seconds, accept, form, headers or {})

    def fetch_cached(self, url: str, *, limit: int, seconds: float, accept: str = "*/*", fresh: bool = False) -> Fetched:
        """As `fetch`, kept as long as the answer allows (RFC 9111), five minutes where it does not say; `fresh` asks anew.

        Of several who want the same URL at the same moment one asks. Answers that are not 200 raise `Unavailable`.
        """
        target, name = self._target(url), (url, accept)
        if not fresh and (kept := self._known(name)) is not None:
            return kept
        with self._turn(target.host.decode()), self._one(name):
            if not fresh and (kept := self._known(name)) is not None:
                return kept
            return self._keep(name, lambda: self._fetch(target, limit, seconds, accept, None, {}))

    def json(self, url: str, *, fresh: bool = False) -> Mapping[str, Any]:
        """The JSON object at `url`, kept as `fetch_cached` does. Raises as it does, and `Unavailable` for what is no object."""
        answer = self.fetch_cached(url, limit=_JSON_BYTES, seconds=_JSON_SECONDS, accept="application/json", fresh=fresh)
        return _object(answer.body)

    def jwks(self, url: str, *, fresh: bool = False) -> Mapping[str, Any]:
        """RFC 7517 section 5: the JWK Set at `url`. Raises as `json` does."""
        found = self.json(url, fresh=fresh)
        if not isinstance(found.get("keys"), list):
            raise Unavailable(_UNREACHED)
        return found

    def get(self, url: str, headers: Mapping[str, str]) -> tuple[int, Mapping[str, Any]]:
        """The status and the JSON object of an answer, of which nothing is kept. Raises as `fetch` does."""
        accept = "application/fhir+json, application/json;q=0.9"
        answer = self.fetch(url, limit=_JSON_BYTES, seconds=_JSON_SECONDS, accept=accept, headers=headers)
        return answer.status, _object(answer.body)

    def post(self, url: str, form: Mapping[str, str], headers: Mapping[str, str] | None = None) -> tuple[int, Mapping[str, Any]]:
        """Sends a form, as OAuth does (RFC 6749 appendix B); the status and the JSON object of the answer. Raises as `fetch` does."""
        answer = self.fetch(url, limit=_JSON_BYTES, seconds=_JSON_SECONDS, accept="application/json", form=form, headers=headers)
        return answer.status, _object(answer.body)

    def _target(self, url: str) -> httpcore2.URL:
        try:
            parts = urlsplit(url)
            host, port = (parts.hostname or "").rstrip("."), parts.port
        except ValueError:
            raise Refused("this is no URL") from None
        plain = url.isascii() and url.isprintable() and not any(mark in url for mark in ' "<>\\^`{|}')
        if not plain or not host or parts.username is not None or parts.password is not None or "%" in host:
            raise Refused("a URL that is fetched has a host, and neither user nor spaces")
        if parts.scheme != "https" and not (parts.scheme == "http" and self._is_allowed(host, port or 80)):
            raise Refused("only https is fetched; for a host of your own see fetch_allowed_hosts")
        target = f"{parts.path or '/'}{'?' if parts.query else ''}{parts.query}"
        return httpcore2.URL(scheme=parts.scheme, host=host, port=port, target=target)

    def _is_allowed(self, host: str, port: int) -> bool:
        return is_own(host, port, self._allowed)

    def _fetch(
        self, url: httpcore2.URL, limit: int, seconds: float, accept: str, form: Mapping[str, str] | None, more: Mapping[str, str]
    ) -> Fetched:
        deadline = time.monotonic() + seconds
        host = bracketed(url.host.decode())
        headers = {"Host": host if url.port is None else f"{host}:{url.port}", "User-Agent": "imageshare", "Accept": accept}
        headers |= {"Accept-Encoding": "identity", "Connection": "close", **more}
        content = None if form is None else urlencode(form).encode()
        if content is not None:
            headers["Content-Type"] = "application/x-www-form-urlencoded"
        backend = _Pinned(self._resolve, self._is_allowed, deadline)
        try:
            with (
                httpcore2.ConnectionPool(ssl_context=self._tls or _usual(), network_backend=backend) as pool,
                pool.stream("GET" if form is None else "POST", url, headers=list(headers.items()), content=content) as answer,
            ):
                told = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in answer.headers}
                if told.get("content-encoding", "identity") != "identity":
                    raise Unavailable(_UNREACHED)
                return Fetched(answer.status, told, _bounded(answer.iter_stream(), limit, deadline))
        except (httpcore2.TimeoutException, httpcore2.NetworkError, httpcore2.ProtocolError, OSError, UnicodeError):
            raise Unavailable(_UNREACHED) from None

    @contextmanager
    def _turn(self, host: str) -> Iterator[None]:
        with self._lock:
            if self._waiting[host] >= _AT_ONCE_OF_A_HOST or self._waiting.total() >= _AT_ONCE:
                raise Busy("too many requests wait for other servers; try again")
            self._waiting[host] += 1
        try:
            yield
        finally:
            with self._lock:
                self._waiting[host] -= 1
                if not self._waiting[host]:
                    del self._waiting[host]

    @contextmanager
    def _one(self, name: tuple[str, str]) -> Iterator[None]:
        with self._lock:
            if len(self._locks) > _KEPT:
                self._locks = {each: lock for each, lock in self._locks.items() if lock.locked()}
            own = self._locks.setdefault(name, threading.Lock())
        with own:
            yield

    def _known(self, name: tuple[str, str]) -> Fetched | None:
        kept = self._kept.get(name)
        if kept is None or kept.until <= time.monotonic():
            return None
        if kept.error is not None:
            raise type(kept.error)(kept.error.detail)
        return kept.answer

    def _keep(self, name: tuple[str, str], fetch: Callable[[], Fetched]) -> Fetched:
        asked = time.monotonic()
        try:
            answer = fetch()
            if answer.status != 200:
                raise Unavailable(_UNREACHED)
        except ImageShareError as error:
            self._remember(name, _Kept(time.monotonic() + _FAILED_SECONDS, error=error))
            raise
        self._remember(name, _Kept(asked + min(seconds_fresh(answer.headers), LONGEST_SECONDS), answer))
        return answer

    def _remember(self, name: tuple[str, str], kept: _Kept) -> None:
        with self._lock:
            if len(self._kept) >= _KEPT:
                now = time.monotonic()
                self._kept = {each: other for each, other in self._kept.items() if other.until > now}
            if len(self._kept) >= _KEPT:
                self._kept.clear()
            self._kept[name] = kept


class _Pinned(httpcore2.NetworkBackend):
    """Connects to the very address that was judged; what a name resolves to later does not matter. Every step ends at the deadline."""

    def __init__(self, resolve: "_InTime", is_allowed: Callable[[str, int], bool], deadline: float) -> None:
        self._resolve = resolve
        self._is_allowed = is_allowed
        self._deadline = deadline
        self._connect = httpcore2.SyncBackend().connect_tcp

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.NetworkStream:
        found = self._resolve(host, port, self._deadline)
        if not self._is_allowed(host, port) and not all(map(is_public, found)):
            raise Refused("a URL that is fetched has a public address; for a host of your own see fetch_allowed_hosts")
        for number, address in enumerate(found, 1):
            try:
                return _Timed(self._connect(address, port, _left(self._deadline), None, socket_options), self._deadline)
            except httpcore2.ConnectError:
                if number == len(found):
                    raise
        raise httpcore2.ConnectError("the name has no address")


class _InTime:
    """Names are resolved within the deadline too, which the system's resolver does not know: in a thread that is left behind if it is late."""

    def __init__(self, resolve: Resolve) -> None:
        self._resolve = resolve
        self._free = threading.Semaphore(_AT_ONCE)

    def __call__(self, host: str, port: int, deadline: float) -> Sequence[str]:
        """Raises `OSError`, `httpcore2.TimeoutException`, and `Busy` where too many are late already."""
        if not self._free.acquire(blocking=False):
            raise Busy("too many requests wait for the names of other servers; try again")
        found: Future[Sequence[str]] = Future()
        threading.Thread(target=self._into, args=(found, host, port), daemon=True).start()
        try:
            return found.result(_left(deadline))
        except TimeoutError:
            raise httpcore2.ConnectTimeout("the name is not resolved in time") from None

    def _into(self, found: "Future[Sequence[str]]", host: str, port: int) -> None:
        try:
            found.set_result(self._resolve(host, port))
        except Exception as error:  # noqa: BLE001 it is the caller's, whatever it is
            found.set_exception(error)
        finally:
            self._free.release()


class _Timed(httpcore2.NetworkStream):
    """A stream whose every step ends at the deadline of the whole: nobody keeps us by sending a byte now and then."""

    def __init__(self, stream: httpcore2.NetworkStream, deadline: float) -> None:
        self._stream = stream
        self._deadline = deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, _left(self._deadline))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, _left(self._deadline))

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore2.NetworkStream:
        return _Timed(self._stream.start_tls(ssl_context, server_hostname, _left(self._deadline)), self._deadline)

    def close(self) -> None:
        self._stream.close()

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


@functools.cache
def _usual() -> ssl.SSLContext:
    """For the authorities that the system trusts. To read them all takes longer than the rest of a start, and few processes fetch anything."""
    return ssl.create_default_context()


def _trusting(authority: Path) -> ssl.SSLContext:
    """For those and what is in this file of certificates."""
    context = ssl.create_default_context()
    files.read(authority, "fetch_ca")
    try:
        context.load_verify_locations(authority)
    except ssl.SSLError:
        raise files.unusable(authority, "fetch_ca", files.NO_CERTIFICATE) from None
    return context


def addresses(host: str, port: int) -> tuple[str, ...]:
    """The addresses of a name by the system's resolver, each once. Raises `OSError`."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)
    return tuple(dict.fromkeys(str(address[0]) for *_, address in found))


@functools.lru_cache(1024)
def is_public(address: str) -> bool:
    """Whether an address is of the public internet: not this machine, link, site or organization, whichever way it is written."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(found, ipaddress.IPv6Address):
        if found.ipv4_mapped is not None:
            return is_public(str(found.ipv4_mapped))
        if found.scope_id is not None or found not in _GLOBAL_UNICAST:
            return False
    if found.is_multicast or not found.is_global:
        return False
    return not any(found in network for network in _ELSEWHERE)


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise httpcore2.ReadTimeout("the time is over")
    return left


def _bounded(pieces: Iterable[bytes], limit: int, deadline: float) -> bytes:
    body = bytearray()
    for piece in pieces:
        body += piece
        if len(body) > limit or time.monotonic() > deadline:
            raise Unavailable(_UNREACHED)
    return bytes(body)


def _object(body: bytes) -> Mapping[str, Any]:
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise Unavailable(_UNREACHED) from None
    if not isinstance(found, dict):
        raise Unavailable(_UNREACHED)
    return found

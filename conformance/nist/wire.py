"""The wire: HTTP and MLLP to the system under test, with what went over it kept for reports and logs, without secrets."""

import re
import socket
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Final, Self

import httpx2

from conformance.nist.target import Feed, Target
from ihe import mllp

_ASSERTION: Final = re.compile(rb"<((?:\w+:)?)Assertion\b.*?</\1Assertion>", re.DOTALL)
_SECRET_HEADERS: Final = frozenset(["authorization", "cookie", "set-cookie", "proxy-authorization"])
_LONGEST_ACKNOWLEDGMENT: Final = 1 << 20


class NoAnswer(Exception):
    """Nothing, or nothing that can be read, came back."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Exchange:
    """A request as it was sent, and its answer; assertions are masked."""

    title: str
    sent: bytes = field(repr=False)
    received: bytes = field(repr=False)
    seconds: float


class Wire:
    """A client for one target. Not for several threads."""

    def __init__(self, target: Target) -> None:
        """Raises `OSError` (`ssl.SSLError` among them) where a certificate cannot be used."""
        self._target = target
        self._context = _context(target)
        self._client = httpx2.Client(
            verify=self._context, timeout=target.timeout, follow_redirects=False, trust_env=False, headers=dict(target.headers)
        )
        self._exchanges: list[Exchange] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._client.close()

    def drained(self) -> tuple[Exchange, ...]:
        """What went over the wire since the last call."""
        found = tuple(self._exchanges)
        self._exchanges.clear()
        return found

    def post(self, url: str, content: bytes, headers: Mapping[str, str]) -> Answer:
        """An HTTP POST. Raises `NoAnswer`."""
        return self._send("POST", url, headers, content=content)

    def get(self, url: str, params: Mapping[str, str], headers: Mapping[str, str]) -> Answer:
        """An HTTP GET; `params` are added to the URL's own. Raises `NoAnswer`."""
        target = httpx2.URL(url)
        query = httpx2.QueryParams([*target.params.multi_items(), *params.items()])
        return self._send("GET", str(target.copy_with(params=query)), headers)

    def _send(self, method: str, url: str, headers: Mapping[str, str], content: bytes | None = None) -> Answer:
        began, received = time.perf_counter(), b""
        try:
            request = self._client.build_request(method, url, headers=dict(headers), content=content)
        except (httpx2.InvalidURL, ValueError) as error:
            raise NoAnswer(f"{url}: {error}") from None
        sent = _head(f"{method} {request.url.raw_path.decode()} HTTP/1.1", request.headers) + request.content
        try:
            got = self._client.send(request)
            received = _head(f"HTTP/1.1 {got.status_code} {got.reason_phrase}", got.headers) + got.content
        except httpx2.HTTPError as error:
            raise NoAnswer(f"{url}: {str(error) or type(error).__name__}") from None
        finally:
            self._keep(f"{method} {url.partition('?')[0]}", sent, received, began)
            self._client.cookies.clear()
        return Answer(got.status_code, {name.lower(): value for name, value in got.headers.items()}, got.content)

    def mllp(self, message: bytes) -> bytes:
        """A message to the feed, and its acknowledgment (MLLP release 1). Raises `NoAnswer`."""
        feed, began, received = self._target.feed, time.perf_counter(), b""
        blocks, answers = mllp.Blocks(_LONGEST_ACKNOWLEDGMENT), list[mllp.Block]()
        try:
            with self._connected(feed) as connection:
                connection.sendall(mllp.framed(message))
                while not answers and (data := connection.recv(65_536)):
                    received += data
                    answers = blocks.receive(data)
        except OSError as error:
            raise NoAnswer(f"{feed.host}:{feed.port}: {error}") from None
        finally:
            self._keep(f"MLLP {feed.host}:{feed.port}", message.replace(b"\r", b"\n"), received.replace(b"\r", b"\n"), began)
        if not answers:
            raise NoAnswer(f"{feed.host}:{feed.port}: the connection ended without an acknowledgment")
        return answers[0].content

    def _connected(self, feed: Feed) -> socket.socket:
        plain = socket.create_connection((feed.host, feed.port), self._target.timeout)
        if not feed.tls:
            return plain
        try:
            return self._context.wrap_socket(plain, server_hostname=feed.host)
        except BaseException:
            plain.close()
            raise

    def _keep(self, title: str, sent: bytes, received: bytes, began: float) -> None:
        self._exchanges.append(Exchange(title, masked(sent), masked(received), time.perf_counter() - began))


def masked(data: bytes) -> bytes:
    """A message without SAML assertions."""
    return _ASSERTION.sub(rb"<\1Assertion>[masked]</\1Assertion>", data)


def _head(line: str, headers: httpx2.Headers) -> bytes:
    shown = (f"{name}: {'[masked]' if name.lower() in _SECRET_HEADERS else value}" for name, value in headers.multi_items())
    return "\r\n".join((line, *shown, "", "")).encode()


def _context(target: Target) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(target.path(target.tls.ca)) if target.tls.ca else None)
    context.check_hostname = target.tls.check_host
    if target.tls.certificate:
        key = str(target.path(target.tls.key)) if target.tls.key else None
        context.load_cert_chain(str(target.path(target.tls.certificate)), key)
    return context

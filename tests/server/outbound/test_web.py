"""Fetching from URLs that others name (abuse case 17): real sockets, canaries that must see nobody, and resolvers that lie."""

import ipaddress
import socket
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import httpcore2
import pytest
from hypothesis import given
from hypothesis import strategies as st
from peers.authority import Authority
from peers.listener import Answer, Listener, answer, listening

from server.errors import Busy, ImageShareError, Refused, SettingsError, Unavailable
from server.outbound import web
from server.outbound.web import Web, is_public
from server.settings import Settings

NAME = "keys.example.org"
PUBLIC = "198.41.0.4"


def _web(*allowed: str, ca: Path | None = None, resolve: web.Resolve | None = None) -> Web:
    return Web(Settings(fetch_allowed_hosts=frozenset(allowed), fetch_ca=ca), resolve)


def _to(*found: str) -> web.Resolve:
    return lambda _, __: found


def _url(listener: Listener, scheme: str = "http", host: str = "127.0.0.1") -> str:
    return f"{scheme}://{host}:{listener.port}/keys?of=us"


HOSTILE = [
    "https://127.0.0.1:{port}/",
    "https://127.8.9.1:{port}/",
    "https://localhost:{port}/",
    "https://localhost.:{port}/",
    "https://LOCALHOST:{port}/",
    "https://[::1]:{port}/",
    "https://[::ffff:127.0.0.1]:{port}/",
    "https://[::ffff:7f00:1]:{port}/",
    "https://[::127.0.0.1]:{port}/",
    "https://[::]:{port}/",
    "https://0.0.0.0:{port}/",
    "https://0:{port}/",
    "https://127.1:{port}/",
    "https://2130706433:{port}/",
    "https://0x7f000001:{port}/",
    "https://0177.0.0.1:{port}/",
    "https://example.org@127.0.0.1:{port}/",
    "https://127.0.0.1:{port}#@example.org/",
    "https://127.0.0.1%00.example.org:{port}/",
    "https://169.254.169.254/latest/meta-data/",
    "https://[fe80::1%25lo]:{port}/",
    "http://127.0.0.1:{port}/",
    "//127.0.0.1:{port}/",
    "ftp://127.0.0.1:{port}/",
    "file:///etc/passwd",
    "https:///nobody",
    "https://127.0.0.1:port/",
    "https://127.0.0.1:{port}/\r\nX: y",
    "https://ex\u00e4mple.org/",
    "",
]


@pytest.mark.parametrize("url", HOSTILE)
def test_nobody_is_called_who_is_not_public(url: str) -> None:
    with listening() as four, listening(host="::1") as six:
        for listener in (four, six):
            with pytest.raises((Refused, Unavailable)):
                _web().fetch(url.format(port=listener.port), limit=100, seconds=5)
        assert four.connections == six.connections == 0


@pytest.mark.parametrize(
    "found", [("127.0.0.1",), ("::1",), (PUBLIC, "127.0.0.1"), ("127.0.0.1", PUBLIC), ("::ffff:127.0.0.1",), ()]
)
def test_a_name_that_leads_to_this_machine_is_not_called(found: tuple[str, ...]) -> None:
    with listening() as canary, pytest.raises(ImageShareError):
        _web(resolve=_to(*found)).fetch(_url(canary, "https", NAME), limit=100, seconds=5)
    assert canary.connections == 0


def test_the_address_that_was_judged_is_the_one_that_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    """DNS rebinding: the name leads elsewhere when it is asked for again, so it is asked for once."""
    asked: list[str] = []
    called: list[str] = []

    def rebinding(host: str, _: int) -> Sequence[str]:
        asked.append(host)
        return [PUBLIC] if len(asked) == 1 else ["127.0.0.1"]

    def connect(_: object, host: str, *__: object) -> httpcore2.NetworkStream:
        called.append(host)
        raise httpcore2.ConnectError("nobody is there")

    monkeypatch.setattr(httpcore2.SyncBackend, "connect_tcp", connect)
    with pytest.raises(Unavailable):
        _web(resolve=rebinding).fetch(f"https://{NAME}/", limit=100, seconds=5)
    assert (asked, called) == ([NAME], [PUBLIC])


def test_the_certificate_is_that_of_the_name(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    with listening(answer(b"here"), certificate=authority.issue("keys", host=NAME)) as server:
        fetching = _web(NAME, ca=authority.path, resolve=_to("127.0.0.1"))
        found = fetching.fetch(_url(server, "https", NAME), limit=100, seconds=5, accept="text/plain")
        assert (found.status, found.body, server.names) == (200, b"here", [NAME])
        assert server.requests[0].startswith(b"GET /keys?of=us HTTP/1.1\r\n")
        assert f"Host: {NAME}:{server.port}\r\n".encode() in server.requests[0]
        with pytest.raises(Unavailable):
            _web("other.example.org", ca=authority.path, resolve=_to("127.0.0.1")).fetch(
                _url(server, "https", "other.example.org"), limit=100, seconds=5
            )
        with pytest.raises(Unavailable):
            _web(NAME, resolve=_to("127.0.0.1")).fetch(_url(server, "https", NAME), limit=100, seconds=5)
        assert len(server.requests) == 1


def test_an_allowed_host_may_be_of_one_port() -> None:
    with listening(answer()) as server, listening() as canary:
        fetching = _web(f"127.0.0.1:{server.port}")
        assert fetching.fetch(_url(server), limit=100, seconds=5).status == 200
        with pytest.raises(Refused):
            fetching.fetch(_url(canary), limit=100, seconds=5)
        assert canary.connections == 0


def test_the_next_address_is_tried_where_one_is_silent() -> None:
    with listening(answer()) as server:
        found = _web(NAME, resolve=_to("::1", "127.0.0.1")).fetch(_url(server, host=NAME), limit=100, seconds=5)
        assert found.status == 200


def test_redirects_are_not_followed() -> None:
    with listening() as canary, listening(answer(b"", f"Location: {_url(canary)}", status="302 Found")) as server:
        fetching = _web("127.0.0.1")
        assert fetching.fetch(_url(server), limit=100, seconds=5).status == 302
        with pytest.raises(Unavailable):
            fetching.json(_url(server))
        assert canary.connections == 0


def test_proxies_of_the_environment_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    with listening() as canary, listening(answer()) as server:
        for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{canary.port}")
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.delenv("NO_PROXY", raising=False)
        assert _web("127.0.0.1").fetch(_url(server), limit=100, seconds=5).status == 200
        assert canary.connections == 0


def test_cookies_are_not_kept() -> None:
    with listening(answer(b"{}", "Set-Cookie: a=b; Path=/")) as server:
        fetching = _web("127.0.0.1")
        for _ in range(2):
            fetching.fetch(_url(server), limit=100, seconds=5)
        assert len(server.requests) == 2
        assert not any(b"cookie" in request.lower() for request in server.requests)


def _drip(first: bytes) -> Answer:
    """Sends `first`, and then a byte now and then until the other has gone."""

    def send(connection: socket.socket) -> None:
        connection.sendall(first)
        while not threading.Event().wait(0.02):
            connection.sendall(b"a")

    return send


@pytest.mark.parametrize(
    "first", [b"", b"HTTP/1.1 200 OK\r\nX: ", b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n"]
)
def test_who_sends_a_byte_now_and_then_does_not_keep_us(first: bytes) -> None:
    with listening(_drip(first)) as server, pytest.raises(Unavailable):
        _web("127.0.0.1").fetch(_url(server), limit=100_000, seconds=0.3)


def test_a_name_that_is_not_resolved_does_not_keep_us() -> None:
    """Nor does it keep a thread that could fetch from others; the system's resolver knows no deadline of ours."""
    held = threading.Event()

    def slow(host: str, _: int) -> Sequence[str]:
        if host != "localhost":
            held.wait(60)
        return ("127.0.0.1",)

    fetching = _web("a.example.org", "localhost", resolve=slow)
    with listening(answer()) as server:
        for _ in range(24):
            with pytest.raises(Unavailable):
                fetching.fetch("http://a.example.org/", limit=10, seconds=0.02)
            assert not held.is_set()
        with pytest.raises(Busy):  # so many names are still being resolved
            fetching.fetch("http://a.example.org/", limit=10, seconds=0.02)
        held.set()
        while True:
            with suppress(Busy):
                assert fetching.fetch(_url(server, host="localhost"), limit=10, seconds=30).status == 200
                break


@pytest.mark.parametrize("error", [OSError("no such name"), UnicodeError("no name")])
def test_a_name_that_there_is_not(error: Exception) -> None:
    def none(_: str, __: int) -> Sequence[str]:
        raise error

    with pytest.raises(Unavailable):
        _web(resolve=none).fetch("https://a.example.org/", limit=10, seconds=30)


def test_for_strangers_no_host_is_our_own() -> None:
    with listening(answer()) as server:
        fetching = Web(Settings(fetch_allowed_hosts=frozenset({"127.0.0.1"})), for_strangers=True)
        for scheme in ("http", "https"):
            with pytest.raises(Refused):
                fetching.fetch(_url(server, scheme), limit=10, seconds=30)
        assert server.connections == 0


def test_who_says_nothing_does_not_keep_us() -> None:
    gone = threading.Event()

    def silent(_: socket.socket) -> None:
        gone.wait(30)

    with listening(silent) as server, pytest.raises(Unavailable):
        _web("127.0.0.1").fetch(_url(server), limit=100, seconds=0.3)
    gone.set()


def _endless(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        connection.sendall(b"10000\r\n" + b"a" * 0x10000 + b"\r\n")


@pytest.mark.parametrize("respond", [answer(b"a" * 1001), _endless])
def test_a_body_beyond_the_limit_is_not_read(respond: Answer) -> None:
    with listening(respond) as server, pytest.raises(Unavailable):
        _web("127.0.0.1").fetch(_url(server), limit=1000, seconds=60)


def test_a_body_within_the_limit_is() -> None:
    with listening(answer(b"a" * 1000)) as server:
        assert _web("127.0.0.1").fetch(_url(server), limit=1000, seconds=60).body == b"a" * 1000


@pytest.mark.parametrize(
    "respond", [answer(b"x", "Content-Encoding: gzip"), lambda c: c.sendall(b"220 mail.example.org ESMTP\r\n")]
)
def test_what_is_packed_or_no_http_is_refused(respond: Answer) -> None:
    with listening(respond) as server, pytest.raises(Unavailable):
        _web("127.0.0.1").fetch(_url(server), limit=1000, seconds=5)


def test_a_form_is_posted() -> None:
    def echo(connection: socket.socket) -> None:
        answer(b'{"active":true}', status="400 Bad Request")(connection)

    with listening(echo) as server:
        found = _web("127.0.0.1").post(_url(server), {"token": "a b"}, {"Authorization": "Basic eDp5"})
        assert found == (400, {"active": True})
        assert server.requests[0].startswith(b"POST ")
        assert b"Authorization: Basic eDp5\r\n" in server.requests[0]
        assert b"application/x-www-form-urlencoded" in server.requests[0]


# --- what is kept


@pytest.mark.parametrize(("said", "times"), [("Cache-Control: max-age=60", 1), ("X: y", 1), ("Cache-Control: no-store", 3)])
def test_an_answer_is_kept_as_long_as_it_allows(said: str, times: int) -> None:
    with listening(answer(b'{"keys":[]}', said)) as server:
        fetching = _web("127.0.0.1")
        for _ in range(3):
            assert fetching.jwks(_url(server)) == {"keys": []}
        assert server.connections == times


def test_an_answer_is_not_kept_longer_than_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    with listening(answer(b'{"keys":[]}', "Cache-Control: max-age=100000")) as server:
        fetching = _web("127.0.0.1")
        for elapsed, times in ((0.0, 1), (web.LONGEST_SECONDS - 1, 1), (web.LONGEST_SECONDS + 1, 2)):
            now[0] = 1000.0 + elapsed
            fetching.jwks(_url(server))
            assert server.connections == times


def test_a_fresh_answer_is_asked_for() -> None:
    with listening(answer(b'{"keys":[]}')) as server:
        fetching = _web("127.0.0.1")
        fetching.jwks(_url(server))
        fetching.jwks(_url(server), fresh=True)
        assert server.connections == 2


@pytest.mark.parametrize("respond", [answer(b"[]"), answer(b"<html>"), answer(b"{}"), answer(b'{"keys":{}}')])
def test_what_is_no_jwk_set_is_refused(respond: Answer) -> None:
    with listening(respond) as server, pytest.raises(Unavailable):
        _web("127.0.0.1").jwks(_url(server))


def test_a_failure_is_remembered_for_a_while() -> None:
    """A flood of requests that need the keys of a client must not become a flood upon whoever is at their URL."""
    with listening(answer(b"no", status="503 Service Unavailable")) as server:
        fetching = _web("127.0.0.1")
        for _ in range(5):
            with pytest.raises(Unavailable):
                fetching.jwks(_url(server))
        assert server.connections == 1


def test_of_many_who_want_the_same_one_asks() -> None:
    together = threading.Barrier(8)
    with listening(answer(b'{"keys":[]}')) as server, ThreadPoolExecutor(8) as threads:
        fetching = _web("127.0.0.1")

        def ask(_: int) -> object:
            together.wait()
            return fetching.jwks(_url(server))

        assert list(threads.map(ask, range(8))) == [{"keys": []}] * 8
        assert server.connections == 1


def test_a_silent_host_does_not_take_every_thread() -> None:
    held = threading.Event()

    def silent(_: socket.socket) -> None:
        held.wait(30)

    with listening(silent) as server, listening(answer()) as other, ThreadPoolExecutor(12) as threads:
        fetching = _web("127.0.0.1", "localhost")
        waiting = [threads.submit(fetching.fetch, _url(server), limit=10, seconds=30) for _ in range(12)]
        while server.connections < 12:
            threading.Event().wait(0.01)
        with pytest.raises(Busy):
            fetching.fetch(_url(server), limit=10, seconds=30)
        assert fetching.fetch(_url(other, host="localhost"), limit=10, seconds=30).status == 200
        held.set()
        for each in waiting:
            assert isinstance(each.exception(), Unavailable)
        assert fetching.fetch(_url(other), limit=10, seconds=30).status == 200


def test_a_wrong_ca_is_said_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("no certificate")
    for path in (tmp_path / "ca.pem", tmp_path / "absent.pem"):
        with pytest.raises(SettingsError, match="fetch_ca: the file "):
            _web(ca=path)


# --- which addresses are public


_PRIVATE = (
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "224.0.0.0/3",
)


@given(st.sampled_from(_PRIVATE).flatmap(lambda network: st.ip_addresses(v=4, network=network)))
def test_an_address_that_is_not_public_is_not_in_any_form(address: ipaddress.IPv4Address) -> None:
    number = int(address)
    forms = (
        number | 0xFFFF << 32,  # mapped
        number,  # compatible
        0x64FF9B << 96 | number,  # NAT64
        0x2002 << 112 | number << 80 | 1,  # 6to4
        0x20010000 << 96 | (number ^ 0xFFFFFFFF),  # Teredo
        0xFE80 << 112 | 0x5EFE << 32 | number,  # ISATAP
    )
    assert not is_public(str(address))
    for form in forms:
        assert not is_public(str(ipaddress.IPv6Address(form)))


@pytest.mark.parametrize(
    "address", ["fc00::1", "fd12::1", "fe80::1", "fec0::1", "ff02::1", "2001:db8::1", "::1", "::", "2606:4700::1%eth0", "here", ""]
)  # fmt: skip
def test_nor_is_one_of_ipv6(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", [PUBLIC, "8.8.8.8", "2606:4700::1111", "2a00:1450:4001::5", "::ffff:8.8.8.8"])
def test_a_public_address_is(address: str) -> None:
    assert is_public(address)

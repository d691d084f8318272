"""Who asks, behind reverse proxies and in spite of whoever says so."""

import ipaddress
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from peers import imageshare
from starlette.requests import Request
from starlette.testclient import TestClient

from server.app import create_app
from server.edges.context import Node, address, is_loopback
from server.edges.forwarding import caller
from server.errors import SettingsError
from server.records.trail import events
from server.settings import load

OURS = ("127.0.0.1", "10.1.0.0/16", "2001:db8:1::/48")


@pytest.mark.parametrize(
    ("peer", "forwarded", "who"),
    [
        ("127.0.0.1", ["203.0.113.9"], "203.0.113.9"),
        ("127.0.0.1", [], "127.0.0.1"),
        ("127.0.0.1", [""], "127.0.0.1"),
        ("127.0.0.1", ["198.51.100.1, 203.0.113.9"], "203.0.113.9"),  # what came with the request is the client's own invention
        ("127.0.0.1", ["198.51.100.1", "203.0.113.9"], "203.0.113.9"),
        ("127.0.0.1", ["203.0.113.9, 10.1.2.3, 127.0.0.1"], "203.0.113.9"),
        ("127.0.0.1", ["10.1.2.3,127.0.0.1"], "10.1.2.3"),
        ("127.0.0.1", ["203.0.113.9, unknown"], "127.0.0.1"),
        ("127.0.0.1", ["203.0.113.9, _hidden, 10.1.2.3"], "10.1.2.3"),
        ("127.0.0.1", ["203.0.113.9:4711"], "203.0.113.9"),
        ("127.0.0.1", ["[2001:db8::9]:4711"], "2001:db8::9"),
        ("127.0.0.1", ["2001:db8::9"], "2001:db8::9"),
        ("::ffff:127.0.0.1", ["::ffff:203.0.113.9"], "203.0.113.9"),
        ("2001:db8:1::7", ["203.0.113.9"], "203.0.113.9"),
        ("203.0.113.1", ["198.51.100.1"], "203.0.113.1"),
        ("10.2.0.1", ["127.0.0.1"], "10.2.0.1"),
        ("testclient", ["198.51.100.1"], "testclient"),
        ("", ["198.51.100.1"], ""),
    ],
)
def test_who_asks(peer: str, forwarded: list[str], who: str) -> None:
    assert caller(peer, forwarded, OURS) == who


def test_without_proxies_that_are_trusted_nobody_is_believed() -> None:
    assert caller("127.0.0.1", ["203.0.113.9"], ()) == "127.0.0.1"


_ADDRESSES = st.ip_addresses().map(str)


@given(_ADDRESSES, st.lists(_ADDRESSES | st.text(max_size=20), max_size=6))
def test_nobody_chooses_an_address(peer: str, forwarded: list[str]) -> None:
    """Who is no proxy has the address of the socket; and behind one, what is sent ahead of what the proxy appends changes nothing."""
    is_proxy = any(ipaddress.ip_address(peer) in ipaddress.ip_network(each) for each in OURS)
    assert is_proxy or caller(peer, forwarded, OURS) == peer
    assert caller("10.1.2.3", [*forwarded, "203.0.113.9"], OURS) == "203.0.113.9"
    assert caller("10.1.2.3", [",".join([*forwarded, "203.0.113.9", "127.0.0.1"])], OURS) == "203.0.113.9"


@pytest.fixture
def behind(tmp_path: Path) -> Iterator[Node]:
    with imageshare.node(tmp_path / "data", trusted_proxies=["127.0.0.1"], public_url="https://images.example.org") as made:
        yield made


def test_the_trail_has_the_address_of_who_asked(behind: Node) -> None:
    with TestClient(create_app(behind), client=("127.0.0.1", 1)) as http:
        refused = http.get("/fhir/Patient", headers={"X-Forwarded-For": "198.51.100.1, 203.0.113.9"})
        assert refused.status_code == 401
        with behind.database.read() as connection:
            (event,) = events(connection, limit=10)
    assert b"203.0.113.9" in event.body
    assert b"198.51.100.1" not in event.body


def test_who_is_forwarded_is_not_on_this_machine_whatever_is_said(behind: Node) -> None:
    """And who calls from it is, though another is spoken for: it is the socket that counts for what loopback may do."""
    scope = {
        "type": "http",
        "app": create_app(behind),
        "headers": [(b"x-forwarded-for", b"127.0.0.1")],
        "client": ("203.0.113.1", 1),
    }
    assert address(Request(scope)) == "203.0.113.1"
    assert not is_loopback(Request(scope))


@pytest.mark.parametrize("wrong", ["proxy.example.org", "10.0.0.0/33", "*"])
def test_a_proxy_is_an_address_or_a_network(tmp_path: Path, wrong: str) -> None:
    with pytest.raises(SettingsError, match="trusted_proxies"):
        load(data=tmp_path, trusted_proxies=[wrong])


def test_it_is_known_where_all_would_have_the_address_of_a_proxy(tmp_path: Path) -> None:
    public = "https://images.example.org"
    assert load(data=tmp_path, public_url=public).hides_callers
    assert not load(data=tmp_path, public_url=public, trusted_proxies=["127.0.0.1"]).hides_callers
    assert not load(data=tmp_path, public_url=public, http_host="0.0.0.0").hides_callers
    assert not load(data=tmp_path).hides_callers

"""The peers table: who may associate, who is called where, and that edits are soon in force."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.errors import Conflict, NotFound, SettingsError
from server.records import peers
from server.records.peers import USUAL, Peer, Peers, checked
from server.settings import EVERY_PERMISSION, Device, load
from server.store.db import Database


def known(database: Database, folder: Path, **settings: object) -> Peers:
    return Peers(database, load(data=folder, **settings))


def test_a_peer_is_kept_as_it_is(database: Database, tmp_path: Path) -> None:
    table = known(database, tmp_path)
    full = Peer(
        "PACS", network="10.1.0.0/16", host="pacs.example", port=104, tls="verify", authority="1.2.3",
        permissions=frozenset({"query", "retrieve"}), description="the archive", active=False,
    )  # fmt: skip
    table.add(full)
    table.add(Peer("CT", network="10.2.3.4"))
    assert table.all() == (Peer("CT", network="10.2.3.4/32"), full)
    table.change(replace(full, active=True, host="", port=0, tls=""))
    assert table.find("PACS ") == replace(full, active=True, host="", port=0, tls="")
    table.remove("PACS")
    assert [peer.ae_title for peer in table.all()] == ["CT"]


def test_a_title_is_there_once(database: Database, tmp_path: Path) -> None:
    table = known(database, tmp_path)
    table.add(Peer("CT", network="10.2.3.4"))
    with pytest.raises(Conflict, match="a peer CT already"):
        table.add(Peer("CT", host="ct", port=104))
    for act in (lambda: table.remove("MR"), lambda: table.find("MR"), lambda: table.change(Peer("MR", host="mr", port=1))):
        with pytest.raises(NotFound, match="MR"):
            act()


@pytest.mark.parametrize(
    ("peer", "rule"),
    [
        (Peer("A TITLE THAT IS TOO LONG", host="h", port=1), "AE title"),
        (Peer("CT", network="ten"), "CIDR"),
        (Peer("CT", host="h"), "HOST:PORT"),
        (Peer("CT", host="h", port=70000), "HOST:PORT"),
        (Peer("CT"), "or both"),
        (Peer("CT", host="h", port=1, tls="maybe"), "TLS"),
        (Peer("CT", host="h", port=1, authority="none"), "UID"),
        (Peer("CT", host="h", port=1, permissions=frozenset({"fly"})), "there are store"),  # type: ignore[arg-type]
    ],
)
def test_what_cannot_be_is_refused(peer: Peer, rule: str) -> None:
    with pytest.raises(SettingsError, match=rule):
        checked(peer)


def test_without_any_configured_peer_this_machine_may_do_everything(database: Database, tmp_path: Path) -> None:
    table = known(database, tmp_path)
    table.add(Peer("ARCHIVE", host="10.1.1.1", port=104))  # one that is called does not associate
    for address in ("127.0.0.1", "::1", "::ffff:127.0.0.1"):
        found = table.admitted("ANY", address)
        assert found is not None
        assert found.permissions == EVERY_PERMISSION
        assert table.may_associate(address)
    assert table.admitted("ANY", "10.1.2.3") is None
    assert not table.may_associate("10.1.2.3")
    table.add(Peer("CT", network="10.1.2.0/24"))
    assert table.admitted("ANY", "127.0.0.1") is None


def test_the_table_comes_before_the_settings(database: Database, tmp_path: Path) -> None:
    devices = [
        {"ae_title": "CT", "address": "10.1.2.0/24", "assigning_authority": "1.2.3", "host": "ct.example", "port": 104},
        {"ae_title": "MR", "address": "10.1.2.0/24", "permissions": ["store"]},
    ]
    table = known(database, tmp_path, devices=devices)
    assert table.admitted("CT", "10.1.2.3") == Peer(
        "CT", network="10.1.2.0/24", host="ct.example", port=104, authority="1.2.3", description="from the settings"
    )
    assert table.destination("CT") is not None
    assert table.destination("MR") is None
    table.add(Peer("CT", network="10.9.0.0/16"))
    assert table.admitted("CT", "10.1.2.3") is None
    assert table.admitted("CT", "10.9.2.3") is not None
    mr = table.admitted("MR", "10.1.2.3")
    assert mr is not None
    assert mr.device("10.1.2.3") == Device(ae_title="MR", address="10.1.2.3", permissions=frozenset({"store"}))


def test_a_peer_that_is_not_active_neither_associates_nor_is_called(database: Database, tmp_path: Path) -> None:
    table = known(database, tmp_path)
    table.add(Peer("CT", network="127.0.0.1", host="127.0.0.1", port=104, active=False))
    assert table.admitted("CT", "127.0.0.1") is None
    assert table.destination("CT") is None
    assert not table.may_associate("127.0.0.1")


def test_an_edit_elsewhere_is_in_force_after_a_second(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr(peers.time, "monotonic", lambda: now[0])
    here, elsewhere = known(database, tmp_path), known(database, tmp_path)
    assert here.admitted("CT", "10.1.2.3") is None
    elsewhere.add(Peer("CT", network="10.1.2.3"))
    assert here.admitted("CT", "10.1.2.3") is None
    now[0] += 1.0
    assert here.admitted("CT", "10.1.2.3") is not None
    assert here.may_associate("10.1.2.3")


_ADDRESSES = st.sampled_from(["127.0.0.1", "10.1.2.3", "10.1.3.3", "::ffff:10.1.2.3", "fe80::1%eth0", "::1"])


class _Nothing(Peers):
    """Peers that are given, without a database."""

    def __init__(self, given: tuple[Peer, ...]) -> None:
        self._known = given

    def all(self) -> tuple[Peer, ...]:
        return self._known


@given(
    given_peers=st.lists(
        st.builds(
            Peer,
            st.sampled_from(["CT", "MR", "US"]),
            network=st.sampled_from(["", "10.1.2.0/24", "10.0.0.0/8", "127.0.0.1/32", "::1/128"]),
            active=st.booleans(),
        ),
        max_size=3,
        unique_by=lambda peer: peer.ae_title,
    ),
    title=st.sampled_from(["CT", "MR", "US", "XX"]),
    address=_ADDRESSES,
)
def test_who_is_admitted_is_active_and_where_it_should_be(given_peers: list[Peer], title: str, address: str) -> None:
    table = _Nothing(tuple(given_peers))
    found = table.admitted(title, address)
    if found is not None:
        assert found.ae_title == title
        assert found.active
        assert found.comes_from(address)
        assert table.may_associate(address)
        listed = any(peer.network for peer in given_peers)
        assert found in given_peers or (not listed and peers.plain_address(address).is_loopback)
        assert listed <= (found.permissions == USUAL)

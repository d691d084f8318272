"""The trail at rsyslog, as sites have it: over TLS with certificates on both sides, whole and in order, also after it was away."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from lxml import etree
from peers import imageshare
from peers.authority import Authority
from peers.rsyslog import MODULE, PROGRAM, Rsyslog
from peers.shows import shows

from profiles.audit_event import ITI_18, Agent, AuditedEntity
from server.edges.context import Node
from server.errors import Unavailable
from server.outbound.audit_repository import AuditRepository
from server.work.audit_feed import AuditFeed

pytestmark = [
    pytest.mark.peers,
    pytest.mark.skipif(PROGRAM is None or MODULE is None, reason="rsyslog with GnuTLS is not installed (tests/peers/install)"),
]
CLIENT: Final = Agent(identifier="clinic", address="192.0.2.7")
LONG: Final = "Müller & Söhne <" + "x" * 40_000
"""Longer than one TLS record, and than what syslog was once made for."""


@pytest.fixture
def rsyslog(tmp_path: Path, authority: Authority, free_port: int) -> Iterator[Rsyslog]:
    made = Rsyslog(
        tmp_path, (authority.folder / "repository.pem", authority.folder / "repository.key"), authority.path, free_port
    )
    yield made
    made.stop()


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    made = Authority(tmp_path_factory.mktemp("authority"))
    made.issue("ours")
    made.issue("repository")
    return made


@pytest.fixture
def node(tmp_path: Path, authority: Authority, free_port: int) -> Iterator[Node]:
    sending: dict[str, Any] = {
        "audit_repository": f"syslog-tls://127.0.0.1:{free_port}", "audit_repository_ca": authority.path,
        "audit_repository_certificate": authority.folder / "ours.pem", "audit_repository_key": authority.folder / "ours.key",
    }  # fmt: skip
    with imageshare.node(tmp_path / "data", **sending) as opened:
        yield opened


def happen(node: Node, *numbers: int) -> None:
    for number in numbers:
        entity = AuditedEntity(identifier=f"urn:n:{number}", system="urn:test", query=LONG.encode())
        node.trail.write(node.trail.action("query", ITI_18, CLIENT, rest=False, entities=(entity,)), patients=())


def drain(feed: AuditFeed) -> int:
    return sum(iter(feed.deliver, 0))


def told(messages: list[bytes]) -> list[int]:
    """The numbers of events whose messages are whole."""
    return [int(id_.removeprefix("urn:n:")) for message in messages for id_ in _ids(message) if id_.startswith("urn:n:")]


def _ids(message: bytes) -> list[str]:
    header, _, content = message.partition(b" - ")
    assert re.fullmatch(rb"<8\d>1 \S+Z 127\.0\.0\.1 imageshare \d+ IHE\+RFC-3881", header)
    return [each.get("ParticipantObjectID", "") for each in etree.fromstring(content).iter("ParticipantObjectIdentification")]


@shows("transaction", "ITI-20 Secure Application")
def test_messages_arrive_whole_and_in_order_also_after_it_was_away(node: Node, rsyslog: Rsyslog) -> None:
    rsyslog.start()
    feed = AuditFeed(node.settings, node.database, AuditRepository(node.settings))
    feed.deliver()
    happen(node, *range(20))
    assert drain(feed) == 20
    assert told(rsyslog.wait(20)) == list(range(20))
    assert all(len(message) > 40_000 for message in rsyslog.messages)
    rsyslog.stop()
    happen(node, *range(20, 40))
    with pytest.raises(Unavailable):
        feed.deliver()
    rsyslog.start()
    assert drain(feed) == 20
    assert told(rsyslog.wait(40)) == list(range(40))


def test_a_certificate_of_another_authority_is_not_sent_to(
    node: Node, tmp_path: Path, authority: Authority, rsyslog: Rsyslog
) -> None:
    """Both sides look: rsyslog does not take ours, and what it did not read is not counted as sent."""
    other = Authority(tmp_path / "other")
    other.issue("ours")
    changed = {"audit_repository_certificate": other.folder / "ours.pem", "audit_repository_key": other.folder / "ours.key"}
    settings = node.settings.model_copy(update=changed)
    rsyslog.start()
    feed = AuditFeed(settings, node.database, AuditRepository(settings))
    feed.deliver()
    happen(node, 1)
    with pytest.raises(Unavailable):
        feed.deliver()
    assert drain(AuditFeed(node.settings, node.database, AuditRepository(node.settings))) == 1
    assert told(rsyslog.wait(1)) == [1]

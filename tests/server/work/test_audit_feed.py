"""The trail at an audit repository: over real TLS, in order, and nothing lost however the repository goes away."""

import itertools
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import httpx2
import pytest
from lxml import etree
from peers import imageshare
from peers.audit_receiver import Receiver, receiving
from peers.authority import Authority
from peers.generated import Made, send
from peers.shows import shows
from starlette.testclient import TestClient

from profiles.audit_event import APPLICATION_START, APPLICATION_STOP, ITI_18, Agent, AuditedEntity, Subtype
from server import doctor, roles, upkeep
from server.app import create_app
from server.edges.context import Node
from server.edges.soap.routes import ENDPOINTS as ADDRESSES
from server.errors import Unavailable
from server.outbound.audit_repository import AuditRepository
from server.records import audit_feed
from server.records.catalogue import PATIENT
from server.work import audit_feed as work
from server.work.audit_feed import ENDPOINTS, AuditFeed

ON_BOTH_ENGINES = True
CLIENT: Final = Agent(identifier="clinic", address="192.0.2.7")
_ID = re.compile(rb'ParticipantObjectID="urn:n:(\d+)"')


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    made = Authority(tmp_path_factory.mktemp("authority"))
    for name, host in (("ours", ""), ("repository", ""), ("elsewhere", "elsewhere.example.org")):
        made.issue(name, host=host)
    return made


def named(authority: Authority, name: str) -> tuple[Path, Path]:
    return authority.folder / f"{name}.pem", authority.folder / f"{name}.key"


def sending(authority: Authority, port: int, **changed: Any) -> dict[str, Any]:
    certificate, key = named(authority, "ours")
    return {
        "audit_repository": f"syslog-tls://127.0.0.1:{port}", "audit_repository_ca": authority.path,
        "audit_repository_certificate": certificate, "audit_repository_key": key, **changed,
    }  # fmt: skip


@pytest.fixture
def port(free_port: int) -> int:
    return free_port


@pytest.fixture
def node(tmp_path: Path, authority: Authority, port: int) -> Iterator[Node]:
    with imageshare.node(tmp_path / "data", **sending(authority, port)) as opened:
        yield opened


@pytest.fixture
def receiver(tmp_path: Path, authority: Authority, port: int) -> Receiver:
    return Receiver(tmp_path, named(authority, "repository"), authority.path, port)


def feed(node: Node) -> AuditFeed:
    made = AuditFeed(node.settings, node.database, AuditRepository(node.settings))
    made.deliver()
    return made


def happen(node: Node, *numbers: int, patients: tuple[str, ...] = ()) -> None:
    for number in numbers:
        entity = AuditedEntity(identifier=f"urn:n:{number}", system="urn:test")
        node.trail.write(node.trail.action("query", ITI_18, CLIENT, rest=False, entities=(entity,)), patients=patients)


def numbers(messages: list[bytes]) -> list[int]:
    return [int(found[1]) for each in messages if (found := _ID.search(each))]


def drain(made: AuditFeed) -> int:
    return sum(iter(made.deliver, 0))


@shows("transaction", "ITI-20 Secure Application")
def test_what_is_in_the_trail_goes_in_order(node: Node, receiver: Receiver) -> None:
    with receiving(receiver):
        made = feed(node)
        happen(node, *range(450))
        assert drain(made) == 450
        assert numbers(receiver.messages) == list(range(450))
        assert made.deliver() == 0
        happen(node, 450)
        assert drain(made) == 1
    message = receiver.messages[0]
    header, _, content = message.partition(b" - ")
    assert re.fullmatch(rb"<85>1 \S+Z 127\.0\.0\.1 imageshare \d+ IHE\+RFC-3881", header)
    root = etree.fromstring(content)
    assert root[0].get("EventDateTime") == header.split(b" ")[1].decode()
    assert f"{node.settings.base_url}/xds/registry" in [each.get("UserID") for each in root.iter("ActiveParticipant")]


def test_each_patient_of_an_event_has_a_message_with_the_id_that_xds_has(node: Node, receiver: Receiver) -> None:
    """ITI TF-2 section 3.20.7.1: one event about several patients is a message for each."""
    send(node, Made(study=1, patient="A"), Made(study=2, patient="B"))
    imageshare.publish_all(node)
    with node.database.read() as connection:
        ids = tuple(connection.execute(PATIENT.select()).mappings().all())
    with receiving(receiver):
        made = feed(node)
        drain(made)
        before = len(receiver.messages)
        happen(node, 1, patients=tuple(str(row["id"]) for row in ids))
        assert drain(made) == 2
    found = [
        etree.fromstring(each.partition(b" - ")[2]).find("ParticipantObjectIdentification[@ParticipantObjectTypeCode='1']")
        for each in receiver.messages[before:]
    ]
    oid = node.installation.patients.oid
    assert {each.get("ParticipantObjectID") for each in found if each is not None} == {f"A^^^&{oid}&ISO", f"B^^^&{oid}&ISO"}


def test_while_it_is_away_events_wait_and_then_go(node: Node, receiver: Receiver) -> None:
    made = feed(node)
    happen(node, 1, 2, 3)
    with pytest.raises(Unavailable):
        made.deliver()
    with TestClient(create_app(node)) as client:
        assert "imageshare_audit_waiting" in client.get("/metrics").text
        with node.database.read() as connection:
            count, oldest = audit_feed.waiting(connection, node.settings.audit_repository)
        assert count == 3
        assert oldest is not None
        assert f'imageshare_audit_waiting{{repository="{node.settings.audit_repository}"}} 3.0' in client.get("/metrics").text
        with receiving(receiver):
            assert drain(made) == 3
        assert f'imageshare_audit_waiting{{repository="{node.settings.audit_repository}"}} 0.0' in client.get("/metrics").text
    assert numbers(receiver.messages) == [1, 2, 3]


@shows("transaction", "ITI-20 Secure Application")
def test_nothing_is_lost_when_the_repository_is_killed_again_and_again(node: Node, receiver: Receiver) -> None:
    with receiving(receiver):
        made = feed(node)
        happen(node, 0)
        drain(made)
        stop = threading.Event()
        thread = threading.Thread(target=made.run, args=(stop,))
        thread.start()
        try:
            written = itertools.count(1)
            for _ in range(4):
                happen(node, *itertools.islice(written, 150))
                receiver.wait(len(receiver.messages) + 20, seconds=3)
                receiver.kill()
                happen(node, *itertools.islice(written, 30))
                receiver.start()
            last = next(written) - 1
            receiver.wait(10_000, seconds=0.1)
            _until(lambda: max(numbers(receiver.messages)) == last)
        finally:
            stop.set()
            thread.join()
    found = numbers(receiver.messages)
    assert set(found) == set(range(last + 1))
    firsts = list(dict.fromkeys(found))
    assert firsts == sorted(firsts), "an event came before one that was earlier"


def _until(done: Any) -> None:
    for _ in range(600):
        if done():
            return
        threading.Event().wait(0.1)
    raise AssertionError("it did not come to be")


def test_one_that_closes_without_a_word_is_believed_if_it_has_read_everything(
    tmp_path: Path, authority: Authority, port: int
) -> None:
    with imageshare.node(tmp_path / "data", **sending(authority, port)) as node:
        with receiving(Receiver(tmp_path, named(authority, "repository"), authority.path, port, orderly=False)) as receiver:
            made = feed(node)
            happen(node, *range(300))
            assert drain(made) == 300
            assert numbers(receiver.wait(300)) == list(range(300))


def test_two_workers_send_nothing_twice(node: Node, receiver: Receiver) -> None:
    with receiving(receiver):
        feeds = [feed(node), feed(node)]
        happen(node, *range(500))
        threads = [threading.Thread(target=lambda each=each: [each.deliver() for _ in range(40)]) for each in feeds]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
        drain(feeds[0])
    assert numbers(receiver.messages) == list(range(500))


def test_what_was_long_before_the_repository_is_not_sent(node: Node, receiver: Receiver) -> None:
    happen(node, 1)
    with node.database.write() as connection:
        connection.exec_driver_sql("UPDATE audit_event SET recorded = recorded - 3600000000")
    happen(node, 2)
    with receiving(receiver):
        drain(feed(node))
    assert numbers(receiver.messages) == [2]


def test_an_event_that_cannot_be_told_holds_nothing_up(node: Node, receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    real = work.audit_message

    def broken(event: Any, **given: str) -> bytes:
        if b"urn:n:2" in str(event).encode():
            raise KeyError("recorded")
        return real(event, **given)

    monkeypatch.setattr(work, "audit_message", broken)
    with receiving(receiver):
        made = feed(node)
        happen(node, 1, 2, 3)
        drain(made)
    assert numbers(receiver.messages) == [1, 3]


def test_endpoints_are_where_they_are_answered() -> None:
    for path, endpoint in ADDRESSES.items():
        for transaction in endpoint._by_action.values():
            assert ENDPOINTS[transaction.subtype.code] == path


def test_the_worker_of_a_real_server_sends(tmp_path: Path, authority: Authority, port: int, receiver: Receiver) -> None:
    with receiving(receiver), imageshare.running(tmp_path / "data", **sending(authority, port)) as server:
        httpx2.get(f"{server.http}/fhir/Patient", headers={"Authorization": f"Bearer {server.token()}"})
        found = receiver.wait(2)
        assert b'csd-code="110100"' in found[0]  # ITI TF-2 table 3.20.4.1.1.1-1: Actor-start-stop
        assert b'csd-code="110120"' in found[0]
        assert any(b"search" in each for each in found)


@pytest.mark.parametrize(("subtype", "code"), [(APPLICATION_START, "110120"), (APPLICATION_STOP, "110121")])
def test_start_and_stop_of_the_server_are_application_activity(
    node: Node, receiver: Receiver, subtype: Subtype, code: str
) -> None:
    """PS3.15 section A.5.3.1."""
    with receiving(receiver):
        made = feed(node)
        roles.active(node, subtype)
        drain(made)
    (found,) = receiver.messages
    message = etree.fromstring(found[found.index(b"<AuditMessage") :])
    codes = {each.tag: each.get("csd-code") for each in message.iter("EventID", "EventTypeCode")}
    assert codes == {"EventID": "110100", "EventTypeCode": code}
    assert {each.get("csd-code") for each in message.iter("RoleIDCode")} == {"110150", "110151"}


def test_a_worker_that_was_killed_leaves_nothing_that_has_to_run_out(node: Node, receiver: Receiver) -> None:
    with receiving(receiver):
        made = feed(node)
        happen(node, 1)
        with node.database.write() as connection:
            assert audit_feed.lease(connection, node.settings.audit_repository, 300) is not None
        assert made.deliver() == 0
        assert "1 events wait to be sent" in [
            value for name, value, _ in doctor.examined(node.settings) if name == "audit repository"
        ]
        upkeep.take_over(node.settings)
        assert made.deliver() == 1

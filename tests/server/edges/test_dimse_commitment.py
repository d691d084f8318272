"""Storage commitment with pynetdicom and with Orthanc, each as SCU and as SCP."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest
from peers.imageshare import node, publish_all
from peers.orthanc import orthanc
from peers.scanner import instances, listening, store
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import CTImageStorage, MRImageStorage
from pynetdicom import evt
from pynetdicom.ae import ApplicationEntity
from pynetdicom.association import Association
from pynetdicom.presentation import build_role
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]
from sqlalchemy import select, update

from profiles.storage_commitment import PUSH_MODEL, PUSH_MODEL_INSTANCE, Reference
from server.edges.context import Node
from server.edges.dimse.port import DicomPort
from server.outbound.calling import NoAnswer
from server.records import catalogue, commitment
from server.records.peers import Peer
from server.records.trail import events
from server.store import jobs
from server.store.blobs import digest
from server.work import commit

ON_BOTH_ENGINES = True

TRANSACTION = "1.2.3.77"
Reports = list[tuple[int, Dataset]]


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Node]:
    with node(tmp_path / "data") as made:
        yield made


@pytest.fixture
def port(opened: Node) -> Iterator[DicomPort]:
    with listening(opened) as made:
        yield made


def know(opened: Node, title: str, port: int) -> None:
    opened.peers.add(Peer(title, host="127.0.0.1", port=port))


def action(*references: tuple[str, str], transaction: str = TRANSACTION) -> Dataset:
    asked = Dataset()
    asked.TransactionUID = transaction
    items = []
    for sop_class, uid in references:
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = sop_class, uid
        items.append(item)
    asked.ReferencedSOPSequence = Sequence(items)
    return asked


@contextmanager
def waiting(port: int, status: int = 0) -> Iterator[tuple[Reports, list[bool]]]:
    """A device that listens for reports as SCU: the reports, and whether each came by an SCP that said so."""
    got: Reports = []
    roles: list[bool] = []

    def take(event: evt.Event) -> tuple[int, None]:
        got.append((event.event_type, event.event_information))
        context = event.assoc.accepted_contexts[0]
        roles.append(bool(context.as_scu and not context.as_scp))
        return status, None

    entity = ApplicationEntity("SCANNER")
    entity.add_supported_context(PUSH_MODEL, scu_role=False, scp_role=True)
    server = entity.start_server(("127.0.0.1", port), block=False, evt_handlers=[(evt.EVT_N_EVENT_REPORT, take)])
    try:
        yield got, roles
    finally:
        server.shutdown()


@contextmanager
def asking(port: DicomPort, reports: Reports | None = None) -> Iterator[Association]:
    """An association of the device's for requests; what is reported over it goes into `reports`."""
    entity = ApplicationEntity("SCANNER")
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = 90  # of a busy machine
    entity.add_requested_context(PUSH_MODEL)

    def take(event: evt.Event) -> tuple[int, None]:
        assert reports is not None
        reports.append((event.event_type, event.event_information))
        return 0, None

    association = entity.associate(*port.address, ae_title="IMAGESHARE", evt_handlers=[(evt.EVT_N_EVENT_REPORT, take)])
    assert association.is_established
    try:
        yield association
    finally:
        association.release()


def ask(port: DicomPort, asked: Dataset, action_type: int = 1, instance: str = PUSH_MODEL_INSTANCE) -> Dataset:
    with asking(port) as association:
        status, _ = association.send_n_action(asked, action_type, PUSH_MODEL, instance)
    return status


def until(condition: Callable[[], object], seconds: float = 20) -> None:
    ends = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < ends
        time.sleep(0.05)


def stored(opened: Node, port: DicomPort, count: int = 3) -> list[tuple[str, str]]:
    """(SOP Class, SOP Instance) of instances that are stored and published."""
    made = instances(count)
    assert store(port, *made) == [(0, "")] * count
    publish_all(opened)
    return [(str(each.SOPClassUID), str(each.SOPInstanceUID)) for each in made]


def outcome(report: Dataset) -> tuple[list[str], dict[str, int]]:
    committed = [str(each.ReferencedSOPInstanceUID) for each in report.get("ReferencedSOPSequence", ())]
    failed = {str(each.ReferencedSOPInstanceUID): each.FailureReason for each in report.get("FailedSOPSequence", ())}
    return committed, failed


def test_all_is_committed_over_an_association_of_ours(opened: Node, port: DicomPort, free_port: int) -> None:
    know(opened, "SCANNER", free_port)
    kept = stored(opened, port)
    with waiting(free_port) as (reports, roles):
        assert ask(port, action(*kept)).Status == 0
        publish_all(opened)
    ((event_type, report),) = reports
    assert (event_type, report.TransactionUID, roles) == (1, TRANSACTION, [True])
    assert outcome(report) == ([uid for _, uid in kept], {})
    with opened.database.read() as connection:
        assert jobs.pending(connection) == 0


def test_each_failure_has_its_reason(opened: Node, port: DicomPort, free_port: int) -> None:
    know(opened, "SCANNER", free_port)
    (kept, other, lost) = stored(opened, port)
    with opened.database.read() as connection:
        found = catalogue.stored(connection, lost[1])
    assert found is not None
    opened.blobs.delete(found.blob_id)
    asked = action(kept, (MRImageStorage, other[1]), lost, (CTImageStorage, "1.2.3.9"), (Verification, "1.2.3.10"))
    with waiting(free_port) as (reports, _):
        ask(port, asked)
        publish_all(opened)
    ((event_type, report),) = reports
    assert event_type == 2
    assert outcome(report) == ([kept[1]], {other[1]: 0x0119, lost[1]: 0x0110, "1.2.3.9": 0x0112, "1.2.3.10": 0x0122})


def test_a_transaction_uid_in_use_for_other_instances(opened: Node, port: DicomPort, free_port: int) -> None:
    know(opened, "SCANNER", free_port)
    (one, two) = stored(opened, port, 2)
    with waiting(free_port) as (reports, _):
        for references in ([one], [one], [two]):
            ask(port, action(*references))
            publish_all(opened)
    assert [(event, outcome(report)) for event, report in reports] == [
        (1, ([one[1]], {})),
        (1, ([one[1]], {})),
        (2, ([], {two[1]: 0x0131})),
    ]


def test_what_is_not_hashed_yet_is_waited_for(opened: Node, port: DicomPort, free_port: int) -> None:
    know(opened, "SCANNER", free_port)
    (made,) = instances(1)
    store(port, made)
    with waiting(free_port) as (reports, _):
        ask(port, action((str(made.SOPClassUID), str(made.SOPInstanceUID))))
        committer = commit.Committer(opened.settings, opened.database, opened.blobs, opened.peers)
        committer.run(jobs.claim(opened.database, commit.COMMIT))
        assert reports == []
        publish_all(opened)
        until(lambda: publish_all(opened) or reports)
    assert reports[0][0] == 1


def test_what_is_committed_has_its_hash_wherever_it_is_told(opened: Node, port: DicomPort) -> None:
    """It is not known where the device listens: it is told at once, before the publisher has read the bytes."""
    (made,) = instances(1)
    store(port, made)
    reports: Reports = []
    uid = str(made.SOPInstanceUID)
    with asking(port, reports) as association:
        association.send_n_action(action((str(made.SOPClassUID), uid)), 1, PUSH_MODEL, PUSH_MODEL_INSTANCE)
        until(lambda: reports)
    assert outcome(reports[0][1]) == ([uid], {})
    with opened.database.read() as connection:
        kept = commitment.kept(connection, [uid])[uid]
    assert kept.sha256 == digest(opened.blobs, kept.blob_id)


def test_a_server_that_does_not_wait_for_its_disk_commits_to_nothing(tmp_path: Path) -> None:
    with node(tmp_path / "data", durable=False) as opened, listening(opened) as port:
        refused = ask(port, action(*stored(opened, port, 1)))
        assert (refused.Status, "cannot commit" in refused.ErrorComment) == (0x0213, True)
        with opened.database.read() as connection:
            assert connection.execute(select(commitment.COMMITMENT.c.pk)).all() == []


def test_what_is_asked_anew_begins_anew(opened: Node) -> None:
    def asked() -> tuple[int, int, str, int]:
        with opened.database.write() as connection:
            pk = commitment.ask(connection, "scp", peer="SCANNER", transaction_uid=TRANSACTION, requested=REFERENCES)
            table = commitment.COMMITMENT
            row = connection.execute(select(table.c.created, table.c.state, table.c.ended).where(table.c.pk == pk)).one()
            commitment.end(connection, pk, "delivered")
            connection.execute(update(table).values(created=1))
        return (pk, *row)

    first, again = asked(), asked()
    assert again[0] == first[0]
    assert again[1] >= first[1]
    assert again[2:] == ("asked", 0)


def test_a_device_that_is_away_is_told_when_it_is_back(opened: Node, port: DicomPort, free_port: int) -> None:
    know(opened, "SCANNER", free_port)
    kept = stored(opened, port, 1)
    ask(port, action(*kept))
    publish_all(opened)
    with opened.database.read() as connection:
        assert jobs.pending(connection) == 1
    with waiting(free_port) as (reports, _):
        until(lambda: publish_all(opened) or reports)
    assert [event for event, _ in reports] == [1]


def test_a_report_that_is_refused_is_told_again(opened: Node, port: DicomPort, free_port: int) -> None:
    know(opened, "SCANNER", free_port)
    kept = stored(opened, port, 1)
    with waiting(free_port, status=0x0110) as (refused, _):
        ask(port, action(*kept))
        publish_all(opened)
    assert len(refused) == 1
    with waiting(free_port) as (reports, _):
        until(lambda: publish_all(opened) or reports)
    assert len(reports) == 1


@pytest.mark.parametrize("reports_to", ["same", "new"])
def test_over_the_association_of_the_request(tmp_path: Path, reports_to: str) -> None:
    """By setting; and whatever the setting is, to a device of which it is not known where it listens."""
    with node(tmp_path / "data", commitment_reports=reports_to) as opened, listening(opened) as port:
        if reports_to == "same":
            know(opened, "SCANNER", 1)
        kept = stored(opened, port)
        reports: Reports = []
        with asking(port, reports) as association:
            status, _ = association.send_n_action(action(*kept), 1, PUSH_MODEL, PUSH_MODEL_INSTANCE)
            assert status.Status == 0
            until(lambda: reports)
        assert outcome(reports[0][1]) == ([uid for _, uid in kept], {})
        with opened.database.read() as connection:
            until(lambda: jobs.pending(connection) == 0)


@pytest.mark.parametrize(
    ("asked", "action_type", "instance", "status"),
    [
        (action(), 1, PUSH_MODEL_INSTANCE, 0x0115),
        (action((CTImageStorage, "1.2.3")), 2, PUSH_MODEL_INSTANCE, 0x0123),
        (action((CTImageStorage, "1.2.3")), 1, "1.2.3", 0x0112),
        (action((CTImageStorage, "1.2.3"), transaction=""), 1, PUSH_MODEL_INSTANCE, 0x0115),
        (action((CTImageStorage, "")), 1, PUSH_MODEL_INSTANCE, 0x0115),
    ],
)
def test_what_is_no_request_is_refused_and_told(
    opened: Node, port: DicomPort, asked: Dataset, action_type: int, instance: str, status: int
) -> None:
    refused = ask(port, asked, action_type, instance)
    assert (refused.Status, bool(refused.ErrorComment)) == (status, True)
    with opened.database.read() as connection:
        assert jobs.pending(connection) == 0
        (event,) = (orjson.loads(event.body) for event in events(connection, limit=10))
    assert (event["subtype"][0]["code"], event["outcome"]) == ("RAD-10", "4")


# --- as SCU


@contextmanager
def archive(port: int, *, then: Callable[[Dataset, Association], object], status: int = 0) -> Iterator[None]:
    """A pynetdicom SCP of storage commitment that answers each request, and then does `then` in a thread of its own."""

    def take(event: evt.Event) -> tuple[int, None]:
        information, association = event.action_information, event.assoc
        threading.Timer(0.2, then, (information, association)).start()
        return status, None

    entity = ApplicationEntity("ARCHIVE")
    entity.add_supported_context(PUSH_MODEL)
    server = entity.start_server(("127.0.0.1", port), block=False, evt_handlers=[(evt.EVT_N_ACTION, take)])
    try:
        yield
    finally:
        server.shutdown()


REFERENCES = (Reference(CTImageStorage, "1.2.3.1"), Reference(CTImageStorage, "1.2.3.2"))


def event_information(asked: Dataset) -> Dataset:
    """The first instance is committed, the second is not."""
    told = Dataset()
    told.TransactionUID = asked.TransactionUID
    told.ReferencedSOPSequence = Sequence([asked.ReferencedSOPSequence[0]])
    told.FailedSOPSequence = Sequence([asked.ReferencedSOPSequence[1]])
    told.FailedSOPSequence[0].FailureReason = 0x0213
    return told


def test_a_report_to_our_port(opened: Node, port: DicomPort, free_port: int) -> None:
    know(opened, "ARCHIVE", free_port)
    statuses: list[int] = []

    def then(asked: Dataset, _: Association) -> None:
        statuses.extend(reported_by("ARCHIVE", port, event_information(asked)))

    with archive(free_port, then=then):
        peer = opened.peers.find("ARCHIVE")
        asked = commit.ask(opened.database, opened.settings, peer, REFERENCES)
        assert asked.state == "asked"
        until(lambda: statuses)
    with opened.database.read() as connection:
        found = commitment.get(connection, asked.pk)
    assert statuses == [0]
    assert found is not None
    assert (found.state, found.committed) == ("delivered", REFERENCES[:1])
    assert found.failed == (Reference(CTImageStorage, "1.2.3.2", 0x0213),)


def reported_by(title: str, port: DicomPort, told: Dataset) -> list[int]:
    """The status of our answer to a report by this peer, which proposes to be SCP."""
    entity = ApplicationEntity(title)
    entity.add_requested_context(PUSH_MODEL)
    association = entity.associate(
        *port.address, ae_title="IMAGESHARE", ext_neg=[build_role(PUSH_MODEL, scu_role=False, scp_role=True)]
    )
    assert association.is_established
    assert association.accepted_contexts[0].as_scp
    status, _ = association.send_n_event_report(told, 2, PUSH_MODEL, PUSH_MODEL_INSTANCE)
    association.release()
    return [status.Status]


def test_only_who_was_asked_may_report(opened: Node, port: DicomPort, free_port: int) -> None:
    know(opened, "ARCHIVE", free_port)
    with archive(free_port, then=lambda *_: None):
        asked = commit.ask(opened.database, opened.settings, opened.peers.find("ARCHIVE"), REFERENCES)
    told = event_information(action(*((each.sop_class, each.uid) for each in REFERENCES), transaction=asked.transaction_uid))
    assert reported_by("STRANGER", port, told) == [0x0115]
    with opened.database.read() as connection:
        found = commitment.get(connection, asked.pk)
    assert found is not None
    assert found.state == "asked"
    assert reported_by("ARCHIVE", port, told) == [0]


def test_a_report_over_the_association_of_our_request(opened: Node, free_port: int) -> None:
    know(opened, "ARCHIVE", free_port)

    def then(asked: Dataset, association: Any) -> None:
        association.send_n_event_report(event_information(asked), 2, PUSH_MODEL, PUSH_MODEL_INSTANCE)

    with archive(free_port, then=then):
        found = commit.ask(opened.database, opened.settings, opened.peers.find("ARCHIVE"), REFERENCES, wait=10)
    assert (found.state, len(found.failed)) == ("delivered", 1)


@pytest.mark.parametrize("ends", [False, True])
def test_who_waits_hears_of_a_report_to_our_port(opened: Node, port: DicomPort, free_port: int, ends: bool) -> None:
    """Whether the peer keeps the association of the request open or not."""
    know(opened, "ARCHIVE", free_port)

    def then(asked: Dataset, association: Association) -> None:
        if ends:
            association.abort()
            time.sleep(0.5)
        reported_by("ARCHIVE", port, event_information(asked))

    with archive(free_port, then=then):
        began = time.monotonic()
        found = commit.ask(opened.database, opened.settings, opened.peers.find("ARCHIVE"), REFERENCES, wait=300)
    assert (found.state, found.committed) == ("delivered", REFERENCES[:1])
    assert time.monotonic() - began < 300


def test_who_waits_in_vain_knows_it(opened: Node, free_port: int) -> None:
    know(opened, "ARCHIVE", free_port)
    with archive(free_port, then=lambda *_: None):
        found = commit.ask(opened.database, opened.settings, opened.peers.find("ARCHIVE"), REFERENCES, wait=0.5)
    assert found.state == "asked"


def test_a_peer_that_refuses_or_is_away(opened: Node, free_port: int) -> None:
    know(opened, "ARCHIVE", free_port)
    peer = opened.peers.find("ARCHIVE")
    with pytest.raises(NoAnswer, match="connection refused"):
        commit.ask(opened.database, opened.settings, peer, REFERENCES)
    with archive(free_port, then=lambda *_: None, status=0x0213), pytest.raises(NoAnswer, match="0213H"):
        commit.ask(opened.database, opened.settings, peer, REFERENCES)


# --- Orthanc


@pytest.mark.peers
def test_orthanc_asks_us(opened: Node, port: DicomPort, tmp_path: Path) -> None:
    """Orthanc stores here, asks for commitment, and understands our report."""
    made = instances(3)
    with orthanc(tmp_path / "orthanc", {"us": ("IMAGESHARE", port.address[1])}) as peer:
        know(opened, "ORTHANC", peer.dicom_port)
        keys = []
        for instance in made[:2]:
            path = tmp_path / "file.dcm"
            instance.save_as(path, enforce_file_format=True)
            keys.append(peer.post("/instances", path.read_bytes())["ID"])
        peer.post("/modalities/us/store", keys)
        publish_all(opened)
        asked = [[str(each.SOPClassUID), str(each.SOPInstanceUID)] for each in made]
        started = peer.post("/modalities/us/storage-commitment", {"DicomInstances": asked})
        until(lambda: publish_all(opened) or peer.get(started["Path"])["Status"] != "Pending")
        told = peer.get(started["Path"])
    assert told["Status"] == "Failure"
    assert {each["SOPInstanceUID"] for each in told["Success"]} == {uid for _, uid in asked[:2]}
    assert [(each["SOPInstanceUID"], each["FailureReason"]) for each in told["Failures"]] == [(asked[2][1], 0x0112)]


@pytest.mark.peers
def test_orthanc_is_asked_by_us(opened: Node, port: DicomPort, tmp_path: Path) -> None:
    kept, missing = instances(2)
    with orthanc(tmp_path / "orthanc", {"us": ("IMAGESHARE", port.address[1])}) as peer:
        know(opened, "ORTHANC", peer.dicom_port)
        path = tmp_path / "file.dcm"
        kept.save_as(path, enforce_file_format=True)
        peer.post("/instances", path.read_bytes())
        references = [Reference(str(each.SOPClassUID), str(each.SOPInstanceUID)) for each in (kept, missing)]
        asked = commit.ask(opened.database, opened.settings, opened.peers.find("ORTHANC"), references)

        def told() -> commitment.Transaction | None:
            with opened.database.read() as connection:
                found = commitment.get(connection, asked.pk)
            return found if found is not None and found.state == "delivered" else None

        until(told)
    found = told()
    assert found is not None
    assert [each.uid for each in found.committed] == [str(kept.SOPInstanceUID)]
    assert [(each.uid, each.reason) for each in found.failed] == [(str(missing.SOPInstanceUID), 0x0112)]

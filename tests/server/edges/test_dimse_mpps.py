"""Modality Performed Procedure Steps by pynetdicom: N-CREATE, N-SET, N-GET, and what they do to the worklist."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from peers.imageshare import node
from peers.scanner import associated, listening
from peers.scheduled import begun, ended, scheduled
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom.dsutils import encode

from ihe.dimse import Command, CommandField
from ihe.pdu import ProposedContext
from server.association import connect
from server.edges.context import Node
from server.edges.dimse.mpps import PERFORMED_STEP, PERFORMED_STEP_RETRIEVE
from server.edges.dimse.port import DicomPort
from server.records import performed_steps, worklist
from server.records.peers import Peer
from server.records.trail import events

ON_BOTH_ENGINES = True
UID = "1.2.3.4.5"


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Node]:
    with node(tmp_path / "data") as made:
        with made.database.write() as connection:
            worklist.put(connection, scheduled(1).to_json_dict())
        yield made


@pytest.fixture
def port(opened: Node) -> Iterator[DicomPort]:
    with listening(opened) as made:
        yield made


def create(port: DicomPort, item: Dataset, uid: str | None = UID, syntax: str = ExplicitVRLittleEndian) -> Dataset:
    with associated(port, contexts=((PERFORMED_STEP, syntax),)) as association:
        status, _ = association.send_n_create(item, PERFORMED_STEP, uid)
    return status


def change(port: DicomPort, item: Dataset, uid: str = UID) -> Dataset:
    with associated(port, contexts=((PERFORMED_STEP, ExplicitVRLittleEndian),)) as association:
        status, _ = association.send_n_set(item, PERFORMED_STEP, uid)
    return status


def get(port: DicomPort, tags: list[Any], uid: str = UID) -> tuple[Dataset, Dataset | None]:
    with associated(port, contexts=((PERFORMED_STEP_RETRIEVE, ImplicitVRLittleEndian),)) as association:
        status, item = association.send_n_get(tags, PERFORMED_STEP_RETRIEVE, uid)
    return status, item


def waiting(opened: Node) -> list[str]:
    with opened.database.read() as connection:
        return [step.step["00400020"]["Value"][0] for step in worklist.entries(connection, ended=True)]  # type: ignore[index, misc]


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian])
def test_a_step_from_its_beginning_to_its_end(port: DicomPort, opened: Node, syntax: str) -> None:
    assert create(port, begun(), syntax=syntax).Status == 0x0000
    assert waiting(opened) == ["STARTED"]
    assert change(port, ended()).Status == 0x0000
    assert waiting(opened) == ["COMPLETED"]
    status, item = get(port, [])
    assert status.Status == 0x0000
    assert item is not None
    assert (item.PerformedProcedureStepStatus, item.PatientName) == ("COMPLETED", "Müller^Jörg")
    assert item.PerformedSeriesSequence[0].ProtocolName == "Thorax"
    assert item.ScheduledStepAttributesSequence[0].StudyInstanceUID == "1.2.3.1"


def test_a_step_that_is_given_up(port: DicomPort, opened: Node) -> None:
    create(port, begun())
    assert change(port, ended("DISCONTINUED")).Status == 0x0000
    assert waiting(opened) == ["DISCONTINUED"]


def test_an_ended_step_may_no_longer_be_updated(port: DicomPort) -> None:
    create(port, begun())
    change(port, ended())
    refused = change(port, ended("DISCONTINUED"))
    assert (refused.Status, refused.ErrorID) == (0x0110, 0xA710)
    assert refused.ErrorComment == "Performed Procedure Step Object may no longer be updated"


def test_a_step_can_be_found_by_its_study(port: DicomPort, opened: Node) -> None:
    create(port, begun())
    with opened.database.read() as connection:
        (found,) = performed_steps.of_study(connection, "1.2.3.1")
        assert performed_steps.of_study(connection, "1.2.3.9") == []
    assert (found.uid, found.source, found.status) == (UID, "SCANNER", "IN PROGRESS")


def test_a_step_without_uid_is_given_one(port: DicomPort, opened: Node) -> None:
    """pynetdicom hides the UID of the response."""
    contexts = [ProposedContext(1, PERFORMED_STEP, (ExplicitVRLittleEndian,))]
    opened_to = connect(*port.address, calling="SCANNER", called="IMAGESHARE", contexts=contexts)
    asked = Command(field=CommandField.N_CREATE_RQ, message_id=1, affected_sop_class_uid=PERFORMED_STEP)
    opened_to.send(1, asked, encode(begun(), False, True))
    answer = opened_to.receive().command
    opened_to.release()
    with opened.database.read() as connection:
        (found,) = performed_steps.of_study(connection, "1.2.3.1")
    assert (answer.status, answer.affected_sop_instance_uid) == (0, found.uid)


def test_only_the_attributes_that_are_asked_for(port: DicomPort) -> None:
    create(port, begun())
    _, item = get(port, [0x00400253, 0x00080060])
    assert item is not None
    assert {element.keyword for element in item} - {"SpecificCharacterSet"} == {"PerformedProcedureStepID", "Modality"}


@pytest.mark.parametrize(
    ("keyword", "value", "status"),
    [
        ("PerformedProcedureStepID", None, 0x0120),
        ("PerformedProcedureStepID", "", 0x0121),
        ("Modality", None, 0x0120),
        ("PerformedStationAETitle", None, 0x0120),
        ("ScheduledStepAttributesSequence", None, 0x0120),
        ("PerformedProcedureStepStatus", "COMPLETED", 0x0106),
    ],
)
def test_what_a_beginning_needs(port: DicomPort, opened: Node, keyword: str, value: str | None, status: int) -> None:
    item = begun()
    if value is None:
        del item[keyword]
    else:
        setattr(item, keyword, value)
    refused = create(port, item)
    assert refused.Status == status
    assert refused.ErrorComment
    assert waiting(opened) == ["SCHEDULED"]
    assert get(port, [])[0].Status == 0x0112


@pytest.mark.parametrize(
    ("keyword", "value", "status"),
    [
        ("PerformedProcedureStepEndDate", None, 0x0121),  # the beginning has it empty
        ("PerformedProcedureStepEndTime", "", 0x0121),
        ("PerformedSeriesSequence", None, 0x0121),
        ("PerformedProcedureStepStatus", "FINISHED", 0x0106),
    ],
)
def test_what_an_end_needs(port: DicomPort, opened: Node, keyword: str, value: str | None, status: int) -> None:
    create(port, begun())
    item = ended()
    if value is None:
        del item[keyword]
    else:
        setattr(item, keyword, value)
    assert change(port, item).Status == status
    assert waiting(opened) == ["STARTED"]


def test_what_may_not_change_stays_and_is_named(port: DicomPort) -> None:
    create(port, begun())
    other = Dataset()
    other.PatientID, other.PerformedProcedureStepDescription, other.Modality = "another", "new", "CT"
    warned = change(port, other)
    assert (warned.Status, warned.AttributeIdentifierList) == (0x0107, 0x00100020)
    _, item = get(port, [])
    assert item is not None
    assert (item.PatientID, item.PerformedProcedureStepDescription) == ("P1", "new")


def test_the_same_uid_twice_and_no_uid_at_all(port: DicomPort) -> None:
    create(port, begun())
    assert create(port, begun()).Status == 0x0111
    assert change(port, ended(), uid="1.2.3.9").Status == 0x0112
    assert get(port, [], uid="1.2.3.9")[0].Status == 0x0112


def test_only_who_created_a_step_changes_it(port: DicomPort, opened: Node) -> None:
    opened.peers.add(Peer("SCANNER", network="127.0.0.1"))
    opened.peers.add(Peer("OTHER", network="127.0.0.1"))
    opened.peers.add(Peer("ARCHIVE", network="127.0.0.1", permissions=frozenset({"mpps", "query"})))
    create(port, begun())
    for title in ("OTHER", "ARCHIVE"):
        with associated(port, calling=title, contexts=((PERFORMED_STEP, ExplicitVRLittleEndian),)) as association:
            status, _ = association.send_n_set(ended(), PERFORMED_STEP, UID)
        assert status.Status == 0x0124
    assert waiting(opened) == ["STARTED"]
    for title, answer in (("OTHER", 0x0124), ("ARCHIVE", 0x0000)):
        with associated(port, calling=title, contexts=((PERFORMED_STEP_RETRIEVE, ImplicitVRLittleEndian),)) as association:
            status, item = association.send_n_get([], PERFORMED_STEP_RETRIEVE, UID)
        assert status.Status == answer
        assert (item is not None and "PatientName" in item) == (answer == 0)
    assert get(port, [])[0].Status == 0x0000
    assert change(port, ended()).Status == 0x0000


def test_all_of_it_is_in_the_trail_and_nothing_of_the_patients(port: DicomPort, opened: Node) -> None:
    create(port, begun())
    change(port, ended())
    change(port, ended())
    get(port, [])
    with opened.database.read() as connection:
        bodies = [event.body for event in events(connection, limit=10)][::-1]
    told = [orjson.loads(body) for body in bodies]
    assert [(event["subtype"][0]["code"], event["action"], event["outcome"]) for event in told] == [
        ("RAD-6", "C", "0"), ("RAD-7", "U", "0"), ("RAD-7", "U", "4"), ("RAD-6", "R", "0"),
    ]  # fmt: skip
    assert not any(b"ller" in body for body in bodies)

"""The modality worklist, asked by dcmtk and pynetdicom, with dcmtk's own worklist server as oracle."""

import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import orjson
import pytest
from peers.imageshare import node
from peers.orthanc import wait_for
from peers.scanner import associated, listening
from peers.scheduled import scheduled
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, generate_uid

from server.edges.context import Node
from server.edges.dimse.port import DicomPort
from server.edges.dimse.worklist import MODALITY_WORKLIST
from server.records import worklist
from server.records.item_values import of_file
from server.records.trail import events

ON_BOTH_ENGINES = True

ITEMS = [
    scheduled(1),
    scheduled(2, name="Muster^Anna", patient_id="P2", station="CT2", time="1015"),
    scheduled(3, name="Meier^Urs", patient_id="P3", station="MR1", modality="MR", date="20261123", time="080000"),
    scheduled(4, name="Yamada^Tarou=山田^太郎=やまだ^たろう", patient_id="P4", date="20261124", performer="Cuddy^Lisa"),
]


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Node]:
    with node(tmp_path / "data") as made:
        put(made, *ITEMS)
        yield made


@pytest.fixture
def port(opened: Node) -> Iterator[DicomPort]:
    with listening(opened) as made:
        yield made


def put(opened: Node, *items: Dataset) -> None:
    with opened.database.write() as connection:
        for item in items:
            worklist.put(connection, item.to_json_dict())


def query(**keys: str) -> Dataset:
    """A query with the usual return keys; those of the step by their keyword too."""
    asked, step = Dataset(), Dataset()
    for keyword in ("PatientName", "PatientID", "AccessionNumber", "StudyInstanceUID", "RequestedProcedureID"):
        setattr(asked, keyword, keys.pop(keyword, ""))
    inside = (
        "Modality", "ScheduledStationAETitle", "ScheduledProcedureStepStartDate", "ScheduledProcedureStepStartTime",
        "ScheduledPerformingPhysicianName", "ScheduledProcedureStepID", "ScheduledProcedureStepStatus",
    )  # fmt: skip
    for keyword in inside:
        setattr(step, keyword, keys.pop(keyword, ""))
    asked.ScheduledProcedureStepSequence = Sequence([step])
    for keyword, value in keys.items():
        setattr(asked, keyword, value)
    return asked


def find(port: DicomPort, asked: Dataset, syntax: str = ExplicitVRLittleEndian) -> tuple[int, list[Dataset]]:
    with associated(port, contexts=((MODALITY_WORKLIST, syntax),)) as association:
        assert association.is_established
        found: list[Dataset] = []
        for status, item in association.send_c_find(asked, MODALITY_WORKLIST):
            if item is not None:
                assert status.Status == 0xFF00
                found.append(item)
        return int(status.Status), found


def numbers(found: list[Dataset]) -> list[str]:
    return [str(item.AccessionNumber) for item in found]


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({}, ["A1", "A2", "A3", "A4"]),
        ({"ScheduledStationAETitle": "CT2"}, ["A2"]),
        ({"ScheduledStationAETitle": "CT?"}, ["A1", "A2", "A4"]),
        ({"Modality": "MR"}, ["A3"]),
        ({"ScheduledProcedureStepStartDate": "20261122"}, ["A1", "A2"]),
        ({"ScheduledProcedureStepStartDate": "20261123-"}, ["A3", "A4"]),
        ({"ScheduledProcedureStepStartDate": "-20261123"}, ["A1", "A2", "A3"]),
        # one range of moments, PS3.4 section K.6.1.2.2: from 22 November 10:00 to 23 November 09:00
        (
            {"ScheduledProcedureStepStartDate": "20261122-20261123", "ScheduledProcedureStepStartTime": "1000-0900"},
            ["A2", "A3"],
        ),
        ({"ScheduledProcedureStepStartTime": "0900-0959"}, ["A1", "A4"]),
        ({"ScheduledPerformingPhysicianName": "cuddy*"}, ["A4"]),
        ({"PatientName": "MUSTER*"}, ["A1", "A2"]),
        ({"PatientName": "山田^太郎", "SpecificCharacterSet": "ISO_IR 192"}, ["A4"]),
        ({"PatientID": "P3"}, ["A3"]),
        ({"AccessionNumber": "A?"}, ["A1", "A2", "A3", "A4"]),
        ({"ScheduledProcedureStepID": "SPS2"}, ["A2"]),
        ({"PatientSex": "F"}, []),
    ],
)
def test_matching(port: DicomPort, keys: dict[str, str], expected: list[str]) -> None:
    status, found = find(port, query(**keys))
    assert (status, numbers(found)) == (0, expected)


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_a_result_has_exactly_what_was_asked_for(port: DicomPort, syntax: str) -> None:
    asked = query(AccessionNumber="A1", InstitutionName="")
    (found,) = find(port, asked, syntax)[1]
    assert {each.keyword for each in found} == {each.keyword for each in asked}
    assert found.PatientName == "Muster^Hans"
    (step,) = found.ScheduledProcedureStepSequence
    assert {each.keyword for each in step} == {each.keyword for each in asked.ScheduledProcedureStepSequence[0]}
    assert step.ScheduledProcedureStepStatus == "SCHEDULED"


def test_an_empty_sequence_asks_for_all_of_it(port: DicomPort) -> None:
    asked = query(AccessionNumber="A1")
    asked.ScheduledProcedureStepSequence = Sequence()
    (found,) = find(port, asked)[1]
    assert found.ScheduledProcedureStepSequence[0].ScheduledProcedureStepDescription == "Thorax"


def test_an_answer_is_in_the_requestors_character_set_where_that_can_say_it(port: DicomPort, opened: Node) -> None:
    put(opened, scheduled(5, name="Müller^Jörg"))
    (latin,) = find(port, query(AccessionNumber="A5", SpecificCharacterSet="ISO_IR 100"))[1]
    assert (latin.SpecificCharacterSet, latin.PatientName) == ("ISO_IR 100", "Müller^Jörg")
    (japanese,) = find(port, query(AccessionNumber="A4", SpecificCharacterSet="ISO_IR 100"))[1]
    assert (japanese.SpecificCharacterSet, japanese.PatientName.ideographic) == ("ISO_IR 192", "山田^太郎")


def test_what_nobody_waits_for_is_shown_to_who_asks_for_its_status(port: DicomPort, opened: Node) -> None:
    with opened.database.write() as connection:
        assert worklist.progress(connection, "1.2.3.1", "SPS1", worklist.COMPLETED)
        assert not worklist.progress(connection, "1.2.3.1", "no such step", worklist.COMPLETED)
    assert numbers(find(port, query())[1]) == ["A2", "A3", "A4"]
    assert numbers(find(port, query(ScheduledProcedureStepStatus="COMPLETED"))[1]) == ["A1"]


def test_a_long_list_comes_in_pages_and_in_order(port: DicomPort, opened: Node) -> None:
    put(opened, *(scheduled(number, time=f"{number % 24:02}{number % 60:02}") for number in range(1000, 1450)))
    status, found = find(port, query())
    moments = [
        (step.ScheduledProcedureStepStartDate, step.ScheduledProcedureStepStartTime)
        for item in found
        for step in item.ScheduledProcedureStepSequence
    ]
    assert (status, len(found), moments) == (0, 454, sorted(moments))


def test_a_query_can_be_cancelled(port: DicomPort, opened: Node) -> None:
    put(opened, *(scheduled(number) for number in range(1000, 1800)))
    with associated(port, contexts=((MODALITY_WORKLIST, ExplicitVRLittleEndian),)) as association:
        answers = association.send_c_find(query(), MODALITY_WORKLIST, msg_id=7)
        next(answers)
        association.send_c_cancel(7, association.accepted_contexts[0].context_id)
        status = [status.Status for status, _ in answers][-1]
    assert status == 0xFE00


@pytest.mark.parametrize(
    ("keyword", "value"), [("ScheduledProcedureStepStartDate", "tomorrow"), ("ScheduledProcedureStepStartTime", "-")]
)
def test_a_date_that_is_none_is_refused_with_the_rule(port: DicomPort, keyword: str, value: str) -> None:
    asked = query()
    asked.ScheduledProcedureStepSequence[0][keyword]._value = value
    with associated(port, contexts=((MODALITY_WORKLIST, ImplicitVRLittleEndian),)) as association:
        ((status, _),) = association.send_c_find(asked, MODALITY_WORKLIST)
    assert (status.Status, bool(status.ErrorComment)) == (0xA900, True)


def test_each_query_is_in_the_trail_with_what_was_asked(port: DicomPort, opened: Node) -> None:
    find(port, query(PatientID="P3"))
    find(port, query(PatientID="nobody"))
    with opened.database.read() as connection:
        told = [orjson.loads(event.body) for event in events(connection, limit=10)]
    assert [event["subtype"][0]["code"] for event in told] == ["RAD-5", "RAD-5"]
    assert all(event["entity"][0]["query"] for event in told)


def test_who_may_not_see_the_worklist_is_not_offered_it(tmp_path: Path) -> None:
    device = {"ae_title": "SCANNER", "address": "127.0.0.1", "permissions": {"store"}}
    with node(tmp_path / "data", devices=[device]) as opened, listening(opened) as port:
        put(opened, *ITEMS)
        with associated(port, contexts=((MODALITY_WORKLIST, ExplicitVRLittleEndian),)) as association:
            assert not association.accepted_contexts


# --- dcmtk


def findscu(program: Path, folder: Path, called: str, address: int, *keys: str) -> list[Dataset]:
    """What dcmtk's findscu is answered, in its order."""
    folder.mkdir()
    command = [program, "-W", "-X", "-od", folder, "-aet", "SCANNER", "-aec", called, "127.0.0.1", str(address)]
    subprocess.run([*command, *(part for key in keys for part in ("-k", key))], check=True, capture_output=True, timeout=30)
    return [dcmread(path, force=True) for path in sorted(folder.iterdir())]


@contextmanager
def wlmscpfs(program: Path, folder: Path, port: int, items: list[Dataset]) -> Iterator[None]:
    """dcmtk's own worklist server over files of the same items."""
    place = folder / "ORACLE"
    place.mkdir(parents=True)
    (place / "lockfile").touch()
    for number, item in enumerate(items):
        (place / f"{number}.wl").write_bytes(worklist_file(item))
    process = subprocess.Popen(
        [program, "-s", "-csk", "-dfp", folder, str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        wait_for(port)
        yield
    finally:
        process.terminate()
        process.wait()


def worklist_file(item: Dataset) -> bytes:
    """A worklist item as the kind of file that wlmscpfs reads."""
    copy = Dataset()
    copy.update(item)
    copy.SOPClassUID, copy.SOPInstanceUID = MODALITY_WORKLIST, generate_uid()
    copy.ensure_file_meta()
    copy.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    written = BytesIO()
    copy.save_as(written, enforce_file_format=True)
    return written.getvalue()


QUERIES = [
    ("PatientName", "PatientID", "AccessionNumber"),
    ("PatientName=Muster*", "PatientID", "AccessionNumber"),
    ("(0040,0100)[0].Modality=CT", "AccessionNumber", "PatientName"),
    ("(0040,0100)[0].ScheduledStationAETitle=CT2", "(0040,0100)[0].Modality", "AccessionNumber"),
    ("(0040,0100)[0].ScheduledProcedureStepStartDate=20261122-20261123", "AccessionNumber", "StudyInstanceUID"),
    ("(0040,0100)[0].ScheduledProcedureStepStartDate=20261124", "(0040,0100)[0].ScheduledProcedureStepID", "AccessionNumber"),
    ("AccessionNumber=A3", "RequestedProcedureID", "ReferringPhysicianName", "PatientBirthDate"),
    ("PatientID=P9", "AccessionNumber"),
]


@pytest.mark.peers
def test_dcmtk_is_answered_as_by_its_own_server(
    port: DicomPort, dcmtk: Callable[[str], Path], free_port: int, tmp_path: Path
) -> None:
    """The same items come, with the same values; wlmscpfs orders them by file name."""
    scu = dcmtk("findscu")
    with wlmscpfs(dcmtk("wlmscpfs"), tmp_path / "files", free_port, ITEMS):
        for number, keys in enumerate(QUERIES):
            ours = findscu(scu, tmp_path / f"ours{number}", "IMAGESHARE", port.address[1], *keys)
            theirs = findscu(scu, tmp_path / f"theirs{number}", "ORACLE", free_port, *keys)
            assert sorted(map(plain, ours)) == sorted(map(plain, theirs)), keys


def plain(found: Dataset) -> str:
    """An answer as text, without its character set, in which the servers differ."""
    return "\n".join(
        str(element) for element in found.iterall() if element.keyword != "SpecificCharacterSet" and element.VR != "SQ"
    )


def test_a_file_of_wlmscpfs_is_an_item(opened: Node, port: DicomPort) -> None:
    with opened.database.write() as connection:
        assert worklist.put(connection, of_file(worklist_file(scheduled(8, name="Öztürk^Ayşe")))) == 1
    (found,) = find(port, query(PatientName="ozturk*"))[1]
    assert found.PatientName == "Öztürk^Ayşe"

"""C-GET and C-MOVE as SCU: from our own port, dcmtk's dcmqrscp and Orthanc."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from io import BytesIO
from pathlib import Path

import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from peers.archives import dcmqrscp
from peers.generated import CT, MR, Made
from peers.imageshare import node
from peers.orthanc import orthanc
from peers.querying import Archive, archive, storescp
from peers.scanner import after_head, stored_bytes
from pydicom.data import get_testdata_file
from pydicom.filereader import read_dataset
from pydicom.uid import UID
from pynetdicom import evt
from pynetdicom.ae import ApplicationEntity

from ihe.dimse import Command, CommandField
from profiles.query_retrieve import STUDY_ROOT
from server.association import Accepted, Association
from server.edges.context import Node
from server.edges.dimse.reception import Reception
from server.outbound.calling import NoAnswer
from server.outbound.retrieve import COMMON, ROOM, Progress, Take, get, move, sop_classes_of, storage_contexts
from server.records.peers import Peer
from server.settings import load

SETTINGS = load(ae_title="SCU")
MADE = (
    *(Made(study=1, number=number, pixel=number) for number in range(1, 6)),
    *(Made(study=1, series=2, number=number, modality="MR", pixel=number) for number in range(1, 4)),
    Made(study=2, patient="P2"),
)
STUDY = {"StudyInstanceUID": MADE[0].study_uid}


def at(port: int, title: str = "IMAGESHARE") -> Peer:
    return Peer(title, host="127.0.0.1", port=port)


def into(opened: Node, peer: Peer) -> Take:
    """As the command `imageshare get` does it."""
    reception = Reception(opened.ingest, peer.device("0.0.0.0/0"), peer.ae_title, "SCU", peer.host, "request")
    return lambda association, context, command: reception.answer(reception.receive(association, context, command))


def fetched(opened: Node, peer: Peer, keys: Mapping[str, str], level: str = "STUDY") -> Progress:
    classes = sop_classes_of(peer, SETTINGS, keys["StudyInstanceUID"], keys.get("SeriesInstanceUID", ""))
    *_, last = get(peer, SETTINGS, level, keys, classes, into(opened, peer))
    return last


@pytest.fixture
def filled(tmp_path: Path) -> Iterator[Archive]:
    with archive(tmp_path / "data", *MADE) as opened:
        yield opened


@pytest.fixture
def ours(tmp_path: Path) -> Iterator[Node]:
    with node(tmp_path / "ours") as opened:
        yield opened


def test_get_from_our_own_brings_the_same_bytes(filled: Archive, ours: Node) -> None:
    last = fetched(ours, at(filled.port), STUDY)
    assert (last.is_complete, last.completed, last.failed) == (True, 8, 0)
    for made in MADE:
        expected = stored_bytes(filled.node, made.uid) if made.study == 1 else None
        assert stored_bytes(ours, made.uid) == expected


def test_get_of_one_series(filled: Archive, ours: Node) -> None:
    last = fetched(ours, at(filled.port), {**STUDY, "SeriesInstanceUID": MADE[5].series_uid}, "SERIES")
    assert (last.is_complete, last.completed) == (True, 3)
    assert stored_bytes(ours, MADE[5].uid)
    assert stored_bytes(ours, MADE[0].uid) is None


def real(folder: Path) -> dict[str, Path]:
    """Real files in four transfer syntaxes, as one study; by SOP Instance UID."""
    folder.mkdir()
    made = {}
    for number, name in enumerate(("CT_small.dcm", "MR_small_RLE.dcm", "JPEG2000.dcm", "SC_rgb_jpeg_gdcm.dcm"), 1):
        dataset = pydicom.dcmread(str(get_testdata_file(name)))
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID = "1.2.3", f"1.2.3.{number}"
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = UID(f"1.2.3.{number}.1")
        dataset.PatientID, dataset.PatientName, dataset.StudyID = "4711", "Test^Real", "1"
        dataset.StudyDate, dataset.StudyTime, dataset.AccessionNumber = "20240101", "120000", "A1"
        made[dataset.SOPInstanceUID] = folder / name
        dataset.save_as(folder / name, enforce_file_format=True)
    return made


def alike(stored: bytes | None, path: Path) -> None:
    """Both are dcmtk inside, which writes data sets anew: without group lengths and padding. So values are compared."""
    there = pydicom.dcmread(path)
    assert stored is not None
    syntax = there.file_meta.TransferSyntaxUID
    here = read_dataset(BytesIO(stored), syntax.is_implicit_VR, syntax.is_little_endian)
    assert here.PixelData.rstrip(b"\0") == there.PixelData.rstrip(b"\0")
    for each in (here, there):
        for tag in ("PixelData", "DataSetTrailingPadding"):
            each.pop(tag, None)
    left, right = ({e.tag: e for e in each if e.tag.element and not e.tag.is_private} for each in (here, there))
    assert left == right


def test_get_from_orthanc(ours: Node, tmp_path: Path) -> None:
    files = real(tmp_path / "files")
    made = MADE[0]
    with orthanc(tmp_path / "orthanc", {}, DicomAlwaysAllowFind=True, DicomAlwaysAllowGet=True) as server:
        for content in (*(path.read_bytes() for path in files.values()), made.part10()):
            server.post("/instances", content)
        peer = at(server.dicom_port, "ORTHANC")
        last = fetched(ours, peer, {"StudyInstanceUID": "1.2.3"})
        assert (last.is_complete, last.completed) == (True, 4), last
        fetched(ours, peer, STUDY)
    assert stored_bytes(ours, made.uid) == after_head(made.part10())
    for uid, path in files.items():
        alike(stored_bytes(ours, uid), path)


def test_get_from_dcmqrscp(ours: Node, tmp_path: Path, dcmtk: Callable[[str], Path], free_port: int) -> None:
    """It does not tell of which SOP Classes its instances are, and sends each in the first context of its SOP Class only."""
    files = dict(list(real(tmp_path / "files").items())[:2])
    with dcmqrscp(dcmtk, tmp_path / "qr", free_port, list(files.values()), "+xr") as port:
        peer = at(port, "DCMQRSCP")
        assert sop_classes_of(peer, SETTINGS, "1.2.3") == COMMON
        last = fetched(ours, peer, {"StudyInstanceUID": "1.2.3"})
    uncompressed, rle = files
    assert (last.completed, last.failed, last.failed_uids) == (1, 1, (rle,))
    alike(stored_bytes(ours, uncompressed), files[uncompressed])


def test_move_from_our_own_and_dcmqrscp_and_orthanc(
    filled: Archive, tmp_path: Path, dcmtk: Callable[[str], Path], free_port: int
) -> None:
    files = real(tmp_path / "files")
    with storescp(dcmtk("storescp"), free_port, tmp_path / "dest", "+B", "+xa") as folder:
        filled.know("DEST", free_port)
        *_, last = move(at(filled.port), SETTINGS, "STUDY", STUDY, "DEST")
        assert (last.is_complete, last.completed, len(list(folder.iterdir()))) == (True, 8, 8)
        modalities = {"dest": ("DEST", free_port), "scu": ("SCU", 1)}
        with orthanc(tmp_path / "orthanc", modalities, DicomAlwaysAllowMove=True) as server:
            for path in files.values():
                server.post("/instances", path.read_bytes())
            peer = at(server.dicom_port, "ORTHANC")
            *_, last = move(peer, SETTINGS, "STUDY", {"StudyInstanceUID": "1.2.3"}, "DEST")
        assert (last.is_complete, len(list(folder.iterdir()))) == (True, 12)


def test_move_from_dcmqrscp(tmp_path: Path, dcmtk: Callable[[str], Path], free_port: int) -> None:
    files = list(real(tmp_path / "files").values())[:1]
    with archive(tmp_path / "data") as destination:
        known = {"IMAGESHARE": destination.port}
        with dcmqrscp(dcmtk, tmp_path / "qr", free_port, files, destinations=known) as port:
            told = list(move(at(port, "DCMQRSCP"), SETTINGS, "STUDY", {"StudyInstanceUID": "1.2.3"}, "IMAGESHARE"))
            assert (told[-1].is_complete, told[-1].completed) == (True, 1)
            assert stored_bytes(destination.node, "1.2.3.1.1")
            with pytest.raises(NoAnswer, match="A801H it does not know the destination"):
                list(move(at(port, "DCMQRSCP"), SETTINGS, "STUDY", {"StudyInstanceUID": "1.2.3"}, "NOBODY"))


def test_what_goes_wrong_is_told(filled: Archive, ours: Node, free_port: int) -> None:
    with pytest.raises(NoAnswer, match="A801H it does not know the destination"):
        list(move(at(filled.port), SETTINGS, "STUDY", STUDY, "NOBODY"))
    with pytest.raises(NoAnswer, match="called AE title not recognized"):
        list(move(at(filled.port, "OTHER"), SETTINGS, "STUDY", STUDY, "NOBODY"))
    with pytest.raises(NoAnswer, match="no connection"):
        list(move(at(free_port), SETTINGS, "STUDY", STUDY, "NOBODY"))
    with pytest.raises(NoAnswer, match="no such study"):
        fetched(ours, at(filled.port), {"StudyInstanceUID": "1.2.3.4"})


def test_a_destination_that_is_down_names_what_failed(filled: Archive, free_port: int) -> None:
    filled.know("DOWN", free_port)
    with pytest.raises(NoAnswer, match="A702H unable to send"):
        list(move(at(filled.port), SETTINGS, "STUDY", STUDY, "DOWN"))


def test_instances_that_we_refuse_are_named_by_the_peer(filled: Archive) -> None:
    refused = MADE[0].uid

    def take(association: Association, context: Accepted, command: Command) -> Command:
        association.receive_data_set(context.id, lambda _: None)
        return Command(
            field=CommandField.C_STORE_RSP, responded_to=command.message_id, affected_sop_class_uid=command.affected_sop_class_uid,
            affected_sop_instance_uid=command.affected_sop_instance_uid,
            status=0xA700 if command.affected_sop_instance_uid == refused else 0,
        )  # fmt: skip

    *_, last = get(at(filled.port), SETTINGS, "STUDY", STUDY, [CT, MR], take)
    assert (last.status, last.completed, last.failed, last.failed_uids) == (0xB000, 7, 1, (refused,))
    assert not last.is_complete


def test_what_was_not_proposed_does_not_come(filled: Archive, ours: Node) -> None:
    *_, last = get(at(filled.port), SETTINGS, "STUDY", STUDY, [MR], into(ours, at(filled.port)))
    assert (last.status, last.completed, last.failed) == (0xB000, 3, 5)


def test_a_peer_that_aborts_in_the_middle(ours: Node, free_port: int) -> None:
    def answer(event: evt.Event) -> Iterator[object]:
        yield 2
        yield 0xFF00, pydicom.dcmread(str(get_testdata_file("CT_small.dcm")))
        event.assoc.abort()

    entity = ApplicationEntity("ABORTS")
    entity.add_supported_context(STUDY_ROOT.get)
    entity.add_supported_context(CT, scu_role=True, scp_role=True)
    server = entity.start_server(("127.0.0.1", free_port), block=False, evt_handlers=[(evt.EVT_C_GET, answer)])
    try:
        with pytest.raises(NoAnswer, match="aborted the association"):
            list(get(at(free_port, "ABORTS"), SETTINGS, "STUDY", STUDY, [CT], into(ours, at(free_port, "ABORTS"))))
    finally:
        assert server
        server.shutdown()
    uid = pydicom.dcmread(str(get_testdata_file("CT_small.dcm"))).SOPInstanceUID
    assert stored_bytes(ours, uid)


def test_whoever_stops_listening_aborts(filled: Archive, ours: Node) -> None:
    answers = get(at(filled.port), SETTINGS, "STUDY", STUDY, [CT, MR], into(ours, at(filled.port)))
    with closing(answers):  # type: ignore[type-var]
        pass
    assert fetched(ours, at(filled.port), STUDY).is_complete


@given(st.integers(1, ROOM))
def test_contexts_for_storage_always_fit(count: int) -> None:
    classes = [f"1.2.{number}" for number in range(count)]
    made = storage_contexts(classes)
    assert len(made) <= ROOM
    assert {each.id for each in made} <= set(range(3, 256, 2))
    assert len({each.id for each in made}) == len(made)
    for sop_class in classes:
        offered = [syntax for each in made if each.abstract_syntax == sop_class for syntax in each.transfer_syntaxes]
        assert len(offered) == len(set(offered)) == len({s for each in storage_contexts(["1.2"]) for s in each.transfer_syntaxes})


@pytest.mark.parametrize("count", [0, ROOM + 1])
def test_more_sop_classes_than_contexts(count: int) -> None:
    with pytest.raises(NoAnswer, match="SOP Classes"):
        storage_contexts([f"1.2.{number}" for number in range(count)])

"""C-FIND as SCU: our own port, dcmtk's dcmqrscp and Orthanc are asked; character sets, refusals, ends in the middle."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pydicom
import pydicom.data
import pytest
from hypothesis import given
from hypothesis import strategies as st
from peers.archives import dcmqrscp
from peers.generated import Made
from peers.orthanc import orthanc
from peers.querying import Archive, archive
from pydicom.uid import UID
from pynetdicom import evt
from pynetdicom.ae import ApplicationEntity

from profiles.model_item import text, values
from profiles.query_identifier import read
from profiles.query_retrieve import STUDY_ROOT
from server.errors import MalformedQuery
from server.outbound.calling import NoAnswer
from server.outbound.find import find, identifier, shown
from server.records.item_values import encoded
from server.records.peers import Peer
from server.settings import load

CHARSETS = Path(pydicom.data.__file__).parent / "charset_files"
NAMED = ("chrArab", "chrFren", "chrGerm", "chrGreek", "chrH31", "chrH32", "chrHbrw", "chrI2", "chrRuss", "chrX1", "chrX2")
SETTINGS = load(ae_title="SCU")


def at(port: int, title: str = "IMAGESHARE") -> Peer:
    return Peer(title, host="127.0.0.1", port=port)


@pytest.fixture
def filled(tmp_path: Path) -> Iterator[Archive]:
    made = [Made(study=study, number=number, patient=f"P{study}") for study in (1, 2) for number in (1, 2, 3)]
    with archive(tmp_path / "data", *made) as opened:
        yield opened


def test_every_level_of_our_own_archive(filled: Archive) -> None:
    peer = at(filled.port)
    assert sorted(text(each, "00100020") for each in find(peer, SETTINGS, "PATIENT", {"PatientID": "P*"})) == ["P1", "P2"]
    (study,) = find(peer, SETTINGS, "STUDY", {"PatientID": "P2", "StudyInstanceUID": "", "StudyDate": "20260101-20260131"})
    uid = text(study, "0020000D")
    assert uid == Made(study=2).study_uid
    (series,) = find(peer, SETTINGS, "SERIES", {"StudyInstanceUID": uid, "SeriesInstanceUID": ""})
    keys = {"0020000D": uid, "0020000e": text(series, "0020000E"), "SOPInstanceUID": ""}
    assert len(list(find(peer, SETTINGS, "IMAGE", keys))) == 3


def test_an_iterator_that_is_closed_cancels_the_query(filled: Archive) -> None:
    matches = find(at(filled.port), SETTINGS, "STUDY", {"StudyInstanceUID": ""})
    next(matches)
    matches.close()
    assert len(list(find(at(filled.port), SETTINGS, "STUDY", {"StudyInstanceUID": ""}))) == 2


def _names(path: Path) -> str:
    """A study's key and what pydicom reads as its patient's name."""
    return str(pydicom.dcmread(path).PatientName).rstrip("=")


@contextmanager
def _dcmqrscp(dcmtk: Callable[[str], Path], tmp_path: Path, port: int, files: list[Path]) -> Iterator[Peer]:
    with dcmqrscp(dcmtk, tmp_path / "qr", port, files) as listening:
        yield at(listening, "DCMQRSCP")


def _files(folder: Path) -> list[Path]:
    """pydicom's files in many character sets, each as a study of its own."""
    folder.mkdir()
    made = []
    for number, name in enumerate(NAMED, 1):
        dataset = pydicom.dcmread(CHARSETS / f"{name}.dcm")
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID = f"1.2.3.{number}", f"1.2.3.{number}.1"
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = UID(f"1.2.3.{number}.1.1")
        dataset.PatientID, dataset.StudyDate, dataset.StudyTime = f"P{number}", "20240101", "120000"
        made.append(folder / f"{name}.dcm")
        dataset.save_as(made[-1], enforce_file_format=True)
    return made


def test_names_in_every_character_set_from_our_own(tmp_path: Path) -> None:
    files = _files(tmp_path / "files")
    with archive(tmp_path / "data", *(path.read_bytes() for path in files)) as opened:
        for number, path in enumerate(files, 1):
            (match,) = find(at(opened.port), SETTINGS, "STUDY", {"StudyInstanceUID": f"1.2.3.{number}", "PatientName": ""})
            assert shown(match, "PatientName") == _names(path)
            name = shown(match, "PatientName").partition("=")[0]
            found = list(find(at(opened.port), SETTINGS, "STUDY", {"PatientName": name, "StudyInstanceUID": ""}))
            assert f"1.2.3.{number}" in [text(each, "0020000D") for each in found]


def test_names_in_every_character_set_from_dcmqrscp(dcmtk: Callable[[str], Path], tmp_path: Path, free_port: int) -> None:
    """It sends names as the bytes of the file, and the file's character set with them."""
    files = _files(tmp_path / "files")
    with _dcmqrscp(dcmtk, tmp_path, free_port, files) as peer:
        for number, path in enumerate(files, 1):
            keys = {"StudyInstanceUID": f"1.2.3.{number}", "PatientName": "", "SpecificCharacterSet": ""}
            (match,) = find(peer, SETTINGS, "STUDY", keys)
            assert text(match, "0020000D") == f"1.2.3.{number}"
            if values(match, "00080005"):
                assert shown(match, "PatientName") == _names(path)
        assert len(list(find(peer, SETTINGS, "STUDY", {"StudyInstanceUID": "", "StudyDate": "20230101-20241231"}))) == len(files)
        assert list(find(peer, SETTINGS, "STUDY", {"PatientID": "NOBODY"})) == []


def test_names_in_every_character_set_from_orthanc(tmp_path: Path) -> None:
    files = _files(tmp_path / "files")
    with orthanc(tmp_path / "orthanc", {}, DefaultEncoding="Utf8", DicomAlwaysAllowFind=True) as server:
        for path in files:
            server.post("/instances", path.read_bytes())
        peer = at(server.dicom_port, "ORTHANC")
        for number, path in enumerate(files, 1):
            keys = {"StudyInstanceUID": f"1.2.3.{number}", "PatientName": ""}
            (match,) = find(peer, SETTINGS, "STUDY", keys, character_set=("ISO_IR 192",))
            if path.stem != "chrH32":  # Orthanc itself does not decode its second and third component groups
                assert shown(match, "PatientName") == _names(path)


def test_a_wrong_title_a_dead_peer_and_a_refusal_are_told(filled: Archive, free_port: int) -> None:
    with pytest.raises(NoAnswer, match="called AE title not recognized"):
        list(find(at(filled.port, "SOMEBODY"), SETTINGS, "STUDY", {}))
    with pytest.raises(NoAnswer, match=r"no connection to 127.0.0.1 port .*refused"):
        list(find(at(free_port), SETTINGS, "STUDY", {}))
    with pytest.raises(NoAnswer, match=r"refuses the query: status A900H .*unique key of level STUDY"):
        list(find(at(filled.port), SETTINGS, "SERIES", {"SeriesInstanceUID": ""}))


def test_a_peer_without_that_service(free_port: int) -> None:
    entity = ApplicationEntity("ECHO")
    entity.add_supported_context("1.2.840.10008.1.1")
    server = entity.start_server(("127.0.0.1", free_port), block=False)
    try:
        with pytest.raises(NoAnswer, match="does not offer this service"):
            list(find(at(free_port, "ECHO"), SETTINGS, "STUDY", {}))
    finally:
        assert server
        server.shutdown()


def test_a_peer_that_aborts_in_the_middle(free_port: int) -> None:
    def answer(event: evt.Event) -> Iterator[tuple[int, pydicom.Dataset]]:
        match = pydicom.Dataset()
        match.QueryRetrieveLevel, match.StudyInstanceUID = "STUDY", "1.2"
        yield 0xFF00, match
        event.assoc.abort()

    entity = ApplicationEntity("ABORTS")
    entity.add_supported_context(STUDY_ROOT.find)
    server = entity.start_server(("127.0.0.1", free_port), block=False, evt_handlers=[(evt.EVT_C_FIND, answer)])
    try:
        matches = find(at(free_port, "ABORTS"), SETTINGS, "STUDY", {"StudyInstanceUID": ""})
        assert text(next(matches), "0020000D") == "1.2"
        with pytest.raises(NoAnswer, match="aborted the association"):
            list(matches)
    finally:
        assert server
        server.shutdown()


def test_what_is_no_dicom_peer(free_port: int) -> None:
    def talk(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(4096)
            connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    with socket.create_server(("127.0.0.1", free_port)) as listener:
        thread = threading.Thread(target=talk, args=(listener,))
        thread.start()
        with pytest.raises(NoAnswer, match="no PDU"):
            list(find(at(free_port), SETTINGS, "STUDY", {}))
        thread.join()


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"Nonsense": ""}, "keyword"),
        ({"NumberOfFrames.PatientID": ""}, "Sequence|sequence"),
        ({"RequestAttributesSequence": "1"}, "sequence"),
        ({"Rows": "many"}, "number"),
    ],
)
def test_keys_that_are_none(keys: dict[str, str], words: str) -> None:
    with pytest.raises(MalformedQuery, match=words):
        identifier("IMAGE", keys)


def test_there_are_four_levels() -> None:
    with pytest.raises(MalformedQuery, match="PATIENT, STUDY, SERIES, IMAGE"):
        next(find(at(1), SETTINGS, "FRAME", {}))


TEXT = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs"), exclude_characters="\\^= "), max_size=20)


@given(patient=TEXT, name=TEXT, step=TEXT)
def test_an_identifier_says_what_was_asked(patient: str, name: str, step: str) -> None:
    """Read by the reader of our own port."""
    keys = {"PatientID": patient, "PatientName": name, "RequestAttributesSequence.ScheduledProcedureStepID": step}
    back = read(encoded(identifier("STUDY", keys), "1.2.840.10008.1.2.1"), "1.2.840.10008.1.2.1")
    expected = {
        ("00080052",): "STUDY", ("00100020",): patient, ("00100010",): name, ("00400275", "00400009"): step,
    }  # fmt: skip
    assert back.matching() == {path: value for path, value in expected.items() if value}

"""C-MOVE and C-GET over real sockets: dcmtk, pynetdicom and Orthanc retrieve; PS3.4 sections C.4.2 and C.4.3."""

import subprocess
from collections.abc import Callable, Iterator
from errno import EIO
from io import BytesIO
from pathlib import Path
from threading import Event

import numpy as np
import pytest
from peers.generated import CT, MR, Made, send
from peers.imageshare import publish_all
from peers.orthanc import orthanc
from peers.querying import Archive, archive, associated, got, identifier, moved, storescp
from peers.scanner import after_head
from pydicom import dcmread, dcmwrite
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filereader import read_dataset
from pydicom.uid import UID
from pynetdicom import evt
from pynetdicom.ae import ApplicationEntity
from pynetdicom.presentation import build_context
from sqlalchemy import select

from ihe.dimse import Command
from profiles.query_retrieve import PATIENT_ROOT, PATIENT_STUDY_ONLY, STUDY_ROOT
from server.edges.dimse import retrieval
from server.edges.dimse.serving import Serving
from server.errors import NotFound
from server.outbound import transfer
from server.outbound.delivery import Payload
from server.outbound.transfer import Stored
from server.records.catalogue import INSTANCE, StoredInstance

EXPLICIT, IMPLICIT, JPEG_2000 = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2", "1.2.840.10008.1.2.4.90"
JPEG_BASELINE = "1.2.840.10008.1.2.4.50"
MADE = (
    *(Made(study=1, number=number, pixel=number) for number in range(1, 6)),
    *(Made(study=1, series=2, number=number, modality="MR", pixel=number) for number in range(1, 4)),
    Made(study=2, patient="P2"),
)
STUDY = identifier("STUDY", StudyInstanceUID=MADE[0].study_uid)
BOTH = ((CT, [EXPLICIT]), (MR, [EXPLICIT]))


@pytest.fixture
def filled(tmp_path: Path, engine: None) -> Iterator[Archive]:
    with archive(tmp_path / "data", *MADE) as opened:
        yield opened


def counts(answer: Dataset) -> tuple[int, int, int, int]:
    return (
        answer.Status, answer.get("NumberOfCompletedSuboperations"), answer.get("NumberOfFailedSuboperations"),
        answer.get("NumberOfWarningSuboperations"),
    )  # fmt: skip


def arrived(folder: Path) -> dict[str, bytes]:
    """The data sets in a folder of Part 10 files, by SOP Instance UID."""
    files = [path.read_bytes() for path in folder.iterdir()]
    return {
        str(dcmread(path, stop_before_pixels=True).SOPInstanceUID): after_head(data)
        for path, data in zip(folder.iterdir(), files, strict=True)
    }


def expected(*made: Made) -> dict[str, bytes]:
    return {each.uid: after_head(each.part10()) for each in made}


# --- C-MOVE


@pytest.mark.peers
def test_movescu_to_storescp(filled: Archive, dcmtk: Callable[[str], Path], free_port: int, tmp_path: Path) -> None:
    """Every instance arrives, byte for byte; the trail says so of each study, before and with its destination."""
    filled.know("DEST", free_port)
    with storescp(dcmtk("storescp"), free_port, tmp_path / "arrived", "+B") as folder:
        command = [dcmtk("movescu"), "-v", "-S", "-aec", "IMAGESHARE", "-aem", "DEST", "-k", "QueryRetrieveLevel=STUDY"]
        run = subprocess.run(
            [*command, "-k", f"StudyInstanceUID={MADE[0].study_uid}", "127.0.0.1", str(filled.port)],
            capture_output=True,
            text=True,
            check=True,
        )
        assert "(Success)" in run.stdout + run.stderr
        assert arrived(folder) == expected(*MADE[:8])
    event = filled.trail()[-1]
    assert event["type"]["code"] in ("110104", "110106")
    (study, patient, _) = event["entity"]
    assert study["what"]["identifier"]["value"] == f"urn:oid:{MADE[0].study_uid}"
    assert {each["type"]: each["valueString"] for each in study["detail"]} == {"instances": "8", "destination": "DEST"}
    assert patient["what"]["reference"].startswith("Patient/")


@pytest.mark.peers
@pytest.mark.parametrize("engine", ["sqlite", "postgresql"], indirect=True)
def test_what_may_be_named(filled: Archive, dcmtk: Callable[[str], Path], free_port: int, tmp_path: Path) -> None:
    """PS3.4 section C.4.2.2.1: at each level, one unique key or a list of UIDs."""
    filled.know("DEST", free_port)
    study, series = MADE[0].study_uid, MADE[5].series_uid
    with storescp(dcmtk("storescp"), free_port, tmp_path / "arrived", "+B") as folder:
        for model, asked, wanted in (
            (PATIENT_ROOT, identifier("PATIENT", PatientID="P2"), MADE[8:]),
            (PATIENT_STUDY_ONLY, identifier("STUDY", PatientID="P2", StudyInstanceUID=MADE[8].study_uid), MADE[8:]),
            (STUDY_ROOT, identifier("STUDY", StudyInstanceUID=[study, MADE[8].study_uid]), MADE),
            (STUDY_ROOT, identifier("SERIES", StudyInstanceUID=study, SeriesInstanceUID=series), MADE[5:8]),
            (
                STUDY_ROOT,
                identifier("IMAGE", StudyInstanceUID=study, SeriesInstanceUID=series, SOPInstanceUID=[MADE[5].uid, MADE[7].uid]),
                (MADE[5], MADE[7]),
            ),
            (PATIENT_ROOT, identifier("STUDY", PatientID="P2", StudyInstanceUID=study), ()),
            (STUDY_ROOT, identifier("STUDY", StudyInstanceUID="1.2.3"), ()),
        ):
            for path in folder.iterdir():
                path.unlink()
            *_, (final, data) = moved(filled, asked, "DEST", model=model.move)
            assert counts(final) == (0, len(wanted), 0, 0)
            assert data is None
            assert arrived(folder) == expected(*wanted)


def test_requests_that_are_refused(filled: Archive) -> None:
    for model, asked, status in (
        (STUDY_ROOT, identifier("STUDY", StudyInstanceUID=""), 0xA900),
        (STUDY_ROOT, identifier("SERIES", SeriesInstanceUID="1.2"), 0xA900),
        (PATIENT_ROOT, identifier("PATIENT", PatientID="P*"), 0xA900),
        (STUDY_ROOT, identifier("PATIENT", PatientID="P1"), 0xA900),
        (STUDY_ROOT, STUDY, 0xA801),
    ):
        ((final, _),) = moved(filled, asked, "NOWHERE", model=model.move)
        assert final.Status == status
        assert final.ErrorComment
    event = filled.trail()[-1]
    assert event["outcome"] == "4"
    assert "Move Destination" in event["outcomeDesc"]


def test_destination_that_is_down(filled: Archive, free_port: int) -> None:
    filled.know("DEST", free_port)
    *_, (final, data) = moved(filled, STUDY, "DEST")
    assert counts(final) == (0xA702, 0, 8, 0)
    assert "no connection" in final.ErrorComment
    assert data is not None
    assert list(data.FailedSOPInstanceUIDList) == [made.uid for made in MADE[:8]]


@pytest.mark.peers
def test_destination_that_does_not_know_us(filled: Archive, dcmtk: Callable[[str], Path], free_port: int, tmp_path: Path) -> None:
    """An association that is rejected, or without any context, fails each of the sub-operations."""
    filled.know("DEST", free_port)
    with storescp(dcmtk("storescp"), free_port, tmp_path / "arrived", "--refuse"):
        *_, (final, _) = moved(filled, STUDY, "DEST")
        assert counts(final) == (0xA702, 0, 8, 0)
        assert "rejected" in final.ErrorComment


class Receiver:
    """pynetdicom as the destination: takes `syntaxes` of `sop_classes`, answers what `answer` says."""

    def __init__(self, port: int, contexts: list[tuple[str, list[str]]], answer: Callable[[evt.Event], int]) -> None:
        self.taken: list[tuple[str, str, object, object]] = []
        self._answer = answer
        entity = ApplicationEntity("DEST")
        entity.supported_contexts = [build_context(sop_class, syntaxes) for sop_class, syntaxes in contexts]
        entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = 90  # of a busy machine
        self.server = entity.start_server(("127.0.0.1", port), block=False, evt_handlers=[(evt.EVT_C_STORE, self._take)])

    def _take(self, event: evt.Event) -> int:
        request = event.request
        self.taken.append(
            (str(request.AffectedSOPInstanceUID), str(event.context.transfer_syntax), request.MoveOriginatorApplicationEntityTitle,
             request.MoveOriginatorMessageID)
        )  # type: ignore[union-attr] # fmt: skip
        return self._answer(event)


@pytest.fixture
def receiver(free_port: int) -> Iterator[Callable[..., Receiver]]:
    started: list[Receiver] = []

    def start(contexts: list[tuple[str, list[str]]], answer: Callable[[evt.Event], int] = lambda _: 0) -> Receiver:
        started.append(Receiver(free_port, contexts, answer))
        return started[-1]

    yield start
    for each in started:
        each.server.shutdown()


def test_destination_that_takes_one_sop_class_only(filled: Archive, receiver: Callable[..., Receiver], free_port: int) -> None:
    """PS3.4 table C.4-2: B000, with the UIDs of those that were not taken; the originator is named to the destination."""
    filled.know("DEST", free_port)
    peer = receiver([(CT, [EXPLICIT])])
    *_, (final, data) = moved(filled, STUDY, "DEST", calling="ASKER")
    assert counts(final) == (0xB000, 5, 3, 0)
    assert data is not None
    assert set(data.FailedSOPInstanceUIDList) == {made.uid for made in MADE[5:8]}
    assert [(uid, title, number) for uid, _, title, number in peer.taken] == [(made.uid, "ASKER", 1) for made in MADE[:5]]


def test_warnings_and_failures_of_the_destination(filled: Archive, receiver: Callable[..., Receiver], free_port: int) -> None:
    filled.know("DEST", free_port)
    answers = {MADE[0].uid: 0xB000, MADE[1].uid: 0xA700, MADE[2].uid: 0xC123, MADE[3].uid: 0x0111}
    receiver([(CT, [EXPLICIT]), (MR, [EXPLICIT])], lambda event: answers.get(str(event.request.AffectedSOPInstanceUID), 0))
    *_, (final, data) = moved(filled, STUDY, "DEST")
    assert counts(final) == (0xB000, 4, 3, 1)
    assert data is not None
    assert list(data.FailedSOPInstanceUIDList) == [made.uid for made in MADE[1:4]]


def test_destination_that_aborts_in_the_middle(filled: Archive, receiver: Callable[..., Receiver], free_port: int) -> None:
    """What it did not answer has failed; the rest goes over another association."""
    filled.know("DEST", free_port)

    def answer(event: evt.Event) -> int:
        if event.request.AffectedSOPInstanceUID == MADE[2].uid:  # type: ignore[union-attr]
            event.assoc.abort()
        return 0

    peer = receiver([(CT, [EXPLICIT]), (MR, [EXPLICIT])], answer)
    *_, (final, data) = moved(filled, STUDY, "DEST")
    assert counts(final) == (0xB000, 7, 1, 0)
    assert data is not None
    assert data.FailedSOPInstanceUIDList == MADE[2].uid
    assert len(peer.taken) == 8


def test_pending_responses(
    filled: Archive, receiver: Callable[..., Receiver], free_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PS3.4 section C.4.2.3.1: they count down; none after the last sub-operation but the final one."""
    monkeypatch.setattr(retrieval, "EVERY", 0.0)
    filled.know("DEST", free_port)
    receiver([(CT, [EXPLICIT]), (MR, [EXPLICIT])])
    *pending, (final, _) = moved(filled, STUDY, "DEST")
    assert [
        (status.Status, status.NumberOfRemainingSuboperations, status.NumberOfCompletedSuboperations) for status, _ in pending
    ] == [(0xFF00, 8 - done, done) for done in range(1, 8)]
    assert counts(final) == (0, 8, 0, 0)
    assert "NumberOfRemainingSuboperations" not in final


def test_cancelled_in_the_middle(filled: Archive, receiver: Callable[..., Receiver], free_port: int) -> None:
    filled.know("DEST", free_port)
    cancelled, third = Event(), Event()

    def answer(event: evt.Event) -> int:
        if event.request.AffectedSOPInstanceUID == MADE[2].uid:  # type: ignore[union-attr]
            third.set()
            cancelled.wait(20)
        return 0

    receiver([(CT, [EXPLICIT]), (MR, [EXPLICIT])], answer)
    with associated(filled, abstract_syntaxes=[STUDY_ROOT.move]) as association:
        responses = association.send_c_move(STUDY, "DEST", STUDY_ROOT.move, msg_id=9)
        third.wait(20)
        association.send_c_cancel(9, association.accepted_contexts[0].context_id)
        while not association.dul.to_provider_queue.empty():
            pass
        cancelled.set()
        *_, (final, _) = responses
    assert final.Status == 0xFE00
    assert 3 <= final.NumberOfCompletedSuboperations < 8
    assert final.NumberOfRemainingSuboperations == 8 - final.NumberOfCompletedSuboperations


def test_requestor_that_aborts_in_the_middle(filled: Archive, receiver: Callable[..., Receiver], free_port: int) -> None:
    """The transfer ends, and the port goes on."""
    filled.know("DEST", free_port)
    going = Event()

    def answer(event: evt.Event) -> int:
        if event.request.AffectedSOPInstanceUID == MADE[2].uid:  # type: ignore[union-attr]
            going.wait(20)
        return 0

    peer = receiver([(CT, [EXPLICIT]), (MR, [EXPLICIT])], answer)
    with associated(filled, abstract_syntaxes=[STUDY_ROOT.move]) as association:
        association.send_c_move(STUDY, "DEST", STUDY_ROOT.move)
        while len(peer.taken) < 3:
            pass
        association.abort()
    going.set()
    *_, (final, _) = moved(filled, STUDY, "DEST")
    assert counts(final) == (0, 8, 0, 0)


# --- C-GET


@pytest.mark.peers
def test_getscu(filled: Archive, dcmtk: Callable[[str], Path], tmp_path: Path) -> None:
    folder = tmp_path / "arrived"
    folder.mkdir()
    command = [dcmtk("getscu"), "-v", "+B", "-S", "-aec", "IMAGESHARE", "-od", str(folder), "-k", "QueryRetrieveLevel=STUDY"]
    run = subprocess.run(
        [*command, "-k", f"StudyInstanceUID={MADE[0].study_uid}", "127.0.0.1", str(filled.port)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "Success" in run.stdout + run.stderr
    assert arrived(folder) == expected(*MADE[:8])


def test_get(filled: Archive) -> None:
    answers, stored = got(filled, STUDY, BOTH, model=STUDY_ROOT.get)
    assert counts(answers[-1][0]) == (0, 8, 0, 0)
    assert {uid: data for uid, _, data in stored} == expected(*MADE[:8])


def test_get_without_a_context_for_all(filled: Archive) -> None:
    """PS3.4 section C.4.3.3.1: what the requestor did not propose to take has failed."""
    answers, stored = got(filled, STUDY, BOTH[:1], model=STUDY_ROOT.get)
    final, data = answers[-1]
    assert counts(final) == (0xB000, 5, 3, 0)
    assert data is not None
    assert set(data.FailedSOPInstanceUIDList) == {made.uid for made in MADE[5:8]}
    answers, stored = got(filled, STUDY, ((CT, [JPEG_BASELINE]),), model=STUDY_ROOT.get)
    assert answers[-1][0].Status == 0xA702
    assert stored == []


def test_get_that_the_requestor_refuses(filled: Archive) -> None:
    answers, stored = got(filled, STUDY, BOTH, model=STUDY_ROOT.get, answer=0xA700)
    assert counts(answers[-1][0]) == (0xA702, 0, 8, 0)
    assert len(stored) == 8


def test_get_that_is_cancelled(filled: Archive) -> None:
    taken: list[str] = []

    def take(event: evt.Event) -> int:
        taken.append(str(event.request.AffectedSOPInstanceUID))  # type: ignore[union-attr]
        if len(taken) == 3:
            (context,) = (each for each in event.assoc.accepted_contexts if each.abstract_syntax == STUDY_ROOT.get)
            event.assoc.send_c_cancel(5, context.context_id)
        return 0

    with associated(filled, abstract_syntaxes=[STUDY_ROOT.get], storage=BOTH, handlers=[(evt.EVT_C_STORE, take)]) as association:
        *_, (final, _) = association.send_c_get(STUDY, STUDY_ROOT.get, msg_id=5)
    assert final.Status == 0xFE00
    assert 3 <= final.NumberOfCompletedSuboperations < 8
    assert final.NumberOfRemainingSuboperations == 8 - final.NumberOfCompletedSuboperations
    assert len(taken) == final.NumberOfCompletedSuboperations


def test_get_whose_requestor_aborts(filled: Archive) -> None:
    """The port goes on."""

    def take(event: evt.Event) -> int:
        event.assoc.abort()
        event.assoc.dimse_timeout = 0.1  # pynetdicom waits for a response all the same
        return 0

    with associated(filled, abstract_syntaxes=[STUDY_ROOT.get], storage=BOTH, handlers=[(evt.EVT_C_STORE, take)]) as association:
        list(association.send_c_get(STUDY, STUDY_ROOT.get))
    answers, _ = got(filled, STUDY, BOTH, model=STUDY_ROOT.get)
    assert counts(answers[-1][0]) == (0, 8, 0, 0)


def test_get_of_a_blob_that_is_lost(filled: Archive) -> None:
    """One instance that cannot be read fails by itself."""
    with filled.node.database.read() as connection:
        lost = connection.execute(select(INSTANCE.c.blob_id).where(INSTANCE.c.uid == MADE[1].uid)).scalar_one()
    filled.node.blobs.delete(lost)
    answers, stored = got(filled, STUDY, BOTH, model=STUDY_ROOT.get)
    assert counts(answers[-1][0]) == (0xB000, 7, 1, 0)
    assert len(stored) == 7
    assert filled.trail()[-1]["outcome"] == "0"


def test_get_reads_the_next_while_one_is_stored(filled: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    happened: list[str] = []
    payload, answer = Stored.payload, Serving.answer

    def read(self: Stored, instance: StoredInstance, syntax: str) -> Payload:
        happened.append("read")
        return payload(self, instance, syntax)

    def answered(self: Serving, number: int) -> Command:
        happened.append("answer")
        return answer(self, number)

    monkeypatch.setattr(Stored, "payload", read)
    monkeypatch.setattr(Serving, "answer", answered)
    answers, stored = got(filled, STUDY, BOTH, model=STUDY_ROOT.get)
    assert (counts(answers[-1][0]), len(stored)) == ((0, 8, 0, 0), 8)
    assert happened == [*["read"], *["read", "answer"] * 7, "answer"]


def test_get_of_what_ends_in_the_middle(filled: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a Data Set is never followed by anything: the association is aborted, and the port goes on."""

    def stream(*_: object) -> Iterator[bytes]:
        yield bytes(64)
        raise NotFound("the stored bytes end early")

    with monkeypatch.context() as patch:
        patch.setattr(transfer, "WHOLE", 0)
        patch.setattr(type(filled.node.blobs), "stream", stream)
        answers, stored = got(filled, STUDY, BOTH, model=STUDY_ROOT.get)
    assert stored == []
    assert [answer for answer, _ in answers if "Status" in answer] == []
    answers, _ = got(filled, STUDY, BOTH, model=STUDY_ROOT.get)
    assert counts(answers[-1][0]) == (0, 8, 0, 0)


def test_get_of_what_cannot_be_read(filled: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    def unreadable(*_: object) -> bytes:
        raise OSError(EIO, "Input/output error")

    monkeypatch.setattr(Stored, "payload", unreadable)
    answers, stored = got(filled, STUDY, BOTH, model=STUDY_ROOT.get)
    assert (counts(answers[-1][0]), stored) == ((0xA702, 0, 8, 0), [])
    assert answers[-1][0].ErrorComment == "it cannot be read: input/output error"


def test_get_that_fails_otherwise_while_one_is_stored(filled: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer that is on its way is taken before the request is refused, so the association lives on."""
    payload, count = Stored.payload, iter(range(100))

    def failing(self: Stored, instance: StoredInstance, syntax: str) -> Payload:
        if next(count) == 2:
            raise ZeroDivisionError
        return payload(self, instance, syntax)

    with monkeypatch.context() as patch:
        patch.setattr(Stored, "payload", failing)
        answers, stored = got(filled, STUDY, BOTH, model=STUDY_ROOT.get)
    assert len(stored) == 2
    assert answers[-1][0].Status == 0x0110


def test_relational_retrieval(filled: Archive) -> None:
    """PS3.4 section C.5.3.1: with it, the unique keys above the level may be left out."""
    asked = identifier("SERIES", SeriesInstanceUID=MADE[5].series_uid)
    answers, _ = got(filled, asked, BOTH, model=STUDY_ROOT.get)
    assert answers[-1][0].Status == 0xA900
    answers, _ = got(filled, asked, BOTH, model=STUDY_ROOT.get, information=b"\x01")
    assert counts(answers[-1][0]) == (0, 3, 0, 0)


def test_one_patient_id_of_two_authorities(tmp_path: Path) -> None:
    """PS3.3 section C.7.1.1: Issuer of Patient ID, by its OID or its name, says whose of them is meant; without it all are."""
    ours, theirs, named = (Made(study=number, patient="P1") for number in (1, 2, 3))
    dataset = named.dataset()
    dataset.IssuerOfPatientID = "HOSPITAL"
    written = BytesIO()
    dcmwrite(written, dataset, enforce_file_format=True)
    with archive(tmp_path / "data", authorities={"CLINIC": "1.2.3"}) as opened:
        send(opened.node, ours)
        send(opened.node, theirs, authority="1.2.3")
        send(opened.node, written.getvalue())
        publish_all(opened.node)
        for issuer, wanted in (
            ("", {ours.uid, theirs.uid, named.uid}), ("1.2.3", {theirs.uid}), ("CLINIC", {theirs.uid}), ("HOSPITAL", {named.uid}),
            ("ELSEWHERE", set()), (opened.node.installation.patients.oid, {ours.uid}),
        ):  # fmt: skip
            asked = identifier("PATIENT", PatientID="P1", IssuerOfPatientID=issuer)
            answers, stored = got(opened, asked, BOTH, model=PATIENT_ROOT.get)
            assert answers[-1][0].Status == 0
            assert {uid for uid, _, _ in stored} == wanted, issuer
        answers, _ = got(opened, identifier("PATIENT", PatientID="P1", IssuerOfPatientID="C*"), BOTH, model=PATIENT_ROOT.get)
        assert answers[-1][0].Status == 0xA900


def test_a_peer_without_the_permission_is_not_answered(tmp_path: Path) -> None:
    """Not even when it may query and store."""
    devices = ({"ae_title": "SCU", "address": "127.0.0.1", "permissions": ["query", "store"]},)
    with archive(tmp_path / "data", MADE[0], devices=devices) as opened:
        for model in (STUDY_ROOT.move, STUDY_ROOT.get):
            with pytest.raises(AssertionError), associated(opened, abstract_syntaxes=[model]):
                pass


# --- what must be transcoded


def part10(path: str, uid: str) -> bytes:
    """A file of pydicom's, under another UID so that several can be stored."""
    dataset = dcmread(get_testdata_file(path, download=False))
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = uid
    buffer = BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def test_transcoded_where_the_peer_does_not_take_what_is_stored(tmp_path: Path) -> None:
    """JPEG 2000 and RLE arrive uncompressed, big endian little; the pixels are those that pydicom decodes."""
    names = ("MR_small_jp2klossless.dcm", "MR_small_RLE.dcm", "MR_small_bigendian.dcm", "MR_small_implicit.dcm")
    files = {f"2.25.{number}": part10(name, f"2.25.{number}") for number, name in enumerate(names, 1)}
    expected = dcmread(get_testdata_file("MR_small.dcm", download=False)).pixel_array
    study = identifier("STUDY", StudyInstanceUID=str(dcmread(BytesIO(files["2.25.1"])).StudyInstanceUID))
    with archive(tmp_path / "data", *files.values()) as opened:
        answers, stored = got(opened, study, ((MR, [EXPLICIT]),), model=STUDY_ROOT.get)
        assert counts(answers[-1][0]) == (0, 4, 0, 0)
        assert {uid for uid, _, _ in stored} == set(files)
        for _, _, data in stored:
            arrived = read_dataset(BytesIO(data), False, True)
            arrived.file_meta = FileMetaDataset()
            arrived.file_meta.TransferSyntaxUID = UID(EXPLICIT)
            assert np.array_equal(arrived.pixel_array, expected)
        _, stored = got(opened, study, ((MR, [JPEG_2000]),), model=STUDY_ROOT.get)
        assert {syntax for _, syntax, _ in stored} == {JPEG_2000}


@pytest.mark.peers
def test_moved_to_a_peer_that_knows_implicit_only(
    filled: Archive, dcmtk: Callable[[str], Path], free_port: int, tmp_path: Path
) -> None:
    filled.know("DEST", free_port)
    with storescp(dcmtk("storescp"), free_port, tmp_path / "arrived", "+xi", "+B") as folder:
        *_, (final, _) = moved(filled, STUDY, "DEST")
        assert counts(final) == (0, 8, 0, 0)
        files = [dcmread(path) for path in folder.iterdir()]
    assert {str(each.file_meta.TransferSyntaxUID) for each in files} == {IMPLICIT}
    pixels = {each.uid: bytes([each.pixel]) * 16 for each in MADE[:8]}
    assert {str(each.SOPInstanceUID): each.PixelData for each in files} == pixels


# --- Orthanc


@pytest.mark.peers
def test_orthanc_retrieves(filled: Archive, tmp_path: Path) -> None:
    """By C-MOVE to itself."""
    with orthanc(tmp_path / "orthanc", {"us": ("IMAGESHARE", filled.port)}) as peer:
        filled.know("ORTHANC", peer.dicom_port, "query", "retrieve")
        asked = peer.post("/modalities/us/query", {"Level": "Study", "Query": {"StudyInstanceUID": MADE[0].study_uid}})
        peer.post(f"/queries/{asked['ID']}/retrieve", {"TargetAet": "ORTHANC", "Synchronous": True})
        instances = peer.get("/instances?expand")
        assert {each["MainDicomTags"]["SOPInstanceUID"] for each in instances} == {made.uid for made in MADE[:8]}

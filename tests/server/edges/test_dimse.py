"""The DICOM port as devices meet it: real sockets, dcmtk and pynetdicom as SCU, both database engines where rows matter."""

import os
import subprocess
import threading
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import orjson
import pydicom
import pytest
from peers.imageshare import node, publish_all
from peers.scanner import (
    after_head,
    associated,
    instances,
    listening,
    nothing_stored,
    outcomes,
    store,
    store_bytes,
    stored_bytes,
    written,
)
from pydicom import filereader
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from pynetdicom import AE, evt
from pynetdicom.presentation import build_context

from server.edges.dimse.file_meta import part10_head
from server.outbound import cstore
from server.outbound.files import dicom_files
from server.records import catalogue

ON_BOTH_ENGINES = True

SHARED = Path(__file__).resolve().parents[3] / ".." / "shared" / "testdata"


def test_the_head_of_a_stored_file_is_file_meta_information() -> None:
    head = part10_head(CTImageStorage, "1.2.3", ExplicitVRLittleEndian, "SCANNER", "IMAGESHARE")
    read = pydicom.dcmread(BytesIO(head + written(instances()[0])))
    assert read.file_meta.MediaStorageSOPInstanceUID == "1.2.3"
    assert read.file_meta.MediaStorageSOPClassUID == CTImageStorage
    assert read.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
    assert read.file_meta.SourceApplicationEntityTitle == "SCANNER"
    assert read.file_meta.FileMetaInformationVersion == b"\0\1"
    assert after_head(head) == b""


def test_echoscu_is_answered(tmp_path: Path, dcmtk: Callable[[str], Path]) -> None:
    with node(tmp_path / "data") as opened, listening(opened) as scp:
        command = [dcmtk("echoscu"), "-aec", "IMAGESHARE", "127.0.0.1", str(scp.address[1])]
        assert subprocess.run(command, capture_output=True, check=False).returncode == 0


@pytest.mark.parametrize("nodelay", ["0", "1"])
def test_storescu_sends_a_study_that_is_published(
    tmp_path: Path, database_url: str, dcmtk: Callable[[str], Path], nodelay: str
) -> None:
    made = instances(3)
    for number, dataset in enumerate(made):
        dataset.save_as(tmp_path / f"{number}.dcm", enforce_file_format=True)
    with node(tmp_path / "data", database_url) as opened, listening(opened) as scp:
        command = [dcmtk("storescu"), "-aec", "IMAGESHARE", "127.0.0.1", str(scp.address[1]), *sorted(tmp_path.glob("*.dcm"))]
        done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "TCP_NODELAY": nodelay}, check=False)
        assert done.returncode == 0, done.stderr
        publish_all(opened)
        with opened.database.read() as connection:
            found = catalogue.instances(connection, made[0].StudyInstanceUID)
        assert {each.uid for each in found} == {dataset.SOPInstanceUID for dataset in made}
        for dataset in made:
            assert stored_bytes(opened, dataset.SOPInstanceUID) == written(dataset)


def test_the_same_bytes_again_change_nothing(tmp_path: Path, database_url: str) -> None:
    (dataset,) = instances()
    with node(tmp_path / "data", database_url) as opened, listening(opened) as scp:
        assert store(scp, dataset, dataset) == [(0, ""), (0, "")]
        blobs = list(opened.blobs.list())
        assert len(blobs) == 1
        assert store(scp, dataset) == [(0, "")]
        assert list(opened.blobs.list()) == blobs


def test_other_bytes_are_refused_and_the_first_stay(tmp_path: Path, database_url: str) -> None:
    (dataset,) = instances()
    with node(tmp_path / "data", database_url) as opened, listening(opened) as scp:
        assert store(scp, dataset) == [(0, "")]
        first = written(dataset)
        dataset.SeriesDescription = "CHANGED"
        ((status, comment),) = store(scp, dataset)
        assert status == 0x0111
        assert comment == "this SOP Instance UID is stored with other content"
        assert stored_bytes(opened, dataset.SOPInstanceUID) == first
        assert len(list(opened.blobs.list())) == 1
        (refused,) = [orjson.loads(body) for body in outcomes(opened) if b"stored with other content" in body]
        named = [each["what"]["identifier"]["value"] for each in refused["entity"]]
        assert named[:2] == [f"urn:oid:{dataset.StudyInstanceUID}", f"urn:oid:{dataset.SOPInstanceUID}"]
        assert len(named) == 3, "and the request id, which the log has too"
        assert refused["type"]["code"] == "110104"


def test_what_is_no_data_set_is_refused_by_the_uid_of_its_command(tmp_path: Path) -> None:
    with node(tmp_path / "data") as opened, listening(opened) as scp:
        status, _ = store_bytes(scp, "1.2.3.4", b"this is no data set")
        assert status == 0xC000
        (refused,) = map(orjson.loads, outcomes(opened))
        assert refused["entity"][0]["what"]["identifier"] == {"system": "urn:dicom:uid", "value": "urn:oid:1.2.3.4"}


def test_two_devices_send_one_study_at_once(tmp_path: Path, database_url: str) -> None:
    made = instances(6)
    answers: list[list[tuple[int, str]]] = []
    with node(tmp_path / "data", database_url) as opened, listening(opened) as scp:
        order = (made, made[::-1])
        threads = [
            threading.Thread(target=lambda n=n: answers.append(store(scp, *order[n], calling=f"SCANNER{n}"))) for n in range(2)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert answers == [[(0, "")] * 6] * 2
        publish_all(opened)
        with opened.database.read() as connection:
            counts = catalogue.counts(connection)
            assert len(catalogue.instances(connection, made[0].StudyInstanceUID)) == 6
        assert (counts["studies"], counts["instances"]) == (1, 6)
        assert len(list(opened.blobs.list())) == 6 + 1  # and the manifest


def test_a_patient_id_without_issuer_is_of_the_devices_authority(tmp_path: Path, database_url: str) -> None:
    devices = [
        {"ae_title": "SCANNER", "address": "127.0.0.0/8", "assigning_authority": "1.2.3.4.5"},
        {"ae_title": "OTHER", "address": "127.0.0.1"},
    ]
    with node(tmp_path / "data", database_url, devices=devices) as opened, listening(opened) as scp:
        assert store(scp, *instances(IssuerOfPatientID="")) == [(0, "")]
        publish_all(opened)
        with opened.database.read() as connection:
            (row,) = connection.exec_driver_sql("SELECT authority FROM patient").all()
        assert row[0] == "1.2.3.4.5"


@pytest.mark.parametrize(
    ("calling", "called", "address", "reason"),
    [
        ("STRANGER", "IMAGESHARE", "127.0.0.1", 3),
        ("SCANNER", "IMAGESHARE", "192.0.2.0/24", 3),
        ("SCANNER", "SOMEBODY", "127.0.0.1", 7),
    ],
)
def test_strangers_are_rejected_and_recorded(tmp_path: Path, calling: str, called: str, address: str, reason: int) -> None:
    devices = [{"ae_title": "SCANNER", "address": address}]
    with node(tmp_path / "data", devices=devices) as opened, listening(opened) as scp:
        with associated(scp, calling=calling, called=called) as association:
            assert association.is_rejected
            answer = association.acceptor.primitive
            assert (answer.result, answer.result_source, answer.diagnostic) == (1, 1, reason)
        (told,) = outcomes(opened)
        assert calling.encode() in told
        assert b'"outcome":"4"' in told
        assert orjson.loads(told)["entity"][0]["what"]["identifier"]["value"] == called
        assert nothing_stored(opened)


def test_at_most_so_many_associations(tmp_path: Path) -> None:
    with node(tmp_path / "data", max_associations=1) as opened, listening(opened) as scp:
        released = threading.Event()
        with associated(scp) as first:
            assert first.is_established
            with associated(scp) as second:
                assert second.is_rejected
                answer = second.acceptor.primitive
                assert (answer.result, answer.result_source, answer.diagnostic) == (2, 3, 2)
            first.bind(evt.EVT_RELEASED, lambda _: released.set())
        for _ in range(100):
            with associated(scp) as third:
                if third.is_established:
                    break
        assert store(scp, *instances()) == [(0, "")]


def test_contexts(tmp_path: Path) -> None:
    proposed = (
        (CTImageStorage, "1.2.840.10008.1.2.4.90"),  # JPEG 2000
        (CTImageStorage, "1.2.840.10008.1.2.99.99"),  # no transfer syntax
        (CTImageStorage, "1.3.6.1.4.1.5962.999"),  # a private one that nobody knows
        ("1.3.12.2.1107.5.9.1", ExplicitVRLittleEndian),  # a private storage class
        ("1.2.840.10008.5.1.4.1.1.5", ExplicitVRLittleEndian),  # a retired one
        ("1.2.840.10008.5.1.1.9", ExplicitVRLittleEndian),  # printing
        ("1.2.840.10008.5.1.4.38.1", ExplicitVRLittleEndian),  # hanging protocols have no patient
    )
    with node(tmp_path / "data") as opened, listening(opened) as scp, associated(scp, contexts=proposed) as association:
        answers = association.acceptor.primitive.presentation_context_definition_results_list
        assert [each.result for each in sorted(answers, key=lambda each: each.context_id)] == [0, 4, 4, 0, 0, 3, 3]


def test_the_first_transfer_syntax_proposed_is_taken(tmp_path: Path) -> None:
    syntaxes = ["1.2.840.10008.1.2.99.99", "1.2.840.10008.1.2.4.70", "1.2.840.10008.1.2"]
    with node(tmp_path / "data") as opened, listening(opened) as scp:
        contexts = [build_context(CTImageStorage, syntaxes), build_context(CTImageStorage, syntaxes[::-1])]
        association = AE("SCANNER").associate(*scp.address, contexts=contexts, ae_title="IMAGESHARE")
        assert [each.transfer_syntax for each in association.accepted_contexts] == [[syntaxes[1]], [syntaxes[2]]]
        association.release()


def _round_trip(tmp_path: Path, database_url: str, files: list[Path]) -> int:
    """Sends files, asserts that what was stored is what was sent. Returns how many were."""
    same = 0
    with node(tmp_path / "data", database_url) as opened, listening(opened) as scp:
        for sent in cstore.send(files, *scp.address, called="IMAGESHARE", calling="TEST"):
            # Refused, if at all, for a reason of the file: broken, without UIDs, the UID of another file, or not for a study.
            if not sent.ok:
                assert sent.status in (None, 0xC000, 0xA900, 0x0111), sent
                continue
            uid = str(filereader.read_file_meta_info(sent.path).MediaStorageSOPInstanceUID)
            data = after_head(sent.path.read_bytes())
            assert stored_bytes(opened, uid) == data + b"\0" * (len(data) % 2), sent.path.name
            same += 1
        publish_all(opened)
        with opened.database.read() as connection:
            assert (
                catalogue.counts(connection)["instances"]
                == len({blob for blob, _ in opened.blobs.list()}) - catalogue.counts(connection)["studies"]
            )
    return same


def test_pydicoms_own_files_come_out_as_they_went_in(tmp_path: Path, database_url: str) -> None:
    assert _round_trip(tmp_path, database_url, list(dicom_files([Path(pydicom.__file__).parent / "data"]))) > 50


@pytest.mark.skipif(not SHARED.exists(), reason="../shared/testdata is not here")
def test_the_nist_studies_come_out_as_they_went_in(tmp_path: Path, database_url: str) -> None:
    assert _round_trip(tmp_path, database_url, list(dicom_files([SHARED / "nist" / "ImageCache"]))) > 20


def test_logs_hold_no_data_set(tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> None:
    caplog.set_level("DEBUG")
    caplog.set_level("CRITICAL", "pynetdicom")  # the sender, which is in this process too
    with node(tmp_path / "data") as opened, listening(opened) as scp:
        (dataset,) = instances(PatientName="Secret^Name", PatientID="SECRET-4711")
        store(scp, dataset)
        dataset.SeriesDescription = "CHANGED"
        store(scp, dataset)
    printed = "".join(capfd.readouterr()) + caplog.text
    assert "c_store_refused" in printed
    assert dataset.SOPInstanceUID not in printed
    assert "ecret" not in printed
    assert "SECRET" not in printed
    assert dataset.SOPInstanceUID not in printed

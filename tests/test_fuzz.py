"""Mutated input for whatever reads bytes of strangers: no crash, no hang, no growth (half a minute in all; `make test-deep` takes longer)."""

import contextlib
import io
import random
import re
import socket
import struct
from pathlib import Path

import orjson
import pydicom
import pytest
from peers.imageshare import node
from peers.mutations import SECONDS, fuzz, mutated
from peers.scanner import listening, stored_bytes
from peers.scanner import store as storing
from pydicom.data import get_testdata_file

from ihe import dimse
from ihe.dimse import Command, CommandField
from ihe.multipart import MultipartError, PartData, Splitter
from ihe.pdu import AssociateRequest, ProposedContext, ReleaseRequest, encode
from profiles import data_set_writer, dicom_json, dicom_xml, frames, header, part10
from profiles.header import HeaderError, PatientDomains
from profiles.identifiers import AssigningAuthority, InvalidIdentifier
from profiles.phantom import phantom_study
from profiles.scan import HEAD, scan

pytestmark = pytest.mark.timeout(int(SECONDS * 3 + 60))

_DOMAINS = PatientDomains("1.2.3", AssigningAuthority("1.2.3.1"), AssigningAuthority("1.2.3.2"))
_REAL = (
    "CT_small.dcm", "JPEG2000.dcm", "MR_small_RLE.dcm", "rtplan.dcm", "image_dfl.dcm", "ExplVR_BigEnd.dcm", "nested_priv_SQ.dcm",
    "reportsi.dcm", "chrH32.dcm", "JPEG-lossy.dcm",
)  # fmt: skip


@pytest.fixture(scope="module")
def files() -> list[bytes]:
    """Real files of many kinds, small enough to be read often, and a generated CT."""
    found = [Path(str(path)).read_bytes() for name in _REAL if (path := get_testdata_file(name, download=False))]
    buffer = io.BytesIO()
    next(iter(phantom_study(1, 32))).save_as(buffer, enforce_file_format=True)
    return [*found, buffer.getvalue()]


def test_a_data_set_that_is_wounded_is_read_or_refused(files: list[bytes]) -> None:
    def read(data: bytes) -> None:
        file = io.BytesIO(data)
        parsed = part10.parse(file)
        header.extract(parsed.dataset, parsed.transfer_syntax_uid, _DOMAINS)
        dicom_json.metadata(parsed.dataset, lambda path: path)
        frames.table(parsed, file)

    assert fuzz(read, files, (HeaderError, InvalidIdentifier)) > 100


def test_what_the_fast_scan_takes_the_parser_takes_too(files: list[bytes]) -> None:
    def compare(data: bytes) -> None:
        found = scan(data[:HEAD], len(data), lambda offset, count: data[offset : offset + count])
        if found is not None:
            parsed = part10.parse(io.BytesIO(data))
            assert found.transfer_syntax_uid == parsed.transfer_syntax_uid
            ours, theirs = found.dataset(header.TAGS), parsed.dataset
            assert outcome(ours, found.transfer_syntax_uid) == outcome(theirs, parsed.transfer_syntax_uid)

    def outcome(dataset: pydicom.Dataset, syntax: str) -> object:
        try:
            return header.extract(dataset, syntax, _DOMAINS)
        except (HeaderError, InvalidIdentifier) as error:
            return str(error)

    assert fuzz(compare, [data[:HEAD] for data in files], ()) > 100


@pytest.fixture(scope="module")
def models(files: list[bytes]) -> list[dict[str, dict[str, object]]]:
    return [dicom_json.metadata(part10.parse(io.BytesIO(data)).dataset, lambda path: path) for data in files]


def test_a_model_in_json_that_is_wounded_is_written_or_refused(models: list[dict[str, dict[str, object]]]) -> None:
    def write(data: bytes) -> None:
        for found in _objects(orjson.loads(data)):
            assert data_set_writer.size(data_set_writer.encode(found, {})) < 30 * len(data)

    seeds = [orjson.dumps(_without_bulk(model)) for model in models]
    assert fuzz(write, seeds, (orjson.JSONDecodeError, data_set_writer.ModelError), seconds=SECONDS / 2) > 100


def test_a_model_in_xml_that_is_wounded_is_written_or_refused(models: list[dict[str, dict[str, object]]]) -> None:
    def write(data: bytes) -> None:
        found = dicom_xml.parse(data)
        assert data_set_writer.size(data_set_writer.encode(found, {})) < 30 * len(data)
        assert len(orjson.dumps(found)) < 30 * len(data)

    seeds = [dicom_xml.render(_without_bulk(model)) for model in models]
    numbers = [
        re.sub(rb'number="1"', b'number="%d"' % number, seed, count=3) for seed in seeds for number in (9, 99_999, 1 << 20)
    ]
    assert fuzz(write, [*seeds, *numbers], (dicom_xml.DicomXmlError, data_set_writer.ModelError), seconds=SECONDS / 2) > 100


def _without_bulk(model: dict[str, dict[str, object]]) -> dict[str, dict[str, object]]:
    return {tag: attribute for tag, attribute in model.items() if "BulkDataURI" not in attribute}


def _objects(found: object) -> list[dict[str, object]]:
    return [each for each in (found if isinstance(found, list) else [found]) if isinstance(each, dict)]


def test_an_association_that_is_wounded_ends_and_the_next_is_served(tmp_path: Path, files: list[bytes]) -> None:
    """Whole associations, mutated, over real sockets; after them all a device is served and nothing is half stored."""
    ct = next(data for data in files if b"1.2.840.10008.5.1.4.1.1.2\0" in data[:400])
    parsed = pydicom.dcmread(io.BytesIO(ct))
    contexts = (
        ProposedContext(1, "1.2.840.10008.1.1", ("1.2.840.10008.1.2",)),
        ProposedContext(3, parsed.SOPClassUID, (parsed.file_meta.TransferSyntaxUID,)),
        ProposedContext(5, "1.2.840.10008.5.1.4.1.2.2.1", ("1.2.840.10008.1.2.1",)),
    )
    asked = encode(AssociateRequest(called="IMAGESHARE", calling="FUZZ", contexts=contexts))
    store = Command(
        field=CommandField.C_STORE_RQ, message_id=1, priority=0, has_data_set=True, affected_sop_class_uid=parsed.SOPClassUID,
        affected_sop_instance_uid=parsed.SOPInstanceUID,
    )  # fmt: skip
    find = Command(
        field=CommandField.C_FIND_RQ,
        message_id=2,
        priority=0,
        has_data_set=True,
        affected_sop_class_uid=contexts[2].abstract_syntax,
    )
    keys = b"\x08\x00\x52\x00CS\x06\x00STUDY \x10\x00\x10\x00PN\x04\x00FU*\0"
    body = ct[part10.parse(io.BytesIO(ct)).dataset_offset :]
    whole = (
        asked + _p_data(3, 3, dimse.encode(store)) + _p_data(3, 0, body[:4000]) + _p_data(3, 2, body[4000:])
        + _p_data(5, 3, dimse.encode(find)) + _p_data(5, 2, keys) + encode(ReleaseRequest())
    )  # fmt: skip
    with node(tmp_path / "data", association_idle=1, max_associations=4) as opened, listening(opened) as port:

        def send(data: bytes) -> None:
            with socket.create_connection(port.address, 10) as connection, contextlib.suppress(ConnectionError):
                connection.settimeout(10)
                connection.sendall(data)
                connection.shutdown(socket.SHUT_WR)
                while connection.recv(65536):
                    pass

        assert fuzz(send, [whole, whole[len(asked) :], asked], (ConnectionError,), seconds=SECONDS * 2) > 20
        parsed.SOPInstanceUID = parsed.file_meta.MediaStorageSOPInstanceUID = "1.2.826.0.1.3680043.8.498.1"
        assert storing(port, parsed) == [(0, "")]
        assert stored_bytes(opened, parsed.SOPInstanceUID) is not None


def _p_data(context_id: int, control: int, value: bytes) -> bytes:
    return struct.pack(">BxLLBB", 4, len(value) + 6, len(value) + 2, context_id, control) + value


def test_a_multipart_body_that_is_wounded_is_split_or_refused(files: list[bytes]) -> None:
    parts = b"".join(b"\r\n--fuzz\r\nContent-Type: application/dicom\r\n\r\n" + data[:3000] for data in files)
    body = parts[2:] + b"\r\n--fuzz--\r\n"

    def split(data: bytes) -> None:
        splitter = Splitter(b"fuzz")
        size = 0
        for at in range(0, len(data), 1000):
            size += sum(len(event.data) for event in splitter.feed(data[at : at + 1000]) if isinstance(event, PartData))
        splitter.close()
        assert size <= len(data)

    assert fuzz(split, [body], (MultipartError,)) > 100


def test_the_mutations_are_the_same_from_the_same_seed() -> None:
    data = bytes(range(256)) * 4
    one, other = random.Random(3), random.Random(3)
    assert [mutated(data, one) for _ in range(50)] == [mutated(data, other) for _ in range(50)]

"""Mutated input for whatever reads bytes of strangers: no crash, no hang, no growth (60 s in all; `make test-deep` takes longer)."""

import io
from pathlib import Path

import pytest
from peers.mutations import SECONDS, fuzz
from pydicom.data import get_testdata_file

from ihe.multipart import MultipartError, PartData, Splitter
from profiles import dicom_json, frames, header, part10
from profiles.header import HeaderError, PatientDomains
from profiles.identifiers import AssigningAuthority, InvalidIdentifier
from profiles.phantom import phantom_study

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
    import random

    from peers.mutations import mutated

    data = bytes(range(256)) * 4
    one, other = random.Random(3), random.Random(3)
    assert [mutated(data, one) for _ in range(50)] == [mutated(data, other) for _ in range(50)]

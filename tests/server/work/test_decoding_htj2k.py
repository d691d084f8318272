"""Lossy HTJ2K: what the compression overshoots is cut off, not wrapped around."""

from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.encaps import generate_frames

from profiles.part10 import parse
from profiles.pixel_description import described
from server.work.pixels import decoding

FILE = Path(__file__).resolve().parents[3] / ".." / "shared" / "testdata" / "dicom" / "pydicom_data" / "HTJ2K_08_RGB.dcm"


@pytest.mark.skipif(not FILE.exists(), reason="../shared/testdata is not here")
def test_white_stays_white() -> None:
    dataset = dcmread(FILE)
    with FILE.open("rb") as file:
        shape = described(parse(file))
    assert shape is not None
    (frame,) = generate_frames(dataset.PixelData, number_of_frames=1)
    assert np.array_equal(decoding.decode(frame, str(dataset.file_meta.TransferSyntaxUID), shape)[0], dataset.pixel_array)

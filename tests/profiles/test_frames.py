"""`profiles.frames`: every frame's bytes are those that pydicom finds, and a file that lies has no table."""

import io
import struct
import warnings
from array import array
from itertools import pairwise
from pathlib import Path

import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import encaps

from profiles import part10
from profiles.frames import FrameTable, frame_table, media_type, table

SHARED = Path(__file__).resolve().parents[2] / ".." / "shared" / "testdata"
PYDICOM = Path(pydicom.__file__).parent / "data"
OWN = [path for path in sorted(PYDICOM.rglob("*")) if path.is_file() and path.name != "badVR.dcm"]
OTHERS = sorted([*(SHARED / "dicom").rglob("*.dcm"), *(SHARED / "nist" / "ImageCache" / "std").rglob("*.dcm")])


def frames_of_pydicom(path: Path, count: int, encapsulated: bool, length: int) -> list[bytes]:
    dataset = pydicom.dcmread(path)
    if not encapsulated:
        pixels = dataset.get("PixelData") or dataset.get("FloatPixelData") or dataset.get("DoubleFloatPixelData")
        return [pixels[n * length : (n + 1) * length] for n in range(count)]
    extended = None
    if "ExtendedOffsetTable" in dataset:
        extended = (dataset.ExtendedOffsetTable, dataset.ExtendedOffsetTableLengths)
    return list(encaps.generate_frames(dataset.PixelData, number_of_frames=count, extended_offsets=extended))[:count]


def check(path: Path) -> int:
    with path.open("rb") as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            parsed = part10.parse(file)
        except part10.HeaderError:
            return 0
        found = frame_table(file, parsed.dataset_offset)
        if found is None:
            return 0
        assert FrameTable.from_bytes(found.to_bytes()) == found
        expected = frames_of_pydicom(path, found.count, found.encapsulated, found.frame_length)
        assert len(expected) == found.count
        for number, frame in enumerate(expected, 1):
            pieces = []
            for offset, length in found.ranges(number):
                file.seek(offset)
                pieces.append(file.read(length))
            assert b"".join(pieces) == frame, (path.name, number)
        return found.count


def test_the_frames_of_pydicoms_files_are_those_pydicom_finds() -> None:
    assert sum(check(path) for path in OWN) > 150


@pytest.mark.skipif(not SHARED.exists(), reason="../shared/testdata is not here")
def test_the_frames_of_the_shared_corpus_are_those_pydicom_finds() -> None:
    assert sum(check(path) for path in OTHERS) > 400


def element(tag: int, vr: bytes, value: bytes, length: int | None = None) -> bytes:
    if vr in (b"OB", b"OW", b"OV"):
        size = len(value) if length is None else length
        return struct.pack("<HH2s2xI", tag >> 16, tag & 0xFFFF, vr, size) + value
    return struct.pack("<HH2sH", tag >> 16, tag & 0xFFFF, vr, len(value)) + value


def item(value: bytes) -> bytes:
    return struct.pack("<HHI", 0xFFFE, 0xE000, len(value)) + value


END = struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)


def image(
    pixels: bytes, frames: int, *, rows: int = 2, bits: int = 16, syntax: bytes = b"1.2.840.10008.1.2.1\0", before: bytes = b""
) -> io.BytesIO:
    return io.BytesIO(
        bytes(128)
        + b"DICM"
        + element(0x00020010, b"UI", syntax)
        + element(0x00280002, b"US", b"\1\0")
        + element(0x00280008, b"IS", f"{frames:<4}".encode())
        + element(0x00280010, b"US", struct.pack("<H", rows))
        + element(0x00280011, b"US", struct.pack("<H", 3))
        + element(0x00280100, b"US", struct.pack("<H", bits))
        + before
        + pixels
    )


def pieces(file: io.BytesIO) -> list[bytes] | None:
    found = table(part10.parse(file), file)
    if found is None:
        return None
    data = file.getvalue()
    return [b"".join(data[at : at + length] for at, length in found.ranges(n)) for n in range(1, found.count + 1)]


JPEG = b"1.2.840.10008.1.2.4.50"


def test_native_frames_follow_each_other() -> None:
    assert pieces(image(element(0x7FE00010, b"OW", bytes(range(24))), 2)) == [bytes(range(12)), bytes(range(12, 24))]


@pytest.mark.parametrize(
    ("frames", "rows", "bits", "length"),
    [(3, 2, 16, 24), (9999, 65535, 16, 24), (2, 3, 1, 2), (1, 0, 16, 24), (2, 2, 0, 24)],
)
def test_native_frames_that_the_pixel_data_cannot_hold_have_no_table(frames: int, rows: int, bits: int, length: int) -> None:
    assert pieces(image(element(0x7FE00010, b"OW", bytes(length)), frames, rows=rows, bits=bits)) is None


def test_one_bit_frames_have_ranges_where_they_fill_their_bytes() -> None:
    assert pieces(image(element(0x7FE00010, b"OB", b"ab"), 1, rows=3, bits=1)) == [b"ab"]
    assert pieces(image(element(0x7FE00010, b"OB", b"abcdef"), 2, rows=8, bits=1)) == [b"abc", b"def"]


def encapsulated(parts: list[bytes], offsets: list[int], frames: int, syntax: bytes = JPEG, before: bytes = b"") -> io.BytesIO:
    body = item(struct.pack(f"<{len(offsets)}I", *offsets)) + b"".join(map(item, parts)) + END
    return image(element(0x7FE00010, b"OB", body, 0xFFFFFFFF), frames, syntax=syntax, before=before)


PARTS = [b"\xff\xd8\xff1", b"22", b"\xff\xd8\xff3", b"4444"]


@pytest.mark.parametrize(
    ("offsets", "frames", "expected"),
    [
        ([], 1, [PARTS[0] + PARTS[1] + PARTS[2] + PARTS[3]]),
        ([], 4, PARTS),
        ([], 2, [PARTS[0] + PARTS[1], PARTS[2] + PARTS[3]]),
        ([], 3, None),
        ([], 5, None),
        ([0, 22], 2, [PARTS[0] + PARTS[1], PARTS[2] + PARTS[3]]),
        ([0, 12], 2, [PARTS[0], PARTS[1] + PARTS[2] + PARTS[3]]),
        # Offset tables that lie give way to the fragments themselves.
        ([0, 13], 2, [PARTS[0] + PARTS[1], PARTS[2] + PARTS[3]]),
        ([0, 0xFFFFFFF0], 2, [PARTS[0] + PARTS[1], PARTS[2] + PARTS[3]]),
        ([22, 0], 2, [PARTS[0] + PARTS[1], PARTS[2] + PARTS[3]]),
        ([0], 2, [PARTS[0] + PARTS[1], PARTS[2] + PARTS[3]]),
    ],
)
def test_fragments_become_frames(offsets: list[int], frames: int, expected: list[bytes] | None) -> None:
    assert pieces(encapsulated(PARTS, offsets, frames)) == expected


@pytest.mark.parametrize(("offsets", "lengths"), [([0, 12], [3, 2]), ([0, 12], [4, 900]), ([0, 1 << 62], [4, 2]), ([0], [4])])
def test_an_extended_offset_table_is_believed_only_if_true(offsets: list[int], lengths: list[int]) -> None:
    before = element(0x7FE00001, b"OV", struct.pack(f"<{len(offsets)}Q", *offsets))
    before += element(0x7FE00002, b"OV", struct.pack(f"<{len(lengths)}Q", *lengths))
    found = pieces(encapsulated([b"abcd", b"ef"], [], 2, before=before))
    assert found == ([b"abc", b"ef"] if lengths == [3, 2] else [b"abcd", b"ef"])


def test_a_deflated_or_pixelless_file_has_no_table() -> None:
    with (PYDICOM / "test_files" / "image_dfl.dcm").open("rb") as file:
        assert frame_table(file, part10.parse(file).dataset_offset) is None
    with (PYDICOM / "test_files" / "rtplan.dcm").open("rb") as file:
        offset = part10.parse(file).dataset_offset
        assert frame_table(file, offset) is None
        with pytest.raises(ValueError, match="elsewhere"):
            frame_table(file, offset + 2)


@pytest.mark.parametrize("number", [0, -1, 3])
def test_a_frame_that_is_not_there_is_an_index_error(number: int) -> None:
    with pytest.raises(IndexError, match="from 1 to 2"):
        FrameTable(2, 16, 1, 2, 3, 100, 12).ranges(number)


@given(st.lists(st.tuples(st.integers(0, 2**63), st.integers(0, 2**32)), min_size=1, max_size=20), st.data())
def test_a_table_survives_storage(fragments: list[tuple[int, int]], data: st.DataObject) -> None:
    starts = sorted({0, *data.draw(st.lists(st.integers(0, len(fragments) - 1)))})
    one = FrameTable(
        len(starts), 8, 3, 4, 5, fragments=array("Q", [n for pair in fragments for n in pair]), starts=array("I", starts)
    )
    assert FrameTable.from_bytes(one.to_bytes()) == one
    assert [piece for n in range(1, one.count + 1) for piece in one.ranges(n)] == fragments
    assert [len(one.ranges(n)) for n in range(1, one.count)] == [later - earlier for earlier, later in pairwise(starts)]
    two = FrameTable(7, 16, 1, 512, 512, fragments[0][0], fragments[0][1])
    assert FrameTable.from_bytes(two.to_bytes()) == two


@given(st.binary(max_size=80))
def test_what_is_no_table_is_a_value_error(junk: bytes) -> None:
    try:
        found = FrameTable.from_bytes(b"\1" + junk)
    except ValueError:
        return
    assert found.count >= 1
    found.ranges(1)


@pytest.mark.parametrize(
    ("syntax", "expected"),
    [
        ("1.2.840.10008.1.2.1", "application/octet-stream"),
        ("1.2.840.10008.1.2.4.50", "image/jpeg"),
        ("1.2.840.10008.1.2.4.70", "image/jpeg"),
        ("1.2.840.10008.1.2.4.80", "image/jls"),
        ("1.2.840.10008.1.2.4.90", "image/jp2"),
        ("1.2.840.10008.1.2.4.201", "image/jphc"),
        ("1.2.840.10008.1.2.5", "image/dicom-rle"),
        ("1.2.840.10008.1.2.4.102", "video/mp4"),
        ("1.3.6.1.4.1.1", "application/octet-stream"),
    ],
)
def test_media_types_are_those_of_the_standard(syntax: str, expected: str) -> None:
    assert media_type(syntax) == expected

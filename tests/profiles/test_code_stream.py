"""What the head of a compressed frame says; real frames are in tests/server/edges/test_dicomweb_store_metadata.py."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiles.code_stream import describe, pixel_attributes
from profiles.frames import media_type

TYPES = ["image/jpeg", "image/jls", "image/jp2", "image/jphc", "image/dicom-rle", "video/mp4"]


@given(
    st.sampled_from(TYPES),
    st.sampled_from([b"", b"\xff\xd8", b"\xff\x4f\xff\x51", b"\xff\xd8\xff\xc3\x00\x0b"]),
    st.binary(max_size=80),
)
def test_any_bytes_are_of_their_media_type(type_: str, start: bytes, rest: bytes) -> None:
    found = describe(type_, "", start + rest)
    assert found is not None
    assert media_type(found.transfer_syntax_uid) == type_
    for attribute in pixel_attributes(found).values():
        assert attribute["Value"]


def test_a_lossless_jpeg_is_told_by_its_predictor() -> None:
    def frame(predictor: int) -> bytes:
        return bytes.fromhex(f"ffd8 ffc3000b 0c 0010 0020 01 011100 ffda0008 01 0100 {predictor:02x} 00 00")

    one, other = describe("image/jpeg", "", frame(1)), describe("image/jpeg", "", frame(4))
    assert one is not None
    assert other is not None
    assert (one.transfer_syntax_uid[-2:], other.transfer_syntax_uid[-2:]) == ("70", "57")
    assert pixel_attributes(one)["00280010"]["Value"] == [16]
    assert pixel_attributes(one)["00280101"]["Value"] == [12]


def test_a_named_syntax_must_be_of_the_media_type() -> None:
    with pytest.raises(ValueError, match="transfer-syntax"):
        describe("image/jp2", "1.2.840.10008.1.2.4.50", b"")
    assert describe("application/pdf", "", b"") is None

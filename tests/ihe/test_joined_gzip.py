"""`ihe.joined_gzip`: what any gzip reader makes of it."""

import gzip
import shutil
import subprocess
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ihe.joined_gzip import combined, fragment, joined, plain


@given(st.lists(st.lists(st.binary(max_size=300), max_size=3), max_size=5))
def test_joined_fragments_are_one_gzip_file(texts: list[list[bytes]]) -> None:
    parts = [fragment(pieces) for pieces in texts]
    whole = b"[" + b",".join(b"".join(pieces) for pieces in texts) + b"]"
    packed = b"".join(joined(parts))
    assert gzip.decompress(packed) == whole
    reader = zlib.decompressobj(wbits=31)
    assert reader.decompress(packed) == whole
    assert reader.eof
    assert not reader.unused_data, "one member, not several"
    assert [plain(part) for part in parts] == [b"".join(pieces) for pieces in texts]


@given(st.binary(max_size=100), st.integers(0, 100_000))
def test_checksums_are_combined_as_if_read_in_a_row(first: bytes, zeros: int) -> None:
    assert combined(zlib.crc32(first), zlib.crc32(bytes(zeros)), zeros) == zlib.crc32(first + bytes(zeros))


def test_large_texts_are_compressed() -> None:
    text = b'{"00080018":{"vr":"UI","Value":["1.2.3"]}}' * 10_000
    packed = b"".join(joined([fragment([text])] * 3))
    assert gzip.decompress(packed) == b"[" + b",".join([text] * 3) + b"]"
    assert len(packed) < len(text) // 50


@pytest.mark.skipif(shutil.which("gzip") is None, reason="gzip is not installed")
def test_gzip_reads_it() -> None:
    packed = b"".join(joined([fragment([b"a"]), fragment([b"b"])]))
    assert subprocess.run(["gzip", "-dc"], input=packed, capture_output=True, check=True).stdout == b"[a,b]"

"""ZIP archives as other programs read them: Python's `zipfile`, and Info-ZIP's `unzip` where it is installed."""

import io
import os
import shutil
import subprocess
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ihe import zip_stream
from ihe.zip_stream import Member, chunks, content_length

WHEN = (2026, 1, 5, 9, 30, 12)


def body(member: Member) -> Iterator[bytes]:
    data = contents(member)
    return (data[at : at + 7000] for at in range(0, len(data), 7000))


def contents(member: Member) -> bytes:
    return (member.name.encode() * (member.size // len(member.name) + 1))[: member.size]


@given(st.lists(st.tuples(st.integers(0, 30_000), st.booleans()), max_size=6))
def test_others_read_what_was_written(sizes: list[tuple[int, bool]]) -> None:
    members = [Member(f"DICOM/IM{number:06}", size, deflate) for number, (size, deflate) in enumerate(sizes)]
    data = b"".join(chunks(members, body, WHEN))
    length = content_length(members)
    assert length == (None if any(deflate for _, deflate in sizes) else len(data))
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == [member.name for member in members]
        for member in members:
            assert archive.read(member.name) == contents(member)
            assert archive.getinfo(member.name).date_time == WHEN


def test_unzip_finds_no_fault(tmp_path: Path) -> None:
    unzip = shutil.which("unzip")
    if unzip is None:
        pytest.skip("unzip is not installed (Debian: apt-get install unzip)")
    (tmp_path / "a.zip").write_bytes(b"".join(chunks([Member("A/B", 100_000, True), Member("C", 5, False)], body, WHEN)))
    subprocess.run([unzip, "-t", tmp_path / "a.zip"], check=True, capture_output=True)


def test_beyond_four_gigabytes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The limit lowered, so that small files take the form of large ones."""
    monkeypatch.setattr(zip_stream, "_SURELY_SMALL", 1000)
    members = [Member("A", 500, False), Member("B", 5000, False), Member("C", 5000, True)]
    data = b"".join(chunks(members, body, WHEN))
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.testzip() is None
        assert archive.read("C") == contents(members[2])
    stored = members[:2]
    assert content_length(stored) == len(b"".join(chunks(stored, body, WHEN)))


def test_an_archive_of_more_than_four_gigabytes_is_read_by_others(tmp_path: Path) -> None:
    """Sparse: zeros are written as holes, and only the ends are read."""
    block = bytes(1 << 24)
    members = [Member("A", (1 << 32) + 5, False), Member("B", 10, False)]

    def zeros(member: Member) -> Iterator[bytes]:
        left = member.size
        while left:
            yield block[:left]
            left -= min(left, len(block))

    size = 0
    with (tmp_path / "large.zip").open("wb") as file:
        for piece in chunks(members, zeros, WHEN):
            size += len(piece)
            if len(piece) == len(block):
                file.seek(len(piece), os.SEEK_CUR)
            else:
                file.write(piece)
    assert size == content_length(members)
    with zipfile.ZipFile(tmp_path / "large.zip") as archive:
        assert [info.file_size for info in archive.infolist()] == [(1 << 32) + 5, 10]
        assert archive.read("B") == bytes(10)


@pytest.mark.parametrize("deflate", [True, False])
def test_a_file_of_another_length_is_an_error(deflate: bool) -> None:
    with pytest.raises(ValueError, match="long"):
        list(chunks([Member("A", 5, deflate)], lambda _: [b"1234"], WHEN))

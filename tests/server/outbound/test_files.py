"""Which files are sent, and what is told of the others."""

import warnings
from pathlib import Path

import pydicom
import pydicom.data
import pydicom.filereader
import pytest
from hypothesis import given
from hypothesis import strategies as st
from peers.scanner import instances
from peers.xds import SHARED
from pynetdicom.status import GENERAL_STATUS, STORAGE_SERVICE_CLASS_STATUS

from server.outbound.files import NotSendable, dicom_files, outgoing, sorted_out
from server.outbound.statuses import is_warning, meaning, plain


def _folder(tmp_path: Path) -> list[Path]:
    (tmp_path / "b" / "c").mkdir(parents=True)
    made = [tmp_path / "b" / "2", tmp_path / "b" / "c" / "1.dcm", tmp_path / "a.dcm"]
    for path, dataset in zip(made, instances(3), strict=True):
        dataset.save_as(path, enforce_file_format=True)
    (tmp_path / "b" / "notes.txt").write_text("no image")
    (tmp_path / "b" / "short.dcm").write_bytes(b"DICM")
    return made


def test_folders_are_searched_by_content_and_in_order(tmp_path: Path) -> None:
    second, third, first = _folder(tmp_path)
    assert list(dicom_files([tmp_path])) == [first, second, third]


def test_a_file_that_is_named_is_given_whatever_it_is(tmp_path: Path) -> None:
    _folder(tmp_path)
    notes = tmp_path / "b" / "notes.txt"
    assert list(dicom_files([notes])) == [notes]
    files, ((skipped),) = sorted_out([notes, tmp_path / "a.dcm"])
    assert [file.path for file in files] == [tmp_path / "a.dcm"]
    assert (skipped.path, skipped.ok, skipped.size) == (notes, False, 0)
    assert "no preamble" in skipped.reason


def test_a_path_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        list(dicom_files([tmp_path / "nothing"]))


def test_what_the_file_meta_information_says(tmp_path: Path) -> None:
    (dataset,) = instances()
    path = tmp_path / "x"
    dataset.save_as(path, enforce_file_format=True)
    found = outgoing(path)
    assert found.uid == dataset.SOPInstanceUID
    assert found.sop_class == dataset.SOPClassUID
    assert found.transfer_syntax == dataset.file_meta.TransferSyntaxUID
    assert found.size == path.stat().st_size


@pytest.mark.parametrize("content", [b"\0" * 128 + b"DICM", b"\0" * 128 + b"DICM" + b"\x02\x00\x10\x00UI\xff\xff1.2"])
def test_file_meta_information_that_says_nothing(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x"
    path.write_bytes(content)
    with pytest.raises(NotSendable):
        outgoing(path)


def test_statuses_have_words() -> None:
    assert meaning(0xA700).startswith("0xA700 ")
    assert meaning(0xFFF0) == "0xFFF0"


def test_statuses_say_what_pynetdicom_says() -> None:
    for status, (category, words) in {**GENERAL_STATUS, **STORAGE_SERVICE_CLASS_STATUS}.items():
        assert is_warning(status) == (category == "Warning")
        if category == "Failure" and words.split()[0] not in ("Duplication", "No", "Invalid"):
            assert meaning(status) == f"0x{status:04X} {words}"


@given(st.text())
def test_what_a_peer_says_fits_on_one_line(text: str) -> None:
    assert plain(text).isprintable()
    assert len(plain(text)) <= 200


REAL = [*sorted((Path(pydicom.data.__file__).parent / "test_files").rglob("*.dcm")), *sorted(SHARED.rglob("*.dcm"))]


@pytest.mark.parametrize("path", REAL, ids=lambda path: path.name)
def test_real_files_say_what_pydicom_reads(path: Path) -> None:
    """A differential test of the reader for group 0002 alone."""
    with path.open("rb") as file:
        if file.read(132)[128:] != b"DICM":
            pytest.skip("no preamble")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            meta = pydicom.filereader._read_file_meta_info(file)
        offset = file.tell()
    named = [str(meta.get(name, "")) for name in ("MediaStorageSOPClassUID", "MediaStorageSOPInstanceUID", "TransferSyntaxUID")]
    if not all(named):
        with pytest.raises(NotSendable):
            outgoing(path)
        return
    found = outgoing(path)
    assert [found.sop_class, found.uid, found.transfer_syntax, found.dataset_offset] == [*named, offset]

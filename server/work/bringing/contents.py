"""The DICOM instances in what somebody brought in, which may be anything: files one behind the other, ZIP files among them.

What a file is, its content says, never its name, and no name becomes a path. ZIP files are read within limits that hold for all of them together
(APPNOTE.TXT of PKWARE, version 6.3.10): of their directories, of their members, of what is in these, and of what they grow to.
"""

import io
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from struct import pack, unpack
from tempfile import SpooledTemporaryFile
from typing import IO, BinaryIO, Final, Literal, cast

from profiles.dicomdir import MEDIA_STORAGE_DIRECTORY
from server.errors import Refused

LeftOut = Literal["not sent", "not DICOM", "damaged", "encrypted", "nested", "too large"]
"""Why there is nothing to be done with a file: the browser kept it; it is no image; ...; a ZIP file within another."""
BOMB: Final = "what is in the ZIP file is far larger than it may be; bring in the images by themselves"
MANY: Final = "these are more files than are taken at once; bring in fewer"
_PREFIX: Final = 132
_CHUNK: Final = 256 << 10
_IN_MEMORY: Final = 4 << 20
_RATIO: Final = 100
_ALWAYS: Final = 256 << 20
"""Bytes that a ZIP file may grow to however small it is; beyond that, a hundred times its own."""
_MOST_DIRECTORY: Final = 32 << 20
_END: Final = b"PK\x05\x06"
_LOCATOR: Final = b"PK\x06\x07"
_TAIL: Final = 22 + 65_535 + 76
"""Bytes at the end of a ZIP file that may have its end record: with a comment, and the ZIP64 record before."""
_ZIP: Final = (b"PK\x03\x04", _END)
_DIRECTORY: Final = pack("<HH2sH", 2, 2, b"UI", len(MEDIA_STORAGE_DIRECTORY)) + MEDIA_STORAGE_DIRECTORY.encode()
"""Media Storage SOP Class UID (0002,0002) of a DICOMDIR (PS3.10 section 8.6), which is an index and no instance."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Of all together. `instance_bytes` is that of one object."""

    bytes: int
    files: int
    instance_bytes: int


@dataclass(slots=True)
class _Spent:
    limits: Limits
    bytes: int = 0
    files: int = 0

    def file(self) -> None:
        self.files += 1
        if self.files > self.limits.files:
            raise Refused(MANY)


Told = Callable[[int], None]
"""Is told at which byte of the whole the reading is."""


def read(path: Path, sizes: Sequence[int], limits: Limits, told: Told = lambda _: None) -> Iterator[BinaryIO | LeftOut]:
    """Each instance as a file to read, which is closed at the next step, or why one is left out. DICOMDIR and folders are neither.

    Raises `Refused` for what is beyond the limits: nothing of it is to be taken then.
    """
    spent, at = _Spent(limits), 0
    with path.open("rb") as whole:
        for size in sizes:
            told(at)
            spent.file()
            with io.BufferedReader(_Part(whole, at, size), _CHUNK) as file:
                head = file.read(_PREFIX)
                file.seek(0)
                if head.startswith(_ZIP):
                    yield from _unzipped(file, size, spent, lambda within, begin=at: told(begin + within))  # type: ignore[misc, arg-type]
                else:
                    yield from _looked(cast("BinaryIO", file), head)
            at += size
        told(at)


def _looked(file: BinaryIO, head: bytes) -> Iterator[BinaryIO | LeftOut]:
    if head[128:] != b"DICM":
        yield "not DICOM"
        return
    begin = file.read(1024)
    file.seek(0)
    if _DIRECTORY not in begin:
        yield file


def _unzipped(file: io.BufferedReader, size: int, spent: _Spent, told: Told) -> Iterator[BinaryIO | LeftOut]:
    if not _has_small_directory(file, size):
        raise Refused(BOMB)
    try:
        archive = zipfile.ZipFile(file)
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OSError, EOFError):
        yield "damaged"
        return
    most = max(_ALWAYS, _RATIO * size) + spent.bytes
    with archive:
        for member in archive.infolist():
            if member.is_dir():
                continue
            spent.file()
            told(min(member.header_offset, size))
            if member.flag_bits & 1:
                yield "encrypted"
                continue
            with SpooledTemporaryFile(_IN_MEMORY) as inflated:
                problem = _inflate(archive, member, inflated, spent, most)
                if problem is not None:
                    yield problem
                    continue
                head = inflated.read(_PREFIX)
                inflated.seek(0)
                yield from _looked(cast("BinaryIO", inflated), head)


def _inflate(archive: zipfile.ZipFile, member: zipfile.ZipInfo, to: IO[bytes], spent: _Spent, most: int) -> LeftOut | None:
    """The member's bytes, if it is one to be looked at. What it grows to is counted as it grows: its directory may say anything."""
    try:
        with archive.open(member) as packed:
            head = packed.read(_PREFIX)
            if head.startswith(_ZIP):
                return "nested"
            to.write(head)
            spent.bytes += len(head)
            size = len(head)
            while head[128:] == b"DICM" and (data := packed.read(_CHUNK)):
                size += len(data)
                spent.bytes += len(data)
                if spent.bytes > min(most, spent.limits.bytes):
                    raise Refused(BOMB)
                if size > spent.limits.instance_bytes:
                    return "too large"
                to.write(data)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, OSError, ValueError):
        return "damaged"
    to.seek(0)
    return None


def _has_small_directory(file: BinaryIO, size: int) -> bool:
    """APPNOTE.TXT sections 4.3.14 to 4.3.16: whether the central directory, which is read into memory, is of a reasonable size.

    Whatever could be taken for its end record counts. One that has none is found to be damaged later.
    """
    file.seek(max(0, size - _TAIL))
    tail = file.read()
    file.seek(0)
    at = tail.find(_END)
    while 0 <= at <= len(tail) - 22:
        (length,) = unpack("<I", tail[at + 12 : at + 16])
        if tail[:at][-20:].startswith(_LOCATOR):
            record = tail[:at][-76:-20]
            (length,) = unpack("<Q", record[40:48]) if len(record) == 56 else (1 << 64,)
        if length > _MOST_DIRECTORY:
            return False
        at = tail.find(_END, at + 1)
    return True


class _Part(io.RawIOBase):
    """The bytes of one file among those that lie one behind the other."""

    def __init__(self, whole: BinaryIO, begin: int, size: int) -> None:
        super().__init__()
        self._whole, self._begin, self._size, self._at = whole, begin, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        if base + offset < 0:
            raise ValueError("before the beginning")
        self._at = base + offset
        return self._at

    def readinto(self, buffer: "memoryview") -> int:  # type: ignore[override]
        count = max(0, min(len(buffer), self._size - self._at))
        self._whole.seek(self._begin + self._at)
        read = self._whole.readinto(memoryview(buffer)[:count]) if count else 0  # type: ignore[attr-defined]
        self._at += read
        return int(read)

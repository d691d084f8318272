"""Importing what lies on a disk: folders of DICOM files, ZIP files, and the storage folder of an Orthanc.

What a file is, its content says, never its name: a Part 10 file is taken as it is, an attachment that Orthanc compressed (its size as
eight bytes, then zlib) is inflated, a ZIP file is looked into, all else (thumbnails, JSON, DICOMDIR) is passed over. Everything goes
through `work.ingest`, so what is there already changes nothing and an import that was cut off is simply run again.
"""

import os
import sqlite3
import threading
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from struct import pack, unpack
from tempfile import SpooledTemporaryFile
from typing import IO, BinaryIO, Final, TypeVar, cast

from profiles import header, part10
from profiles.audit_event import INSTANCES_TRANSFERRED
from profiles.dicomdir import MEDIA_STORAGE_DIRECTORY
from profiles.identifiers import InvalidIdentifier
from server.errors import ImageShareError, MalformedInstance, SettingsError, StorageFull, TooLarge
from server.store import blobs as blob_store
from server.work.ingest import Ingest, Pending, Sender

SENDER: Final = "import"
_T = TypeVar("_T")
_TOGETHER: Final = 32
_IN_MEMORY: Final = 1 << 20
_EXAMPLES: Final = 3
_PREFIX: Final = 132
_ROWS: Final = 0x00280010
_DIRECTORY: Final = pack("<HH2sH", 2, 2, b"UI", len(MEDIA_STORAGE_DIRECTORY)) + MEDIA_STORAGE_DIRECTORY.encode()
"""Media Storage SOP Class UID (0002,0002) of a DICOMDIR, as it stands in the File Meta Information."""


@dataclass(slots=True)
class Report:
    """How an import went. `refused` counts by reason, `examples` has some files of each."""

    stored: int = 0
    known: int = 0
    passed_over: int = 0
    bytes: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=dict)
    studies: set[str] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def took(self, study_uid: str, size: int, *, new: bool) -> None:
        with self._lock:
            self.studies.add(study_uid)
            self.stored += new
            self.known += not new
            self.bytes += size if new else 0

    def refuse(self, name: str, reason: str) -> None:
        with self._lock:
            self.refused[reason] += 1
            shown = self.examples.setdefault(reason, [])
            if len(shown) < _EXAMPLES:
                shown.append(name)

    def pass_over(self) -> None:
        with self._lock:
            self.passed_over += 1


def listed(paths: Iterable[Path]) -> list[Path]:
    """Every file under `paths`, in order of name, but for what an Orthanc's index says is no whole instance.

    Raises `SettingsError` for a path that is not there.
    """
    found: list[Path] = []
    for path in paths:
        if not path.exists():
            raise SettingsError(f"there is no {path}")
        if not path.is_dir():
            found.append(path)
            continue
        for folder, folders, names in os.walk(path):
            folders.sort()
            found += [Path(folder) / name for name in sorted(names)]
    extra = {uuid for path in found if path.name == "index" for uuid in _extra_attachments(path)}
    return [path for path in found if path.name not in extra]


def _extra_attachments(index: Path) -> list[str]:
    """Names of the attachments of an Orthanc that are no DICOM instance: JSON, and headers cut off before the pixels."""
    try:
        with closing(sqlite3.connect(f"{index.absolute().as_uri()}?mode=ro", uri=True)) as connection:
            return [uuid for (uuid,) in connection.execute("SELECT uuid FROM AttachedFiles WHERE fileType <> 1")]
    except sqlite3.Error:
        return []


class Importer:
    """Imports into one installation. `authority` is the OID that assigns the patient ids of files that name no issuer."""

    def __init__(self, ingest: Ingest, *, authority: str | None = None, readers: int = 4, dry_run: bool = False) -> None:
        self._ingest = ingest
        self._sender = Sender(INSTANCES_TRANSFERRED, SENDER, "", authority)
        self._domains = ingest.installation.domains(ingest.settings, authority)
        self._readers = readers
        self._dry_run = dry_run

    def run(self, files: Iterable[Path], done: Callable[[int], None] = lambda _: None) -> Report:
        """Imports `files`, several at once; `done` is told how many more are through. Raises `StorageFull`, and what the store raises."""
        report = Report()

        def some(paths: list[Path]) -> int:
            self._some(paths, report)
            return len(paths)

        with ThreadPoolExecutor(self._readers, thread_name_prefix="import") as pool:
            for count in _bounded(pool, some, _portions(files), 2 * self._readers):
                done(count)
        return report

    def _some(self, paths: list[Path], report: Report) -> None:
        """One batch: a folder in the blob store, and one commit for all that it holds."""
        batch = self._ingest.batch(self._sender)
        pending: list[tuple[str, int, Pending]] = []
        for path in paths:
            try:
                for name, file in _instances(path, self._ingest.settings.max_instance_bytes):
                    if self._dry_run:
                        self._look(name, file, report)
                        continue
                    writer = batch.receive()
                    try:
                        while data := file.read(blob_store.CHUNK):
                            writer.write(data)
                        size = writer.size
                    except BaseException:
                        writer.abort()
                        raise
                    pending.append((name, size, batch.submit(writer)))
                    if len(pending) >= _TOGETHER:
                        _settle(pending, report)
            except _NotDicom:
                report.pass_over()
            except StorageFull:
                _settle(pending, report)
                raise
            except ImageShareError as error:
                report.refuse(str(path), error.detail)
            except (OSError, zipfile.BadZipFile, zlib.error, RuntimeError, NotImplementedError) as error:
                report.refuse(str(path), f"the file cannot be read: {type(error).__name__}")
        _settle(pending, report)

    def _look(self, name: str, file: IO[bytes], report: Report) -> None:
        """What would become of it, as far as the file itself decides."""
        try:
            dataset, syntax, _ = header.read(cast("BinaryIO", file))
            study = header.extract(dataset, syntax, self._domains)
        except (header.HeaderError, InvalidIdentifier) as error:
            report.refuse(name, str(error))
            return
        report.took(study.study_instance_uid, file.seek(0, os.SEEK_END), new=True)


class _NotDicom(Exception):
    """A file that is none of ours."""


def _settle(pending: list[tuple[str, int, Pending]], report: Report) -> None:
    for name, size, one in pending:
        try:
            receipt = one.receipt()
            report.took(receipt.study_instance_uid, size, new=receipt.new)
        except StorageFull:
            raise
        except ImageShareError as error:
            report.refuse(name, error.detail)
    pending.clear()


def _instances(path: Path, limit: int) -> Iterator[tuple[str, IO[bytes]]]:
    """The DICOM instances in a file, each with a name for people. Raises `_NotDicom` where there is none."""
    with path.open("rb") as file:
        head = file.read(_PREFIX)
        file.seek(0)
        if head.startswith(b"PK\x03\x04") and zipfile.is_zipfile(file):
            yield from _unzipped(path, file, limit)
        elif head[128:] == b"DICM":
            yield str(path), _no_directory(file)
        elif (inflated := _inflated(file, head, limit)) is not None:
            with inflated:
                yield str(path), _no_directory(inflated)
        else:
            raise _NotDicom


def _unzipped(path: Path, file: BinaryIO, limit: int) -> Iterator[tuple[str, IO[bytes]]]:
    found = False
    with zipfile.ZipFile(file) as archive:
        for member in archive.infolist():
            if member.is_dir():
                continue
            with archive.open(member) as packed, SpooledTemporaryFile(_IN_MEMORY) as whole:
                if packed.read(_PREFIX)[128:] != b"DICM":
                    continue
                packed.seek(0)
                _copy(iter(lambda: packed.read(blob_store.CHUNK), b""), whole, limit)
                try:
                    yield f"{path}!{member.filename}", _no_directory(whole)
                except _NotDicom:
                    continue
                found = True
    if not found:
        raise _NotDicom


def _inflated(file: BinaryIO, head: bytes, limit: int) -> IO[bytes] | None:
    """An attachment of an Orthanc with StorageCompression: 8 bytes of little-endian size, then zlib. None for all else."""
    if len(head) < 16 or head[8] & 0x0F != 8 or (head[8] << 8 | head[9]) % 31:
        return None
    (size,) = unpack("<Q", head[:8])
    if size < _PREFIX:
        return None
    inflate = zlib.decompressobj()
    try:
        if inflate.decompress(head[8:], _PREFIX)[:_PREFIX][128:] not in (b"DICM", b""):
            return None
    except zlib.error:
        return None
    if size > limit:
        raise TooLarge(f"one object may have at most {limit} bytes here")
    whole: IO[bytes] = SpooledTemporaryFile(_IN_MEMORY)  # noqa: SIM115 who asked closes it
    try:
        file.seek(8)
        _copy(_pieces(file), whole, size)
        if whole.read(_PREFIX)[128:] != b"DICM":
            whole.close()
            return None
        if whole.seek(0, os.SEEK_END) != size:
            raise MalformedInstance("the compressed attachment does not have the size that it names")
        _whole(whole)
    except BaseException:
        whole.close()
        raise
    whole.seek(0)
    return whole


def _whole(file: IO[bytes]) -> None:
    """Orthanc keeps the header of a compressed instance once more by itself. Raises `MalformedInstance` for one: its image is elsewhere."""
    try:
        parsed = part10.parse(cast("BinaryIO", file))
    except part10.HeaderError:
        return  # which is told when it is stored
    if parsed.pixels is None and _ROWS in parsed.dataset:
        raise MalformedInstance("a header without its pixels; Orthanc's own index, which would tell, is not beside it")


def _pieces(file: BinaryIO) -> Iterator[bytes]:
    inflate = zlib.decompressobj()
    while not inflate.eof:
        data = inflate.unconsumed_tail or file.read(blob_store.CHUNK)
        if not data:
            raise MalformedInstance("the compressed attachment ends early")
        yield inflate.decompress(data, blob_store.CHUNK)


def _copy(pieces: Iterable[bytes], to: IO[bytes], limit: int) -> None:
    size = 0
    for piece in pieces:
        size += len(piece)
        if size > limit:
            raise TooLarge(f"one object may have at most {limit} bytes here")
        to.write(piece)
    to.seek(0)


def _no_directory(file: IO[bytes]) -> IO[bytes]:
    """PS3.10 section 8.6: a DICOMDIR is the index of a medium, no instance. Raises `_NotDicom` for one."""
    head = file.read(1024)
    file.seek(0)
    if _DIRECTORY in head:
        raise _NotDicom
    return file


def _portions(files: Iterable[Path]) -> Iterator[list[Path]]:
    remaining = iter(files)
    while some := list(islice(remaining, _TOGETHER)):
        yield some


def _bounded(
    pool: ThreadPoolExecutor, work: Callable[[list[Path]], _T], portions: Iterator[list[Path]], most: int
) -> Iterator[_T]:
    """Results in order, with at most `most` portions under way; the first error ends it."""
    waiting = [pool.submit(work, portion) for portion in islice(portions, most)]
    try:
        while waiting:
            yield waiting.pop(0).result()
            waiting += [pool.submit(work, portion) for portion in islice(portions, 1)]
    finally:
        for future in waiting:
            future.cancel()

"""Write-once blobs: a folder now, an S3 bucket behind the same six methods later.

A blob's id is `<batch>/<random>`: a batch is one association or one request, and all of its blobs share a folder, because
a new folder per file costs more than the file. A writer hashes as it writes; `commit` returns when the bytes and the
folder entry are on the disk. A blob exists for others once a row names it; what no row names is swept.
"""

import contextlib
import errno
import hashlib
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, Protocol

from server.errors import NotFound, SettingsError, StorageFull, TooLarge, Unavailable

CHUNK = 1 << 18
_ID = re.compile(r"\d{4}/\d\d/\d\d/[0-9a-f]{16}/[0-9a-f]{16}(\.part)?")
_OWNER = ".imageshare"
_ASIDE = "quarantine"
_CHECK_EVERY = 32 << 20


@dataclass(frozen=True, slots=True)
class Blob:
    """What `commit` hands back: `sha256` is the raw digest of all bytes."""

    id: str
    size: int
    sha256: bytes


class Writer(Protocol):
    """One blob in the making. Exactly one of `commit` and `abort` ends it; both may be called again without effect."""

    size: int

    def write(self, data: bytes | bytearray | memoryview) -> None: ...
    def reader(self) -> BinaryIO: ...
    def commit(self) -> Blob: ...
    def abort(self) -> None: ...


class BlobStore(Protocol):
    """The six methods. All raise `NotFound` for an id that is not there, `StorageFull` when there is no room."""

    def create(self, batch: str) -> Writer: ...
    def open(self, blob_id: str) -> BinaryIO: ...
    def stream(self, blob_id: str, offset: int = 0, length: int | None = None) -> Iterator[bytes]: ...
    def size(self, blob_id: str) -> int: ...
    def delete(self, blob_id: str, *, aside: bool = False) -> None: ...
    def list(self) -> Iterator[tuple[str, float]]: ...


def batch() -> str:
    """A name for a new batch: the day, so that people find their way, and a random part."""
    return f"{datetime.now(UTC):%Y/%m/%d}/{secrets.token_hex(8)}"


class FolderBlobs:
    """Blobs as files under `root`. `limit` caps one blob, `reserve` is the free space below which nothing is taken."""

    def __init__(self, root: Path, *, limit: int = 8 << 30, reserve: int = 0) -> None:
        self.root = root
        self.limit = limit
        self.reserve = reserve
        try:
            root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SettingsError(f"the blob folder {root} cannot be used: {error.strerror}") from None

    def own(self, owner: str) -> None:
        """Marks the folder as that of installation `owner`, an OID.

        Raises `SettingsError` for the folder of another installation, and for one that holds anything else: what no row names is
        swept, so a folder must be ours before anything in it is looked at.
        """
        try:
            found = self._marked(owner)
        except OSError as error:
            raise SettingsError(f"the blob folder {self.root} cannot be used: {error.strerror}") from None
        if found != owner:
            raise SettingsError(f"the blob folder {self.root} belongs to another installation than this database")

    @property
    def marker(self) -> Path:
        """The file that says whose the folder is; who uses the folder holds a lock on it."""
        return self.root / _OWNER

    def _marked(self, owner: str) -> str:
        """What the marker says; makes it in an empty folder, whole or not at all. An empty one is what a full disk or a power cut left."""
        if not self.marker.exists() and any(
            not path.name.startswith(_OWNER) for path in self.root.iterdir() if path.name != "lost+found"
        ):
            raise SettingsError(f"the blob folder {self.root} is not empty and not an imageshare blob folder; name another")
        if not (self.marker.exists() and self.marker.read_text().strip()):
            made = self.root / f"{_OWNER}.{secrets.token_hex(8)}"
            with made.open("x") as file:
                file.write(f"{owner}\n")
                file.flush()
                os.fsync(file.fileno())
            if self.marker.exists():
                made.replace(self.marker)
            else:
                with contextlib.suppress(FileExistsError):  # somebody else was first
                    os.link(made, self.marker)
                made.unlink()
            _sync_folder(self.root)
        return self.marker.read_text().strip()

    def create(self, batch: str) -> "FolderWriter":
        self.check_room()
        folder = self._path(batch)
        try:
            if not folder.exists():
                folder.mkdir(parents=True, exist_ok=True)
                for parent in folder.relative_to(self.root).parents:
                    _sync_folder(self.root / parent)
            return FolderWriter(self, f"{batch}/{secrets.token_hex(8)}")
        except OSError as error:
            raise _told(error) from error

    def open(self, blob_id: str) -> BinaryIO:
        try:
            return self._path(blob_id).open("rb")
        except FileNotFoundError:
            raise NotFound("the stored bytes are missing") from None

    def stream(self, blob_id: str, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        """`length` bytes from `offset` (to the end without it) in chunks of 256 KiB."""
        with self.open(blob_id) as file:
            file.seek(offset)
            left = length if length is not None else self.size(blob_id) - offset
            while left > 0:
                data = file.read(min(CHUNK, left))
                if not data:
                    raise NotFound("the stored bytes end early")
                left -= len(data)
                yield data

    def size(self, blob_id: str) -> int:
        try:
            return self._path(blob_id).stat().st_size
        except FileNotFoundError:
            raise NotFound("the stored bytes are missing") from None

    def delete(self, blob_id: str, *, aside: bool = False) -> None:
        """Removes the file, or moves it `aside` into the folder `quarantine`, where nothing looks for it."""
        path = self._path(blob_id)
        if aside:
            (self.root / _ASIDE).mkdir(exist_ok=True)
            with contextlib.suppress(FileNotFoundError):
                path.rename(self.root / _ASIDE / blob_id.replace("/", "-"))
        else:
            path.unlink(missing_ok=True)
        self._drop_empty(path.parent)

    def list(self) -> Iterator[tuple[str, float]]:
        """Every blob with its modification time, unfinished ones (`.part`) too; other files are none of ours."""
        for folder, _, names in os.walk(self.root):
            for name in names:
                path = Path(folder) / name
                blob_id = path.relative_to(self.root).as_posix()
                if not _ID.fullmatch(blob_id):
                    continue
                try:
                    yield blob_id, path.stat().st_mtime
                except FileNotFoundError:
                    continue

    def check_room(self) -> None:
        if self.reserve and shutil.disk_usage(self.root).free < self.reserve:
            raise StorageFull("the server has no room left; try again later")

    def _path(self, blob_id: str) -> Path:
        path = self.root / blob_id
        if ".." in blob_id or not path.is_relative_to(self.root):
            raise NotFound("no such blob")
        return path

    def _drop_empty(self, folder: Path) -> None:
        try:
            folder.rmdir()
        except OSError:
            return


class FolderWriter:
    """Writes `<id>.part`, renames it to `<id>` when it is whole and synced."""

    def __init__(self, store: FolderBlobs, blob_id: str) -> None:
        self._store = store
        self._id = blob_id
        self._final = store._path(blob_id)
        self._part = self._final.with_suffix(".part")
        self._file: BinaryIO | None = self._part.open("x+b", buffering=0)
        self._digest = hashlib.sha256()
        self._next_check = _CHECK_EVERY
        self._aborted = False
        self.size = 0

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Appends. Raises `TooLarge` beyond the store's limit, `StorageFull`; the blob is gone then."""
        if self._file is None:
            raise ValueError("this blob is finished")
        try:
            if self.size + len(data) > self._store.limit:
                raise TooLarge(f"one object may have at most {self._store.limit} bytes here")
            view = memoryview(data)
            while view:
                view = view[self._file.write(view) :]
            self.size += len(data)
            if self.size >= self._next_check:
                self._next_check = self.size + _CHECK_EVERY
                self._store.check_room()
        except OSError as error:
            self.abort()
            raise _told(error) from error
        except (TooLarge, StorageFull):
            self.abort()
            raise
        self._digest.update(data)

    def reader(self) -> BinaryIO:
        """The bytes so far, from the start."""
        return self._part.open("rb")

    def commit(self) -> Blob:
        if self._aborted:
            raise ValueError("this blob was given up")
        if self._file is not None:
            try:
                os.fdatasync(self._file.fileno())
                self._file.close()
                self._part.rename(self._final)
                _sync_folder(self._final.parent)
            except OSError as error:
                self.abort()
                self._final.unlink(missing_ok=True)  # renamed already, if only the folder could not be synced
                raise _told(error) from error
            self._file = None
        return Blob(self._id, self.size, self._digest.digest())

    def abort(self) -> None:
        if self._file is not None:
            self._aborted = True
            self._file.close()
            self._file = None
            self._part.unlink(missing_ok=True)
            self._store._drop_empty(self._part.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _told(error: OSError) -> Exception:
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return StorageFull("the server has no room left; try again later")
    return Unavailable("the server's storage cannot be written; try again later")

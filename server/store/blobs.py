"""Write-once blobs: a folder now, an S3 bucket behind the same methods later.

A blob's id is `<batch>/<random>`: a batch is one association or one request, and all of its blobs share a folder, because
a new folder per file costs more than the file. `commit` returns when the bytes and the folder entries of all that were handed
to it are on the disk. A blob exists for others once a row names it; what no row names is swept.
"""

import contextlib
import errno
import hashlib
import os
import re
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, Protocol

from server.errors import NotFound, SettingsError, StorageFull, TooLarge, Unavailable
from server.store.room import Room

CHUNK = 1 << 18
HEAD = 64 << 10
"""How much of its beginning a writer keeps at hand."""

_ID = re.compile(r"\d{4}/\d\d/\d\d/[0-9a-f]{16}/[0-9a-f]{16}(\.part)?")
_OWNER = ".imageshare"
_ASIDE = "quarantine"
_CHECK_EVERY = 32 << 20
_AHEAD = 4
"""Blobs that the disk is read ahead by."""


@dataclass(frozen=True, slots=True)
class Blob:
    """What `commit` hands back: `sha256` is the raw digest of all bytes, None where it is left to be made later."""

    id: str
    size: int
    sha256: bytes | None


@dataclass(frozen=True, slots=True)
class Extent:
    """`count` bytes from `offset` of an open file, not read yet: the kernel sends them without anybody having read them.

    `file` is a descriptor; who made the extent closes it.
    """

    file: int
    offset: int
    count: int

    def __len__(self) -> int:
        return self.count

    def read(self) -> Iterator[bytes]:
        """The bytes, in chunks of 256 KiB. Raises `NotFound` where the file has become shorter."""
        at, end = self.offset, self.offset + self.count
        while at < end:
            data = os.pread(self.file, min(CHUNK, end - at), at)
            if not data:
                raise NotFound("the stored bytes end early")
            at += len(data)
            yield data


class Writer(Protocol):
    """One blob in the making. Exactly one of `commit` and `abort` ends it; both may be called again without effect.

    `head` is the first `HEAD` bytes of what was written, or all of it. `sync` makes the bytes durable ahead of the commit, so that
    several threads can wait for the disk at once; nothing can be written afterwards.
    """

    size: int

    @property
    def head(self) -> bytes: ...
    def write(self, data: bytes | bytearray | memoryview) -> None: ...
    def read(self, offset: int, count: int) -> bytes: ...
    def reader(self) -> BinaryIO: ...
    def sync(self) -> None: ...
    def commit(self) -> Blob: ...
    def abort(self) -> None: ...


class BlobStore(Protocol):
    """All raise `NotFound` for an id that is not there, `StorageFull` when there is no room."""

    def create(self, batch: str, *, hashed: bool = True) -> Writer: ...
    def commit(self, writers: Sequence[Writer]) -> "list[Blob | Exception]": ...
    def open(self, blob_id: str) -> BinaryIO: ...
    def extent(self, blob_id: str, offset: int = 0, length: int | None = None) -> Iterator[Extent]: ...
    def expect(self, blob_id: str) -> None: ...
    def stream(self, blob_id: str, offset: int = 0, length: int | None = None) -> Iterator[bytes]: ...
    def size(self, blob_id: str) -> int: ...
    def delete(self, blob_id: str, *, aside: bool = False) -> None: ...
    def list(self) -> Iterator[tuple[str, float]]: ...


def batch() -> str:
    """A name for a new batch: the day, so that people find their way, and a random part."""
    return f"{datetime.now(UTC):%Y/%m/%d}/{secrets.token_hex(8)}"


def digest(blobs: BlobStore, blob_id: str) -> bytes:
    """The raw SHA-256 of a stored blob, read piece by piece."""
    return digests(blobs, blob_id)[0]


def digests(blobs: BlobStore, blob_id: str) -> tuple[bytes, str]:
    """The raw SHA-256 of a stored blob, and its SHA-1 in hex as XDS has it, read once."""
    sha256, sha1 = hashlib.sha256(), hashlib.sha1(usedforsecurity=False)
    for chunk in blobs.stream(blob_id):
        sha256.update(chunk)
        sha1.update(chunk)
    return sha256.digest(), sha1.hexdigest()


class Ahead:
    """Blobs that are sent one after the other: each `step`, when the next one's turn comes, has another begun to be read.

    A study of thousands of files comes as fast from a cold disk as one file of its size.
    """

    def __init__(self, blobs: BlobStore, blob_ids: Sequence[str]) -> None:
        self._blobs, self._following = blobs, iter(blob_ids[_AHEAD:])

    def step(self) -> None:
        if (soon := next(self._following, None)) is not None:
            self._blobs.expect(soon)


class FolderBlobs:
    """Blobs as files under `root`. `limit` caps one blob, `reserve` is the free space below which nothing is taken.

    Not `durable`, nothing waits for the disk: what was committed may be lost when the machine dies.
    """

    def __init__(self, root: Path, *, limit: int = 8 << 30, reserve: int = 0, durable: bool = True) -> None:
        self.root = root
        self._prefix = f"{root}{os.sep}"
        self.durable = durable
        self.limit = limit
        self.reserve = reserve
        self._room = Room(root)
        self._last = "", ""
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

    def create(self, batch: str, *, hashed: bool = True) -> "FolderWriter":
        """A writer for a new blob. `hashed`: whether its SHA-256 is made on the way, or left to be made later."""
        self.check_room()
        try:
            for _ in range(3):
                with contextlib.suppress(FileNotFoundError):  # not there yet, or just dropped because it was empty
                    return FolderWriter(self, batch, hashed=hashed)
                folder = self._path(batch)
                folder.mkdir(parents=True, exist_ok=True)
                for parent in folder.relative_to(self.root).parents if self.durable else ():
                    _sync_folder(self.root / parent)
        except OSError as error:
            raise _told(error) from error
        raise Unavailable("the server's storage cannot be written; try again later")

    def commit(self, writers: Sequence[Writer]) -> "list[Blob | Exception]":
        """Makes several blobs durable with one look at each folder. What went wrong stands in a blob's place; it is gone then.

        The order that a power cut asks for: the bytes, then the names, then the folders' entries.
        """
        ours = [writer for writer in writers if isinstance(writer, FolderWriter)]
        errors: dict[FolderWriter, Exception] = {}
        folders: dict[str, list[FolderWriter]] = {}
        for writer in ours:
            try:
                if writer.name():
                    folders.setdefault(writer.folder, []).append(writer)
            except (StorageFull, Unavailable) as error:
                errors[writer] = error
        for folder, named in folders.items() if self.durable else ():
            try:
                _sync_folder(Path(folder))
            except OSError as error:
                for writer in named:
                    writer.lose()
                    errors[writer] = _told(error)
        return [errors.get(writer) or writer.blob for writer in ours]

    def open(self, blob_id: str) -> BinaryIO:
        try:
            return self._path(blob_id).open("rb")
        except FileNotFoundError:
            raise NotFound("the stored bytes are missing") from None

    def extent(self, blob_id: str, offset: int = 0, length: int | None = None) -> Iterator[Extent]:
        """`length` bytes from `offset` (to the end without it), in one piece. The file is open until the next step."""
        self._check(blob_id)
        try:
            file = os.open(f"{self._prefix}{blob_id}", os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise NotFound("the stored bytes are missing") from None
        try:
            size = os.fstat(file).st_size
            count = length if length is not None else max(0, size - offset)
            if count and offset + count > size:
                raise NotFound("the stored bytes end early")
            yield Extent(file, offset, count)
        finally:
            os.close(file)

    def expect(self, blob_id: str) -> None:
        """Has the kernel begin to read a blob that is to be sent soon: by itself it reads ahead within a file, not into the next one."""
        self._check(blob_id)
        with contextlib.suppress(OSError):  # whoever sends it tells what is wrong
            file = os.open(f"{self._prefix}{blob_id}", os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.posix_fadvise(file, 0, 0, os.POSIX_FADV_WILLNEED)
            finally:
                os.close(file)

    def stream(self, blob_id: str, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        """The same, read in chunks of 256 KiB."""
        for extent in self.extent(blob_id, offset, length):
            yield from extent.read()

    def size(self, blob_id: str) -> int:
        self._check(blob_id)
        try:
            return os.stat(f"{self._prefix}{blob_id}").st_size  # noqa: PTH116 a Path takes longer than the disk, and thousands are asked for
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

    def folder(self, batch: str) -> str:
        """The path of a batch's folder."""
        last = self._last  # other threads change it
        if last[0] != batch:
            last = self._last = batch, str(self._path(batch))
        return last[1]

    def check_room(self, written: int = 0) -> None:
        """Raises `StorageFull` below the reserve. `written`: the bytes that the caller wrote since it last asked."""
        self._room.require(self.reserve, written)

    def _path(self, blob_id: str) -> Path:
        self._check(blob_id)
        return self.root / blob_id

    def _check(self, blob_id: str) -> None:
        if ".." in blob_id or blob_id.startswith("/"):
            raise NotFound("no such blob")

    def _drop_empty(self, folder: Path) -> None:
        try:
            folder.rmdir()
        except OSError:
            return


class FolderWriter:
    """Writes `<id>.part`, which is renamed to `<id>` when it is whole and synced."""

    def __init__(self, store: FolderBlobs, batch: str, *, hashed: bool) -> None:
        name = secrets.token_hex(8)
        self._store = store
        self._id = f"{batch}/{name}"
        self.folder = store.folder(batch)
        self._final = f"{self.folder}/{name}"
        self._part = f"{self._final}.part"
        self._file: int | None = os.open(self._part, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        self._digest = hashlib.sha256() if hashed else None
        self._head = bytearray()
        self._checked = 0
        self._synced = self._aborted = False
        self.size = 0

    @property
    def head(self) -> bytes:
        return bytes(self._head)

    @property
    def blob(self) -> Blob:
        return Blob(self._id, self.size, self._digest.digest() if self._digest else None)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Appends. Raises `TooLarge` beyond the store's limit, `StorageFull`; the blob is gone then."""
        if self._file is None or self._synced:
            raise ValueError("this blob is finished")
        try:
            if self.size + len(data) > self._store.limit:
                raise TooLarge(f"one object may have at most {self._store.limit} bytes here")
            view = memoryview(data)
            if self.size < HEAD:
                self._head += view[: HEAD - self.size]
            while view:
                view = view[os.write(self._file, view) :]
            self.size += len(data)
            if self.size >= self._checked + _CHECK_EVERY:
                self._check_room()
        except OSError as error:
            self.abort()
            raise _told(error) from error
        except (TooLarge, StorageFull):
            self.abort()
            raise
        if self._digest:
            self._digest.update(data)

    def _check_room(self) -> None:
        written, self._checked = self.size - self._checked, self.size
        self._store.check_room(written)

    def read(self, offset: int, count: int) -> bytes:
        """Up to `count` of the bytes so far."""
        if self._file is None:
            raise ValueError("this blob is finished")
        return os.pread(self._file, count, offset)

    def reader(self) -> BinaryIO:
        """The bytes so far, from the start."""
        return Path(self._part).open("rb")

    def sync(self) -> None:
        """Raises `StorageFull` or `Unavailable`; the blob is gone then."""
        if self._aborted:
            raise ValueError("this blob was given up")
        if self._file is None or self._synced:
            return
        try:
            self._check_room()
            if self._store.durable:
                os.fdatasync(self._file)
            self._synced = True
        except OSError as error:
            self.abort()
            raise _told(error) from error
        except StorageFull:
            self.abort()
            raise

    def name(self) -> bool:
        """Gives the synced file its final name, not yet durably. False if it has it already. Raises as `sync`."""
        self.sync()
        if self._file is None:
            return False
        try:
            Path(self._part).rename(self._final)
        except OSError as error:
            self.abort()
            raise _told(error) from error
        os.close(self._file)
        self._file = None
        return True

    def lose(self) -> None:
        """Takes back a name whose folder could not be synced."""
        self._aborted = True
        Path(self._final).unlink(missing_ok=True)
        self._store._drop_empty(Path(self.folder))

    def commit(self) -> Blob:
        (done,) = self._store.commit([self])
        if isinstance(done, Exception):
            raise done
        return done

    def abort(self) -> None:
        if self._file is not None:
            self._aborted = True
            os.close(self._file)
            self._file = None
            Path(self._part).unlink(missing_ok=True)
            self._store._drop_empty(Path(self.folder))


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

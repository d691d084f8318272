"""Upkeep of one installation: its data folder, schema, orphaned blobs, and a check of every stored byte."""

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import select

from server.access.people import people
from server.errors import SettingsError
from server.records import audit_feed, catalogue, rejections, repository
from server.records.installation import installation
from server.settings import Settings, bracketed, is_local_name
from server.store import jobs
from server.store.blobs import FolderBlobs, digests
from server.store.db import Database
from server.store.migrations import migrate, require_current
from server.telemetry import log
from server.work import checks, sealing
from server.work.checks import Finding
from server.work.sealing import Verified

_SWEEP_AFTER = 3600.0


def owned_blobs(settings: Settings, database: Database) -> FolderBlobs:
    """The blob store, once it is known to be this installation's. Raises `SettingsError` if it is not."""
    blobs = FolderBlobs(settings.blob_folder, limit=settings.max_instance_bytes, reserve=settings.min_free_bytes)
    blobs.own(installation(database).root)
    return blobs


@contextmanager
def owned(settings: Settings, *, shared: bool = False) -> Iterator[None]:
    """Holds the data folder's lock: roles that run apart share it, a whole server has it alone.

    Raises `SettingsError` if another holds it.
    """
    _make(settings.data)
    with _locked(settings.data / "lock", shared=shared, what=f"data folder {settings.data}"):
        yield


@contextmanager
def owned_blob_folder(settings: Settings, *, shared: bool) -> Iterator[None]:
    """Holds the blob folder's lock, alone or `shared`: two data folders may name one blob folder, and who is alone sweeps it.

    Raises `SettingsError` if the folder is not this installation's, or another server holds it.
    """
    database = Database(settings.database)
    try:
        marker = owned_blobs(settings, database).marker
    finally:
        database.close()
    with _locked(marker, shared=shared, what=f"blob folder {marker.parent}"):
        yield


@contextmanager
def _locked(file: Path, *, shared: bool, what: str) -> Iterator[None]:
    try:
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise _unusable(file.parent, error) from None
    try:
        # After a kill -9 the dead server's children, who hold it too, need a moment to notice.
        for attempt in range(50):
            try:
                fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if attempt == 49:
                    raise SettingsError(f"another imageshare server uses the {what}") from None
                time.sleep(0.1)
        yield
    finally:
        os.close(descriptor)


def is_served(settings: Settings) -> bool:
    """Whether a server, or a part of one, holds the data folder's lock now. Makes nothing."""
    try:
        descriptor = os.open(settings.data / "lock", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def require_ready(settings: Settings) -> None:
    """Raises `SettingsError` unless there is a database of this version; makes nothing."""
    database = Database(settings.database)
    try:
        require_current(database)
    finally:
        database.close()


def make_ready(settings: Settings) -> None:
    """Creates what is missing and brings the schema up to date. Raises `SettingsError`."""
    _make(settings.data)
    database = Database(settings.database)
    try:
        migrate(database)
        installation(database)
    finally:
        database.close()


def first_administrator(settings: Settings) -> tuple[str, str] | None:
    """A new server that listens on loopback gets an administrator: e-mail address, and the password that works once. None if there is anybody."""
    if not is_local_name(bracketed(settings.http_host)) or settings.is_published:
        return None
    database = Database(settings.database)
    try:
        once = people.first_administrator(database)
    finally:
        database.close()
    return None if once is None else (people.FIRST, once)


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise _unusable(folder, error) from None


def _unusable(folder: Path, error: OSError) -> SettingsError:
    return SettingsError(f"the folder {folder} cannot be used: {(error.strerror or type(error).__name__).lower()}")


def sweep_orphans(settings: Settings, *, alone: bool) -> int:
    """Clears away what a crash left between a blob's sync and its row's commit. Returns how many files that were.

    Unfinished files go; whole ones that no row names are set aside in `quarantine`, for they may also be newer than a database that
    was restored. `alone`: nobody else writes here now; otherwise only files older than an hour are looked at.
    Raises `SettingsError` if the blob folder is not this installation's.
    """
    database = Database(settings.database)
    try:
        blobs = owned_blobs(settings, database)
        before = time.time() - (0 if alone else _SWEEP_AFTER)
        # The files are listed before the rows are read: a blob that is committed in between is not taken for an orphan.
        found = [blob_id for blob_id, modified in blobs.list() if modified <= before]
        with database.read() as connection:
            known = catalogue.blob_ids(connection)
            purged = rejections.all_erasable(connection)
        orphans = [blob_id for blob_id in found if blob_id not in known]
        for blob_id in orphans:
            blobs.delete(blob_id, aside=not blob_id.endswith(".part") and blob_id not in purged)
        if orphans:
            log().warning("orphaned blobs cleared away; whole ones are in quarantine", count=len(orphans))
        return len(orphans)
    except OSError as error:
        raise _unusable(settings.blob_folder, error) from None
    finally:
        database.close()


def take_over(settings: Settings) -> None:
    """Frees the jobs that a killed server had in hand, so that they need not wait for its leases. Only when nobody else works here."""
    database = Database(settings.database)
    try:
        with database.write() as connection:
            jobs.release(connection)
            audit_feed.release_all(connection)
    finally:
        database.close()


def verify(settings: Settings, progress: Callable[[int, int], None] = lambda done, total: None) -> list[str]:
    """Reads every blob and compares size and SHA-256 with its row. Returns the ids of those that are missing or differ.

    A blob that arrived and is not published yet has no hash in its row, and a document that was provided has its SHA-1 only: each gets this one, and the log
    says of how many that was true.
    Raises `SettingsError` where there is no database of this version, and makes none.
    """
    database = Database(settings.database)
    try:
        require_current(database)
        blobs = FolderBlobs(settings.blob_folder)
        with database.read() as connection:
            rows = connection.execute(select(catalogue.BLOB.c.id, catalogue.BLOB.c.size, catalogue.BLOB.c.sha256)).all()
            provided = repository.sha1s(connection)
        bad, fresh = [], 0
        for number, row in enumerate(rows, 1):
            path = settings.blob_folder / row.id
            if not path.exists() or path.stat().st_size != row.size:
                bad.append(row.id)
                progress(number, len(rows))
                continue
            sha256, sha1 = digests(blobs, row.id)
            if sha256 != bytes(row.sha256 or sha256) or sha1 != provided.get(row.id, sha1):
                bad.append(row.id)
            elif row.sha256 is None:
                with database.write() as connection:
                    catalogue.hashed(connection, row.id, sha256)
                fresh += 1
            progress(number, len(rows))
        if fresh:
            log().info("blobs hashed for the first time", count=fresh)
        return bad
    finally:
        database.close()


def verify_trail(
    settings: Settings, progress: Callable[[int, int], None] = lambda done, total: None, logged: str = ""
) -> Verified:
    """Walks the seals of the trail (`work.sealing.verify`). Raises `SettingsError` where there is no database of this version."""
    database = Database(settings.database)
    try:
        require_current(database)
        return sealing.verify(database, progress, logged)
    finally:
        database.close()


def disagreements(settings: Settings, *, repair: bool = False) -> list[Finding]:
    """What rows and files disagree in (`work.checks`). Raises `SettingsError` where there is no database of this version."""
    database = Database(settings.database)
    try:
        require_current(database)
        return checks.disagreements(database, owned_blobs(settings, database), repair=repair)
    finally:
        database.close()

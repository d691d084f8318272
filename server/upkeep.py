"""Upkeep of one installation: its data folder, schema, orphaned blobs, and a check of every stored byte."""

import fcntl
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from sqlalchemy import URL, select

from server.access.people import people
from server.errors import SettingsError
from server.outbound import mail
from server.records import audit_feed, catalogue, foreign_entries, parameters, rejections
from server.records.installation import installation
from server.settings import HIDDEN, Settings, bracketed, is_local_name
from server.store import jobs
from server.store.blobs import FolderBlobs, digest
from server.store.db import Database, ping
from server.store.migrations import migrate, require_current, sqlite_file
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

    A blob that arrived and is not published yet has no hash in its row: it gets this one, and the log says of how many that was true.
    Raises `SettingsError` where there is no database of this version, and makes none.
    """
    database = Database(settings.database)
    try:
        require_current(database)
        blobs = FolderBlobs(settings.blob_folder)
        with database.read() as connection:
            rows = connection.execute(select(catalogue.BLOB.c.id, catalogue.BLOB.c.size, catalogue.BLOB.c.sha256)).all()
        bad, fresh = [], 0
        for number, row in enumerate(rows, 1):
            path = settings.blob_folder / row.id
            if not path.exists() or path.stat().st_size != row.size:
                bad.append(row.id)
            elif row.sha256 is None:
                with database.write() as connection:
                    catalogue.hashed(connection, row.id, digest(blobs, row.id))
                fresh += 1
            elif digest(blobs, row.id) != bytes(row.sha256):
                bad.append(row.id)
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


def doctor(settings: Settings) -> list[tuple[str, str, bool]]:
    """What is in force and whether it works: (what, value with secrets masked, fine?)."""
    told = [(name, _shown(name, value), True) for name, value in settings.model_dump().items() if value is not None]
    database = Database(settings.database)
    file = sqlite_file(database)
    if file is not None and not file.exists():  # to ask it would make it
        told.append(("database", f"{_masked(database.url)} (not there yet)", os.access(_nearest(file), os.W_OK)))
    else:
        told.append(("database", _masked(database.url), _works(lambda: ping(database))))
        told += [("search index", line, True) for line in _indexing(database)]
        told += [("trail", line, True) for line in _sealed(database)]
        told += [("audit repository", line, True) for line in _unsent(database, settings.audit_repository)]
        told += [
            (f"manifests at {each.name}", line, fine) for each in settings.documents_to for line, fine in _at(database, each.name)
        ]
    database.close()
    folder = settings.blob_folder
    nearest = _nearest(folder)
    told.append(("blobs", str(folder), os.access(nearest, os.W_OK)))
    if aside := len(list(folder.glob("quarantine/*"))):
        told.append(("quarantine", f"{aside} blobs that no row names; see docs/decisions/0008", False))
    free = shutil.disk_usage(nearest).free
    told.append(("free space", f"{free >> 20} MiB", free > settings.min_free_bytes))
    anyhow = settings.public_url is None and settings.http_host in ("0.0.0.0", "::")
    told.append(("public URL", f"{settings.base_url}{' is no address to call: set public_url' if anyhow else ''}", not anyhow))
    if settings.hides_callers:
        told.append(("reverse proxy", HIDDEN, True))
    told.append(_mail(settings))
    told.append(("SOAP", f"answers who shows {', '.join(_soap_callers(settings))}", True))
    told += [(name, "not a setting; is it misspelt?", False) for name in sorted(unknown_variables(os.environ))]
    return told


def _indexing(database: Database) -> list[str]:
    """The resource types whose search index is made anew just now; none where the database does not answer, or is of another version."""
    with suppress(Exception), database.read() as connection:
        return [f"{each.type}: {each.percent} % of it is made anew" for each in parameters.indexing(connection)]
    return []


def _sealed(database: Database) -> list[str]:
    """The last seal of the trail; none as above."""
    with suppress(Exception), database.read() as connection:
        return [sealing.told(connection)]
    return []


def _unsent(database: Database, repository: str) -> list[str]:
    """How much of the trail waits for the audit repository; none as above, or where there is no repository."""
    with suppress(Exception), database.read() as connection:
        count, _ = audit_feed.waiting(connection, repository)
        return [f"{count} events wait to be sent"] if repository else []
    return []


def _at(database: Database, partner: str) -> list[tuple[str, bool]]:
    """How many manifests a partner has, and has not, and whether somebody should look; none as above."""
    with suppress(Exception), database.read() as connection:
        counts = {state: count for (name, state), count in foreign_entries.counts(connection).items() if name == partner}
        trouble = counts.keys() & {"refused", "left", "given up"}
        told = ", ".join(f"{count} {state}" for state, count in counts.items()) or "none yet"
        return [(f"{told}; see imageshare manifests" if trouble else told, not trouble)]
    return []


def _soap_callers(settings: Settings) -> list[str]:
    """By what SOAP knows its callers."""
    told = ["an access token"]
    told += ["a SAML assertion"] if settings.trusted_assertions else []
    told += ["a partner's certificate"] if any(each.scope and each.certificates for each in settings.partners) else []
    return told if settings.is_published else [*told, "that it is a program on this machine (loopback)"]


def _mail(settings: Settings) -> tuple[str, str, bool]:
    """Without a mail server people sign in by password or passkey only: a warning, no fault."""
    try:
        server = mail.server_of(settings)
    except SettingsError as error:
        return "e-mail", error.detail, False
    if server is not None:
        return "e-mail", f"by {server.scheme} through {server.hostname}", True
    return "e-mail", f"files in {mail.folder(settings)}, which nobody reads: set smtp_url", True


def unknown_variables(environment: Mapping[str, str]) -> set[str]:
    """`IMAGESHARE_*` variables that are no setting: pydantic-settings passes over them without a word."""
    known = {f"IMAGESHARE_{name.upper()}" for name in Settings.model_fields} | {"IMAGESHARE_CONFIG", "IMAGESHARE_TOKEN"}
    return {name for name in environment if name.startswith("IMAGESHARE_") and name.partition("__")[0] not in known}


def _nearest(path: Path) -> Path:
    """`path`, or the nearest folder above it that is there."""
    return next(parent for parent in (path.absolute(), *path.absolute().parents) if parent.exists())


def _shown(name: str, value: object) -> str:
    return "********" if name == "database_url" else str(value)


def _masked(url: URL) -> str:
    """libpq takes a password also as a parameter."""
    secret = {name: "masked" for name in url.query if "password" in name.lower()}
    return url.update_query_dict(secret).render_as_string(hide_password=True)


def _works(attempt: Callable[[], None]) -> bool:
    try:
        attempt()
    except Exception:  # noqa: BLE001 whatever the driver raises means: it does not work
        return False
    return True

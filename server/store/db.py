"""The database: engine, pragmas and two units of work, `read()` and `write()`.

SQLite runs in WAL mode with synchronous=FULL, so a commit that returned has reached the disk; a write takes its lock at
BEGIN IMMEDIATE, so it never fails half-way for want of it. PostgreSQL runs READ COMMITTED; writers meet on rows.
"""

import contextlib
import fcntl
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.pool import QueuePool

from profiles.fhir.issues import Issue
from server.errors import Busy, ImageShareError, Invalid, SettingsError, StorageFull, Unavailable

_TURN_SECONDS = 30.0
_CACHE_KIB, _WRITERS_CACHE_KIB = 8 << 10, 64 << 10
"""Of each of SQLite's connections, and of one that is kept to write: what a transaction changes shall be there until its end."""
_CHECKPOINT_PAGES = 16000
"""Of SQLite's log, 64 MB: rows of searches are written all over their tables, so that the more are gathered, the more share a page."""
_SQLITE_FULL = {sqlite3.SQLITE_FULL}
_SQLITE_BUSY = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
_POSTGRESQL_FULL = {"53100"}
_POSTGRESQL_BUSY = {"40001", "40P01", "53200", "53300", "55P03"}
"""PostgreSQL, appendix A: serialization failure, deadlock, out of memory (its table of locks is full), too many connections, lock not available."""
_POSTGRESQL_LIMIT = {"54000"}
"""Program limit exceeded: a value that no index takes. To try again is no use."""


class Database:
    """One database behind `url` (SQLAlchemy form). Safe for threads and for several processes. Raises `SettingsError` for no URL.

    Not `durable`, a commit may be lost when the machine dies, though not when a process does.
    """

    def __init__(self, url: str, *, pool_size: int = 16, durable: bool = True) -> None:
        self.engine = _engine(url, pool_size)
        self.url = self.engine.url
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        if self.is_sqlite:
            event.listen(self.engine, "connect", _pragmas)
        if not durable:
            event.listen(self.engine, "connect", _carelessly(self.is_sqlite))
        self._writers: list[Writer] = []
        self._turn = threading.Lock()

    @contextlib.contextmanager
    def read(self) -> Iterator[Connection]:
        """A consistent view. Nothing that happens in it is kept. Raises `Unavailable` where the engine cannot be reached."""
        with _telling(), self.engine.connect() as connection:
            if not self.is_sqlite:
                connection = connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
            with connection.begin() as transaction:
                self.begin(connection, "BEGIN")
                yield connection
                transaction.rollback()

    @contextlib.contextmanager
    def write(self) -> Iterator[Connection]:
        """All or nothing; durable when the block has ended. Raises `StorageFull`, `Busy` or `Unavailable` where the engine says so."""
        with _telling(), self.turn(), self.engine.begin() as connection:
            self.begin(connection, "BEGIN IMMEDIATE")
            yield connection

    @contextlib.contextmanager
    def turn(self) -> Iterator[None]:
        """SQLite's writers queue for the lock of a file. For its own lock they would ask again and again, sleeping longer each time.

        Of each process one thread waits there, the others for that one, and not for ever: they raise `Busy`. Whoever writes without it,
        such as another program, is still waited for by SQLite.
        """
        if not self.is_sqlite or self.url.database in (None, "", ":memory:"):
            yield
            return
        if not self._turn.acquire(timeout=_TURN_SECONDS):
            raise Busy("the database is busy; try again")
        try:
            with self._turn_of_process():
                yield
        finally:
            self._turn.release()

    @contextlib.contextmanager
    def _turn_of_process(self) -> Iterator[None]:
        try:  # for reading only, which suffices for the lock: the file may be of another user who began
            file = os.open(f"{self.url.database}-turn", os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise Unavailable("the server's database cannot be reached; try again later") from error
        try:
            try:
                fcntl.flock(file, fcntl.LOCK_EX)
            except OSError as error:
                raise Unavailable("the folder of the server's database has no locks for files") from error
            yield
        finally:
            os.close(file)

    @contextlib.contextmanager
    def rebuild(self) -> Iterator[Connection]:
        """As `write`, for migrations, which make a table anew while others refer to it: SQLite enforces no foreign key in it.

        Whoever changes something has to look at `PRAGMA foreign_key_check` before the end.
        """
        with _telling(), self.engine.connect() as connection:
            self._foreign_keys(connection, "OFF")
            try:
                with connection.begin():
                    self.begin(connection, "BEGIN IMMEDIATE")
                    yield connection
            finally:
                self._foreign_keys(connection, "ON")

    def writer(self) -> "Writer":
        """Open until this database is closed."""
        self._writers.append(Writer(self))
        return self._writers[-1]

    def close(self) -> None:
        for each in self._writers:
            each.close()
        self.engine.dispose()

    def _foreign_keys(self, connection: Connection, state: str) -> None:
        """Whether this connection enforces them; within a transaction SQLite would ignore this."""
        if self.is_sqlite:
            connection.connection.cursor().execute(f"PRAGMA foreign_keys={state}")

    def begin(self, connection: Connection, statement: str) -> None:
        """SQLite's own BEGIN, past SQLAlchemy: with a listener to `begin` every statement of every connection would look for listeners."""
        if self.is_sqlite:
            connection.connection.cursor().execute(statement)


class Writer:
    """Writes over a connection that is kept, one thread after the other: for what is written so often that to fetch one counts.

    On PostgreSQL it fetches one all the same: the pool knows which of them have been lost.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._kept: Connection | None = None
        self._alone = threading.Lock()

    @contextlib.contextmanager
    def write(self) -> Iterator[Connection]:
        """As `Database.write`."""
        if not self._database.is_sqlite:
            with self._database.write() as connection:
                yield connection
            return
        if not self._alone.acquire(timeout=_TURN_SECONDS):
            raise Busy("the database is busy; try again")
        try:
            with _telling(), self._kept_open() as kept, self._database.turn(), kept.begin():
                self._database.begin(kept, "BEGIN IMMEDIATE")
                yield kept
        finally:
            self._alone.release()

    @contextlib.contextmanager
    def _kept_open(self) -> Iterator[Connection]:
        kept = self._kept = self._kept or self._opened()
        try:
            yield kept
        except ImageShareError:  # a refusal of ours, which was rolled back
            raise
        except BaseException:
            self.close()  # whatever it was, the next one begins anew
            raise

    def _opened(self) -> Connection:
        opened = self._database.engine.connect()
        opened.connection.cursor().execute(f"PRAGMA cache_size=-{_WRITERS_CACHE_KIB}")
        return opened

    def close(self) -> None:
        kept, self._kept = self._kept, None
        if kept is not None:
            kept.close()


def _engine(url: str, pool_size: int) -> Engine:
    arguments: dict[str, Any] = {"poolclass": QueuePool, "pool_size": pool_size, "max_overflow": 64, "future": True}
    try:
        if make_url(url).get_backend_name() == "sqlite":
            arguments["connect_args"] = {"check_same_thread": False, "timeout": 30, "cached_statements": 512}
        else:
            arguments["pool_pre_ping"] = True
        return create_engine(url, **arguments)
    except (ArgumentError, ModuleNotFoundError):
        raise SettingsError("IMAGESHARE_DATABASE_URL must begin with sqlite:/// or postgresql+psycopg://") from None


def insert(connection: Connection, table: Any) -> Any:
    """The engine's own INSERT, which knows `on_conflict_do_nothing` and `on_conflict_do_update`."""
    return sqlite.insert(table) if connection.dialect.name == "sqlite" else postgresql.insert(table)


def micros(moment: datetime | None = None) -> int:
    """Microseconds since 1970 in UTC: how every moment is stored."""
    return int((moment or datetime.now(UTC)).timestamp() * 1_000_000)


def moment(stored: int) -> datetime:
    """The reverse of `micros`, in UTC."""
    seconds, rest = divmod(stored, 1_000_000)
    return datetime.fromtimestamp(seconds, UTC).replace(microsecond=rest)


def instant(stored: int) -> str:
    """A stored moment as a FHIR instant with milliseconds, `2026-11-22T10:11:12.345Z`."""
    return moment(stored).isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"


def _pragmas(connection: sqlite3.Connection, _: object) -> None:
    connection.isolation_level = None
    for pragma in (
        "journal_mode=WAL",
        "synchronous=FULL",
        "foreign_keys=ON",
        "busy_timeout=30000",
        "temp_store=MEMORY",
        f"cache_size=-{_CACHE_KIB}",
        f"wal_autocheckpoint={_CHECKPOINT_PAGES}",
    ):
        connection.execute(f"PRAGMA {pragma}")


def _carelessly(sqlite: bool) -> Callable[[Any, object], None]:
    def set_up(connection: Any, _: object) -> None:
        if sqlite:
            connection.execute("PRAGMA synchronous=OFF")
            return
        connection.execute("SET synchronous_commit TO off")
        connection.commit()

    return set_up


@contextlib.contextmanager
def _telling() -> Iterator[None]:
    """Says in our own words what the engine failed of. A mistake in a statement stays what it is: a bug of ours."""
    try:
        yield
    except PoolTimeout as error:
        raise Busy("the server is busy; try again") from error
    except (OperationalError, sqlite3.OperationalError) as error:
        told = _told(error.orig if isinstance(error, OperationalError) else error)
        if told is None:
            raise
        raise told from error


def _told(error: BaseException | None) -> ImageShareError | None:
    code: int | None = getattr(error, "sqlite_errorcode", None)
    primary = code & 0xFF if code is not None else None  # the higher bits say more of the same
    state: str | None = getattr(error, "sqlstate", None)
    if primary in _SQLITE_FULL or state in _POSTGRESQL_FULL:
        return StorageFull("the server has no room left; try again later")
    if primary in _SQLITE_BUSY or state in _POSTGRESQL_BUSY:
        return Busy("the server is busy; try again")
    if state in _POSTGRESQL_LIMIT:
        return Invalid([Issue("error", "too-long", "", "a value is longer than the server's database takes; shorten it")], 422)
    if primary == sqlite3.SQLITE_ERROR:  # no such table, a syntax error
        return None
    return Unavailable("the server's database cannot be reached; try again later")


def ping(database: Database) -> None:
    """Raises `Unavailable` when the engine cannot be reached."""
    with database.read() as connection:
        connection.execute(text("SELECT 1"))

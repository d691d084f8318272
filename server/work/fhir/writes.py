"""Writes of many threads in few transactions: each is all or nothing by itself, and durable when it returns.

SQLite has one writer and a sync of the disk for each commit, so that those who wait at the same moment go together, each behind a savepoint.
PostgreSQL joins commits itself; there each goes alone, and once more where a deadlock or a race with another was settled against it.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError, OperationalError

from server.errors import Busy, Conflict
from server.store.db import Database
from server.store.group_commit import GroupCommit

_T = TypeVar("_T")
Work = Callable[[Connection], _T]

_TOGETHER: Final = 32
_TRIES: Final = 8


@dataclass(slots=True, eq=False)
class _Waiting(Generic[_T]):
    """One write. Afterwards `done` has what it gave, unless `error` says why it failed."""

    work: Work[_T]
    done: list[_T]
    error: Exception | None = None


class Writes:
    """The writes of one process to one database."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._writer = database.writer()
        self._together: GroupCommit[_Waiting[Any]] = GroupCommit(self._commit, limit=_TOGETHER)

    def run(self, work: Work[_T]) -> _T:
        """What `work` gives, once it is durable. It is given a transaction, and called again where that failed for no fault of its own.

        Raises what `work` raises, with nothing written then, and what the database raises.
        """
        if not self._database.is_sqlite:
            return self.alone(work)
        waiting = _Waiting(work, [])
        self._together.join([waiting])
        if waiting.error is not None:
            raise waiting.error
        return waiting.done[0]

    def alone(self, work: Work[_T]) -> _T:
        """As `run`, for what takes long: nobody waits for it but for the locks that it holds."""
        for _ in range(_TRIES - 1):
            try:
                with self._writer.write() as connection:
                    return work(connection)
            except IntegrityError:
                continue
            except Busy as error:
                if self._database.is_sqlite or not isinstance(error.__cause__, OperationalError):
                    raise
        try:
            with self._writer.write() as connection:
                return work(connection)
        except IntegrityError:
            raise Conflict("another request writes the same; try again") from None

    def _commit(self, group: Sequence[_Waiting[Any]]) -> None:
        with self._writer.write() as connection:
            for each in group:
                each.done, each.error = [], None
                try:
                    with savepoint(connection):
                        each.done.append(each.work(connection))
                except OperationalError:
                    raise  # it is the database's, and so everybody's
                except IntegrityError:
                    each.error = Conflict("another request writes the same; try again")
                except Exception as error:  # noqa: BLE001 it is this one's alone
                    each.error = error


@contextlib.contextmanager
def savepoint(connection: Connection) -> Iterator[None]:
    """A part of a transaction that is taken back alone if it fails. Past SQLAlchemy, whose own costs more than a small write."""
    driver = connection.connection.cursor()
    driver.execute("SAVEPOINT part")
    try:
        yield
    except BaseException:
        driver.execute("ROLLBACK TO SAVEPOINT part")
        driver.execute("RELEASE SAVEPOINT part")
        raise
    driver.execute("RELEASE SAVEPOINT part")

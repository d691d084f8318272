"""Requests that are answered quickly, several in one turn: one thread reads for all who wait, one commit has what the trail says of them.

A thread for each request costs more than to read a resource, and so does a commit. What proves slow leaves its turn and is done again in a
thread of its own, as is what is like it: for a second, and for twice as long whenever it proves slow again, up to a minute. It holds the others
up for `SECONDS` of the database's work at most. What is as slow in Python, which nothing breaks off, is answered in its turn, and what is like it
leaves once two of the last four were.
"""

import asyncio
import contextlib
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Final

from sqlalchemy import Connection
from starlette.concurrency import run_in_threadpool
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response

from server.records.fhir_search import TooCostly, limited
from server.records.trail import Noted, Trail
from server.store.db import Database

Handler = Callable[[Request], Response]
SECONDS: Final = 0.02
_MOST: Final = 32
_REMEMBERED: Final = (1.0, 60.0)
"""Seconds, at first and at most."""
_MOST_REMEMBERED: Final = 1024
_LOOKED_BACK: Final = 4


class OutOfTurn(Exception):
    """The request takes too long for a turn. It has answered nothing, and the trail has nothing of it."""


@dataclass(slots=True)
class Turn:
    """What the requests of one turn share: `noted` is what the trail is to have of them before any is answered."""

    connection: Connection
    noted: list[Noted] = field(default_factory=list)
    epoch: int | None = None
    """That of the connection's view (`access.epoch`), once somebody has asked for it."""


@dataclass(slots=True, eq=False)
class _Waiting:
    request: Request
    handler: Handler
    answered: "asyncio.Future[tuple[Response | None, bool]]"
    loop: asyncio.AbstractEventLoop
    response: Response | None = None
    error: BaseException | None = None
    was_slow: bool = False

    def tell(self) -> None:
        if self.answered.done():  # the client has gone
            return
        if self.error is not None:
            self.answered.set_exception(self.error)
        else:
            self.answered.set_result((self.response, self.was_slow))


class Turns:
    """The turns of one process. Its thread begins with the first request."""

    def __init__(self, database: Database, trail: Trail) -> None:
        self._database, self._trail = database, trail
        self._queue: queue.SimpleQueue[_Waiting | None] = queue.SimpleQueue()
        self._slow: dict[object, tuple[float, float]] = {}
        """What is like what -> until when it goes its own way, and for how long that was."""
        self._late: dict[object, tuple[bool, ...]] = {}
        """What is like what -> of the last ones that were answered, whether they took too long; not there where none did."""
        self._thread: threading.Thread | None = None

    async def answer(self, request: Request, handler: Handler, like: object) -> Response:
        """What `handler` answers, which reads by `view`; the trail has what it notes. Requests that are alike have the same `like`.

        Raises what the handler raises, and what the database raises where the trail could not be written.
        """
        until, before = self._slow.get(like, (0.0, 0.0))
        if until < time.monotonic():
            response, was_slow = await self._in_turn(request, handler)
            if was_slow and (response is None or self._is_late_again(like)):
                self._remember(like, before)
            elif not was_slow:
                self._was_quick(like)
            if response is not None:
                return response
        return await run_in_threadpool(handler, request)

    def _is_late_again(self, like: object) -> bool:
        """One alone may have met a pause of Python's, which looks through its objects; two of four have not."""
        late = (*self._late.pop(like, ()), True)[-_LOOKED_BACK:]
        if len(self._late) >= _MOST_REMEMBERED:
            self._late.clear()
        self._late[like] = late
        return late.count(True) > 1

    def _was_quick(self, like: object) -> None:
        self._slow.pop(like, None)
        late = (*self._late.pop(like, ()), False)[-_LOOKED_BACK:]
        if any(late):
            self._late[like] = late

    def _remember(self, like: object, before: float) -> None:
        if len(self._slow) >= _MOST_REMEMBERED:
            self._slow.clear()
        first, most = _REMEMBERED
        seconds = min(2 * before or first, most)
        self._slow[like] = time.monotonic() + seconds, seconds

    def close(self) -> None:
        if self._thread is not None:
            self._queue.put(None)
            self._thread.join()
            self._thread = None

    def _in_turn(self, request: Request, handler: Handler) -> "asyncio.Future[tuple[Response | None, bool]]":
        """The answer, none where the request takes too long for it; and whether it took too long, be it answered or not."""
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._run, name="turns", daemon=True)
            self._thread.start()
        loop = asyncio.get_running_loop()
        waiting = _Waiting(request, handler, loop.create_future(), loop)
        self._queue.put(waiting)
        return waiting.answered

    def _run(self) -> None:
        while True:
            batch: list[_Waiting] = []
            ends = self._gather(batch)
            if batch:
                self._take(batch)
                with contextlib.suppress(RuntimeError):  # the loop has ended, and with it whoever asked
                    batch[0].loop.call_soon_threadsafe(_tell, batch)
            if ends:
                return

    def _gather(self, batch: list[_Waiting]) -> bool:
        """All who wait, at least one; whether that was the last turn."""
        found = self._queue.get()
        while found is not None:
            batch.append(found)
            if len(batch) == _MOST:
                return False
            try:
                found = self._queue.get_nowait()
            except queue.Empty:
                return False
        return True

    def _take(self, batch: list[_Waiting]) -> None:
        """Answers all of them; those of whom the trail cannot be told have its error instead."""
        rest, noted, told = deque(batch), list[Noted](), list[_Waiting]()
        try:
            while rest:
                with self._database.read() as connection:
                    turn = Turn(connection, noted)
                    while rest and self._one(turn, rest.popleft(), told):
                        pass
            if noted:
                self._trail.note(noted)
        except BaseException as error:  # noqa: BLE001 everybody must be told, whatever it was
            for each in (*told, *rest):
                each.response, each.error = None, error

    def _one(self, turn: Turn, waiting: _Waiting, told: list[_Waiting]) -> bool:
        """Answers one; False where its connection is not to be used for another."""
        before, began = len(turn.noted), time.thread_time()
        waiting.request.state.turn = turn
        try:
            waiting.response = waiting.handler(waiting.request)
        except OutOfTurn:
            waiting.was_slow = True
            del turn.noted[before:]
            return False
        except BaseException as error:  # noqa: BLE001 as above
            waiting.error = error
            del turn.noted[before:]
            return False
        finally:
            del waiting.request.state.turn
        waiting.was_slow = time.thread_time() - began > SECONDS  # in Python, which nothing breaks off
        if len(turn.noted) > before:
            told.append(waiting)
        return waiting.response.status_code < 500


def _tell(batch: list[_Waiting]) -> None:
    for each in batch:
        with contextlib.suppress(Exception):  # one that cannot be told keeps nobody else waiting
            each.tell()


def turn_of(request: HTTPConnection) -> Turn | None:
    """The turn that a request is in just now."""
    found: Turn | None = getattr(request.state, "turn", None)
    return found


@contextlib.contextmanager
def view(request: Request, own: Callable[[Request], AbstractContextManager[Connection]]) -> Iterator[Connection]:
    """A consistent view for the request: that of its turn, or its `own`. Raises `OutOfTurn` where it takes too long for a turn."""
    turn = turn_of(request)
    if turn is None:
        with own(request) as connection:
            yield connection
        return
    try:
        with limited(turn.connection, SECONDS, awaited=True):
            yield turn.connection
    except TooCostly:
        raise OutOfTurn from None


def leave(request: HTTPConnection) -> None:
    """For what takes long in another way than by asking the database. Raises `OutOfTurn` in a turn."""
    if turn_of(request) is not None:
        raise OutOfTurn

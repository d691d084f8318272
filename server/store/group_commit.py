"""Many threads, one commit: who waits at the same moment goes together, and who is alone waits for nobody."""

import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

_T = TypeVar("_T")


@dataclass(slots=True, eq=False)
class _Entry(Generic[_T]):
    items: Sequence[_T]
    done: bool = False
    error: BaseException | None = None


class GroupCommit(Generic[_T]):
    """The first thread that comes leads: it commits for all that wait by then, while the next ones gather behind it.

    `commit` is called by one thread at a time, with the items of one or more callers in the order in which they came.
    """

    def __init__(self, commit: Callable[[Sequence[_T]], None], limit: int = 64) -> None:
        self._commit = commit
        self._limit = limit
        self._turn = threading.Condition()
        self._waiting: deque[_Entry[_T]] = deque()
        self._led = False

    def join(self, items: Sequence[_T]) -> None:
        """Returns when `commit` has been called with `items`; raises what it raised then."""
        mine = _Entry(items)
        with self._turn:
            self._waiting.append(mine)
        while group := self._lead(mine):
            error: BaseException | None = None
            try:
                self._commit([item for entry in group for item in entry.items])
            except BaseException as raised:  # noqa: BLE001 every waiter must be told, whatever it was
                error = raised
            with self._turn:
                for entry in group:
                    entry.done, entry.error = True, error
                self._led = False
                self._turn.notify_all()
        if mine.error is not None:
            raise mine.error

    def _lead(self, mine: _Entry[_T]) -> list[_Entry[_T]]:
        """The group that this thread has to commit; none when `mine` is done."""
        with self._turn:
            while self._led and not mine.done:
                self._turn.wait()
            if mine.done:
                return []
            self._led = True
            group = [self._waiting.popleft()]
            count = len(group[0].items)
            while self._waiting and count + len(self._waiting[0].items) <= self._limit:
                group.append(self._waiting.popleft())
                count += len(group[-1].items)
            return group

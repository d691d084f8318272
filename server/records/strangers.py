"""Refusals of callers that nobody knows: in the trail, but so that no flood of them can fill the disk.

Whoever reaches a port can be refused as often as the network allows. So refusals from one address for one reason are one event
a minute with their count, and none at all while the disk has no more room than its reserve: then the log alone has them.
"""

import threading
import time
from dataclasses import dataclass, replace
from typing import Final

from profiles.audit_event import AuditedAction
from server import telemetry
from server.errors import StorageFull
from server.records.trail import Trail
from server.store.room import Room

SECONDS: Final = 60.0
MOST: Final = 256
"""Addresses and reasons that are counted at once; what is beyond is counted together."""
LONGEST_QUERY: Final = 256
"""Bytes of a query that are kept: enough to see what it was."""
_Key = tuple[str, str]
_OTHERS: Final[_Key] = ("", "")


@dataclass(slots=True)
class _Counted:
    since: float
    last: AuditedAction
    count: int = 0
    """Of those that no event has told of yet."""


class Strangers:
    """Puts refusals of the unauthenticated into the trail of one process. Safe for threads."""

    def __init__(self, trail: Trail, room: Room, reserve: int) -> None:
        self._trail, self._room, self._reserve = trail, room, reserve
        self._lock = threading.Lock()
        self._counted: dict[_Key, _Counted] = {}

    def refused(self, action: AuditedAction) -> None:
        """Writes the first refusal of an address for a reason, counts those that follow, and tells of them when a minute is over."""
        action = _short(action)
        now = time.monotonic()
        with self._lock:
            events = self._over(now - SECONDS, now)
            key = (action.client.address, action.outcome_desc)
            if key not in self._counted and len(self._counted) >= MOST:
                key = _OTHERS
            if (known := self._counted.get(key)) is None:
                self._counted[key] = _Counted(now, action)
                events.append(action)
            else:
                known.count, known.last = known.count + 1, action
        self._write(events)

    def flush(self) -> None:
        """Tells of all that was counted; for the end of the process."""
        with self._lock:
            events = self._over(float("inf"), 0.0)
        self._write(events)

    def _over(self, until: float, now: float) -> list[AuditedAction]:
        """The events of those whose minute began by `until`; another minute begins for them, and who was not seen in one is forgotten."""
        events = []
        for key, each in list(self._counted.items()):
            if each.since > until:
                continue
            if each.count:
                events.append(_told(each, several=key == _OTHERS))
                each.since, each.count = now, 0
            else:
                del self._counted[key]
        return events

    def _write(self, events: list[AuditedAction]) -> None:
        if not events:
            return
        try:
            self._room.require(self._reserve)
        except StorageFull:
            for each in events:
                telemetry.log().warning("refusal_not_recorded", address=each.client.address, error="StorageFull")
            return
        self._trail.write(*events)


def _told(counted: _Counted, *, several: bool) -> AuditedAction:
    whence = ", from several addresses" if several else ""
    return replace(counted.last, outcome_desc=f"{counted.last.outcome_desc} (refused {counted.count} more times{whence})")


def _short(action: AuditedAction) -> AuditedAction:
    """What a stranger sent is kept only so far that it can be recognised."""
    entities = tuple(replace(each, query=each.query[:LONGEST_QUERY]) for each in action.entities)
    return replace(action, entities=entities)

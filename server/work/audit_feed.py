"""Sends the trail to the audit repository (ITI-20), in order and at least once, and goes on where it stopped (`server.records.audit_feed`)."""

import os
import socket
import threading
from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol
from urllib.parse import urlsplit

import orjson

from ihe import syslog
from ihe.audit_message import audit_message, transaction
from profiles.identifiers import AssigningAuthority, InvalidIdentifier, PatientIdentifier
from server.records import audit_feed, seals, trail
from server.records.seals import Horizon
from server.records.trail import RecordedEvent
from server.settings import Settings
from server.store.db import Database
from server.telemetry import failure, log

ENDPOINTS: Final[Mapping[str, str]] = {
    **dict.fromkeys(("ITI-18", "ITI-42", "ITI-51", "ITI-57", "ITI-61", "ITI-62", "ITI-92"), "/xds/registry"),
    **dict.fromkeys(("ITI-41", "ITI-43", "ITI-86", "RAD-68"), "/xds/repository"),
    "RAD-69": "/xds/imaging-source",
}
"""Where SOAP transactions are answered: audit messages name the endpoint."""
_LOOK_EVERY: Final = 0.5
_TOGETHER: Final = 200
"""Rows of the trail that are sent before it is noted that they were."""
_LEASE: Final = 300.0
_SLOWEST: Final = 60.0


class Repository(Protocol):
    """Takes messages in order. Raises `ImageShareError` where it did not take all of them."""

    def send(self, messages: Sequence[bytes]) -> None: ...


class AuditFeed:
    """`run` is a thread of the worker. Several workers may run: a lease lets one of them send."""

    def __init__(self, settings: Settings, database: Database, repository: Repository) -> None:
        self._settings, self._database, self._repository = settings, database, repository
        self._name = settings.audit_repository
        self._host = urlsplit(settings.base_url).hostname or socket.gethostname()
        self._process = str(os.getpid())
        self._horizon = Horizon(0)

    def run(self, stop: threading.Event) -> None:
        """Sends until `stop` is set. A repository or a database that is away is tried again, ever more seldom, once a minute at least."""
        delay = _LOOK_EVERY
        while not stop.wait(delay):
            try:
                delay = _LOOK_EVERY if not self.deliver() else 0.0
            except Exception as error:  # noqa: BLE001 the worker outlives what it works on
                delay = min(max(delay, _LOOK_EVERY) * 2, _SLOWEST)
                log().warning("audit repository", retry_in=delay, **failure(error))

    def begin(self) -> int | None:
        """What was sent last; None for a repository that is new, which gets what comes from now on."""
        with self._database.read() as connection:
            last = audit_feed.last(connection, self._name)
        if last is None:
            with self._database.write() as connection:
                audit_feed.begin(connection, self._name)
        return last

    def deliver(self) -> int:
        """Sends what is next, and notes it. Returns how many messages that were. Raises `Unavailable` where they were not taken."""
        if not self._is_something_settled():
            return 0
        with self._database.write() as connection:
            last = audit_feed.lease(connection, self._name, _LEASE)
        if last is None:
            return 0
        try:
            number, messages = self._next(last)
            if messages:
                self._repository.send(messages)
        except BaseException:
            with self._database.write() as connection:
                audit_feed.release(connection, self._name)
            raise
        with self._database.write() as connection:
            audit_feed.sent(connection, self._name, number)
        return len(messages)

    def _is_something_settled(self) -> bool:
        """Whether there are events after the last one that was sent, before which nobody commits any more. Writes nothing if not."""
        last = self.begin()
        if last is None:
            return False
        if self._horizon.last <= last:
            with self._database.read() as connection:
                self._horizon = seals.horizon(connection)
        if self._horizon.last <= last:
            return False
        with self._database.read() as connection:
            return seals.is_reached(connection, self._horizon)

    def _next(self, last: int) -> tuple[int, list[bytes]]:
        """The number that has been sent when these messages are."""
        with self._database.read() as connection:
            events = list(trail.in_order(connection, after=last, last=self._horizon.last, rows=_TOGETHER))
            patients = audit_feed.patient_ids(connection, frozenset(each.patient for each in events if each.patient))
        messages = [made for each in events if (made := self._made(each, patients))]
        return (events[-1].pk if events else max(last, self._horizon.last)), messages

    def _made(self, recorded: RecordedEvent, patients: Mapping[str, tuple[str, str]]) -> bytes:
        """The message; empty for an event that cannot be one, which the log has then: it must not hold up all that come after."""
        try:
            return self._message(recorded, patients)
        except Exception as error:  # noqa: BLE001 (as it says)
            log().error("audit message", reason_number=recorded.pk, **failure(error))
            return b""

    def _message(self, recorded: RecordedEvent, patients: Mapping[str, tuple[str, str]]) -> bytes:
        event: Mapping[str, Any] = orjson.loads(recorded.body)
        named = transaction(event)
        path = ENDPOINTS.get(named.code) if named else None
        content = audit_message(
            event,
            patient=_cx(*patients[recorded.patient]) if recorded.patient in patients else "",
            process=self._process,
            endpoint=f"{self._settings.base_url}{path}" if path else "",
        )
        priority = syslog.NOTICE if event.get("outcome") == "0" else syslog.WARNING
        return syslog.message(
            content, moment=event["recorded"], host=self._host, application="imageshare", process=self._process, priority=priority
        )


def _cx(value: str, authority: str) -> str:
    try:
        return PatientIdentifier(value, AssigningAuthority(authority)).cx
    except InvalidIdentifier:
        return value

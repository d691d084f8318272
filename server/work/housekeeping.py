"""Once a day: forgets what nobody asks for any more, storage commitments that are over, Event Reports that nobody fetched,
sessions and codes that are over.
"""

from collections.abc import Sequence
from typing import Final

from server.access import codes
from server.access.oauth import granting
from server.access.people import people
from server.records import brought_in, commitment, feed_messages, fetches, workitem_subscribers
from server.store import jobs
from server.store.db import Database, micros
from server.store.quarantine import Quarantine

HOUSEKEEPING: Final = "housekeeping"
"""Kind of the job that looks once a day."""
_DAY: Final = 86_400_000_000
KEPT: Final = 30 * _DAY
"""Microseconds that they stay after they are over, for who asks what became of them."""


class Housekeeping:
    """`run` is what the worker calls."""

    def __init__(self, database: Database, quarantine: Quarantine) -> None:
        self._database, self._quarantine = database, quarantine

    def schedule(self) -> None:
        """Makes the daily look due."""
        with self._database.write() as connection:
            jobs.enqueue(connection, HOUSEKEEPING, "daily", due=micros())

    def run(self, due: Sequence[jobs.Job]) -> None:
        """Forgets what is old, and comes back in a day."""
        before = micros() - KEPT
        with self._database.write() as connection:
            commitment.forget(connection, before)
            workitem_subscribers.forget(connection, before)
            feed_messages.forget(connection, before)
            fetches.forget(connection, before)
            people.forget(connection, micros())
            granting.forget(connection, micros())
            codes.forget(connection, micros())
            brought_in.forget(connection, micros())
            held = brought_in.held(connection)
            for job in due:
                jobs.enqueue(connection, HOUSEKEEPING, job.key, due=micros() + _DAY)
                jobs.done(connection, job)
        self._quarantine.sweep(held)

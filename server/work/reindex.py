"""The job that makes rows of searches anew in the background: a little at a time, so that studies are published meanwhile."""

import time
from collections.abc import Sequence

from server.records import parameters, reindexing
from server.settings import Settings
from server.store import jobs
from server.store.db import Database, micros

REINDEX = parameters.REINDEX
_TOGETHER = 100
_SECONDS = 1.0
"""How long a job goes on before it queues up again behind the others."""


class Reindexer:
    """`run` is what the worker calls for jobs of kind `reindex`, whose keys are resource types."""

    def __init__(self, settings: Settings, database: Database) -> None:
        self._base = f"{settings.base_url}/fhir"
        self._database = database

    def run(self, due: Sequence[jobs.Job]) -> None:
        """Goes on with those types, each for a while. What is not finished is due again."""
        for job in due:
            self._settle()
            more = self._go_on(job.key)
            with self._database.write() as connection:
                if more:
                    jobs.enqueue(connection, REINDEX, job.key, due=micros())
                jobs.done(connection, job)

    def _settle(self) -> None:
        with self._database.write() as connection:
            reindexing.settle(connection)

    def _go_on(self, type_: str) -> bool:
        until = time.monotonic() + _SECONDS
        more = True
        while more and time.monotonic() < until:
            with self._database.write() as connection:
                more = reindexing.some(connection, type_, limit=_TOGETHER, base=self._base)
        return more

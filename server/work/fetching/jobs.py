"""Fetches that a running server does: one at a time, in a thread of the worker, continued after a restart."""

import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Final

import orjson
from sqlalchemy import Connection

from profiles.audit_event import Agent
from profiles.document import DocumentEntry
from profiles.identifiers import PatientIdentifier
from server.errors import ImageShareError, SettingsError, Unavailable
from server.outbound.community import CommunityClient
from server.records import fetches
from server.records.fetches import Fetching
from server.records.installation import Installation
from server.records.trail import Trail
from server.settings import Settings
from server.store import jobs
from server.store.db import Database, micros
from server.work.fetching.asked import Asked, Fetched, is_manifest
from server.work.fetching.documents import DocumentFetcher
from server.work.fetching.fetcher import Fetcher
from server.work.fhir.writes import Writes
from server.work.ingest import Ingest
from server.work.registry.domain import Domain

FETCH: Final = "fetch"
"""Kind of the job whose key is a fetch's id."""
_TELL_EVERY: Final = 0.5
"""Seconds between two words of how far it is."""


def ask(connection: Connection, community: str, asked: Asked, user: Agent) -> str:
    """A fetch that a server is to do, if the transaction commits; its id. `user` is who the trail says it is for."""
    wanted = {**asdict(asked), "patient": asked.patient.cx}
    requester = {name: value for name, value in asdict(user).items() if isinstance(value, str) and value and name != "address"}
    id_ = fetches.begin(
        connection, community=community, asked=orjson.dumps(wanted).decode(), requester=orjson.dumps(requester).decode()
    )
    jobs.enqueue(connection, FETCH, id_, due=micros())
    return id_


class FetchJobs:
    """`run` is what the worker calls."""

    def __init__(
        self, settings: Settings, database: Database, installation: Installation, ingest: Ingest, domain: Domain, writes: Writes,
        trail: Trail,
    ) -> None:  # fmt: skip
        self._settings, self._database, self._installation = settings, database, installation
        self._ingest, self._domain, self._writes, self._trail = ingest, domain, writes, trail

    def run(self, due: Sequence[jobs.Job]) -> None:
        """Each from its beginning; what is here of one that broke off is known, and not fetched again."""
        for job in due:
            with self._database.read() as connection:
                found = fetches.find(connection, job.key)
            made: list[Fetched] = []
            error = ""
            try:
                if found is not None and found.state in ("waiting", "running"):
                    self._fetch(found, made)
            except ImageShareError as failed:
                error = failed.detail
            with self._database.write() as connection:
                if found is not None and found.state in ("waiting", "running"):
                    complete = not error and all(each.complete for each in made)
                    result = orjson.dumps([each.told() for each in made]).decode()
                    fetches.settle(connection, found.id, "done" if complete else "failed", result, error)
                jobs.done(connection, job)

    def _fetch(self, found: Fetching, made: list[Fetched]) -> None:
        community = next((each for each in self._settings.communities if each.name == found.community), None)
        if community is None:
            raise SettingsError("the settings name no such community any more")
        asked, user = _asked(found.asked), Agent(**orjson.loads(found.requester))
        with CommunityClient(self._settings, community) as client:
            images = Fetcher(community, client, self._database, self._ingest, self._trail, user)
            others = DocumentFetcher(
                community, client, self._database, self._installation, self._ingest, self._domain, self._writes, self._trail, user
            )
            entries: list[DocumentEntry] = images.find(asked)
            for entry in entries:
                if is_manifest(entry):
                    made.append(images.manifest(entry, asked, _Telling(self._database, found.id, made)))
                else:
                    made.append(others.fetch(entry, asked.patient))
            if images.partial:
                raise Unavailable(images.partial)


class _Telling:
    """Says in the row how far it is: a few times a second, and at the end of each manifest."""

    def __init__(self, database: Database, id_: str, before: Sequence[Fetched]) -> None:
        self._database, self._id = database, id_
        self._done = sum(each.new + each.known for each in before)
        self._total = sum(each.instances for each in before)
        self._last = 0.0

    def __call__(self, done: int, total: int) -> None:
        if done < total and time.monotonic() - self._last < _TELL_EVERY:
            return
        self._last = time.monotonic()
        with self._database.write() as connection:
            fetches.progress(connection, self._id, done=self._done + done, total=self._total + total)


def _asked(text: str) -> Asked:
    values: dict[str, Any] = orjson.loads(text)
    return Asked(**{**values, "patient": PatientIdentifier.from_cx(values["patient"])})

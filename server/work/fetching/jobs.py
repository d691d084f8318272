"""Fetches that a running server does: one at a time, in a thread of the worker, continued after a restart, and by another worker where theirs died."""

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
from server.store.leases import Held
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
_MOST_TIMES: Final = 10
"""How often a fetch is begun that ends with its worker."""


def ask(connection: Connection, community: str, asked: Asked, user: Agent) -> str:
    """A fetch that a server is to do, if the transaction commits; its id. `user` is who the trail says it is for."""
    wanted = {**asdict(asked), "patient": asked.patient.cx}
    id_ = fetches.begin(
        connection, community=community, asked=orjson.dumps(wanted).decode(), requester=orjson.dumps(_requester(user)).decode()
    )
    jobs.enqueue(connection, FETCH, id_, due=micros())
    return id_


def has_asked(found: Fetching, user: Agent) -> bool:
    """Whether it was this one who asked for the fetch, from wherever."""
    return bool(orjson.loads(found.requester) == _requester(user))


def asked_of(found: Fetching) -> Asked:
    """What is to be fetched."""
    values: dict[str, Any] = orjson.loads(found.asked)
    return Asked(**{**values, "patient": PatientIdentifier.from_cx(values["patient"])})


def _requester(user: Agent) -> dict[str, str]:
    return {name: value for name, value in asdict(user).items() if isinstance(value, str) and value and name != "address"}


class FetchJobs:
    """`run` is what the worker calls."""

    def __init__(
        self, settings: Settings, database: Database, installation: Installation, ingest: Ingest, domain: Domain, writes: Writes,
        trail: Trail,
    ) -> None:  # fmt: skip
        self._settings, self._database, self._installation = settings, database, installation
        self._ingest, self._domain, self._writes, self._trail = ingest, domain, writes, trail

    def run(self, due: Sequence[jobs.Job]) -> None:
        """Each from its beginning; what is here of one that broke off is known, and not fetched again. Raises `LeaseLost` where another worker does it."""
        for job in due:
            with self._database.read() as connection:
                found = fetches.find(connection, job.key)
            made: list[Fetched] = []
            error = ""
            with Held(self._database, job) as held:
                try:
                    if job.attempts > _MOST_TIMES:
                        raise Unavailable(f"it broke off {_MOST_TIMES} times, and is not begun again")
                    if found is not None and found.state in ("waiting", "running"):
                        self._fetch(found, made, held)
                except ImageShareError as failed:
                    error = failed.detail
            with self._database.write() as connection:
                held.done(connection)
                if found is not None and found.state in ("waiting", "running"):
                    complete = not error and all(each.complete for each in made)
                    result = orjson.dumps([each.told() for each in made]).decode()
                    fetches.settle(connection, found.id, "done" if complete else "failed", result, error)

    def _fetch(self, found: Fetching, made: list[Fetched], held: Held) -> None:
        community = next((each for each in self._settings.communities if each.name == found.community), None)
        if community is None:
            raise SettingsError("the settings name no such community any more")
        asked, user = asked_of(found), Agent(**orjson.loads(found.requester))
        with CommunityClient(self._settings, community) as client:
            images = Fetcher(community, client, self._database, self._ingest, self._trail, user)
            others = DocumentFetcher(
                community, client, self._database, self._installation, self._ingest, self._domain, self._writes, self._trail, user
            )
            entries: list[DocumentEntry] = images.find(asked)
            for entry in entries:
                held.check()
                if is_manifest(entry):
                    made.append(images.manifest(entry, asked, _Telling(self._database, found.id, made, held)))
                else:
                    made.append(others.fetch(entry, asked.patient))
            if images.partial:
                raise Unavailable(images.partial)


class _Telling:
    """Says in the row how far it is: a few times a second, and at the end of each manifest. Raises `LeaseLost` where another goes on with it."""

    def __init__(self, database: Database, id_: str, before: Sequence[Fetched], held: Held) -> None:
        self._database, self._id, self._held = database, id_, held
        self._done = sum(each.new + each.known for each in before)
        self._total = sum(each.instances for each in before)
        self._last = 0.0

    def __call__(self, done: int, total: int) -> None:
        self._held.check()
        if done < total and time.monotonic() - self._last < _TELL_EVERY:
            return
        self._last = time.monotonic()
        with self._database.write() as connection:
            fetches.progress(connection, self._id, done=self._done + done, total=self._total + total)

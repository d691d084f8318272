"""The job behind bringing in: what is in the files, whose it is, and taking in what is known to be the patient's.

Both halves can be done again from their beginning, which is what happens where the process ended in the middle: an instance is taken in whole or not
at all (`work.ingest`), and once.
"""

import time
from collections import Counter
from collections.abc import Sequence
from typing import Any, BinaryIO, Final

from profiles import header
from profiles.header import HeaderError
from profiles.identifiers import InvalidIdentifier
from server.errors import Refused
from server.records import brought_in
from server.records.brought_in import BroughtIn, State
from server.records.installation import Installation
from server.settings import Settings
from server.store import jobs
from server.store.db import Database
from server.store.leases import Held
from server.store.quarantine import Quarantine
from server.work.bringing.contents import MANY, Limits, read
from server.work.bringing.taking import Taking
from server.work.bringing.whose import Identity, identity, is_of, person
from server.work.ingest import Ingest

EMPTY: Final = "no images were found in it; choose the whole CD or folder, or the ZIP file that you were given"
_MOST_STUDIES: Final = 500
_MOST_TIMES: Final = 10
_BROKE_OFF: Final = "it could not be read to its end; bring it in again or, if that happens again, ask for help"
_TELL_EVERY: Final = 0.5


class Gone(Exception):
    """It was cancelled meanwhile."""


class BringInJobs:
    """`run` is what the worker calls."""

    def __init__(
        self, settings: Settings, database: Database, installation: Installation, ingest: Ingest, quarantine: Quarantine
    ) -> None:
        self._database, self._ingest, self._quarantine = database, ingest, quarantine
        self._installation = installation
        self._limits = Limits(settings.bring_in_max_bytes, settings.bring_in_max_files, settings.max_instance_bytes)
        self._domains = installation.domains(settings)

    def run(self, due: Sequence[jobs.Job]) -> None:
        """Each from its beginning. Raises `LeaseLost` where another worker does it, `StorageFull` and its like: it is put back."""
        for job in due:
            with Held(self._database, job) as held:
                try:
                    if job.attempts > _MOST_TIMES:
                        raise Refused(_BROKE_OFF)
                    self._step(job.key, held)
                except Gone:
                    pass
                except (Refused, FileNotFoundError) as error:
                    self._failed(job.key, error.detail if isinstance(error, Refused) else _BROKE_OFF)
            with self._database.write() as connection:
                held.done(connection)

    def _step(self, id_: str, held: Held) -> None:
        if (found := self._as_it_is(id_)) is not None and found.state == "reading":
            self._read(found, held)
        if (found := self._as_it_is(id_)) is not None and found.state == "taking":
            self._take(found, held)

    def _as_it_is(self, id_: str) -> BroughtIn | None:
        with self._database.read() as connection:
            return brought_in.find(connection, id_)

    # --- what is in it

    def _read(self, found: BroughtIn, held: Held) -> None:
        studies: dict[tuple[str, ...], dict[str, Any]] = {}
        left: Counter[str] = Counter(found.left_out)
        telling = _Telling(self._database, found.id, "reading", held)
        path = self._quarantine.path(found.id)
        for item in read(path, [each["size"] for each in found.files], self._limits, lambda at: telling(at, found.size)):
            if isinstance(item, str):
                left[item] += 1
            elif not self._looked(item, studies):
                left["damaged"] += 1
        if not studies:
            raise Refused(EMPTY)
        self._sorted(found, list(studies.values()), left)

    def _looked(self, file: BinaryIO, studies: dict[tuple[str, ...], dict[str, Any]]) -> bool:
        """PS3.3 section C.7: adds an instance to the study that it is of; each identity in a study is by itself. False where it cannot be read."""
        try:
            dataset, syntax, _ = header.read(file)
            study, whose = identity(dataset, syntax, self._domains)
        except (HeaderError, InvalidIdentifier):
            return False
        key = (study.study_instance_uid, *whose.told().values())
        if key not in studies and len(studies) >= _MOST_STUDIES:
            raise Refused(MANY)
        known = studies.setdefault(
            key,
            {
                "study": study.study_instance_uid, "date": study.date, "description": study.description, "institution": study.institution,
                "modalities": [], "parts": [], "images": 0, **whose.told(),
            },
        )  # fmt: skip
        (series,) = study.series
        known["images"] += 1
        for value, values in ((series.modality, known["modalities"]), (series.body_part, known["parts"])):
            if value and value not in values and len(values) < 10:
                values.append(value)
        return True

    def _sorted(self, found: BroughtIn, studies: list[dict[str, Any]], left: Counter[str]) -> None:
        """What is the patient's is taken in; the rest waits for staff."""
        with self._database.write() as connection:
            known = person(connection, found.patient) if found.patient else None
            for each in studies:
                mine = known is not None and is_of(Identity.of(each), known)
                each |= {"state": "taking", "patient": known.id} if mine and known is not None else {"state": "other"}
            now = brought_in.locked(connection, found.id)
            if now is None or now.state != "reading":
                raise Gone
            state: State = "taking" if any(each["state"] == "taking" for each in studies) else "waiting"
            told = [*studies, *({"left_out": why, "count": count} for why, count in sorted(left.items()))]
            brought_in.change(connection, found.id, state=state, found=told, done=0, total=0)

    # --- into the archive

    def _take(self, found: BroughtIn, held: Held) -> None:
        telling = _Telling(self._database, found.id, "taking", held)
        taking = Taking(self._database, self._installation, self._ingest, found)
        wanted = taking.prepare()
        done = 0
        path = self._quarantine.path(found.id)
        for item in read(path, [each["size"] for each in found.files], self._limits) if wanted else ():
            if isinstance(item, str):
                continue
            try:
                done += taking.take(item, self._domains)
            except (HeaderError, InvalidIdentifier):
                continue  # which the first half has told
            telling(done, wanted)
        studies = taking.finish()
        waits = any(each.get("state") == "other" for each in studies)
        with self._database.write() as connection:
            if waits:
                brought_in.change(connection, found.id, state="waiting", found=studies)
            else:
                brought_in.over(connection, found.id, "done", studies)
        if not waits:
            self._quarantine.remove(found.id)

    def _failed(self, id_: str, why: str) -> None:
        with self._database.write() as connection:
            found = brought_in.locked(connection, id_)
            if found is not None and found.state in brought_in.HELD:
                brought_in.over(connection, id_, "failed", found.found, why)
        self._quarantine.remove(id_)


class _Telling:
    """Says a few times a second how far it is. Raises `Gone` where it was cancelled, `LeaseLost` where another goes on with it."""

    def __init__(self, database: Database, id_: str, state: State, held: Held) -> None:
        self._database, self._id, self._state, self._held = database, id_, state, held
        self._last = 0.0

    def __call__(self, done: int, total: int) -> None:
        if time.monotonic() - self._last < _TELL_EVERY:
            return
        self._last = time.monotonic()
        self._held.check()
        with self._database.write() as connection:
            if brought_in.progress(connection, self._id, done, total) != self._state:
                raise Gone

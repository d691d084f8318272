"""Bringing in images from a browser: begun, received in pieces, and what staff decide of those that another name stands on.

What comes stays in quarantine (`store.quarantine`) and is read and taken in by a job (`work.bringing.jobs`).
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from server.access.people.accounts import Account
from server.access.people.people import People
from server.errors import Conflict, NotFound, Refused, TooLarge
from server.records import brought_in
from server.records.brought_in import BroughtIn
from server.settings import Settings
from server.store import jobs
from server.store.db import Database, micros
from server.store.quarantine import Quarantine
from server.work.bringing.contents import MANY
from server.work.bringing.whose import Identity, person

BRING_IN: Final = "bring-in"
"""Kind of the job whose key is the id of what was brought in."""
NOTHING: Final = "there is nothing here that was brought in under this name"
CANCELLED: Final = "cancelled"
_OPEN: Final = 5
_NAME: Final = 500
_SIZE: Final = 1 << 62


class BringingIn:
    """What pages ask for. Safe for threads and processes."""

    def __init__(self, settings: Settings, database: Database, quarantine: Quarantine, people: People) -> None:
        self._settings, self._database, self.quarantine, self._people = settings, database, quarantine, people

    # --- who brings in

    def begin(self, by: Account, patient: str, files: Sequence[Mapping[str, Any]], left_out: int, address: str) -> BroughtIn:
        """Something that is to come, or what was begun with the very same files before. Raises `Refused`, `TooLarge`, `Conflict`."""
        listed = self._listed(files)
        with self._database.write() as connection:
            mine = [each for each in brought_in.of_account(connection, by.id) if each.state == "open"]
            again = next((each for each in mine if each.files == listed and each.patient == patient and listed), None)
            if again is not None:
                return again
            if len(mine) >= _OPEN:
                raise Conflict("other images are still on their way; let them arrive, or cancel them first")
            days = self._settings.bring_in_days
            made = brought_in.begin(
                connection, account=by.id, patient=patient, files=listed, left_out=max(0, left_out), days=days
            )
            self._people.events.changed(connection, by.id, by, "images are being brought in", address, patient)
        return made

    def mine(self, id_: str, account: str) -> BroughtIn:
        """What this account brings in. Raises `NotFound`."""
        with self._database.read() as connection:
            found = brought_in.find(connection, id_)
        if found is None or found.account != account:
            raise NotFound(NOTHING)
        return found

    def receive(self, id_: str, offset: int, data: bytes, most: int) -> int:
        """A piece at `offset`; the new one. Raises `Conflict` where that is not the end of what is here, `TooLarge`, `StorageFull`."""
        if offset + len(data) > most:
            raise TooLarge("this is more than was announced, or than may be brought in at once")
        return self.quarantine.append(id_, offset, data) if data else offset

    def arrived(self, id_: str, files: Sequence[Mapping[str, Any]] | None = None) -> None:
        """All of it is here, and is read now. `files` are given where they were not known at the beginning."""
        self.quarantine.sync(id_)
        with self._database.write() as connection:
            found = brought_in.locked(connection, id_)
            if found is None or found.state != "open":
                return
            more = {} if files is None else {"files": self._listed(files)}
            brought_in.change(connection, id_, state="reading", done=0, total=0, **more)
            jobs.enqueue(connection, BRING_IN, id_, due=micros())

    def cancel(self, id_: str, by: Account, address: str) -> None:
        """Nothing of it is taken in, unless that has begun. Raises `NotFound`, `Conflict`."""
        with self._database.write() as connection:
            found = brought_in.locked(connection, id_)
            if found is None or found.account != by.id:
                raise NotFound(NOTHING)
            if found.state not in ("open", "reading", "waiting"):
                raise Conflict("this is over, or is being taken in already; it cannot be cancelled any more")
            studies = [{**each, "state": "refused"} if each.get("state") == "other" else each for each in found.found]
            brought_in.over(connection, id_, "refused", studies, CANCELLED)
            self._people.events.changed(connection, by.id, by, "bringing in images was cancelled", address, found.patient)
        self.quarantine.remove(id_)

    # --- staff

    def waiting(self, id_: str) -> BroughtIn:
        """One that staff have to look at. Raises `NotFound`."""
        with self._database.read() as connection:
            found = brought_in.find(connection, id_)
        if found is None or found.state != "waiting":
            raise NotFound("this is not waiting any more, or was never here")
        return found

    def accept(self, id_: str, number: int, patient: str, by: Account, address: str) -> None:
        """The images of this identity (its place in `identities`) are this patient's. Raises `NotFound`, `Refused`."""

        def accepted(study: dict[str, Any]) -> dict[str, Any]:
            return {**study, "state": "taking", "patient": patient}

        with self._database.read() as connection:
            if person(connection, patient) is None:
                raise Refused("there is nothing of this patient here yet that images could be added to")
        self._decide(id_, number, accepted, by, "images that were brought in were accepted", address, patient)

    def refuse(self, id_: str, number: int, by: Account, address: str) -> None:
        """They are nobody's here, and are removed. Raises `NotFound`."""
        self._decide(
            id_,
            number,
            lambda study: {**study, "state": "refused", "why": "staff"},
            by,
            "images that were brought in were refused",
            address,
        )

    def _decide(
        self, id_: str, number: int, decided: Callable[[dict[str, Any]], dict[str, Any]], by: Account, said: str, address: str, patient: str = ""
    ) -> None:  # fmt: skip
        with self._database.write() as connection:
            found = brought_in.locked(connection, id_)
            others = identities(found) if found is not None and found.state == "waiting" else []
            if found is None or not 0 <= number < len(others):
                raise NotFound("this is not waiting any more; somebody else has decided on it")
            whose = others[number]
            studies = [
                decided(each) if each.get("state") == "other" and Identity.of(each) == whose else each for each in found.found
            ]
            states = {each.get("state") for each in studies}
            if "taking" in states:
                brought_in.change(connection, id_, found=studies, state="taking", done=0, total=0)
                jobs.enqueue(connection, BRING_IN, id_, due=micros())
            elif "other" in states:
                brought_in.change(connection, id_, found=studies)
            else:
                brought_in.over(connection, id_, "done" if "taken" in states else "refused", studies)
            self._people.events.changed(connection, found.account, by, said, address, patient or found.patient)
        if not states & {"taking", "other"}:
            self.quarantine.remove(id_)

    def _listed(self, files: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        if len(files) > self._settings.bring_in_max_files:
            raise TooLarge(MANY)
        listed: list[dict[str, Any]] = [{"name": str(each.get("name", ""))[:_NAME], "size": each.get("size")} for each in files]
        if not all(_is_size(each["size"]) for each in listed):
            raise Refused("each file has a name and a size in bytes")
        if sum(each["size"] for each in listed) > self._settings.bring_in_max_bytes:
            raise TooLarge("these files are larger than what is taken at once; bring in fewer")
        return listed


def _is_size(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _SIZE


def identities(found: BroughtIn) -> list[Identity]:
    """Who the images say that they are of that wait for somebody, each once."""
    return list(dict.fromkeys(Identity.of(each) for each in found.studies if each["state"] == "other"))

"""Who saw what of a patient, and when: the trail in plain words, for the patient, for proxies and for staff.

The trail has nobody's name, only ids: names are looked up when it is read. Of another patient, or a person who has nothing to do with this one, it is
said that there was somebody, not who: that is their affair.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import orjson
from sqlalchemy import ColumnElement, Connection

from profiles.audit_event import SUCCESS
from profiles.audit_words import words
from profiles.fhir.json import parse
from profiles.smart.words import Phrase
from server.access import rights, roles, shares
from server.access.oauth import clients
from server.access.people import accounts, proxies
from server.access.people.accounts import Account
from server.errors import Gone, NotFound
from server.records import belonging, resources, trail
from server.records.trail import RecordedEvent
from server.store.db import micros, moment

Place = tuple[int, int, int]
Json = dict[str, Any]
PATIENT: Final = "the patient"
ANOTHER: Final = "another person"
WITH_LINK: Final = "somebody with your link"
SHARED: Final = "a shared link"
MOST_READ: Final = 5000
"""Events that one page of a search looks through."""
_PART: Final = 250
_USERS: Final = frozenset({"IRCP", "AUT"})
_OURS: Final = ("imageshare", "command line", "retention")
"""What of this server itself acts, as the trail names it."""
_NAMED: Final = {"anonymous": "somebody who was not signed in", "browser": "this website", rights.PORTAL: "this website"}
"""Who asks without being a client that somebody has registered."""


@dataclass(frozen=True, slots=True)
class AccessRow:
    """One access, or the attempt. `when` is UTC. `who` is empty for a program by itself, `app` what was used.

    `outcome` is allowed, refused or failed; `event` the id of the AuditEvent, `place` where the rows after this one begin. `patient` is whose list it
    is in; `is_former` says that it was of somebody who was merged into that patient.
    """

    when: datetime
    who: str
    organization: str
    app: str
    phrase: Phrase
    purposes: tuple[str, ...]
    outcome: str
    patient: str
    event: str
    place: Place
    is_former: bool = False

    @property
    def what(self) -> str:
        """In English."""
        return self.phrase.said()

    @property
    def purpose(self) -> str:
        return ", ".join(self.purposes)


def rows(
    connection: Connection,
    patients: Collection[str],
    before: Place | None,
    count: int,
    *,
    start: int | None = None,
    end: int | None = None,
) -> tuple[AccessRow, ...]:
    """Up to `count` accesses to data of these patients (resource ids), the newest first, those after the row with the place `before`.

    What was of others who have been merged into them since is theirs, too. `start` and `end` are microseconds, half-open. Whether the reader may
    see them is the caller's to know.
    """
    merged = {former: each for each in sorted(patients) for former in belonging.former(connection, each)}
    owners = merged | {each: each for each in patients}

    def whose(column: ColumnElement[str]) -> Sequence[ColumnElement[bool]]:
        return [column.in_(sorted(owners))]

    def moments(column: ColumnElement[int]) -> Sequence[ColumnElement[bool]]:
        return [*([column >= start] if start is not None else []), *([column < end] if end is not None else [])]

    wanted = trail.Wanted(patients=whose, moments=moments, few=True)
    found = list(trail.events(connection, wanted=wanted, limit=count, after=before))
    names = _Names(connection)
    return tuple(_row(each, owners[each.patient], names) for each in found)


@dataclass(frozen=True, slots=True)
class Asked:
    """What of the trail: of these patients (None: of everybody and of nobody), by this account (its id), of one outcome, within these microseconds."""

    patients: frozenset[str] | None = None
    account: str = ""
    refused: bool = False
    start: int | None = None
    end: int | None = None


def search(connection: Connection, asked: Asked, before: Place | None, count: int) -> tuple[tuple[AccessRow, ...], Place | None]:
    """Up to `count` events, the newest first, for who may read the whole trail, and where to go on; None where there is no more.

    By whom an event was stands in its body alone, so a page may end after `MOST_READ` events with fewer rows.
    """
    conditions = [trail.EVENT.c.outcome != SUCCESS] if asked.refused else []
    names, found, place, left = _Names(connection, of_all=True), list[AccessRow](), before, MOST_READ
    wanted = _wanted(connection, asked)
    while left > 0 and len(found) < count:
        part = list(trail.events(connection, *conditions, wanted=wanted, limit=min(_PART, left), after=place))
        left -= _PART
        for each in part:
            place = (each.recorded, each.pk, each.number)
            if asked.account and not _is_by(each, asked.account):
                continue
            found.append(_row(each, each.patient, names))
            if len(found) == count:
                return tuple(found), place
        if len(part) < _PART:
            return tuple(found), None
    return tuple(found), place


def _wanted(connection: Connection, asked: Asked) -> trail.Wanted:
    def moments(column: ColumnElement[int]) -> Sequence[ColumnElement[bool]]:
        return [
            *([column >= asked.start] if asked.start is not None else []),
            *([column < asked.end] if asked.end is not None else []),
        ]

    if asked.patients is None:
        return trail.Wanted(moments=moments)
    them = sorted({same for each in asked.patients for same in belonging.same(connection, each)} | asked.patients)

    def whose(column: ColumnElement[str]) -> Sequence[ColumnElement[bool]]:
        return [column.in_(them)]

    return trail.Wanted(patients=whose, moments=moments, few=True)


def _is_by(event: RecordedEvent, account: str) -> bool:
    """Whether an agent of the event is this account; its id is in the body as it is, which saves parsing most."""
    if account.encode() not in event.body:
        return False
    return any(_identifier(agent) == account for agent in orjson.loads(event.body).get("agent", ()))


def _row(event: RecordedEvent, owner: str, names: "_Names") -> AccessRow:
    body: Json = orjson.loads(event.body)
    said, client, user = words(body), _client(body), _user(body)
    who, organization = names.person(user, event.patient, body) if user else (names.recipient(client), "")
    return AccessRow(
        moment(event.recorded), who, organization, names.program(client), said.phrase, said.purposes, said.outcome, owner, event.id,
        (event.recorded, event.pk, event.number), owner != event.patient,
    )  # fmt: skip


def _client(body: Json) -> str:
    """The first agent is the client, as this server writes them."""
    return _identifier(body.get("agent", [{}])[0])


def _user(body: Json) -> Json | None:
    for agent in body.get("agent", [])[2:]:
        if _USERS & {coding.get("code") for coding in agent.get("type", {}).get("coding", ())}:
            return dict(agent)
    return None


def _identifier(agent: Json) -> str:
    return str(agent.get("who", {}).get("identifier", {}).get("value", ""))


class _Names:
    """Names for people, so far as this patient may know them (with `of_all` for who may read the whole trail), and for programs; each is looked up once."""

    def __init__(self, connection: Connection, *, of_all: bool = False) -> None:
        self._connection, self._of_all = connection, of_all
        self._accounts: dict[str, Account | None] = {}
        self._programs: dict[str, str] = {}
        self._professionals: dict[str, tuple[str, str]] = {}
        self._related: dict[tuple[str, str], str] = {}
        self._recipients: dict[str, str] = {}

    def program(self, id_: str) -> str:
        if id_ not in self._programs:
            client = clients.find(self._connection, id_)
            ours = client is None and id_.startswith(_OURS)
            named = SHARED if self.recipient(id_) else _NAMED.get(id_) or (client.name if client else id_)
            self._programs[id_] = "this server" if ours else named
        return self._programs[id_]

    def recipient(self, id_: str) -> str:
        """Whom a patient has shared with, by the share that the trail names; empty for what is none."""
        if id_ not in self._recipients:
            share = shares.find(self._connection, id_) if id_ and id_ not in self._programs else None
            self._recipients[id_] = (share.name or WITH_LINK) if share is not None else ""
        return self._recipients[id_]

    def person(self, agent: Json, patient: str, body: Json) -> tuple[str, str]:
        """Name and organization."""
        id_, reference = _identifier(agent), str(agent.get("who", {}).get("reference", ""))
        account = self._account(id_) if id_ else None
        if account is None:
            if shared := self.recipient(id_):
                return shared, ""
            if reference == f"Patient/{patient}":
                return PATIENT, ""
            return self._professional(reference) if reference.startswith("Practitioner") else (ANOTHER, "")
        if self._of_all:
            return account.name or account.email, ""
        if account.kind in ("staff", "administrator"):
            return account.name, str(body.get("source", {}).get("observer", {}).get("display", ""))
        if account.kind == "practitioner":
            name, organization = self._professional(account.fhir_user)
            return account.name or name, organization
        return self._private(account, patient), ""

    def _account(self, id_: str) -> Account | None:
        if id_ not in self._accounts:
            self._accounts[id_] = accounts.find(self._connection, id_)
        return self._accounts[id_]

    def _private(self, account: Account, patient: str) -> str:
        """The patient, who is or was a proxy, or somebody who is neither. Who were merged are one."""
        if (account.id, patient) not in self._related:
            them = belonging.same(self._connection, patient)
            is_own = not them.isdisjoint(accounts.own_patients(self._connection, account.id))
            is_proxy = any(each.patient in them for each in proxies.of_account(self._connection, account.id))
            self._related[account.id, patient] = PATIENT if is_own else account.name if is_proxy else ANOTHER
        return self._related[account.id, patient]

    def _professional(self, reference: str) -> tuple[str, str]:
        """A Practitioner's or PractitionerRole's name, and the organizations that the roles are for."""
        if reference not in self._professionals:
            referred, _ = roles.actors(self._connection, reference, micros())
            people = [name for each in sorted(referred) if each.startswith("Practitioner/") and (name := self._named(each))]
            places = [name for each in sorted(referred) if each.startswith("Organization/") and (name := self._named(each))]
            self._professionals[reference] = (people[0] if people else "a professional", ", ".join(places))
        return self._professionals[reference]

    def _named(self, reference: str) -> str:
        type_, _, id_ = reference.partition("/")
        try:
            name = parse(resources.read(self._connection, type_, id_).body).get("name", "")
        except (NotFound, Gone):
            return ""
        if isinstance(name, str):
            return name
        first: Json = next(iter(name), {})
        parts = (*first.get("prefix", ()), *first.get("given", ()), first.get("family", ""))
        return str(first.get("text") or " ".join(part for part in parts if part))

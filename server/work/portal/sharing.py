"""Sharing: a patient opens studies to somebody by a link, sees who has opened them, and ends it whenever she likes.

What is shared is what whoever shares may see whole. Each opening is an event of disclosure in the patient's trail, with who the recipient said to be and
that the patient allowed it, and an e-mail to the patient.
"""

import secrets
from dataclasses import dataclass, replace
from typing import Final

from sqlalchemy import Connection

from profiles.audit_event import DISCLOSED, REFUSED, USER_SECURITY_CHANGED, Agent, AuditedEntity
from server.access import shares
from server.access.decisions import Decision
from server.access.oauth import granting
from server.access.oauth.granting import Granted
from server.access.people import accounts
from server.access.people.accounts import Account
from server.access.people.people import People
from server.access.people.throttles import counts, network, rate
from server.access.shares import Face, Opening, Share, Wish
from server.access.viewing import Viewing
from server.errors import Forbidden, NotFound, Refused, TooManyAttempts
from server.records.installation import Installation
from server.records.trail import Trail
from server.settings import Settings
from server.store import jobs
from server.store.db import Database, micros
from server.work.portal import studies

OPENED: Final = "share-opened"
"""Kind of the job that tells whoever shares of an opening; its key is the opening's id."""
SENT: Final = "share-sent"
"""Kind of the job that sends a link to whom it is for; its key is the share's id."""
NOTHING: Final = "this link opens nothing any more: it was stopped, it has expired, or it was used as often as it may be; ask who gave it to you"
DAYS: Final = (1, 7, 30, 90, 365)
_OF_NETWORK: Final = rate(60, 900, "share")


class PasscodeRefused(Forbidden):
    """`left` tries remain."""

    def __init__(self, left: int) -> None:
        super().__init__(
            "this passcode is not right"
            if left
            else "this passcode was not right, and the link is closed now; ask for another one"
        )
        self.left = left


@dataclass(frozen=True, slots=True)
class Coming:
    """Who opens a link: what they say they are called, with which browser, from which address."""

    name: str
    browser: str
    address: str
    request_id: str = ""


class Sharing:
    """The shares of one node."""

    def __init__(
        self, settings: Settings, database: Database, site: Installation, viewing: Viewing, people: People, trail: Trail
    ) -> None:
        self._settings, self._database, self._key = settings, database, site.cursor_key
        self._viewing, self._people, self._trail, self._issuer = viewing, people, trail, site.issuer

    # --- whoever shares

    def make(self, connection: Connection, decision: Decision, wish: Wish, account: str, passcode: str = "") -> tuple[Share, str]:
        """A share of studies that `decision` sees whole, all of one patient, and the secret of its link. Raises `Refused`, `NotFound`."""
        if wish.days not in DAYS:
            raise Refused("choose how long the link is to work")
        seen = studies.of_uids(connection, decision, wish.studies)
        if not seen or len(seen) != len(set(wish.studies)) or {each.patient for each in seen} != {wish.patient}:
            raise NotFound(studies.NO_STUDY)
        if not all(each.is_whole for each in seen):
            raise Refused("a part of these images is kept closed to you; they cannot be shared")
        hashed = self._people.passwords.hashing.hash(passcode) if passcode else ""
        share, secret = shares.make(connection, self._key, replace(wish, passcode=hashed), account)
        if share.email:
            jobs.enqueue(connection, SENT, share.id, due=micros())
        self._changed(connection, share, account, "images were shared by a link")
        return share, secret

    def link(self, share: Share, secret: str = "") -> str:
        """The address that opens it. What comes after `#` no server is sent."""
        return f"{self._settings.base_url}/share/{share.id}#{secret or shares.secret_of(self._key, share)}"

    def stop(self, id_: str, account: str) -> None:
        """Ends it at once. Raises `NotFound` for what is not this account's."""
        with self._database.write() as connection:
            found = shares.find(connection, id_)
            if found is None or found.account != account:
                raise NotFound("there is no such share, or it has ended")
            self._changed(connection, shares.stop(connection, id_, "stopped"), account, "sharing was stopped")

    # --- who opens it

    def open(self, id_: str, secret: str, passcode: str, coming: Coming) -> tuple[Share, Opening, str]:
        """The share of a link, opened, and what the browser is to keep. Raises `NotFound`, `PasscodeRefused`, `TooManyAttempts`.

        `secret` may also be what a browser or app keeps that has opened it before: that is no other opening.
        """
        self.count(coming)
        with self._database.read() as connection:
            before, share = self.opened(connection, id_, secret), shares.known(connection, id_, secret)
        if before is not None:
            return before[0], before[1], secret
        if share is None:
            raise NotFound(NOTHING)
        cookie = secrets.token_urlsafe(32)
        opening, _ = self.admit(share, passcode, coming, cookie)
        return share, opening, cookie

    def addressed(self, connection: Connection, account: Account) -> tuple[Share, ...]:
        """What is shared with somebody who has signed in, and has shown that the e-mail address is theirs."""
        return shares.of_recipient(connection, account.email) if account.assurance > accounts.NOBODY else ()

    def open_as(self, id_: str, account: Account, passcode: str, coming: Coming) -> tuple[Share, Opening, str]:
        """A share that is addressed to this account, opened without its link, and what the browser is to keep. Raises as `open` does."""
        self.count(coming)
        with self._database.read() as connection:
            share = next((each for each in self.addressed(connection, account) if each.id == id_), None)
        if share is None:
            raise NotFound(NOTHING)
        cookie = secrets.token_urlsafe(32)
        opening, _ = self.admit(share, passcode, coming, cookie, "account")
        return share, opening, cookie

    def admit(self, share: Share, passcode: str, coming: Coming, cookie: str, face: Face = "link") -> tuple[Opening, Granted]:
        """One opening, at this face, by somebody who knows where it is and keeps `cookie`. Raises `NotFound`, `PasscodeRefused`."""
        if share.passcode:
            self._require_passcode(share, passcode, coming)
        with self._database.write() as connection:
            granted = self._viewing.for_share(
                connection,
                share.id,
                share.patient,
                share.studies,
                share.expires,
                reports=share.reports,
                taking=share.download or (share.apps and face == "health-link"),
            )
            opening = shares.open_(connection, share, granted.id, cookie, name=coming.name, browser=coming.browser, face=face)
            if opening is None:
                granting.end(connection, granted.id, "the share was used up")
            else:
                self._disclosed(connection, share, coming)
                jobs.enqueue(connection, OPENED, opening.id, due=micros())
        if opening is None:
            raise NotFound(NOTHING)
        return opening, granted

    def opened(self, connection: Connection, id_: str, cookie: str) -> tuple[Share, Opening, Granted] | None:
        """What this browser has opened, as long as it holds."""
        opening, share = shares.opened(connection, id_, cookie), shares.find(connection, id_)
        granted = granting.find(connection, opening.grant) if opening is not None else None
        if share is None or opening is None or granted is None or not granted.holds(micros()) or share.ended:
            return None
        return share, opening, granted

    def _require_passcode(self, share: Share, passcode: str, coming: Coming) -> None:
        """Each try is counted before it is looked at, in a transaction of its own: however many come at once, no more are than may be."""
        with self._database.write() as connection:
            left = shares.take_try(connection, share.id)
        if left < 0:
            raise NotFound(NOTHING)
        right, _ = self._people.passwords.hashing.verify("".join(passcode.split()), share.passcode)
        with self._database.write() as connection:
            if right:
                shares.give_back(connection, share.id)
                return
            self._refused(connection, share, coming)
            if not left and share.state(micros()) == "open":
                self._changed(
                    connection, shares.stop(connection, share.id, "passcodes"), "", "sharing ended after too many wrong passcodes"
                )
        raise PasscodeRefused(left)

    def count(self, coming: Coming) -> None:
        """Raises `TooManyAttempts` where a network has asked for links too often."""
        if not self._settings.sign_in_failures_per_address or not counts(coming.address, self._settings):
            return
        if not self._people.throttles.take(_OF_NETWORK, network(coming.address)):
            raise TooManyAttempts(self._people.throttles.wait(_OF_NETWORK, network(coming.address)))

    # --- the trail

    def _changed(self, connection: Connection, share: Share, account: str, said: str) -> None:
        by = accounts.find(connection, account) if account else None
        self._people.events.changed(connection, share.account, by, said, "", share.patient)

    def _disclosed(self, connection: Connection, share: Share, coming: Coming) -> None:
        """IHE BALP section 3:5.7.6, Privacy Disclosure: to whom, of which studies, and who allowed it."""
        recipient = Agent(identifier=share.id, system=self._issuer, address=coming.address)
        authorizer = Agent(reference=f"Patient/{share.patient}")
        seen = tuple(AuditedEntity(reference=f"ImagingStudy/{id_}") for id_ in studies.ids(connection, share.studies))
        action = self._trail.action(
            "export", DISCLOSED, recipient, rest=False, patient_id=share.patient, entities=seen, request_id=coming.request_id
        )
        self._trail.record(connection, replace(action, authorizer=authorizer))

    def _refused(self, connection: Connection, share: Share, coming: Coming) -> None:
        browser = Agent(identifier="browser", address=coming.address)
        action = self._trail.action(
            "security", USER_SECURITY_CHANGED, browser, rest=False, outcome=REFUSED, outcome_desc="a wrong passcode for a shared link",
            patient_id=share.patient, entities=(AuditedEntity(identifier=share.id, details=(("changed", "a wrong passcode"),)),),
            request_id=coming.request_id,
        )  # fmt: skip
        self._trail.record(connection, action)


def new_passcode() -> str:
    """Six digits, to be said over the telephone."""
    return f"{secrets.randbelow(1_000_000):06}"

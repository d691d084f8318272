"""Patients get to their images by an access code and a date of birth: at once, in the browser before them, and then for good, in an account.

Each try is counted for its network and, beyond a number for all networks, more strictly for each: who guesses learns nothing and soon asks in vain.
A second person with the right code and date is an alert: to the trail, to the holder of the account and to the site's privacy officer.
"""

from dataclasses import dataclass, replace
from typing import Final

from sqlalchemy import Connection, select

from profiles.audit_event import (
    LOGIN,
    REFUSED,
    SUCCESS,
    USER_SECURITY_CHANGED,
    Agent,
    AuditedAction,
    AuditedEntity,
    Kind,
    Outcome,
    Subtype,
)
from profiles.person_name import spoken
from server.access import codes
from server.access.codes import AccessCode
from server.access.oauth import granting
from server.access.oauth.granting import Granted
from server.access.people import accounts
from server.access.people.accounts import Account
from server.access.people.people import People
from server.access.people.throttles import Counted, counts, network, rate
from server.access.viewing import Viewing
from server.errors import Conflict, Forbidden, TooManyAttempts
from server.records.catalogue import PATIENT
from server.records.installation import Installation
from server.records.strangers import Strangers
from server.records.trail import Trail
from server.settings import Settings
from server.store import jobs
from server.store.db import Database, micros
from server.work.portal import studies

ALERT: Final = "code-alert"
"""Kind of the job that tells those concerned that a code was tried again; its key is the code's id and when."""
WRONG: Final = "the code and the date of birth do not belong together, or the code opens nothing any more"
OVER: Final = "this code is over; ask the hospital for a new one"
TAKEN: Final = "this code has been used already, in another browser"
_SECONDS: Final = 900
_OF_NETWORK, _OF_SUSPECT, _OF_ALL = (
    rate(20, _SECONDS, "access-code"), rate(5, _SECONDS, "access-code-suspect"), rate(1000, 3600, "access-code-all"),
)  # fmt: skip


class CodeRefused(Forbidden):
    """Nothing is found by what was typed."""

    def __init__(self) -> None:
        super().__init__(WRONG)


class CodeTaken(Conflict):
    """Right, and somebody else was first. `claimed` is when (microseconds), `kept` whether there is an account."""

    def __init__(self, code: AccessCode) -> None:
        super().__init__(TAKEN)
        self.claimed, self.kept = code.claimed, bool(code.account)


@dataclass(frozen=True, slots=True)
class Asking:
    """Who tries: `claimant` is what the browser keeps for this, `address` where it calls from."""

    claimant: str
    address: str
    request_id: str = ""


class Claiming:
    """The codes of one node, for those who claim them."""

    def __init__(
        self,
        settings: Settings,
        database: Database,
        site: Installation,
        viewing: Viewing,
        people: People,
        trail: Trail,
        strangers: Strangers,
    ) -> None:
        self._settings, self._database, self._key = settings, database, site.cursor_key
        self._viewing, self._people, self._trail, self._strangers = viewing, people, trail, strangers

    def claim(self, text: str, born: str, asking: Asking, account: Account | None = None) -> AccessCode:
        """The code that was typed, with the date of birth (`YYYYMMDD`), is this browser's; of somebody who is signed in, the account's at once.

        Raises `CodeRefused` whatever is wrong, `CodeTaken`, `Forbidden` for one that is over, `TooManyAttempts`.
        """
        counted = self._count(asking)
        with self._database.write() as connection:
            looked = codes.look(connection, self._key, text, born, asking.claimant)
            refusal = self._refusal(connection, looked, asking, account)
            if refusal is None and looked.found is not None and looked.outcome == "open":
                refusal = self._begin(connection, looked.found, asking)
            if refusal is None and looked.found is not None and account is not None:
                self._keep(connection, looked.found, account, asking)
        if refusal is not None:
            if looked.found is None:
                self._strangers.refused(self._action("sign-in", LOGIN, asking, REFUSED, "an access code was refused"))
            raise refusal
        self._people.throttles.settle(back=counted)
        assert looked.found is not None
        return looked.found

    def held(self, connection: Connection, claimant: str) -> tuple[Granted, ...]:
        """What this browser may see without an account: the grants of the codes that it has claimed."""
        found = (granting.find(connection, each.grant) for each in codes.of_claimant(connection, claimant) if each.grant)
        return tuple(each for each in found if each is not None and each.holds(micros()))

    def invite(self, email: str) -> None:
        """An account for this e-mail address, if there is none: nobody's, until somebody has shown to read what is sent there. Raises `Refused`."""
        with self._database.write() as connection:
            if accounts.by_email(connection, email) is None:
                accounts.add(connection, kind="patient", email=email, assurance=accounts.NOBODY)

    def keep(self, account: Account, asking: Asking) -> int:
        """What this browser has claimed is in the account from now on. How many codes that were."""
        with self._database.write() as connection:
            mine = [each for each in codes.of_claimant(connection, asking.claimant) if not each.account]
            return sum(self._keep(connection, each, account, asking) for each in mine)

    def leave(self, asking: Asking) -> None:
        """The browser forgets them."""
        with self._database.write() as connection:
            codes.leave(connection, asking.claimant)

    # --- one try

    def _refusal(self, connection: Connection, looked: codes.Looked, asking: Asking, account: Account | None) -> Exception | None:
        if looked.found is None:
            return CodeRefused()
        if looked.outcome == "over":
            return Forbidden(OVER)
        if looked.outcome == "taken" and (account is None or looked.found.account != account.id):
            self._alert(connection, looked.found, asking)
            return CodeTaken(looked.found)
        return None

    def _begin(self, connection: Connection, code: AccessCode, asking: Asking) -> Exception | None:
        studies = self._studies(connection, code)
        granted = self._viewing.for_code(connection, code.id, code.patient, studies, max(code.expires, micros() + 1))
        if not codes.claim(connection, code, granted.id, asking.claimant):
            granting.end(connection, granted.id, "another browser was first")
            self._alert(connection, code, asking)
            return CodeTaken(replace(code, claimed=micros()))
        self._tell(connection, code, asking, SUCCESS, "an access code was claimed")
        return None

    def _keep(self, connection: Connection, code: AccessCode, account: Account, asking: Asking) -> bool:
        if not codes.keep(connection, code, account.id):
            return False
        accounts.is_patient(connection, account.id, code.patient, _name(connection, code.patient))
        said = "images were added by an access code"
        self._people.events.changed(connection, account.id, account, said, asking.address, code.patient)
        return True

    def _alert(self, connection: Connection, code: AccessCode, asking: Asking) -> None:
        codes.alert(connection, code.id)
        self._tell(
            connection,
            code,
            asking,
            REFUSED,
            "an access code that was claimed before was tried again, with the right date of birth",
        )
        jobs.enqueue(connection, ALERT, f"{code.id} {micros()}", due=micros())

    @staticmethod
    def _studies(connection: Connection, code: AccessCode) -> tuple[str, ...]:
        """Study Instance UIDs: those of the code, or all of the patient that are to be seen now."""
        if code.studies is not None:
            return code.studies
        return studies.of_patient(connection, code.patient)

    # --- how often

    def _count(self, asking: Asking) -> list[Counted]:
        """What is given back if the code is right: this try, and none before it, so that who has a code of his own guesses no others by its help.

        Raises `TooManyAttempts`.
        """
        if not (self._settings.sign_in_failures_per_address > 0 and counts(asking.address, self._settings)):
            return []
        throttles, of = self._people.throttles, (network(asking.address),)
        limit = _OF_SUSPECT if throttles.is_spent(_OF_ALL) else _OF_NETWORK
        if not throttles.take(limit, *of):
            raise TooManyAttempts(throttles.wait(limit, *of))
        return [(limit, of), *([(_OF_ALL, ())] if throttles.take(_OF_ALL) else [])]

    # --- the trail

    def _tell(self, connection: Connection, code: AccessCode, asking: Asking, outcome: Outcome, said: str) -> None:
        action = self._action("security", USER_SECURITY_CHANGED, asking, outcome, said)
        entity = AuditedEntity(identifier=code.id, details=(("changed", said),))
        self._trail.record(connection, replace(action, patient_id=code.patient, entities=(entity,)))

    def _action(self, kind: Kind, subtype: Subtype, asking: Asking, outcome: Outcome, said: str) -> AuditedAction:
        browser = Agent(identifier="browser", address=asking.address)
        return self._trail.action(
            kind, subtype, browser, rest=False, outcome=outcome, outcome_desc=said, request_id=asking.request_id
        )


def _name(connection: Connection, patient: str) -> str:
    """What a patient is called, in the order in which people say it."""
    name: str | None = connection.execute(select(PATIENT.c.name).where(PATIENT.c.id == patient)).scalar_one_or_none()
    return spoken(name or "")

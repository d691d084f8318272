"""Leaving: who has an account here deletes it. Ways to sign in, browsers, apps, shares and proxies end in one transaction; records of a hospital stay with the hospital.

What the trail has of the account stays, by its id alone: whose name that was nobody can tell from it any more.
"""

from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, delete, select

from server.access import epoch, shares
from server.access.oauth import granting
from server.access.people import accounts, passkeys, proxies
from server.access.people.accounts import Account
from server.access.people.events import Events
from server.access.people.sessions import Session
from server.access.people.sign_in import Mail
from server.errors import ImageShareError, Refused
from server.languages import marked, speaking
from server.languages import translated as _
from server.store.db import Database, micros
from server.store.tables import ExternalIdentity, OneTimeCode, Passkey, Password
from server.store.tables import Proxy as ProxyRow
from server.store.tables import Session as SessionRow
from server.telemetry import failure, log

_MAY: Final = ("patient", "proxy")
_OF_ACCOUNT: Final = tuple(
    each.__table__  # type: ignore[union-attr]
    for each in (OneTimeCode, Passkey, Password, ExternalIdentity, SessionRow)
)


@dataclass(frozen=True, slots=True)
class Left:
    """How much ends: open shares, proxies either way, apps."""

    shares: int
    proxies: int
    apps: int


def require_may(account: Account) -> None:
    """Raises `Refused`: who works here, or looks after others by profession, is not gone by a button."""
    if account.kind not in _MAY:
        raise Refused("accounts of people who work here are closed by an administrator")


def what_ends(connection: Connection, account: Account) -> Left:
    """For who is about to leave."""
    now = micros()
    own = accounts.own_patients(connection, account.id)
    held = [each for each in proxies.of_account(connection, account.id) if not each.ended]
    held += [each for patient in own for each in proxies.of_patient(connection, patient) if not each.ended]
    live = [each for each in shares.of_account(connection, account.id) if each.state(now) == "open"]
    return Left(len(live), len({each.id for each in held}), len(granting.of_account(connection, account.id, now)))


class Leaving:
    """Safe for threads."""

    def __init__(self, database: Database, events: Events, mail: Mail) -> None:
        self._database, self._events, self._mail = database, events, mail

    def leave(self, by: Session, address: str) -> None:
        """Deletes the account. Raises `StepUpNeeded` for who has not signed in just before, `Refused`."""
        account = by.account
        require_may(account)
        with self._database.write() as connection:
            passkeys.require_strong(connection, by, micros())
            patients = sorted(accounts.own_patients(connection, account.id))
            self._end(connection, account)
            for patient in patients or [""]:
                self._events.changed(connection, account.id, account, "account deleted", address, patient)
            accounts.delete(connection, account.id)
        try:
            with speaking(account.language):
                self._mail(account.email, _("A message about your account"), _(_LETTER))
        except ImageShareError as error:
            log().error("mail not sent", **failure(error))

    def _end(self, connection: Connection, account: Account) -> None:
        now = micros()
        for share in shares.of_account(connection, account.id):
            if share.state(now) == "open":
                shares.stop(connection, share.id, "account closed")
        proxy = ProxyRow.__table__  # type: ignore[attr-defined]
        own = accounts.own_patients(connection, account.id)
        connection.execute(delete(proxy).where(proxy.c.account == account.id))
        for patient in own:
            if accounts.of_patient(connection, patient) != {account.id}:
                continue  # she has another account, which they stand beside
            for each in (
                connection.execute(select(proxy.c.id).where(proxy.c.patient == patient, proxy.c.ended == 0)).scalars().all()
            ):
                proxies.end(connection, each, now)
        granting.end_of_account(connection, account.id, "the account was deleted")
        for table in _OF_ACCOUNT:
            connection.execute(delete(table).where(table.c.account == account.id))
        epoch.raise_(connection)


_LETTER: Final = marked(
    "Your account is deleted. What you shared has stopped, apps have no access any more, and nobody signs in with it.\n\n"
    "Your records stay at the hospital that made them, as the law asks of it. With a new access code from there you can make another account at any time.\n\n"
    "If this was not you, tell the hospital at once."
)

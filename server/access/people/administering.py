"""What administrators do about others' accounts: add people, change what they are here, lock them out, and give them another way to sign in.

Who does so has just signed in, as strongly as the account can, and is still an administrator when it is done. Nobody does it to their own account: so there is
always one administrator left.
"""

from sqlalchemy import Connection

from server.access.people import accounts, passkeys
from server.access.people.accounts import Account
from server.access.people.events import Events
from server.access.people.recovery import Recovery
from server.access.people.sessions import Session
from server.access.people.sign_in import SignIn
from server.errors import Forbidden, NotFound, Refused, Unavailable
from server.store import locks
from server.store.db import Database, micros

ADMINISTRATOR = "administrator"
_SPACE = "imageshare/administering"


def require_administrator(account: Account) -> None:
    """Raises `Forbidden`."""
    if account.kind != ADMINISTRATOR or account.disabled:
        raise Forbidden("this page is for the administrators of the site")


class Administering:
    """Safe for threads. Everything raises `Forbidden` for who is no administrator, `StepUpNeeded` for who has not signed in just before."""

    def __init__(self, database: Database, sign_in: SignIn, recovery: Recovery, events: Events) -> None:
        self._database, self._sign_in, self._recovery, self._events = database, sign_in, recovery, events

    def add(self, by: Session, email: str, name: str, kind: str, address: str) -> tuple[Account, str]:
        """A new account, which is invited by e-mail; where no e-mail leaves, the password that signs it in once. Raises `Refused`, `Conflict`."""
        if kind not in accounts.KINDS:
            raise Refused("there is no such role")
        with self._database.write() as connection:
            self._require(connection, by)
            made = accounts.add(connection, kind=kind, email=accounts.plain_email(email), name=name)
            self._events.changed(connection, made.id, by.account, f"account added: {made.kind}", address)
        try:
            self._sign_in.invite(made)
        except (Unavailable, Refused):
            return made, self._recovery.reset(made)
        return made, ""

    def become(self, by: Session, id: str, kind: str, address: str) -> None:
        """Another role: sessions and apps of before end. Raises `Refused`, `NotFound`."""
        with self._database.write() as connection:
            found = self._other(connection, by, id)
            if found.kind != kind:
                accounts.become(connection, id, kind)
                self._events.changed(connection, id, by.account, f"role changed: {kind}", address)

    def disable(self, by: Session, id: str, address: str) -> None:
        """Nobody signs in with it from the next request on. Raises `Refused`, `NotFound`."""
        with self._database.write() as connection:
            self._other(connection, by, id)
            self._events.changed(connection, id, by.account, "account disabled", address)
            accounts.disable(connection, id)

    def enable(self, by: Session, id: str, address: str) -> None:
        """The reverse. Raises `Refused`, `NotFound`."""
        with self._database.write() as connection:
            self._other(connection, by, id)
            self._events.changed(connection, id, by.account, "account enabled", address)
            accounts.enable(connection, id)

    def reset(self, by: Session, id: str, address: str) -> str:
        """For somebody who has lost every way to sign in, and was seen: a password that works once. Passkeys go. Raises `Refused`, `NotFound`."""
        with self._database.write() as connection:
            found = self._other(connection, by, id)
            if found.disabled:
                raise Refused("this account is locked; unlock it first")
            self._events.changed(connection, id, by.account, "ways to sign in reset", address)
        return self._recovery.reset(found, without_passkeys=True)

    def _require(self, connection: Connection, by: Session) -> None:
        """One after the other, so that no two lock each other out."""
        locks.hold(connection, _SPACE, ["accounts"])
        now = accounts.find(connection, by.account.id)
        if now is None:
            raise Forbidden("this page is for the administrators of the site")
        require_administrator(now)
        passkeys.require_strong(connection, by, micros())

    def _other(self, connection: Connection, by: Session, id: str) -> Account:
        self._require(connection, by)
        if id == by.account.id:
            raise Refused("nobody changes their own role or locks themselves out: another administrator does that")
        found = accounts.find(connection, id)
        if found is None:
            raise NotFound("there is no such account")
        return found

"""How people change how they sign in: another password, a forgotten one.

Neither lowers what protects an account: one with a passkey is not recovered by e-mail, and its password is changed only by who has
signed in with the passkey. Whoever changes a password signs out all other browsers and ends what apps were granted.
"""

from server.access.oauth import granting
from server.access.people import one_time_codes, passkeys, passwords, sessions
from server.access.people.accounts import Account
from server.access.people.browsers import NO_BROWSER, Browser
from server.access.people.events import Events
from server.access.people.passkeys import require_strong
from server.access.people.passwords import Passwords
from server.access.people.sessions import Session
from server.access.people.sign_in import RECOVER, SignIn
from server.errors import SignInRefused
from server.store.db import Database, micros


class Recovery:
    """What the account page and the page for a forgotten password call."""

    def __init__(self, database: Database, passwords: Passwords, sign_in: SignIn, events: Events) -> None:
        self._database, self._passwords, self._sign_in, self._events = database, passwords, sign_in, events

    def send(self, email: str, address: str, browser: Browser = NO_BROWSER) -> None:
        """Sends a code to choose a new password with; see `SignIn.send_code`."""
        self._sign_in.send_code(email, address, RECOVER, browser)

    def recover(self, email: str, code: str, password: str, address: str, browser: Browser = NO_BROWSER) -> Account:
        """The account has this password from now on; all of its browsers are signed out.

        Raises `Refused` for a password that is none, `SignInRefused` for a wrong code, `TooManyAttempts`.
        """
        passwords.require_fit(password, email, *self._sign_in.site)
        with self._passwords.hashing.place():  # before the code is claimed: this may be refused when many are waiting
            account = self._sign_in.code(email, code, address, RECOVER, browser)
            hashed = self._passwords.hashing.hash(password)
        self._store(account, hashed, address, None, "password recovered by e-mail", account)
        return account

    def change(self, session: Session, current: str, password: str, address: str) -> None:
        """The same by who is signed in. `current` is the password so far; empty where there is none, or a fresh passkey speaks for it.

        Raises `Refused` for a password that is none, `StepUpNeeded`, `SignInRefused` for a wrong `current`, `TooManyAttempts`.
        """
        account = session.account
        passwords.require_fit(password, account.email, account.name, *self._sign_in.site)
        with self._database.read() as connection:
            require_strong(connection, session, micros())
        if self._passwords.has_one(account.id) and "passkey" not in session.methods:
            known = self._sign_in.confirmed(account.email, current, address)
            if known.id != account.id:
                raise SignInRefused
        self._store(account, self._passwords.hashing.hash(password), address, session.id, "password changed", account)

    def reset(self, account: Account, password: str = "", *, without_passkeys: bool = False) -> str:
        """An administrator gives the account another password; without one it gets a random one that works once, which is returned.

        `without_passkeys` removes them, for somebody who has lost them: the administrator has made sure who it is. Raises `Refused` for a
        password that is none.
        """
        hashed = ""
        if password:
            passwords.require_fit(password, account.email, account.name, *self._sign_in.site)
            hashed = self._passwords.hashing.hash(password)
        if without_passkeys:
            with self._database.write() as connection:
                passkeys.remove_all(connection, account.id)
                self._events.changed(connection, account.id, None, "passkeys removed by an administrator", "")
        return self._store(account, hashed, "", None, "password reset by an administrator", None)

    def _store(self, account: Account, hashed: str, address: str, but: str | None, what: str, by: Account | None) -> str:
        """Returns a password for once where there is no hash of one."""
        once = ""
        with self._database.write() as connection:
            if hashed:
                passwords.store(connection, account.id, hashed)
            else:
                once = passwords.for_once(connection, account.id)
            one_time_codes.void(connection, account.id)
            self._events.changed(connection, account.id, by, what, address)
            sessions.end_all(
                connection, account.id, but
            )  # first: who allows an app just now has its session until it has done so
            granting.end_of_account(connection, account.id, what)
        self._sign_in.tries.reopen(account.id)
        return once

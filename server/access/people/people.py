"""All that one process needs of people, put together."""

import hmac

from sqlalchemy import Connection

from server.access.people import accounts, one_time_codes, passkeys, passwords, sessions, throttles
from server.access.people.accounts import Account
from server.access.people.administering import Administering
from server.access.people.browsers import Browsers
from server.access.people.changed_ways import ChangedWays
from server.access.people.events import Events, Refusal
from server.access.people.leaving import Leaving
from server.access.people.one_time_codes import OneTimeCodes
from server.access.people.passkeys import Passkeys
from server.access.people.passwords import Hashing, Passwords
from server.access.people.profile import Profile
from server.access.people.proxying import Proxying
from server.access.people.recovery import Recovery
from server.access.people.sessions import Sessions
from server.access.people.sign_in import Mail, SignIn
from server.access.people.throttles import Throttles
from server.records.installation import Installation
from server.records.trail import Trail
from server.settings import Settings
from server.store.db import Database

FIRST = "administrator@localhost"
"""The e-mail address of the administrator whom a new server makes."""


class People:
    """Its parts are for the pages; `close` at the end."""

    def __init__(
        self,
        database: Database,
        settings: Settings,
        installation: Installation,
        trail: Trail,
        mail: Mail,
        *,
        refused: Refusal | None = None,
        hashing: Hashing | None = None,
    ) -> None:
        """`refused` puts refusals of strangers into the trail, counted."""
        key = hmac.digest(installation.cursor_key, b"people", "sha256")
        self.events = Events(trail, refused)
        self.browsers = Browsers(key)
        self.sessions = Sessions(database, seconds=settings.session_seconds, idle=settings.session_idle)
        self.throttles = Throttles(database, key)
        self.passwords = Passwords(database, hashing or Hashing())
        self.codes = OneTimeCodes(database, key)
        self.passkeys = Passkeys(database, settings, self.events)
        self.sign_in = SignIn(
            database, settings, mail, passwords=self.passwords, codes=self.codes, keys=self.passkeys,
            throttles=self.throttles, events=self.events,
        )  # fmt: skip
        self.events.also = ChangedWays(self.sign_in, settings.base_url).tell
        self.recovery = Recovery(database, self.passwords, self.sign_in, self.events)
        self.administering = Administering(database, self.sign_in, self.recovery, self.events)
        self.profile = Profile(database, settings, self.codes, self.sign_in, self.events)
        self.proxying = Proxying(database, self.events, settings.proxy_until_age, self.sign_in, self.throttles)
        self.leaving = Leaving(database, self.events, mail)
        self._database = database

    def sign_out(self, session: sessions.Session, address: str) -> None:
        """Ends the session, and says so in the trail."""
        self.sessions.close(session)
        self.events.signed_out(session.account, address)

    def sign_out_elsewhere(self, session: sessions.Session, id: str, address: str) -> None:
        """Ends another session of the same person, or all others where `id` is empty, and says so in the trail."""
        account = session.account
        with self._database.write() as connection:
            if id:
                sessions.end(connection, account.id, id)
            else:
                sessions.end_all(connection, account.id, session.id)
            what = "another browser was signed out" if id else "all other browsers were signed out"
            self.events.changed(connection, account.id, account, what, address)

    def account(self, id: str) -> Account | None:
        with self._database.read() as connection:
            return accounts.find(connection, id)

    def close(self) -> None:
        self.sign_in.close()
        self.events.close()
        self.passwords.hashing.close()


def first_administrator(database: Database) -> str | None:
    """Where there is no account at all: makes an administrator, and returns the password that signs it in once."""
    with database.read() as connection:
        if accounts.every(connection):
            return None
    with database.write() as connection:
        if accounts.every(connection):
            return None
        made = accounts.add(connection, kind="administrator", email=FIRST, name="Administrator", assurance=3)
        return passwords.for_once(connection, made.id)


def forget(connection: Connection, now: int) -> None:
    """Removes what is over: sessions, codes, challenges, windows of throttles. For once a day."""
    for each in (sessions, one_time_codes, passkeys, throttles):
        each.forget(connection, now)
    accounts.forget_nobodys(connection, now - 86_400_000_000)

"""What people change of themselves: their name, if others are not told it, and the e-mail address by which they sign in.

A new address counts when a code that was mailed there has been typed; then the former one is told. Whether an address has an account
already is told to its owner alone. Both need a person who signed in just before, as strongly as the account can; nobody is signed out.
"""

import hashlib
from functools import partial
from typing import Final

from sqlalchemy import Connection

from server.access.people import accounts, one_time_codes, proxies
from server.access.people.accounts import Account
from server.access.people.events import Events
from server.access.people.one_time_codes import DIGITS, MINUTES, OneTimeCodes
from server.access.people.passkeys import require_strong
from server.access.people.sessions import Session
from server.access.people.sign_in import SignIn
from server.errors import Forbidden, Refused, SignInRefused
from server.languages import speaking
from server.languages import translated as _
from server.settings import Settings
from server.store.db import Database, micros

_LONGEST: Final = 200


class Profile:
    """What the account page calls. `address` is the network address of the person's browser."""

    def __init__(self, database: Database, settings: Settings, codes: OneTimeCodes, sign_in: SignIn, events: Events) -> None:
        self._database, self._codes, self._sign_in, self._events = database, codes, sign_in, events
        self._url = settings.base_url

    def rename(self, session: Session, name: str, address: str) -> None:
        """The person is called so from now on. Raises `Refused` for what is no name, `Forbidden` (see `may_rename`), `StepUpNeeded`."""
        name = plain_name(name)
        with self._database.write() as connection:
            require_strong(connection, session, micros())
            if not may_rename(connection, session.account):
                raise Forbidden("others read your name where they are told who saw their records; ask us to change it")
            accounts.rename(connection, session.account.id, name)
            self._events.changed(connection, session.account.id, session.account, "name changed", address)

    def choose_language(self, session: Session, language: str) -> None:
        """The person reads pages in this language from now on, whose tag (BCP 47) the caller knows; in the browser's own if it is empty."""
        with self._database.write() as connection:
            accounts.choose_language(connection, session.account.id, language)

    def ask(self, session: Session, email: str, address: str) -> str:
        """Mails a code to a new address, which is returned as it will be shown. What the caller sees is the same if another account has it.

        Raises `Refused` for what is no address or the person's own already, `StepUpNeeded`, `TooManyAttempts`.
        """
        email = accounts.plain_email(email)
        if email == session.account.email:
            raise Refused("this is your address already")
        with self._database.read() as connection:
            require_strong(connection, session, micros())
        self._sign_in.count_letter(session.account.id, address)
        self._sign_in.count_letter(accounts.fold(email), address)
        self._sign_in.later(partial(self._send, session, email))
        return email

    def confirm(self, session: Session, email: str, code: str, address: str) -> None:
        """The address is the account's from now on, and the former one is told.

        Raises `SignInRefused` for a wrong code, `Conflict` where another account has taken the address meanwhile, `StepUpNeeded`.
        """
        account, email = session.account, accounts.plain_email(email)
        with self._database.read() as connection:
            require_strong(connection, session, micros())
        if not self._codes.claim(account.id, _purpose(email), code, session.id):
            self._events.failed(account, "a code for a new e-mail address", address)
            raise SignInRefused
        with self._database.write() as connection:
            accounts.readdress(connection, account.id, email, micros())
            one_time_codes.void(connection, account.id)  # what was sent to the former address signs nobody in any more
            self._events.changed(connection, account.id, account, "e-mail address changed", address)
        with speaking(account.language):
            self._sign_in.later(partial(self._sign_in.mail, account.email, *_farewell(self._url)))

    def _send(self, session: Session, email: str) -> None:
        account = session.account
        with self._database.write() as connection:
            other = accounts.by_email(connection, email)
            is_taken = other is not None and other.id != account.id
            code = "" if is_taken else self._codes.make(connection, account.id, _purpose(email), session.id)
        with speaking(account.language):
            self._sign_in.mail(email, *(_letter(code, self._url) if code else _taken(self._url)))


def plain_name(name: str) -> str:
    """The name as it is kept, in one line. Raises `Refused` for what is none."""
    name = " ".join(name.split())
    if not 0 < len(name) <= _LONGEST or not name.isprintable():
        raise Refused(f"a name has 1 to {_LONGEST} letters")
    return name


def may_rename(connection: Connection, account: Account) -> bool:
    """Whether the person may choose what the account is called: nobody who sees the records of others, and is named to them for it."""
    return account.kind == "patient" and not proxies.of_account(connection, account.id)


def _purpose(email: str) -> str:
    """A code is for one address: with another it is wrong. The table of codes keeps no address."""
    return f"email {hashlib.sha256(email.encode()).hexdigest()}"


def _letter(code: str, url: str) -> tuple[str, str]:
    """Subject and text; the subject is shown on locked screens."""
    return _("Your code"), (
        _("Your code to use this e-mail address at {url} is").format(url=url)
        + f"\n\n    {code[: DIGITS // 2]} {code[DIGITS // 2 :]}\n\n"
        + _(
            "It works once, within {minutes} minutes, in the browser that asked for it. If you have not asked for it, do nothing: without the code nothing is "
            "changed."
        ).format(minutes=MINUTES)
    )


def _taken(url: str) -> tuple[str, str]:
    return _("Your e-mail address"), _(
        "Somebody, perhaps you, who is signed in at {url} wants to use this e-mail address for another account.\n\n"
        "You have an account with it already, so nothing is changed. If it was you, sign in to that account, or give it another address first."
    ).format(url=url)


def _farewell(url: str) -> tuple[str, str]:
    return _("Your e-mail address was changed"), _(
        "The account at {url} that had this e-mail address has another one now. Nothing is sent here any more.\n\n"
        "If it was not you, tell the people who run this service at once: somebody else may be signed in to your account."
    ).format(url=url)

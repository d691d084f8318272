"""The one door for every way in: password, e-mailed code, passkey.

Failures are counted before a secret is looked at (`tries`), in the database: however many are tried at once, and after a restart, no more
than the allowed number are looked at. An unknown account, a wrong secret, one that is over and an account that is locked are answered with
the same words and after the same work. What fails of another reason does not count.
"""

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import copy_context
from functools import partial
from typing import Any, Final
from urllib.parse import urlsplit

from server.access.people import accounts, passkeys
from server.access.people.accounts import Account
from server.access.people.browsers import NO_BROWSER, Browser
from server.access.people.events import Events
from server.access.people.one_time_codes import DIGITS, MINUTES, OneTimeCodes
from server.access.people.passkeys import Passkeys
from server.access.people.passwords import Passwords
from server.access.people.throttles import Throttles
from server.access.people.tries import IN_A_ROW, Tries, Try
from server.errors import Refused, SignInRefused
from server.languages import speaking
from server.languages import translated as _
from server.settings import Settings
from server.store.db import Database, micros
from server.telemetry import failure, log

Mail = Callable[[str, str, str], None]
"""Sends to an address, with a subject, a text. May wait for a mail server."""
SIGN_IN: Final = "sign-in"
RECOVER: Final = "recover"
_AT_ONCE: Final = 2
"""E-mails that are sent at the same time by one process."""


class SignIn:
    """What the pages call. `address` is the network address of the person's browser."""

    def __init__(
        self,
        database: Database,
        settings: Settings,
        mail: Mail,
        *,
        passwords: Passwords,
        codes: OneTimeCodes,
        keys: Passkeys,
        throttles: Throttles,
        events: Events,
    ) -> None:
        self._database, self._mail, self._events = database, mail, events
        self._passwords, self._codes, self._keys = passwords, codes, keys
        self.tries = Tries(throttles, settings)
        self._url = settings.base_url
        self.site = (settings.organization, urlsplit(settings.base_url).hostname or "")
        """What this place is called: words that nobody should have as a password."""
        self._later = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="mail")

    def require_place(self, address: str, browser: Browser = NO_BROWSER) -> None:
        """Before any other work for a password. Asks no database. Raises `TooManyAttempts` for whom it is known that nothing would be looked at."""
        self.tries.require_room(address, browser)
        self._passwords.hashing.require_place()

    def password(self, email: str, password: str, address: str, browser: Browser = NO_BROWSER) -> Account:
        """The account of an e-mail address and its password. Raises `SignInRefused`, `TooManyAttempts`."""
        account = self.confirmed(email, password, address, browser)
        self._events.signed_in(account, "password", address)
        return account

    def confirmed(self, email: str, password: str, address: str, browser: Browser = NO_BROWSER) -> Account:
        """The same of somebody who is signed in already."""
        with self._passwords.hashing.place(), self._counted("password", email, address, browser) as (account, usable):
            right = self._passwords.is_right(account.id if account and usable else None, password)
            if account is None or not right:
                raise SignInRefused
        return account

    def code(self, email: str, code: str, address: str, purpose: str = SIGN_IN, browser: Browser = NO_BROWSER) -> Account:
        """The account of an e-mail address and the code that was sent there, as this browser asked. Raises `SignInRefused`, `TooManyAttempts`."""
        with self._counted("code", email, address, browser) as (account, usable):
            right = self._codes.claim(account.id if account and usable else None, purpose, code, browser.form)
            if account is None or not right:
                raise SignInRefused
            with self._database.write() as connection:
                if passkeys.has_any(connection, account.id):  # since the code was sent
                    raise SignInRefused
                accounts.verified(connection, account.id, micros())
        if purpose == SIGN_IN:
            self._events.signed_in(account, "code", address)
        return account

    def send_code(self, email: str, address: str, purpose: str = SIGN_IN, browser: Browser = NO_BROWSER) -> None:
        """Sends a code, if there is an account. What the caller sees is the same if there is none. Raises `TooManyAttempts`."""
        self.count_letter(accounts.fold(email), address, browser if browser.knows(self._id(email, browser)) else NO_BROWSER)
        self.later(partial(self._send, email, purpose, browser.form))

    def count_letter(self, of: str, address: str, browser: Browser = NO_BROWSER) -> None:
        """Counts an e-mail that somebody asks for; `of` is whom it is for, or who asks. Raises `TooManyAttempts`."""
        self.tries.letter(of, address, browser)

    def mail(self, to: str, subject: str, text: str) -> None:
        """Sends it now. Raises `Unavailable` where the mail server does not take it."""
        self._mail(to, subject, text)

    def later(self, send: Callable[[], None]) -> None:
        """Does it in a thread of its own: how long this takes says whether there is an account. What fails is in the log."""
        self._later.submit(copy_context().run, _quietly, send)

    def passkey_options(self, binding: str, address: str, browser: Browser = NO_BROWSER) -> dict[str, Any]:
        """See `Passkeys.options`. Raises `TooManyAttempts`."""
        self.tries.challenge(address, browser)
        return self._keys.options(binding)

    def passkey(self, response: Mapping[str, Any], binding: str, address: str, browser: Browser = NO_BROWSER) -> Account:
        """The account whose key has signed the challenge that this browser was given. Raises `SignInRefused`, `TooManyAttempts`."""
        with self._counted("passkey", "", address, browser):
            id_ = self._keys.verify(response, binding)
            with self._database.read() as connection:
                account = accounts.find(connection, id_)
                if account is None or account.disabled or not passkeys.is_of(connection, id_, str(response["id"])):
                    raise SignInRefused
        self._events.signed_in(account, "passkey", address)
        return account

    def close(self) -> None:
        """Waits for e-mails that are under way."""
        self._later.shutdown(wait=True)

    @contextmanager
    def _counted(self, way: str, email: str, address: str, browser: Browser) -> Iterator[tuple[Account | None, bool]]:
        """The account of the address, and whether its secrets are looked at. Counts a failure, unless the block ends well or fails of something else."""
        with self._database.read() as connection:
            account = accounts.by_email(connection, email) if email else None
        one = Try(way, accounts.fold(email), account.id if account is not None else None, address, browser)
        with self.tries.counted(one) as (free, is_last):
            try:
                yield account, free and account is not None and not account.disabled
            except SignInRefused:
                self._events.failed(account if free else None, way, address)
                if is_last and account is not None and not account.disabled:
                    with speaking(account.language):
                        self.later(partial(self.mail, account.email, *_closed(self._url)))
                raise

    def _id(self, email: str, browser: Browser) -> str | None:
        """The account of the address, where the browser may know it."""
        if not browser.accounts:
            return None
        with self._database.read() as connection:
            account = accounts.by_email(connection, email)
        return None if account is None else account.id

    def invite(self, account: Account) -> None:
        """Tells somebody that there is an account. Raises `Unavailable` where the mail server does not take it, `Refused` for an address of no mailbox."""
        if not accounts.is_reachable(account.email):
            raise Refused("no e-mail is sent to an address of this machine itself")
        with speaking(account.language):
            self.mail(account.email, *_invitation(account.email, self.site[0], self._url))

    def _send(self, email: str, purpose: str, form: str) -> None:
        with self._database.write() as connection:
            account = accounts.by_email(connection, email)
            if account is None or account.disabled or not accounts.is_reachable(account.email):
                return
            protected = passkeys.has_any(connection, account.id)
            code = "" if protected else self._codes.make(connection, account.id, purpose, form)
        with speaking(account.language):
            self.mail(account.email, *_letter(code, purpose, self._url))


def _quietly(send: Callable[[], None]) -> None:
    try:
        send()
    except Exception as error:  # noqa: BLE001 nobody waits for it; the log has what it was
        log().error("mail not sent", **failure(error))


def _letter(code: str, purpose: str, url: str) -> tuple[str, str]:
    """Subject and text. The subject holds nothing: it is shown on locked screens, and logged by mail servers."""
    if not code:
        return _("Signing in"), _(
            "Somebody, perhaps you, has asked {url} for a code for your account.\n\n"
            "Your account is protected by a passkey, which is stronger than e-mail: no code is sent. Sign in with your passkey. If you have lost all of them, "
            "ask the people who run this service; they will make sure that it is you."
        ).format(url=url)
    what = _("Your code to sign in at {url} is") if purpose == SIGN_IN else _("Your code to choose a new password at {url} is")
    return _("Your code"), (
        f"{what.format(url=url)}\n\n    {code[: DIGITS // 2]} {code[DIGITS // 2 :]}\n\n"
        + _(
            "It works once, within {minutes} minutes. Nobody who works here will ever ask you for it. If you have not asked for it, do nothing: without the "
            "code nobody gets in."
        ).format(minutes=MINUTES)
    )


def _closed(url: str) -> tuple[str, str]:
    return _("Your password was closed"), _(
        "Somebody has tried a wrong password for your account at {url} {n} times in a row. So your password is taken in no new browser any more. Choose another "
        "one at\n\n    {url}/recover\n\nNobody got in by these tries, and nothing else is changed."
    ).format(url=url, n=IN_A_ROW)


def _invitation(email: str, site: str, url: str) -> tuple[str, str]:
    return _("Your account at {site}").format(site=site), _(
        "{site} has made an account for you, where you can see medical images, and decide who else may see them.\n\n"
        "To begin, open\n\n    {url}/sign-in\n\ntype your e-mail address, {email}, and choose “E-mail me a code instead”. Nothing here is secret, and it "
        "does not run out. If you do not know what this is about, do nothing."
    ).format(site=site, url=url, email=email)

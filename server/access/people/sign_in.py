"""The one door for every way in: password, e-mailed code, passkey.

Failures are counted before a secret is looked at, by account and by network, in the database: however many are tried at once, and
after a restart, no more than the allowed number are looked at. An unknown account, a wrong secret, one that is over and an account that
is locked are answered with the same words and after the same work. What fails of another reason does not count.
"""

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, Final

from server.access.people import accounts, passkeys
from server.access.people.accounts import Account
from server.access.people.events import Events
from server.access.people.one_time_codes import DIGITS, MINUTES, OneTimeCodes
from server.access.people.passkeys import Passkeys
from server.access.people.passwords import Passwords
from server.access.people.throttles import Throttles, network, rate
from server.errors import SignInRefused, TooManyAttempts
from server.settings import Settings
from server.store.db import Database, micros
from server.telemetry import failure, log

Mail = Callable[[str, str, str], None]
"""Sends to an address, with a subject, a text. May wait for a mail server."""
SIGN_IN: Final = "sign-in"
RECOVER: Final = "recover"
_HOUR: Final = 3600
_UNLIMITED: Final = 1 << 30
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
        self._passwords, self._codes, self._keys, self._throttles = passwords, codes, keys, throttles
        self._url = settings.base_url
        window = settings.sign_in_window
        self._of_account = rate(settings.sign_in_failures, window, "account")
        self._of_address = rate(settings.sign_in_failures_per_address or _UNLIMITED, window, "address")
        self._codes_of_account = rate(5, _HOUR, "codes")
        self._codes_of_address = rate(max(30, 6 * settings.sign_in_failures_per_address), _HOUR, "codes-address")
        self._later = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="mail")

    def password(self, email: str, password: str, address: str) -> Account:
        """The account of an e-mail address and its password. Raises `SignInRefused`, `TooManyAttempts`."""
        account = self.confirmed(email, password, address)
        self._events.signed_in(account, "password", address)
        return account

    def confirmed(self, email: str, password: str, address: str) -> Account:
        """The same of somebody who is signed in already."""
        self._passwords.hashing.require_place()
        with self._counted("password", email, address) as (account, locked):
            usable = account is not None and not account.disabled and not locked
            right = self._passwords.is_right(account.id if account and usable else None, password)
            if account is None or not right:
                raise SignInRefused
        return account

    def code(self, email: str, code: str, address: str, purpose: str = SIGN_IN) -> Account:
        """The account of an e-mail address and the code that was sent there. Raises `SignInRefused`, `TooManyAttempts`."""
        with self._counted("code", email, address) as (account, locked):
            usable = account is not None and not account.disabled and not locked
            right = self._codes.claim(account.id if account and usable else None, purpose, code)
            if account is None or not right:
                raise SignInRefused
            with self._database.write() as connection:
                if passkeys.has_any(connection, account.id):  # since the code was sent
                    raise SignInRefused
                accounts.verified(connection, account.id, micros())
        if purpose == SIGN_IN:
            self._events.signed_in(account, "code", address)
        return account

    def send_code(self, email: str, address: str, purpose: str = SIGN_IN) -> None:
        """Sends a code, if there is an account. What the caller sees is the same if there is none. Raises `TooManyAttempts`."""
        if not self._throttles.take(self._codes_of_address, network(address)):
            raise TooManyAttempts(self._throttles.wait(self._codes_of_address, network(address)))
        if not self._throttles.take(self._codes_of_account, accounts.fold(email)):
            raise TooManyAttempts(self._throttles.wait(self._codes_of_account, accounts.fold(email)))
        self._later.submit(self._send_quietly, email, purpose)

    def passkey_options(self, binding: str, address: str) -> dict[str, Any]:
        """See `Passkeys.options`. Raises `TooManyAttempts`."""
        if self._throttles.is_spent(self._of_address, network(address)):
            raise TooManyAttempts(self._throttles.wait(self._of_address, network(address)))
        return self._keys.options(binding)

    def passkey(self, response: Mapping[str, Any], binding: str, address: str) -> Account:
        """The account whose key has signed the challenge that this browser was given. Raises `SignInRefused`, `TooManyAttempts`."""
        with self._counted("passkey", "", address):
            id_ = self._keys.verify(response, binding)
            with self._database.read() as connection:
                account = accounts.find(connection, id_)
            if account is None or account.disabled:
                raise SignInRefused
        self._events.signed_in(account, "passkey", address)
        return account

    def close(self) -> None:
        """Waits for e-mails that are under way."""
        self._later.shutdown(wait=True)

    @contextmanager
    def _counted(self, way: str, email: str, address: str) -> Iterator[tuple[Account | None, bool]]:
        """The account of the address, and whether it is locked. Counts a failure, unless the block ends well or fails of something else."""
        here, who = network(address), (way, accounts.fold(email))
        if not self._throttles.take(self._of_address, here):
            raise TooManyAttempts(self._throttles.wait(self._of_address, here))
        locked = bool(email) and not self._throttles.take(self._of_account, *who)
        account: Account | None = None
        try:
            with self._database.read() as connection:
                account = accounts.by_email(connection, email) if email else None
            yield account, locked
        except SignInRefused:
            self._events.failed(None if locked else account, way, address)
            raise
        except BaseException:
            self._uncount(here, who if email else None)
            raise
        self._throttles.give_back(self._of_address, here)
        if email:
            self._throttles.clear(self._of_account, *who)

    def _uncount(self, here: str, who: tuple[str, str] | None) -> None:
        self._throttles.give_back(self._of_address, here)
        if who is not None:
            self._throttles.give_back(self._of_account, *who)

    def invite(self, email: str) -> None:
        """Sends a code at once, for an administrator. Raises `Unavailable` where the mail server does not take it."""
        self._send(email, SIGN_IN)

    def _send_quietly(self, email: str, purpose: str) -> None:
        """In a thread of its own: how long this takes says whether there is an account."""
        try:
            self._send(email, purpose)
        except Exception as error:  # noqa: BLE001 nobody waits for it; the log has what it was
            log().error("code not sent", **failure(error))

    def _send(self, email: str, purpose: str) -> None:
        with self._database.write() as connection:
            account = accounts.by_email(connection, email)
            if account is None or account.disabled:
                return
            protected = passkeys.has_any(connection, account.id)
            code = "" if protected else self._codes.make(connection, account.id, purpose)
        self._mail(account.email, *_letter(code, purpose, self._url))


def _letter(code: str, purpose: str, url: str) -> tuple[str, str]:
    """Subject and text. The subject holds nothing: it is shown on locked screens, and logged by mail servers."""
    if not code:
        return "Signing in", (
            f"Somebody, perhaps you, has asked {url} for a code for your account.\n\n"
            "Your account is protected by a passkey, which is stronger than e-mail: no code is sent. Sign in with your passkey. If you have\n"
            "lost all of them, ask the people who run this service; they will make sure that it is you.\n"
        )
    what = "sign in" if purpose == SIGN_IN else "choose a new password"
    return "Your code", (
        f"Your code to {what} at {url} is\n\n    {code[: DIGITS // 2]} {code[DIGITS // 2 :]}\n\n"
        f"It works once, within {MINUTES} minutes. Nobody who works here will ever ask you for it. If you have not asked for it, do nothing:\n"
        "without the code nobody gets in.\n"
    )

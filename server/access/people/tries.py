"""How often somebody may try to sign in, and ask for e-mails: what is counted, by whom, and for how long.

Wrong secrets for an account are counted by the network that they come from, and with a larger total for all networks, so that a stranger far away
does not keep the person out; those of a browser in which the person has signed in before are counted by themselves, and neither the network's
nor the account's totals hold it up. A network is counted whomever it tries. Wrong passwords in a row close the password, however slowly they come
(NIST SP 800-63B-4 section 3.2.2), until another one is chosen.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from server.access.people.browsers import NO_BROWSER, Browser
from server.access.people.throttles import Counted, Throttles, counts, network, rate
from server.errors import SignInRefused, TooManyAttempts
from server.settings import Settings

IN_A_ROW: Final = 100
"""Wrong passwords of one account without a right one between them."""
NETWORKS: Final = 5
"""How many times what one network may try all of them may, of one account."""
LETTERS: Final = 5
"""E-mails that one network may have sent to one address within an hour."""
ALL_LETTERS: Final = 20
_HOUR: Final = 3600
_YEARS: Final = 10 * 365 * 86_400
_UNLIMITED: Final = 1 << 30


@dataclass(frozen=True, slots=True)
class Try:
    """`way` is password, code or passkey; `email` is folded, and empty for a passkey; `account` is its id if there is one."""

    way: str
    email: str
    account: str | None
    address: str
    browser: Browser = NO_BROWSER


class Tries:
    """The counters of one database."""

    def __init__(self, throttles: Throttles, settings: Settings) -> None:
        self._throttles, self._settings = throttles, settings
        window, of_address = settings.sign_in_window, settings.sign_in_failures_per_address
        self.of_network = rate(settings.sign_in_failures, window, "account")
        self.of_account = rate(NETWORKS * settings.sign_in_failures, window, "account-all")
        self.of_address = rate(of_address or _UNLIMITED, window, "address")
        self.in_a_row = rate(IN_A_ROW, _YEARS, "row")
        self._nobodys_row = rate(_UNLIMITED, _HOUR, "no-row")
        self.letters = rate(LETTERS, _HOUR, "codes")
        self.all_letters = rate(ALL_LETTERS, _HOUR, "codes-all")
        self.asked_of_address = rate(max(30, 6 * of_address), _HOUR, "codes-address")
        self.challenges = rate(max(30, 6 * of_address), window, "challenges")

    def require_room(self, address: str, browser: Browser) -> None:
        """Raises `TooManyAttempts` for whom it is remembered that nothing would be looked at. Asks no database."""
        if not browser.accounts and (wait := self._throttles.was_beyond(self.of_address, network(address))):
            raise TooManyAttempts(wait)

    @contextmanager
    def counted(self, one: Try) -> Iterator[tuple[bool, bool]]:
        """Counts it as a failure, and tells whether it may be looked at, and whether it is the last that may, of those in a row.

        It is none if the block ends well or fails of another reason.

        Raises `TooManyAttempts` where its network may try nothing more.
        """
        of_address, others = self._of_address(one), self._of_account(one)
        if of_address and self._throttles.is_spent(of_address[0][0], *of_address[0][1]):
            raise self._too_many(of_address[0])
        taken = self._throttles.take_each(*of_address, *others)
        got = [each for each, free in zip((*of_address, *others), taken, strict=True) if free]
        try:
            if of_address and not taken[0]:
                raise self._too_many(of_address[0])
            yield all(taken), one.account is not None and one.way == "password" and taken[-1] == IN_A_ROW
        except SignInRefused:
            raise
        except BaseException:
            self._throttles.settle(back=got)
            raise
        anew = [each for each in others if each[0] is not self.of_account]
        self._throttles.settle(back=[each for each in got if each not in anew], clear=anew)

    def reopen(self, account: str) -> None:
        """The password is another one: what was tried before counts no more."""
        self._throttles.clear(self.in_a_row, account, "")

    def letter(self, of: str, address: str, browser: Browser) -> None:
        """An e-mail that somebody asks for; `of` is whom it is for, or who asks. `browser` is one that knows the account. Raises `TooManyAttempts`."""
        if browser.id:
            asked: list[Counted] = [(self.letters, (of, browser.id))]
        else:
            asked = [(self.letters, (of, network(address))), (self.all_letters, (of,))]
            if self._settings.sign_in_failures_per_address and counts(address, self._settings):
                asked.append((self.asked_of_address, (network(address),)))
        self._take(asked)

    def challenge(self, address: str, browser: Browser) -> None:
        """A challenge for a passkey, which is kept for some minutes. Raises `TooManyAttempts`."""
        if browser.accounts or not counts(address, self._settings) or not self._settings.sign_in_failures_per_address:
            return
        if self._throttles.is_spent(self.of_address, network(address)):
            raise self._too_many((self.of_address, (network(address),)))
        self._take([(self.challenges, (network(address),))])

    def _take(self, asked: list[Counted]) -> None:
        taken = self._throttles.take_each(*asked)
        if not all(taken):
            self._throttles.settle(back=[each for each, free in zip(asked, taken, strict=True) if free])
            raise self._too_many(asked[taken.index(False)])

    def _too_many(self, beyond: Counted) -> TooManyAttempts:
        return TooManyAttempts(self._throttles.wait(beyond[0], *beyond[1]))

    def _of_address(self, one: Try) -> list[Counted]:
        known = one.browser.knows(one.account) or (not one.email and one.browser.accounts)
        if known or not self._settings.sign_in_failures_per_address or not counts(one.address, self._settings):
            return []
        return [(self.of_address, (network(one.address),))]

    def _of_account(self, one: Try) -> list[Counted]:
        """Of an account that there is not as many are counted: how long it takes says nothing."""
        if not one.email:
            return []
        row = [self._row(one)] if one.way == "password" else []
        if one.browser.knows(one.account):
            return [(self.of_network, (one.way, one.email, one.browser.id)), *row]
        return [(self.of_network, (one.way, one.email, network(one.address))), (self.of_account, (one.way, one.email)), *row]

    def _row(self, one: Try) -> Counted:
        if one.account is None:
            return self._nobodys_row, ()
        return self.in_a_row, (one.account, one.browser.id if one.browser.knows(one.account) else "")

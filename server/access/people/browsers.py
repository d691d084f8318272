"""Browsers, as far as tries are counted by them: which one asks, and whether somebody has signed in in it before.

Whoever guesses comes from other browsers than the person does. So a browser in which somebody signed in keeps a sealed cookie that says so, and
its tries are counted by themselves: strangers cannot use them up. The cookie signs nobody in.
"""

import secrets
from dataclasses import dataclass
from typing import Final

from server.access import sealed
from server.store.db import micros

SECONDS: Final = 365 * 86_400
"""How long a browser is known after somebody signed in in it."""
_PURPOSE: Final = "known browser"
_MOST: Final = 8
"""Accounts that one browser is known to, such as those of a family."""


@dataclass(frozen=True, slots=True)
class Browser:
    """`form` is what its forms are bound to, and codes that it asks for. `id` and `accounts`: who signed in in it before."""

    form: str = ""
    id: str = ""
    accounts: tuple[str, ...] = ()

    def knows(self, account: str | None) -> bool:
        """Whether the person of the account has signed in in it before."""
        return account is not None and account in self.accounts


NO_BROWSER: Final = Browser()


class Browsers:
    """Reads and writes the cookie. `key` is one that only this installation knows."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def known(self, cookie: str, form: str = "", now: int | None = None) -> Browser:
        """The browser that has this cookie; one that nobody knows where it is none of ours, or is over."""
        found = sealed.unseal(self._key, _PURPOSE, cookie) if cookie else None
        if found is None or found[2] <= (now or micros()):
            return Browser(form)
        return Browser(form, found[0], tuple(found[1]))

    def cookie(self, browser: Browser, account: str, now: int | None = None) -> str:
        """What the browser keeps for `SECONDS` after the person of the account has signed in in it."""
        accounts = (account, *(each for each in browser.accounts if each != account))[:_MOST]
        kept = [browser.id or secrets.token_urlsafe(16), accounts, (now or micros()) + SECONDS * 1_000_000]
        return sealed.seal(self._key, _PURPOSE, kept)

"""Codes that are sent by e-mail: eight digits, ten minutes, five tries, one live code for an account, a purpose and the browser that asked.

In another browser a code is none: a stranger who tries codes, or asks for one, spoils nothing for the person.

They are stored as an HMAC under a key of this installation. A try is counted before the code is looked at, so that however many
are tried at once, five are looked at.
"""

import hashlib
import hmac
import secrets
from typing import Final

from sqlalchemy import Connection

from server.access.people.throttles import THROTTLE
from server.store.db import Database, insert, micros
from server.store.tables import OneTimeCode

CODE = OneTimeCode.__table__  # type: ignore[attr-defined]
DIGITS: Final = 8
MINUTES: Final = 10
TRIES: Final = 5


class OneTimeCodes:
    """Makes codes and claims them, each once. `key` is 32 bytes that only this installation knows."""

    def __init__(self, database: Database, key: bytes) -> None:
        self._database, self._key = database, key

    def make(self, connection: Connection, account: str, purpose: str, browser: str = "", now: int | None = None) -> str:
        """A new code for `purpose`, for who asked in `browser`; the one before is void."""
        code = f"{secrets.randbelow(10**DIGITS):0{DIGITS}d}"
        row = {
            "hash": self._hash(account, purpose, code), "tries": 0, "expires": (now or micros()) + MINUTES * 60_000_000,
        }  # fmt: skip
        adding = insert(connection, CODE).values(account=account, purpose=purpose, browser=_hidden(browser), **row)
        connection.execute(adding.on_conflict_do_update(index_elements=["account", "purpose", "browser"], set_=row))
        return code

    def claim(self, account: str | None, purpose: str, code: str, browser: str = "", now: int | None = None) -> bool:
        """Whether it is the live code; it is void then. The same work where there is no such account, or no code."""
        given = self._hash(account or "", purpose, "".join(each for each in code if each.isdecimal()))
        mine = CODE.c.account == (account or ""), CODE.c.purpose == purpose, CODE.c.browser == _hidden(browser)
        with self._database.write() as connection:
            trying = (
                CODE.update()
                .where(*mine, CODE.c.tries < TRIES, CODE.c.expires > (now or micros()))
                .values(tries=CODE.c.tries + 1)
                .returning(CODE.c.hash)
            )
            stored: str | None = connection.execute(trying).scalar_one_or_none()
            right = hmac.compare_digest(given, stored or "")
            if right:
                connection.execute(CODE.delete().where(*mine))
            elif stored is None:
                count_nothing(connection)
        return right

    def _hash(self, account: str, purpose: str, code: str) -> str:
        return hmac.digest(self._key, f"{account}|{purpose}|{code}".encode(), "sha256").hex()


def _hidden(browser: str) -> str:
    return hashlib.sha256(browser.encode()).hexdigest() if browser else ""


def count_nothing(connection: Connection) -> None:
    """Writes as much as counting a try does: a commit of nothing is quicker, which would say that there is no code."""
    adding = insert(connection, THROTTLE).values(key="nothing", count=0, expires=0)
    connection.execute(adding.on_conflict_do_update(index_elements=["key"], set_={"count": 1 - THROTTLE.c.count}))


def void(connection: Connection, account: str) -> None:
    """No code of the account works any more."""
    connection.execute(CODE.delete().where(CODE.c.account == account))


def forget(connection: Connection, now: int) -> None:
    """Removes those that are over."""
    connection.execute(CODE.delete().where(CODE.c.expires <= now))

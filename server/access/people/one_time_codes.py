"""Codes that are sent by e-mail: eight digits, ten minutes, five tries, one live code for an account and a purpose.

They are stored as an HMAC under a key of this installation. A try is counted before the code is looked at, so that however many
are tried at once, five are looked at.
"""

import hmac
import secrets
from typing import Final

from sqlalchemy import Connection

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

    def make(self, connection: Connection, account: str, purpose: str, now: int | None = None) -> str:
        """A new code for `purpose`; the one before is void."""
        code = f"{secrets.randbelow(10**DIGITS):0{DIGITS}d}"
        row = {
            "hash": self._hash(account, purpose, code), "tries": 0, "expires": (now or micros()) + MINUTES * 60_000_000,
        }  # fmt: skip
        adding = insert(connection, CODE).values(account=account, purpose=purpose, **row)
        connection.execute(adding.on_conflict_do_update(index_elements=["account", "purpose"], set_=row))
        return code

    def claim(self, account: str | None, purpose: str, code: str, now: int | None = None) -> bool:
        """Whether it is the live code; it is void then. The same work where there is no such account."""
        given = self._hash(account or "", purpose, "".join(each for each in code if each.isdecimal()))
        mine = CODE.c.account == (account or ""), CODE.c.purpose == purpose
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
        return right

    def _hash(self, account: str, purpose: str, code: str) -> str:
        return hmac.digest(self._key, f"{account}|{purpose}|{code}".encode(), "sha256").hex()


def void(connection: Connection, account: str) -> None:
    """No code of the account works any more."""
    connection.execute(CODE.delete().where(CODE.c.account == account))


def forget(connection: Connection, now: int) -> None:
    """Removes those that are over."""
    connection.execute(CODE.delete().where(CODE.c.expires <= now))

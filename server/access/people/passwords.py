"""Passwords: argon2 by pwdlib, few at once, and the same work whether or not there is an account.

One hash takes 64 MiB and half a second. So two are made at once by a process, sixteen wait, and who comes then is told to come back:
a flood of sign-ins must not take the machine's memory. Nor its processors: they are made apart (`apart`), behind all else.
"""

import hashlib
import hmac
import re
import secrets
import threading
import unicodedata
from base64 import b32encode
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from typing import Final, TypeVar

from pwdlib import PasswordHash
from sqlalchemy import Connection, select

from server.access.people.apart import Apart
from server.errors import Refused, TooManyAttempts
from server.store.db import Database, insert, micros
from server.store.tables import Password

PASSWORD = Password.__table__  # type: ignore[attr-defined]
SHORTEST: Final = 12
LONGEST: Final = 256
_AT_ONCE: Final = 2
_WAITING: Final = 16
_ONCE: Final = "sha256:"
_NOBODYS: Final = "$argon2id$v=19$m=65536,t=3,p=4$6UmoDwy5SXfD4rxLKJtM6g$6cihvi9/fLiPn6z6sEwuz1Kq3hwMUf57KeptlzT8KWg"
"""Of no password: what is compared with where there is no account, at the cost of the recommended profile."""
_SERVICE: Final = "imageshare"
_GUESSES: Final = 10**8
"""As many as a password must take of who tries the likely ones first; and without what stands between its words, where repeats show."""
_GUESSES_PLAIN: Final = 10**6
_LOOKED_AT: Final = 48
"""Characters: looking takes longer and longer with them."""
_SIGNS: Final = frozenset("@({[<!|$+%")
_MOST_SIGNS: Final = 3
"""Different ones that stand for letters, as $ for s. All that they could stand for is looked at, so that more take seconds; no common password has more."""
T = TypeVar("T")


class Hashing:
    """argon2 with bounded concurrency, for one process. Tests take a cheaper `hasher` than pwdlib's recommended profile."""

    def __init__(self, hasher: PasswordHash | None = None, *, at_once: int = _AT_ONCE, waiting: int = _WAITING) -> None:
        self._hasher = hasher or Apart()
        self._nobodys = _NOBODYS if hasher is None else hasher.hash(secrets.token_urlsafe())
        self._threads = ThreadPoolExecutor(at_once, "argon2")
        self._places = threading.BoundedSemaphore(at_once + waiting)
        self._mine = threading.local()

    def hash(self, password: str) -> str:
        """Raises `TooManyAttempts` where too many wait already."""
        return self._in_turn(lambda: self._hasher.hash(normal(password)))

    def verify(self, password: str, stored: str | None) -> tuple[bool, str]:
        """Whether it is the password behind `stored`, and the hash to store instead where its cost is out of date, else empty.

        The work is the same where nothing is stored. Raises `TooManyAttempts` where too many wait already.
        """
        given, once = normal(password[: 2 * LONGEST]), stored is not None and stored.startswith(_ONCE)
        against = self._nobodys if stored is None or once else stored
        right, better = self._in_turn(lambda: self._hasher.verify_and_update(given, against))
        if stored is not None and once:
            return hmac.compare_digest(_hash_once(password), stored), ""
        return right and stored is not None and len(given) <= LONGEST, better or ""

    def require_place(self) -> None:
        """Raises `TooManyAttempts` where too many wait already."""
        with self._place():
            pass

    @contextmanager
    def place(self) -> Iterator[None]:
        """Keeps a place for this thread, whose hash needs no other: what comes before it, such as counting, which writes, is not done in vain.

        Raises `TooManyAttempts` where too many wait already.
        """
        with self._place():
            self._mine.kept = True
            try:
                yield
            finally:
                self._mine.kept = False

    def close(self) -> None:
        """Waits for those that are being made; none can be made afterwards."""
        self._threads.shutdown()
        if isinstance(self._hasher, Apart):
            self._hasher.close()

    def _in_turn(self, work: Callable[[], T]) -> T:
        with nullcontext() if getattr(self._mine, "kept", False) else self._place():
            return self._threads.submit(work).result()

    @contextmanager
    def _place(self) -> Iterator[None]:
        if not self._places.acquire(blocking=False):
            raise TooManyAttempts(retry_after=5)
        try:
            yield
        finally:
            self._places.release()


class Passwords:
    """The passwords of accounts in one database."""

    def __init__(self, database: Database, hashing: Hashing) -> None:
        self._database, self.hashing = database, hashing

    def is_right(self, account: str | None, password: str) -> bool:
        """Whether it is the account's; the same work for an account without one, and for none. A password for once is gone then."""
        stored = None if account is None else self._stored(account)
        right, better = self.hashing.verify(password, stored)
        if account is None or stored is None or not right:
            return False
        if stored.startswith(_ONCE):
            return self._claimed(account, stored)
        if better:
            with self._database.write() as connection:
                mine = PASSWORD.c.account == account, PASSWORD.c.hash == stored
                connection.execute(PASSWORD.update().where(*mine).values(hash=better))
        return True

    def has_one(self, account: str) -> bool:
        """Whether there is a password that can be used again and again."""
        stored = self._stored(account)
        return stored is not None and not stored.startswith(_ONCE)

    def _stored(self, account: str) -> str | None:
        with self._database.read() as connection:
            found: str | None = connection.execute(
                select(PASSWORD.c.hash).where(PASSWORD.c.account == account)
            ).scalar_one_or_none()
        return found

    def _claimed(self, account: str, stored: str) -> bool:
        with self._database.write() as connection:
            claiming = (
                PASSWORD.delete().where(PASSWORD.c.account == account, PASSWORD.c.hash == stored).returning(PASSWORD.c.account)
            )
            return connection.execute(claiming).first() is not None


def store(connection: Connection, account: str, hashed: str) -> None:
    """The account's password is the one behind `hashed` from now on."""
    row = {"hash": hashed, "once": int(hashed.startswith(_ONCE)), "changed": micros()}
    adding = insert(connection, PASSWORD).values(account=account, **row)
    connection.execute(adding.on_conflict_do_update(index_elements=["account"], set_=row))


def for_once(connection: Connection, account: str) -> str:
    """A new random password of 130 bits that signs the account in once, in groups of letters and digits."""
    letters = b32encode(secrets.token_bytes(20)).decode()[:26]
    store(connection, account, _hash_once(letters))
    return "-".join(letters[at : at + 5] for at in range(0, 26, 5))


def require_fit(password: str, *about: str) -> None:
    """NIST SP 800-63B-4 section 3.1.1.2: long enough, not what everybody would try; no rules about kinds of characters.

    `about` is what is known of the person and the place, such as name, e-mail address and hospital. Raises `Refused`.
    """
    given = normal(password)
    if not SHORTEST <= len(given) <= LONGEST:
        raise Refused(f"a password has at least {SHORTEST} characters; a few words in a row are easy to remember")
    if len(set(given)) < 5:
        raise Refused("this password is too easy to guess; a few words in a row are better")
    words = {word for text in about for word in (text, text.partition("@")[0]) if len(word) >= 4}
    if any(given.casefold() in (word.casefold(), word.casefold()[::-1]) for word in words):
        raise Refused("a password that is your name or e-mail address is the first that is tried")
    if _is_common(given, words):
        raise Refused("this password is among the first that are tried; take other words, a few in a row that nobody would guess")


def _is_common(password: str, about: Collection[str]) -> bool:
    """By lists of passwords, names and words, rows of keys, repeats and years, however they are put together and spelt; with and without spaces."""
    from zxcvbn import zxcvbn  # its lists take 15 MB: not before they are needed

    known = [_SERVICE, *about, *(part for each in about for part in re.split(r"[\W_]+", each) if len(part) >= 4)]
    plain = "".join(each for each in password if each.isalnum())
    ways = {plain: _GUESSES_PLAIN, password: _GUESSES}
    return any(
        zxcvbn(each[:_LOOKED_AT], user_inputs=known)["guesses"] < least
        for each, least in ways.items()
        if each and len(_SIGNS.intersection(each[:_LOOKED_AT])) <= _MOST_SIGNS
    )


def normal(password: str) -> str:
    """RFC 8265 section 4.2 in short: what looks the same is the same, whatever keyboard it was typed on."""
    return unicodedata.normalize("NFKC", password)


def _hash_once(password: str) -> str:
    letters = "".join(each for each in normal(password).upper() if each.isalnum())
    return _ONCE + hashlib.sha256(letters.encode()).hexdigest()

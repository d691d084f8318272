"""How often something may be tried: counters in the database, the same for all processes and after a restart.

`limits` counts; the rows are ours. What is counted by (an address, an account) is stored as a hash under a key of this installation.
"""

import hmac
import threading
from collections.abc import Sequence
from typing import Final

from limits import RateLimitItem, RateLimitItemPerSecond
from limits.storage import Storage
from limits.strategies import FixedWindowRateLimiter
from sqlalchemy import Connection, case, literal, select

from server.settings import Settings, plain_address
from server.store.db import Database, insert, micros
from server.store.tables import Throttle

THROTTLE = Throttle.__table__  # type: ignore[attr-defined]
_REMEMBERED: Final = 1_000_000
"""Microseconds for which a process turns somebody away who was beyond a rate, before it asks the database again."""
_MOST_REMEMBERED: Final = 4096
Counted = tuple[RateLimitItem, tuple[str, ...]]
"""A rate, and what is counted by it."""


def rate(amount: int, seconds: int, name: str) -> RateLimitItem:
    """`amount` within `seconds` of what is called `name`."""
    return RateLimitItemPerSecond(amount, seconds, namespace=name)


class Throttles:
    """Fixed windows: the first of a window begins it. Safe for threads and processes."""

    def __init__(self, database: Database, key: bytes) -> None:
        self._storage = _Rows(database, key)
        self._limiter = FixedWindowRateLimiter(self._storage)
        self._beyond: dict[str, tuple[int, int]] = {}
        """Who was -> until when that is remembered, and when the window is over."""

    def take(self, rate: RateLimitItem, *of: str) -> bool:
        """Counts one if it is within the rate, and returns whether it is. Who is beyond it is read of, and writes nothing: a flood must cost little."""
        return self.take_each((rate, of))[0] > 0

    def take_each(self, *each: Counted) -> tuple[int, ...]:
        """The same of several, with one commit, each by itself: how many it is with this one; 0 where it is beyond the rate."""
        if not each:
            return ()
        known = self._storage.found([rate.key_for(*of) for rate, of in each])
        within = [count < rate.amount for (rate, _), (count, _) in zip(each, known, strict=True)]
        counting = [(rate.key_for(*of), rate.get_expiry(), 1) for (rate, of), free in zip(each, within, strict=True) if free]
        counted = iter(self._storage.add(counting))
        numbers = [next(counted) if free else 0 for free in within]
        taken = tuple(number if number <= rate.amount else 0 for (rate, _), number in zip(each, numbers, strict=True))
        for (rate, of), got in zip(each, taken, strict=True):
            if not got:
                self._remember(rate.key_for(*of))
        return taken

    def _remember(self, key: str) -> None:
        if len(self._beyond) >= _MOST_REMEMBERED:
            self._beyond.clear()
        self._beyond[key] = micros() + _REMEMBERED, int(self._storage.get_expiry(key) * 1e6)

    def was_beyond(self, rate: RateLimitItem, *of: str) -> int:
        """Seconds until the window of somebody is over who was beyond the rate a moment ago, else 0. Asks no database."""
        until, over = self._beyond.get(rate.key_for(*of), (0, 0))
        now = micros()
        return _seconds(over - now) if now < min(until, over) else 0

    def give_back(self, rate: RateLimitItem, *of: str) -> None:
        """Uncounts one: what was tried did not come to it."""
        self.settle(back=[(rate, of)])

    def clear(self, rate: RateLimitItem, *of: str) -> None:
        """Begins anew."""
        self.settle(clear=[(rate, of)])

    def settle(self, *, back: Sequence[Counted] = (), clear: Sequence[Counted] = ()) -> None:
        """Gives one back of each of `back`, and begins anew with each of `clear`, with one commit."""
        given = [(rate.key_for(*of), rate.get_expiry(), -1) for rate, of in back]
        self._storage.add(given, clear=[rate.key_for(*of) for rate, of in clear])

    def is_spent(self, rate: RateLimitItem, *of: str) -> bool:
        """Whether the next one would be beyond the rate."""
        return not self._limiter.test(rate, *of)

    def wait(self, rate: RateLimitItem, *of: str) -> int:
        """Seconds until its window is over, at least 1."""
        return _seconds(int(self._storage.get_expiry(rate.key_for(*of)) * 1e6) - micros())


def _seconds(left: int) -> int:
    return max(1, left // 1_000_000 + 1)


def network(address: str) -> str:
    """What an address is counted by: an IPv6 address by its /64, of which one household has all addresses."""
    try:
        host = plain_address(address)
    except ValueError:
        return address
    return str(host) if host.version == 4 else host.exploded[:19]


def counts(address: str, settings: Settings) -> bool:
    """Whether an address is somebody's. On a server with a public name a loopback one is everybody's: that of a proxy that is not trusted."""
    try:
        return not (settings.is_published and plain_address(address).is_loopback)
    except ValueError:
        return True


class _Rows(Storage):
    """The storage of `limits` on our table."""

    STORAGE_SCHEME = None

    def __init__(self, database: Database, key: bytes) -> None:
        super().__init__()
        self._database, self._key = database, key
        self._alone = threading.Lock()
        """Of a process one counts at a time: whoever else writes waits for one of a flood at most, not for all of them."""

    @property
    def base_exceptions(self) -> type[Exception]:
        return Exception

    def incr(self, key: str, expiry: int, amount: int = 1) -> int:
        return self.add([(key, expiry, amount)])[0]

    def add(self, each: Sequence[tuple[str, int, int]], clear: Sequence[str] = ()) -> list[int]:
        """Key, seconds of its window, and what is added; the counts after that, which are never below none. Keys to `clear` go. One transaction."""
        if not each and not clear:
            return []
        now, counted = micros(), [0] * len(each)
        changes: list[tuple[str, int | None]] = [(self._hash(key), place) for place, (key, _, _) in enumerate(each)]
        changes += [(self._hash(key), None) for key in clear]
        with self._alone, self._database.write() as connection:
            for key, place in sorted(changes, key=lambda change: change[0]):  # in one order: nobody waits for who waits for him
                if place is None:
                    connection.execute(THROTTLE.delete().where(THROTTLE.c.key == key))
                else:
                    _, expiry, amount = each[place]
                    counted[place] = _added(connection, key, now, now + expiry * 1_000_000, amount)
        return counted

    def get(self, key: str) -> int:
        return self._found(key)[0]

    def get_expiry(self, key: str) -> float:
        """Seconds since 1970."""
        return self._found(key)[1] / 1e6

    def _found(self, key: str) -> tuple[int, int]:
        return self.found([key])[0]

    def found(self, keys: Sequence[str]) -> list[tuple[int, int]]:
        """Of each key how often it was counted, and when its window is over."""
        now, hashed = micros(), [self._hash(key) for key in keys]
        mine = select(THROTTLE.c.key, THROTTLE.c.count, THROTTLE.c.expires).where(
            THROTTLE.c.key.in_(hashed), THROTTLE.c.expires > now
        )
        with self._database.read() as connection:
            known = {key: (count, expires) for key, count, expires in connection.execute(mine)}
        return [known.get(each, (0, now)) for each in hashed]

    def check(self) -> bool:
        return True

    def reset(self) -> int | None:
        with self._database.write() as connection:
            connection.execute(THROTTLE.delete())
        return None

    def clear(self, key: str) -> None:
        self.add([], clear=[key])

    def _hash(self, key: str) -> str:
        return hmac.digest(self._key, key.encode(), "sha256").hex()[:32]


def _added(connection: Connection, key: str, now: int, expires: int, amount: int) -> int:
    adding = insert(connection, THROTTLE).values(key=key, count=max(0, amount), expires=expires)
    given, over = adding.excluded, THROTTLE.c.expires <= now
    counted: int = connection.execute(
        adding.on_conflict_do_update(
            index_elements=["key"],
            set_={
                "count": case((over, given["count"]), (THROTTLE.c.count + amount < 0, 0), else_=THROTTLE.c.count + literal(amount)),
                "expires": case((over, given["expires"]), else_=THROTTLE.c.expires),
            },
        ).returning(THROTTLE.c.count)
    ).scalar_one()  # fmt: skip
    return counted


def forget(connection: Connection, now: int) -> None:
    """Removes windows that are over."""
    connection.execute(THROTTLE.delete().where(THROTTLE.c.expires <= now))

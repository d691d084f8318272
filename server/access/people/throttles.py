"""How often something may be tried: counters in the database, the same for all processes and after a restart.

`limits` counts; the rows are ours. What is counted by (an address, an account) is stored as a hash under a key of this installation.
"""

import hmac

from limits import RateLimitItem, RateLimitItemPerSecond
from limits.storage import Storage
from limits.strategies import FixedWindowRateLimiter
from sqlalchemy import Connection, case, literal, select

from server.settings import plain_address
from server.store.db import Database, insert, micros
from server.store.tables import Throttle

THROTTLE = Throttle.__table__  # type: ignore[attr-defined]


def rate(amount: int, seconds: int, name: str) -> RateLimitItem:
    """`amount` within `seconds` of what is called `name`."""
    return RateLimitItemPerSecond(amount, seconds, namespace=name)


class Throttles:
    """Fixed windows: the first of a window begins it. Safe for threads and processes."""

    def __init__(self, database: Database, key: bytes) -> None:
        self._storage = _Rows(database, key)
        self._limiter = FixedWindowRateLimiter(self._storage)

    def take(self, rate: RateLimitItem, *of: str) -> bool:
        """Counts one, whether or not it is within the rate. Returns whether it is."""
        return self._limiter.hit(rate, *of)

    def give_back(self, rate: RateLimitItem, *of: str) -> None:
        """Uncounts one: what was tried did not come to it."""
        self._storage.incr(rate.key_for(*of), rate.get_expiry(), amount=-1)

    def clear(self, rate: RateLimitItem, *of: str) -> None:
        """Begins anew."""
        self._limiter.clear(rate, *of)

    def is_spent(self, rate: RateLimitItem, *of: str) -> bool:
        """Whether the next one would be beyond the rate."""
        return not self._limiter.test(rate, *of)

    def wait(self, rate: RateLimitItem, *of: str) -> int:
        """Seconds until its window is over, at least 1."""
        left = self._storage.get_expiry(rate.key_for(*of)) - micros() / 1e6
        return max(1, int(left) + 1)


def network(address: str) -> str:
    """What an address is counted by: an IPv6 address by its /64, of which one household has all addresses."""
    try:
        host = plain_address(address)
    except ValueError:
        return address
    return str(host) if host.version == 4 else host.exploded[:19]


class _Rows(Storage):
    """The storage of `limits` on our table."""

    STORAGE_SCHEME = None

    def __init__(self, database: Database, key: bytes) -> None:
        super().__init__()
        self._database, self._key = database, key

    @property
    def base_exceptions(self) -> type[Exception]:
        return Exception

    def incr(self, key: str, expiry: int, amount: int = 1) -> int:
        now = micros()
        with self._database.write() as connection:
            adding = insert(connection, THROTTLE).values(
                key=self._hash(key), count=max(0, amount), expires=now + expiry * 1_000_000
            )
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

    def get(self, key: str) -> int:
        return self._found(key)[0]

    def get_expiry(self, key: str) -> float:
        """Seconds since 1970."""
        return self._found(key)[1] / 1e6

    def _found(self, key: str) -> tuple[int, int]:
        now = micros()
        mine = select(THROTTLE.c.count, THROTTLE.c.expires).where(THROTTLE.c.key == self._hash(key), THROTTLE.c.expires > now)
        with self._database.read() as connection:
            row = connection.execute(mine).first()
        return (0, now) if row is None else (row[0], row[1])

    def check(self) -> bool:
        return True

    def reset(self) -> int | None:
        with self._database.write() as connection:
            connection.execute(THROTTLE.delete())
        return None

    def clear(self, key: str) -> None:
        with self._database.write() as connection:
            connection.execute(THROTTLE.delete().where(THROTTLE.c.key == self._hash(key)))

    def _hash(self, key: str) -> str:
        return hmac.digest(self._key, key.encode(), "sha256").hex()[:32]


def forget(connection: Connection, now: int) -> None:
    """Removes windows that are over."""
    connection.execute(THROTTLE.delete().where(THROTTLE.c.expires <= now))

"""Signing keys (RFC 7517): ES256 for access tokens, RS256 for ID tokens, as OpenID Connect Core section 2 asks. They live in the database.

The newest key of an algorithm that is not retired signs. A retired one is still told and believed for as long as what it signed may live, and
is deleted at a later rotation. Each process holds the keys in memory; a rotation raises the epoch, by which every process looks again.
"""

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import orjson
from joserfc.jwk import ECKey, KeyParameters, RSAKey
from sqlalchemy import Connection, delete, select, text, update

from server.access import epoch
from server.store.db import Database, insert, micros
from server.store.tables import SigningKey

Key = ECKey | RSAKey
ACCESS_TOKENS: Final = "ES256"
ID_TOKENS: Final = "RS256"
LONGEST_LIFE: Final = 86_400
"""Seconds that anything signed here may live: a token of the command line."""
_KEY = SigningKey.__table__  # type: ignore[attr-defined]
_LOOKS: Final = 8
"""For unknown key ids within a second: a flood of them must not become a flood of queries."""


@dataclass(frozen=True, slots=True)
class _Held:
    """What a process has in memory: as it was at `epoch`."""

    epoch: int = -1
    keys: Mapping[str, tuple[str, Key]] = field(default_factory=dict)
    """kid -> algorithm and key, of those whose signatures are believed."""
    signing: Mapping[str, Key] = field(default_factory=dict)
    """algorithm -> the key that signs."""


class Keys:
    """The keys of one process."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._held = _Held()
        self._lock = threading.Lock()
        self._second, self._looks = 0, 0

    def signing(self, algorithm: str, connection: Connection | None = None) -> Key:
        """The key to sign with, which has a `kid`; made on first use. With a `connection` that is a transaction that may write."""
        if connection is not None:
            return self._signing(connection, algorithm) or _made(connection, algorithm)
        with self._database.read() as reading:
            found = self._signing(reading, algorithm)
        if found is None:
            with self._database.write() as writing:
                found = self._signing(writing, algorithm) or _made(writing, algorithm)
        return found

    def prepare(self) -> None:
        """Makes the keys that are not there yet: who reads the key set before anything was signed is told with what it will be."""
        for algorithm in (ACCESS_TOKENS, ID_TOKENS):
            self.signing(algorithm)

    def verifying(self, kid: str, algorithm: str) -> Key:
        """The key of this id, if it is one of this algorithm. Raises `KeyError`."""
        found = self._held.keys.get(kid)
        if found is None and self._may_look():
            with self._database.read() as connection:
                self._look(connection, epoch.current(connection))
            found = self._held.keys.get(kid)
        if found is None or found[0] != algorithm:
            raise KeyError(kid)
        return found[1]

    def is_believed(self, kid: str) -> bool:
        """Whether the key of this id is one of those in memory, which are as of the last `renew`."""
        return kid in self._held.keys

    def renew(self, connection: Connection, number: int) -> None:
        """Looks again if `number` is another epoch than that of the keys in memory."""
        if self._held.epoch != number:
            self._look(connection, number)

    def published(self, connection: Connection) -> dict[str, Any]:
        """RFC 7517 section 5: the JWK Set of all whose signatures are believed, without what is private."""
        self._look(connection, epoch.current(connection))
        return {"keys": [key.as_dict(private=False) for _, key in self._held.keys.values()]}

    def _signing(self, connection: Connection, algorithm: str) -> Key | None:
        if algorithm not in self._held.signing:
            self._look(connection, epoch.current(connection))
        else:
            self.renew(connection, epoch.current(connection))
        return self._held.signing.get(algorithm)

    def _may_look(self) -> bool:
        second = int(time.monotonic())
        if second != self._second:
            self._second, self._looks = second, 0
        self._looks += 1
        return self._looks <= _LOOKS

    def _look(self, connection: Connection, number: int) -> None:
        columns = _KEY.c.kid, _KEY.c.algorithm, _KEY.c.private_jwk, _KEY.c.retired
        rows = connection.execute(select(*columns).order_by(_KEY.c.created, _KEY.c.kid)).all()
        believed = micros() - LONGEST_LIFE * 1_000_000
        with self._lock:
            known = self._held.keys
            keys, signing = dict[str, tuple[str, Key]](), dict[str, Key]()
            for row in rows:
                if row.retired is not None and row.retired < believed:
                    continue
                key = known[row.kid][1] if row.kid in known else _imported(row.algorithm, row.private_jwk)
                keys[row.kid] = row.algorithm, key
                if row.retired is None:
                    signing[row.algorithm] = key
            self._held = _Held(number, keys, signing)


def rotate(
    database: Database, *, compromised: bool = False, tell: Callable[[Connection, tuple[str, ...]], None] | None = None
) -> tuple[str, ...]:
    """A new key of each algorithm signs from now on; gives their ids. Those of before are retired, those long retired deleted.

    `compromised`: those of before are deleted at once, and what they signed is refused from the next request on. `tell` is called with the new
    ids within the transaction, for the trail.
    """
    now = micros()
    with database.write() as connection:
        _alone(connection)
        if compromised:
            connection.execute(delete(_KEY))
        else:
            connection.execute(delete(_KEY).where(_KEY.c.retired < now - LONGEST_LIFE * 1_000_000))
            connection.execute(update(_KEY).where(_KEY.c.retired.is_(None)).values(retired=now))
        kids = tuple(_insert(connection, algorithm) for algorithm in (ACCESS_TOKENS, ID_TOKENS))
        epoch.raise_(connection)
        if tell is not None:
            tell(connection, kids)
    return kids


def _made(connection: Connection, algorithm: str) -> Key:
    """The key that signs: another's, if one was made meanwhile."""
    _alone(connection)
    usable = _KEY.c.algorithm == algorithm, _KEY.c.retired.is_(None)
    query = select(_KEY.c.private_jwk).where(*usable).order_by(_KEY.c.created.desc(), _KEY.c.kid.desc()).limit(1)
    if connection.execute(query).first() is None:
        _insert(connection, algorithm)
    return _imported(algorithm, connection.execute(query).scalar_one())


def _insert(connection: Connection, algorithm: str) -> str:
    about: KeyParameters = {"use": "sig", "alg": algorithm}
    key: Key = ECKey.generate_key("P-256", about) if algorithm == ACCESS_TOKENS else RSAKey.generate_key(2048, about)
    key.ensure_kid()
    assert key.kid is not None
    stored = orjson.dumps(key.as_dict(private=True)).decode()
    connection.execute(insert(connection, _KEY).values(kid=key.kid, algorithm=algorithm, private_jwk=stored, created=micros()))
    return key.kid


def _imported(algorithm: str, jwk: str) -> Key:
    return (ECKey if algorithm == ACCESS_TOKENS else RSAKey).import_key(orjson.loads(jwk))


def _alone(connection: Connection) -> None:
    """Others who would make a key wait; SQLite's write lock is one for all anyway."""
    if connection.dialect.name != "sqlite":
        connection.execute(text("LOCK TABLE signing_key IN SHARE ROW EXCLUSIVE MODE"))

"""The epoch: one number, another one whenever what somebody may do has changed; a Decision that was made before is made anew.

Whoever changes it (a grant that ends, an account that is disabled, a proxy, a consent, a client, a signing key, break-glass) calls `raise_` in the
same transaction. Every request reads it with `current` in the view that it answers from, so that a change acts on the next request of every
process, and nobody has to be told.
"""

from typing import Final

from sqlalchemy import Connection, select

from server.store.db import insert
from server.store.prepared import Prepared
from server.store.tables import AccessEpoch

_EPOCH = AccessEpoch.__table__  # type: ignore[attr-defined]
_CURRENT: Final = Prepared(lambda _: select(_EPOCH.c.number).where(_EPOCH.c.one == 1), ())


def current(connection: Connection) -> int:
    """The number that this connection's view has; 0 before the first change."""
    found = _CURRENT.rows(connection, {})
    return int(found[0][0]) if found else 0


def raise_(connection: Connection) -> None:
    """The next number, with the commit of this transaction. Best as its last statement: others that raise it wait from here on."""
    raised = insert(connection, _EPOCH).values(one=1, number=1)
    connection.execute(raised.on_conflict_do_update(index_elements=["one"], set_={"number": _EPOCH.c.number + 1}))

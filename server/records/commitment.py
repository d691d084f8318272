"""Storage commitment transactions (PS3.4 annex J), those that peers ask of us (`scp`) and those that we ask of peers (`scu`)."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import orjson
from sqlalchemy import Connection, and_, delete, select, update

from profiles.storage_commitment import Reference
from server.errors import NotFound
from server.records.catalogue import BLOB, INSTANCE, REJECTED
from server.store.db import micros
from server.store.tables import Commitment as Row

COMMITMENT = Row.__table__  # type: ignore[attr-defined]

Role = Literal["scp", "scu"]
State = Literal["asked", "duplicate", "decided", "delivered", "undelivered", "refused"]
"""`asked`, or `duplicate` where the transaction UID was in use for other instances; `decided` once it is known which instances are
committed; `delivered` when the peer has answered our report, or has sent us its own; `undelivered` where it could not be told for
days; `refused` where a peer took no request of ours."""


@dataclass(frozen=True, slots=True)
class Transaction:
    """`failed` are those of `requested` that are not committed; meaningful once `state` is `decided` or `delivered`."""

    pk: int
    role: Role
    peer: str
    address: str
    transaction_uid: str
    state: State
    requested: tuple[Reference, ...]
    failed: tuple[Reference, ...]
    created: int

    @property
    def committed(self) -> tuple[Reference, ...]:
        """Those of `requested` that did not fail."""
        uncommitted = {each.uid for each in self.failed}
        return tuple(each for each in self.requested if each.uid not in uncommitted)


@dataclass(frozen=True, slots=True)
class Kept:
    """What the catalogue has of an instance, published or not."""

    uid: str
    sop_class: str
    blob_id: str
    size: int
    sha256: bytes | None


def ask(
    connection: Connection, role: Role, *, peer: str, address: str = "", transaction_uid: str, requested: Sequence[Reference]
) -> int:
    """Notes a request and returns its row. The same request once more is the same row, asked anew.

    A transaction UID that the peer has used for other instances makes a row in state `duplicate`: PS3.3 section C.14.1.1, 0131H.
    """
    body = orjson.dumps([(each.sop_class, each.uid) for each in requested])
    mine = (COMMITMENT.c.role == role, COMMITMENT.c.peer == peer, COMMITMENT.c.transaction_uid == transaction_uid)
    known = connection.execute(select(COMMITMENT.c.pk, COMMITMENT.c.requested).where(*mine).order_by(COMMITMENT.c.pk)).all()
    for row in known:
        if bytes(row.requested) == body:
            state: State = "asked" if row.pk == known[0].pk else "duplicate"
            anew = {"state": state, "failed": None, "address": address, "created": micros(), "ended": 0}
            connection.execute(update(COMMITMENT).where(COMMITMENT.c.pk == row.pk).values(**anew))
            return int(row.pk)
    made = COMMITMENT.insert().values(
        role=role, peer=peer, address=address, transaction_uid=transaction_uid, state="duplicate" if known else "asked",
        requested=body, created=micros(), ended=0,
    )  # fmt: skip
    return int(connection.execute(made.returning(COMMITMENT.c.pk)).scalar_one())


def get(connection: Connection, pk: int) -> Transaction | None:
    """The transaction of a row."""
    row = connection.execute(select(COMMITMENT).where(COMMITMENT.c.pk == pk)).mappings().first()
    return _transaction(dict(row)) if row else None


def asked_of(connection: Connection, peer: str, transaction_uid: str) -> Transaction:
    """A request of ours to a peer. Raises `NotFound`."""
    row = (
        connection.execute(
            select(COMMITMENT).where(
                COMMITMENT.c.role == "scu", COMMITMENT.c.peer == peer, COMMITMENT.c.transaction_uid == transaction_uid
            )
        )
        .mappings()
        .first()
    )
    if row is None:
        raise NotFound("no storage commitment was asked of this peer under this Transaction UID")
    return _transaction(dict(row))


def decide(connection: Connection, pk: int, failed: Iterable[Reference]) -> None:
    """Keeps which instances are not committed."""
    body = orjson.dumps([(each.sop_class, each.uid, each.reason) for each in failed])
    connection.execute(update(COMMITMENT).where(COMMITMENT.c.pk == pk).values(state="decided", failed=body))


def end(connection: Connection, pk: int, state: State) -> None:
    """The transaction is over."""
    connection.execute(update(COMMITMENT).where(COMMITMENT.c.pk == pk).values(state=state, ended=micros()))


def forget(connection: Connection, before: int) -> None:
    """Removes the transactions that were over before that moment (microseconds), and requests of ours unanswered since then."""
    over = and_(COMMITMENT.c.ended > 0, COMMITMENT.c.ended < before)
    unanswered = and_(COMMITMENT.c.role == "scu", COMMITMENT.c.created < before)
    connection.execute(delete(COMMITMENT).where(over | and_(COMMITMENT.c.ended == 0, unanswered)))


def kept(connection: Connection, uids: Sequence[str]) -> dict[str, Kept]:
    """What the catalogue has of the instances with these SOP Instance UIDs, by UID; those that were rejected are not kept."""
    found: dict[str, Kept] = {}
    columns = (INSTANCE.c.uid, INSTANCE.c.sop_class, INSTANCE.c.blob_id, BLOB.c.size, BLOB.c.sha256)
    for start in range(0, len(uids), 500):
        rows = connection.execute(
            select(*columns)
            .join(BLOB, INSTANCE.c.blob_id == BLOB.c.id)
            .where(INSTANCE.c.uid.in_(uids[start : start + 500]), ~REJECTED)
        )
        found.update((row.uid, Kept(*row)) for row in rows)
    return found


def _transaction(row: dict[str, object]) -> Transaction:
    requested = orjson.loads(bytes(row["requested"]))  # type: ignore[call-overload]
    failed = orjson.loads(bytes(row["failed"])) if row["failed"] is not None else []  # type: ignore[call-overload]
    row.pop("ended")
    return Transaction(
        **{
            **row,
            "requested": tuple(Reference(*each) for each in requested),
            "failed": tuple(Reference(*each) for each in failed),
        }  # type: ignore[arg-type]
    )

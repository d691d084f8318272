"""What nobody asks for any more goes after a month; what is younger, or not over, stays."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from peers.imageshare import node, publish_all
from sqlalchemy import select, update

from profiles.storage_commitment import Reference
from server.edges.context import Node
from server.records import commitment, workitem_subscribers
from server.store import jobs
from server.store.db import micros
from server.store.tables import Job
from server.work.housekeeping import HOUSEKEEPING, KEPT, Housekeeping

ON_BOTH_ENGINES = True
JOB = Job.__table__  # type: ignore[attr-defined]
CT = "1.2.840.10008.5.1.4.1.1.2"


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Node]:
    with node(tmp_path / "data") as made:
        yield made


def test_old_commitments_and_events_go_and_the_look_comes_back_in_a_day(opened: Node) -> None:
    old, young = micros() - KEPT - 1_000_000, micros() - KEPT + 3_600_000_000
    with opened.database.write() as connection:
        states: list[tuple[str, commitment.State, int]] = [
            ("1.1", "delivered", old), ("1.2", "undelivered", old), ("1.3", "delivered", young), ("1.4", "asked", 0),
        ]  # fmt: skip
        for uid, state, ended in states:
            pk = commitment.ask(connection, "scp", peer="CT1", transaction_uid=uid, requested=[Reference(CT, "1.2.3")])
            connection.execute(
                update(commitment.COMMITMENT)
                .where(commitment.COMMITMENT.c.pk == pk)
                .values(state=state, ended=ended, created=old)
            )
        for uid, created in (("2.1", old), ("2.2", young)):  # of ours, that no peer has reported on
            pk = commitment.ask(connection, "scu", peer="CT1", transaction_uid=uid, requested=[Reference(CT, "1.2.3")])
            connection.execute(update(commitment.COMMITMENT).where(commitment.COMMITMENT.c.pk == pk).values(created=created))
        workitem_subscribers.join(connection, "WATCHER", "client")
        for number, at in ((1, old), (2, young)):
            row = {"ae_title": "WATCHER", "sequence": number, "uid": "1.5", "at": at, "body": b""}
            connection.execute(workitem_subscribers.EVENT.insert().values(**row))
    Housekeeping(opened.database, opened.bringing_in.quarantine).schedule()
    assert publish_all(opened) == 1
    with opened.database.read() as connection:
        kept = connection.execute(select(commitment.COMMITMENT.c.transaction_uid)).scalars().all()
        events = connection.execute(select(workitem_subscribers.EVENT.c.sequence)).scalars().all()
        due = connection.execute(select(JOB.c.due).where(JOB.c.kind == HOUSEKEEPING)).scalar_one()
    assert (sorted(kept), events) == (["1.3", "1.4", "2.2"], [2])
    assert due > micros() + 80_000_000_000
    assert jobs.claim(opened.database, HOUSEKEEPING) == []

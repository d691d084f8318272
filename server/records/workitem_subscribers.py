"""Who wants to know what becomes of workitems (PS3.4 section CC.2.3), and the Event Reports that wait for them.

A subscription to one workitem is a row; one to the worklist is a row under a well-known UID, besides one for each workitem that there is. Each
subscriber's events are numbered without gaps in the order of the commits, so that a reader who follows the numbers misses none.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import orjson
from sqlalchemy import ColumnElement, Connection, delete, select, update

from profiles.dicom_json import Attributes
from profiles.model_item import Item, said
from profiles.query_identifier import Key
from profiles.workitem import FILTERED, GLOBAL
from server.errors import Forbidden, NotFound
from server.records.item_matching import matches
from server.records.packing import packed, unpacked
from server.records.workitems import OWNED, PATIENT_OF, WORKITEM
from server.store.db import insert, micros
from server.store.tables import WorkitemEvent, WorkitemSubscriber, WorkitemSubscription

SUBSCRIBER = WorkitemSubscriber.__table__  # type: ignore[attr-defined]
SUBSCRIPTION = WorkitemSubscription.__table__  # type: ignore[attr-defined]
EVENT = WorkitemEvent.__table__  # type: ignore[attr-defined]

WORKLISTS: Final = (GLOBAL, FILTERED)
MOST_WAITING: Final = 1000
"""Events that are kept for one subscriber; older ones go (PS3.18 section 8.10 asks for none to be kept)."""
_LINGER: Final = 60 * 1_000_000
"""Microseconds that delivered events stay, for other channels of the same subscriber."""
_TOGETHER: Final = 500


@dataclass(frozen=True, slots=True)
class Event:
    """One Event Report. `patient` is the resource id of whose workitem it is, or empty."""

    sequence: int
    uid: str
    patient: str
    body: bytes


# --- subscriptions


def settle(connection: Connection, *, worklist: bool) -> None:
    """Keeps new workitems and new subscriptions to the worklist (`worklist`) apart, so that neither misses the other.

    For PostgreSQL, and before any row is touched; SQLite has one writer at a time.
    """
    if connection.dialect.name != "sqlite":
        mode = "SHARE ROW EXCLUSIVE" if worklist else "ROW EXCLUSIVE"
        connection.exec_driver_sql(f"LOCK TABLE workitem_subscription IN {mode} MODE")


def join(connection: Connection, ae_title: str, owner: str) -> None:
    """Makes `ae_title` a subscriber, or holds it for this transaction. Raises `Forbidden` where it is another client's."""
    start = micros()  # numbers of who comes back go on upwards
    made = insert(connection, SUBSCRIBER).values(ae_title=ae_title, owner=owner, sequence=start, delivered=start)
    connection.execute(made.on_conflict_do_nothing())
    require_owner(connection, ae_title, owner, for_update=True)


def require_taken(connection: Connection, ae_title: str, owner: str) -> None:
    """Holds an AE title that `owner` has taken before. Raises `Forbidden`, the same whether it is free or another client's."""
    try:
        require_owner(connection, ae_title, owner, for_update=True)
    except (Forbidden, NotFound):
        raise Forbidden("this AE title is none of this client's: subscribe by it with a system/ or user/ scope first") from None


def require_owner(connection: Connection, ae_title: str, owner: str, *, for_update: bool = False) -> None:
    """Raises `NotFound` for an AE title without subscriptions, `Forbidden` where they are another client's."""
    statement = select(SUBSCRIBER.c.owner).where(SUBSCRIBER.c.ae_title == ae_title)
    found = connection.execute(statement.with_for_update() if for_update else statement).scalar_one_or_none()
    if found is None:
        raise NotFound("this AE title has no subscriptions")
    if found != owner:
        raise Forbidden("this AE title has subscriptions of another client; take another one, or have them removed")


def subscribe(
    connection: Connection, ae_title: str, targets: Iterable[str], *, lock: bool, keys: Sequence[Key] = ()
) -> list[str]:
    """Adds subscriptions, or changes their deletion lock; returns the targets that are new. `keys` filter those of the worklist."""
    known = set(connection.execute(select(SUBSCRIPTION.c.target).where(SUBSCRIPTION.c.ae_title == ae_title)).scalars())
    wanted = list(targets)
    rows = [
        {"ae_title": ae_title, "target": each, "deletion_lock": int(lock), "filter": _written(keys) if each == FILTERED else b""}
        for each in wanted
    ]
    if rows:
        made = insert(connection, SUBSCRIPTION)
        same = ["ae_title", "target"]
        values = {"deletion_lock": made.excluded.deletion_lock, "filter": made.excluded.filter}
        connection.execute(made.on_conflict_do_update(index_elements=same, set_=values), rows)
    return [each for each in wanted if each not in known]


def unsubscribe(connection: Connection, ae_title: str, target: str, owner: str) -> None:
    """Section CC.2.3.3: ends one subscription; one to the worklist ends all of the AE's. Raises `NotFound` and `Forbidden`."""
    require_owner(connection, ae_title, owner, for_update=True)
    mine = SUBSCRIPTION.c.ae_title == ae_title
    if connection.execute(select(SUBSCRIPTION.c.target).where(mine, SUBSCRIPTION.c.target == target)).first() is None:
        raise NotFound("there is no such subscription")
    connection.execute(delete(SUBSCRIPTION).where(mine if target in WORKLISTS else mine & (SUBSCRIPTION.c.target == target)))
    if connection.execute(select(SUBSCRIPTION.c.target).where(mine).limit(1)).first() is None:
        connection.execute(delete(EVENT).where(EVENT.c.ae_title == ae_title))
        connection.execute(delete(SUBSCRIBER).where(SUBSCRIBER.c.ae_title == ae_title))


def suspend(connection: Connection, ae_title: str, target: str, owner: str) -> None:
    """Section CC.2.3.3: what comes is not subscribed to any more, what is stays. Raises `NotFound` and `Forbidden`."""
    require_owner(connection, ae_title, owner, for_update=True)
    mine = (SUBSCRIPTION.c.ae_title == ae_title) & (SUBSCRIPTION.c.target == target)
    if connection.execute(select(SUBSCRIPTION.c.target).where(mine)).first() is None:
        raise NotFound("there is no such subscription")
    connection.execute(delete(SUBSCRIPTION).where(mine))


def follow(connection: Connection, uid: str, item: Item) -> None:
    """Section CC.2.5.3: a new workitem is subscribed to by who subscribed to the worklist, or to the likes of it."""
    worklist = connection.execute(
        select(SUBSCRIPTION.c.ae_title, SUBSCRIPTION.c.deletion_lock, SUBSCRIPTION.c.target, SUBSCRIPTION.c.filter).where(
            SUBSCRIPTION.c.target.in_(WORKLISTS)
        )
    ).all()
    for row in worklist:
        if row.target == GLOBAL or matches(item, _read(bytes(row.filter))):
            made = insert(connection, SUBSCRIPTION).values(
                ae_title=row.ae_title, target=uid, deletion_lock=row.deletion_lock, filter=b""
            )
            connection.execute(made.on_conflict_do_nothing())


def _written(keys: Sequence[Key]) -> bytes:
    return orjson.dumps([_listed(key) for key in keys])


def _listed(key: Key) -> list[object]:
    return [key.tag, key.vr, key.value, [_listed(inner) for inner in key.items]]


def _read(data: bytes) -> tuple[Key, ...]:
    def keys(listed: list[list[object]]) -> tuple[Key, ...]:
        return tuple(
            Key(str(tag), str(vr), str(value), keys(inner) if isinstance(inner, list) else ()) for tag, vr, value, inner in listed
        )

    return keys(orjson.loads(data))


# --- events


def publish(connection: Connection, uid: str, reports: Iterable[Attributes], only: str | None = None) -> None:
    """Puts Event Reports of a workitem before each of its subscribers, or before `only` one. Delivered when the transaction stands."""
    told = list(reports)
    if not told:
        return
    found = select(SUBSCRIPTION.c.ae_title).where(SUBSCRIPTION.c.target == uid)
    titles = [only] if only is not None else sorted(connection.execute(found).scalars())  # one order: no deadlock
    for ae_title in titles:
        newest = _reserved(connection, ae_title, len(told))
        if newest is not None:
            _keep(connection, ae_title, uid, newest, told)


def _reserved(connection: Connection, ae_title: str, count: int) -> int | None:
    numbered = update(SUBSCRIBER).where(SUBSCRIBER.c.ae_title == ae_title).values(sequence=SUBSCRIBER.c.sequence + count)
    newest = connection.execute(numbered.returning(SUBSCRIBER.c.sequence)).scalar_one_or_none()
    return int(newest) if newest is not None else None


def _keep(connection: Connection, ae_title: str, uid: str, newest: int, told: Sequence[Attributes]) -> None:
    now = micros()
    rows = []
    for number, report in enumerate(told, newest - len(told) + 1):
        body = {**report, "00000110": said("US", (number - 1) % 0xFFFF + 1)}
        rows.append(
            {
                "ae_title": ae_title,
                "sequence": number,
                "uid": uid,
                "at": now,
                "body": packed(orjson.dumps(dict(sorted(body.items())))),
            }
        )
    connection.execute(EVENT.insert(), rows)
    connection.execute(delete(EVENT).where(EVENT.c.ae_title == ae_title, EVENT.c.sequence <= newest - MOST_WAITING))


def announce(connection: Connection, report: Attributes) -> None:
    """Puts a report that is not of one workitem before everybody who subscribed to the worklist."""
    titles = connection.execute(select(SUBSCRIPTION.c.ae_title).where(SUBSCRIPTION.c.target.in_(WORKLISTS)).distinct()).scalars()
    for ae_title in sorted(titles):
        publish(connection, GLOBAL, [report], ae_title)


def newest(connection: Connection, ae_titles: Iterable[str]) -> dict[str, int]:
    """Number of the newest event of each of these subscribers."""
    statement = select(SUBSCRIBER.c.ae_title, SUBSCRIBER.c.sequence).where(SUBSCRIBER.c.ae_title.in_(list(ae_titles)))
    return {row.ae_title: row.sequence for row in connection.execute(statement)}


def delivered(connection: Connection, ae_title: str) -> int:
    """Number of the newest event that a channel of this subscriber had; 0 for none, also where there is no such subscriber."""
    statement = select(SUBSCRIBER.c.delivered).where(SUBSCRIBER.c.ae_title == ae_title)
    return int(connection.execute(statement).scalar_one_or_none() or 0)


def waiting(connection: Connection, ae_title: str, owner: str, after: int, allowed: ColumnElement[bool]) -> list[Event]:
    """Events after a number, oldest first, some at a time, while the AE title is `owner`'s. `allowed` is a condition on `workitems.PATIENT_OF`.

    One statement: an AE title may be another's since it was asked whose it is.
    """
    mine = select(SUBSCRIBER.c.ae_title).where(SUBSCRIBER.c.ae_title == ae_title, SUBSCRIBER.c.owner == owner)
    rows = connection.execute(
        select(EVENT.c.sequence, EVENT.c.uid, PATIENT_OF.label("patient"), EVENT.c.body)
        .select_from(EVENT.outerjoin(OWNED, EVENT.c.uid == WORKITEM.c.uid))
        .where(EVENT.c.ae_title == ae_title, mine.exists(), EVENT.c.sequence > after, allowed)
        .order_by(EVENT.c.sequence)
        .limit(_TOGETHER)
    )
    return [Event(row.sequence, row.uid, row.patient, unpacked(bytes(row.body))) for row in rows]


def mark(connection: Connection, ae_title: str, sequence: int) -> None:
    """Notes that a channel had everything up to this number."""
    connection.execute(
        update(SUBSCRIBER).where(SUBSCRIBER.c.ae_title == ae_title, SUBSCRIBER.c.delivered < sequence).values(delivered=sequence)
    )
    connection.execute(
        delete(EVENT).where(EVENT.c.ae_title == ae_title, EVENT.c.sequence <= sequence, EVENT.c.at < micros() - _LINGER)
    )


def forget(connection: Connection, before: int) -> None:
    """Removes the events from before that moment (microseconds), delivered or not; their numbers are not given out again."""
    connection.execute(delete(EVENT).where(EVENT.c.at < before))

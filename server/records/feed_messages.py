"""What was answered to messages of the patient identity feed: a message that comes again is not done again."""

import hashlib

from sqlalchemy import Connection, delete, select

from server.store.db import insert, micros
from server.store.tables import FeedMessage

MESSAGE = FeedMessage.__table__  # type: ignore[attr-defined]


def digest(sender: str, message: bytes) -> bytes:
    """What a message is known by. MSH-10 alone would not do: many systems count it from 1 again, or never."""
    return hashlib.sha256(sender.encode() + b"\0" + message).digest()


def answer(connection: Connection, known: bytes) -> bytes | None:
    """What was answered to it, None where it was not done."""
    found = connection.execute(select(MESSAGE.c.answer).where(MESSAGE.c.digest == known)).scalar_one_or_none()
    return bytes(found) if found is not None else None


def remember(connection: Connection, known: bytes, answered: bytes) -> None:
    """It is done with this transaction."""
    connection.execute(insert(connection, MESSAGE).values(digest=known, answer=answered, at=micros()).on_conflict_do_nothing())


def forget(connection: Connection, before: int) -> None:
    """Those of before that moment (microseconds): nobody sends them again."""
    connection.execute(delete(MESSAGE).where(MESSAGE.c.at < before))

"""The patient identity feed (ITI-8): which messages were done, and what was answered."""

from sqlalchemy import BigInteger, LargeBinary
from sqlmodel import Field

from server.store.tables.row import Row


class FeedMessage(Row, table=True):
    """A message that was done. Whoever sends it again gets the same answer."""

    __tablename__ = "feed_message"
    digest: bytes = Field(primary_key=True, sa_type=LargeBinary)
    """SHA-256 of who sent it and of all of it."""
    answer: bytes = Field(sa_type=LargeBinary)
    """The acknowledgment, which has nothing of a patient in it."""
    at: int = Field(index=True, sa_type=BigInteger)

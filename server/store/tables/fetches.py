"""Fetches from other communities that a server does as jobs."""

from sqlalchemy import BigInteger
from sqlmodel import Field

from server.store.tables.row import Row


class Fetch(Row, table=True):
    """One fetch: what is asked and by whom, how far it is, and what came of it."""

    __tablename__ = "fetch"
    id: str = Field(primary_key=True)
    community: str
    asked: str
    """JSON: it names the patient."""
    requester: str
    """Who asked, as the trail names them."""
    state: str = Field(index=True)
    """waiting, running, done or failed."""
    done: int
    total: int
    result: str
    """JSON: what became of each document."""
    error: str
    created: int = Field(sa_type=BigInteger)
    updated: int = Field(index=True, sa_type=BigInteger)

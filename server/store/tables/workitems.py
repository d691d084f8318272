"""Unified Procedure Steps (migration 0006)."""

from sqlalchemy import BigInteger, Index, LargeBinary
from sqlmodel import Field

from server.store.tables.row import Row, surrogate_key


class Workitem(Row, table=True):
    """One Unified Procedure Step. `body` is the whole SOP Instance in DICOM JSON without its Transaction UID, zstd-compressed."""

    __table_args__ = (
        Index("ix_workitem_order", "start", "pk"),
        Index("ix_workitem_patient", "authority", "patient_id"),
        Index("ix_workitem_ended", "ended", "pk"),
    )
    pk: int | None = Field(default=None, sa_column=surrogate_key())
    uid: str = Field(unique=True)
    state: str
    transaction_uid: str = ""
    """Of its performer: the lock. Never told."""
    authority: str = ""
    patient_id: str = ""
    start: str = ""
    """Scheduled Procedure Step Start DateTime as it was sent."""
    created: int = Field(sa_type=BigInteger)
    updated: int = Field(sa_type=BigInteger)
    ended: int = Field(default=0, sa_type=BigInteger)
    """When it was completed or canceled; 0: it is open."""
    body: bytes = Field(sa_type=LargeBinary)


class WorkitemSubscriber(Row, table=True):
    """An application that has subscriptions. `owner` is the client that made the first: the AE title is its own until the last is gone."""

    __tablename__ = "workitem_subscriber"
    ae_title: str = Field(primary_key=True)
    owner: str
    sequence: int = Field(default=0, sa_type=BigInteger)
    """Number of the newest event for it: without gaps, in the order of the commits."""
    delivered: int = Field(default=0, sa_type=BigInteger)
    """Number of the newest event that went into an event channel."""


class WorkitemSubscription(Row, table=True):
    """`target` is a workitem's UID, or a well-known one of PS3.4 section CC.2.3: what comes is subscribed to then."""

    __tablename__ = "workitem_subscription"
    ae_title: str = Field(primary_key=True, foreign_key="workitem_subscriber.ae_title")
    target: str = Field(primary_key=True, index=True)
    deletion_lock: int = 0
    filter: bytes = Field(sa_type=LargeBinary)
    """Of a filtered one: matching keys as JSON."""


class WorkitemEvent(Row, table=True):
    """An Event Report that waits for its subscriber's event channel. `body` is DICOM JSON, zstd-compressed."""

    __tablename__ = "workitem_event"
    ae_title: str = Field(primary_key=True, foreign_key="workitem_subscriber.ae_title")
    sequence: int = Field(primary_key=True, sa_type=BigInteger, sa_column_kwargs={"autoincrement": False})
    uid: str
    """The workitem's."""
    at: int = Field(sa_type=BigInteger)
    body: bytes = Field(sa_type=LargeBinary)

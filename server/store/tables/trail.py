"""Trail and work."""

from sqlalchemy import BigInteger, Column, Index, LargeBinary, UniqueConstraint
from sqlmodel import Field

from server.store.tables.row import Row, surrogate_key


class AuditEvent(Row, table=True):
    __tablename__ = "audit_event"
    __table_args__ = (
        Index("ix_audit_event_patient", "patient", "recorded"),
        Index("ix_audit_event_recorded", "recorded", "pk"),
        Index("ix_audit_event_outcome", "outcome", "recorded", "pk"),
    )
    pk: int | None = Field(default=None, sa_column=surrogate_key())
    id: str = Field(unique=True)
    recorded: int = Field(sa_type=BigInteger)
    patient: str = ""
    """A resource id; empty for none, and for several (`AuditPatient`)."""
    subtype: str = ""
    outcome: str = ""
    body: bytes = Field(sa_type=LargeBinary)


class AuditPatient(Row, table=True):
    """One patient of an event that is about several: an AuditEvent of its own, made of the event's body when it is read."""

    __tablename__ = "audit_patient"
    __table_args__ = (
        Index("ix_audit_patient_patient", "patient", "recorded", "event", "number"),
        {"sqlite_with_rowid": False},
    )
    event: int = Field(primary_key=True, foreign_key="audit_event.pk", ondelete="CASCADE", sa_type=BigInteger)
    number: int = Field(primary_key=True, sa_type=BigInteger)
    """From 1; what the AuditEvent's id ends with. By chance, so that nobody can tell the ids of the other patients from one."""
    patient: str
    recorded: int = Field(sa_type=BigInteger)
    """The event's own, for the index."""


class AuditSeal(Row, table=True):
    """A seal over the events from where the seal before ended to `last`; see `server.records.seals`."""

    __tablename__ = "audit_seal"
    number: int = Field(sa_column=Column(BigInteger, primary_key=True, autoincrement=False))
    """1, 2, 3 without a gap."""
    last: int = Field(sa_type=BigInteger)
    count: int
    """Of events."""
    made: int = Field(sa_type=BigInteger)
    digest: bytes = Field(sa_type=LargeBinary)
    """SHA-256 of the events' rows. It stays when they are erased."""
    hash: bytes = Field(sa_type=LargeBinary)
    """SHA-256 of the seal before and of this one."""
    erased: int | None = Field(default=None, sa_type=BigInteger)
    """When its events were erased because their time was over."""


class AuditDelivery(Row, table=True):
    """How far the trail has been sent to an audit repository: up to the event of number `last`; see `server.records.audit_feed`."""

    __tablename__ = "audit_delivery"
    repository: str = Field(primary_key=True)
    """Its URL."""
    last: int = Field(sa_type=BigInteger)
    leased_until: int = Field(default=0, sa_type=BigInteger)
    """One worker at a time sends, so that events go in order."""


class Job(Row, table=True):
    """Work that is due at `due`. (kind, key) is unique: asking again moves the deadline and raises `generation`."""

    __table_args__ = (UniqueConstraint("kind", "key"), Index("ix_job_due", "due"))
    pk: int | None = Field(default=None, sa_column=surrogate_key())
    kind: str
    key: str
    due: int = Field(sa_type=BigInteger)
    generation: int = 1
    attempts: int = 0
    leased_until: int = Field(default=0, sa_type=BigInteger)
    error: str = ""
    """Type and number of the last failure, never its text."""

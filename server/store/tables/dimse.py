"""DICOM peers, worklist, performed procedure steps, storage commitment (migration 0005)."""

from sqlalchemy import BigInteger, Index, LargeBinary, UniqueConstraint
from sqlmodel import Field

from server.store.tables.row import Row, surrogate_key


class Peer(Row, table=True):
    """A DICOM application that may associate (`network`), or that we call (`host`, `port`), or both."""

    pk: int | None = Field(default=None, sa_column=surrogate_key())
    ae_title: str = Field(unique=True)
    network: str = ""
    host: str = ""
    port: int = 0
    tls: str = ""
    """Empty: none; `on`: TLS; `verify`: TLS with a certificate for `host`."""
    authority: str = ""
    permissions: str = ""
    """Of `records.peers.PERMISSIONS`, joined by spaces."""
    description: str = ""
    active: int = 1


class ScheduledStep(Row, table=True):
    """One Scheduled Procedure Step: an item of the modality worklist. `body` is the whole item in DICOM JSON, zstd-compressed."""

    __tablename__ = "scheduled_step"
    __table_args__ = (
        UniqueConstraint("study_uid", "step_id"),
        Index("ix_scheduled_step_open", "date", "time", "pk"),
    )
    pk: int | None = Field(default=None, sa_column=surrogate_key())
    study_uid: str
    step_id: str
    accession_number: str = Field(default="", index=True)
    procedure_id: str = ""
    stations: str = ""
    """AE titles, joined by backslash with one at either end."""
    modality: str = ""
    date: str = ""
    time: str = ""
    patient_id: str = Field(default="", index=True)
    status: str = ""
    updated: int = Field(sa_type=BigInteger)
    body: bytes = Field(sa_type=LargeBinary)


class PerformedStep(Row, table=True):
    """One Modality Performed Procedure Step. `body` is the whole SOP Instance in DICOM JSON, zstd-compressed."""

    __tablename__ = "performed_step"
    pk: int | None = Field(default=None, sa_column=surrogate_key())
    uid: str = Field(unique=True)
    status: str
    source: str = ""
    """The AE title that created it."""
    created: int = Field(sa_type=BigInteger)
    updated: int = Field(sa_type=BigInteger)
    body: bytes = Field(sa_type=LargeBinary)


class PerformedStepStudy(Row, table=True):
    """Which study and scheduled step a performed step is for; one row for each item of its Scheduled Step Attributes."""

    __tablename__ = "performed_step_study"
    performed_step_pk: int = Field(primary_key=True, foreign_key="performed_step.pk", sa_type=BigInteger)
    number: int = Field(primary_key=True)
    study_uid: str = Field(default="", index=True)
    accession_number: str = ""
    step_id: str = ""


class Commitment(Row, table=True):
    """One storage commitment transaction. `role`: `scp` where a peer asks us, `scu` where we ask a peer."""

    __table_args__ = (Index("ix_commitment_transaction", "role", "peer", "transaction_uid"),)
    pk: int | None = Field(default=None, sa_column=surrogate_key())
    role: str
    peer: str
    address: str = ""
    transaction_uid: str
    state: str
    requested: bytes = Field(sa_type=LargeBinary)
    """JSON: pairs of SOP Class UID and SOP Instance UID; `failed` triples with the Failure Reason."""
    failed: bytes | None = Field(default=None, sa_type=LargeBinary, nullable=True)
    created: int = Field(sa_type=BigInteger)
    ended: int = Field(default=0, sa_type=BigInteger)

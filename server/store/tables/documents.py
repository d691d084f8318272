"""Documents: the one row behind DocumentReference and ebRIM."""

from sqlalchemy import BigInteger, Index, LargeBinary
from sqlmodel import Field

from server.store.tables.row import Row, surrogate_key


class DocumentEntry(Row, table=True):
    __tablename__ = "document_entry"
    __table_args__ = (Index("ix_document_entry_patient", "patient_cx", "status"),)
    pk: int | None = Field(default=None, sa_column=surrogate_key())
    entry_uuid: str = Field(unique=True)
    unique_id: str = Field(unique=True)
    study_pk: int | None = Field(default=None, foreign_key="study.pk", index=True, nullable=True, sa_type=BigInteger)
    patient_pk: int = Field(foreign_key="patient.pk", index=True, sa_type=BigInteger)
    patient_cx: str
    status: str
    created: int = Field(sa_type=BigInteger)
    blob_id: str = Field(foreign_key="blob.id")
    body: bytes = Field(sa_type=LargeBinary)
    """`profiles.document.DocumentEntry` as JSON; `status` above wins."""


class SubmissionSet(Row, table=True):
    __tablename__ = "submission_set"
    pk: int | None = Field(default=None, sa_column=surrogate_key())
    entry_uuid: str = Field(unique=True)
    unique_id: str = Field(unique=True)
    patient_pk: int = Field(foreign_key="patient.pk", index=True, sa_type=BigInteger)
    body: bytes = Field(sa_type=LargeBinary)


class DocumentAssociation(Row, table=True):
    __tablename__ = "document_association"
    pk: int | None = Field(default=None, sa_column=surrogate_key())
    entry_uuid: str = Field(unique=True)
    type: str
    source: str = Field(index=True)
    target: str = Field(index=True)
    body: bytes = Field(sa_type=LargeBinary)

"""Lifecycle: rejection, correction, retention, the feed of changes (migration 0004)."""

from sqlalchemy import BigInteger, Index, LargeBinary
from sqlmodel import Field

from server.store.tables.row import Row


class Rejection(Row, table=True):
    """An instance that was withdrawn: hidden (`instance.published` is 2), or purged and kept from coming back unseen."""

    uid: str = Field(primary_key=True)
    study_uid: str = Field(index=True)
    series_uid: str
    reason: str
    """Code of PS3.16 CID 7011 (coding scheme DCM), or `deleted`."""
    note: str = ""
    """SOP Instance UID of the rejection note, empty where the API was asked."""
    who: str = ""
    at: int = Field(sa_type=BigInteger)
    purged: int = Field(default=0, sa_type=BigInteger)
    """When rows and bytes went; 0: they are still here."""


class Erasure(Row, table=True):
    """A blob whose rows are gone and whose file must go: written with the purge, removed after the file."""

    blob_id: str = Field(primary_key=True)
    at: int = Field(sa_type=BigInteger)


class Change(Row, table=True):
    """The change feed. Sequence numbers have no gaps and are in the order of the commits."""

    __table_args__ = (Index("ix_change_uid", "uid", "sequence"), Index("ix_change_at", "at", "sequence"))
    sequence: int = Field(primary_key=True, sa_column_kwargs={"autoincrement": False}, sa_type=BigInteger)
    at: int = Field(sa_type=BigInteger)
    event: str
    patient: str
    study_uid: str
    series_uid: str
    uid: str
    version: int
    """Of the study: how often it was published."""


class Correction(Row, table=True):
    """What a study's instances say otherwise than their senders did: attributes in the DICOM JSON Model, by tag."""

    study_pk: int = Field(primary_key=True, foreign_key="study.pk", sa_type=BigInteger)
    attributes: bytes = Field(sa_type=LargeBinary)
    at: int = Field(sa_type=BigInteger)
    who: str = ""


class Original(Row, table=True):
    """The bytes of a corrected instance as they came. A sender who repeats them is told that they are stored."""

    instance_pk: int = Field(primary_key=True, foreign_key="instance.pk", sa_type=BigInteger)
    blob_id: str = Field(foreign_key="blob.id", unique=True)
    dataset_offset: int


class FormerPatient(Row, table=True):
    """A study whose images name another patient than it belongs to now: what comes late under that name goes with it."""

    __tablename__ = "former_patient"
    study_pk: int = Field(primary_key=True, foreign_key="study.pk", sa_type=BigInteger)
    patient_pk: int = Field(primary_key=True, foreign_key="patient.pk", sa_type=BigInteger)


class PatientMerge(Row, table=True):
    """HL7 ADT A40: what comes for `source_pk` belongs to `target_pk`."""

    __tablename__ = "patient_merge"
    source_pk: int = Field(primary_key=True, foreign_key="patient.pk", sa_type=BigInteger)
    target_pk: int = Field(foreign_key="patient.pk", index=True, sa_type=BigInteger)
    at: int = Field(sa_type=BigInteger)


class LegalHold(Row, table=True):
    """A study that no retention rule and no purge touches."""

    __tablename__ = "legal_hold"
    study_uid: str = Field(primary_key=True)
    why: str = ""
    who: str = ""
    at: int = Field(sa_type=BigInteger)

"""Every table (SQLModel). Rows are written and read through SQLAlchemy Core; nothing above the records layer sees a row object.

Moments are microseconds since 1970 (`db.micros`). `bytes` columns named `body`, `attributes` or `metadata` hold JSON, the
first and last zstd-compressed. A row of `instance`, `series` or `study` is visible outside only once `published`/`version` says so.
"""

from sqlalchemy import BigInteger, Column, Index, Integer, LargeBinary, MetaData, UniqueConstraint, text
from sqlmodel import Field, SQLModel

NAMES = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "pk": "pk_%(table_name)s",
}
METADATA = MetaData(naming_convention=NAMES)


class Row(SQLModel):
    metadata = METADATA


def _key() -> "Column[int]":
    """A surrogate key. SQLite makes a rowid alias only of INTEGER, hence the variant."""
    return Column(BigInteger().with_variant(Integer(), "sqlite"), primary_key=True, autoincrement=True)


# --- the installation


class Installation(Row, table=True):
    """Facts that are made once and stay: the OID root, the key for opaque cursors."""

    key: str = Field(primary_key=True)
    value: str


class SigningKey(Row, table=True):
    """A key pair that signs access tokens, as a private JWK (RFC 7517)."""

    __tablename__ = "signing_key"
    kid: str = Field(primary_key=True)
    algorithm: str
    private_jwk: str
    created: int = Field(sa_type=BigInteger)
    retired: int | None = Field(default=None, sa_type=BigInteger)


# --- the catalogue: patients, studies, series, instances


class Blob(Row, table=True):
    """One write-once file in the blob store. A file without a row is an orphan and may be swept."""

    id: str = Field(primary_key=True)
    size: int = Field(sa_type=BigInteger)
    sha256: bytes = Field(sa_type=LargeBinary)
    created: int = Field(sa_type=BigInteger)


class Patient(Row, table=True):
    __table_args__ = (UniqueConstraint("authority", "value"),)
    pk: int | None = Field(default=None, sa_column=_key())
    id: str = Field(unique=True)
    authority: str
    value: str
    namespace: str = ""
    name: str = ""
    name_folded: str = Field(default="", index=True)
    birth_date: str = ""
    sex: str = ""


class Study(Row, table=True):
    pk: int | None = Field(default=None, sa_column=_key())
    id: str = Field(unique=True)
    uid: str = Field(unique=True)
    patient_pk: int = Field(foreign_key="patient.pk", index=True, sa_type=BigInteger)
    study_id: str = ""
    accession_number: str = Field(default="", index=True)
    accession_authority: str = ""
    date: str = Field(default="", index=True)
    time: str = ""
    timezone: str = ""
    description: str = ""
    referring_physician: str = ""
    referring_folded: str = ""
    institution: str = ""
    attributes: bytes = Field(sa_type=LargeBinary)
    received: int = Field(sa_type=BigInteger)
    version: int = 0
    """How often it was published; 0: not yet."""
    updated: int = Field(default=0, sa_type=BigInteger)
    modalities: str = ""
    """Of the published series, joined by backslash with one at either end: `\\CT\\SR\\`."""
    series_count: int = 0
    instance_count: int = 0


class Series(Row, table=True):
    pk: int | None = Field(default=None, sa_column=_key())
    uid: str = Field(unique=True)
    study_pk: int = Field(foreign_key="study.pk", index=True, sa_type=BigInteger)
    modality: str = ""
    number: int | None = Field(default=None, sa_type=BigInteger)
    description: str = ""
    body_part: str = ""
    laterality: str = ""
    date: str = ""
    time: str = ""
    attributes: bytes = Field(sa_type=LargeBinary)
    instance_count: int = 0


class Instance(Row, table=True):
    __table_args__ = (
        Index("ix_instance_pending", "study_pk", sqlite_where=text("published = 0"), postgresql_where=text("published = 0")),
    )
    pk: int | None = Field(default=None, sa_column=_key())
    uid: str = Field(unique=True)
    series_pk: int = Field(foreign_key="series.pk", index=True, sa_type=BigInteger)
    study_pk: int = Field(foreign_key="study.pk", index=True, sa_type=BigInteger)
    sop_class: str
    transfer_syntax: str
    number: int | None = Field(default=None, sa_type=BigInteger)
    rows: int = 0
    columns: int = 0
    frames: int = 0
    title: str = ""
    blob_id: str = Field(foreign_key="blob.id", unique=True)
    dataset_offset: int
    """Where the dataset begins in the blob; before it stand preamble and file meta information."""
    source: str = ""
    """The door and the peer or client that it came from."""
    received: int = Field(sa_type=BigInteger)
    published: int = 0
    attributes: bytes | None = Field(default=None, sa_type=LargeBinary, nullable=True)
    dicom_json: bytes | None = Field(default=None, sa_type=LargeBinary, nullable=True)
    frame_table: bytes | None = Field(default=None, sa_type=LargeBinary, nullable=True)


# --- documents: the one row behind DocumentReference and ebRIM


class DocumentEntry(Row, table=True):
    __tablename__ = "document_entry"
    __table_args__ = (Index("ix_document_entry_patient", "patient_cx", "status"),)
    pk: int | None = Field(default=None, sa_column=_key())
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
    pk: int | None = Field(default=None, sa_column=_key())
    entry_uuid: str = Field(unique=True)
    unique_id: str = Field(unique=True)
    patient_pk: int = Field(foreign_key="patient.pk", index=True, sa_type=BigInteger)
    body: bytes = Field(sa_type=LargeBinary)


class DocumentAssociation(Row, table=True):
    __tablename__ = "document_association"
    pk: int | None = Field(default=None, sa_column=_key())
    entry_uuid: str = Field(unique=True)
    type: str
    source: str = Field(index=True)
    target: str = Field(index=True)
    body: bytes = Field(sa_type=LargeBinary)


# --- FHIR resources: exact bytes, versions, and what searches walk


class Resource(Row, table=True):
    """The current version. `patient` is the id of the Patient whose compartment it is in, empty for none."""

    __table_args__ = (
        UniqueConstraint("type", "id"),
        Index("ix_resource_updated", "type", "updated", "pk"),
        Index("ix_resource_date", "type", "date", "pk"),
        Index("ix_resource_patient", "type", "patient", "date", "pk"),
    )
    pk: int | None = Field(default=None, sa_column=_key())
    type: str
    id: str
    version: int
    updated: int = Field(sa_type=BigInteger)
    patient: str = ""
    date: int = Field(default=0, sa_type=BigInteger)
    """The type's clinical date (earliest microsecond), 0 where there is none: the sort key."""
    date_end: int = Field(default=0, sa_type=BigInteger)
    status: str = ""
    body: bytes = Field(sa_type=LargeBinary)


class ResourceVersion(Row, table=True):
    __tablename__ = "resource_version"
    resource_pk: int = Field(primary_key=True, foreign_key="resource.pk", sa_type=BigInteger)
    version: int = Field(primary_key=True)
    updated: int = Field(sa_type=BigInteger)
    body: bytes = Field(sa_type=LargeBinary)


class Token(Row, table=True):
    """One value of a token parameter. `hash` covers type, parameter, system and code; `date` is the resource's sort key."""

    hash: int = Field(primary_key=True, sa_type=BigInteger)
    date: int = Field(primary_key=True, sa_type=BigInteger)
    resource_pk: int = Field(primary_key=True, foreign_key="resource.pk", sa_type=BigInteger, index=True)


class Identity(Row, table=True):
    """Business identifiers that exist once per type: the constraint that makes two arrivals one resource."""

    type: str = Field(primary_key=True)
    system: str = Field(primary_key=True)
    value: str = Field(primary_key=True)
    resource_pk: int = Field(foreign_key="resource.pk", sa_type=BigInteger, index=True)


# --- trail and work


class AuditEvent(Row, table=True):
    __tablename__ = "audit_event"
    __table_args__ = (
        Index("ix_audit_event_patient", "patient", "recorded"),
        Index("ix_audit_event_recorded", "recorded", "pk"),
        Index("ix_audit_event_outcome", "outcome", "recorded", "pk"),
    )
    pk: int | None = Field(default=None, sa_column=_key())
    id: str = Field(unique=True)
    recorded: int = Field(sa_type=BigInteger)
    patient: str = ""
    subtype: str = ""
    outcome: str = ""
    body: bytes = Field(sa_type=LargeBinary)


class Job(Row, table=True):
    """Work that is due at `due`. (kind, key) is unique: asking again moves the deadline and raises `generation`."""

    __table_args__ = (UniqueConstraint("kind", "key"), Index("ix_job_due", "due"))
    pk: int | None = Field(default=None, sa_column=_key())
    kind: str
    key: str
    due: int = Field(sa_type=BigInteger)
    generation: int = 1
    attempts: int = 0
    leased_until: int = Field(default=0, sa_type=BigInteger)
    error: str = ""
    """Type and number of the last failure, never its text."""


# --- lifecycle: rejection, correction, retention, the feed of changes (migration 0004)


# --- DICOM peers, worklist, performed procedure steps, storage commitment (migration 0005)


# --- Unified Procedure Steps (migration 0006)

"""Every table (SQLModel). Rows are written and read through SQLAlchemy Core; nothing above the records layer sees a row object.

Moments are microseconds since 1970 (`db.micros`). `bytes` columns named `body`, `attributes` or `metadata` hold JSON, the
first and last zstd-compressed. A row of `instance`, `series` or `study` is visible outside only once `published`/`version` says so.
"""

from sqlalchemy import BigInteger, Column, Index, Integer, LargeBinary, MetaData, String, UniqueConstraint, text
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
    sha256: bytes | None = Field(default=None, sa_type=LargeBinary, nullable=True)
    """Of all bytes; none until the publisher, or `imageshare verify`, has read them."""
    created: int = Field(sa_type=BigInteger)


class Patient(Row, table=True):
    __table_args__ = (UniqueConstraint("authority", "value"),)
    pk: int | None = Field(default=None, sa_column=_key())
    id: str = Field(unique=True)
    authority: str
    value: str = Field(index=True)
    namespace: str = ""
    name: str = ""
    name_folded: str = Field(default="", index=True)
    birth_date: str = Field(default="", index=True)
    sex: str = ""


class Study(Row, table=True):
    __table_args__ = (Index("ix_study_order", "date", "pk", "version", "time", "series_count", "instance_count"),)
    pk: int | None = Field(default=None, sa_column=_key())
    id: str = Field(unique=True)
    uid: str = Field(unique=True)
    patient_pk: int = Field(foreign_key="patient.pk", index=True, sa_type=BigInteger)
    study_id: str = ""
    accession_number: str = Field(default="", index=True)
    accession_authority: str = ""
    date: str = ""
    time: str = ""
    timezone: str = ""
    description: str = ""
    referring_physician: str = ""
    referring_folded: str = ""
    institution: str = ""
    attributes: bytes = Field(sa_type=LargeBinary)
    received: int = Field(sa_type=BigInteger)
    version: int = 0
    """How often it was published or changed; 0: not yet, negative: nothing of it is to be seen."""
    updated: int = Field(default=0, sa_type=BigInteger)
    modalities: str = ""
    """Of the published series, joined by backslash with one at either end: `\\CT\\SR\\`."""
    series_count: int = 0
    instance_count: int = 0
    sop_classes: str = ""
    """Of the published instances, joined as `modalities`."""
    result: bytes | None = Field(default=None, sa_type=LargeBinary, nullable=True)
    """What a search answers (`profiles.query_result.lines`)."""


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
    result: bytes | None = Field(default=None, sa_type=LargeBinary, nullable=True)
    """As that of a study; an instance has its own in `attributes`."""


class StudyTerm(Row, table=True):
    """One value that published studies are searched by, with their sort key: `server.records.results` writes, `matching` walks.

    `tag` is eight hexadecimal digits; of person names, followed by `w` for the words and `s` for their sounds.
    """

    __tablename__ = "study_term"
    __table_args__ = {"sqlite_with_rowid": False}
    tag: str = Field(primary_key=True)
    term: str = Field(sa_column=Column(String().with_variant(String(collation="C"), "postgresql"), primary_key=True))
    date: str = Field(primary_key=True)
    study_pk: int = Field(primary_key=True, foreign_key="study.pk", index=True, sa_type=BigInteger)


class SeriesMetadata(Row, table=True):
    """The metadata of a published series, made for one base URL: objects in DICOM JSON, joined by commas, as a deflate fragment."""

    __tablename__ = "series_metadata"
    series_pk: int = Field(primary_key=True, foreign_key="series.pk", sa_type=BigInteger)
    base: str
    body: bytes = Field(sa_type=LargeBinary)
    size: int = Field(sa_type=BigInteger)
    """Of the text in bytes."""
    crc: int = Field(sa_type=BigInteger)
    """CRC-32 of the text."""


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
    """0: waits, 1: visible, 2: rejected."""
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


# --- DICOM peers, worklist, performed procedure steps, storage commitment (migration 0005)


class Peer(Row, table=True):
    """A DICOM application that may associate (`network`), or that we call (`host`, `port`), or both."""

    pk: int | None = Field(default=None, sa_column=_key())
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
    pk: int | None = Field(default=None, sa_column=_key())
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
    pk: int | None = Field(default=None, sa_column=_key())
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
    pk: int | None = Field(default=None, sa_column=_key())
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


# --- Unified Procedure Steps (migration 0006)


class Workitem(Row, table=True):
    """One Unified Procedure Step. `body` is the whole SOP Instance in DICOM JSON without its Transaction UID, zstd-compressed."""

    __table_args__ = (
        Index("ix_workitem_order", "start", "pk"),
        Index("ix_workitem_patient", "authority", "patient_id"),
        Index("ix_workitem_ended", "ended", "pk"),
    )
    pk: int | None = Field(default=None, sa_column=_key())
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

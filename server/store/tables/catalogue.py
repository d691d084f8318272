"""The catalogue: patients, studies, series, instances."""

from sqlalchemy import BigInteger, Column, Index, LargeBinary, String, UniqueConstraint, text
from sqlmodel import Field

from server.store.tables.row import Row, surrogate_key


class Blob(Row, table=True):
    """One write-once file in the blob store. A file without a row is an orphan and may be swept."""

    id: str = Field(primary_key=True)
    size: int = Field(sa_type=BigInteger)
    sha256: bytes | None = Field(default=None, sa_type=LargeBinary, nullable=True)
    """Of all bytes; none until the publisher, or `imageshare verify`, has read them. Documents that were provided have their SHA-1 meanwhile."""
    created: int = Field(sa_type=BigInteger)


class Patient(Row, table=True):
    __table_args__ = (UniqueConstraint("authority", "value"),)
    pk: int | None = Field(default=None, sa_column=surrogate_key())
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
    pk: int | None = Field(default=None, sa_column=surrogate_key())
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
    pk: int | None = Field(default=None, sa_column=surrogate_key())
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
    __table_args__ = ({"sqlite_with_rowid": False},)
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
    pk: int | None = Field(default=None, sa_column=surrogate_key())
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

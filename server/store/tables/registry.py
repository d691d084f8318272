"""The Document Registry and the Document Repository (ITI TF-1 section 10): sharing metadata, what queries look for in it, and documents."""

from sqlalchemy import BigInteger, Index, LargeBinary
from sqlmodel import Field

from server.store.tables.row import Row, surrogate_key


class RegistryObject(Row, table=True):
    """A Document Entry, Submission Set or Folder, in one version; `body` has all of it but what other columns say.

    Its FHIR rendering is the DocumentReference or List whose id is the entryUUID without `urn:uuid:`.
    """

    __tablename__ = "registry_object"
    __table_args__ = (
        Index("ix_registry_object_patient", "patient_pk", "kind", "status"),
        Index("ix_registry_object_time", "time"),
        Index("ix_registry_object_logical", "logical_id", "version"),
    )
    pk: int | None = Field(default=None, sa_column=surrogate_key())
    kind: str
    """document, submission or folder."""
    origin: str
    """Whose it is: `study`, a manifest that the catalogue keeps; `xds`, submitted; `fhir`, of a resource that is written by FHIR."""
    entry_uuid: str = Field(unique=True)
    logical_id: str
    """The entryUUID of version 1 (ITI-57)."""
    version: int = 1
    unique_id: str = Field(index=True)
    """One document may have several entries, and has one for each of its versions."""
    patient_pk: int = Field(foreign_key="patient.pk", sa_type=BigInteger)
    study_pk: int | None = Field(default=None, foreign_key="study.pk", index=True, nullable=True, sa_type=BigInteger)
    status: str
    object_type: str = ""
    time: str = ""
    """creationTime, submissionTime or lastUpdateTime: DTM in UTC, as it was sent."""
    service_start: str = ""
    service_stop: str = ""
    source_id: str = ""
    hash: str = ""
    created: int = Field(sa_type=BigInteger)
    body: bytes = Field(sa_type=LargeBinary)
    """`profiles.document` as JSON."""


class RegistryTerm(Row, table=True):
    """What queries look for in an object beside its columns: a code, an author, a reference id; `kind` is the attribute's name in `profiles.document`."""

    __tablename__ = "registry_term"
    __table_args__ = (Index("ix_registry_term_value", "kind", "value", "scheme", "object_pk"),)
    object_pk: int = Field(primary_key=True, foreign_key="registry_object.pk", sa_type=BigInteger)
    number: int = Field(primary_key=True)
    kind: str
    value: str
    scheme: str = ""


class RegistryAssociation(Row, table=True):
    """An Association between two of them, or between a Submission Set and an Association."""

    __tablename__ = "registry_association"
    pk: int | None = Field(default=None, sa_column=surrogate_key())
    entry_uuid: str = Field(unique=True)
    type: str
    source: str = Field(index=True)
    target: str = Field(index=True)
    status: str
    body: bytes = Field(sa_type=LargeBinary)


class RepositoryDocument(Row, table=True):
    """A document that this Repository keeps, whatever entries there are of it. `sha1` is in hex."""

    __tablename__ = "repository_document"
    unique_id: str = Field(primary_key=True)
    blob_id: str = Field(foreign_key="blob.id", index=True)
    patient_pk: int = Field(foreign_key="patient.pk", index=True, sa_type=BigInteger)
    mime_type: str
    size: int = Field(sa_type=BigInteger)
    sha1: str
    created: int = Field(sa_type=BigInteger)


class ForeignEntry(Row, table=True):
    """A version of a study's manifest at a partner's registry, or on its way there (RAD-68)."""

    __tablename__ = "foreign_entry"
    __table_args__ = (Index("ix_foreign_entry_study", "study_pk", "partner"),)
    pk: int | None = Field(default=None, sa_column=surrogate_key())
    study_pk: int = Field(foreign_key="study.pk", sa_type=BigInteger)
    partner: str
    unique_id: str
    entry_uuid: str = Field(unique=True)
    replaces: str = ""
    patient_id: str = ""
    """CX, as the partner's affinity domain knows the patient."""
    state: str = Field(index=True)
    attempts: int = 0
    error: str = ""
    created: int = Field(sa_type=BigInteger)
    updated: int = Field(sa_type=BigInteger)


class ForeignDocument(Row, table=True):
    """A document that is kept here and whose entries are at a foreign registry; `registered` is 0 while nobody knows whether there are any."""

    __tablename__ = "foreign_document"
    unique_id: str = Field(primary_key=True, foreign_key="repository_document.unique_id", ondelete="CASCADE")
    registered: int = Field(sa_type=BigInteger)

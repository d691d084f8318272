"""FHIR resources: exact bytes, versions, and what searches walk (rows of migrations 0001 and 0008).

The rows of searches refer to `resource.pk` without a foreign key: a resource's row is never removed, and forty checks of each write would cost
more than the write. `date` in them is the resource's own, its sort key. What each hash covers says `server.records.index_keys`.
"""

from sqlalchemy import BigInteger, Column, Double, Index, LargeBinary, String, UniqueConstraint
from sqlmodel import Field

from server.store.tables.row import Row, surrogate_key


def _ordered(*, primary_key: bool = True) -> "Column[str]":
    """Text in the order of its bytes, whatever the database's collation: walked by prefix."""
    return Column(String().with_variant(String(collation="C"), "postgresql"), primary_key=primary_key, nullable=False)


class Resource(Row, table=True):
    """The current version. `patient` is the id of the Patient whose compartment it is in, empty for none and for several."""

    __table_args__ = (
        UniqueConstraint("type", "id"),
        Index("ix_resource_updated", "type", "updated", "pk"),
        Index("ix_resource_date", "type", "date", "pk"),
        Index("ix_resource_patient", "type", "patient", "date", "pk"),
    )
    pk: int | None = Field(default=None, sa_column=surrogate_key())
    type: str
    id: str
    version: int
    updated: int = Field(sa_type=BigInteger)
    deleted: int = 0
    """1: it was deleted. The row stays, so that its versions go on, with an empty body and without rows for searches."""
    patient: str = ""
    date: int = Field(default=0, sa_type=BigInteger)
    """The type's clinical date (earliest microsecond), 0 where there is none: the sort key."""
    date_end: int = Field(default=0, sa_type=BigInteger)
    status: str = ""
    body: bytes = Field(sa_type=LargeBinary)
    summary: bytes | None = Field(default=None, sa_type=LargeBinary, nullable=True)
    """What `_summary=true` sends, packed as `body`; none where the body is small or its type has next to nothing more."""
    indexed: bytes | None = Field(default=None, sa_type=LargeBinary, nullable=True)
    """Eight bytes for each of the tables below: a digest of this resource's rows, so that a write leaves alone what stays. None: not known."""


class ResourceVersion(Row, table=True):
    """Every version, the current one too. `method` is how it came: POST, PUT, PATCH or DELETE, the last without a body.

    `patient` is whose it was then, as `resource.patient`: a resource may become another's.
    """

    __tablename__ = "resource_version"
    __table_args__ = (
        Index("ix_resource_version_type", "type", "updated", "resource_pk", "version"),
        Index("ix_resource_version_updated", "updated", "resource_pk", "version"),
    )
    resource_pk: int = Field(primary_key=True, foreign_key="resource.pk", sa_type=BigInteger)
    version: int = Field(primary_key=True)
    updated: int = Field(sa_type=BigInteger)
    type: str
    method: str
    patient: str = ""
    body: bytes = Field(sa_type=LargeBinary)


class Token(Row, table=True):
    """A value of a token parameter: by its code, of any system, or by its system alone.

    One row serves who looks for `code` and who looks for `system|code`: the fewer rows at places of their own, the less a write costs.
    """

    # `exact` keeps SQLite from this index, which has the whole key behind it, where it looks for a hash
    __table_args__ = (Index("ix_token_resource_pk", "resource_pk", "exact"), {"sqlite_with_rowid": False})
    hash: int = Field(primary_key=True, sa_type=BigInteger)
    """Of the code, or of the system."""
    date: int = Field(primary_key=True, sa_type=BigInteger)
    """0 for a system: nearly all resources have the same, so that nobody walks them; new rows stand together at their end."""
    resource_pk: int = Field(primary_key=True, sa_type=BigInteger)
    exact: int = Field(primary_key=True, sa_type=BigInteger)
    """Of system and code. Negative, and its complement, where the resource has the same code of another system already."""


class TextValue(Row, table=True):
    """A string or URI, the code of a token (parameter `code:code`), its texts (`code:text`), an element without a value (`code:present`)."""

    __tablename__ = "text_value"
    __table_args__ = (Index("ix_text_value_resource_pk", "resource_pk", "parameter"), {"sqlite_with_rowid": False})
    parameter: int = Field(primary_key=True, sa_type=BigInteger)
    folded: str = Field(sa_column=_ordered())
    resource_pk: int = Field(primary_key=True, sa_type=BigInteger)
    exact: str = Field(sa_column=_ordered())


class DateValue(Row, table=True):
    """A date that is not the type's clinical date: half-open, in microseconds."""

    __tablename__ = "date_value"
    __table_args__ = (Index("ix_date_value_resource_pk", "resource_pk", "parameter"), {"sqlite_with_rowid": False})
    parameter: int = Field(primary_key=True, sa_type=BigInteger)
    low: int = Field(primary_key=True, sa_type=BigInteger)
    high: int = Field(primary_key=True, sa_type=BigInteger)
    resource_pk: int = Field(primary_key=True, sa_type=BigInteger)


class QuantityValue(Row, table=True):
    """A number or quantity with the range that its precision implies; `unit` covers the parameter and one form of the unit."""

    __tablename__ = "quantity_value"
    __table_args__ = (Index("ix_quantity_value_resource_pk", "resource_pk", "unit"), {"sqlite_with_rowid": False})
    unit: int = Field(primary_key=True, sa_type=BigInteger)
    low: float = Field(primary_key=True, sa_type=Double)
    high: float = Field(primary_key=True, sa_type=Double)
    resource_pk: int = Field(primary_key=True, sa_type=BigInteger)


class ReferenceValue(Row, table=True):
    """Where a resource leads: `target_type` and `target_id` of one here, or an empty type and the URL of one elsewhere."""

    __tablename__ = "reference_value"
    __table_args__ = (Index("ix_reference_value_resource_pk", "resource_pk", "parameter"), {"sqlite_with_rowid": False})
    parameter: int = Field(primary_key=True, sa_type=BigInteger)
    target_type: str = Field(primary_key=True)
    target_id: str = Field(sa_column=_ordered())
    date: int = Field(primary_key=True, sa_type=BigInteger)
    resource_pk: int = Field(primary_key=True, sa_type=BigInteger)


class CompositeValue(Row, table=True):
    """The values of a composite's components that stand together: what has no order is in `hash`, the other in `low` and `high`, or in `text`."""

    __tablename__ = "composite_value"
    __table_args__ = (Index("ix_composite_value_resource_pk", "resource_pk"), {"sqlite_with_rowid": False})
    hash: int = Field(primary_key=True, sa_type=BigInteger)
    low: float = Field(primary_key=True, sa_type=Double)
    high: float = Field(primary_key=True, sa_type=Double)
    text: str = Field(sa_column=_ordered())
    resource_pk: int = Field(primary_key=True, sa_type=BigInteger)


class Compartment(Row, table=True):
    """FHIR R4 section 2.17: a resource in the compartment of `name`/`id`."""

    __table_args__ = (Index("ix_compartment_resource_pk", "resource_pk"), {"sqlite_with_rowid": False})
    name: str = Field(primary_key=True)
    id: str = Field(primary_key=True)
    type: str = Field(primary_key=True)
    date: int = Field(primary_key=True, sa_type=BigInteger)
    resource_pk: int = Field(primary_key=True, sa_type=BigInteger)


class Identity(Row, table=True):
    """Business identifiers that exist once per type: the constraint that makes two arrivals one resource."""

    type: str = Field(primary_key=True)
    system: str = Field(primary_key=True)
    value: str = Field(primary_key=True)
    resource_pk: int = Field(foreign_key="resource.pk", sa_type=BigInteger, index=True)


class Reindexing(Row, table=True):
    """A resource type whose rows are made anew in the background, in the order of `resource.pk`."""

    type: str = Field(primary_key=True)
    codes: str = ""
    """The parameters that answers may be incomplete for, joined by spaces, or `*` for all; empty where all were there before and are looked at again."""
    position: int = Field(default=0, sa_type=BigInteger)
    """The last resource that is done."""
    last: int = Field(default=0, sa_type=BigInteger)
    """The last one that there was when it began."""
    began: int = Field(sa_type=BigInteger)

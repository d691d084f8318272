"""What active Consents permit and deny (migration 0012), as rules that searches look at. `profiles.smart.consent` says what they mean."""

from sqlalchemy import BigInteger, Column, String
from sqlmodel import Field

from server.store.tables.row import Row, surrogate_key


class ConsentRule(Row, table=True):
    """One provision: it is in force from `begins` until `ends`, and applies where one term of each of its `parts` does."""

    __tablename__ = "consent_rule"
    pk: int | None = Field(default=None, sa_column=surrogate_key())
    consent: int = Field(sa_type=BigInteger, index=True)
    """`resource.pk` of the Consent."""
    patient: str = Field(index=True)
    """Whose consent it is: the id of the Patient, or of the one into whom she was merged."""
    denies: int
    names_some: int
    """Whether it is for named actors, so that it holds proxies, too."""
    parent: int | None = Field(default=None, sa_type=BigInteger, nullable=True, index=True)
    """The rule that this one is an exception of."""
    parts: int
    begins: int = Field(sa_type=BigInteger)
    ends: int = Field(sa_type=BigInteger)


class ConsentTerm(Row, table=True):
    """One alternative of one part of a rule."""

    __tablename__ = "consent_term"
    rule: int = Field(primary_key=True, sa_type=BigInteger)
    number: int = Field(primary_key=True)
    part: int
    kind: str = Field(index=True)
    type: str
    """Of the resource whose id is the `value`, where it is one."""
    value: str = Field(sa_column=Column(String().with_variant(String(collation="C"), "postgresql"), nullable=False))
    low: int = Field(sa_type=BigInteger)
    high: int = Field(sa_type=BigInteger)

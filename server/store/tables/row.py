"""What every table is made of: one metadata with names for its constraints, and surrogate keys."""

from sqlalchemy import BigInteger, Column, Integer, MetaData
from sqlmodel import SQLModel

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


def surrogate_key() -> "Column[int]":
    """A surrogate key. SQLite makes a rowid alias only of INTEGER, hence the variant."""
    return Column(BigInteger().with_variant(Integer(), "sqlite"), primary_key=True, autoincrement=True)

"""The installation: what is made once and stays."""

from sqlalchemy import BigInteger
from sqlmodel import Field

from server.store.tables.row import Row


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

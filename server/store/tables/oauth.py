"""The authorization server: clients, grants, codes, refresh tokens, launches (migration 0010). Secrets are kept as their hashes only."""

from typing import Any

from sqlalchemy import JSON, BigInteger, Column, Index, LargeBinary, UniqueConstraint
from sqlmodel import Field

from server.store.tables.row import Row


def _json(*, nullable: bool = False) -> "Column[Any]":
    return Column(JSON(none_as_null=True), nullable=nullable)


class OAuthClient(Row, table=True):
    """One registered program (RFC 6749 section 2). `kind`: `public`, `secret` or `asymmetric`. Lists are JSON arrays of strings."""

    __tablename__ = "oauth_client"
    id: str = Field(primary_key=True)
    name: str
    kind: str
    secret_hash: str = ""
    """SHA-256 in hex: secrets are ours, of 256 random bits."""
    jwks: dict[str, Any] | None = Field(default=None, sa_column=_json(nullable=True))
    jwks_uri: str = ""
    redirect_uris: list[str] = Field(default=[], sa_column=_json())
    launch_uri: str = ""
    origins: list[str] = Field(default=[], sa_column=_json())
    scope: str = ""
    """What it may ask for at most."""
    grant_types: str = ""
    """Of RFC 7591 section 2, joined by spaces."""
    may: str = ""
    """What it may beyond that, joined by spaces: `introspect` others' tokens, make `launch` handles."""
    logo_uri: str = ""
    client_uri: str = ""
    contacts: list[str] = Field(default=[], sa_column=_json())
    device: str = ""
    """Reference to the Device by which a Consent may name it."""
    reach: list[str] | None = Field(default=None, sa_column=_json(nullable=True))
    """Patients whom it may see by its own right; absent: every one."""
    disabled: int = 0
    created: int = Field(sa_type=BigInteger)
    registration_hash: str | None = None
    """Of the registration access token (RFC 7592), where it registered itself."""


class AccessGrant(Row, table=True):
    """What one client was allowed once, by a person or by its registration. Tokens name it; when it has ended they are worth nothing."""

    __tablename__ = "access_grant"
    __table_args__ = (
        Index("ix_access_grant_account", "account"),
        Index("ix_access_grant_client", "client"),
        Index("ix_access_grant_session", "session"),
        Index("ix_access_grant_expires", "expires"),
    )
    id: str = Field(primary_key=True)
    client: str
    account: str | None = None
    scope: str
    patient: str | None = None
    encounter: str | None = None
    context: dict[str, Any] = Field(default={}, sa_column=_json())
    """What the token response has beside: fhirContext, intent, need_patient_banner, tenant ..."""
    reach: list[str] | None = Field(default=None, sa_column=_json(nullable=True))
    studies: list[str] | None = Field(default=None, sa_column=_json(nullable=True))
    """Study Instance UIDs, where it opens those alone."""
    purposes: list[str] = Field(default=[], sa_column=_json())
    created: int = Field(sa_type=BigInteger)
    expires: int = Field(sa_type=BigInteger)
    used: int = Field(sa_type=BigInteger)
    """When a token of it was last issued."""
    ended: int | None = Field(default=None, sa_type=BigInteger)
    ended_why: str = ""
    offline: int = 0
    session: str | None = None
    """The session that it dies with (online_access)."""
    authenticated: int | None = Field(default=None, sa_type=BigInteger)
    """When the person signed in, and by which `methods`: for the ID token."""
    methods: str = ""


class AuthorizationRequest(Row, table=True):
    """A validated authorization request (RFC 6749 section 4.1.1) that waits for a person. It is never changed but to be answered, and to say whom it has `opened`."""

    __tablename__ = "authorization_request"
    id: str = Field(primary_key=True)
    client: str
    redirect_uri: str
    scope: str
    state: str
    challenge: str
    nonce: str = ""
    since: int = Field(default=0, sa_type=BigInteger)
    """When the person has to have signed in at the earliest (`prompt`, `max_age`)."""
    patient: str | None = None
    encounter: str | None = None
    account: str | None = None
    """Whom the launch is for: nobody else may answer."""
    context: dict[str, Any] = Field(default={}, sa_column=_json())
    expires: int = Field(sa_type=BigInteger, index=True)
    answered: int | None = Field(default=None, sa_type=BigInteger)
    opened: str | None = None
    """In an emergency: the patient whose record was shown last with nothing withheld, empty where that were names alone. Those concerned are told."""


class AuthorizationCode(Row, table=True):
    """RFC 6749 section 4.1.2. `hash` is SHA-256 in hex. Kept after use, so that a replay is known for one."""

    __tablename__ = "authorization_code"
    hash: str = Field(primary_key=True)
    grant: str = Field(index=True)
    redirect_uri: str
    challenge: str
    nonce: str = ""
    expires: int = Field(sa_type=BigInteger, index=True)
    used: int | None = Field(default=None, sa_type=BigInteger)


class RefreshToken(Row, table=True):
    """RFC 6749 section 6. The successor of a used one is sealed with the token itself as the key, for a client that lost the answer."""

    __tablename__ = "refresh_token"
    __table_args__ = (UniqueConstraint("grant", "number"),)
    hash: str = Field(primary_key=True)
    grant: str
    number: int
    expires: int = Field(sa_type=BigInteger, index=True)
    used: int | None = Field(default=None, sa_type=BigInteger)
    successor: bytes | None = Field(default=None, sa_type=LargeBinary, nullable=True)


class Launch(Row, table=True):
    """A launch handle (SMART App Launch 2.2, EHR launch). `account` is whom it is for; absent: whoever signs in."""

    hash: str = Field(primary_key=True)
    client: str
    account: str | None = None
    patient: str | None = None
    encounter: str | None = None
    context: dict[str, Any] = Field(default={}, sa_column=_json())
    expires: int = Field(sa_type=BigInteger, index=True)
    used: int | None = Field(default=None, sa_type=BigInteger)


class AssertionId(Row, table=True):
    """A `jti` that a client has used (RFC 7523 section 3), until its assertion would have expired."""

    __tablename__ = "assertion_id"
    client: str = Field(primary_key=True)
    jti: str = Field(primary_key=True)
    expires: int = Field(sa_type=BigInteger, index=True)


class AccessEpoch(Row, table=True):
    """One row. Its number is another one whenever what somebody may do has changed (`access.epoch`)."""

    __tablename__ = "access_epoch"
    one: int = Field(primary_key=True)
    number: int = Field(sa_type=BigInteger)

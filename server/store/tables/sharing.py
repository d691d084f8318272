"""What patients hold: access codes, shares, files that they bring in, launches from records of others (migration 0020).

Moments are microseconds; 0 is never. Secrets are kept as their hashes, or sealed under a key of this installation where they have to be told again.
"""

from typing import Any

from sqlalchemy import JSON, BigInteger, Column, Index
from sqlmodel import Field

from server.store.tables.row import Row


def _json(*, nullable: bool = False) -> "Column[Any]":
    return Column(JSON(none_as_null=True), nullable=nullable)


class AccessCode(Row, table=True):
    """A code by which a patient gets to studies, once. `hash` is an HMAC of the code: nobody can read it here."""

    __tablename__ = "access_code"
    id: str = Field(primary_key=True)
    hash: str = Field(unique=True)
    patient: str = Field(index=True)
    """Resource id."""
    studies: list[str] | None = Field(default=None, sa_column=_json(nullable=True))
    """Study Instance UIDs that are seen before there is an account; absent: all of the patient."""
    creator: str = ""
    """The account, or the client, that issued it."""
    created: int = Field(sa_type=BigInteger)
    expires: int = Field(sa_type=BigInteger, index=True)
    sent: str = ""
    """How it got to the patient: print, mail or text."""
    letter: str = ""
    """Address and code, sealed, until they have been sent."""
    tries: int = 0
    """Wrong dates of birth, for as long as the code lives."""
    claimed: int = Field(default=0, sa_type=BigInteger)
    claimant: str = ""
    """SHA-256 of what the browser that claimed it keeps."""
    grant: str = ""
    """What that browser may see until there is an account."""
    account: str = ""
    """Who holds the studies now."""
    alerts: int = 0
    """How often it was tried, rightly, by somebody else afterwards."""
    ended: int = Field(default=0, sa_type=BigInteger)
    ended_why: str = ""


class Share(Row, table=True):
    """Studies of one patient, opened to somebody who has the link, or who signs in as `recipient`."""

    __table_args__ = (
        Index("ix_share_patient", "patient"),
        Index("ix_share_account", "account"),
        Index("ix_share_recipient", "recipient"),
    )
    id: str = Field(primary_key=True)
    patient: str
    account: str = ""
    """Who shares: the patient, a proxy, or staff."""
    secret_hash: str = ""
    """SHA-256 of what stands in the link's fragment."""
    sealed: str = ""
    """The link's secret and the key of its SMART Health Link."""
    link: str = Field(default="", index=True)
    """SHA-256 of the path of its SMART Health Link's manifest; empty where it has none."""
    studies: list[str] = Field(default=[], sa_column=_json())
    """Study Instance UIDs."""
    reports: int = 0
    download: int = 0
    apps: int = 0
    """Whether its SMART Health Link has a token for apps too."""
    name: str = ""
    """Whom it is for, as the patient says."""
    email: str = ""
    recipient: str = ""
    """The e-mail address of whom it is for, as it is looked up: who signs in with it needs no link."""
    message: str = ""
    language: str = ""
    passcode: str = ""
    """Its hash; empty where none is asked for."""
    tries: int = 0
    """Wrong passcodes, for as long as the share lives."""
    openings_max: int = 0
    """0: as many as they like."""
    openings: int = 0
    created: int = Field(sa_type=BigInteger)
    expires: int = Field(sa_type=BigInteger, index=True)
    ended: int = Field(default=0, sa_type=BigInteger)
    ended_why: str = ""


class ShareOpening(Row, table=True):
    """One opening of a share: who they said they were, and what they wrote back."""

    __tablename__ = "share_opening"
    __table_args__ = (Index("ix_share_opening_share", "share"),)
    id: str = Field(primary_key=True)
    share: str = Field(foreign_key="share.id")
    hash: str = Field(default="", index=True)
    """SHA-256 of what the browser keeps: a reload is no other opening."""
    grant: str = ""
    face: str = ""
    """link, health-link or account."""
    name: str = ""
    browser: str = ""
    """In a few words, such as `Chrome on Windows`."""
    opened: int = Field(sa_type=BigInteger)
    note: str = ""
    noted: int = Field(default=0, sa_type=BigInteger)


class BroughtIn(Row, table=True):
    """Files that somebody brings in from a browser: in quarantine until it is known whose they are."""

    __tablename__ = "brought_in"
    __table_args__ = (Index("ix_brought_in_account", "account"), Index("ix_brought_in_state", "state"))
    id: str = Field(primary_key=True)
    account: str
    patient: str
    """Whose they are to be; empty where staff find out."""
    state: str
    """open, reading, waiting, taking, done, refused or failed."""
    files: list[dict[str, Any]] = Field(default=[], sa_column=_json())
    """Name and size of each, in the order of their numbers."""
    found: list[dict[str, Any]] = Field(default=[], sa_column=_json())
    """The studies in them, whose those say that they are, and what became of each."""
    done: int = 0
    total: int = 0
    problem: str = ""
    created: int = Field(sa_type=BigInteger)
    changed: int = Field(sa_type=BigInteger)
    expires: int = Field(sa_type=BigInteger, index=True)


class EhrLaunch(Row, table=True):
    """A launch of our viewer out of an EHR: first the request that waits for its answer, then what came of it."""

    __tablename__ = "ehr_launch"
    hash: str = Field(primary_key=True)
    """SHA-256 of the state, or of the handle that the page has afterwards."""
    issuer: str
    sealed: str
    """Verifier and endpoints; afterwards tokens and context."""
    grant: str = ""
    expires: int = Field(sa_type=BigInteger, index=True)

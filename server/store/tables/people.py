"""People: accounts, whose images they may see, how they sign in, sessions (migration 0011). Moments are microseconds; 0 is never."""

from sqlalchemy import BigInteger, LargeBinary
from sqlmodel import Field

from server.store.tables.row import Row


class Account(Row, table=True):
    """Somebody who can sign in. `email_folded` is how the address is looked up: one account for all ways to write it."""

    id: str = Field(primary_key=True)
    kind: str
    """patient, proxy, practitioner, staff or administrator."""
    name: str = ""
    email: str
    email_folded: str = Field(unique=True)
    email_verified: int = Field(default=0, sa_type=BigInteger)
    fhir_user: str = ""
    """Relative reference of the resource that is this person, such as `Practitioner/x`."""
    assurance: int = 1
    """How well it is known who this is: 1 as they say, 2 checked remotely, 3 checked in person."""
    language: str = ""
    disabled: int = Field(default=0, sa_type=BigInteger)
    generation: int = 0
    """Raised with whatever signs everybody out: who was about to sign in just then does not."""
    created: int = Field(sa_type=BigInteger)


class AccountPatient(Row, table=True):
    """A person's own records: Patient resource ids."""

    __tablename__ = "account_patient"
    account: str = Field(primary_key=True, foreign_key="account.id")
    patient: str = Field(primary_key=True, index=True)


class Proxy(Row, table=True):
    """Somebody who may see another's records, from `begins` until `ends`, and until that patient is `until_age` years old."""

    id: str = Field(primary_key=True)
    account: str = Field(foreign_key="account.id", index=True)
    patient: str = Field(index=True)
    relation: str
    """parent, carer, guardian or other."""
    begins: int = Field(sa_type=BigInteger)
    ends: int = Field(default=0, sa_type=BigInteger)
    until_age: int = 0
    ended: int = Field(default=0, sa_type=BigInteger)
    """When somebody ended it before its time."""
    created: int = Field(sa_type=BigInteger)


class Password(Row, table=True):
    """`hash` is argon2 for one that was chosen; for a random one that works once it is SHA-256."""

    account: str = Field(primary_key=True, foreign_key="account.id")
    hash: str
    once: int = 0
    changed: int = Field(sa_type=BigInteger)


class Passkey(Row, table=True):
    """A WebAuthn credential. `id` is base64url, as browsers say it."""

    id: str = Field(primary_key=True)
    account: str = Field(foreign_key="account.id", index=True)
    public_key: bytes = Field(sa_type=LargeBinary)
    sign_count: int = Field(default=0, sa_type=BigInteger)
    name: str = ""
    created: int = Field(sa_type=BigInteger)
    used: int = Field(default=0, sa_type=BigInteger)


class PasskeyChallenge(Row, table=True):
    """A challenge that a browser has been given; claimed once, by deleting it. Hashes are SHA-256 in hexadecimal."""

    __tablename__ = "passkey_challenge"
    hash: str = Field(primary_key=True)
    bound: str
    """Hash of what it was given for, to which session or browser."""
    expires: int = Field(index=True, sa_type=BigInteger)


class OneTimeCode(Row, table=True):
    """The one live code of an account for a purpose and the browser that asked. `hash` is an HMAC under a key of this installation."""

    __tablename__ = "one_time_code"
    account: str = Field(primary_key=True, foreign_key="account.id")
    purpose: str = Field(primary_key=True)
    browser: str = Field(default="", primary_key=True)
    """SHA-256 of what its forms are bound to."""
    hash: str
    tries: int = 0
    expires: int = Field(index=True, sa_type=BigInteger)


class Session(Row, table=True):
    """A person who is signed in. `hash` is the SHA-256 of the cookie, which changes; `id` stays."""

    id: str = Field(primary_key=True)
    hash: str = Field(unique=True)
    account: str = Field(foreign_key="account.id", index=True)
    began: int = Field(sa_type=BigInteger)
    expires: int = Field(index=True, sa_type=BigInteger)
    """Come what may."""
    idle: int = Field(sa_type=BigInteger)
    """When it is over if nothing is asked for in it."""
    authenticated: int = Field(sa_type=BigInteger)
    methods: str = ""
    """How, joined by spaces: password, code, passkey ..."""
    assurance: int = 1


class ExternalIdentity(Row, table=True):
    """Who an account is at a hospital's OpenID provider. Never looked up by e-mail."""

    __tablename__ = "external_identity"
    issuer: str = Field(primary_key=True)
    subject: str = Field(primary_key=True)
    account: str = Field(foreign_key="account.id", index=True)
    linked: int = Field(sa_type=BigInteger)


class Throttle(Row, table=True):
    """How often something happened since the window of its key began. `key` is a hash: it may stand for an address of somebody."""

    key: str = Field(primary_key=True)
    count: int
    expires: int = Field(index=True, sa_type=BigInteger)

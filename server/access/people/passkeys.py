"""Passkeys: W3C Web Authentication Level 3, by the library `webauthn`. Several for an account; the person is verified, not only present.

A challenge is bound to the browser's session (or, before there is one, to what its cookie for forms holds), lives five minutes and
is claimed once. A signature counter that does not grow is that of a copied key: it is refused.
"""

import hashlib
import ipaddress
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

import orjson
import webauthn
from sqlalchemy import Connection, func, select
from webauthn.helpers import base64url_to_bytes, bytes_to_base64url, options_to_json_dict, parse_client_data_json
from webauthn.helpers.exceptions import WebAuthnException
from webauthn.helpers.structs import (
    AuthenticatorSelectionCriteria,
    PublicKeyCredentialDescriptor,
    ResidentKeyRequirement,
    UserVerificationRequirement,
)

from server.access.oauth import granting
from server.access.people import sessions
from server.access.people.accounts import ACCOUNT, is_reachable
from server.access.people.events import Events
from server.access.people.sessions import Session
from server.errors import NotFound, Refused, SignInRefused, StepUpNeeded
from server.settings import Settings, is_local_name
from server.store.db import Database, insert, micros
from server.store.tables import Passkey as PasskeyRow
from server.store.tables import PasskeyChallenge

PASSKEY = PasskeyRow.__table__  # type: ignore[attr-defined]
CHALLENGE = PasskeyChallenge.__table__  # type: ignore[attr-defined]
_LIVES: Final = 5 * 60 * 1_000_000
_MOST: Final = 20
"""Of one account."""
_LONGEST: Final = 65_536
"""Bytes of a response: attestations of some keys hold certificates."""
_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,1400}")
"""WebAuthn section 4: credential ids have 1023 bytes at most."""
Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Passkey:
    """As its owner sees it. Moments are microseconds; 0 is never."""

    id: str
    name: str
    created: int
    used: int


class Passkeys:
    """Registers and verifies for the host of `settings.base_url`; a loopback address is called localhost, for keys know names only."""

    def __init__(self, database: Database, settings: Settings, events: Events) -> None:
        self._database, self._events = database, events
        parts = urlsplit(settings.base_url)
        local = is_local_name(parts.netloc)
        self._host = "localhost" if local else (parts.hostname or "")
        port = f":{parts.port}" if parts.port else ""
        self._origin = f"{parts.scheme}://{self._host}{port}"
        self._below, self._name = parts.path.rstrip("/"), settings.organization

    def page(self, path: str) -> str:
        """The URL of a page of ours where browsers have passkeys; empty where this server has no name, but a mere address."""
        return "" if _is_address(self._host) else f"{self._origin}{self._below}{path}"

    # --- a new one

    def begin(self, session: Session, now: int | None = None) -> dict[str, Any]:
        """WebAuthn section 7.1, step 1: what `navigator.credentials.create` is given, as JSON. Raises `StepUpNeeded`."""
        now = now or micros()
        account = session.account
        with self._database.read() as connection:
            require_strong(connection, session, now)
            _require_reader(connection, session)
            known = [base64url_to_bytes(each.id) for each in of(connection, account.id)]
        options = webauthn.generate_registration_options(
            rp_id=self._host, rp_name=self._name, user_id=account.id.encode(), user_name=account.email,
            user_display_name=account.name or account.email, challenge=self._challenge(f"register {session.id}", now),
            authenticator_selection=AuthenticatorSelectionCriteria(
                resident_key=ResidentKeyRequirement.REQUIRED, user_verification=UserVerificationRequirement.REQUIRED
            ),
            exclude_credentials=[PublicKeyCredentialDescriptor(id=each) for each in known],
        )  # fmt: skip
        return options_to_json_dict(options)

    def finish(self, session: Session, response: Json, name: str = "", address: str = "", now: int | None = None) -> Passkey:
        """WebAuthn section 7.1: keeps the new key. Raises `Refused` for a response that is not to what was asked, `StepUpNeeded`."""
        now = now or micros()
        try:
            challenge = self._claim(response, f"register {session.id}", now)
            found = webauthn.verify_registration_response(
                credential=dict(response), expected_challenge=challenge, expected_rp_id=self._host, expected_origin=self._origin,
                require_user_verification=True,
            )  # fmt: skip
        except (WebAuthnException, ValueError, TypeError, KeyError):
            raise Refused("this key could not be added; begin again, and use it within five minutes") from None
        made = Passkey(bytes_to_base64url(found.credential_id), name.strip()[:80] or "Passkey", now, 0)
        with self._database.write() as connection:
            require_strong(connection, session, now)
            _require_reader(connection, session)
            if len(of(connection, session.account.id)) >= _MOST:
                raise Refused(f"an account has {_MOST} passkeys at most; remove one first")
            adding = insert(connection, PASSKEY).values(
                id=made.id, account=session.account.id, public_key=found.credential_public_key, sign_count=found.sign_count,
                name=made.name, created=now, used=0,
            )  # fmt: skip
            if connection.execute(adding.on_conflict_do_nothing().returning(PASSKEY.c.id)).first() is None:
                raise Refused("this key is registered already")
            self._events.changed(connection, session.account.id, session.account, "passkey added", address)
        return made

    def remove(self, session: Session, id: str, address: str = "", now: int | None = None) -> None:
        """Signs out all other browsers, and ends what apps were granted: a key may be removed because somebody else has it.

        Raises `NotFound` for one that is not this person's, `StepUpNeeded`.
        """
        with self._database.write() as connection:
            require_strong(connection, session, now or micros())
            removing = PASSKEY.delete().where(PASSKEY.c.id == id, PASSKEY.c.account == session.account.id)
            if connection.execute(removing.returning(PASSKEY.c.id)).first() is None:
                raise NotFound("there is no such passkey")
            self._events.changed(connection, session.account.id, session.account, "passkey removed", address)
            sessions.end_all(connection, session.account.id, session.id)  # first, as in `recovery`
            granting.end_of_account(connection, session.account.id, "passkey removed")

    # --- signing in

    def options(self, binding: str, now: int | None = None) -> dict[str, Any]:
        """WebAuthn section 7.2, step 1: what `navigator.credentials.get` is given. It names no key: nobody learns who has one.

        `binding` is what the browser's cookie holds: a session's id, or that of a form before there is a session.
        """
        options = webauthn.generate_authentication_options(
            rp_id=self._host, challenge=self._challenge(f"sign-in {binding}", now or micros()),
            user_verification=UserVerificationRequirement.REQUIRED,
        )  # fmt: skip
        return options_to_json_dict(options)

    def verify(self, response: Json, binding: str, now: int | None = None) -> str:
        """WebAuthn section 7.2: the id of the account whose key has signed the challenge. Raises `SignInRefused`."""
        now = now or micros()
        try:
            challenge = self._claim(response, f"sign-in {binding}", now)
            row = self._found(str(response["id"]))
            found = webauthn.verify_authentication_response(
                credential=dict(response), expected_challenge=challenge, expected_rp_id=self._host, expected_origin=self._origin,
                credential_public_key=bytes(row.public_key), credential_current_sign_count=row.sign_count,
                require_user_verification=True,
            )  # fmt: skip
            self._count(row.id, found.new_sign_count, now)
        except (WebAuthnException, ValueError, TypeError, KeyError):
            raise SignInRefused from None
        account: str = row.account
        return account

    def _found(self, id: str) -> Any:
        with self._database.read() as connection:
            row = connection.execute(select(PASSKEY).where(PASSKEY.c.id == _plain(id))).first()
        if row is None:
            raise SignInRefused
        return row

    def _count(self, id: str, count: int, now: int) -> None:
        """Of two that show the same count at the same moment one is a copy: a counter that grew meanwhile refuses."""
        grown = (PASSKEY.c.sign_count < count) | ((PASSKEY.c.sign_count == 0) & (count == 0))
        counting = PASSKEY.update().where(PASSKEY.c.id == id, grown).values(sign_count=count, used=now)
        with self._database.write() as connection:
            if connection.execute(counting.returning(PASSKEY.c.id)).first() is None:
                raise SignInRefused

    # --- challenges

    def _challenge(self, bound: str, now: int) -> bytes:
        challenge = secrets.token_bytes(32)
        row = {"hash": _hash(challenge), "bound": _hash(bound.encode()), "expires": now + _LIVES}
        with self._database.write() as connection:
            forget(connection, now)  # anybody may ask for them, and most are never answered
            connection.execute(CHALLENGE.insert().values(row))
        return challenge

    def _claim(self, response: Json, bound: str, now: int) -> bytes:
        """The challenge that the browser answers, once it is known to be one that was given for this; raises `ValueError`."""
        if len(orjson.dumps(response)) > _LONGEST:
            raise ValueError("too long")
        challenge = parse_client_data_json(base64url_to_bytes(response["response"]["clientDataJSON"])).challenge
        mine = CHALLENGE.c.hash == _hash(challenge), CHALLENGE.c.bound == _hash(bound.encode()), CHALLENGE.c.expires > now
        with self._database.write() as connection:
            if connection.execute(CHALLENGE.delete().where(*mine).returning(CHALLENGE.c.hash)).first() is None:
                raise ValueError("not a challenge of ours")
        return challenge


def of(connection: Connection, account: str) -> list[Passkey]:
    """An account's passkeys, oldest first."""
    columns = PASSKEY.c
    found = select(columns.id, columns.name, columns.created, columns.used).where(columns.account == account)
    return [Passkey(*row) for row in connection.execute(found.order_by(columns.created, columns.id))]


def has_any(connection: Connection, account: str) -> bool:
    """Whether the account is one that is signed in to with a key."""
    found: int = connection.execute(select(func.count()).select_from(PASSKEY).where(PASSKEY.c.account == account)).scalar_one()
    return found > 0


def is_of(connection: Connection, account: str, id: str) -> bool:
    """Whether it is a key of the account, as a browser names it."""
    mine = select(PASSKEY.c.id).where(PASSKEY.c.account == account, PASSKEY.c.id == _plain(id))
    return connection.execute(mine).first() is not None


def remove_all(connection: Connection, account: str) -> None:
    """For who has lost them, and was seen by an administrator."""
    connection.execute(PASSKEY.delete().where(PASSKEY.c.account == account))


def require_strong(connection: Connection, session: Session, now: int) -> None:
    """How somebody signs in is changed only by who has just done so, as strongly as the account can. Raises `StepUpNeeded`."""
    require_key(connection, session)
    if not session.is_fresh(now):
        raise StepUpNeeded("sign in again first: it is some time since you did")


def require_key(connection: Connection, session: Session) -> None:
    """What a passkey protects is not open to who has the password alone. Raises `StepUpNeeded` for who has signed in weaker than the account can."""
    if session.assurance < 2 and has_any(connection, session.account.id):
        raise StepUpNeeded("sign in with your passkey first; then this can be done")


def _require_reader(connection: Connection, session: Session) -> None:
    """The first passkey shuts out all who have none: whoever adds it shows more than the password, where the e-mail address is known to be read.

    Raises `StepUpNeeded`.
    """
    account = session.account
    if {"code", "hospital", "passkey"} & set(session.methods) or has_any(connection, account.id):
        return
    row = connection.execute(select(ACCOUNT.c.email_verified).where(ACCOUNT.c.id == account.id)).first()
    if row is not None and row.email_verified and is_reachable(account.email):
        raise StepUpNeeded("sign in by a code first; then the first passkey can be added", by="code")


def forget(connection: Connection, now: int) -> None:
    """Removes challenges that are over."""
    connection.execute(CHALLENGE.delete().where(CHALLENGE.c.expires <= now))


def _plain(id: str) -> str:
    """base64url without padding (RFC 4648 section 5); raises `ValueError` for what is none, which a database may not even be able to read."""
    plain = id.rstrip("=")
    if not _ID.fullmatch(plain):
        raise ValueError("no id of a key")
    return plain


def _hash(value: bytes) -> str:
    return hashlib.sha256(value).hexdigest()


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True

"""Sessions of people who are signed in: on the server, known by a random cookie of which only the SHA-256 is kept.

A session is made by signing in and never by a request, so nobody can plant one; its cookie changes with every step up. It ends
`session_seconds` after it began, or when nothing was asked for in it for `session_idle`.
"""

import hashlib
import hmac
import secrets
from base64 import urlsafe_b64encode
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Final

from sqlalchemy import ColumnElement, Connection, or_, select

from server.access.oauth import granting
from server.access.people.accounts import ACCOUNT, Account, bar, may_enter
from server.errors import SignInRefused
from server.settings import Settings
from server.store.db import Database, micros
from server.store.tables import Session as SessionRow

SESSION = SessionRow.__table__  # type: ignore[attr-defined]
FRESH: Final = 10 * 60 * 1_000_000
"""Microseconds after which somebody who changes how they sign in has to do so again."""
_TOUCH: Final = 60 * 1_000_000
"""How exactly it is kept when a session was last used: a request need not write."""


@dataclass(frozen=True, slots=True)
class Session:
    """One browser of a person. Moments are microseconds. `csrf` is what its forms carry.

    `methods` say how the person signed in, `assurance` how strongly: 1 one factor, 2 a passkey or two factors.
    """

    id: str
    account: Account
    began: int
    authenticated: int
    methods: tuple[str, ...]
    assurance: int
    csrf: str

    def is_fresh(self, now: int) -> bool:
        """Whether the person signed in, or stepped up, just before."""
        return now - self.authenticated < FRESH


class Sessions:
    """The sessions of one database."""

    def __init__(self, database: Database, *, seconds: int = 43_200, idle: int = 1_800) -> None:
        self._database = database
        self._seconds, self._idle = seconds * 1_000_000, idle * 1_000_000

    def open(
        self, account: Account, methods: Collection[str], assurance: int, now: int | None = None, authenticated: int | None = None
    ) -> tuple[Session, str]:
        """A new session, and the value of its cookie, which is told this once. `authenticated` is when the person signed in, if not now.

        Raises `SignInRefused` where the account was disabled, or everybody signed out of it, since the person has shown who they are.
        """
        now, cookie, id_ = now or micros(), secrets.token_urlsafe(32), secrets.token_urlsafe(16)
        authenticated = now if authenticated is None else authenticated
        row = {
            "id": id_, "hash": _hash(cookie), "account": account.id, "began": now, "expires": now + self._seconds,
            "idle": now + self._idle, "authenticated": authenticated, "methods": " ".join(methods), "assurance": assurance,
        }  # fmt: skip
        with self._database.write() as connection:
            if not may_enter(connection, account):
                raise SignInRefused
            connection.execute(SESSION.insert().values(row))
        return Session(id_, account, now, authenticated, tuple(methods), assurance, _csrf(cookie)), cookie

    def find(self, cookie: str, now: int | None = None) -> Session | None:
        """The session of a cookie; none for one that is over, was closed, or whose account is disabled."""
        if not 20 <= len(cookie) <= 100:
            return None
        now, hashed = now or micros(), _hash(cookie)
        mine = SESSION.c.hash == hashed, SESSION.c.expires > now, SESSION.c.idle > now
        columns = ACCOUNT.c
        found = (
            select(
                SESSION.c.id, SESSION.c.began, SESSION.c.authenticated, SESSION.c.methods, SESSION.c.assurance, SESSION.c.idle,
                columns.id.label("account"), columns.kind, columns.name, columns.email, columns.fhir_user,
                columns.assurance.label("proofed"), columns.language,
            )
            .join(ACCOUNT, columns.id == SESSION.c.account)
            .where(*mine, columns.disabled == 0)
        )  # fmt: skip
        with self._database.read() as connection:
            row = connection.execute(found).first()
        if row is None:
            return None
        if row.idle < now + self._idle - _TOUCH:
            with self._database.write() as connection:
                connection.execute(SESSION.update().where(*mine).values(idle=now + self._idle))
        account = Account(row.account, row.kind, row.name, row.email, row.fhir_user, row.proofed, row.language)
        methods = tuple(row.methods.split())
        return Session(row.id, account, row.began, row.authenticated, methods, row.assurance, _csrf(cookie))

    def rotate(
        self, session: Session, methods: Collection[str], assurance: int, now: int | None = None, authenticated: int | None = None
    ) -> tuple[Session, str] | None:
        """The same session after its person has proved more: a new cookie, the old one is void. None where it was closed meanwhile."""
        now, cookie = now or micros(), secrets.token_urlsafe(32)
        authenticated = now if authenticated is None else max(authenticated, session.authenticated)
        known = tuple(dict.fromkeys((*session.methods, *methods)))
        strongest = max(session.assurance, assurance)
        changing = (
            SESSION.update()
            .where(SESSION.c.id == session.id, SESSION.c.expires > now)
            .values(
                hash=_hash(cookie),
                authenticated=authenticated,
                idle=now + self._idle,
                methods=" ".join(known),
                assurance=strongest,
            )
            .returning(SESSION.c.id)
        )
        with self._database.write() as connection:
            if connection.execute(changing).first() is None:
                return None
        changed = replace(session, authenticated=authenticated, methods=known, assurance=strongest, csrf=_csrf(cookie))
        return changed, cookie

    def close(self, session: Session) -> None:
        """Signs out: the cookie is void, and so is what was granted for as long as the session lasts."""
        with self._database.write() as connection:
            end(connection, session.account.id, session.id)

    def close_one(self, account: str, id: str) -> None:
        """Signs another browser of the same person out."""
        with self._database.write() as connection:
            end(connection, account, id)

    def close_all(self, account: str, but: str | None = None) -> None:
        """Signs all browsers of a person out, except the session with id `but`."""
        with self._database.write() as connection:
            end_all(connection, account, but)

    def of(self, account: str, now: int | None = None) -> list[Session]:
        """The open sessions of a person, newest first; without what would let somebody in."""
        now = now or micros()
        with self._database.read() as connection:
            person = select(ACCOUNT).where(ACCOUNT.c.id == account)
            row = connection.execute(person).first()
            mine = SESSION.c.account == account, SESSION.c.expires > now, SESSION.c.idle > now
            found = connection.execute(select(SESSION).where(*mine).order_by(SESSION.c.began.desc())).all()
        if row is None:
            return []
        whose = Account(row.id, row.kind, row.name, row.email, row.fhir_user, row.assurance, row.language, row.disabled > 0)
        return [
            Session(each.id, whose, each.began, each.authenticated, tuple(each.methods.split()), each.assurance, "")
            for each in found
        ]


def end(connection: Connection, account: str, id: str) -> None:
    """Ends one session of an account, and what was granted to apps for as long as it lasts."""
    _ended(connection, SESSION.c.account == account, SESSION.c.id == id)


def end_all(connection: Connection, account: str, but: str | None = None) -> None:
    """The same of all sessions of an account, except `but`, and of those that are about to be opened."""
    bar(connection, account)
    _ended(connection, SESSION.c.account == account, SESSION.c.id != (but or ""))


def _ended(connection: Connection, *which: ColumnElement[bool]) -> None:
    for each in connection.execute(SESSION.delete().where(*which).returning(SESSION.c.id)).scalars().all():
        granting.end_of_session(connection, each)


def is_open(connection: Connection, session: Session, now: int) -> bool:
    """Whether a session that was found before is still open in this transaction. Who would close it then waits until this one has ended."""
    mine = SESSION.c.id == session.id, SESSION.c.account == session.account.id, SESSION.c.expires > now, SESSION.c.idle > now
    found = select(SESSION.c.id).join(ACCOUNT, ACCOUNT.c.id == SESSION.c.account).where(*mine, ACCOUNT.c.disabled == 0)
    return connection.execute(found.with_for_update(read=True, of=SESSION)).first() is not None


def forget(connection: Connection, now: int) -> None:
    """Removes those that are over."""
    connection.execute(SESSION.delete().where(or_(SESSION.c.expires <= now, SESSION.c.idle <= now)))


def cookie(settings: Settings) -> tuple[str, bool]:
    """Name of the session's cookie, and whether it is `Secure`.

    RFC 6265bis section 4.1.3.2: `__Host-` is for https only; on plain http, which is for loopback, the name does without.
    """
    secure = settings.base_url.startswith("https:")
    return ("__Host-imageshare" if secure else "imageshare-session"), secure


def _hash(cookie: str) -> str:
    return hashlib.sha256(cookie.encode()).hexdigest()


def _csrf(cookie: str) -> str:
    return urlsafe_b64encode(hmac.digest(cookie.encode(), b"csrf", "sha256")).decode().rstrip("=")

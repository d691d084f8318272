"""What a client was allowed: begun when a person agrees or a service asks, named by its tokens, and worth nothing once it has ended."""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Row, delete, or_, select, update

from server.access import epoch
from server.store.db import micros
from server.store.tables import (
    AccessGrant,
    AssertionId,
    AuthorizationCode,
    AuthorizationRequest,
    Launch,
    RefreshToken,
)

GRANT: Final = AccessGrant.__table__  # type: ignore[attr-defined]
_CODE: Final = AuthorizationCode.__table__  # type: ignore[attr-defined]
_REFRESH: Final = RefreshToken.__table__  # type: ignore[attr-defined]
_REQUEST: Final = AuthorizationRequest.__table__  # type: ignore[attr-defined]
_LAUNCH: Final = Launch.__table__  # type: ignore[attr-defined]
_ASSERTION: Final = AssertionId.__table__  # type: ignore[attr-defined]

SECOND: Final = 1_000_000
_DAY: Final = 86_400 * SECOND


@dataclass(frozen=True, slots=True)
class Granted:
    """A row of `access_grant`. Moments are microseconds. `context` is what a token response tells beside patient and encounter."""

    id: str
    client: str
    scope: str
    account: str | None = None
    patient: str | None = None
    encounter: str | None = None
    context: Mapping[str, Any] = field(default_factory=dict)
    reach: tuple[str, ...] | None = None
    studies: tuple[str, ...] | None = None
    purposes: tuple[str, ...] = ()
    created: int = 0
    expires: int = 0
    used: int = 0
    ended: int | None = None
    offline: bool = False
    session: str | None = None
    authenticated: int | None = None
    methods: tuple[str, ...] = ()

    def holds(self, now: int) -> bool:
        """Whether it has neither ended nor expired."""
        return self.ended is None and self.expires > now

    @property
    def told(self) -> dict[str, Any]:
        """SMART App Launch 2.2, launch context: what stands beside the access token, and in an introspection."""
        return {
            **({"patient": self.patient} if self.patient else {}),
            **({"encounter": self.encounter} if self.encounter else {}),
            **self.context,
        }


def begin(connection: Connection, granted: Granted) -> Granted:
    """Keeps it under a new id. `expires` is the caller's to set."""
    now = micros()
    values = {
        "id": secrets.token_urlsafe(16), "client": granted.client, "account": granted.account, "scope": granted.scope, "patient": granted.patient,
        "encounter": granted.encounter, "context": dict(granted.context),
        "reach": None if granted.reach is None else list(granted.reach),
        "studies": None if granted.studies is None else list(granted.studies), "purposes": list(granted.purposes),
        "created": now, "expires": granted.expires, "used": now, "ended_why": "", "offline": int(granted.offline),
        "session": granted.session, "authenticated": granted.authenticated, "methods": " ".join(granted.methods),
    }  # fmt: skip
    row = connection.execute(GRANT.insert().values(**values).returning(GRANT)).one()
    return _of(row)


def find(connection: Connection, id: str) -> Granted | None:
    """It, also if it is over."""
    row = connection.execute(select(GRANT).where(GRANT.c.id == id)).first()
    return None if row is None else _of(row)


def extend(connection: Connection, id: str, expires: int) -> None:
    """It is used just now, and holds until then at least. No epoch: what was decided for a shorter time is decided anew after that."""
    connection.execute(update(GRANT).where(GRANT.c.id == id, GRANT.c.expires < expires).values(expires=expires, used=micros()))


def end(connection: Connection, id: str, why: str) -> bool:
    """None of its tokens is worth anything from the commit on. Whether it had not ended before."""
    return _end(connection, GRANT.c.id == id, why) > 0


def end_of_account(connection: Connection, account: str, why: str) -> int:
    """Ends all that this person allowed. How many there were."""
    return _end(connection, GRANT.c.account == account, why)


def end_of_client(connection: Connection, client: str, why: str) -> int:
    return _end(connection, GRANT.c.client == client, why)


def end_of_session(connection: Connection, session: str, why: str = "signed out") -> int:
    """Ends what was allowed for as long as the person stays signed in (`online_access`)."""
    return _end(connection, GRANT.c.session == session, why)


def of_account(connection: Connection, account: str, now: int) -> list[Granted]:
    """Those that hold, newest first."""
    held = select(GRANT).where(GRANT.c.account == account, GRANT.c.ended.is_(None), GRANT.c.expires > now)
    return [_of(row) for row in connection.execute(held.order_by(GRANT.c.created.desc(), GRANT.c.id))]


def forget(connection: Connection, now: int) -> None:
    """Deletes what has been over for a day: no token, code or handle of it can be told from one that never was.

    Used refresh tokens stay for a month: one that comes again until then ends its grant.
    """
    before = now - _DAY
    for table in (_CODE, _REFRESH, _REQUEST, _LAUNCH, _ASSERTION):
        connection.execute(delete(table).where(table.c.expires < before))
    connection.execute(delete(_REFRESH).where(_REFRESH.c.used < now - 30 * _DAY))
    connection.execute(delete(GRANT).where(or_(GRANT.c.expires < before, GRANT.c.ended < before)))


def _end(connection: Connection, which: ColumnElement[bool], why: str) -> int:
    ended = update(GRANT).where(which, GRANT.c.ended.is_(None)).values(ended=micros(), ended_why=why).returning(GRANT.c.id)
    count = len(connection.execute(ended).all())
    if count:
        epoch.raise_(connection)
    return count


def _of(row: Row[Any]) -> Granted:
    return Granted(
        id=row.id, client=row.client, scope=row.scope, account=row.account, patient=row.patient, encounter=row.encounter,
        context=row.context, reach=None if row.reach is None else tuple(row.reach),
        studies=None if row.studies is None else tuple(row.studies), purposes=tuple(row.purposes), created=row.created,
        expires=row.expires, used=row.used, ended=row.ended, offline=bool(row.offline), session=row.session, authenticated=row.authenticated,
        methods=tuple(row.methods.split()),
    )  # fmt: skip

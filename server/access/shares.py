"""Shares: studies of one patient, opened to whoever has a link's secret, and a passcode where one was set; counted, and ended at any moment.

A link's secret stands in its fragment, which browsers send to nobody; here is its SHA-256, and the secret itself sealed, so that whoever shares can show the
link again. It is the key of the share's SMART Health Link as well, whose manifest has an address of its own that opens nothing without it. Wrong passcodes are counted for as long as the share lives: beyond `TRIES` it opens nothing any more, even with the right one.
"""

import hashlib
import hmac
import secrets
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from sqlalchemy import Connection, Row, or_, select, update

from server.access import sealed
from server.access.oauth import granting
from server.access.people.accounts import fold
from server.errors import NotFound
from server.store.db import insert, micros
from server.store.tables import AssertionId, ShareOpening
from server.store.tables import Share as ShareRow

SHARE: Final = ShareRow.__table__  # type: ignore[attr-defined]
OPENING: Final = ShareOpening.__table__  # type: ignore[attr-defined]
_USED: Final = AssertionId.__table__  # type: ignore[attr-defined]
TRIES: Final = 10
"""Wrong passcodes that a share outlives."""
_PURPOSE: Final = "share"
_FILES: Final = "imageshare-share"
Ended = Literal["stopped", "passcodes", "account closed"]
Face = Literal["link", "health-link", "account"]


@dataclass(frozen=True, slots=True)
class Share:
    """One share, without its secrets. Moments are microseconds, 0 is never; `openings_max` 0 is any number. `passcode` is a hash."""

    id: str
    patient: str
    account: str
    studies: tuple[str, ...]
    reports: bool
    download: bool
    name: str
    email: str
    message: str
    created: int
    expires: int
    apps: bool = False
    has_health_link: bool = False
    openings_max: int = 0
    openings: int = 0
    tries: int = 0
    ended: int = 0
    ended_why: str = ""
    language: str = ""
    """What its letter speaks."""
    passcode: str = field(default="", repr=False)
    sealed: str = field(default="", repr=False)
    secret_hash: str = field(default="", repr=False)

    def state(self, now: int) -> Literal["open", "used", "expired", "ended"]:
        """Whether it opens anything, and if not why."""
        if self.ended:
            return "ended"
        if self.expires <= now:
            return "expired"
        return "used" if self.openings_max and self.openings >= self.openings_max else "open"


@dataclass(frozen=True, slots=True)
class Opening:
    """One opening: who they said they were, with which browser, and what they wrote back."""

    id: str
    share: str
    grant: str
    name: str
    browser: str
    opened: int
    note: str = ""
    noted: int = 0


@dataclass(frozen=True, slots=True)
class Wish:
    """What is to be shared, with whom, and how. `passcode` is a hash, empty for none; `days` how long; `openings` how often, 0 for any number."""

    patient: str
    studies: tuple[str, ...]
    days: int
    reports: bool = True
    download: bool = False
    apps: bool = False
    openings: int = 0
    name: str = ""
    email: str = ""
    message: str = ""
    language: str = ""
    passcode: str = field(default="", repr=False)


def make(connection: Connection, key: bytes, wish: Wish, account: str) -> tuple[Share, str]:
    """A new share of this account, and the secret of its link."""
    secret, path, id_, now = secrets.token_urlsafe(32), secrets.token_urlsafe(32), secrets.token_urlsafe(16), micros()
    row = {
        "id": id_, "patient": wish.patient, "account": account, "secret_hash": _hash(secret),
        "sealed": sealed.seal(key, _PURPOSE, [secret, path], (id_,)), "link": _hash(path), "studies": sorted(wish.studies),
        "reports": int(wish.reports), "download": int(wish.download), "apps": int(wish.apps), "name": wish.name, "email": wish.email, "recipient": fold(wish.email),
        "message": wish.message, "language": wish.language, "passcode": wish.passcode, "tries": 0, "openings_max": wish.openings, "openings": 0,
        "created": now, "expires": now + wish.days * 86_400_000_000, "ended": 0, "ended_why": "",
    }  # fmt: skip
    connection.execute(SHARE.insert().values(row))
    return _of(connection.execute(select(SHARE).where(SHARE.c.id == id_)).one()), secret


def secret_of(key: bytes, share: Share) -> str:
    """The secret of its link, for whoever made it."""
    found = sealed.unseal(key, _PURPOSE, share.sealed, (share.id,))
    return str(found[0]) if found else ""


def health_link_of(key: bytes, share: Share) -> tuple[str, str]:
    """The key of its SMART Health Link, and the path of the manifest; both empty where it has none."""
    found = sealed.unseal(key, _PURPOSE, share.sealed, (share.id,)) if share.has_health_link else None
    return (str(found[0]), str(found[1])) if found else ("", "")


def find(connection: Connection, id_: str) -> Share | None:
    row = connection.execute(select(SHARE).where(SHARE.c.id == id_)).first()
    return None if row is None else _of(row)


def of_account(connection: Connection, account: str) -> tuple[Share, ...]:
    """All that somebody shared, the newest first."""
    return tuple(
        map(_of, connection.execute(select(SHARE).where(SHARE.c.account == account).order_by(SHARE.c.created.desc())).all())
    )


def of_recipient(connection: Connection, email: str) -> tuple[Share, ...]:
    """What opens something now to whoever signs in with this e-mail address, the newest first."""
    made = select(SHARE).where(SHARE.c.recipient == fold(email), SHARE.c.recipient != "").order_by(SHARE.c.created.desc())
    return tuple(each for row in connection.execute(made).all() if (each := _if_open(_of(row))) is not None)


def known(connection: Connection, id_: str, secret: str) -> Share | None:
    """The share of a link, if it is one of ours and opens something now. The same work whatever is wrong."""
    row = connection.execute(select(SHARE).where(SHARE.c.id == id_)).first()
    right = hmac.compare_digest(row.secret_hash if row is not None else "0" * 64, _hash(secret))
    return _if_open(_of(row) if row is not None and right else None)


def of_manifest(connection: Connection, path: str) -> Share | None:
    """The share whose SMART Health Link has its manifest at this path (256 random bits), if it opens something now."""
    row = connection.execute(select(SHARE).where(SHARE.c.link == _hash(path))).first()
    return _if_open(_of(row) if row is not None else None)


def _if_open(share: Share | None) -> Share | None:
    return share if share is not None and share.state(micros()) == "open" and share.tries < TRIES else None


def take_try(connection: Connection, id_: str) -> int:
    """Counts one try of the passcode before it is looked at. How many are left after it; -1 where it may not be looked at."""
    trying = (
        update(SHARE).where(SHARE.c.id == id_, SHARE.c.tries < TRIES).values(tries=SHARE.c.tries + 1).returning(SHARE.c.tries)
    )
    tries: int | None = connection.execute(trying).scalar_one_or_none()
    return -1 if tries is None else TRIES - tries


def give_back(connection: Connection, id_: str) -> None:
    """The passcode was right: that was no failure."""
    connection.execute(update(SHARE).where(SHARE.c.id == id_).values(tries=SHARE.c.tries - 1))


def open_(
    connection: Connection, share: Share, grant: str, cookie: str, *, name: str, browser: str, face: Face = "link"
) -> Opening | None:
    """One opening more, with the grant that shows the studies; None where they are used up, or it has ended meanwhile."""
    room = or_(SHARE.c.openings_max == 0, SHARE.c.openings < SHARE.c.openings_max)
    live = SHARE.c.id == share.id, SHARE.c.ended == 0, SHARE.c.expires > micros(), room
    if connection.execute(update(SHARE).where(*live).values(openings=SHARE.c.openings + 1).returning(SHARE.c.id)).first() is None:
        return None
    row = {
        "id": secrets.token_urlsafe(12), "share": share.id, "hash": _hash(cookie), "grant": grant, "face": face, "name": name[:80],
        "browser": browser[:80], "opened": micros(), "note": "", "noted": 0,
    }  # fmt: skip
    connection.execute(OPENING.insert().values(row))
    return Opening(row["id"], share.id, grant, row["name"], row["browser"], row["opened"])  # type: ignore[arg-type]


def opened(connection: Connection, share: str, cookie: str) -> Opening | None:
    """The opening that this browser has made; a reload is none more."""
    if not cookie:
        return None
    row = connection.execute(select(OPENING).where(OPENING.c.hash == _hash(cookie), OPENING.c.share == share)).first()
    return None if row is None else _opening(row)


def is_first_use(connection: Connection, number: str, until: int) -> bool:
    """Whether nobody has used the address of a file with this number, which expires then (microseconds); from now on somebody has."""
    used = insert(connection, _USED).values(client=_FILES, jti=number, expires=until).on_conflict_do_nothing()
    return connection.execute(used.returning(_USED.c.jti)).first() is not None


def openings(connection: Connection, shares: Collection[str]) -> dict[str, list[Opening]]:
    """Those of these shares, the newest first."""
    found: dict[str, list[Opening]] = {each: [] for each in shares}
    rows = connection.execute(select(OPENING).where(OPENING.c.share.in_(sorted(shares))).order_by(OPENING.c.opened.desc())).all()
    for row in rows:
        found[row.share].append(_opening(row))
    return found


def find_opening(connection: Connection, id_: str) -> Opening | None:
    row = connection.execute(select(OPENING).where(OPENING.c.id == id_)).first()
    return None if row is None else _opening(row)


def note(connection: Connection, opening: str, text: str) -> None:
    """What the recipient writes back to the patient."""
    connection.execute(update(OPENING).where(OPENING.c.id == opening).values(note=text[:2000], noted=micros()))


def stop(connection: Connection, id_: str, why: Ended) -> Share:
    """Nothing of it opens from the commit on, in any process, what is open in a browser included. Raises `NotFound` where it has ended already."""
    ending = update(SHARE).where(SHARE.c.id == id_, SHARE.c.ended == 0).values(ended=micros(), ended_why=why).returning(SHARE)
    row = connection.execute(ending).first()
    if row is None:
        raise NotFound("there is no such share, or it has ended")
    grants: Sequence[str] = connection.execute(select(OPENING.c.grant).where(OPENING.c.share == id_)).scalars().all()
    for grant in grants:
        granting.end(connection, grant, why)
    return _of(row)


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "replace")).hexdigest()


def _of(row: "Row[Any]") -> Share:
    return Share(
        row.id, row.patient, row.account, tuple(row.studies), bool(row.reports), bool(row.download), row.name, row.email, row.message, row.created,
        row.expires, bool(row.apps), bool(row.link), row.openings_max, row.openings, row.tries, row.ended, row.ended_why, row.language, row.passcode, row.sealed, row.secret_hash,
    )  # fmt: skip


def _opening(row: "Row[Any]") -> Opening:
    return Opening(row.id, row.share, row.grant, row.name, row.browser, row.opened, row.note, row.noted)

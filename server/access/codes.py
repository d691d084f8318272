"""Access codes: how a patient gets to images before there is an account (RSNA Image Share's access code, and one factor more: the date of birth).

A code is claimed once, by one browser, and is then worth nothing to anybody else. Whatever is wrong is refused in the same words, after the same
work. A code is kept as its HMAC; wrong dates of birth are counted for as long as it lives, and beyond `TRIES` it opens nothing any more.
"""

import hashlib
import hmac
import secrets
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from sqlalchemy import Connection, Row, or_, select

from profiles import access_code
from server.access import epoch
from server.access.oauth import granting
from server.access.people import accounts, one_time_codes
from server.errors import NotFound, Refused
from server.records import belonging
from server.records.catalogue import PATIENT
from server.store.db import micros
from server.store.tables import AccessCode as CodeRow

CODE: Final = CodeRow.__table__  # type: ignore[attr-defined]
TRIES: Final = 10
"""Wrong dates of birth that a code outlives."""
_NOBODY: Final = "0" * 64
_NEVER: Final = access_code.of(0)
NO_BIRTH_DATE: Final = "this patient has no date of birth here, by which the code could be claimed; correct that first"


@dataclass(frozen=True, slots=True)
class AccessCode:
    """One code, but for the code itself. Moments are microseconds, 0 is never. `studies` are Study Instance UIDs; None: all of the patient."""

    id: str
    patient: str
    studies: tuple[str, ...] | None
    creator: str
    created: int
    expires: int
    sent: str = ""
    tries: int = 0
    claimed: int = 0
    grant: str = ""
    account: str = ""
    alerts: int = 0
    ended: int = 0
    ended_why: str = ""
    letter: str = field(default="", repr=False)

    def state(self, now: int) -> Literal["open", "claimed", "kept", "expired", "locked", "ended"]:
        """What has become of it: claimed, and then kept in an account."""
        if self.ended:
            return "ended"
        if self.account:
            return "kept"
        if self.claimed:
            return "claimed"
        if self.tries >= TRIES:
            return "locked"
        return "open" if self.expires > now else "expired"


def issue(
    connection: Connection,
    key: bytes,
    *,
    patient: str,
    studies: Collection[str] | None,
    creator: str,
    expires: int,
    sent: str = "",
) -> tuple[AccessCode, str]:
    """A new code for the patient of this resource id, and how it is read out, which is told this once. Raises `NotFound`, `Refused`."""
    born = _born(connection, patient)
    if born is None:
        raise NotFound("there is no such patient")
    if len(born) != len("YYYYMMDD"):
        raise Refused(NO_BIRTH_DATE)
    code, id_ = access_code.of(secrets.randbits(access_code.BITS)), secrets.token_urlsafe(12)
    row = {
        "id": id_, "hash": _hash(key, code), "patient": patient, "studies": None if studies is None else sorted(studies),
        "creator": creator, "created": micros(), "expires": expires, "sent": sent, "letter": "", "tries": 0, "claimed": 0, "claimant": "",
        "grant": "", "account": "", "alerts": 0, "ended": 0, "ended_why": "",
    }  # fmt: skip
    connection.execute(CODE.insert().values(row))
    return _of(connection.execute(select(CODE).where(CODE.c.id == id_)).one()), access_code.written(code)


@dataclass(frozen=True, slots=True)
class Looked:
    """What a code and a date of birth came to. `found` is absent where nothing is told; `is_mine` says that this browser has claimed it."""

    found: AccessCode | None = None
    outcome: Literal["nothing", "open", "mine", "taken", "over"] = "nothing"


def look(connection: Connection, key: bytes, text: str, born: str, claimant: str) -> Looked:
    """Tries a code as somebody has typed it, with a date of birth (`YYYYMMDD`), in a browser that keeps `claimant`. Counts what is wrong.

    The same statements, with the same comparisons, whatever is wrong: an unknown code, or the date.
    """
    code = access_code.read(text) or _NEVER
    trying = (
        CODE.update().where(CODE.c.hash == _hash(key, code), CODE.c.tries < TRIES).values(tries=CODE.c.tries + 1).returning(CODE)
    )
    row = connection.execute(trying).first()
    known = _born(connection, row.patient if row is not None else _NOBODY) or "-" * 8
    right = hmac.compare_digest(known.encode(), born.encode("utf-8", "replace"))
    if row is None:
        one_time_codes.count_nothing(connection)
        return Looked()
    if not right:
        return Looked()
    connection.execute(CODE.update().where(CODE.c.id == row.id).values(tries=CODE.c.tries - 1))
    found, mine = _of(row), hmac.compare_digest(str(row.claimant), _hidden(claimant))
    if found.ended or (found.expires <= micros() and not mine):
        return Looked(found, "over")
    if found.claimed:
        return Looked(found, "mine" if mine else "taken")
    return Looked(found, "open")


def claim(connection: Connection, code: AccessCode, grant: str, claimant: str) -> bool:
    """It is this browser's from now on, which may use `grant`. Whether nobody else was first."""
    mine = CODE.c.id == code.id, CODE.c.claimed == 0, CODE.c.ended == 0
    claiming = CODE.update().where(*mine).values(claimed=micros(), grant=grant, claimant=_hidden(claimant)).returning(CODE.c.id)
    return connection.execute(claiming).first() is not None


def alert(connection: Connection, id_: str) -> None:
    """Somebody else has tried it, with the right date of birth."""
    connection.execute(CODE.update().where(CODE.c.id == id_).values(alerts=CODE.c.alerts + 1))


def of_claimant(connection: Connection, claimant: str) -> tuple[AccessCode, ...]:
    """What this browser has claimed and nobody has ended, the newest first."""
    if not claimant:
        return ()
    mine = select(CODE).where(CODE.c.claimant == _hidden(claimant), CODE.c.ended == 0)
    return tuple(map(_of, connection.execute(mine.order_by(CODE.c.claimed.desc())).all()))


def keep(connection: Connection, code: AccessCode, account: str) -> bool:
    """Its patient is this account's person from now on. Whether nobody else has kept it."""
    keeping = (
        CODE.update().where(CODE.c.id == code.id, CODE.c.account.in_(("", account))).values(account=account).returning(CODE.c.id)
    )
    if connection.execute(keeping).first() is None:
        return False
    accounts.own(connection, account, code.patient)
    return True


def leave(connection: Connection, claimant: str) -> None:
    """The browser has forgotten them: what it could see without an account it can see no more."""
    for each in of_claimant(connection, claimant):
        granting.end(connection, each.grant, "the browser has forgotten the access code")
    connection.execute(CODE.update().where(CODE.c.claimant == _hidden(claimant)).values(claimant="-"))


def end(connection: Connection, id_: str, why: str) -> AccessCode:
    """It opens nothing from now on, nor does what it has opened without an account. Raises `NotFound`."""
    ending = (
        CODE.update().where(CODE.c.id == id_, CODE.c.ended == 0).values(ended=micros(), ended_why=why, letter="").returning(CODE)
    )
    row = connection.execute(ending).first()
    if row is None:
        raise NotFound("there is no such access code, or it has ended")
    if row.grant:
        granting.end(connection, row.grant, why)
    epoch.raise_(connection)
    return _of(row)


def find(connection: Connection, id_: str) -> AccessCode | None:
    row = connection.execute(select(CODE).where(CODE.c.id == id_)).first()
    return None if row is None else _of(row)


def of_patients(connection: Connection, patients: Sequence[str]) -> tuple[AccessCode, ...]:
    """All that were ever issued for them, the newest first."""
    mine = select(CODE).where(CODE.c.patient.in_(list(patients))).order_by(CODE.c.created.desc(), CODE.c.id)
    return tuple(map(_of, connection.execute(mine).all()))


def later(connection: Connection, id_: str, letter: str) -> None:
    """`letter` (sealed) waits to be sent; empty: it was."""
    connection.execute(CODE.update().where(CODE.c.id == id_).values(letter=letter))


def forget(connection: Connection, now: int) -> None:
    """Removes, a year afterwards, those that were never claimed, or have ended."""
    before = now - 365 * 86_400_000_000
    unused = (CODE.c.claimed == 0) & (CODE.c.expires < before)
    connection.execute(CODE.delete().where(or_(unused, (CODE.c.ended > 0) & (CODE.c.ended < before))))


def _born(connection: Connection, patient: str) -> str | None:
    """Birth date as images have it; of who was merged that of whom she is now. None where there is nobody."""
    wanted = belonging.replaced_by(connection, patient) or patient
    born: str | None = connection.execute(select(PATIENT.c.birth_date).where(PATIENT.c.id == wanted)).scalar_one_or_none()
    return born


def _hash(key: bytes, code: str) -> str:
    return hmac.digest(hashlib.sha256(b"access codes" + key).digest(), code.encode(), "sha256").hex()


def _hidden(claimant: str) -> str:
    return hashlib.sha256(claimant.encode()).hexdigest() if claimant else _NOBODY


def _of(row: "Row[Any]") -> AccessCode:
    return AccessCode(
        row.id, row.patient, None if row.studies is None else tuple(row.studies), row.creator, row.created, row.expires, row.sent, row.tries,
        row.claimed, row.grant, row.account, row.alerts, row.ended, row.ended_why, row.letter,
    )  # fmt: skip

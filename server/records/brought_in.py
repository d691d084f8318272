"""What people bring in from a browser: how far each is, which studies were found in it, and what became of them.

open ── reading ──┬── waiting ──┬── taking ── done
└── taking    └── refused          and failed, from wherever
"""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from sqlalchemy import ColumnElement, Connection, delete, select, update

from server.store.db import micros
from server.store.tables import BroughtIn as Row

_ROW: Final = Row.__table__  # type: ignore[attr-defined]
State = Literal["open", "reading", "waiting", "taking", "done", "refused", "failed"]
HELD: Final = ("open", "reading", "waiting", "taking")
"""As long as it is one of these its files are in quarantine."""
_DAY: Final = 86_400_000_000
_KEPT: Final = 30 * _DAY
_MOST: Final = 100


@dataclass(frozen=True, slots=True)
class BroughtIn:
    """One of them. `patient` is the resource id of whose they are to be, empty where staff find out; moments are microseconds."""

    id: str
    account: str
    patient: str
    state: State
    files: list[dict[str, Any]]
    """Name and size of each, in the order in which their bytes come."""
    found: list[dict[str, Any]]
    """Studies, with whose they say that they are, and their `state`: match, other, taking, taken, known, refused. And counts of what was left out."""
    done: int
    total: int
    problem: str
    created: int
    expires: int

    @property
    def size(self) -> int:
        """Bytes of all files together."""
        return sum(each["size"] for each in self.files)

    @property
    def studies(self) -> list[dict[str, Any]]:
        return [each for each in self.found if "study" in each]

    @property
    def left_out(self) -> dict[str, int]:
        """How many files there is nothing to be done with, by why."""
        return {each["left_out"]: each["count"] for each in self.found if "left_out" in each}


_COLUMNS: Final = [_ROW.c[name] for name in BroughtIn.__dataclass_fields__]


def begin(
    connection: Connection, *, account: str, patient: str, files: Sequence[Mapping[str, Any]], left_out: int, days: int
) -> BroughtIn:
    """Something that is about to come. `left_out` files the browser does not send."""
    id_, now = str(uuid.uuid4()), micros()
    found = [{"left_out": "not sent", "count": left_out}] if left_out else []
    made = BroughtIn(id_, account, patient, "open", [dict(each) for each in files], found, 0, 0, "", now, now + days * _DAY)
    values = {name: getattr(made, name) for name in BroughtIn.__dataclass_fields__}
    connection.execute(_ROW.insert().values(**values, changed=now))
    return made


def find(connection: Connection, id_: str) -> BroughtIn | None:
    return next(iter(_some(connection, _ROW.c.id == id_)), None)


def locked(connection: Connection, id_: str) -> BroughtIn | None:
    """The same, and nobody else changes it until the transaction ends."""
    row = connection.execute(select(*_COLUMNS).where(_ROW.c.id == id_).with_for_update()).first()
    return None if row is None else BroughtIn(*row)


def of_account(connection: Connection, account: str) -> list[BroughtIn]:
    """What this account has brought in, the newest first."""
    return _some(connection, _ROW.c.account == account)


def waiting(connection: Connection) -> list[BroughtIn]:
    """Those in which there are studies that somebody has to look at, the newest first."""
    return _some(connection, _ROW.c.state == "waiting")


def change(connection: Connection, id_: str, **values: Any) -> None:
    """How it stands now."""
    connection.execute(update(_ROW).where(_ROW.c.id == id_).values(changed=micros(), **values))


def over(connection: Connection, id_: str, state: State, found: Sequence[Mapping[str, Any]], problem: str = "") -> None:
    """There is nothing more to be done; what became of it can be read for a month. What the files were called is forgotten."""
    kept = [dict(each) for each in found]
    change(connection, id_, state=state, found=kept, problem=problem, files=[], expires=micros() + _KEPT)


def progress(connection: Connection, id_: str, done: int, total: int) -> State | None:
    """So far it is. Returns how it stands; None where it is gone."""
    moved = update(_ROW).where(_ROW.c.id == id_).values(done=done, total=total, changed=micros()).returning(_ROW.c.state)
    state: State | None = connection.execute(moved).scalar_one_or_none()
    return state


def held(connection: Connection) -> frozenset[str]:
    """The ids of those whose files are still needed."""
    return frozenset(connection.execute(select(_ROW.c.id).where(_ROW.c.state.in_(HELD))).scalars())


def forget(connection: Connection, now: int) -> None:
    """Those whose time is over, whatever they waited for; what is being taken in just now comes to its end first."""
    connection.execute(delete(_ROW).where(_ROW.c.expires < now, _ROW.c.state.not_in(["reading", "taking"])))


def _some(connection: Connection, wanted: ColumnElement[bool]) -> list[BroughtIn]:
    rows = connection.execute(select(*_COLUMNS).where(wanted).order_by(_ROW.c.created.desc(), _ROW.c.id).limit(_MOST))
    return [BroughtIn(*row) for row in rows]

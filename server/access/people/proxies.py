"""Proxies: parents, carers and guardians who may see another's records for a time.

A proxy has a begin, may have an end, and may end with an age of the patient: at midnight UTC of that birthday, by the Patient's
birthDate. Where the birth date is not known, one that depends on it opens nothing.
"""

import uuid
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Final

from sqlalchemy import ColumnElement, Connection, select

from profiles.fhir.json import parse
from server.access import epoch
from server.errors import NotFound, Refused
from server.records import belonging, resources
from server.records.catalogue import PATIENT
from server.store.db import micros
from server.store.tables import Proxy as ProxyRow

PROXY = ProxyRow.__table__  # type: ignore[attr-defined]
RELATIONS: Final = ("parent", "carer", "guardian", "other")
FOREVER: Final = (1 << 63) - 1
_LOOK_AGAIN: Final = 15 * 60 * 1_000_000
"""Microseconds after which an age is looked at anew: a birth date may be corrected."""


@dataclass(frozen=True, slots=True)
class Proxy:
    """`account` may see the records of `patient`. Moments are microseconds; 0 is none. `ended`: when somebody ended it before its time."""

    id: str
    account: str
    patient: str
    relation: str
    begins: int
    ends: int = 0
    until_age: int = 0
    ended: int = 0

    def holds(self, now: int, born: date | None) -> bool:
        """Whether it opens the patient's records at `now`."""
        return self.begins <= now < self.over(born)

    def over(self, born: date | None) -> int:
        """When it is over; `born` is the patient's birth date."""
        ends = [each for each in (self.ends, self.ended) if each]
        if self.until_age:
            ends.append(0 if born is None else birthday(born, self.until_age))
        return min(ends, default=FOREVER)


def begin(
    connection: Connection,
    *,
    account: str,
    patient: str,
    relation: str,
    begins: int,
    ends: int = 0,
    until_age: int = 0,
) -> Proxy:
    """From `begins` on `account` may see the records of `patient` (a resource id). Whatever held for the two before ends with it.

    What is so already is left as it is. Raises `Refused` for what makes no sense, or is over already.
    """
    if relation not in RELATIONS:
        raise Refused(f"a proxy is one of {', '.join(RELATIONS)}")
    if ends and ends <= begins:
        raise Refused("a proxy has to begin before it ends")
    if not 0 <= until_age <= 150:
        raise Refused("the age at which a proxy ends is given in years, 1 to 150")
    born = birth_date(connection, patient) if until_age else None
    if until_age and born is None:
        raise Refused("the patient's birth date is not known here; give the day on which the proxy ends instead")
    made = Proxy(str(uuid.uuid4()), account, patient, relation, begins, ends, until_age)
    if made.over(born) <= begins:
        raise Refused(
            "this would be over already: the patient is as old as that; give the day on which the proxy ends, or another age"
        )
    epoch.raise_(connection)  # first: of two that do the same at once one waits here, and then sees the other
    for each in _some(connection, PROXY.c.account == account, PROXY.c.patient == patient, PROXY.c.ended == 0):
        if (each.relation, each.ends, each.until_age) == (relation, ends, until_age) and each.begins <= max(begins, micros()):
            return each
        end(connection, each.id)
    connection.execute(
        PROXY.insert().values(
            id=made.id, account=account, patient=patient, relation=relation, begins=begins, ends=ends, until_age=until_age,
            ended=0, created=micros(),
        )
    )  # fmt: skip
    return made


def end(connection: Connection, id: str, now: int | None = None) -> Proxy:
    """It opens nothing from the next request on. Raises `NotFound` where there is none that has not been ended."""
    mine = PROXY.c.id == id, PROXY.c.ended == 0
    ending = PROXY.update().where(*mine).values(ended=now or micros()).returning(PROXY.c.id)
    if connection.execute(ending).first() is None:
        raise NotFound("there is no such proxy, or it has been ended already")
    epoch.raise_(connection)
    return _some(connection, PROXY.c.id == id)[0]


def of_account(connection: Connection, account: str) -> list[Proxy]:
    """Whose proxy somebody is, was and will be."""
    return _some(connection, PROXY.c.account == account)


def of_patient(connection: Connection, patient: str) -> list[Proxy]:
    """Who is, was and will be a proxy of the patient."""
    return _some(connection, PROXY.c.patient == patient)


def in_force(connection: Connection, account: str, now: int) -> tuple[frozenset[str], int]:
    """The patients whose records `account` may see at `now` as a proxy, and until when that holds by the clock."""
    found, until = set(), FOREVER
    for each in _some(connection, PROXY.c.account == account, PROXY.c.ended == 0):
        born = birth_date(connection, each.patient) if each.until_age else None
        over = each.over(born)
        if each.begins > now:
            until = min(until, each.begins)
        elif now < over:
            found.add(each.patient)
            until = min(until, over)
        if each.until_age:
            until = min(until, now + _LOOK_AGAIN)
    return frozenset(found), until


def birthday(born: date, age: int) -> int:
    """When somebody becomes so many years old, in microseconds: who was born on 29 February, on the 28th of other years."""
    year = born.year + age
    if year > 9999:
        return FOREVER
    try:
        day = born.replace(year=year)
    except ValueError:
        day = born.replace(year=year, day=28)
    return micros(datetime(day.year, day.month, day.day, tzinfo=UTC))


def birth_date(connection: Connection, patient: str) -> date | None:
    """The birth date of a Patient, or of the one into whom she was merged. Of one that is not whole the first day that it may be."""
    patient = belonging.replaced_by(connection, patient) or patient
    stored = resources.last(connection, "Patient", patient)
    if stored is not None and not stored.deleted and (told := parse(stored.body).get("birthDate")):
        return first_day(str(told))
    known = connection.execute(select(PATIENT.c.birth_date).where(PATIENT.c.id == patient)).scalar_one_or_none()
    return first_day(known or "")


def first_day(text: str) -> date | None:
    """The first day of a FHIR or DICOM date, which may lack day and month; None for what is none."""
    digits = text[:10].replace("-", "")
    try:
        return date(int(digits[:4]), int(digits[4:6] or 1), int(digits[6:8] or 1))
    except ValueError:
        return None


def _some(connection: Connection, *wanted: ColumnElement[bool]) -> list[Proxy]:
    rows = connection.execute(select(PROXY).where(*wanted).order_by(PROXY.c.created, PROXY.c.id))
    return [Proxy(row.id, row.account, row.patient, row.relation, row.begins, row.ends, row.until_age, row.ended) for row in rows]

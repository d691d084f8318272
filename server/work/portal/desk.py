"""The desk of a radiology site: what has arrived, whose it is, and the access codes that patients are given."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from sqlalchemy import ColumnElement, Connection, and_, func, or_, select

from profiles.fhir.json import parse
from profiles.person_name import folded
from server.access import codes
from server.access.codes import AccessCode
from server.access.decisions import Decision, Interaction
from server.access.people.accounts import Account
from server.access.people.people import People
from server.errors import Forbidden, NotFound
from server.records import belonging, resources
from server.records.catalogue import INSTANCE, PATIENT, SERIES, STUDY, WAITING
from server.records.installation import Installation
from server.store.db import Database, micros
from server.store.tables import AccessCode as CodeRow
from server.store.tables import Share
from server.work.portal import letters

_CODE: Final = CodeRow.__table__  # type: ignore[attr-defined]
_SHARE: Final = Share.__table__  # type: ignore[attr-defined]
STAFF: Final = ("staff", "administrator")
DAYS: Final = 30
"""How long an access code may be claimed."""
_DAY: Final = 86_400_000_000
_MOST: Final = 100


@dataclass(frozen=True, slots=True)
class Row:
    """One study on the worklist. `waiting` instances have come and are not published yet; `codes` are open or claimed, `shares` open."""

    id: str
    uid: str
    patient: str
    name: str
    born: str
    number: str
    date: str
    time: str
    description: str
    accession_number: str
    modalities: tuple[str, ...]
    instances: int
    waiting: int
    received: int
    is_published: bool
    codes: int
    shares: int


def require_staff(account: Account) -> None:
    """Raises `Forbidden` for who does not work here."""
    if account.kind not in STAFF:
        raise Forbidden("this page is for the staff of the site")


def worklist(connection: Connection, decision: Decision, search: str = "") -> tuple[Row, ...]:
    """The studies that came last, or those that `search` finds by name, Patient ID, accession number or study date; what staff may know of."""
    now = micros()
    waiting = select(func.count()).where(INSTANCE.c.study_pk == STUDY.c.pk, WAITING).scalar_subquery()
    live = _CODE.c.patient == PATIENT.c.id, _CODE.c.ended == 0, or_(_CODE.c.expires > now, _CODE.c.claimed > 0)
    shared = _SHARE.c.patient == PATIENT.c.id, _SHARE.c.ended == 0, _SHARE.c.expires > now
    seen = or_(STUDY.c.version == 0, and_(STUDY.c.version > 0, _seen(decision)))
    found = connection.execute(
        select(
            STUDY.c.id, STUDY.c.uid, PATIENT.c.id.label("patient"), PATIENT.c.name, PATIENT.c.birth_date, PATIENT.c.value, STUDY.c.date, STUDY.c.time,
            STUDY.c.description, STUDY.c.accession_number, STUDY.c.modalities, STUDY.c.instance_count, waiting.label("waiting"), STUDY.c.received,
            STUDY.c.version, select(func.count()).where(*live).scalar_subquery().label("codes"),
            select(func.count()).where(*shared).scalar_subquery().label("shares"),
        )
        .join(PATIENT, STUDY.c.patient_pk == PATIENT.c.pk)
        .where(STUDY.c.version >= 0, seen, *_found_by(search))
        .order_by(STUDY.c.received.desc(), STUDY.c.pk.desc())
        .limit(_MOST)
    ).all()  # fmt: skip
    return tuple(
        Row(
            row.id, row.uid, row.patient, row.name, row.birth_date, row.value if row.value != row.uid else "", row.date, row.time,
            row.description, row.accession_number, tuple(filter(None, row.modalities.split("\\"))), row.instance_count, row.waiting,
            row.received, row.version > 0, row.codes, row.shares,
        )
        for row in found
    )  # fmt: skip


def patients(connection: Connection, search: str, most: int = 20) -> dict[str, str]:
    """The names of the patients whom `search` finds by name, Patient ID or resource id, by resource id. For who may know of everybody."""
    wanted = search.strip()
    named = PATIENT.c.name_folded.contains(folded(wanted), autoescape=True)
    found = select(PATIENT.c.id, PATIENT.c.name).where(or_(named, PATIENT.c.value == wanted, PATIENT.c.id == wanted)).limit(most)
    return {row.id: row.name for row in connection.execute(found)}


def names(connection: Connection, ids: Collection[str]) -> dict[str, str]:
    """What these patients are called, by resource id."""
    found = select(PATIENT.c.id, PATIENT.c.name).where(PATIENT.c.id.in_(sorted(ids)))
    return {row.id: row.name for row in connection.execute(found)} if ids else {}


def _seen(decision: Decision) -> ColumnElement[bool]:
    """Whether there is a series of the study that the reader may know of."""
    return (
        select(SERIES.c.pk)
        .where(SERIES.c.study_pk == STUDY.c.pk, decision.studies_where(Interaction.SEARCH, SERIES.c.uid))
        .exists()
    )


def _found_by(search: str) -> list[ColumnElement[bool]]:
    wanted = search.strip()
    if not wanted:
        return []
    by_name = PATIENT.c.name_folded.contains(folded(wanted), autoescape=True)
    return [or_(by_name, PATIENT.c.value == wanted, STUDY.c.accession_number == wanted, STUDY.c.date == wanted.replace("-", ""))]


class Desk:
    """What staff do about access codes. Safe for threads."""

    def __init__(self, database: Database, site: Installation, people: People) -> None:
        self._database, self._key, self._people = database, site.cursor_key, people

    def issue(
        self,
        patient: str,
        studies: Collection[str] | None,
        by: Account,
        *,
        email: str = "",
        language: str = "",
        address: str = "",
    ) -> tuple[AccessCode, str]:
        """A code for the patient of this resource id, how it is read out, which is told this once; with `email` it goes there as well, in this language.

        Raises `NotFound`, and `Refused` for a patient without a date of birth.
        """
        with self._database.write() as connection:
            code, text = codes.issue(
                connection,
                self._key,
                patient=patient,
                studies=studies,
                creator=by.id,
                expires=micros() + DAYS * _DAY,
                sent="mail" if email else "print",
            )
            if email:
                letters.enclose(connection, self._key, code, text, email, language)
            self._people.events.changed(connection, by.id, by, "an access code was issued", address, patient)
        return code, text

    def end(self, id_: str, by: Account, address: str = "") -> AccessCode:
        """It opens nothing from now on, nor what it has opened without an account. Raises `NotFound`."""
        with self._database.write() as connection:
            code = codes.end(connection, id_, "ended by staff")
            self._people.events.changed(connection, by.id, by, "an access code was ended", address, code.patient)
        return code


def codes_of(connection: Connection, patient: str) -> tuple[AccessCode, ...]:
    """All that were ever issued for this patient, and for who was merged into her."""
    return codes.of_patients(connection, sorted(belonging.same(connection, patient)))


def name_of(connection: Connection, patient: str) -> tuple[str, str]:
    """Name and date of birth of a patient, as images have them. Raises `NotFound`."""
    row = connection.execute(select(PATIENT.c.name, PATIENT.c.birth_date).where(PATIENT.c.id == patient)).first()
    if row is None:
        raise NotFound("there is no such patient")
    return row.name, row.birth_date


def language_of(connection: Connection, patient: str) -> str:
    """The language (BCP 47, without region) that the FHIR Patient is best spoken to in: the preferred one, or the only one; empty where nobody has said it."""
    stored = resources.last(connection, "Patient", patient)
    said = parse(stored.body).get("communication", []) if stored is not None and stored.body and not stored.deleted else []
    best = next((each for each in said if each.get("preferred")), said[0] if len(said) == 1 else {})
    codings = best.get("language", {}).get("coding", [])
    return next((str(each["code"]).partition("-")[0].lower() for each in codings if each.get("code")), "")

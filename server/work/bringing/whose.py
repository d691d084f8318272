"""Whose brought in images are: what their headers say, held against who is known here.

Somebody is known again by name, date of birth and, where both say it, sex; or by a patient identifier whose issuer the images name, with the same date
of birth. An identifier without issuer counts for nothing: the number 4711 of another hospital is another person.
"""

from dataclasses import asdict, dataclass
from typing import Any, Self

from pydicom.dataset import Dataset
from sqlalchemy import Connection, select

from profiles import header
from profiles.header import PatientDomains
from profiles.person_name import forms, words
from profiles.study import Study
from server.records import belonging
from server.records.catalogue import PATIENT


@dataclass(frozen=True, slots=True)
class Identity:
    """Who images say that they are of. `issuer` is the OID of who assigned `number`, empty where they do not say."""

    name: str
    born: str
    sex: str
    number: str
    issuer: str

    @classmethod
    def of(cls, found: dict[str, Any]) -> Self:
        """As it is kept with a study that was found."""
        return cls(*(str(found.get(name, "")) for name in cls.__dataclass_fields__))

    def told(self) -> dict[str, str]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Person:
    """A patient who is known here, with all of her identifiers (OID and value)."""

    pk: int
    id: str
    name: str
    born: str
    sex: str
    identifiers: frozenset[tuple[str, str]] = frozenset()


def person(connection: Connection, id_: str) -> Person | None:
    """The patient of this resource id or, after a merge, the one whose she is; None where none of her images is or was to come."""
    row = connection.execute(select(PATIENT.c.pk).where(PATIENT.c.id == id_)).first()
    if row is None:
        return None
    pk = belonging.merged(connection, row.pk)
    found = connection.execute(
        select(PATIENT.c.pk, PATIENT.c.id, PATIENT.c.name, PATIENT.c.birth_date, PATIENT.c.sex).where(PATIENT.c.pk == pk)
    ).one()
    hers = select(PATIENT.c.authority, PATIENT.c.value).where(PATIENT.c.pk.in_(belonging.rows(connection, pk)))
    return Person(*found, frozenset((row.authority, row.value) for row in connection.execute(hers)))


def identity(dataset: Dataset, syntax: str, domains: PatientDomains) -> tuple[Study, Identity]:
    """A header as a study of one, and who it says the patient is. Raises `HeaderError` and `InvalidIdentifier`."""
    study = header.extract(dataset, syntax, domains)
    patient, own = study.patient, (domains.default.oid, domains.unidentified.oid)
    named = patient.identifier.authority.oid not in own
    number = "" if patient.identifier.authority == domains.unidentified else patient.identifier.value
    return study, Identity(
        patient.name, patient.birth_date, patient.sex, number, patient.identifier.authority.oid if named else ""
    )


def is_of(identity: Identity, known: Person) -> bool:
    """Whether these images are this patient's, without anybody's looking at them."""
    if not identity.born or identity.born != known.born:
        return False
    if {identity.sex, known.sex} == {"F", "M"}:
        return False
    return is_called(identity.name, known.name) or (
        bool(identity.issuer) and (identity.issuer, identity.number) in known.identifiers
    )


def is_called(name: str, known: str) -> bool:
    """Whether two names are one: in the same components, or of the same words where one of them does without (PS3.5 section 6.2.1.1)."""
    return bool(forms(name) & forms(known)) or (bool(_first(name)) and _first(name) == _first(known))


def _first(name: str) -> frozenset[str]:
    return words(name.split("=", maxsplit=1)[0])

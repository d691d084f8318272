"""Who is known by which patient identifier, to the Document Registry too (ITI TF-2 section 3.42.4.1.3.3: XDSUnknownPatientId)."""

import contextlib
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Select, bindparam, select

from profiles.identifiers import InvalidIdentifier, PatientIdentifier
from profiles.person_name import folded
from profiles.study import Patient
from server.records import adoption
from server.records.belonging import MERGE
from server.records.catalogue import PATIENT
from server.store.db import insert
from server.store.prepared import Prepared


@dataclass(frozen=True, slots=True)
class Known:
    """A patient by one of her identifiers. `merged_into` is the row of whom she was merged into, None where she was not."""

    pk: int
    id: str
    name: str
    birth_date: str
    sex: str
    merged_into: int | None = None


def find(connection: Connection, identifier: PatientIdentifier) -> Known | None:
    """Who has, or had before a merge, this identifier."""
    rows = _FOUND.rows(connection, {"oid": identifier.authority.oid, "assigned": identifier.value})
    return Known(*rows[0]) if rows else None


def _found(_: str) -> "Select[Any]":
    return (
        select(PATIENT.c.pk, PATIENT.c.id, PATIENT.c.name, PATIENT.c.birth_date, PATIENT.c.sex, MERGE.c.target_pk)
        .outerjoin(MERGE, MERGE.c.source_pk == PATIENT.c.pk)
        .where(PATIENT.c.authority == bindparam("oid"), PATIENT.c.value == bindparam("assigned"))
    )


def _locked(_: str) -> "Select[Any]":
    named = PATIENT.c.authority == bindparam("oid"), PATIENT.c.value == bindparam("assigned")
    return select(PATIENT.c.pk).where(*named).with_for_update(key_share=True)


_FOUND = Prepared(_found, ("oid", "assigned"))
_LOCKED = Prepared(_locked, ("oid", "assigned"))


def registered(connection: Connection, cx: str, authorities: Collection[str] = ()) -> Known | None:
    """The patient with the XDS id `cx` (`id^^^&oid&ISO`); None is XDSUnknownPatientId.

    Nobody is known by an identifier of an authority (OID) that is none of `authorities`, where there are any, nor by one that was subsumed in a
    merge (ITI TF-2 section 3.8.4.2.4).
    """
    try:
        identifier = PatientIdentifier.from_cx(cx)
    except InvalidIdentifier:
        return None
    if authorities and identifier.authority.oid not in authorities:
        return None
    found = find(connection, identifier)
    return found if found is not None and found.merged_into is None else None


def lock(connection: Connection, cx: str) -> None:
    """Nobody merges or changes who has this XDS id until the transaction ends (PostgreSQL): who she is, is to be read afterwards."""
    if connection.dialect.name != "sqlite":
        with contextlib.suppress(InvalidIdentifier):
            identifier = PatientIdentifier.from_cx(cx)
            _LOCKED.alone(connection, {"oid": identifier.authority.oid, "assigned": identifier.value})


def is_known(connection: Connection, cx: str, authorities: Collection[str] = ()) -> int | None:
    """The row of the patient that is `registered` so."""
    found = registered(connection, cx, authorities)
    return None if found is None else found.pk


def made(connection: Connection, patient: Patient) -> str | None:
    """A patient whom nobody knew: her id, which is that of the Patient that a client made of her, or a new one. None where somebody else was first."""
    identifier = patient.identifier
    id_: str | None = connection.execute(
        insert(connection, PATIENT)
        .values(
            id=adoption.patient_id(connection, identifier.authority.oid, identifier.value), authority=identifier.authority.oid,
            value=identifier.value, namespace=identifier.authority.namespace, name=patient.name, name_folded=folded(patient.name),
            birth_date=patient.birth_date, sex=patient.sex,
        )
        .on_conflict_do_nothing()
        .returning(PATIENT.c.id)
    ).scalar_one_or_none()  # fmt: skip
    return id_

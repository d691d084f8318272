"""Reports that name their studies by UID or accession number, and not by reference: rows that lead from one to the other all the same.

What the client wrote stays as it is: the link is a row of `reference_value`, as if there were a reference, so that every search that follows
references finds the report by its study and the study by its report. Whichever comes second makes the link (decision 19).

On PostgreSQL who writes a report or study `hold`s its patient, or of two that come at one moment neither would see the other. Patients are held
before rows are locked, and all of a transaction in one call where they are known: else two writers could wait for each other.
"""

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from sqlalchemy import Connection, Select, bindparam, or_, select, tuple_

from profiles.fhir.report_studies import PARAMETERS, Name, names
from server.records import index_keys as keys
from server.records.index_rows import REFERENCE, RESOURCE, Found
from server.store import locks
from server.store.prepared import Prepared

STUDY: Final = "ImagingStudy"
MOST: Final = 100
"""Of studies to which one name leads, and of reports of one type that one name concerns: a number that more share tells none apart."""
_NAMED: Final = ":named"
"""After the name of a search parameter: a row that says by what the resource names studies, or is named."""
_NOWHERE: Final = "~"
"""The `target_type` of such a row, which no reference has."""
_OF_STUDY: Final = keys.parameter_hash(STUDY, "identifier" + _NAMED)
_OF_REPORTS: Final = tuple(keys.parameter_hash(type_, code + _NAMED) for type_, code in sorted(PARAMETERS.items()))
_SPACE: Final = "imageshare/reports"
_TOGETHER: Final = 400
TYPES: Final = frozenset({STUDY, *PARAMETERS})
"""Of what names studies, or is named."""
Keys = frozenset[str]
NO_KEYS: Final[Keys] = frozenset()
Patients = frozenset[str]
NOBODY: Final[Patients] = frozenset()


def linked(connection: Connection, resource: Mapping[str, Any], found: Found, held: Patients = NOBODY) -> Found:
    """The rows `found` of a resource that is to be written, with those by which reports and studies of one patient lead to each other.

    Holds the patient, if not among those who are `held`.
    """
    type_ = str(resource["resourceType"])
    if not found.patient or type_ not in TYPES:
        return found
    given = {_key(found.patient, each) for each in names(resource)}
    if not given:
        return found
    if found.patient not in held:
        hold(connection, [found.patient])
    parameter = _OF_STUDY if type_ == STUDY else keys.parameter_hash(type_, PARAMETERS[type_] + _NAMED)
    rows = {(parameter, _NOWHERE, key, found.date) for key in given}
    if type_ != STUDY:
        leads = keys.parameter_hash(type_, PARAMETERS[type_])
        rows |= {(leads, STUDY, id_, found.date) for id_ in _studies(connection, given)}
    return replace(found, rows={**found.rows, REFERENCE: found.rows.get(REFERENCE, set()) | rows})


def keys_of(found: Found) -> Keys:
    """By what a study is named whose rows these are."""
    return frozenset(row[2] for row in found.rows.get(REFERENCE, ()) if row[0] == _OF_STUDY)


def stored_keys(connection: Connection, pk: int) -> Keys:
    """By what the study in this row was named when it was written."""
    return frozenset(key for (key,) in _OWN.rows(connection, {"pk_": pk, "parameter_": _OF_STUDY}))


def concerned(connection: Connection, given: Iterable[str]) -> list[int]:
    """The rows of reports that name studies by one of these keys: of each type `MOST` by each."""
    return sorted({pk for key in given for parameter in _OF_REPORTS for pk, _ in _bearing(connection, parameter, key)})


def leading(connection: Connection, id_: str) -> list[int]:
    """The rows of all reports that lead to the study with this id: they still do when it was deleted, though it may come again as another."""
    hashes = [keys.parameter_hash(type_, code) for type_, code in PARAMETERS.items()]
    here = REFERENCE.c.parameter.in_(hashes), REFERENCE.c.target_type == STUDY, REFERENCE.c.target_id == id_
    return sorted(connection.execute(select(REFERENCE.c.resource_pk).where(*here)).scalars())


def hold(connection: Connection, patients: Iterable[str]) -> None:
    """Nobody else writes reports and studies of these patients until this transaction ends."""
    locks.hold(connection, _SPACE, (each for each in patients if each))


def hold_all(connection: Connection, stored: Collection[tuple[str, str]], given: Iterable[Mapping[str, Any]]) -> Patients:
    """`hold`s, and returns, of whom the reports and studies are that are `stored` (type, id), and of whom those will be that are `given`.

    As far as that can be told by their subjects, before references to other entries of a Bundle are known.
    """
    if connection.dialect.name == "sqlite":
        return NOBODY
    found = {subject(each) for each in given if each.get("resourceType") in TYPES}
    wanted = [each for each in stored if each[0] in TYPES]
    for first in range(0, len(wanted), _TOGETHER):
        here = tuple_(RESOURCE.c.type, RESOURCE.c.id).in_(wanted[first : first + _TOGETHER])
        found |= set(connection.execute(select(RESOURCE.c.patient).where(here)).scalars())
    hold(connection, found)
    return frozenset(found)


def subject(resource: Mapping[str, Any]) -> str:
    """The id of the Patient whom a report or study names as its subject; empty where it names none so."""
    said = resource.get("subject")
    reference = said.get("reference") if isinstance(said, Mapping) else None
    type_, _, id_ = reference.partition("/_history/")[0].rpartition("/") if isinstance(reference, str) else ("", "", "")
    return id_ if type_.rpartition("/")[2] == "Patient" else ""


def _key(patient: str, name: Name) -> str:
    """What covers patient, kind and value, then the system."""
    said = "\0".join((patient, str(name.is_accession), name.value))
    return f"{hashlib.blake2b(said.encode(), digest_size=16).hexdigest()}|{keys.clipped(name.system, keys.FOLDED // 2)}"


def _studies(connection: Connection, given: Iterable[str]) -> set[str]:
    """The ids of the studies that are named by one of these keys."""
    return {id_ for key in given for _, id_ in _bearing(connection, _OF_STUDY, key)}


def _bearing(connection: Connection, parameter: int, key: str) -> "Sequence[Sequence[Any]]":
    """The rows and ids of resources that bear this name: `MOST`, those with the earliest dates.

    Systems agree where they are the same, or one side does not say who assigned the number.
    """
    begin, bar, _ = key.partition("|")
    bare = begin + bar
    return _BEARING.rows(
        connection,
        {
            "parameter_": parameter, "nowhere_": _NOWHERE, "low_": bare, "high_": f"{begin}}}", "bare_": bare, "key_": key,
            "all_": int(key == bare), "most_": MOST,
        },
    )  # fmt: skip


def _bearing_statement(_: str) -> "Select[int, str]":
    """In the order of the primary key, so that of very many no more are looked at."""
    named = REFERENCE.c.target_id
    return (
        select(REFERENCE.c.resource_pk, RESOURCE.c.id)
        .join(RESOURCE, RESOURCE.c.pk == REFERENCE.c.resource_pk)
        .where(
            REFERENCE.c.parameter == bindparam("parameter_"),
            REFERENCE.c.target_type == bindparam("nowhere_"),
            named >= bindparam("low_"),
            named < bindparam("high_"),
            or_(bindparam("all_") == 1, named == bindparam("bare_"), named == bindparam("key_")),
        )
        .order_by(named, REFERENCE.c.date, REFERENCE.c.resource_pk)
        .limit(bindparam("most_"))
    )


_BEARING = Prepared(_bearing_statement, ("parameter_", "nowhere_", "low_", "high_", "bare_", "key_", "all_", "most_"))
_OWN = Prepared(
    lambda _: select(REFERENCE.c.target_id).where(
        REFERENCE.c.resource_pk == bindparam("pk_"), REFERENCE.c.parameter == bindparam("parameter_")
    ),
    ("pk_", "parameter_"),
)

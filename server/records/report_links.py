"""Reports that name their studies by UID or accession number, and not by reference: rows that lead from one to the other all the same.

What the client wrote stays as it is: the link is a row of `reference_value`, as if there were a reference, so that every search that follows
references finds the report by its study and the study by its report. Whichever comes second makes the link (decision 19).
"""

import hashlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from typing import Any, Final

from sqlalchemy import Connection, Select, bindparam, or_, select

from profiles.fhir.report_studies import PARAMETERS, Name, names
from server.records import index_keys as keys
from server.records.index_rows import REFERENCE, RESOURCE, Found
from server.store.prepared import Prepared

STUDY: Final = "ImagingStudy"
MOST: Final = 100
"""Of studies to which one name leads, and of reports that one name concerns: a number that more share tells none apart."""
_NAMED: Final = ":named"
"""After the name of a search parameter: a row that says by what the resource names studies, or is named."""
_NOWHERE: Final = "~"
"""The `target_type` of such a row, which no reference has."""
_OF_STUDY: Final = keys.parameter_hash(STUDY, "identifier" + _NAMED)
_OF_REPORTS: Final = tuple(keys.parameter_hash(type_, code + _NAMED) for type_, code in sorted(PARAMETERS.items()))
Keys = frozenset[str]
NO_KEYS: Final[Keys] = frozenset()


def linked(connection: Connection, resource: Mapping[str, Any], found: Found) -> Found:
    """The rows `found` of a resource that is to be written, with those by which reports and studies of one patient lead to each other.

    On PostgreSQL who writes what bears a name waits for others who do: else neither of two would see the other.
    """
    type_ = str(resource["resourceType"])
    if not found.patient or (type_ != STUDY and type_ not in PARAMETERS):
        return found
    given = {_key(found.patient, each) for each in names(resource)}
    if not given:
        return found
    hold(connection, given)
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
    """The rows of reports that name studies by one of these keys."""
    return sorted({pk for key in given for pk, _ in _bearing(connection, _OF_REPORTS, key)})


def leading(connection: Connection, id_: str) -> list[int]:
    """The rows of reports that lead to the study with this id: they still do when it was deleted, though it may come again as another."""
    hashes = [keys.parameter_hash(type_, code) for type_, code in PARAMETERS.items()]
    here = REFERENCE.c.parameter.in_(hashes), REFERENCE.c.target_type == STUDY, REFERENCE.c.target_id == id_
    return sorted(connection.execute(select(REFERENCE.c.resource_pk).where(*here)).scalars())


def hold(connection: Connection, given: Collection[str]) -> None:
    """Nobody else writes what bears these names until this transaction ends; always in the same order."""
    if connection.dialect.name == "postgresql" and given:
        numbers = sorted({int.from_bytes(bytes.fromhex(key[:16]), "big", signed=True) for key in given})
        connection.exec_driver_sql("SELECT pg_advisory_xact_lock(each) FROM unnest(%s::bigint[]) AS each", (numbers,))


def _key(patient: str, name: Name) -> str:
    """What covers patient, kind and value, then the system."""
    said = "\0".join((patient, str(name.is_accession), name.value))
    return f"{hashlib.blake2b(said.encode(), digest_size=16).hexdigest()}|{keys.clipped(name.system, keys.FOLDED // 2)}"


def _agree(key: str, other: str) -> bool:
    """Of keys that are the same but for their systems: both may mean the same study, for not both say who assigned the number, or the same."""
    system, other_system = key.partition("|")[2], other.partition("|")[2]
    return system == other_system or not (system and other_system)


def _studies(connection: Connection, given: Iterable[str]) -> set[str]:
    """The ids of the studies that are named by one of these keys."""
    return {id_ for key in given for _, id_ in _bearing(connection, (_OF_STUDY, _OF_STUDY), key)}


def _bearing(connection: Connection, parameters: tuple[int, ...], key: str) -> "list[tuple[int, str]]":
    """The rows and ids of resources that bear this name."""
    one, other = parameters
    begin = key.partition("|")[0]
    found = _BEARING.rows(
        connection,
        {"one_": one, "other_": other, "nowhere_": _NOWHERE, "low_": f"{begin}|", "high_": f"{begin}}}", "most_": MOST},
    )
    return [(pk, id_) for pk, id_, named in found if _agree(key, named)]


def _bearing_statement(_: str) -> "Select[int, str, str]":
    """Whatever their systems."""
    return (
        select(REFERENCE.c.resource_pk, RESOURCE.c.id, REFERENCE.c.target_id)
        .join(RESOURCE, RESOURCE.c.pk == REFERENCE.c.resource_pk)
        .where(
            or_(REFERENCE.c.parameter == bindparam("one_"), REFERENCE.c.parameter == bindparam("other_")),
            REFERENCE.c.target_type == bindparam("nowhere_"),
            REFERENCE.c.target_id >= bindparam("low_"),
            REFERENCE.c.target_id < bindparam("high_"),
        )
        .limit(bindparam("most_"))
    )


_BEARING = Prepared(_bearing_statement, ("one_", "other_", "nowhere_", "low_", "high_", "most_"))
_OWN = Prepared(
    lambda _: select(REFERENCE.c.target_id).where(
        REFERENCE.c.resource_pk == bindparam("pk_"), REFERENCE.c.parameter == bindparam("parameter_")
    ),
    ("pk_", "parameter_"),
)

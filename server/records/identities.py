"""Business identifiers that exist once per type (`profiles.fhir.business_identifiers`): by the table's key, whoever comes first.

What the identifiers say is compared up to a length: of longer ones the beginning and a digest, for an index of PostgreSQL takes 2,704 bytes a row.
"""

from collections.abc import Iterable

from sqlalchemy import Connection, Select, and_, bindparam, delete, select

from server.errors import Conflict
from server.records import index_keys
from server.store.many import Adding
from server.store.prepared import Prepared
from server.store.tables import Identity, Resource

IDENTITY = Identity.__table__  # type: ignore[attr-defined]
_RESOURCE = Resource.__table__  # type: ignore[attr-defined]


def by_identity(connection: Connection, type_: str, system: str, value: str) -> str | None:
    """The id of the resource that has this business identifier."""
    system, value = _key(system, value)
    rows = _OWNER.rows(connection, {"type_": type_, "system_": system, "value_": value})
    return str(rows[0][0]) if rows else None


def identify(connection: Connection, type_: str, pk: int, identities: Iterable[tuple[str, str]], *, yields: bool) -> None:
    """Makes the business identifiers (system, value) of a resource these.

    Raises `Conflict` if another one has one of them, unless it `yields`.
    """
    wanted = {_key(system, value) for system, value in identities}
    here = {(system, value) for system, value in _IDENTIFIED.rows(connection, {"pk_": pk})}
    for system, value in here - wanted:
        _remove(connection, type_, system, value)
    _add(connection, {(type_, *each, pk) for each in wanted - here}, yields=yields)


def identify_new(connection: Connection, made: Iterable[tuple[str, int, Iterable[tuple[str, str]]]], *, yields: bool) -> None:
    """As `identify`, of resources that have none yet: type, pk and business identifiers of each."""
    _add(connection, {(type_, *_key(*each), pk) for type_, pk, identities in made for each in identities}, yields=yields)


def _add(connection: Connection, wanted: Iterable[tuple[str, str, str, int]], *, yields: bool) -> None:
    """Type, system, value, pk of each: in one order, whoever writes, so that no two wait for each other."""
    names = ("type", "system", "value", "resource_pk")
    rows = [dict(zip(names, each, strict=True)) for each in sorted(wanted)]
    for row, pk in zip(rows, _ADDING.add(connection, rows), strict=True):
        if pk is None and not yields:
            raise Conflict(f"another {row['type']} has this business identifier")


def disown(connection: Connection, type_: str, system: str, value: str) -> None:
    """Nobody has this business identifier any more. Whose it was says it still; what gets it next is what it means."""
    _remove(connection, type_, *_key(system, value))


def _key(system: str, value: str) -> tuple[str, str]:
    return index_keys.clipped(system, index_keys.FOLDED), index_keys.clipped(value, index_keys.EXACT)


def _remove(connection: Connection, type_: str, system: str, value: str) -> None:
    named = and_(IDENTITY.c.type == type_, IDENTITY.c.system == system, IDENTITY.c.value == value)
    connection.execute(delete(IDENTITY).where(named))


def _owner(_: str) -> "Select[str]":
    named = (
        IDENTITY.c.type == bindparam("type_"),
        IDENTITY.c.system == bindparam("system_"),
        IDENTITY.c.value == bindparam("value_"),
    )
    return select(_RESOURCE.c.id).join(IDENTITY, IDENTITY.c.resource_pk == _RESOURCE.c.pk).where(*named)


_OWNER = Prepared(_owner, ("type_", "system_", "value_"))
_ADDING = Adding(IDENTITY, ("type", "system", "value"), "resource_pk", unless_there=True)
_IDENTIFIED = Prepared(
    lambda _: select(IDENTITY.c.system, IDENTITY.c.value).where(IDENTITY.c.resource_pk == bindparam("pk_")), ("pk_",)
)

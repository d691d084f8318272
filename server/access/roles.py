"""By which references a Consent may name somebody: who they are, their roles, and the organizations that they have these for."""

from collections.abc import Iterator
from typing import Any, Final

from sqlalchemy import Connection, bindparam, select

from profiles.fhir.date_range import date_range
from profiles.fhir.json import parse
from server.errors import Gone, NotFound
from server.records import resources
from server.records.index_keys import parameter_hash
from server.records.packing import unpacked
from server.store.prepared import Prepared
from server.store.tables import ReferenceValue, Resource

_ROLE: Final = "PractitionerRole"
_LOOK_AGAIN: Final = 10 * 1_000_000
"""Microseconds: a role that is written or over raises no epoch."""
_RESOURCE = Resource.__table__  # type: ignore[attr-defined]
_LEADS = ReferenceValue.__table__  # type: ignore[attr-defined]
_ROLES: Final = Prepared(
    lambda _: (
        select(_RESOURCE.c.id, _RESOURCE.c.body)
        .join(_LEADS, _LEADS.c.resource_pk == _RESOURCE.c.pk)
        .where(_LEADS.c.parameter == bindparam("parameter_"), _LEADS.c.target_type == "Practitioner")
        .where(_LEADS.c.target_id == bindparam("id_"), _RESOURCE.c.deleted == 0)
    ),
    ("parameter_", "id_"),
)


def actors(connection: Connection, user: str, now: int) -> tuple[frozenset[str], int]:
    """The references for `user` (relative, or empty for nobody), and until when (microseconds, as `now`) they are sure to hold."""
    type_, _, id_ = user.partition("/")
    if type_ not in ("Practitioner", _ROLE):
        return frozenset([user] if user else ()), (1 << 63) - 1
    found = {user}
    for role, body in _roles(connection, type_, id_):
        if _is_in_force(body, now):
            found.add(f"{_ROLE}/{role}")
            found.update(_referred(body, "organization"))
            found.update(_referred(body, "practitioner"))
    return frozenset(found), now + _LOOK_AGAIN


def _roles(connection: Connection, type_: str, id_: str) -> Iterator[tuple[str, dict[str, Any]]]:
    if type_ == _ROLE:
        try:
            yield id_, parse(resources.read(connection, _ROLE, id_).body)
        except (NotFound, Gone):
            return
        return
    values = {"parameter_": parameter_hash(_ROLE, "practitioner"), "id_": id_}
    for role, stored in _ROLES.rows(connection, values):
        yield role, parse(unpacked(bytes(stored)))


def _is_in_force(role: dict[str, Any], now: int) -> bool:
    period = role.get("period", {})
    try:
        begins = date_range(period["start"])[0] if "start" in period else 0
        ends = date_range(period["end"])[1] if "end" in period else now + 1
    except ValueError:
        return False
    return role.get("active", True) is not False and begins <= now < ends


def _referred(role: dict[str, Any], element: str) -> Iterator[str]:
    reference = role.get(element, {}).get("reference", "")
    if reference.startswith(("Organization/", "Practitioner/")):
        yield reference

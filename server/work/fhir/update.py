"""Update: `PUT [base]/[type]/[id]` (FHIR R4 section 3.1.0.4), by If-Match version-aware (3.1.0.5), conditional by a query (3.1.0.4.3)."""

from typing import Any

from sqlalchemy import Connection

from profiles.audit_event import REST_UPDATE
from profiles.fhir.issues import Issue
from server.access.decisions import Interaction
from server.errors import Conflict, Invalid
from server.records import resources
from server.records.resources import Stored
from server.work.fhir import conditional, offered, permission
from server.work.fhir.caller import Caller, Outcome
from server.work.fhir.create import create
from server.work.fhir.offered import MethodNotOffered
from server.work.fhir.storing import checked, put, require_version


def update(
    connection: Connection,
    caller: Caller,
    type_: str,
    id_: str,
    resource: dict[str, Any],
    *,
    if_match: str = "",
    if_none_match: str = "",
    is_checked: bool = False,
) -> Outcome:
    """FHIR R4 section 3.1.0.4: the resource becomes the next version; 200, or 201 where nothing was (3.1.0.4.1) or it was deleted.

    What does not change anything makes no version. Raises `Invalid` (400) unless its id is that of the URL, `PreconditionFailed` if `if_match`
    names another version, or `if_none_match` that which is there, `MethodNotOffered` where updates create nothing, `Forbidden`, `Contradiction`, `Conflict`.
    """
    offered.require(type_, "update")
    caller.require(type_, Interaction.UPDATE)
    if not is_checked:
        checked(resource, type_)
    if resource.get("id") != id_:
        raise Invalid([Issue("error", "invalid", f"{type_}.id", "the resource has to have the id that is in the URL")])
    before = current(connection, type_, id_, resource)
    if before is not None:  # a deleted one too: who takes its id could read what it was
        permission.require_resource(
            connection, caller.decision, type_, Interaction.UPDATE, id_, before.patient, now=not before.deleted
        )
    require_version(if_match, before, if_none_match)
    if before is None and not caller.rules.update_creates:
        raise MethodNotOffered(
            "there is no resource with this id, and an update creates none here; POST it to its type", "GET, HEAD"
        )
    return put(connection, caller, resource, before, method="PUT", interaction=Interaction.UPDATE, audit=("update", REST_UPDATE))


def conditional_update(
    connection: Connection,
    caller: Caller,
    type_: str,
    query: str,
    resource: dict[str, Any],
    *,
    if_match: str = "",
    if_none_match: str = "",
    is_checked: bool = False,
) -> Outcome:
    """FHIR R4 section 3.1.0.4.3: updates the one resource that meets `query`; without one creates it, with the id that it has, if any."""
    offered.require(type_, "update")
    caller.require(type_, Interaction.UPDATE)
    if not is_checked:
        checked(resource, type_)
    id_ = updated_id(connection, caller, type_, query, resource)
    if not id_:
        require_version(if_match, None)
        return create(connection, caller, resource, is_checked=True)
    return update(
        connection, caller, type_, id_, {**resource, "id": id_}, if_match=if_match, if_none_match=if_none_match, is_checked=True
    )


def updated_id(connection: Connection, caller: Caller, type_: str, query: str, resource: dict[str, Any]) -> str:
    """Section 3.1.0.4.3: the id of what a conditional update is of; empty for a new one that the server names.

    Raises `Invalid` if the resource has another id than the one that is found, `Conflict` if its id is that of something else.
    """
    named, found = str(resource.get("id", "")), conditional.only(connection, caller, type_, query)
    if named and found and named != found:
        raise Invalid(
            [Issue("error", "invalid", f"{type_}.id", "the condition is met by a resource of another id; leave the id out")]
        )
    if named and not found and _is_there(current(connection, type_, named, resource)):
        raise Conflict("the condition is met by no resource, but there is one with this id that does not meet it")
    return found or named


def current(connection: Connection, type_: str, id_: str, becoming: dict[str, Any] | None = None) -> Stored | None:
    """What is there, locked. Where nothing is, nobody else makes it until this transaction ends: else it would be overwritten unseen."""
    found = resources.locked(connection, type_, id_, becoming)
    if found is None and connection.dialect.name == "postgresql":
        conditional.lock(connection, [(type_, f"_id={id_}")])
        found = resources.locked(connection, type_, id_, becoming)
    return found


def _is_there(stored: Stored | None) -> bool:
    return stored is not None and not stored.deleted

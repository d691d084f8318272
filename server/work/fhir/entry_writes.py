"""One write of a Bundle, by itself or with others (FHIR R4 section 3.1.0.11): who may ask for it, what has to hold, and what it does.

A batch's is `prepared` before its transaction begins, and `single` within it; a transaction's are put together by `work.fhir.transaction`.
"""

import base64
import binascii
from collections.abc import Iterable, Iterator
from typing import Any, Final

from sqlalchemy import Connection

from profiles.fhir.business_identifiers import unique_identifiers
from server.access.decisions import Interaction
from server.errors import NotSupported
from server.records import report_links
from server.store.db import Database
from server.work.fhir import binary, conditional, offered
from server.work.fhir.bundles import Entry
from server.work.fhir.caller import Caller, Outcome
from server.work.fhir.create import create
from server.work.fhir.delete import conditional_delete, delete
from server.work.fhir.patch import Changed, Patch, Ready, conditional_patch, patch, work_out
from server.work.fhir.storing import checked
from server.work.fhir.update import conditional_update, update

Json = dict[str, Any]
_INTERACTION: Final = {
    "POST": ("create", Interaction.CREATE),
    "PUT": ("update", Interaction.UPDATE),
    "PATCH": ("patch", Interaction.UPDATE),
    "DELETE": ("delete", Interaction.DELETE),
}


def prepared(database: Database, caller: Caller, entry: Entry) -> Ready | None:
    """Of a batch's entry what nobody has to wait for: whether the caller may do such a thing, its resource is valid, and what its patch makes.

    Raises what the interaction raises.
    """
    require_write(caller, entry)
    if entry.method in ("POST", "PUT"):
        checked(of_type(entry), entry.type)
    if entry.method != "PATCH":
        if entry.condition is not None:
            with database.read() as connection:
                conditional.tried(connection, caller, [entry.condition])
        return None
    given = patch_of(entry, entry.resource or {})
    return work_out(database, caller, entry.type, given, id_=entry.id, query=entry.query, if_match=entry.matches)


def lock(connection: Connection, entries: Iterable[Entry]) -> None:
    """Holds what the entries write: ids, conditions, business identifiers, and whose reports and studies they are.

    Two Bundles that write the same wait here and nowhere else.
    """
    given = list(entries)
    conditional.lock(connection, (each for entry in given for each in _keys(entry)))
    stored = [(entry.type, entry.id) for entry in given if entry.id]
    report_links.hold_all(connection, stored, (entry.resource for entry in given if entry.resource is not None))


def _keys(entry: Entry) -> Iterator[tuple[str, str]]:
    if entry.condition is not None:
        yield entry.condition
    elif entry.id:
        yield conditional.key(entry.type, entry.id)
    if entry.resource is not None and entry.method in ("POST", "PUT"):
        yield from ((entry.type, f"identifier={system}|{value}") for system, value in unique_identifiers(entry.resource))


def single(connection: Connection, caller: Caller, entry: Entry, ready: Ready | None) -> Outcome:
    """FHIR R4 section 3.1.0.11.1, batch: the write of one entry that is `prepared`, as if it had come alone. Raises what the interaction raises."""
    try:
        return _single(connection, caller, entry, ready)
    except Changed:
        return _single(connection, caller, entry, None)


def _single(connection: Connection, caller: Caller, entry: Entry, ready: Ready | None) -> Outcome:
    type_, id_, query = entry.type, entry.id, entry.query
    if entry.method == "DELETE":
        if entry.type == "Binary":
            return binary.delete(connection, caller, id_, if_match=entry.matches)
        if query:
            return conditional_delete(connection, caller, type_, query, if_match=entry.matches)
        return delete(connection, caller, type_, id_, if_match=entry.matches)
    if entry.method == "PATCH":
        given = patch_of(entry, entry.resource or {})
        if query:
            return conditional_patch(connection, caller, type_, query, given, if_match=entry.matches, ready=ready)
        return patch(connection, caller, type_, id_, given, if_match=entry.matches, ready=ready)
    resource = of_type(entry)
    if type_ == "Binary":
        return binary.write(connection, caller, id_, resource, if_match=entry.matches)
    if entry.method == "POST":
        return create(connection, caller, resource, if_none_exist=entry.none_exist, is_checked=True)
    if query:
        return conditional_update(
            connection, caller, type_, query, resource, if_match=entry.matches, if_none_match=entry.none_matches, is_checked=True
        )
    return update(
        connection, caller, type_, id_, resource, if_match=entry.matches, if_none_match=entry.none_matches, is_checked=True
    )


def require_write(caller: Caller, entry: Entry) -> None:
    """That this is a write which there is, and that the caller has a scope for it: before anything is searched for."""
    name, interaction = _INTERACTION[entry.method]
    if entry.type == "Binary" and entry.condition is not None:
        raise NotSupported("a Binary is not searched for, so it has no conditional interactions")
    wanted = 1 if entry.method == "POST" or entry.query else 2
    is_named = len(entry.segments) == wanted and not any(each.startswith(("_", "$")) for each in entry.segments)
    if not is_named or (entry.method == "POST" and entry.query):
        raise entry.wrong(".request.url", f"the URL of a {entry.method} is {_FORMS[entry.method]}")
    if entry.none_matches and entry.method != "PUT":
        raise entry.wrong(".request.ifNoneMatch", "ifNoneMatch is for reads and updates here", "not-supported")
    offered.require(entry.type, name)
    if entry.type != "Binary":  # which is judged by what it belongs to
        caller.require(entry.type, interaction)


_FORMS: Final = {
    "POST": "a resource type",
    "PUT": "a type and an id, such as Patient/7, or a type and a condition, such as Patient?identifier=...",
    "PATCH": "a type and an id, such as Patient/7, or a type and a condition, such as Patient?identifier=...",
    "DELETE": "a type and an id, such as Patient/7, or a type and a condition, such as Patient?identifier=...",
}


def of_type(entry: Entry) -> Json:
    """The entry's resource, which is of the type in its URL."""
    resource = entry.resource or {}
    if entry.resource is None:
        raise entry.wrong("", f"a {entry.method} has a resource", "required")
    if resource.get("resourceType") != entry.type:
        raise entry.wrong(".resource", "the resource has to be of the type that is in the URL")
    return resource


def patch_of(entry: Entry, resource: Json) -> Patch:
    """Section 3.1.0.11.1: Parameters for a FHIRPath Patch, and a Binary with any other."""
    if resource.get("resourceType") != "Binary":
        return resource
    try:
        return base64.b64decode(str(resource.get("data", "")), validate=True), str(resource.get("contentType", ""))
    except (binascii.Error, ValueError):
        raise entry.wrong(".resource.data", "the data of a Binary are base64", "value") from None

"""Patch: `PATCH [base]/[type]/[id]` (FHIR R4 section 3.1.0.6) by JSON Patch, XML Patch or FHIRPath Patch; conditional by a query.

What a patch makes of a large resource takes a while, for which nobody else should have to wait: it is worked out before the transaction
(`work_out`), which then writes it if the resource is still the version that it was made of.
"""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection

from profiles.audit_event import REST_PATCH
from profiles.fhir import patching
from profiles.fhir.json import parse
from profiles.fhir.patching import PatchError
from server.access.decisions import Interaction
from server.errors import AccessError, Conflict, Invalid, NotFound
from server.records import resources
from server.records.resources import Stored
from server.store.db import Database
from server.work.fhir import conditional, offered
from server.work.fhir.caller import Caller, Outcome
from server.work.fhir.permission import require_resource
from server.work.fhir.reading import judged
from server.work.fhir.storing import checked, put, require_version

Patch = tuple[bytes, str] | dict[str, Any]
"""A body with its media type, or the Parameters of a FHIRPath Patch."""


class Changed(Conflict):
    """The resource is no longer what the patch was worked out for: do so again."""


@dataclass(frozen=True, slots=True)
class Ready:
    """What a patch makes of one version of a resource, checked as a resource."""

    id: str
    version: int
    made: dict[str, Any]


def work_out(
    database: Database, caller: Caller, type_: str, given: Patch, *, id_: str = "", query: str = "", if_match: str = ""
) -> Ready:
    """What `patch` of `id_`, or `conditional_patch` by `query`, would write now. In no transaction but for the look at what is there.

    Raises what they raise.
    """
    _require(caller, type_)
    with database.read() as connection:
        id_ = patched_id(connection, caller, type_, query) if query else id_
        before = _before(connection, caller, type_, resources.last(connection, type_, id_), given, if_match)
    return Ready(id_, before.version, _made(type_, before, given))


def patch(
    connection: Connection,
    caller: Caller,
    type_: str,
    id_: str,
    given: Patch,
    *,
    if_match: str = "",
    ready: Ready | None = None,
) -> Outcome:
    """FHIR R4 section 3.1.0.6: what the patch makes of the resource becomes its next version. 200.

    `ready` is what it makes of it, by `work_out`; without it that is worked out here, while others wait. Raises `Changed` if `ready` is of another
    version than there is, `NotFound`, `Gone`, `PreconditionFailed`, and `Invalid` with the patch's own status: 415, 400, or 422 where it can't
    be applied or its result is no valid resource; else as `update`.
    """
    _require(caller, type_)
    before = _before(connection, caller, type_, resources.locked(connection, type_, id_), given, if_match)
    if ready is not None and (ready.id, ready.version) != (id_, before.version):
        raise Changed("the resource is being changed by others at the same time; try again")
    made = _made(type_, before, given) if ready is None else ready.made
    return put(connection, caller, made, before, method="PATCH", interaction=Interaction.UPDATE, audit=("update", REST_PATCH))


def conditional_patch(
    connection: Connection,
    caller: Caller,
    type_: str,
    query: str,
    given: Patch,
    *,
    if_match: str = "",
    ready: Ready | None = None,
) -> Outcome:
    """FHIR R4 section 3.1.0.6, conditional patch: of the one resource that meets `query`. Raises `NotFound` if none does, else as `patch`."""
    _require(caller, type_)
    id_ = patched_id(connection, caller, type_, query)
    return patch(connection, caller, type_, id_, given, if_match=if_match, ready=ready)


def patched_id(connection: Connection, caller: Caller, type_: str, query: str) -> str:
    """The id of the one that meets the condition. Raises `NotFound`."""
    found = conditional.only(connection, caller, type_, query)
    if not found:
        raise NotFound(f"no {type_} meets the condition")
    return found


def _require(caller: Caller, type_: str) -> None:
    offered.require(type_, "patch")
    caller.require(type_, Interaction.UPDATE)


def _before(connection: Connection, caller: Caller, type_: str, found: Stored | None, given: Patch, if_match: str) -> Stored:
    """What is to be patched, if the caller may. To change is not to read: what asks for values is for those who may read them."""
    known = judged(connection, caller, type_, found, Interaction.UPDATE)
    try:
        require_resource(connection, caller.decision, type_, Interaction.READ, known.id, known.patient)
    except (AccessError, NotFound):
        if patching.asks(given):
            raise
    require_version(if_match, known)
    return known


def _made(type_: str, before: Stored, given: Patch) -> dict[str, Any]:
    """What the patch makes of it. Raises `Invalid`."""
    resource = parse(before.body, limit=len(before.body))
    try:
        made = patching.patched_by_parameters(resource, given) if isinstance(given, dict) else patching.patched(resource, *given)
    except PatchError as error:
        raise Invalid([error.issue], error.status) from None
    try:
        checked(made, type_)
    except Invalid as error:
        raise Invalid(error.issues, 422) from None
    return made

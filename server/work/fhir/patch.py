"""Patch: `PATCH [base]/[type]/[id]` (FHIR R4 section 3.1.0.6) by JSON Patch, XML Patch or FHIRPath Patch; conditional by a query."""

from typing import Any

from sqlalchemy import Connection

from profiles.audit_event import REST_PATCH
from profiles.fhir import patching
from profiles.fhir.json import parse
from profiles.fhir.patching import PatchError
from server.access.decisions import Interaction
from server.errors import Gone, Invalid, NotFound
from server.records import resources
from server.work.fhir import conditional, offered
from server.work.fhir.caller import Caller, Outcome
from server.work.fhir.storing import checked, put, require_version

Patch = tuple[bytes, str] | dict[str, Any]
"""A body with its media type, or the Parameters of a FHIRPath Patch."""


def patch(connection: Connection, caller: Caller, type_: str, id_: str, given: Patch, *, if_match: str = "") -> Outcome:
    """FHIR R4 section 3.1.0.6: what the patch makes of the resource becomes its next version. 200.

    Raises `NotFound`, `Gone`, `PreconditionFailed`, and `Invalid` with the patch's own status: 415, 400, or 422 where it can't be applied or
    its result is no valid resource; else as `update`.
    """
    offered.require(type_, "patch")
    caller.require(type_, Interaction.UPDATE)
    before = resources.locked(connection, type_, id_)
    if before is None:
        raise NotFound(f"there is no {type_} with this id")
    caller.require_patient(type_, Interaction.UPDATE, before.patient)
    if before.deleted:
        raise Gone(f"this {type_} was deleted")
    require_version(if_match, before)
    made = _made(parse(before.body), given)
    try:
        checked(made, type_)
    except Invalid as error:
        raise Invalid(error.issues, 422) from None
    return put(connection, caller, made, before, method="PATCH", interaction=Interaction.UPDATE, audit=("update", REST_PATCH))


def conditional_patch(
    connection: Connection, caller: Caller, type_: str, query: str, given: Patch, *, if_match: str = ""
) -> Outcome:
    """FHIR R4 section 3.1.0.6, conditional patch: of the one resource that meets `query`. Raises `NotFound` if none does."""
    offered.require(type_, "patch")
    caller.require(type_, Interaction.UPDATE)
    return patch(connection, caller, type_, patched_id(connection, caller, type_, query), given, if_match=if_match)


def patched_id(connection: Connection, caller: Caller, type_: str, query: str) -> str:
    """The id of the one that meets the condition. Raises `NotFound`."""
    found = conditional.only(connection, caller, type_, query)
    if not found:
        raise NotFound(f"no {type_} meets the condition")
    return found


def _made(resource: dict[str, Any], given: Patch) -> dict[str, Any]:
    try:
        return patching.patched_by_parameters(resource, given) if isinstance(given, dict) else patching.patched(resource, *given)
    except PatchError as error:
        raise Invalid([error.issue], error.status) from None

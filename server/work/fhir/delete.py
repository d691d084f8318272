"""Delete: `DELETE [base]/[type]/[id]` (FHIR R4 section 3.1.0.7), also conditional, of a single match (section 3.1.0.7.1)."""

from sqlalchemy import Connection

from profiles.audit_event import REST_DELETE
from profiles.fhir.issues import Issue
from server.access.decisions import Interaction
from server.records import resources
from server.work.fhir import conditional, offered, projections
from server.work.fhir.caller import Audited, Caller, Outcome
from server.work.fhir.storing import require_version

_DELETED = Issue("information", "informational", "", "It was deleted. Its history stays.")
_NOTHING = Issue("information", "informational", "", "There is no such resource, so nothing was deleted.")


def delete(connection: Connection, caller: Caller, type_: str, id_: str, *, if_match: str = "") -> Outcome:
    """FHIR R4 section 3.1.0.7: the resource is gone (410), its earlier versions stay. What is not there, or no more, is deleted as well: 204.

    Raises `PreconditionFailed`, `Forbidden`, and `Conflict` for what the catalogue owns.
    """
    offered.require(type_, "delete")
    caller.require(type_, Interaction.DELETE)
    before = resources.locked(connection, type_, id_)
    if before is not None:
        caller.require_patient(type_, Interaction.DELETE, before.patient)
    require_version(if_match, before)
    if before is None or before.deleted:
        return Outcome(204, before, issues=(_NOTHING,))
    projections.require_deletable(connection, before)
    stored = resources.delete(connection, type_, id_)
    reference = f"{type_}/{id_}/_history/{stored.version}"
    return Outcome(204, stored, issues=(_DELETED,), audited=(Audited("delete", REST_DELETE, reference, before.patient),))


def conditional_delete(connection: Connection, caller: Caller, type_: str, query: str, *, if_match: str = "") -> Outcome:
    """FHIR R4 section 3.1.0.7.1, conditional delete, single: 204 also where nothing meets `query`; `PreconditionFailed` where several do."""
    offered.require(type_, "delete")
    caller.require(type_, Interaction.DELETE)
    found = conditional.only(connection, caller, type_, query)
    return delete(connection, caller, type_, found, if_match=if_match) if found else Outcome(204, issues=(_NOTHING,))

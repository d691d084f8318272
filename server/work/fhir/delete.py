"""Delete: `DELETE [base]/[type]/[id]` (FHIR R4 section 3.1.0.7), also conditional, of a single match or of all (section 3.1.0.7.1)."""

from collections.abc import Sequence
from typing import Final

from sqlalchemy import Connection

from profiles.audit_event import REST_DELETE
from profiles.fhir.issues import Issue
from server.access.decisions import Interaction, Unseen
from server.errors import PreconditionFailed
from server.records import report_links, resources
from server.records.trail import Audited
from server.work.fhir import conditional, offered, permission, projections
from server.work.fhir.caller import Caller, Outcome
from server.work.fhir.storing import require_version
from server.work.registry import from_fhir

MOST: Final = 1000
"""Resources of one conditional delete: others wait for it."""
_DELETED = Issue("information", "informational", "", "It was deleted. Its history stays.")
_NOTHING = Issue("information", "informational", "", "There is no such resource, so nothing was deleted.")


def delete(connection: Connection, caller: Caller, type_: str, id_: str, *, if_match: str = "") -> Outcome:
    """FHIR R4 section 3.1.0.7: the resource is gone (410), its earlier versions stay. What is not there, or no more, is deleted as well: 204.

    To a patient/ scope what never was there is as another patient's, and what consents withhold is not there. Raises `PreconditionFailed`, `Forbidden`, and `Conflict` for what the catalogue
    owns.
    """
    offered.require(type_, "delete")
    caller.require(type_, Interaction.DELETE)
    before = resources.locked(connection, type_, id_)
    unseen: tuple[Audited, ...] = ()
    if before is None:
        permission.require_absent(caller.decision, type_, Interaction.DELETE)
    else:
        try:
            permission.require_resource(
                connection, caller.decision, type_, Interaction.DELETE, id_, before.patient, now=not before.deleted
            )
        except Unseen as error:
            before, unseen = None, refused(f"{type_}/{id_}", error)
    require_version(if_match, before)
    if before is None:
        return Outcome(204, issues=(_NOTHING,), audited=unseen)
    if before.deleted:  # which tells that it was there
        told = Audited("delete", REST_DELETE, f"{type_}/{id_}/_history/{before.version}", before.patient)
        return Outcome(204, before, issues=(_NOTHING,), audited=(told,))
    projections.require_deletable(connection, before)
    stored = resources.delete(connection, type_, id_)
    from_fhir.gone(connection, type_, id_)
    reference = f"{type_}/{id_}/_history/{stored.version}"
    return Outcome(204, stored, issues=(_DELETED,), audited=(Audited("delete", REST_DELETE, reference, before.patient),))


def refused(reference: str, error: Unseen) -> tuple[Audited, ...]:
    """For the trail: somebody would have deleted what consents withhold, and is answered as if it were not there."""
    return tuple(Audited("delete", REST_DELETE, reference, each, error=error) for each in sorted(error.patients))


def conditional_delete(connection: Connection, caller: Caller, type_: str, query: str, *, if_match: str = "") -> Outcome:
    """FHIR R4 section 3.1.0.7.1, conditional delete: 204 also where nothing meets `query`.

    Where several do: `PreconditionFailed`, or, if the installation deletes many, all of them or none. Raises `PreconditionFailed` then where they are
    more than `MOST`, and what `delete` raises for one of them.
    """
    offered.require(type_, "delete")
    caller.require(type_, Interaction.DELETE)
    if caller.rules.deletes_many:
        many = conditional.several(connection, caller, type_, query, limit=MOST + 1)
        if len(many) > 1:
            return _delete_all(connection, caller, type_, query, many, if_match)
    found = conditional.only(connection, caller, type_, query)
    if not found:
        return Outcome(204, issues=(_NOTHING,), audited=conditional.audited(connection, caller, type_, query))
    return delete(connection, caller, type_, found, if_match=if_match)


def _delete_all(connection: Connection, caller: Caller, type_: str, query: str, ids: Sequence[str], if_match: str) -> Outcome:
    """The trail has it once for each patient whose resources these were."""
    if len(ids) > MOST:
        why = f"the condition is met by more than {MOST} resources; delete them in parts, such as by a range of _lastUpdated"
        raise PreconditionFailed(why, "too-costly")
    report_links.hold_all(connection, [(type_, each) for each in ids], ())
    made = [delete(connection, caller, type_, each, if_match=if_match) for each in sorted(ids)]
    patients = {audited.patient for each in made for audited in each.audited}
    told = tuple(Audited("delete", REST_DELETE, "", each, f"{type_}?{query}".encode()) for each in sorted(patients))
    said = Issue("information", "informational", "", f"{len(made)} resources were deleted. Their histories stay.")
    return Outcome(204, issues=(said,), audited=told, removed=tuple(ids))

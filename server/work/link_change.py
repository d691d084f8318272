"""Notify XAD-PID Link Change [ITI-64], ITI TF-2 section 3.64.4.1.3, Document Registry: what a hospital submitted of a patient is another patient's.

Document Entries of the previous patient whose sourcePatientId is the local patient id become the new patient's. A Submission Set or Folder goes
along when all of its documents do; another Folder loses those that go, and another Submission Set stays as what was submitted once. Manifests
that this server publishes of its own studies are not among them: whose a study is says its Patient ID, and HL7 v2 ADT or a correction changes it.
"""

from collections.abc import Collection, Iterable
from dataclasses import replace
from typing import Final

from sqlalchemy import Connection

from profiles.document import HAS_MEMBER, DocumentEntry, Folder
from profiles.identifiers import InvalidIdentifier, PatientIdentifier
from server.records import belonging, corrections, registry, resources
from server.records.patients import Known
from server.records.registry import OBJECT, Stored
from server.store.db import micros
from server.work.registry import faces
from server.work.registry.domain import Domain
from server.work.registry.standing import face, resource_id

_SUBMITTED: Final = "xds"


def move(
    connection: Connection,
    domain: Domain,
    previous: Known,
    new: Known,
    local: PatientIdentifier,
    subsumed: Collection[PatientIdentifier],
) -> int:
    """Within the caller's transaction: the documents that were submitted under `subsumed`, or under `local` where that is nothing, are `new`'s.

    Returns how many entries moved.
    """
    for pk in sorted({previous.pk, new.pk}):
        corrections.lock_patient(connection, pk)
    under = frozenset((each.authority.oid, each.value) for each in subsumed or (local,))
    hers = registry.objects(
        connection, OBJECT.c.patient_pk.in_(belonging.rows(connection, previous.pk)), OBJECT.c.origin == _SUBMITTED
    )
    entries = [each for each in hers if isinstance(each.value, DocumentEntry) and _is_under(each.value.source_patient_id, under)]
    if not entries:
        return 0
    moved = {each.value.entry_uuid for each in entries}
    members = [each for each in registry.associations(connection, moved) if each.type == HAS_MEMBER and each.target in moved]
    holders = registry.by_uuid(connection, sorted({each.source for each in members}))
    going = [each for each in holders if _holds_none_but(connection, each, moved)]
    left = {each.value.entry_uuid for each in holders if isinstance(each.value, Folder)} - {
        each.value.entry_uuid for each in going
    }
    registry.remove(connection, [each.entry_uuid for each in members if each.source in left])
    registry.give(connection, [each.pk for each in (*entries, *going)], new.pk)
    if subsumed:
        registry.rewrite(connection, {each.pk: replace(each.entry, source_patient_id=local.cx) for each in entries})
    _show(connection, domain, [*entries, *going], left)
    return len(entries)


def _show(connection: Connection, domain: Domain, changed: Iterable[Stored], left: Collection[str]) -> None:
    """Nobody who may read the former patient's records reads these from their past."""
    now, given = micros(), list(changed)
    faces.again(connection, domain, [*(each.value.entry_uuid for each in given), *sorted(left)], now)
    for each in given:
        resources.forget_history(connection, face(each.value), resource_id(each.value.entry_uuid))


def _holds_none_but(connection: Connection, holder: Stored, moved: Collection[str]) -> bool:
    """Whether all documents of a Submission Set or Folder are among those that move."""
    held = [
        each for each in registry.associations(connection, [holder.value.entry_uuid]) if each.source == holder.value.entry_uuid
    ]
    ends = registry.by_uuid(connection, [each.target for each in held if each.type == HAS_MEMBER])
    return all(each.value.entry_uuid in moved for each in ends if isinstance(each.value, DocumentEntry))


def _is_under(cx: str, under: Collection[tuple[str, str]]) -> bool:
    """Whether a sourcePatientId is one of these, by assigning authority and value."""
    try:
        said = PatientIdentifier.from_cx(cx)
    except InvalidIdentifier:
        return False
    return (said.authority.oid, said.value) in under

"""What the registry says, as FHIR resources, in the same transaction: entries as DocumentReferences, Submission Sets and Folders as Lists.

A manifest's DocumentReference is made where its study is published (`server.work.faces`); here only its status and relations change.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, select, tuple_

from profiles.document import APPROVED, HAS_MEMBER, RELATIONSHIPS, Association, DocumentEntry, Folder, SubmissionSet
from profiles.document_list import folder_list, submission_set_list
from profiles.document_reference import RELATIONS, document_reference
from server.errors import Conflict
from server.records import registry, resources
from server.records.registry import Stored
from server.records.registry_values import Registered
from server.records.resources import RESOURCE
from server.work.fhir import projections
from server.work.registry.domain import Domain
from server.work.registry.standing import DOCUMENT, face, resource_id

Resource = dict[str, Any]
_TOGETHER = 500


def show(
    connection: Connection, domain: Domain, patient: str, values: Sequence[Registered], associations: Iterable[Association],
    types: Mapping[str, str], now: int, sent: Collection[str],
) -> None:  # fmt: skip
    """New objects of one patient (`patient` is her Patient's id). `types` are the FHIR types, by entryUUID, of all that Associations lead to;
    `sent` are the entryUUIDs that are the sender's own, so that there may be, or have been, a resource of that id.

    Raises `Conflict` where a client has a resource of such an id.
    """
    leading = _leading(associations)
    made = [_made(domain, each, patient, leading[each.entry_uuid], types) for each in values]
    known = _known(connection, [each for each in made if f"urn:uuid:{each['id']}" in sent])
    resources.create_all(connection, [each for each in made if _key(each) not in known], now=now, base=domain.base, yields=True)
    for each in made:
        if (deleted := known.get(_key(each))) is not None:
            if not deleted:
                raise Conflict(f"a client has a {each['resourceType']} with this id: register the object with another entryUUID")
            projections.published(connection, each, now=now, base=domain.base)


def again(connection: Connection, domain: Domain, entry_uuids: Iterable[str], now: int) -> None:
    """Objects that are there, as their rows say now."""
    changed = registry.by_uuid(connection, entry_uuids)
    uuids = [each.value.entry_uuid for each in changed]
    touching = [each for each in registry.associations(connection, uuids) if each.status == APPROVED] if uuids else []
    ends = {each.target for each in touching}
    types = {each.value.entry_uuid: face(each.value) for each in registry.by_uuid(connection, sorted(ends))} if ends else {}
    leading = _leading(touching)
    for each in changed:
        if each.origin == "xds":
            made = _made(domain, each.value, each.patient, leading[each.value.entry_uuid], types)
            projections.published(connection, made, now=now, base=domain.base)
        else:
            _restated(connection, domain, each, now)


def hide(connection: Connection, removed: Iterable[Stored], now: int) -> None:
    """Objects that were removed (ITI-62): their resources are deleted, with a history that stays."""
    for each in removed:
        resources.delete(connection, face(each.value), resource_id(each.value.entry_uuid), now=now)


def kinds(values: Iterable[Registered]) -> dict[str, str]:
    """The FHIR type of the other rendering of each, by entryUUID."""
    return {each.entry_uuid: face(each) for each in values}


def _leading(associations: Iterable[Association]) -> dict[str, list[Association]]:
    """By what they lead from."""
    found = defaultdict(list)
    for each in associations:
        found[each.source].append(each)
    return found


def _made(domain: Domain, value: Registered, patient: str, leading: Sequence[Association], types: Mapping[str, str]) -> Resource:
    id_ = resource_id(value.entry_uuid)
    match value:
        case DocumentEntry():
            relations = [
                (each.type, resource_id(each.target)) for each in leading if each.type in RELATIONSHIPS & RELATIONS.keys()
            ]
            ours = value.repository_unique_id == domain.repository
            return document_reference(
                value, id=id_, subject_id=patient, content_url=f"Binary/{id_}" if ours else "", relations=relations
            )
        case SubmissionSet():
            return submission_set_list(value, id=id_, subject_id=patient, entries=_entries(leading, types))
        case Folder():
            return folder_list(value, id=id_, subject_id=patient, entries=_entries(leading, types))


def _entries(leading: Sequence[Association], types: Mapping[str, str]) -> list[str]:
    """Members that are resources: an Association is none."""
    members = (each.target for each in leading if each.type == HAS_MEMBER and each.target in types)
    return [f"{types[each]}/{resource_id(each)}" for each in dict.fromkeys(members)]


def _restated(connection: Connection, domain: Domain, stored: Stored, now: int) -> None:
    """The status alone: what else a manifest's DocumentReference says is the study's to say. Its Submission Set has no List."""
    if isinstance(stored.value, DocumentEntry):
        id_ = resource_id(stored.value.entry_uuid)
        status = "current" if stored.value.status == APPROVED else "superseded"
        made = {**resources.content(connection, DOCUMENT, id_), "status": status}
        resources.put(connection, made, now=now, base=domain.base, yields=True)


def _known(connection: Connection, made: Sequence[Resource]) -> dict[tuple[str, str], bool]:
    """Which of them are there, or were: whether deleted."""
    wanted, found = [_key(each) for each in made], dict[tuple[str, str], bool]()
    for start in range(0, len(wanted), _TOGETHER):
        here = tuple_(RESOURCE.c.type, RESOURCE.c.id).in_(wanted[start : start + _TOGETHER])
        rows = connection.execute(select(RESOURCE.c.type, RESOURCE.c.id, RESOURCE.c.deleted).where(here))
        found |= {(type_, id_): bool(deleted) for type_, id_, deleted in rows}
    return found


def _key(resource: Resource) -> tuple[str, str]:
    return str(resource["resourceType"]), str(resource["id"])

"""Update Document Set (ITI-57): new versions of entries and Folders, other statuses, further Associations (ITI TF-2 section 3.57.4.1.3).

What a submission is to do is told by its Associations: a HasMember with PreviousVersion leads from the Submission Set to a new version,
UpdateAvailabilityStatus to what gets another status, SubmitAssociation to an Association between what is registered.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Final

from sqlalchemy import Connection

from ihe.ebrs import RegistryError, RegistryRefusal
from ihe.metadata_rules import resolved
from profiles.document import (
    APPROVED,
    DEPRECATED,
    HAS_MEMBER,
    RELATIONSHIPS,
    REPLACING,
    SUBMIT_ASSOCIATION,
    UPDATE_AVAILABILITY_STATUS,
    Association,
    DocumentEntry,
    Folder,
    Submission,
    SubmissionSet,
    is_uuid,
)
from profiles.timestamps import dtm
from server.access.decisions import Decision, Interaction
from server.records import registry
from server.records.registry import Stored
from server.records.registry_values import Registered
from server.store.db import micros, moment
from server.work.registry import faces, rules
from server.work.registry.domain import Domain
from server.work.registry.register import Done, new_uuid
from server.work.registry.standing import LIST, Standing, owner, require, sees, standing, unknown_patient

UPDATE: Final = "XDSMetadataUpdateError"
VERSION: Final = "XDSMetadataVersionError"
OPERATION: Final = "XDSMetadataUpdateOperationError"
PATIENT: Final = "XDSPatientIDReconciliationError"
UNMODIFIABLE: Final = "UnmodifiableMetadataError"
Versioned = DocumentEntry | Folder
_UNMODIFIABLE: Final = {"patient_id": "patientId", "unique_id": "uniqueId", "object_type": "objectType"}
"""What says which document of whom it is, as `DocumentEntry` calls it and as the standard does."""
_OF_THE_BYTES: Final = {
    "hash": "hash", "size": "size", "mime_type": "mimeType", "repository_unique_id": "repositoryUniqueId",
}  # fmt: skip
"""What the repository has checked, and sends with the document (ITI-43)."""


@dataclass(slots=True)
class _Plan:
    """What the registry becomes: new objects and Associations, other statuses by entryUUID, and the Folders that change.

    `repository` is the repositoryUniqueId of our own.
    """

    repository: str
    before: Standing
    latest: dict[str, Stored]
    now: str
    objects: list[Registered] = field(default_factory=list)
    associations: list[Association] = field(default_factory=list)
    statuses: dict[str, str] = field(default_factory=dict)
    folders: set[str] = field(default_factory=set)
    errors: list[RegistryError] = field(default_factory=list)

    def wrong(self, code: str, id_: str, words: str) -> None:
        self.errors.append(RegistryError(code, f"{id_[:100]}: {words}", id_[:100]))


def update(connection: Connection, decision: Decision, domain: Domain, submission: Submission) -> Done:
    """Carries out a submission that `Domain.check` finds nothing wrong with, by `By.UPDATE`.

    Raises `RegistryRefusal` with everything that is wrong, `Forbidden` for who may not update what is the patient's.
    """
    decision.require(LIST, Interaction.UPDATE)  # who may do this for nobody learns of nobody
    submission = resolved(submission, new_uuid)
    assert submission.submission_set is not None
    whose = owner(connection, domain, submission.submission_set.patient_id, _names(submission))
    if whose is None:
        decision.require_patients(LIST, Interaction.UPDATE, frozenset([submission.submission_set.patient_id]))  # as of a stranger
        raise unknown_patient(submission.submission_set.patient_id)
    require(decision, Interaction.UPDATE, whose.id, LIST)
    latest = _latest(connection, decision, submission)
    for patient in {each.patient for each in latest.values()} - {whose.id}:  # it becomes another's: both have to be the caller's
        require(decision, Interaction.UPDATE, patient)
    earlier = [each.value.entry_uuid for each in latest.values()]
    now = micros()
    plan = _Plan(domain.repository, standing(connection, decision, whose, submission, *earlier), latest, dtm(moment(now)))
    _planned(connection, plan, submission)
    if plan.errors:
        raise RegistryRefusal(plan.errors)
    made = plan.objects
    registry.add_all(connection, made, patient_pk=whose.pk, origin="xds", now=now)
    registry.associate(connection, plan.associations)
    for status in (APPROVED, DEPRECATED):
        if changed := sorted(id_ for id_, wanted in plan.statuses.items() if wanted == status):
            registry.set_status(connection, changed, status)
    if plan.folders:
        registry.set_time(connection, plan.folders, plan.now)
    faces.show(
        connection, domain, whose.id, made, plan.associations, plan.before.kinds | faces.kinds(made), now, faces.kinds(made)
    )
    if touched := _touched(plan) - {value.entry_uuid for value in made}:
        faces.again(connection, domain, sorted(touched), now)
    return Done(whose.id, whose.pk, submission, frozenset(each.patient for each in latest.values()) - {whose.id})


def update_restricted(connection: Connection, decision: Decision, domain: Domain, submission: Submission) -> Done:
    """ITI-92 (supplement Restricted Metadata Update, section 3.92.4.1.3): new versions of entries, with their patient, uniqueId and objectType.

    Raises as `update` does.
    """
    assert submission.submission_set is not None
    decision.require(LIST, Interaction.UPDATE)
    errors = list(_beyond_restricted(submission))
    known = _latest(connection, decision, submission)
    for patient in {each.patient for each in known.values()}:  # what of an object is told is told to who may change it
        require(decision, Interaction.UPDATE, patient)
    for new in submission.documents:
        if (stored := known.get(new.logical_id)) is not None:
            errors += _unmodifiable(new, stored.value)
    if errors:
        raise RegistryRefusal(errors)
    return update(connection, decision, domain, submission)


def _beyond_restricted(submission: Submission) -> Iterator[RegistryError]:
    assert submission.submission_set is not None
    others: tuple[Folder | Association, ...] = (*submission.folders, *submission.associations)
    for each in others:
        if isinstance(each, Folder) or each.type != HAS_MEMBER or each.source != submission.submission_set.entry_uuid:
            words = (
                "a restricted update has a SubmissionSet and new versions of DocumentEntries that are its members, nothing else"
            )
            yield RegistryError(OPERATION, f"{each.entry_uuid[:100]}: {words}", each.entry_uuid[:100])


def _unmodifiable(new: DocumentEntry, previous: Registered) -> Iterator[RegistryError]:
    if isinstance(previous, DocumentEntry):
        for attribute, name in _UNMODIFIABLE.items():
            if getattr(new, attribute) != getattr(previous, attribute):
                words = f"a restricted update does not change the {name}; send it as it is registered"
                yield RegistryError(UNMODIFIABLE, f"{new.entry_uuid[:100]}: {words}", new.entry_uuid[:100])


def _names(submission: Submission) -> Iterator[str]:
    assert submission.submission_set is not None
    yield from (submission.submission_set.patient_id, submission.submission_set.unique_id)
    for value in submission.versioned():
        yield from filter(None, (value.logical_id, value.unique_id))


def _latest(connection: Connection, decision: Decision, submission: Submission) -> dict[str, Stored]:
    """The newest version of what the submission has new versions of, by logicalID."""
    found: dict[str, Stored] = {}
    wanted = [value.logical_id for value in submission.versioned() if value.logical_id]
    for each in registry.by_logical_id(connection, wanted):
        assert not isinstance(each.value, SubmissionSet)
        known = found.get(each.value.logical_id)
        if sees(connection, decision, each) and (known is None or _version(known) < each.value.version):
            found[each.value.logical_id] = each
    return found


def _version(stored: Stored) -> int:
    return 0 if isinstance(stored.value, SubmissionSet) else stored.value.version


def _planned(connection: Connection, plan: _Plan, submission: Submission) -> None:
    submitted = submission.submission_set
    assert submitted is not None
    plan.objects.append(replace(submitted, status=APPROVED))
    plan.errors += rules.unique_ids(Submission(submitted), plan.before)
    members = {
        each.target: each for each in submission.associations if each.type == HAS_MEMBER and each.source == submitted.entry_uuid
    }
    propagated = {each.target for each in members.values() if each.propagates is not False}
    for value in submission.versioned():
        _new_version(plan, value, members.get(value.entry_uuid))
    new = {each.entry_uuid for each in (*submission.versioned(), *submission.associations)}
    submittable = {each.target for each in submission.associations if each.type == SUBMIT_ASSOCIATION}
    for association in submission.associations:
        if association.source == submitted.entry_uuid:
            if association.type == UPDATE_AVAILABILITY_STATUS:
                _new_status(connection, plan, association)
            elif association.type == HAS_MEMBER and association.target not in new:
                _by_reference(plan, association)
        elif association.entry_uuid in submittable:
            _new_association(plan, association, propagated)
        else:
            plan.wrong(
                OPERATION, association.entry_uuid, "no SubmitAssociation of the SubmissionSet says what this Association is for"
            )
        plan.associations.append(replace(association, status=APPROVED))
    operations = {each.type for each in submission.associations} & {SUBMIT_ASSOCIATION, UPDATE_AVAILABILITY_STATUS}
    if not (submission.documents or submission.folders or operations or plan.errors):
        plan.wrong(OPERATION, submitted.entry_uuid, "the submission says no update that there is")


def _by_reference(plan: _Plan, member: Association) -> None:
    """ITI TF-3 section 4.1.4.1: what is registered becomes a member, if the caller may know of it."""
    known = plan.before.associations.get(member.target)
    if _named(plan, member.target) is None and (known is None or not plan.before.knows(known)):
        plan.wrong(UPDATE, member.entry_uuid, f"it refers to {member.target[:100]}, which the registry does not have")


# --- ITI TF-2 sections 3.57.4.1.3.3.1 and 3.57.4.1.3.3.3: new versions


def _new_version(plan: _Plan, value: Versioned, member: Association | None) -> None:
    if not is_uuid(value.logical_id) or value.logical_id == value.entry_uuid:
        plan.wrong(UPDATE, value.entry_uuid, "this is a first version: a new one has the logicalID of what it is a version of")
        return
    stored = plan.latest.get(value.logical_id)
    if stored is None or type(stored.value) is not type(value):
        plan.wrong(UPDATE, value.entry_uuid, "the registry has no object of this kind with its logicalID")
        return
    if value.entry_uuid in plan.before.every:
        plan.wrong(UPDATE, value.entry_uuid, "the registry has an object with this entryUUID: a new version has a new one")
    previous = stored.value
    assert isinstance(previous, DocumentEntry | Folder)
    if stored.origin != "xds":
        plan.wrong(UPDATE, value.entry_uuid, "it is kept by the server itself: it changes with its study or its FHIR resource")
    if member is None or not member.previous_version:
        plan.wrong(UPDATE, value.entry_uuid, "its HasMember Association from the SubmissionSet has no PreviousVersion")
    elif member.previous_version != str(previous.version):
        plan.wrong(
            VERSION,
            value.entry_uuid,
            f"PreviousVersion is not the current version, which is {previous.version}: read it, and update that",
        )
    if value.unique_id != previous.unique_id:
        plan.wrong(UPDATE, value.entry_uuid, "its uniqueId is not that of its previous version")
    if isinstance(value, DocumentEntry) and isinstance(previous, DocumentEntry) and value.object_type != previous.object_type:
        plan.wrong(UPDATE, value.entry_uuid, "its objectType is not that of its previous version")
    _same_bytes(plan, value, previous)
    made = replace(value, version=previous.version + 1, status=previous.status)
    plan.objects.append(replace(made, last_update=plan.now) if isinstance(made, Folder) else made)
    plan.statuses[previous.entry_uuid] = DEPRECATED
    if member is None or member.propagates is not False:
        _propagate(plan, stored, value)


def _same_bytes(plan: _Plan, value: Versioned, previous: Versioned) -> None:
    """What our own repository has of a document is as it was checked."""
    if (
        isinstance(value, DocumentEntry)
        and isinstance(previous, DocumentEntry)
        and previous.repository_unique_id == plan.repository
    ):
        for attribute, name in _OF_THE_BYTES.items():
            if getattr(value, attribute) != getattr(previous, attribute):
                plan.wrong(UPDATE, value.entry_uuid, f"its {name} is not that of the document, which this repository holds")


def _propagate(plan: _Plan, previous: Stored, value: Versioned) -> None:
    """Section 3.57.4.1.3.3.1.5: relationships, and memberships of Folders, are those of the new version too."""
    old, is_moved = previous.value.entry_uuid, not plan.before.is_hers(previous)
    for each in list(plan.before.associations.values()):
        of_folder = each.type == HAS_MEMBER and isinstance(_value(plan, each.source), Folder)
        if each.status != APPROVED or old not in (each.source, each.target) or not (of_folder or each.type in RELATIONSHIPS):
            continue
        if is_moved:
            plan.wrong(
                PATIENT, value.entry_uuid,
                "it gets another patient than what Associations connect it with: say AssociationPropagation no, and submit those that hold",
            )  # fmt: skip
            return
        source, target = (value.entry_uuid if end == old else end for end in (each.source, each.target))
        plan.associations.append(replace(each, entry_uuid=new_uuid(), source=source, target=target))
        if of_folder and each.target == old:
            plan.folders.add(each.source)


def _named(plan: _Plan, id_: str) -> Registered | None:
    """Of what is registered, as far as the caller may know of it, or was planned before."""
    return None if id_ in plan.before.every and id_ not in plan.before.objects else _value(plan, id_)


def _value(plan: _Plan, id_: str) -> Registered | None:
    """Of what is registered, or was planned before."""
    if (stored := plan.before.every.get(id_)) is not None:
        return stored.value
    return next((each for each in plan.objects if each.entry_uuid == id_), None)


# --- sections 3.57.4.1.3.3.2, 3.57.4.1.3.3.4 and 3.57.4.1.3.3.5: other statuses


def _new_status(connection: Connection, plan: _Plan, change: Association) -> None:
    known = plan.before.associations.get(change.target) or _named(plan, change.target)
    if known is None or (isinstance(known, Association) and not plan.before.knows(known)):
        plan.wrong(UPDATE, change.entry_uuid, "UpdateAvailabilityStatus leads to nothing that the registry has")
        return
    if not change.original_status or not change.new_status:
        plan.wrong(UPDATE, change.entry_uuid, "UpdateAvailabilityStatus needs an OriginalStatus and a NewStatus")
        return
    if change.original_status != known.status:
        plan.wrong(UPDATE, change.entry_uuid, "OriginalStatus is not the current status: read it, and update that")
    if isinstance(known, Association) and not all(map(plan.before.is_hers, _ends(plan, known))):
        plan.wrong(PATIENT, change.entry_uuid, "what it leads to connects objects of another patient than the SubmissionSet's")
    elif isinstance(known, SubmissionSet) or (isinstance(known, Association) and not _may_change(plan, known)):
        plan.wrong(UPDATE, change.entry_uuid, "the status of a SubmissionSet, and of what it has as a member, does not change")
    elif (stored := plan.before.every.get(change.target)) is not None:
        if stored.origin != "xds":
            plan.wrong(
                UPDATE, change.entry_uuid, "it is kept by the server itself: it changes with its study or its FHIR resource"
            )
        if not plan.before.is_hers(stored):
            plan.wrong(PATIENT, change.entry_uuid, "what it leads to is of another patient than the SubmissionSet")
        if not isinstance(known, Association) and not _is_latest(connection, plan, known):
            plan.wrong(VERSION, change.entry_uuid, "what it leads to is not the newest version")
    elif change.target not in plan.before.associations:  # a new version of this submission
        plan.objects[:] = [_with_status(each, change) for each in plan.objects]
        return
    plan.statuses[change.target] = change.new_status


def _ends(plan: _Plan, association: Association) -> Iterator[Stored]:
    """The registered objects that it connects."""
    return (plan.before.every[end] for end in (association.source, association.target) if end in plan.before.every)


def _with_status(value: Registered, change: Association) -> Registered:
    return replace(value, status=change.new_status) if value.entry_uuid == change.target else value


def _may_change(plan: _Plan, association: Association) -> bool:
    in_folder = association.type == HAS_MEMBER and isinstance(_value(plan, association.source), Folder)
    return in_folder or association.type in RELATIONSHIPS


def _is_latest(connection: Connection, plan: _Plan, value: Registered) -> bool:
    if isinstance(value, SubmissionSet) or plan.statuses.get(value.entry_uuid) == DEPRECATED:
        return False
    versions = registry.by_logical_id(connection, [value.logical_id])
    return all(_version(each) <= value.version for each in versions)


# --- section 3.57.4.1.3.3.6: further Associations


def _new_association(plan: _Plan, made: Association, propagated: set[str]) -> None:
    ends = [plan.before.objects.get(each) for each in (made.source, made.target)]
    for end, stored in zip((made.source, made.target), ends, strict=True):
        if end in propagated:
            plan.wrong(
                OPERATION,
                made.entry_uuid,
                "it refers to a new version whose Associations are propagated: say AssociationPropagation no",
            )
        elif stored is None and not isinstance(_named(plan, end), DocumentEntry | Folder):
            plan.wrong(UPDATE, made.entry_uuid, f"it refers to {end[:100]}, which the registry does not have")
        elif stored is not None and stored.value.status == DEPRECATED:
            plan.wrong(UPDATE, made.entry_uuid, f"it refers to {end}, which is deprecated")
        elif stored is not None and not plan.before.is_hers(stored):
            plan.wrong(PATIENT, made.entry_uuid, f"it refers to {end}, which is of another patient than the SubmissionSet")
    source, target = _named(plan, made.source), _named(plan, made.target)
    kinds = (Folder, DocumentEntry) if made.type == HAS_MEMBER else (DocumentEntry, DocumentEntry)
    if (source and not isinstance(source, kinds[0])) or (target and not isinstance(target, kinds[1])):
        plan.wrong(UPDATE, made.entry_uuid, "an Association of this type cannot connect objects of these kinds")
    if any(
        (each.type, each.source, each.target, each.status) == (made.type, made.source, made.target, APPROVED)
        for each in plan.before.associations.values()
    ):
        plan.wrong(UPDATE, made.entry_uuid, "there is an approved Association of this type between the two already")
    if made.type == HAS_MEMBER:
        plan.folders.add(made.source)
    if made.type in REPLACING:
        plan.statuses[made.target] = DEPRECATED


def _touched(plan: _Plan) -> set[str]:
    """Objects whose faces say something else: other statuses, other members, other relations."""
    ids = {*plan.statuses, *plan.folders, *(each.source for each in plan.associations)}
    ids |= {each.source for id_, each in plan.before.associations.items() if id_ in plan.statuses}
    return ids & plan.before.every.keys()

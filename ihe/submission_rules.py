"""How the objects of one submission hang together: ids, Associations, membership, patients (ITI TF-3 sections 4.1.4, 4.2.1.5 and 4.2.2)."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from ihe.attribute_rules import KIND_OF
from ihe.ebxml import Fault
from ihe.metadata import By
from profiles.document import (
    HAS_MEMBER,
    IS_SNAPSHOT_OF,
    ON_DEMAND,
    RELATIONSHIPS,
    SUBMIT_ASSOCIATION,
    UPDATE_AVAILABILITY_STATUS,
    Association,
    DocumentEntry,
    Folder,
    RegistryObject,
    Submission,
    is_uuid,
)

_DUPLICATE: Final = "XDS{actor}DuplicateUniqueIdInMessage"
_PATIENT: Final = "XDSPatientIdDoesNotMatch"

# What each kind of Association connects (ITI TF-3 sections 4.2.2.1 and 4.2.2.2; ITI TF-2 section 3.57.4.1.3.3 for the last two):
# the names of the source's kind and of the target's
_CONNECTS: Final[Mapping[str, frozenset[tuple[str, str]]]] = {
    HAS_MEMBER: frozenset(
        {
            ("SubmissionSet", "DocumentEntry"),
            ("SubmissionSet", "Folder"),
            ("SubmissionSet", "Association"),
            ("Folder", "DocumentEntry"),
        }
    ),
    **dict.fromkeys(RELATIONSHIPS, frozenset({("DocumentEntry", "DocumentEntry")})),
    UPDATE_AVAILABILITY_STATUS: frozenset({("SubmissionSet", kind) for kind in ("DocumentEntry", "Folder", "Association")}),
    SUBMIT_ASSOCIATION: frozenset({("SubmissionSet", "Association")}),
}
_OF_UPDATE: Final = frozenset({UPDATE_AVAILABILITY_STATUS, SUBMIT_ASSOCIATION})
_ELSEWHERE: Final = ""


@dataclass(frozen=True, slots=True)
class _Whole:
    """A submission with what the rules look up. `kinds` is the name of each object's kind by its id."""

    submission: Submission
    by: By
    objects: Mapping[str, RegistryObject]
    kinds: Mapping[str, str]

    def kind(self, id_: str) -> str:
        """Of an object of the message; empty for one that a registry may have."""
        return self.kinds.get(id_, _ELSEWHERE)


def faults(submission: Submission, by: By) -> Iterator[Fault]:
    """What is wrong with `submission` as a whole in the transaction `by`."""
    objects = {value.entry_uuid: value for value in submission.objects()}
    whole = _Whole(submission, by, objects, {id_: KIND_OF[type(value)].name for id_, value in objects.items()})
    for rule in _RULES:
        yield from rule(whole)


def _has_set(whole: _Whole) -> Iterator[Fault]:
    """ITI TF-3 section 4.2.1.5: one SubmissionSet (reading tells of a second)."""
    if whole.submission.submission_set is None:
        yield Fault("", "there is no SubmissionSet: submit exactly one")


def _ids(whole: _Whole) -> Iterator[Fault]:
    given = Counter(value.entry_uuid for value in whole.submission.objects() if value.entry_uuid)
    for id_, times in given.items():
        if times > 1:
            yield Fault(id_, f"{times} objects have this id: give each its own")


def _unique_ids(whole: _Whole) -> Iterator[Fault]:
    """ITI TF-3 table 4.2.4.1-2, XDSRegistryDuplicateUniqueIdInMessage: its context names the uniqueId."""
    seen: dict[str, str] = {}
    for value in whole.submission.objects():
        if isinstance(value, Association) or not value.unique_id:
            continue
        if value.unique_id in seen:
            yield Fault(
                value.entry_uuid, f"the uniqueId {value.unique_id[:256]} is that of {seen[value.unique_id]} too", _DUPLICATE
            )
        seen.setdefault(value.unique_id, value.entry_uuid)


def _references(whole: _Whole) -> Iterator[Fault]:
    """ITI TF-3 section 4.2.1.5: what is not in the message is named by its UUID."""
    for id_ in whole.submission.references:
        if id_ not in whole.objects and not is_uuid(id_):
            yield Fault(id_, "an ObjectRef names what is not in the message: name it by its UUID")
    for association in whole.submission.associations:
        for name, end in (("sourceObject", association.source), ("targetObject", association.target)):
            if not end:
                yield Fault(association.entry_uuid, f"Association.{name} is missing")
            elif end not in whole.objects and not is_uuid(end):
                words = (
                    f"Association.{name} is a symbolic id that no object of the message has: name what is not in it by its UUID"
                )
                yield Fault(association.entry_uuid, words)


def _associations(whole: _Whole) -> Iterator[Fault]:
    """ITI TF-3 table 4.2.2-1, and what each type connects."""
    for association in whole.submission.associations:
        if not (association.source and association.target):
            continue
        allowed = _CONNECTS.get(association.type)
        if allowed is None or (association.type in _OF_UPDATE and whole.by is not By.UPDATE):
            yield Fault(association.entry_uuid, "Association.associationType is none that this transaction has")
            continue
        if association.source == association.target:
            yield Fault(association.entry_uuid, "Association.sourceObject and targetObject are the same object")
            continue
        source, target = whole.kind(association.source), whole.kind(association.target)
        if not any(_may_be(source, one) and _may_be(target, other) for one, other in allowed):
            what = f"a {source or 'registered object'} to a {target or 'registered object'}"
            yield Fault(association.entry_uuid, f"Association of type {_short(association.type)} cannot connect {what}")
        elif association.type in RELATIONSHIPS:
            yield from _relationship(whole, association)


def _may_be(kind: str, wanted: str) -> bool:
    """A registered object may be of any kind but a SubmissionSet: that gets no further Associations (ITI TF-3 section 4.2.1.2)."""
    return kind == wanted or (kind == _ELSEWHERE and wanted != "SubmissionSet")


def _relationship(whole: _Whole, association: Association) -> Iterator[Fault]:
    """ITI TF-3 section 4.2.2.2: the source is a new Document Entry; ITI-57 also connects two that are registered."""
    source, target = whole.objects.get(association.source), whole.objects.get(association.target)
    if source is None and whole.by is not By.UPDATE:
        words = f"Association.sourceObject of type {_short(association.type)} has to be a DocumentEntry of this submission"
        yield Fault(association.entry_uuid, words)
    if association.type != IS_SNAPSHOT_OF:
        return
    snapshot = isinstance(source, DocumentEntry) and source.object_type == ON_DEMAND
    of_stable = isinstance(target, DocumentEntry) and target.object_type != ON_DEMAND
    if snapshot or of_stable:
        yield Fault(association.entry_uuid, "Association IsSnapshotOf goes from a stable to an on-demand Document Entry")


def _documentation(whole: _Whole) -> Iterator[Fault]:
    """ITI TF-3 section 4.2.2.2: why there is an Association is told of a relationship of documents alone."""
    for association in whole.submission.associations:
        if association.documentation is not None and association.type == HAS_MEMBER:
            yield Fault(association.entry_uuid, "Association.documentation is not allowed with the type HasMember: leave it out")


def _set_status(whole: _Whole) -> Iterator[Fault]:
    """ITI TF-3 section 4.2.2.1.1: Original of what is in the message, Reference of what is registered."""
    for association in whole.submission.associations:
        if association.type != HAS_MEMBER or whole.kind(association.source) != "SubmissionSet":
            continue
        kind, given = whole.kind(association.target), association.submission_set_status
        wanted = "Reference" if kind == _ELSEWHERE else "Original"
        if given != wanted and (given or kind in ("DocumentEntry", _ELSEWHERE)):
            yield Fault(association.entry_uuid, f"Association.SubmissionSetStatus has to be {wanted} here")


def _membership(whole: _Whole) -> Iterator[Fault]:
    """ITI TF-3 sections 4.2.2.1.1 to 4.2.2.1.4: what is submitted is a member of the SubmissionSet."""
    if (submitted := whole.submission.submission_set) is None:
        return
    members = {
        association.target
        for association in whole.submission.associations
        if association.source == submitted.entry_uuid and association.type in (HAS_MEMBER, *_OF_UPDATE)
    }
    filed = (
        association
        for association in whole.submission.associations
        if association.type == HAS_MEMBER
        and whole.kind(association.source) in ("Folder", _ELSEWHERE)
        and whole.kind(association.target) in ("DocumentEntry", _ELSEWHERE)
    )
    submitted_objects: tuple[RegistryObject, ...] = (*whole.submission.documents, *whole.submission.folders, *filed)
    for value in submitted_objects:
        if value.entry_uuid not in members:
            what = "membership of a Folder" if isinstance(value, Association) else KIND_OF[type(value)].name
            yield Fault(value.entry_uuid, f"this {what} needs a HasMember Association from the SubmissionSet")


def _patients(whole: _Whole) -> Iterator[Fault]:
    """ITI TF-3 sections 4.2.2.1.1 to 4.2.2.1.4: one patient in all of them. The words never have the id."""
    if (submitted := whole.submission.submission_set) is None or not submitted.patient_id:
        return
    placed: tuple[DocumentEntry | Folder, ...] = (*whole.submission.documents, *whole.submission.folders)
    for value in placed:
        if value.patient_id and value.patient_id != submitted.patient_id:
            words = f"the patientId of this {KIND_OF[type(value)].name} has to be that of the SubmissionSet"
            yield Fault(value.entry_uuid, words, _PATIENT, value.patient_id)


def _short(type_: str) -> str:
    return type_.rpartition(":")[2][:64]


_RULES: Final[tuple[Callable[[_Whole], Iterator[Fault]], ...]] = (
    _has_set, _ids, _unique_ids, _references, _associations, _documentation, _set_status, _membership, _patients,
)  # fmt: skip

"""What only a registry can tell of a submission: ids that are taken, references that lead nowhere, documents of another patient or no longer current.

ITI TF-2 section 3.42.4.1.3.3, ITI TF-3 sections 4.2.2 and 4.2.3, table 4.2.4.1-2. A context names objects by their ids and nothing of a patient;
of patient ids the answer repeats that of the submission.
"""

from collections.abc import Callable, Iterator
from typing import Final

from ihe.attribute_rules import KIND_OF
from ihe.ebrs import RegistryError
from profiles.document import (
    DEPRECATED,
    HAS_MEMBER,
    IS_SNAPSHOT_OF,
    ON_DEMAND,
    RELATIONSHIPS,
    Association,
    DocumentEntry,
    Folder,
    RegistryObject,
    Submission,
    SubmissionSet,
)
from server.records.registry import Stored
from server.work.registry.standing import Standing

METADATA: Final = "XDSRegistryMetadataError"
UNRESOLVED: Final = "UnresolvedReferenceException"
_DUPLICATE: Final = "XDSDuplicateUniqueIdInRegistry"
_DEPRECATED: Final = "XDSRegistryDeprecatedDocumentError"
_PATIENT: Final = "XDSPatientIdDoesNotMatch"
_MOST: Final = 100


def check(submission: Submission, standing: Standing) -> tuple[RegistryError, ...]:
    """Everything that is wrong with `submission`, whose ids are real ones, as the registry is now; the first hundred."""
    found = (error for rule in _RULES for error in rule(submission, standing))
    return tuple(error for error, _ in zip(found, range(_MOST), strict=False))


def _taken(submission: Submission, standing: Standing) -> Iterator[RegistryError]:
    """ITI TF-3 section 4.2.3.1.5: an entryUUID names one object for ever."""
    for value in submission.objects():
        if value.entry_uuid in standing.objects or value.entry_uuid in standing.associations:
            yield error(METADATA, value, "the registry has an object with this entryUUID already: give this one another")


def _first_versions(submission: Submission, _: Standing) -> Iterator[RegistryError]:
    """ITI TF-2 section 3.57.4.1.3.1: a new version of what is registered comes by ITI-57."""
    for value in submission.versioned():
        if value.logical_id not in ("", value.entry_uuid):
            yield error(
                METADATA, value, "its logicalID is another than its entryUUID: send a new version by Update Document Set (ITI-57)"
            )


def unique_ids(submission: Submission, standing: Standing) -> Iterator[RegistryError]:
    """ITI TF-3 table 4.2.4.1-2: one SubmissionSet or Folder for a uniqueId; several entries of one document, if it is one."""
    for value in submission.objects():
        if isinstance(value, Association):
            continue
        for stored in standing.by_unique_id.get(value.unique_id, ()):
            same = stored.value
            if not isinstance(value, DocumentEntry) or not isinstance(same, DocumentEntry):
                yield error(
                    _DUPLICATE, value, f"its uniqueId {value.unique_id[:256]} is that of a registered {KIND_OF[type(same)].name}"
                )
            elif ON_DEMAND in (value.object_type, same.object_type):
                yield error(
                    _DUPLICATE, value, f"its uniqueId {value.unique_id[:256]} is that of a registered on-demand or stable entry"
                )
            else:
                yield from _same_document(value, same)
                continue
            break


def _same_document(value: DocumentEntry, same: DocumentEntry) -> Iterator[RegistryError]:
    if value.hash and same.hash and value.hash.lower() != same.hash.lower():
        yield error("XDSNonIdenticalHash", value, f"the document {value.unique_id[:256]} is registered with another hash")
    if value.size is not None and same.size is not None and value.size != same.size:
        yield error("XDSNonIdenticalSize", value, f"the document {value.unique_id[:256]} is registered with another size")


def _ends(submission: Submission, standing: Standing) -> Iterator[RegistryError]:
    """ITI TF-3 section 4.2.2: what Associations lead to."""
    new = {value.entry_uuid for value in submission.objects()}
    submitted = submission.submission_set.entry_uuid if submission.submission_set is not None else ""
    for association in submission.associations:
        for end in dict.fromkeys((association.source, association.target)):
            if end not in new and end not in standing.objects and end not in standing.associations:
                why = f"it refers to {end[:100]}, which the registry does not have: register that first"
                yield RegistryError(UNRESOLVED, f"{association.entry_uuid}: {why}", association.entry_uuid)
        if association.type in RELATIONSHIPS:
            yield from _relationship(submission, association, standing)
        elif association.source == submitted:
            if isinstance(found := standing.objects.get(association.target), Stored) and isinstance(found.value, SubmissionSet):
                yield error(METADATA, association, "a SubmissionSet is no member of another")
        elif association.type == HAS_MEMBER:
            yield from _membership(submission, association, standing)


def _relationship(submission: Submission, association: Association, standing: Standing) -> Iterator[RegistryError]:
    """ITI TF-3 section 4.2.2.2: to a current Document Entry of the same patient."""
    yield from _end(submission, association, association.target, DocumentEntry, standing)
    target = standing.objects.get(association.target)
    if association.type == IS_SNAPSHOT_OF and target is not None and getattr(target.value, "object_type", ON_DEMAND) != ON_DEMAND:
        yield error(METADATA, association, "IsSnapshotOf goes to an on-demand DocumentEntry")


def _membership(submission: Submission, association: Association, standing: Standing) -> Iterator[RegistryError]:
    """ITI TF-3 section 4.2.2.1.2: a Folder has entries of its own patient."""
    yield from _end(submission, association, association.source, Folder, standing)
    yield from _end(submission, association, association.target, DocumentEntry, standing)


def _end(
    submission: Submission, association: Association, end: str, kind: type[DocumentEntry] | type[Folder], standing: Standing
) -> Iterator[RegistryError]:
    """What has to be true of an end that is registered: its kind, that it is current, and of the submission's patient."""
    stored = standing.objects.get(end)
    if stored is None:
        if end in standing.associations:
            yield error(METADATA, association, f"it refers to an Association, and has to refer to a {KIND_OF[kind].name}")
    elif not isinstance(stored.value, kind):
        yield error(METADATA, association, f"{end} is no {KIND_OF[kind].name}")
    else:
        yield from _current(association, stored)
        yield from _of_patient(submission, association, stored, standing)


def _current(association: Association, end: Stored) -> Iterator[RegistryError]:
    if end.value.status == DEPRECATED:
        why = f"it refers to {end.value.entry_uuid}, which is deprecated: refer to what replaced it"
        yield RegistryError(_DEPRECATED, f"{association.entry_uuid}: {why}", end.value.entry_uuid)


def _of_patient(submission: Submission, association: Association, end: Stored, standing: Standing) -> Iterator[RegistryError]:
    if not standing.is_hers(end):
        sent = submission.submission_set.patient_id if submission.submission_set is not None else ""
        why = f"it refers to {end.value.entry_uuid}, which is of another patient than the submission"
        yield RegistryError(_PATIENT, f"{association.entry_uuid}: {why}", end.value.entry_uuid, sent=sent)


def error(code: str, value: RegistryObject, words: str) -> RegistryError:
    """An error about an object of the message."""
    return RegistryError(code, f"{KIND_OF[type(value)].name} {value.entry_uuid[:100]}: {words}", value.entry_uuid[:100])


_RULES: Final[tuple[Callable[[Submission, Standing], Iterator[RegistryError]], ...]] = (
    _taken, _first_versions, unique_ids, _ends,
)  # fmt: skip

"""A registry as those who register meet it: submissions in, errors and objects out."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any

from peers.registry_objects import association, entry, folder, submission_set

from ihe.ebrs import ERROR, RegistryError, RegistryRefusal
from ihe.ebxml import Reading
from ihe.metadata import By
from profiles.document import (
    APPROVED,
    DEPRECATED,
    HAS_MEMBER,
    SUBMIT_ASSOCIATION,
    UPDATE_AVAILABILITY_STATUS,
    Association,
    DocumentEntry,
    Folder,
    RegistryObject,
    Submission,
)
from profiles.fhir.json import parse
from profiles.identifiers import PatientIdentifier
from profiles.study import Patient
from server.access.decisions import Decision, everything
from server.edges.context import Node
from server.records import patients, registry, resources
from server.work.registry.register import Done, register
from server.work.registry.remove import remove
from server.work.registry.update import update

PATIENT = "1^^^&1.3.6.1.4.1.21367.13.20&ISO"
OTHER = "2^^^&1.3.6.1.4.1.21367.13.20&ISO"
_WORK = {By.REGISTER: register, By.ON_DEMAND: register, By.UPDATE: update}
_numbers = count(1)


def unique_id() -> str:
    return f"2.25.7.{next(_numbers)}"


def document(id_: str = "Document01", **changed: Any) -> DocumentEntry:
    return entry(id_, **{"unique_id": unique_id(), "patient_id": PATIENT, **changed})


def stroke(**changed: Any) -> Folder:
    return folder(**{"unique_id": unique_id(), "patient_id": PATIENT, **changed})


def submitted(*objects: RegistryObject, patient: str = PATIENT, unique: str = "", members: bool = True) -> Submission:
    """A Submission of these, each a member of its Submission Set as it has to be."""
    whole = Submission(
        submission_set(unique_id=unique or unique_id(), patient_id=patient),
        tuple(each for each in objects if isinstance(each, DocumentEntry)),
        tuple(each for each in objects if isinstance(each, Folder)),
        tuple(each for each in objects if isinstance(each, Association)),
    )
    return replace(whole, associations=(*whole.associations, *_memberships(whole))) if members else whole


def _memberships(whole: Submission) -> Iterable[Association]:
    for value in whole.versioned():
        is_entry = isinstance(value, DocumentEntry)
        yield association(f"has-{value.entry_uuid}", "SubmissionSet01", value.entry_uuid, status="Original" if is_entry else "")
    for each in whole.associations:
        if each.type == HAS_MEMBER and each.source != "SubmissionSet01":
            yield association(f"has-{each.entry_uuid}", "SubmissionSet01", each.entry_uuid)


def new_version(value: Any, previous: int, **more: Any) -> Submission:
    """ITI-57: `value`, whose logicalID is there already, as the version after `previous`."""
    has = association("has-it", "SubmissionSet01", value.entry_uuid, status="Original", previous_version=str(previous), **more)
    return submitted(value, has, patient=value.patient_id, members=False)


def new_status(target: str, status: str, original: str = "", patient: str = PATIENT) -> Submission:
    before = original or (DEPRECATED if status == APPROVED else APPROVED)
    change = association(
        "change", "SubmissionSet01", target, UPDATE_AVAILABILITY_STATUS, original_status=before, new_status=status
    )
    return submitted(change, patient=patient, members=False)


def new_association(made: Association) -> Submission:
    return submitted(made, association("submits", "SubmissionSet01", made.entry_uuid, SUBMIT_ASSOCIATION), members=False)


@dataclass
class Registry:
    """The registry of a node, whose patients 1 and 2 are known."""

    node: Node
    decision: Decision = field(default_factory=lambda: everything("test"))

    def __post_init__(self) -> None:
        with self.node.database.write() as connection:
            for cx in (PATIENT, OTHER):
                patients.made(connection, Patient(PatientIdentifier.from_cx(cx), "DOE^JANE"))

    def submit(self, submission: Submission, by: By = By.REGISTER) -> Done:
        """Raises `RegistryRefusal`."""
        if errors := self.node.domain.check(submission, by, Reading()):
            raise RegistryRefusal(errors)
        return self.node.writes.run(lambda connection: _WORK[by](connection, self.decision, self.node.domain, submission))

    def update(self, submission: Submission) -> Done:
        return self.submit(submission, By.UPDATE)

    def remove(self, *ids: str) -> None:
        self.node.writes.run(lambda connection: remove(connection, self.decision, self.node.domain, ids))

    def errors(self, submission: Submission, by: By = By.REGISTER) -> list[str]:
        """The codes that it is refused with; empty if it is not."""
        found: tuple[RegistryError, ...] = ()
        try:
            self.submit(submission, by)
        except RegistryRefusal as refusal:
            found = refusal.errors
        assert all(error.severity == ERROR and error.context for error in found)
        return [error.code for error in found]

    def removing(self, *ids: str) -> list[str]:
        try:
            self.remove(*ids)
        except RegistryRefusal as refusal:
            return sorted({error.code for error in refusal.errors})
        return []

    def one(self, id_: str) -> Any:
        with self.node.database.read() as connection:
            (found,) = registry.by_uuid(connection, [id_])
        return found.value

    def has(self, *ids: str) -> bool:
        with self.node.database.read() as connection:
            return bool(registry.by_uuid(connection, ids) or registry.associations(connection, ids))

    def around(self, *ids: str) -> Sequence[Association]:
        with self.node.database.read() as connection:
            return registry.associations(connection, ids)

    def count(self) -> int:
        with self.node.database.read() as connection:
            return len(registry.objects(connection))

    def shown(self, type_: str, id_: str) -> dict[str, Any]:
        """The FHIR face. Raises `Gone`, `NotFound`."""
        with self.node.database.read() as connection:
            return parse(resources.read(connection, type_, id_.removeprefix("urn:uuid:")).body)

"""Register Document Set-b (ITI-42) and Register On-Demand Document Entry (ITI-61): a submission becomes part of the registry, or nothing of it.

ITI TF-2 sections 3.42.4.1.3 and 3.61.4.1.3, ITI TF-3 sections 4.1 and 4.2.
"""

import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from sqlalchemy import Connection

from ihe.ebrs import RegistryRefusal
from ihe.metadata_rules import resolved
from profiles.document import (
    APND,
    APPROVED,
    DEPRECATED,
    HAS_MEMBER,
    REPLACING,
    SIGNS,
    XFRM,
    Association,
    Submission,
    SubmissionSet,
)
from profiles.timestamps import dtm
from server.access.decisions import Decision, Interaction
from server.records import registry, repository
from server.records.registry_values import Registered
from server.store.db import micros, moment
from server.work.registry import faces, rules
from server.work.registry.domain import Domain
from server.work.registry.standing import LIST, Standing, owner, require, standing, unknown_patient

_FOLLOWING: Final = frozenset({APND, XFRM, SIGNS})
"""What is about a document goes with it when it is replaced (ITI TF-3 section 4.2.2.2.3)."""
FEW: Final = 16
"""Documents up to which a submission may wait for others, and they for it, to be written together: behind a savepoint, as SQLite does that, each
further statement takes the longer the more was changed since."""


@dataclass(frozen=True, slots=True)
class Done:
    """What was registered: the id of the patient's Patient, her row, and the submission with real ids; `former` are those whose objects it was before."""

    patient: str
    patient_pk: int
    submission: Submission
    former: frozenset[str] = frozenset()


@dataclass(slots=True)
class _Plan:
    """What a submission changes beside what it adds."""

    deprecated: set[str] = field(default_factory=set)
    filed: list[Association] = field(default_factory=list)
    folders: set[str] = field(default_factory=set)


def new_uuid() -> str:
    """A fresh entryUUID."""
    return uuid.uuid4().urn


def register(connection: Connection, decision: Decision, domain: Domain, submission: Submission) -> Done:
    """Registers a submission that `Domain.check` finds nothing wrong with.

    Raises `RegistryRefusal` with everything that the registry knows to be wrong, `Forbidden` for who may not register for the patient.
    """
    decision.require(LIST, Interaction.CREATE)  # who may register for nobody learns of nobody
    given, submission = submission, resolved(submission, new_uuid)
    assert submission.submission_set is not None
    whose = owner(connection, domain, submission.submission_set.patient_id, _names(submission))
    if whose is None:
        decision.require_patients(LIST, Interaction.CREATE, frozenset([submission.submission_set.patient_id]))  # as of a stranger
        raise unknown_patient(submission.submission_set.patient_id)
    require(decision, Interaction.CREATE, whose.id, LIST)
    _require_own(connection, decision, domain, submission, whose.id)
    before = standing(connection, decision, whose, given)
    if errors := rules.check(submission, before):
        raise RegistryRefusal(errors)
    now = micros()
    plan = _planned(connection, submission, before)
    made = _dated(submission, plan, dtm(moment(now)))
    associations = [replace(each, status=APPROVED) for each in (*submission.associations, *plan.filed)]
    registry.add_all(connection, made, patient_pk=whose.pk, origin="xds", now=now)
    registry.associate(connection, associations)
    if plan.deprecated:
        registry.set_status(connection, plan.deprecated, DEPRECATED)
    new = {value.entry_uuid for value in made}
    if known := plan.folders - new:
        registry.set_time(connection, known, dtm(moment(now)))
    sent = {value.entry_uuid for value in given.objects()} & new
    faces.show(connection, domain, whose.id, made, associations, before.kinds | faces.kinds(made), now, sent)
    if changed := (plan.deprecated | known) - new:
        faces.again(connection, domain, sorted(changed), now)
    return Done(whose.id, whose.pk, submission)


def _require_own(connection: Connection, decision: Decision, domain: Domain, submission: Submission, whose: str) -> None:
    """Who registers a document that our repository holds for another may read it there: an entry of one's own would open its bytes. Raises `Forbidden`."""
    ours = [each.unique_id for each in submission.documents if each.repository_unique_id == domain.repository]
    others = {each.patient for each in repository.held(connection, ours).values()} - {whose} if ours else ()
    for patient in sorted(others):
        require(decision, Interaction.READ, patient)


def _names(submission: Submission) -> Iterator[str]:
    """What two submissions at once must not both have: uniqueIds, and the patient, whose documents and Folders they change."""
    assert submission.submission_set is not None
    yield submission.submission_set.patient_id
    for value in submission.objects():
        if not isinstance(value, Association):
            yield value.unique_id


def _planned(connection: Connection, submission: Submission, before: Standing) -> _Plan:
    """ITI TF-3 section 4.2.2.2.3: what is replaced is deprecated, with what is about it, and the replacement joins its Folders."""
    plan = _Plan()
    assert submission.submission_set is not None
    filed = {(each.source, each.target) for each in submission.associations if each.type == HAS_MEMBER}
    for each in submission.associations:
        if each.type in REPLACING:
            plan.deprecated |= _with_following(connection, each.target, before)
            for membership in before.folders_of(each.target):
                if (membership.source, each.source) not in filed:
                    plan.filed += joined(submission.submission_set, membership.source, each.source)
    for each in (*submission.associations, *plan.filed):
        if each.type == HAS_MEMBER and each.source != submission.submission_set.entry_uuid:
            plan.folders.add(each.source)
    return plan


def joined(submitted: SubmissionSet, folder: str, entry: str) -> Sequence[Association]:
    """A membership that the registry itself makes: the entry is in the Folder, and that belongs to the Submission Set."""
    membership = Association(new_uuid(), HAS_MEMBER, folder, entry)
    return membership, Association(new_uuid(), HAS_MEMBER, submitted.entry_uuid, membership.entry_uuid)


def _with_following(connection: Connection, replaced: str, before: Standing) -> set[str]:
    """The entry, and those that append, transform or sign it, or one of these."""
    found, following = {replaced}, _about({replaced}, before.associations.values())
    while following - found:
        found |= following
        following = _about(following, registry.associations(connection, sorted(following)))
    return found


def _about(targets: set[str], associations: Iterable[Association]) -> set[str]:
    return {each.source for each in associations if each.type in _FOLLOWING and each.target in targets}


def _dated(submission: Submission, plan: _Plan, now: str) -> list[Registered]:
    """The objects as the registry has them (ITI TF-3 sections 4.2.3.2.2, 4.2.3.4.6): approved, Folders as of now, versions 1."""
    assert submission.submission_set is not None
    made: list[Registered] = [replace(submission.submission_set, status=APPROVED)]
    for entry in submission.documents:
        status = DEPRECATED if entry.entry_uuid in plan.deprecated else APPROVED
        made.append(replace(entry, status=status, logical_id=entry.entry_uuid, version=1))
    made += (
        replace(each, status=APPROVED, logical_id=each.entry_uuid, version=1, last_update=now) for each in submission.folders
    )
    return made

"""What the registry has of all that a submission names, held against others until the transaction ends."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection

from ihe.ebrs import RegistryError
from profiles.document import DEPRECATED, Association, DocumentEntry, Folder, Submission, is_uuid
from server.access.decisions import Decision, Interaction
from server.records import patients, registry
from server.records.registry import Stored
from server.records.registry_values import Registered
from server.store import locks
from server.work.registry.domain import Domain

_SPACE = "imageshare/registry"
LIST, DOCUMENT = "List", "DocumentReference"


@dataclass(frozen=True, slots=True)
class Owner:
    """The patient of a submission: her row, and the id of her Patient."""

    pk: int
    id: str


@dataclass(frozen=True, slots=True)
class Standing:
    """Objects and Associations by entryUUID: those that the submission names, and the Associations at any of them.

    `objects` are those that the caller may know of, `every` has all of them, with what Associations lead to and from.
    """

    owner: Owner
    objects: Mapping[str, Stored]
    every: Mapping[str, Stored]
    associations: Mapping[str, Association]
    by_unique_id: Mapping[str, Sequence[Stored]]

    def is_hers(self, stored: Stored) -> bool:
        """Whether it is of the submission's patient."""
        return stored.patient_pk == self.owner.pk

    def knows(self, association: Association) -> bool:
        """Whether the caller may know of all that a registered Association connects."""
        return all(end in self.objects for end in (association.source, association.target) if end in self.every)

    def folders_of(self, entry_uuid: str) -> list[Association]:
        """The approved memberships of an entry in Folders. Only of one that the submission names."""
        found = (each for each in self.associations.values() if each.target == entry_uuid and each.status != DEPRECATED)
        return [each for each in found if each.source in self.every and isinstance(self.every[each.source].value, Folder)]

    @property
    def kinds(self) -> dict[str, str]:
        """The FHIR type of the other rendering of each object."""
        return {id_: face(each.value) for id_, each in self.every.items()}


def hold(connection: Connection, names: Iterable[str]) -> None:
    """Nobody else registers with these uniqueIds, logicalIDs or patient ids until this transaction ends (PostgreSQL; on SQLite one writes alone)."""
    locks.hold(connection, _SPACE, names)


def owner(connection: Connection, domain: Domain, cx: str, names: Iterable[str]) -> Owner | None:
    """Who has this patient id in the affinity domain, whom nobody merges or moves until the transaction ends; None for nobody.

    `hold`s `names` first.
    """
    hold(connection, names)
    patients.lock(connection, cx)
    known = patients.registered(connection, cx, domain.authorities)
    return None if known is None else Owner(known.pk, known.id)


def standing(connection: Connection, decision: Decision, whose: Owner, submission: Submission, *more: str) -> Standing:
    """What is there of what `submission` names by real ids. What the caller may not know of is not. `more` are further entryUUIDs."""
    named = {each.entry_uuid for each in submission.objects()} | set(submission.references) | set(more)
    named |= {end for each in submission.associations for end in (each.source, each.target)}
    uuids = sorted(filter(is_uuid, named))
    objects = {each.value.entry_uuid: each for each in registry.by_uuid(connection, uuids)} if uuids else {}
    associations = {each.entry_uuid: each for each in registry.associations(connection, uuids)} if uuids else {}
    at = {end for each in associations.values() for end in (each.source, each.target)} - objects.keys()
    objects |= {each.value.entry_uuid: each for each in registry.by_uuid(connection, sorted(at))} if at else {}
    unique = [each.unique_id for each in submission.objects() if not isinstance(each, Association)]
    by_unique_id: dict[str, list[Stored]] = {}
    for each in registry.by_unique_id(connection, unique):
        by_unique_id.setdefault(each.value.unique_id, []).append(each)
    seen = {id_: each for id_, each in objects.items() if _may_name(connection, decision, whose, each)}
    return Standing(whose, seen, objects, associations, by_unique_id)


def _may_name(connection: Connection, decision: Decision, whose: Owner, stored: Stored) -> bool:
    """Whether a submission of this patient may refer to it: hers, or another's of whom the caller may read (ITI TF-3 section 4.1.4.1, by reference)."""
    is_known = stored.patient_pk == whose.pk or decision.sees_whose(
        connection, face(stored.value), Interaction.READ, stored.patient
    )
    return is_known and sees(connection, decision, stored)


def sees(connection: Connection, decision: Decision, stored: Stored) -> bool:
    """Whether consents do not withhold it from the caller: he may refer to it."""
    return decision.sees(connection, face(stored.value), Interaction.UPDATE, resource_id(stored.value.entry_uuid))


def require(decision: Decision, interaction: Interaction, whose: str, *types: str) -> None:
    """Raises `Forbidden` unless the caller may do this to the patient's documents, and to other types of hers that are named."""
    for type_ in dict.fromkeys((DOCUMENT, *types)):
        decision.require_patients(type_, interaction, frozenset([whose]))


def face(value: Registered) -> str:
    """The FHIR type of its other rendering."""
    return DOCUMENT if isinstance(value, DocumentEntry) else LIST


def resource_id(entry_uuid: str) -> str:
    """The id of its other rendering."""
    return entry_uuid.removeprefix("urn:uuid:")


def unknown_patient(cx: str) -> RegistryError:
    """ITI TF-3 table 4.2.4.1-2: the answer repeats the id that was sent, and nothing else does."""
    return RegistryError(
        "XDSUnknownPatientId",
        "the patientId of the SubmissionSet is not known here: register the patient by an identity feed (ITI-8) first, in this affinity domain",
        sent=cx,
    )

"""Remove Metadata (ITI-62): objects and Associations leave the registry, all that are named or none (ITI TF-2 section 3.62.4.1.3)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection

from ihe.ebrs import RegistryError, RegistryRefusal
from profiles.document import Association
from server.access.decisions import Decision, Interaction
from server.records import registry
from server.records.registry import Stored
from server.store.db import micros
from server.work.registry import faces
from server.work.registry.domain import Domain
from server.work.registry.rules import UNRESOLVED
from server.work.registry.standing import face, hold, sees

_MOST = 100


@dataclass(frozen=True, slots=True)
class _Named:
    """What is to be removed, and the Associations at any of it, whether removed or not."""

    objects: dict[str, Stored]
    associations: dict[str, Association]
    around: dict[str, Association]

    @property
    def ids(self) -> set[str]:
        return self.objects.keys() | self.associations.keys()


def remove(connection: Connection, decision: Decision, domain: Domain, entry_uuids: Sequence[str]) -> frozenset[str]:
    """Removes these. Returns the ids of the Patients whose they were.

    Raises `RegistryRefusal` with everything that is wrong, `Forbidden` for who may not delete of one of these patients.
    """
    wanted = list(dict.fromkeys(entry_uuids))
    patients = sorted({each.value.patient_id for each in _ends(connection, wanted)})
    hold(connection, patients)  # from here on nobody else changes what is theirs
    named = _named(connection, decision, wanted)
    whose = frozenset(each.patient for each in (*named.objects.values(), *_ends(connection, named.associations)))
    for type_ in sorted({face(each.value) for each in named.objects.values()}) or ["List"]:
        decision.require_patients(type_, Interaction.DELETE, whose)
    if errors := [each for each, _ in zip(_wrong(named, wanted), range(_MOST), strict=False)]:
        raise RegistryRefusal(errors)
    if left := _unreferenced(connection, named):
        raise RegistryRefusal(left)
    now = micros()
    registry.remove(connection, sorted(named.ids))
    faces.hide(connection, named.objects.values(), now)
    if changed := {each.source for each in named.around.values()} - named.ids:
        faces.again(connection, domain, sorted(changed), now)
    return whose


def _named(connection: Connection, decision: Decision, wanted: Sequence[str]) -> _Named:
    objects = {each.value.entry_uuid: each for each in registry.by_uuid(connection, wanted) if sees(connection, decision, each)}
    around = {each.entry_uuid: each for each in registry.associations(connection, wanted)}
    hidden = {each.value.entry_uuid for each in _ends(connection, wanted) if not sees(connection, decision, each)}
    known = {id_: each for id_, each in around.items() if id_ in set(wanted) and hidden.isdisjoint((each.source, each.target))}
    return _Named(objects, known, around)


def _ends(connection: Connection, ids: Sequence[str] | dict[str, Association]) -> list[Stored]:
    """The objects of these ids, and those at the ends of Associations of these ids."""
    at = {end for each in registry.associations(connection, ids) for end in (each.source, each.target)}
    return registry.by_uuid(connection, sorted({*ids, *at})) if ids else []


def _wrong(named: _Named, wanted: Sequence[str]) -> Iterator[RegistryError]:
    for id_ in wanted:
        if id_ not in named.ids:
            yield RegistryError(UNRESOLVED, f"{id_[:100]}: the registry has no object with this entryUUID", id_[:100])
    for id_, each in named.objects.items():
        if each.origin != "xds":
            words = "is kept by the server itself: it goes with its study or its FHIR resource"
            yield RegistryError("XDSRegistryError", f"{id_}: this {words}", id_)
    for association in named.around.values():
        if association.entry_uuid in named.ids:
            continue
        for end in (association.source, association.target):
            if end in named.ids:
                why = f"the Association {association.entry_uuid} refers to it: remove that too"
                yield RegistryError("ReferencesExistException", f"{end}: {why}", end)


def _unreferenced(connection: Connection, named: _Named) -> list[RegistryError]:
    """ITI TF-2 section 3.62.4.1.3: nothing is left over that no Association leads to or from."""
    ends = {end for each in named.associations.values() for end in (each.source, each.target)} - named.ids
    still = {
        end
        for each in registry.associations(connection, sorted(ends))
        if each.entry_uuid not in named.ids
        for end in (each.source, each.target)
    }
    return [
        RegistryError("XDSUnreferencedObjectException", f"{end}: nothing would refer to it any more: remove it too", end)
        for end in sorted(ends - still)
    ][:_MOST]

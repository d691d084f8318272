"""Patient Identity Feed [ITI-8], ITI TF-2 sections 3.8.4.1.3 and 3.8.4.2.4, Document Registry: who is who, as patient identity sources say.

And Notify XAD-PID Link Change [ITI-64], which comes the same way: whose the documents of a hospital's patient are.

A patient of the feed is a patient of the catalogue and a FHIR Patient. A message changes all of that, and is in the trail, in one transaction; what
studies of hers say is corrected before it is answered. Nothing is changed by a message that is refused.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeAlias

from sqlalchemy import Connection

from ihe.hl7v2 import MessageRefused
from ihe.iti8 import Feed, Identifier, identified
from ihe.iti64 import LinkChange
from profiles.audit_event import ITI_8, ITI_64, REFUSED, Agent, AuditedEntity, Kind, Outcome, Subtype
from profiles.demographics import Demographics, elements
from profiles.dicom_json import Attributes
from profiles.identifiers import PatientIdentifier
from profiles.patient import fhir_patient
from profiles.study import Patient
from server.records import corrections, patients
from server.records.installation import Installation
from server.records.patients import Known
from server.records.trail import Trail
from server.settings import Settings
from server.store.blobs import BlobStore
from server.store.db import Database
from server.work import link_change
from server.work.corrections import Corrector
from server.work.fhir import projections
from server.work.reconcile import Actor, Reconciler
from server.work.registry.domain import Domain

Also: TypeAlias = Callable[[Connection], None]
"""What else belongs to the transaction of a message."""
_LONGEST: Final = 64
_SUBSUMED: Final = "the patient was merged into another; use the identifier of that one"


@dataclass(frozen=True, slots=True)
class _Subject:
    """A patient of a message: who that is, and the field that says so."""

    identifier: PatientIdentifier
    segment: str
    number: int

    def refused(self, condition: str, why: str) -> MessageRefused:
        return MessageRefused(condition, why, self.segment, self.number)


class PatientFeed:
    """Does what messages say. Safe for threads."""

    def __init__(
        self, settings: Settings, database: Database, blobs: BlobStore, installation: Installation, trail: Trail
    ) -> None:
        reconciler = Reconciler(settings, database, blobs, installation, trail)
        self._named = settings.authorities
        self._registry = Domain.of(settings, installation)
        self._domain = self._registry.authorities
        self._database = database
        self._trail = trail
        self._base = reconciler.base
        self._corrector = Corrector(reconciler, database, blobs, installation.patients.oid)

    def take(self, feed: Feed | LinkChange, sender: Agent, also: Also) -> None:
        """Does what the message says; `also` is part of its last transaction. Raises `MessageRefused`, and what the database raises."""
        patient = self._subject(feed.patient, "PID", 3)
        if isinstance(feed, LinkChange):
            self._link(feed, self._subject(feed.previous, "MRG", 1), patient, sender, also)
        elif feed.is_merge:
            self._merge(feed, self._subject(feed.subsumed, "MRG", 1), patient, sender, also)
        else:
            self._register(feed, patient, sender, also)

    def refused(self, feed: Feed | LinkChange | None, sender: Agent, why: str, outcome: Outcome = REFUSED) -> None:
        """Section 3.8.5.1: what was refused is in the trail as well, of the patient whom it was about if she is known."""
        with self._database.write() as connection:
            found = self._about(connection, feed) if feed is not None else None
            kind: Kind = "update" if found is not None else "create"
            action = self._trail.action(
                kind, _subtype(feed), sender, rest=False, outcome=outcome, outcome_desc=why, patient_id=found.id if found is not None else "",
                entities=_said_in(feed) if feed is not None else (),
            )  # fmt: skip
            self._trail.record(connection, action)

    def _about(self, connection: Connection, feed: Feed | LinkChange) -> Known | None:
        try:
            return patients.find(connection, self._subject(feed.patient, "PID", 3).identifier)
        except MessageRefused:
            return None

    # --- section 3.8.4.1.3: registered or updated

    def _register(self, feed: Feed, subject: _Subject, sender: Agent, also: Also) -> None:
        with self._database.write() as connection:
            known = self._found_or_made(connection, subject, feed, sender)
            if known is None:
                also(connection)
                return
            if known.merged_into is not None:
                raise subject.refused("204", _SUBSUMED)
            changed = _changed(known, feed.demographics)
            if not changed:
                self._publish(connection, known.id, feed)
                self._tell(connection, "update", known.id, feed, sender)
                also(connection)
                return
        id_ = known.id

        def rest(connection: Connection) -> None:
            self._require_active(connection, subject)
            self._publish(connection, id_, feed)
            self._tell(connection, "update", id_, feed, sender)
            also(connection)

        self._corrector.update_patient(id_, changed, actor=Actor(sender, rest=False), also=rest)

    def _found_or_made(self, connection: Connection, subject: _Subject, feed: Feed, sender: Agent) -> Known | None:
        """Who has the identifier; None where nobody had, and she has been made."""
        if (known := patients.find(connection, subject.identifier)) is not None:
            return known
        said = feed.demographics
        id_ = patients.made(connection, Patient(subject.identifier, said.name or "", said.dicom_birth_date, said.dicom_sex))
        if id_ is None:
            return patients.find(connection, subject.identifier)
        self._publish(connection, id_, feed)
        self._tell(connection, "create", id_, feed, sender)
        return None

    def _publish(self, connection: Connection, id_: str, feed: Feed) -> None:
        """The Patient with all that the feed says of her."""
        said, named = elements(feed.demographics)
        projection = {**fhir_patient(corrections.patient(connection, id_).patient), "active": True, **said}
        projections.published(connection, projection, base=self._base, said=named | {"active"})

    def _require_active(self, connection: Connection, subject: _Subject) -> None:
        known = patients.find(connection, subject.identifier)
        if known is None or known.merged_into is not None:
            raise subject.refused("204", _SUBSUMED)

    # --- section 3.8.4.2.4: merged

    def _merge(self, feed: Feed, subsumed: _Subject, surviving: _Subject, sender: Agent, also: Also) -> None:
        if _key(subsumed) == _key(surviving):
            raise subsumed.refused("205", "the patient identifiers of MRG-1 and PID-3 are the same")
        with self._database.write() as connection:
            source, target = (patients.find(connection, each.identifier) for each in (subsumed, surviving))
            if source is None:
                raise subsumed.refused("204", "nobody is known by the identifier of MRG-1")
            if target is not None and target.merged_into is not None:
                raise surviving.refused("204", _SUBSUMED)
            if source.merged_into is not None:
                if target is None or source.merged_into != target.pk:
                    raise subsumed.refused("204", _SUBSUMED)
                self._tell(connection, "update", target.id, feed, sender)
                also(connection)  # it is so already
                return
            if target is None:
                self._found_or_made(connection, surviving, feed, sender)
                target = patients.find(connection, surviving.identifier)
                assert target is not None
        source_id, target_id = source.id, target.id

        def first(connection: Connection) -> None:
            self._require_active(connection, subsumed)
            self._tell(connection, "delete", source_id, feed, sender)
            self._tell(connection, "update", target_id, feed, sender)
            also(connection)

        self._corrector.merge(source_id, target_id, actor=Actor(sender, rest=False), first=first)

    # --- section 3.64.4.1.3: documents of a hospital's patient are another's

    def _link(self, change: LinkChange, previous: _Subject, new: _Subject, sender: Agent, also: Also) -> None:
        local = self._others(change.patient, new)
        subsumed = [each for each in self._others(change.previous, previous) if each not in local]
        if _key(previous) == _key(new):
            raise previous.refused("205", "the patient identifiers of MRG-1 and PID-3 are the same")
        if len(local) != 1:
            raise new.refused("102", "PID-3 has one patient id of the affinity domain, and one local patient id beside it")
        with self._database.write() as connection:
            before, after = (patients.find(connection, each.identifier) for each in (previous, new))
            for known, subject in ((before, previous), (after, new)):
                if known is None:
                    raise subject.refused("204", "nobody is known by this identifier: register the patient (A01, A04, A05) first")
                if known.merged_into is not None:
                    raise subject.refused("204", _SUBSUMED)
            assert before is not None
            assert after is not None
            link_change.move(connection, self._registry, before, after, local[0], subsumed)
            for known in (before, after):
                self._tell(connection, "update", known.id, change, sender)
            also(connection)

    def _others(self, identifiers: tuple[Identifier, ...], subject: _Subject) -> list[PatientIdentifier]:
        """What stands beside the patient id of the affinity domain, with who assigned it."""
        found = [identified(each, self._named) for each in identifiers]
        if None in found:
            raise subject.refused("102", f"{subject.segment}-{subject.number} has an identifier that nobody known assigned")
        return [each for each in found if each is not None and _same(each) != _same(subject.identifier)]

    # --- whose message it is

    def _subject(self, identifiers: tuple[Identifier, ...], segment: str, number: int) -> _Subject:
        """Section 3.8.4.1.3: identifiers of other domains than the affinity domain's are ignored; without one the message is refused."""
        found = [each for each in (identified(one, self._named) for one in identifiers) if each is not None]
        mine = [each for each in found if not self._domain or each.authority.oid in self._domain]
        if not mine:
            wanted = " or ".join(sorted(self._domain)[:5]) if self._domain else "an OID with ISO"
            why = f"{segment}-{number} has no identifier of the affinity domain: its assigning authority (component 4) must be {wanted}"
            raise MessageRefused("204", why, segment, number)
        if "\\" in mine[0].value or len(mine[0].value) > _LONGEST or not mine[0].value.isprintable():
            why = f"{segment}-{number} has a patient id that DICOM cannot say (PS3.5 table 6.2-1, LO): at most {_LONGEST} characters, no backslash"
            raise MessageRefused("102", why, segment, number)
        return _Subject(mine[0], segment, number)

    def _tell(self, connection: Connection, kind: Kind, patient: str, feed: Feed | LinkChange, sender: Agent) -> None:
        action = self._trail.action(kind, _subtype(feed), sender, rest=False, patient_id=patient, entities=_said_in(feed))
        self._trail.record(connection, action)


def _subtype(feed: Feed | LinkChange | None) -> Subtype:
    return ITI_64 if isinstance(feed, LinkChange) else ITI_8


def _said_in(feed: Feed | LinkChange) -> tuple[AuditedEntity, ...]:
    """ITI TF-2 section 3.8.5.1: the message is named by its control id."""
    return (AuditedEntity(details=(("MSH-10", feed.control_id),)),)


def _key(subject: _Subject) -> tuple[str, str]:
    return _same(subject.identifier)


def _same(identifier: PatientIdentifier) -> tuple[str, str]:
    return identifier.authority.oid, identifier.value


def _changed(known: Known, said: Demographics) -> Attributes:
    """What the images of a patient say otherwise than the message does."""
    wanted = {
        "00100010": (said.name, known.name, "PN"),
        "00100030": (said.dicom_birth_date if said.birth_date is not None else None, known.birth_date, "DA"),
        "00100040": (said.dicom_sex if said.sex is not None else None, known.sex, "CS"),
    }
    return {
        tag: {"vr": vr, **_value(vr, value)}
        for tag, (value, had, vr) in wanted.items()
        if value is not None and value != had.rstrip("^= ")
    }


def _value(vr: str, value: str) -> dict[str, object]:
    if not value:
        return {}
    if vr != "PN":
        return {"Value": [value]}
    groups = zip(("Alphabetic", "Ideographic", "Phonetic"), value.split("="), strict=False)
    return {"Value": [{name: group for name, group in groups if group}]}

"""Correcting whose a study is and what it says: one patient, moved studies, merged patients (HL7 ADT A08, A40; IHE RAD PIR).

Bytes that came stay as they are. What leaves is a corrected copy of each instance (`profiles.correction`): patient and study
attributes differ, pixel data and all else do not, so every door out serves what the catalogue says. Copies are made first, then
rows, FHIR, documents and the feed change in one transaction.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, replace
from typing import TypeAlias

from sqlalchemy import Connection, select

from profiles import frames, part10
from profiles.correction import CannotCorrect, corrected, patient_attributes, text
from profiles.dicom_json import Attributes
from profiles.header import PatientDomains
from profiles.identifiers import InvalidIdentifier, PatientIdentifier
from profiles.patient import fhir_patient
from profiles.study import Patient
from server.access import epoch
from server.errors import Busy, Conflict, NotFound, Refused
from server.records import belonging, catalogue, consent_rules, corrections, registry, rejections, resources
from server.records.changes import Event
from server.records.corrections import Copy, StoredPatient
from server.store import blobs as blob_store
from server.store.blobs import BlobStore
from server.store.db import Database, micros
from server.work.fhir import projections
from server.work.ingest import discard
from server.work.reconcile import Actor, Changing, Reconciler
from server.work.registry import faces
from server.work.registry.domain import Domain

PATIENT_TAGS = frozenset({"00100010", "00100020", "00100021", "00100024", "00100030", "00100040"})
_SAID = {"00100010": "name", "00100030": "birthDate", "00100040": "gender"}
"""What an update of a patient may name, and the element of Patient that it is."""
_ATTEMPTS = 3


class Copies:
    """Makes corrected copies of instances."""

    def __init__(self, database: Database, blobs: BlobStore, default_authority: str) -> None:
        self._database = database
        self._blobs = blobs
        self._default = default_authority

    @contextmanager
    def made(self, originals: Sequence[corrections.Bytes], attributes: Attributes) -> Iterator[list[Copy]]:
        """Committed blobs; deleted again where the block fails. Raises `Refused` where a file cannot say it."""
        batch, copies = blob_store.batch(), list[Copy]()
        try:
            for original in originals:
                copies.append(self._copy(batch, original, attributes))
            yield copies
        except BaseException as error:
            for copy in copies:
                discard(self._database, self._blobs, copy.blob.id)
            if isinstance(error, CannotCorrect):
                raise Refused(str(error)) from None
            raise

    def _copy(self, batch: str, original: corrections.Bytes, attributes: Attributes) -> Copy:
        writer = self._blobs.create(batch)
        try:
            with closing(self._blobs.open(original.blob_id)) as file:
                for chunk in corrected(file, attributes):
                    writer.write(chunk)
            blob = writer.commit()
        finally:
            writer.abort()
        with closing(self._blobs.open(blob.id)) as file:
            table = frames.table(part10.parse(file), file)
        return Copy(original.pk, blob, table.to_bytes() if table else None)

    def apply_late(self, study_pks: Sequence[int]) -> None:
        """Corrects what came late for corrected studies and merged patients, before it is prepared and published.

        Raises `Busy` where the study is corrected again and again meanwhile.
        """
        for study_pk in study_pks:
            for _ in range(_ATTEMPTS):
                with suppress(_Outrun):
                    self._apply_late(study_pk)
                    break
            else:
                raise Busy("the study is corrected just now; try again")

    def _apply_late(self, study_pk: int) -> None:
        with self._database.read() as connection:
            attributes = self._said(connection, study_pk)
            late = corrections.originals(connection, study_pk, late=True) if attributes else []
        if not late:
            return
        with self.made(late, attributes) as copies, self._database.write() as connection:
            connection.execute(select(catalogue.STUDY.c.pk).where(catalogue.STUDY.c.pk == study_pk).with_for_update())
            now = corrections.originals(connection, study_pk, late=True)
            if self._said(connection, study_pk) != attributes or not set(late) <= set(now):
                raise _Outrun
            if corrections.of(connection, study_pk) != attributes:
                corrections.put(connection, study_pk, attributes, who="")
            for copy in copies:
                corrections.replace(connection, copy, attributes)

    def _said(self, connection: Connection, study_pk: int) -> Attributes:
        """What every instance of the study has to say: its correction, and whose it is where that was changed."""
        attributes = corrections.of(connection, study_pk)
        if belonging.names_another(connection, study_pk):
            owner = corrections.of_study(connection, study_pk).patient
            attributes = {**attributes, **patient_attributes(owner, self._default)}
        return attributes


class _Outrun(Exception):
    """Something came in or was corrected since the copies were made."""


Wanted: TypeAlias = Callable[[Connection], tuple[Sequence[str], Attributes]]
"""Which studies a correction is of, and what they say afterwards: asked before the copies are made and again in the transaction."""
Also: TypeAlias = Callable[[Connection], None]


def _nothing(_: Connection) -> None:
    """Nothing else belongs to the transaction."""


@dataclass(slots=True)
class _Plan:
    """A study that is to be corrected, as it was when its copies were made."""

    study_uid: str
    study_pk: int
    before: Attributes
    """The correction that was in force."""
    overlay: Attributes
    originals: list[corrections.Bytes]
    copies: list[Copy]


class Corrector:
    """Corrects patients and studies. Safe for threads."""

    def __init__(self, reconciler: Reconciler, database: Database, blobs: BlobStore, default_authority: str) -> None:
        self._reconciler = reconciler
        self._database = database
        self._copies = Copies(database, blobs, default_authority)
        self._default = default_authority

    def correct(self, study_uid: str, attributes: Attributes, domains: PatientDomains, *, actor: Actor) -> None:
        """What somebody says of a study and its patient, one after the other; another Patient ID moves the study.

        Raises `NotFound`, `Refused`.
        """
        if {"00100024", "0020000D"} & attributes.keys():
            raise Refused("a study keeps its UID; an issuer is given by Issuer of Patient ID (0010,0021)")
        own = {tag: value for tag, value in attributes.items() if tag not in PATIENT_TAGS}
        if "00100020" in attributes:
            self.move_study(study_uid, _named(attributes, domains), actor=actor)
        elif patient := {tag: value for tag, value in attributes.items() if tag in PATIENT_TAGS}:
            with self._database.read() as connection:
                id_ = catalogue.patient_id(
                    connection, catalogue.patient_pk(connection, catalogue.study_pk(connection, study_uid))
                )
            self.update_patient(id_, patient, actor=actor)
        if own:
            self.correct_study(study_uid, own, actor=actor)

    def correct_study(self, study_uid: str, attributes: Attributes, *, actor: Actor) -> None:
        """Changes what a study says of itself: its attributes of PS3.3 section C.7.2.1. Raises `NotFound`, `Refused`."""
        if PATIENT_TAGS & attributes.keys():
            raise Refused("the patient of a study is changed by moving it to another, or by updating the patient")
        self._apply(lambda _: ([study_uid], attributes), "update", actor)

    def update_patient(self, id_: str, attributes: Attributes, *, actor: Actor, also: Also = _nothing) -> None:
        """HL7 v2 ADT A08: name, birth date and sex of a patient, in every study of hers. Raises `NotFound`, `Refused`.

        `also` is called at the end of the transaction.
        """
        if not attributes.keys() <= _SAID.keys():
            raise Refused("of a patient name, birth date and sex can be updated; for another Patient ID merge or move")
        with self._database.read() as connection:
            pk = corrections.patient(connection, id_).pk

        def wanted(connection: Connection) -> tuple[Sequence[str], Attributes]:
            now = _updated(corrections.patient(connection, id_).patient, attributes)
            return corrections.studies(connection, pk), patient_attributes(now, self._default)

        def rows(connection: Connection) -> None:
            corrections.lock_patient(connection, pk)
            now = _updated(corrections.patient(connection, id_).patient, attributes)
            corrections.change_patient(connection, pk, now)
            said = [element for tag, element in _SAID.items() if tag in attributes]
            projections.published(connection, fhir_patient(now), base=self._reconciler.base, said=said)
            also(connection)

        self._apply(wanted, "update", actor, rows)

    def move_study(self, study_uid: str, to: Patient, *, actor: Actor) -> None:
        """The study was another patient's: to whom it belongs is found by identifier, else made. Raises `NotFound`, `Refused`."""
        with self._database.write() as connection:
            if connection.execute(select(catalogue.STUDY.c.pk).where(catalogue.STUDY.c.uid == study_uid)).first() is None:
                raise NotFound("no such study")
            target = corrections.found_or_made(connection, to)

        def wanted(connection: Connection) -> tuple[Sequence[str], Attributes]:
            return [study_uid], self._whose(connection, target)

        self._apply(wanted, "update", actor, lambda connection: corrections.lock_patient(connection, target.pk), target.pk)

    def merge(self, source_id: str, target_id: str, *, actor: Actor, first: Also = _nothing) -> int:
        """HL7 v2 ADT A40: all of the source's studies are the target's, also those to come. Returns how many moved.

        FHIR R4 section 8.1.8: the source stays as an inactive Patient that says by whom it was replaced. `first` is called in the transaction,
        which has both patients to itself, before they are merged.
        """
        with self._database.read() as connection:
            source, target = corrections.patient(connection, source_id), corrections.patient(connection, target_id)
        if source.pk == target.pk:
            raise Refused("a patient cannot be merged into herself")

        def wanted(connection: Connection) -> tuple[Sequence[str], Attributes]:
            return corrections.studies(connection, source.pk), self._whose(connection, target)

        def rows(connection: Connection) -> None:
            corrections.lock_patient(connection, source.pk, studies=True)
            corrections.lock_patient(connection, target.pk)
            if belonging.merged(connection, target.pk) != target.pk:
                raise Conflict("the patient to merge into was merged into another; merge into that one")
            first(connection)
            documents = registry.registered_of(connection, belonging.rows(connection, source.pk))
            belonging.merge(connection, source.pk, target.pk)
            base, known = self._reconciler.base, corrections.patient(connection, target_id).patient
            projections.published(connection, fhir_patient(known), base=base)
            projections.replaced(connection, source.patient, target.patient.id, base=base)
            faces.again(connection, Domain(base, self._reconciler.repository), documents, micros())
            consent_rules.merged(connection, target.patient.id, base=base)
            epoch.raise_(connection)  # whoever may see the source's records may see the target's now

        return self._apply(wanted, "merge", actor, rows, target.pk)

    def _whose(self, connection: Connection, owner: StoredPatient) -> Attributes:
        """What the studies of a patient say of her, as she is known now."""
        return patient_attributes(corrections.patient(connection, owner.patient.id).patient, self._default)

    def _apply(
        self,
        wanted: Wanted,
        event: Event,
        actor: Actor,
        rows: Callable[[Connection], None] = lambda _: None,
        patient_pk: int | None = None,
    ) -> int:
        """Copies of all studies first, then one transaction; once more where something came in between. Returns how many studies."""
        for _ in range(_ATTEMPTS):
            with suppress(_Outrun), ExitStack() as copies:
                with self._database.read() as connection:
                    studies, attributes = wanted(connection)
                plans = [self._plan(uid, attributes, copies) for uid in studies]
                with self._reconciler.changing_all(studies) as (connection, changing):
                    rows(connection)
                    if wanted(connection) != (studies, attributes):
                        raise _Outrun
                    for change, plan in zip(changing, plans, strict=True):
                        self._study(change, plan, patient_pk, is_other=event != "merge")
                    for change in changing:
                        found = rejections.affected(connection, change.study_uid)
                        self._reconciler.tell(change, actor, "update", event, found)
                break
        else:
            raise Busy("images of the study are coming in just now; try again")
        self._reconciler.erase()
        return len(studies)

    def _plan(self, study_uid: str, attributes: Attributes, copies: ExitStack) -> _Plan:
        with self._database.read() as connection:
            study_pk = catalogue.study_pk(connection, study_uid)
            before = corrections.of(connection, study_pk)
            originals = corrections.originals(connection, study_pk)
        overlay = {**before, **attributes}
        made = copies.enter_context(self._copies.made(originals, overlay))
        return _Plan(study_uid, study_pk, before, overlay, originals, made)

    def _study(self, change: Changing, plan: _Plan, patient_pk: int | None, *, is_other: bool) -> None:
        """`is_other`: the study's new patient is somebody else. A merge says that both are one, and what clients said of her is true still."""
        connection, moved = change.connection, False
        if plan.originals != corrections.originals(connection, plan.study_pk):
            raise _Outrun
        if plan.before != corrections.of(connection, plan.study_pk):
            raise _Outrun
        for copy in plan.copies:
            corrections.replace(connection, copy, plan.overlay)
        corrections.put(connection, plan.study_pk, plan.overlay, who="")
        corrections.change_study(connection, plan.study_pk, plan.overlay)
        if patient_pk is not None:
            moved = belonging.move(connection, plan.study_pk, patient_pk)
            # Documents that name the former patient are not this one's to read.
            self._reconciler.forget_documents(change)
        is_shown = self._reconciler.shown(change, forget=moved and is_other)
        if is_shown and moved and is_other:  # nor are the versions that do
            resources.forget_history(connection, "ImagingStudy", catalogue.study_id(connection, plan.study_pk))


def _named(attributes: Attributes, domains: PatientDomains) -> Patient:
    """Whom a correction names; what it says besides counts where nobody of that identifier is known."""
    said = {tag: text(value) for tag, value in attributes.items()}
    try:
        identifier = PatientIdentifier(said["00100020"], domains.authority(said.get("00100021", ""), "", ""))
    except InvalidIdentifier as error:
        raise Refused(str(error)) from None
    return Patient(identifier, said.get("00100010", ""), said.get("00100030", ""), said.get("00100040", ""))


def _updated(patient: Patient, attributes: Attributes) -> Patient:
    said = {tag: text(value) for tag, value in attributes.items()}
    return replace(
        patient,
        name=said.get("00100010", patient.name),
        birth_date=said.get("00100030", patient.birth_date),
        sex=said.get("00100040", patient.sex),
    )

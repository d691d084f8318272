"""IHE RAD TF-1 Imaging Object Change Management: rejecting, restoring and purging what was stored, behind every face at once.

Each act on a study is one transaction: rows, ImagingStudy, manifest, Document Entry, trail and change feed change together.
Rejected is hidden and can be restored; purged is gone, rows first, files after the commit (`ERASE` does what a crash left).
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field

from sqlalchemy import Connection, select

from profiles.audit_event import REFUSED, REST_DELETE, REST_UPDATE, Agent, AuditedEntity, Kind, Subtype
from profiles.manifest import ManifestContent, NotAManifest, read
from profiles.part10 import HeaderError, parse
from profiles.patient import fhir_patient
from profiles.vocabulary import DICOM_UID_SYSTEM
from server.errors import LegallyHeld, MalformedQuery, NotFound
from server.records import catalogue, changes, corrections, documents, rejections, resources
from server.records.changes import Event
from server.records.installation import Installation
from server.records.rejections import DELETED, QUALITY, REASONS, Affected
from server.records.trail import Trail
from server.settings import Settings
from server.store import jobs
from server.store.blobs import BlobStore
from server.store.db import Database, micros
from server.telemetry import log
from server.work.faces import Faces
from server.work.fhir import projections
from server.work.ingest import PUBLISH

NOTE = "rejection-note"
"""Kind of the job whose key is the row of a Key Object Selection that may be a rejection note."""
ERASE = "erase"
"""Kind of the job that removes the files of purged blobs."""


@dataclass(frozen=True, slots=True)
class Target:
    """A study, or a series of it, or an instance of that."""

    study_uid: str
    series_uid: str | None = None
    uid: str | None = None


@dataclass(frozen=True, slots=True)
class Actor:
    """Who asks, for the trail."""

    agent: Agent
    rest: bool = True
    request_id: str = ""
    token_id: str = field(default="", repr=False)

    @property
    def name(self) -> str:
        return self.agent.identifier


@dataclass(slots=True)
class Changing:
    """One study in the middle of a change. `manifests` holds what must be undone if the transaction fails."""

    connection: Connection
    study_pk: int
    study_uid: str
    manifests: ExitStack
    now: int


class Reconciler:
    """Changes what is stored. Safe for threads: each act takes the study's row first."""

    def __init__(
        self, settings: Settings, database: Database, blobs: BlobStore, installation: Installation, trail: Trail
    ) -> None:
        self._settings = settings
        self._database = database
        self._blobs = blobs
        self._installation = installation
        self._trail = trail
        self.base = f"{settings.base_url}/fhir"
        """Our FHIR base URL."""
        self.repository = installation.repository
        """Our repositoryUniqueId."""

    # --- withdraw, restore, purge

    def reject(self, target: Target, *, reason: str, actor: Actor) -> int:
        """IHE RAD TF-2 section 4.66.4.1.3: hides the target's instances, for a `reason` of CID 7011. Returns how many.

        Raises `MalformedQuery` for another reason, `NotFound`.
        """
        if reason not in REASONS:
            raise MalformedQuery(f"the reason is one of {', '.join(f'{code}^DCM' for code in REASONS)} (PS3.16 CID 7011)")
        with self.changing(target.study_uid) as change:
            found = [one for one in self._affected(change, target) if one.state != 2]
            rejections.reject(change.connection, found, reason=reason, who=actor.name)
            self.shown(change)
            self.tell(change, actor, "delete", "reject", found)
        return len(found)

    def restore(self, target: Target, *, actor: Actor) -> int:
        """Shows rejected instances again, and lets purged ones be sent again. Returns how many instances are shown again.

        Raises `NotFound` where nothing of the target was rejected or purged.
        """
        with self.changing(target.study_uid) as change:
            connection = change.connection
            lifted = rejections.lift(connection, target.study_uid, target.series_uid, target.uid)
            found = [one for one in _found(connection, target) if one.state == 2]
            if not found and not lifted:
                raise NotFound("nothing was rejected or deleted under this name")
            rejections.restore(connection, found)
            jobs.enqueue(connection, PUBLISH, str(change.study_pk), due=change.now)  # those that never were
            self.shown(change)
            self.tell(change, actor, "update", "restore", found)
        return len(found)

    def purge(self, target: Target, *, actor: Actor, reason: str = DELETED) -> int:
        """Removes instances for good: rows in one transaction, then files. Returns how many.

        What is sent again is refused (`RejectedInstance`) until it is restored, except after `reason` 113039, data retention expired.
        Raises `NotFound`, `LegallyHeld`.
        """
        with self.changing(target.study_uid) as change:
            connection = change.connection
            if rejections.held(connection, [target.study_uid]):
                raise LegallyHeld("this study is under a legal hold; end the hold first")
            found = self._affected(change, target)
            self.tell(change, actor, "delete", "delete", found)
            rejections.purge(connection, found, reason=reason, who=actor.name)
            emptied = catalogue.scrub(connection, change.study_pk)
            # Earlier manifests and versions name what is gone.
            self.forget_documents(change)
            if self.shown(change, forget=emptied):
                resources.forget_history(connection, "ImagingStudy", catalogue.study_id(connection, change.study_pk))
            if emptied:
                corrections.forget(connection, change.study_pk)
                self._forget_patient(change)
            jobs.enqueue(connection, ERASE, "blobs", due=change.now + 60_000_000)
        self.erase()
        return len(found)

    # --- legal hold

    def hold(self, study_uid: str, *, why: str, actor: Actor) -> None:
        """Nothing purges this study from now on; again changes the reason. Raises `NotFound`."""
        with self.changing(study_uid) as change:
            rejections.hold(change.connection, study_uid, why=why, who=actor.name)
            self._trailed(change, actor, "update", (("event", "hold"),))

    def release(self, study_uid: str, *, actor: Actor) -> None:
        """Ends a legal hold. Raises `NotFound` where there is none."""
        with self.changing(study_uid) as change:
            if not rejections.release(change.connection, study_uid):
                raise NotFound("this study is not under a legal hold")
            self._trailed(change, actor, "update", (("event", "release"),))

    # --- what the worker does

    def notes(self, due: Sequence[jobs.Job]) -> None:
        """IHE RAD TF-2 section 4.66: applies the rejection notes among these Key Object Selections, if their senders may reject."""
        for job in due:
            self._note(job)

    def erase(self, due: Sequence[jobs.Job] = ()) -> None:
        """Removes the files of purged blobs, and then forgets them."""
        while True:
            with self._database.read() as connection:
                some = rejections.erasable(connection)
            for blob_id in some:
                self._blobs.delete(blob_id)
            with self._database.write() as connection:
                rejections.erased(connection, some)
                if not some:
                    for job in due:
                        jobs.done(connection, job)
                    return

    def _note(self, job: jobs.Job) -> None:
        with self._database.read() as connection:
            note = catalogue.source(connection, int(job.key))
        content = self._content(note.blob_id) if note is not None else None
        reason = content.title if content is not None else ""
        allowed = note is not None and note.sender in self._settings.rejection_senders
        if note is None or content is None or reason not in REASONS or not allowed:
            with self._database.write() as connection:
                if note is not None and content is not None and reason in REASONS:
                    log().warning("rejection note of a sender that may not reject; it has no effect")
                    self._refused(connection, note, content.studies, "the sender of this rejection note may not reject")
                jobs.done(connection, job)
            return
        actor = Actor(Agent(identifier=note.sender), rest=False)
        for study_uid in content.studies:
            named = [
                each.sop_instance_uid
                for series in content.series
                if series.study_instance_uid == study_uid
                for each in series.instances
            ]
            try:
                with self.changing(study_uid) as change:
                    if catalogue.patient_pk(change.connection, change.study_pk) != note.patient_pk:
                        log().warning("a rejection note names another patient's study; it has no effect there")
                        self._refused(change.connection, note, [study_uid], "this rejection note is of another patient")
                        continue
                    found = [one for one in rejections.affected(change.connection, study_uid, uids=named) if one.state != 2]
                    rejections.reject(change.connection, found, reason=reason, who=actor.name, note=content.sop_instance_uid)
                    if reason != QUALITY:  # then nobody shall see that there was something
                        own = rejections.affected(change.connection, study_uid, uids=[content.sop_instance_uid])
                        rejections.reject(change.connection, own, reason=reason, who=actor.name, note=content.sop_instance_uid)
                        found += own
                    self.shown(change)
                    self.tell(change, actor, "delete", "reject", found)
            except NotFound:
                log().info("a rejection note names a study that is not here")
        with self._database.write() as connection:
            jobs.done(connection, job)

    def _refused(self, connection: Connection, note: catalogue.Source, studies: Sequence[str], why: str) -> None:
        """IHE RAD TF-2 section 4.66.5: what was asked for in vain, of which studies; the patient is the note's own."""
        entities = tuple(
            AuditedEntity(system=DICOM_UID_SYSTEM, identifier=f"urn:oid:{uid}", details=(("event", "reject"),)) for uid in studies
        )
        self._trail.record(
            connection,
            self._trail.action(
                "delete", REST_DELETE, Agent(identifier=note.sender), rest=False, outcome=REFUSED, outcome_desc=why,
                patient_id=catalogue.patient_id(connection, note.patient_pk), entities=entities,
            ),
        )  # fmt: skip

    def _content(self, blob_id: str) -> ManifestContent | None:
        try:
            with closing(self._blobs.open(blob_id)) as file:
                return read(parse(file).dataset)
        except (NotAManifest, HeaderError):
            return None

    # --- one study in one transaction

    @contextmanager
    def changing(self, study_uid: str) -> Iterator[Changing]:
        """One transaction that has the study to itself. Raises `NotFound` where there is no such study."""
        with self.changing_all([study_uid]) as (_, (change,)):
            yield change

    @contextmanager
    def changing_all(self, study_uids: Sequence[str]) -> Iterator[tuple[Connection, list[Changing]]]:
        """The same for several studies, or none."""
        with ExitStack() as manifests, self._database.write() as connection:
            now, found = micros(), dict[str, Changing]()
            for uid in sorted(study_uids):  # in the same order by everyone, so that two do not wait for each other
                pk = connection.execute(
                    select(catalogue.STUDY.c.pk).where(catalogue.STUDY.c.uid == uid).with_for_update()
                ).scalar_one_or_none()
                if pk is None:
                    raise NotFound("no such study")
                found[uid] = Changing(connection, pk, uid, manifests, now)
            yield connection, [found[uid] for uid in study_uids]

    def shown(self, change: Changing, *, forget: bool = False) -> bool:
        """The next version of the study behind every face, as its rows are now; `forget` what clients said of it.

        False if there is nothing to be seen, and never was: an ImagingStudy of its UID is a client's own.
        """
        connection = change.connection
        study = catalogue.load(connection, change.study_pk)
        if not study.series and not catalogue.was_shown(connection, change.study_pk):
            catalogue.outrun(connection, change.study_pk)  # it may be about to be shown
            return False
        before = documents.current(connection, change.study_pk)
        catalogue.publish(connection, change.study_pk, study, [], updated=change.now)
        faces = Faces(self._settings, self._database, self._blobs, self._installation)
        if study.series:
            made = change.manifests.enter_context(faces.manifest(study, change.now))
            faces.show(connection, change.study_pk, study, made, before, change.now, forget=forget)
        else:
            faces.withdraw(connection, change.study_pk, study, before, change.now, forget=forget)
        return True

    def _affected(self, change: Changing, target: Target) -> list[Affected]:
        found = _found(change.connection, target)
        if not found:
            raise NotFound("no such study, series or instance")
        return found

    def tell(self, change: Changing, actor: Actor, kind: Kind, event: Event, found: Sequence[Affected]) -> None:
        """The trail and the feed, as the last of the transaction (before the rows go, for a delete)."""
        self._trailed(change, actor, kind, () if actor.rest else (("event", event), ("instances", str(len(found)))))
        changes.record(change.connection, event, [one.pk for one in found])

    def _trailed(self, change: Changing, actor: Actor, kind: Kind, details: tuple[tuple[str, str], ...]) -> None:
        connection = change.connection
        patient = catalogue.patient_id(connection, catalogue.patient_pk(connection, change.study_pk))
        study = AuditedEntity(
            f"ImagingStudy/{catalogue.study_id(connection, change.study_pk)}", DICOM_UID_SYSTEM, f"urn:oid:{change.study_uid}",
            details=details,
        )  # fmt: skip
        subtype: Subtype = REST_DELETE if kind == "delete" else REST_UPDATE
        self._trail.record(
            connection,
            self._trail.action(
                kind, subtype, actor.agent, rest=actor.rest, patient_id=patient, entities=(study,),
                request_id=actor.request_id, token_id=actor.token_id,
            ),
        )  # fmt: skip

    def forget_documents(self, change: Changing) -> None:
        """Removes a study's documents altogether: entries, what their DocumentReferences said, and bytes."""
        removed = documents.remove(change.connection, change.study_pk)
        study = resources.last(change.connection, "ImagingStudy", catalogue.study_id(change.connection, change.study_pk))
        said = {} if study is None or study.deleted else resources.unstamped(study.body)
        for entry_uuid, _ in removed:
            id_ = entry_uuid.removeprefix("urn:uuid:")
            body = resources.content(change.connection, "DocumentReference", id_)
            kept: dict[str, object] = {key: body[key] for key in ("resourceType", "id", "subject") if key in body}
            gone = {"status": "entered-in-error", "content": [{"attachment": {"title": "deleted"}}]}
            left = projections.labelled(said, projections.labelled(body, {**kept, **gone}))
            resources.put(change.connection, left, now=change.now, base=self.base)
            resources.forget_history(change.connection, "DocumentReference", id_)
        rejections.forget_blobs(change.connection, [blob_id for _, blob_id in removed])

    def _forget_patient(self, change: Changing) -> None:
        """Removes what images said of the patient of an emptied study, behind every face, if nothing else is here about her.

        Whom clients know by more than that, or refer to, stays as she is: what they said is theirs to delete.
        """
        connection = change.connection
        found = corrections.forgettable_patient(connection, change.study_pk)
        if found is None or not projections.is_only_of_images(connection, found.patient):
            return
        left = corrections.forget_patient(connection, found)
        if resources.known(connection, "Patient", left.id):
            resources.put(connection, fhir_patient(left), now=change.now, base=self.base)
            resources.forget_history(connection, "Patient", left.id)


def _found(connection: Connection, target: Target) -> list[Affected]:
    return rejections.affected(connection, target.study_uid, target.series_uid, [target.uid] if target.uid is not None else None)

"""Imaging Document Source (RAD-68, RAD TF-2 section 4.68.4.1): the manifests of published studies, to partners' Document Repositories.

Every version is a row before it is sent, under ids that each repeat has. So a repeat of what arrived, though its answer did not, is told by the
partner itself (XDSDuplicateUniqueIdInRegistry), and each version is registered once whatever happens to either side.
"""

import uuid
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import Final, Self
from urllib.parse import urlsplit

from lxml.etree import _Element
from sqlalchemy import Connection

from ihe import ebrs, iti41, iti57, mtom, rad68
from ihe.ebrs import RegistryResponse
from ihe.iti41 import Provided
from ihe.soap import SoapFault
from profiles.audit_event import FAILED, ITI_57, RAD_68, REFUSED, SUCCESS, Agent, AuditedEntity, Outcome, Subtype
from profiles.document import Code, DocumentEntry, Submission
from profiles.identifiers import AssigningAuthority, PatientIdentifier
from profiles.timestamps import dtm
from profiles.vocabulary import DICOM, URI_SYSTEM
from server.access.decisions import Interaction
from server.access.partners import recipient
from server.errors import Unavailable
from server.outbound.soap import SoapClient
from server.records import catalogue, documents, foreign_entries, resources
from server.records.documents import StoredDocument
from server.records.foreign_entries import Foreign
from server.records.installation import Installation
from server.records.trail import Trail
from server.settings import DocumentRecipient, Settings
from server.store import jobs
from server.store.blobs import BlobStore
from server.store.db import Database, micros, moment
from server.telemetry import log
from server.work.documents import DOCUMENT_TYPE

SUBMIT: Final = "submit-manifest"
"""Kind of the job whose key is a partner's name and, after a space, the row of a study."""
_GIVE_UP: Final = 7 * 86400 * 1_000_000
"""Microseconds that a partner is asked to take a version."""

# ITI TF-3 table 4.2.4.1-2: what a partner may say otherwise of the same message later
_PASSING: Final = frozenset(
    {"XDSRegistryBusy", "XDSRepositoryBusy", "XDSRegistryOutOfResources", "XDSRepositoryOutOfResources", "XDSRegistryNotAvailable",
     "XDSRegistryError", "XDSRepositoryError", "XDSUnknownPatientId"}
)  # fmt: skip
_ARRIVED: Final = "XDSDuplicateUniqueIdInRegistry"
_NOTHING_TO_REPLACE: Final = frozenset(
    {"XDSReplaceFailed", "XDSRegistryDeprecatedDocumentError", "UnresolvedReferenceException"}
)  # fmt: skip


def enqueue(connection: Connection, settings: Settings, study_pk: int) -> None:
    """The study looks otherwise than before: its partners will be told, if the transaction commits."""
    for each in settings.documents_to:
        jobs.enqueue(connection, SUBMIT, f"{each.name} {study_pk}", due=micros())


def again(connection: Connection, settings: Settings) -> None:
    """What partners did not take, or did not deprecate, will be tried anew, if the transaction commits."""
    for row, _ in foreign_entries.troubled(connection):
        foreign_entries.reopen(connection, row)
        enqueue(connection, settings, row.study_pk)


def everything(connection: Connection, settings: Settings) -> int:
    """Partners will be told of every study, those too that were published before they were named. Returns how many studies."""
    found = documents.studies(connection)
    for study_pk in found:
        enqueue(connection, settings, study_pk)
    return len(found)


class Submitter:
    """Does the jobs of kind `SUBMIT`, one at a time."""

    def __init__(
        self, settings: Settings, database: Database, blobs: BlobStore, installation: Installation, trail: Trail
    ) -> None:
        self._database = database
        self._recipients = {each.name: each for each in settings.documents_to}
        self._open = partial(_Partner, settings, database, blobs, installation, trail)

    def run(self, due: Sequence[jobs.Job]) -> None:
        """Tells each partner of each study what it does not know. Raises `Unavailable` where it cannot be told now: the job is put back."""
        for job in due:
            name, _, study_pk = job.key.partition(" ")
            if (recipient := self._recipients.get(name)) is not None:
                with self._open(recipient, int(study_pk)) as partner:
                    while partner.step():
                        pass
            with self._database.write() as connection:
                jobs.done(connection, job)


class _Partner:
    """One study at one partner."""

    def __init__(
        self, settings: Settings, database: Database, blobs: BlobStore, installation: Installation, trail: Trail,
        recipient: DocumentRecipient, study_pk: int,
    ) -> None:  # fmt: skip
        self._settings, self._database, self._blobs, self._installation = settings, database, blobs, installation
        self._trail, self._recipient, self._study_pk = trail, recipient, study_pk
        self._codes: dict[str, Code] = {name: Code(*_of_ce(value)) for name, value in recipient.codes.items()}
        self._clients: dict[str, SoapClient] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for client in self._clients.values():
            client.close()

    def step(self) -> bool:
        """Does one thing that is to be done. False where nothing is. Raises `Unavailable`."""
        with self._database.read() as connection:
            entry = self._to_be_told(connection)
            rows = foreign_entries.of_study(connection, self._recipient.name, self._study_pk)
            patient_id = self._patient_id(connection, entry) if entry is not None else ""
        last = rows[-1] if rows else None
        if last is not None and last.state == "waiting" and last.attempts:
            return self._send(last) if entry is not None else self._withdraw(last)
        if last is not None and last.state == "given up" and (entry is None or last.unique_id != entry.unique_id):
            with self._database.write() as connection:
                foreign_entries.reopen(connection, last)
            return True
        there = next((each for each in reversed(rows) if each.state in ("sent", "left")), None)
        if there is not None and there.state == "sent" and (entry is None or patient_id not in ("", there.patient_id)):
            return self._withdraw(there)
        told = last.unique_id if last is not None and last.state in ("sent", "refused", "given up") else ""
        if entry is None or told == entry.unique_id:
            return False
        replaced = there.entry_uuid if there is not None and there.patient_id == patient_id else ""
        with self._database.write() as connection:
            if last is not None and last.state == "waiting":
                foreign_entries.forget(connection, last.pk)
            row = foreign_entries.begin(
                connection, self._study_pk, self._recipient.name, unique_id=entry.unique_id, entry_uuid=uuid.uuid4().urn,
                replaces=replaced, patient_id=patient_id,
            )  # fmt: skip
            if not patient_id:
                foreign_entries.failed(connection, row.pk, "the patient has no identifier of the partner's affinity domain")
        if not patient_id:
            raise Unavailable("a patient has no identifier of the affinity domain of a partner that is to have a manifest")
        return self._send(row)

    def _to_be_told(self, connection: Connection) -> DocumentEntry | None:
        """The study's manifest, if there is one of which this partner may be told, and of all that it names."""
        entry = documents.current(connection, self._study_pk)
        if entry is None:
            return None
        decision = recipient(connection, self._settings, self._recipient.name)
        study = catalogue.load(connection, self._study_pk)
        shown = decision.sees(connection, DOCUMENT_TYPE, Interaction.READ, entry.entry_uuid.removeprefix("urn:uuid:"))
        uid, series = study.study_instance_uid, {each.series_instance_uid for each in study.series}
        return entry if shown and decision.seen_series(connection, Interaction.READ, uid) >= series else None

    def _patient_id(self, connection: Connection, entry: DocumentEntry) -> str:
        """The patient's id as the partner's affinity domain has it (CX); empty where it is not known."""
        authority = self._recipient.patient_authority
        own = PatientIdentifier.from_cx(entry.patient_id)
        if authority is None or own.authority.oid == authority:
            return entry.patient_id
        wanted = AssigningAuthority(authority)
        patient = resources.content(connection, "Patient", self._patient(connection))
        for each in patient.get("identifier", ()):
            if each.get("system") == wanted.system and each.get("value"):
                return PatientIdentifier(each["value"], wanted).cx
        return ""

    def _send(self, row: Foreign) -> bool:
        """RAD TF-2 section 4.68.4.1.2: a version that may have arrived before."""
        with self._database.read() as connection:
            found = documents.by_unique_id(connection, [row.unique_id])
        if not found or not found[0].blob_id:  # purged meanwhile
            return self._withdraw(row)
        submission, answer = self._answered(row, found[0])
        codes = _codes(answer)
        if answer.status == ebrs.SUCCESS or (row.attempts and _ARRIVED in codes):
            return self._settled(row, RAD_68, submission, "sent")
        if row.replaces and codes and codes <= _NOTHING_TO_REPLACE:
            with self._database.write() as connection:
                foreign_entries.alone(connection, row.pk)
            return True
        if codes & _PASSING:
            self._later(row, RAD_68, submission, _told(answer))
        return self._settled(row, RAD_68, submission, "refused", _told(answer))

    def _answered(self, row: Foreign, document: StoredDocument) -> tuple[Submission, RegistryResponse]:
        entry = rad68.entry_for(document.entry, entry_uuid=row.entry_uuid, patient_id=row.patient_id, codes=self._codes)
        submission = rad68.provided(
            entry, source_id=self._installation.source, submission_time=dtm(moment(row.created)), codes=self._codes,
            replaces=row.replaces,
        )  # fmt: skip
        attachment = mtom.Attachment(f"{row.unique_id}@imageshare", DICOM, self._blobs.size(document.blob_id))
        request = iti41.request(submission, [Provided(entry.entry_uuid, content_id=attachment.content_id)])
        with self._database.write() as connection:
            foreign_entries.tried(connection, row.pk)

        def contents(_: mtom.Attachment) -> Iterable[bytes]:
            return self._blobs.stream(document.blob_id)

        try:
            client = self._client(self._recipient.url)
            answer = client.provide(iti41.REQUEST_ACTION, request, [attachment], contents, expect=iti41.RESPONSE_ACTION)
        except (SoapFault, Unavailable) as error:
            self._later(row, RAD_68, submission, _words(error))
        return submission, ebrs.read(answer)

    def _withdraw(self, row: Foreign) -> bool:
        """ITI TF-2 section 3.57.4.1.3.3.2: what is withdrawn here, or moved to another patient, is deprecated there."""
        if not self._recipient.update_url:
            return self._settled(row, ITI_57, None, "left", "the partner's registry is not known (update_url)")
        entry = DocumentEntry(row.entry_uuid, row.unique_id, row.patient_id)
        submission = rad68.withdrawn(
            entry, source_id=self._installation.source, submission_time=dtm(moment(row.created)), codes=self._codes
        )
        try:
            answer = ebrs.read(self._updated(iti57.request(submission)))
        except (SoapFault, Unavailable) as error:
            self._later(row, ITI_57, submission, _words(error))
        codes = _codes(answer)
        never = row.state == "waiting" and "UnresolvedReferenceException" in codes
        if answer.status == ebrs.SUCCESS or _ARRIVED in codes or never:
            return self._settled(row, ITI_57, submission, "withdrawn")
        if codes & _PASSING:
            self._later(row, ITI_57, submission, _told(answer))
        return self._settled(row, ITI_57, submission, "left", _told(answer))

    def _updated(self, request: _Element) -> _Element:
        client = self._client(self._recipient.update_url)
        return client.call(iti57.REQUEST_ACTION, request, expect=iti57.RESPONSE_ACTION)

    def _client(self, url: str) -> SoapClient:
        if url not in self._clients:
            self._clients[url] = SoapClient(self._settings, url)
        return self._clients[url]

    def _settled(
        self, row: Foreign, subtype: Subtype, submission: Submission | None, state: foreign_entries.State, error: str = ""
    ) -> bool:
        """What became of a version, and the trail of it. True: something may be left to do."""
        with self._database.write() as connection:
            foreign_entries.settle(connection, row.pk, state, error)
            if state == "sent":
                for each in foreign_entries.of_study(connection, row.partner, row.study_pk):
                    if each.state in ("sent", "left") and each.pk != row.pk and each.patient_id == row.patient_id:
                        foreign_entries.settle(connection, each.pk, "replaced")
            if submission is not None:
                self._record(connection, subtype, submission, REFUSED if error else SUCCESS, error)
        if error:
            log().warning("a partner has not done what it was asked", client=row.partner, study_pk=row.study_pk, error=error)
        return True

    def _later(self, row: Foreign, subtype: Subtype, submission: Submission, why: str) -> None:
        """Raises `Unavailable`, so that it is tried again; for a week, and then no more."""
        over = micros() - row.created > _GIVE_UP and row.state == "waiting"
        with self._database.write() as connection:
            self._record(connection, subtype, submission, FAILED, why)
            foreign_entries.failed(connection, row.pk, why)
            if over:
                foreign_entries.settle(connection, row.pk, "given up", why)
        raise Unavailable(why)

    def _record(self, connection: Connection, subtype: Subtype, submission: Submission, outcome: Outcome, why: str) -> None:
        """RAD TF-2 section 4.68.5.1: the source's event, of a disclosure that this server made of itself."""
        assert submission.submission_set is not None
        url = self._recipient.url if subtype == RAD_68 else self._recipient.update_url
        entity = AuditedEntity(
            system=URI_SYSTEM, identifier=f"urn:oid:{submission.submission_set.unique_id}", details=(("object", "SubmissionSet"),)
        )
        action = self._trail.action(
            "export", subtype, Agent(identifier=self._recipient.name, address=urlsplit(url).hostname or ""), rest=False,
            outcome=outcome, outcome_desc=why, patient_id=self._patient(connection), entities=(entity,),
        )  # fmt: skip
        self._trail.record(connection, replace(action, initiated=False))

    def _patient(self, connection: Connection) -> str:
        return catalogue.patient_id(connection, catalogue.patient_pk(connection, self._study_pk))


def _of_ce(text: str) -> tuple[str, str, str]:
    """`code^display^scheme`, as settings have it."""
    code, display, scheme = text.split("^")
    return code, scheme, display


def _codes(answer: RegistryResponse) -> frozenset[str]:
    return frozenset(each.code for each in answer.errors if each.severity != ebrs.WARNING)


def _told(answer: RegistryResponse) -> str:
    """The codes alone: what else a partner says may name the patient."""
    return ", ".join(sorted(_codes(answer))) or "the partner gave no reason"


def _words(error: SoapFault | Unavailable) -> str:
    """The same of a fault."""
    return f"SOAP fault {error.code}" if isinstance(error, SoapFault) else error.detail

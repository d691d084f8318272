"""A Document Repository whose registry is somebody else's: what is submitted here (ITI-41) is kept here, and registered there by ITI-42.

ITI TF-2 section 3.41.4.1.3: documents and their rows are durable before the registry is told, and go again where it refuses. Where nobody knows
what it did, they stay: a repeat of the submission finds them, and an hour later the registry is asked whether it has entries of them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final
from urllib.parse import urlsplit

from sqlalchemy import Connection, delete
from sqlalchemy.exc import IntegrityError

from ihe import ebrs, iti18, iti42
from ihe.ebrs import RegistryError, RegistryRefusal, RegistryResponse
from ihe.find_documents import GetDocuments
from ihe.soap import SoapFault
from profiles.audit_event import FAILED, ITI_42, REFUSED, SUCCESS, Agent, AuditedEntity, Outcome
from profiles.document import Submission
from profiles.identifiers import InvalidIdentifier, PatientIdentifier
from profiles.study import Patient
from profiles.vocabulary import URI_SYSTEM
from server.access.decisions import Decision, Interaction
from server.errors import Unavailable
from server.outbound.soap import SoapClient
from server.records import patients, rejections, repository
from server.records.catalogue import PATIENT
from server.records.repository import Held, New
from server.records.trail import Trail
from server.settings import Settings
from server.store import jobs
from server.store.db import Database, micros
from server.work.arriving_documents import ArrivingDocuments
from server.work.fhir.writes import Writes
from server.work.provide import documents_of, new_documents, take_images
from server.work.reconcile import ERASE
from server.work.registry.standing import LIST, require, unknown_patient

SETTLE: Final = "settle-documents"
"""Kind of the one job that asks the registry about documents of which nobody knows whether it has entries; its key is `documents`."""
_SETTLED_AFTER: Final = 3600 * 1_000_000
_TOGETHER: Final = 100
_NOT_TOLD: Final = "the registry was not reached, or did not say what it did: submit the same again later"


@dataclass(frozen=True, slots=True)
class Submitted:
    """Who is submitted for: the id of her Patient and her row; `is_new` where nobody here knew her. `documents` are new here."""

    patient: str
    patient_pk: int
    is_new: bool
    documents: Sequence[New]


class ForeignRegistry:
    """The registry at `foreign_registry`."""

    def __init__(self, settings: Settings, database: Database, writes: Writes, trail: Trail) -> None:
        self._settings, self._database, self._writes, self._trail = settings, database, writes, trail

    def provide(
        self, decision: Decision, submission: Submission, arrived: ArrivingDocuments, recorded: Callable[[Connection, str], None]
    ) -> RegistryResponse:
        """Keeps and registers a submission that is `completed`; `recorded` is given the patient when it is. Returns what the registry said.

        Raises `RegistryRefusal` with the registry's own errors, `Forbidden`; nothing is kept then, but where the registry gave no answer.
        """
        documents = documents_of(submission, arrived.kept())
        held = self._writes.alone(lambda connection: _held(connection, decision, submission, documents))
        arrived.release(each.blob.id for each in held.documents)
        answer = self._registered(held, submission)

        def confirm(connection: Connection) -> Sequence[New]:
            again = list(new_documents(connection, documents))  # another submission of them was refused meanwhile
            repository.keep(connection, again, patient_pk=held.patient_pk, now=micros())
            repository.foreign(connection, [each.unique_id for each in documents], registered=micros())
            take_images(connection, decision, submission)
            recorded(connection, held.patient)
            self._record(connection, held, submission, SUCCESS, "")
            return again

        arrived.release(each.blob.id for each in self._writes.alone(confirm))
        return answer

    def settle(self, due: Sequence[jobs.Job]) -> None:
        """Asks about documents that came an hour ago or earlier: those that the registry has no entry of go. Raises `Unavailable`."""
        with self._database.read() as connection:
            old = repository.long_unconfirmed(connection, before=micros() - _SETTLED_AFTER, limit=_TOGETHER)
        known = self._known(old)

        def write(connection: Connection) -> None:
            open_ = set(repository.unconfirmed(connection, [each.unique_id for each in old]))
            repository.foreign(connection, sorted(known & open_), registered=micros())
            _remove(connection, [(each.unique_id, each.blob_id) for each in old if each.unique_id in open_ - known])
            for job in due:
                if repository.long_unconfirmed(connection, before=micros(), limit=1):
                    jobs.enqueue(connection, SETTLE, job.key, due=micros() + (0 if len(old) == _TOGETHER else _SETTLED_AFTER))
                jobs.done(connection, job)

        self._writes.alone(write)

    def _known(self, documents: Sequence[Held]) -> frozenset[str]:
        """ITI TF-2 section 3.18.4.1.2.3.7.5: those that the registry has an entry of. One query is of one patient (XDSResultNotSinglePatient)."""
        of = dict[str, list[str]]()
        for each in documents:
            of.setdefault(each.patient, []).append(each.unique_id)
        found = set[str]()
        with SoapClient(self._settings, self._settings.foreign_registry) as client:
            for unique_ids in of.values():
                query = iti18.request(GetDocuments(unique_ids=tuple(unique_ids)).query())
                try:
                    answer = iti18.parse_response(client.call(iti18.REQUEST_ACTION, query, expect=iti18.RESPONSE_ACTION))
                except SoapFault as fault:
                    raise Unavailable(f"the registry does not answer queries (SOAP fault {fault.code})") from None
                if answer.status != ebrs.SUCCESS:
                    raise Unavailable("the registry refuses to tell which documents it has entries of")
                found |= {each.unique_id for each in answer.entries}
        return frozenset(found)

    def _registered(self, held: Submitted, submission: Submission) -> RegistryResponse:
        """What the registry said, which has taken it. Raises `RegistryRefusal` where it has not, or where nobody knows."""
        try:
            answer = self._told(submission)
        except SoapFault as fault:
            told = f"SOAP fault {fault.code}"
            if fault.code == "Receiver":  # it may have failed after it has done it
                self._left(held, submission, told)
            else:
                self._undone(held, submission, told)
            raise RegistryError("XDSRegistryNotAvailable", f"the registry has not taken the message ({told})") from None
        except Unavailable as error:
            self._left(held, submission, error.detail)
            raise RegistryError("XDSRegistryNotAvailable", _NOT_TOLD) from None
        if answer.status != ebrs.SUCCESS:
            self._undone(held, submission, ", ".join(sorted({each.code for each in answer.errors})))
            raise RegistryRefusal(answer.errors or (RegistryError("XDSRegistryError", "the registry gave no reason"),))
        return answer

    def _told(self, submission: Submission) -> RegistryResponse:
        """ITI TF-2 section 3.42.4.1.2."""
        with SoapClient(self._settings, self._settings.foreign_registry) as client:
            request = iti42.request(submission)
            said = ebrs.read(client.call(iti42.REQUEST_ACTION, request, expect=iti42.RESPONSE_ACTION))
        # its words may have patient ids, and are for the sender alone
        words = "the registry says"
        errors = (RegistryError(each.code, words, each.location, each.severity, each.context) for each in said.errors)
        return RegistryResponse(said.status, tuple(errors))

    def _undone(self, held: Submitted, submission: Submission, why: str) -> None:
        """The registry has nothing of it: what was new here goes."""

        def undo(connection: Connection) -> None:
            going = set(repository.unconfirmed(connection, [each.unique_id for each in held.documents]))
            _remove(connection, [(each.unique_id, each.blob.id) for each in held.documents if each.unique_id in going])
            self._record(connection, held, submission, REFUSED, why)
            if held.is_new:
                _forget(connection, held.patient_pk)

        self._writes.alone(undo)

    def _left(self, held: Submitted, submission: Submission, why: str) -> None:
        self._writes.alone(lambda connection: self._record(connection, held, submission, FAILED, why))

    def _record(self, connection: Connection, held: Submitted, submission: Submission, outcome: Outcome, why: str) -> None:
        """ITI TF-2 section 3.42.5.1.1: the Document Repository's event."""
        assert submission.submission_set is not None
        entity = AuditedEntity(
            system=URI_SYSTEM, identifier=f"urn:oid:{submission.submission_set.unique_id}", details=(("object", "SubmissionSet"),)
        )
        host = urlsplit(self._settings.foreign_registry).hostname or ""
        action = self._trail.action(
            "export", ITI_42, Agent(identifier=self._settings.foreign_registry, address=host), rest=False, outcome=outcome,
            outcome_desc=why, patient_id=held.patient, entities=(entity,),
        )  # fmt: skip
        self._trail.record(connection, replace(action, initiated=False))


def _held(connection: Connection, decision: Decision, submission: Submission, documents: Sequence[New]) -> Submitted:
    """The documents are here, and nobody knows yet whether the registry is to have entries of them."""
    assert submission.submission_set is not None
    try:
        identifier = PatientIdentifier.from_cx(submission.submission_set.patient_id)
    except InvalidIdentifier:
        raise unknown_patient(submission.submission_set.patient_id) from None
    known = patients.find(connection, identifier)
    made = None if known is not None else patients.made(connection, Patient(identifier))
    whose = known or patients.find(connection, identifier)
    if whose is None:
        raise unknown_patient(submission.submission_set.patient_id)
    require(decision, Interaction.CREATE, whose.id, LIST)
    new = list(new_documents(connection, documents))
    repository.keep(connection, new, patient_pk=whose.pk, now=micros())
    repository.foreign(connection, [each.unique_id for each in new], registered=0)
    if new and not jobs.is_known(connection, SETTLE, "documents"):
        jobs.enqueue(connection, SETTLE, "documents", due=micros() + _SETTLED_AFTER)
    return Submitted(whose.id, whose.pk, made is not None, new)


def _remove(connection: Connection, going: Sequence[tuple[str, str]]) -> None:
    """Documents, each with its blob, of which the registry has no entry."""
    if going:
        repository.remove(connection, [unique_id for unique_id, _ in going])
        rejections.forget_blobs(connection, [blob_id for _, blob_id in going])
        jobs.enqueue(connection, ERASE, "blobs", due=micros())


def _forget(connection: Connection, patient_pk: int) -> None:
    """Nobody knows the patient, unless something has come to be about her meanwhile."""
    try:
        with connection.begin_nested():
            connection.execute(delete(PATIENT).where(PATIENT.c.pk == patient_pk))
    except IntegrityError:
        return

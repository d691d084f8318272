"""Provide Document Bundle (ITI-65) and Simplified Publish (ITI-105): what a FHIR client submits goes the way of ITI-41 (`server.work.provide`)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, select

from ihe import iti65
from ihe.ebrs import RegistryRefusal
from ihe.ebxml import Reading
from ihe.iti41 import Provided
from profiles.document import RegistryObject, Submission
from profiles.fhir.issues import Issue
from profiles.fhir.json import parse
from profiles.fhir.references import parse_reference
from profiles.identifiers import AssigningAuthority, InvalidIdentifier, PatientIdentifier, oid_of
from profiles.received_document import Unreadable
from server.access.decisions import Decision, Interaction
from server.errors import AccessError, Invalid, NotFound
from server.records import patients, resources
from server.records.catalogue import PATIENT
from server.records.resources import Stored
from server.work import provide
from server.work.arriving_documents import ArrivingDocuments
from server.work.fhir import permission
from server.work.fhir.caller import Caller
from server.work.fhir.writes import Writes
from server.work.ingest import Ingest
from server.work.registry.domain import Domain
from server.work.registry.register import Done, new_uuid
from server.work.registry.standing import DOCUMENT, LIST, require, resource_id

Json = dict[str, Any]
_AUTHORS: Final = frozenset({"Practitioner", "PractitionerRole", "Organization", "Device", "Patient"})
_CODES: Final[Mapping[str, str]] = {
    "XDSUnknownPatientId": "not-found",
    "UnresolvedReferenceException": "not-found",
    "XDSDuplicateUniqueIdInRegistry": "duplicate",
    "XDSRegistryDuplicateUniqueIdInMessage": "duplicate",
    "XDSRepositoryDuplicateUniqueIdInMessage": "duplicate",
    "XDSNonIdenticalHash": "conflict",
    "XDSNonIdenticalSize": "conflict",
}
"""FHIR issue types of ebRS error codes; others are rules of document sharing."""


@dataclass(frozen=True, slots=True)
class Publisher:
    """What a submission by FHIR needs of the server."""

    writes: Writes
    domain: Domain
    ingest: Ingest
    repository: str


@dataclass(frozen=True, slots=True)
class Published:
    """What came of a request: the patient, and by the places of entries the resources that they became; `documents` are places of Binaries
    with the ids that lead to them now.
    """

    patient: str
    resources: Mapping[int, Stored]
    documents: Mapping[int, str]


def read(connection: Connection, caller: Caller, parse: Callable[[iti65.Reading], iti65.Request]) -> iti65.Request:
    """What `parse` makes of a request. Raises `Invalid`, and `Forbidden` where the caller may not submit for the patient, whether there is one or not."""
    for type_ in (DOCUMENT, LIST):
        caller.require(type_, Interaction.CREATE)
    reading = iti65.Reading(
        caller.base,
        lambda subject: _patient_id(connection, caller, subject),
        lambda text: _resource(connection, caller, text),
        new_uuid,
    )
    try:
        return parse(reading)
    except Unreadable as error:
        raise Invalid([Issue("error", "invalid", error.path, error.why)], 422) from None


def publish(
    publisher: Publisher, decision: Decision, request: iti65.Request, recorded: Callable[[Connection, Done], None]
) -> Published:
    """IHE MHD section 2:3.65.4.1.3: all documents are kept and registered, or nothing is. Raises `Invalid` with the rules that are broken."""
    arrived = ArrivingDocuments(publisher.ingest)
    made: list[Published] = []

    def registered(connection: Connection, done: Done) -> None:
        recorded(connection, done)
        made.append(_published(connection, request, done))

    try:
        provide.check(
            publisher.domain, request.submission, [Provided(each.id, content=b"") for each in request.documents], Reading()
        )
        for document in request.documents:
            arrived.begin(document.id)
            arrived.take(document.content)
            arrived.end()
        submission = provide.completed(request.submission, arrived.kept(), (), publisher.repository)
        provide.provide(publisher.writes, publisher.domain, decision, submission, arrived, registered)
    except RegistryRefusal as refusal:
        raise Invalid([_issue(request, each.code, each.context, each.location) for each in refusal.errors], 422) from None
    finally:
        arrived.discard()
    return made[-1]


def _issue(request: iti65.Request, code: str, context: str, location: str) -> Issue:
    place = next((place for place, id_ in request.ids.items() if id_ == location), None)
    return Issue("error", _CODES.get(code, "business-rule"), "" if place is None else request.path(place), f"{code}: {context}")


def _published(connection: Connection, request: iti65.Request, done: Done) -> Published:
    real = dict(zip(_ids(request.submission), _ids(done.submission), strict=True))
    found: dict[int, Stored] = {}
    for place, id_ in request.ids.items():
        type_ = DOCUMENT if any(each.entry_uuid == id_ for each in request.submission.documents) else LIST
        found[place] = resources.read(connection, type_, resource_id(real.get(id_, id_)))
    documents = {each.place: resource_id(real[each.id]) for each in request.documents if each.place is not None}
    return Published(done.patient, found, documents)


def _ids(submission: Submission) -> list[str]:
    objects: list[RegistryObject] = list(submission.objects())
    return [each.entry_uuid for each in objects]


def _patient_id(connection: Connection, caller: Caller, subject: Json) -> str:
    """The CX of whom a subject is: a Patient of this server, by id or by an identifier that an OID's authority gave; empty for nobody.

    Raises `Forbidden` where she is not the caller's, also where nobody is known so: who is confined to one patient is not told of others.
    """
    target = parse_reference(str(subject.get("reference", "")), caller.base)
    if target.type == "Patient" and target.id and not target.url:
        require(caller.decision, Interaction.CREATE, target.id, LIST)
        row = connection.execute(select(PATIENT.c.authority, PATIENT.c.value).where(PATIENT.c.id == target.id)).first()
        return PatientIdentifier(row.value, AssigningAuthority(row.authority)).cx if row is not None else ""
    given = subject.get("identifier", {})
    try:
        authority = AssigningAuthority(oid_of(str(given.get("system", ""))))
    except InvalidIdentifier:
        return ""
    if not given.get("value"):
        return ""
    identifier = PatientIdentifier(str(given["value"]), authority)
    known = patients.find(connection, identifier)
    require(caller.decision, Interaction.CREATE, known.id if known is not None else "", LIST)
    return identifier.cx


def _resource(connection: Connection, caller: Caller, text: str) -> Json | None:
    """Who wrote a document, where that is a resource of this server that the caller may read."""
    target = parse_reference(text, caller.base)
    if target.type not in _AUTHORS or not target.id or target.url:
        return None
    try:
        stored = resources.read(connection, target.type, target.id)
        permission.require_resource(connection, caller.decision, target.type, Interaction.READ, target.id, stored.patient)
    except (NotFound, AccessError):
        return None
    found: Json = parse(stored.body)
    return found

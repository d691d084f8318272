"""What changes the Document Registry: ITI-42, ITI-57, ITI-61, ITI-62, ITI-92."""

from collections.abc import Callable, Sequence

from lxml.etree import _Element
from sqlalchemy import Connection
from starlette.requests import Request

from ihe import ebrs, iti42, iti57, iti61, iti62, iti92
from ihe.ebrs import SUCCESS, RegistryError, RegistryRefusal, RegistryResponse
from ihe.ebxml import Reading
from ihe.metadata import SUBMISSION_SET, By
from ihe.soap import Envelope
from profiles.audit_event import ITI_42, ITI_57, ITI_61, ITI_62, ITI_92, AuditedEntity, Kind, Subtype
from profiles.document import Submission, is_uuid
from profiles.identifiers import InvalidIdentifier, lenient_uid
from profiles.vocabulary import URI_SYSTEM
from server.access.decisions import Decision
from server.edges import context
from server.edges.context import Note
from server.edges.soap.transaction import Answer, Transaction
from server.work.registry.domain import Domain
from server.work.registry.register import FEW, Done, register
from server.work.registry.remove import remove
from server.work.registry.update import update, update_restricted

_NAMED = 100
_LONGEST = 64
_UNIQUE_ID = next(row.key for row in SUBMISSION_SET.attributes if row.name == "uniqueId")
_Work = Callable[[Connection, Decision, Domain, Submission], Done]


def _submitting(by: By, kind: Kind, subtype: Subtype, work: _Work) -> Callable[[Request, Decision, Envelope], Answer]:
    """ITI TF-2 section 3.42.4.1.3, and those of ITI-57, ITI-61 and ITI-92: everything that is wrong is told at once, and then nothing was done."""

    def answer(request: Request, decision: Decision, envelope: Envelope) -> Answer:
        node, reading = context.node(request), Reading()
        submission = iti42.parse_request(envelope.body, reading)
        if errors := node.domain.check(submission, by, reading):
            raise RegistryRefusal(errors)

        def write(connection: Connection) -> None:
            done = work(connection, decision, node.domain, submission)
            note = Note(kind, subtype, asked_to_register(envelope), done.former | {done.patient})
            context.noted(request, [note], connection, rest=False)

        run = node.writes.run if len(submission.documents) <= FEW else node.writes.alone
        run(write)
        return Answer(ebrs.to_element(RegistryResponse(SUCCESS)))

    return answer


def _remove(request: Request, decision: Decision, envelope: Envelope) -> Answer:
    """ITI TF-2 section 3.62.4.1.3."""
    node = context.node(request)
    ids = iti62.parse_request(envelope.body)

    def write(connection: Connection) -> None:
        patients = remove(connection, decision, node.domain, ids)
        context.noted(request, [Note("delete", ITI_62, _asked_to_remove(envelope), patients)], connection, rest=False)

    node.writes.run(write)
    return Answer(ebrs.to_element(RegistryResponse(SUCCESS)))


def _failed(errors: Sequence[RegistryError]) -> _Element:
    return ebrs.to_element(ebrs.response_to(errors, results=False))


def asked_to_register(envelope: Envelope) -> tuple[AuditedEntity, ...]:
    """ITI TF-2 section 3.42.5.1: the Submission Set, by its uniqueId; what looks like none is left out, for anything may be sent."""
    for found in envelope.body.iterfind(".//{*}RegistryPackage/{*}ExternalIdentifier"):
        if found.get("identificationScheme") == _UNIQUE_ID:
            try:
                uid = lenient_uid(found.get("value", ""))
            except InvalidIdentifier:
                return ()
            return (AuditedEntity(system=URI_SYSTEM, identifier=f"urn:oid:{uid}", details=(("object", "SubmissionSet"),)),)
    return ()


def _asked_to_remove(envelope: Envelope) -> tuple[AuditedEntity, ...]:
    """ITI TF-2 section 3.62.5.1: what was to be removed, by its entryUUID; the first hundred."""
    named = (found.get("id", "")[:_LONGEST] for found in envelope.body.iterfind(".//{*}ObjectRef"))
    return tuple(AuditedEntity(system=URI_SYSTEM, identifier=each) for each in list(filter(is_uuid, named))[:_NAMED])


def _submission(action: str, response: str, by: By, kind: Kind, subtype: Subtype, work: _Work) -> Transaction:
    return Transaction(
        action=action, response_action=response, subtype=subtype, kind=kind, actor="Registry", mtom=False,
        answer=_submitting(by, kind, subtype, work), failed=_failed, asked=asked_to_register, submits=True,
    )  # fmt: skip


SUBMISSIONS = (
    _submission(iti42.REQUEST_ACTION, iti42.RESPONSE_ACTION, By.REGISTER, "create", ITI_42, register),
    _submission(iti57.REQUEST_ACTION, iti57.RESPONSE_ACTION, By.UPDATE, "update", ITI_57, update),
    _submission(iti92.REQUEST_ACTION, iti92.RESPONSE_ACTION, By.UPDATE, "update", ITI_92, update_restricted),
    _submission(iti61.REQUEST_ACTION, iti61.RESPONSE_ACTION, By.ON_DEMAND, "create", ITI_61, register),
    Transaction(
        action=iti62.REQUEST_ACTION, response_action=iti62.RESPONSE_ACTION, subtype=ITI_62, kind="delete", actor="Registry", mtom=False,
        answer=_remove, failed=_failed, asked=_asked_to_remove,
    ),
)  # fmt: skip
"""What `/xds/registry` answers beside queries."""

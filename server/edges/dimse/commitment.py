"""Storage commitment, push model (PS3.4 annex J, IHE RAD-10): requests to us, and reports on requests of ours."""

from collections.abc import Callable
from typing import TypeVar

from ihe.dimse import CommandField
from profiles.audit_event import RAD_10, AuditedEntity
from profiles.dicom_json import Attributes
from profiles.part10 import HeaderError
from profiles.storage_commitment import (
    ALL_COMMITTED,
    PUSH_MODEL,
    PUSH_MODEL_INSTANCE,
    REQUEST_ACTION,
    SOME_FAILED,
    CommitmentError,
    read_report,
    read_request,
    report_item,
)
from profiles.vocabulary import DICOM_UID_SYSTEM
from server import telemetry
from server.edges.dimse import inquiry, managed
from server.edges.dimse.service import Association, Message, Service
from server.errors import ImageShareError, NotFound, WrongAttributes
from server.outbound.commitment import event_report
from server.records import commitment
from server.records.item_values import decoded, encoded
from server.store import jobs
from server.store.db import micros
from server.work.commit import COMMIT, decide, report_of, reported

_T = TypeVar("_T")
_HERE_FIRST = 60_000_000
"""Microseconds that the association of a request has for the report, before a job tries by one of our own."""


def request(association: Association, message: Message) -> None:
    """PS3.4 section J.3.2: N-ACTION. Answered once it is noted; the report goes over an association of our own.

    It goes over this one, at once, where the settings say so or it is not known where the peer listens.
    """
    node = association.node
    try:
        _about(message.command.requested_sop_instance_uid)
        if message.command.action_type_id != REQUEST_ACTION:
            raise WrongAttributes("the one action is Request Storage Commitment, of type 1", managed.NO_SUCH_ACTION)
        if not node.settings.durable:
            raise WrongAttributes("this server does not wait for its disk, so it cannot commit", managed.RESOURCE_LIMITATION)
        transaction_uid, references = _read(message, read_request)
        entities = _entities(transaction_uid, len(references))
        same = node.settings.commitment_reports == "same" or node.peers.destination(association.calling) is None
        with node.database.write() as connection:
            pk = commitment.ask(
                connection, "scp", peer=association.calling, address=association.address, transaction_uid=transaction_uid,
                requested=references,
            )  # fmt: skip
            # Where it is told here and now, the job only comes to it if that fails.
            jobs.enqueue(connection, COMMIT, str(pk), due=micros() + (_HERE_FIRST if same else 0))
        inquiry.told(association, "query", RAD_10, (), entities)
    except ImageShareError as error:
        managed.refuse(association, message, error, "query", RAD_10)
        return
    association.respond(message.context, managed.response(message, managed.SUCCESS))
    if same:
        try:
            _tell_here(association, message, pk)
        except ImageShareError as error:  # the request is answered; the job is left to it
            telemetry.log().warning(
                "commitment_not_reported", door="dimse", ae_title=association.calling, request_id=association.request_id,
                **telemetry.failure(error),
            )  # fmt: skip


def _tell_here(association: Association, message: Message, pk: int) -> None:
    """PS3.4 section J.3.3: N-EVENT-REPORT over the association of the request."""
    node = association.node
    found = decide(node.database, node.blobs, pk)
    if found is None:
        return
    report = report_of(found)
    data = encoded(report_item(report, node.settings.ae_title), message.context.transfer_syntax)
    answer = association.perform(message.context, event_report(report), data)
    if answer.status:
        telemetry.log().warning(
            "commitment_report_refused", door="dimse", ae_title=association.calling, status=f"{answer.status:04X}",
            request_id=association.request_id,
        )  # fmt: skip
        return
    with node.database.write() as connection:
        commitment.end(connection, pk, "delivered")
        jobs.cancel(connection, COMMIT, str(pk))


def report(association: Association, message: Message) -> None:
    """PS3.4 section J.3.3: N-EVENT-REPORT about a request of ours; only the peer that was asked is believed."""
    try:
        _about(message.command.affected_sop_instance_uid)
        if message.command.event_type_id not in (ALL_COMMITTED, SOME_FAILED):
            raise WrongAttributes("a storage commitment result is an event of type 1 or 2", managed.NO_SUCH_EVENT_TYPE)
        found = _read(message, read_report)
        try:
            reported(association.node.database, association.calling, found)
        except NotFound as error:
            raise WrongAttributes(error.detail, managed.INVALID_ARGUMENT) from None
        entities = _entities(found.transaction_uid, len(found.committed) + len(found.failed))
        inquiry.told(association, "update", RAD_10, (), entities)
    except ImageShareError as error:
        managed.refuse(association, message, error, "update", RAD_10)
        return
    association.respond(message.context, managed.response(message, managed.SUCCESS))


def _about(instance: str) -> None:
    if instance != PUSH_MODEL_INSTANCE:
        raise NotFound("storage commitment has one well-known SOP Instance (PS3.4 section J.3.5)")


def _read(message: Message, reader: Callable[[Attributes], _T]) -> _T:
    """What `reader` makes of the Data Set. Raises `WrongAttributes`."""
    try:
        return reader(decoded(message.data_set, message.context.transfer_syntax))
    except (HeaderError, CommitmentError) as error:
        raise WrongAttributes(str(error), managed.INVALID_ARGUMENT) from None


def _entities(transaction_uid: str, count: int) -> tuple[AuditedEntity, ...]:
    details = (("attribute", "TransactionUID"), ("instances", str(count)))
    return (AuditedEntity(system=DICOM_UID_SYSTEM, identifier=f"urn:oid:{transaction_uid}", details=details),)


SERVICE = Service(
    name="Storage Commitment Push Model",
    permission="commit",
    abstract_syntaxes=frozenset({PUSH_MODEL}),
    commands={CommandField.N_ACTION_RQ: request, CommandField.N_EVENT_REPORT_RQ: report},
    requestor_may_be_scp=True,
)

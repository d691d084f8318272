"""Storage commitment between us and a peer (PS3.4 annex J): our reports of what is committed here, and our own requests."""

from collections.abc import Sequence
from dataclasses import replace

from ihe.dimse import RESPONSE, Command, CommandField
from ihe.pdu import Role
from profiles.part10 import HeaderError
from profiles.storage_commitment import (
    PUSH_MODEL,
    PUSH_MODEL_INSTANCE,
    REQUEST_ACTION,
    CommitmentError,
    Reference,
    Report,
    read_report,
    report_item,
    request_item,
)
from server.association import Association, Ended, Limits, Released, TimedOut
from server.outbound.calling import PATIENCE, NoAnswer, called, end
from server.records.item_values import decoded, encoded
from server.records.peers import Peer
from server.settings import Settings

_AS_SCP = (Role(PUSH_MODEL, scu=False, scp=True),)
_PROCESSING_FAILURE = 0x0110


def report(peer: Peer, settings: Settings, told: Report, limits: Limits = PATIENCE) -> None:
    """PS3.4 section J.3.3: N-EVENT-REPORT over an association of our own, in which we propose to be the SCP. Raises `NoAnswer`."""
    try:
        opened = called(peer, settings, PUSH_MODEL, _AS_SCP, limits)
        try:
            context = opened.context(PUSH_MODEL)
            assert context is not None
            number = opened.next_message_id()
            data = encoded(report_item(told, settings.ae_title), context.transfer_syntax)
            opened.send(context.id, event_report(told, number), data)
            answer = opened.receive().command
        finally:
            end(opened)
    except Ended as error:
        raise NoAnswer(str(error)) from None
    if answer.field != CommandField.N_EVENT_REPORT_RSP or answer.status:
        raise NoAnswer(f"the peer does not take the report: status {answer.status or 0:04X}H {answer.error_comment}".strip())


def event_report(told: Report, message_id: int | None = None) -> Command:
    """PS3.7 section 10.3.1.1: the N-EVENT-REPORT-RQ of a report."""
    return Command(
        field=CommandField.N_EVENT_REPORT_RQ, message_id=message_id, affected_sop_class_uid=PUSH_MODEL,
        affected_sop_instance_uid=PUSH_MODEL_INSTANCE, event_type_id=told.event_type,
    )  # fmt: skip


def request(
    peer: Peer, settings: Settings, transaction_uid: str, references: Sequence[Reference], *, wait: float = 0.0
) -> Report | None:
    """PS3.4 section J.3.2: N-ACTION that asks a peer to commit. Raises `NoAnswer` where it does not take the request.

    The peer reports to our port later, or over this association within `wait` seconds: then the report is returned, and answered.
    """
    limits = Limits(artim=PATIENCE.artim, silence=max(PATIENCE.silence, wait))
    try:
        opened = called(peer, settings, PUSH_MODEL, limits=limits)
        try:
            context = opened.context(PUSH_MODEL)
            assert context is not None
            number = opened.next_message_id()
            asked = Command(
                field=CommandField.N_ACTION_RQ, message_id=number, requested_sop_class_uid=PUSH_MODEL,
                requested_sop_instance_uid=PUSH_MODEL_INSTANCE, action_type_id=REQUEST_ACTION,
            )  # fmt: skip
            data = encoded(request_item(transaction_uid, references), context.transfer_syntax)
            opened.send(context.id, asked, data)
            answer = opened.receive().command
            if answer.field != CommandField.N_ACTION_RSP or answer.status:
                raise NoAnswer(f"the peer takes no request: status {answer.status or 0:04X}H {answer.error_comment}".strip())
            return _awaited(opened, transaction_uid, wait) if wait else None
        finally:
            end(opened)
    except Ended as error:
        raise NoAnswer(str(error)) from None


def _awaited(opened: Association, transaction_uid: str, wait: float) -> Report | None:
    """The report that comes over the association of its request, if it does."""
    opened.limits = Limits(artim=opened.limits.artim, silence=wait)
    try:
        received = opened.receive()
    except (Released, TimedOut):
        return None
    answer = Command(
        field=received.command.field | RESPONSE, responded_to=received.command.message_id, affected_sop_class_uid=PUSH_MODEL,
        affected_sop_instance_uid=PUSH_MODEL_INSTANCE, event_type_id=received.command.event_type_id, status=_PROCESSING_FAILURE,
    )  # fmt: skip
    found: Report | None = None
    if received.command.field == CommandField.N_EVENT_REPORT_RQ:
        try:
            found = read_report(decoded(received.data_set, opened.contexts[received.context_id].transfer_syntax))
        except (HeaderError, CommitmentError):
            found = None
    if found is not None and found.transaction_uid == transaction_uid:
        opened.send(received.context_id, replace(answer, status=0x0000))
        return found
    opened.send(received.context_id, answer)
    return None

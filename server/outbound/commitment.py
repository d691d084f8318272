"""Storage commitment between us and a peer (PS3.4 annex J): our reports of what is committed here, and our own requests."""

import time
from collections.abc import Callable, Sequence
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
from server.association import Association, Ended, Limits
from server.outbound.calling import PATIENCE, NoAnswer, called, end
from server.records.item_values import decoded, encoded
from server.records.peers import Peer
from server.settings import Settings

_AS_SCP = (Role(PUSH_MODEL, scu=False, scp=True),)
_PROCESSING_FAILURE = 0x0110
_LOOK_AGAIN = 0.1


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
    peer: Peer, settings: Settings, transaction_uid: str, references: Sequence[Reference], *, wait: float = 0.0,
    heard: Callable[[], bool] = lambda: False,
) -> Report | None:  # fmt: skip
    """PS3.4 section J.3.2: N-ACTION that asks a peer to commit. Raises `NoAnswer` where it does not take the request.

    The peer reports to our port later, or over this association within `wait` seconds: then the report is returned, and answered.
    The wait ends as soon as the report was `heard` elsewhere, or the peer ends the association.
    """
    try:
        opened = called(peer, settings, PUSH_MODEL)
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
            return _awaited(opened, transaction_uid, wait, heard) if wait else None
        finally:
            end(opened)
    except Ended as error:
        raise NoAnswer(str(error)) from None


def _awaited(opened: Association, transaction_uid: str, wait: float, heard: Callable[[], bool]) -> Report | None:
    """The report that comes over the association of its request, if it does."""
    ends = time.monotonic() + wait
    try:
        while (arrived := opened.arrived_command()) is None:
            if heard() or time.monotonic() >= ends:
                return None
            time.sleep(_LOOK_AGAIN)
        context_id, command = arrived
        data_set = opened.collect_data_set(context_id) if command.has_data_set else b""
    except Ended:  # the request was taken: the report may come to our port
        return None
    answer = Command(
        field=command.field | RESPONSE, responded_to=command.message_id, affected_sop_class_uid=PUSH_MODEL,
        affected_sop_instance_uid=PUSH_MODEL_INSTANCE, event_type_id=command.event_type_id, status=_PROCESSING_FAILURE,
    )  # fmt: skip
    found: Report | None = None
    if command.field == CommandField.N_EVENT_REPORT_RQ:
        try:
            found = read_report(decoded(data_set, opened.contexts[context_id].transfer_syntax))
        except (HeaderError, CommitmentError):
            found = None
    if found is not None and found.transaction_uid == transaction_uid:
        opened.send(context_id, replace(answer, status=0x0000))
        return found
    opened.send(context_id, answer)
    return None

"""One accepted association from its request to its end: negotiation, then message after message to the service it is for."""

import secrets
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

from ihe.dimse import RESPONSE, Command, CommandField
from ihe.pdu import AssociateRequest
from profiles.audit_event import INSTANCES_TRANSFERRED, REFUSED, Agent, AuditedEntity
from server import association, telemetry
from server.association import Ended, ProtocolError, Released
from server.edges.context import Node
from server.edges.dimse import negotiation
from server.edges.dimse.negotiation import TOO_MANY, Rejection
from server.edges.dimse.reception import PROCESSING_FAILURE, SERVER_FAILED, Reception, StoreRequest
from server.edges.dimse.service import Context, Message, Service
from server.errors import ImageShareError
from server.settings import Device

# PS3.7 annex C
_UNRECOGNIZED_OPERATION = 0x0211

Room = Callable[["Serving", str, str], bool]


class Serving:
    """An association's acceptor, in a thread of its own; what services see of it is `service.Association`."""

    device: Device

    def __init__(
        self,
        node: Node,
        peer: association.Association,
        request: AssociateRequest,
        address: str,
        services: Mapping[str, Service],
        *,
        secure: bool,
    ) -> None:
        self.node = node
        self.calling = negotiation.title(request.calling)
        self.called = node.settings.ae_title
        self.address = address
        self.request_id = secrets.token_hex(8)
        self.contexts: Mapping[int, Context] = {}
        self.extended: Mapping[str, bytes] = {}
        self._secure = secure
        self._peer = peer
        self._request = request
        self._services = services
        self._reception: Reception | None = None
        self._received: list[StoreRequest] = []
        self._waiting: tuple[int, Command] | None = None
        self._cancelled: set[int] = set()
        self.thread: threading.Thread | None = None

    def run(self, room: Room) -> None:
        """Serves the association to its end; `room` admits it. Lets nothing pass."""
        try:
            if self._admitted(room):
                while True:
                    self._serve(*self._next())
        except Released:
            pass
        except Ended as error:
            telemetry.log().warning(
                "association_aborted", door="dimse", ae_title=self.calling, request_id=self.request_id, **telemetry.failure(error)
            )
        except Exception as error:  # noqa: BLE001 (whatever it was, this association has come to its end, and only this)
            telemetry.log().error(
                "association_failed", door="dimse", ae_title=self.calling, request_id=self.request_id, **telemetry.failure(error)
            )
            self._peer.abort()
        if self._reception is not None:
            while self._received:  # whole, but nobody is left to be told
                self._reception.answer(self._received.pop(0))
            telemetry.log().info(
                "association_ended", door="dimse", ae_title=self.calling, instances=self._reception.instances,
                count=self._reception.failures, request_id=self.request_id,
            )  # fmt: skip

    def end(self) -> None:
        """Called from another thread: lets what is being stored be answered, then aborts."""
        self._peer.shut()

    # --- PS3.8 section 7.1

    def _admitted(self, room: Room) -> bool:
        node = self.node
        verdict = negotiation.judged(self._request, self.address, node.settings.ae_title, node.peers, secure=self._secure)
        if isinstance(verdict, Device) and not room(self, self.calling, self.address):
            verdict = TOO_MANY
        if isinstance(verdict, Rejection):
            self._reject(verdict)
            return False
        self.device = verdict
        agreement = negotiation.agreed(self._request, verdict, self._services)
        self.contexts, self.extended = agreement.contexts, agreement.extended
        self._reception = Reception(self.node.ingest, verdict, self.calling, self.called, self.address, self.request_id)
        self._peer.accept(agreement.answer, agreement.contexts.values())
        return True

    def _reject(self, rejection: Rejection) -> None:
        """PS3.8 section 9.3.4, with an entry in the trail: who asked, from where, for whom. A title alone proves nobody: `strangers`."""
        trail, called = self.node.trail, negotiation.title(self._request.called)
        asked = AuditedEntity(identifier=called, details=(("attribute", "called AE title"),))
        self.node.strangers.refused(
            trail.action(
                "create", INSTANCES_TRANSFERRED, Agent(identifier=self.calling or "unknown", address=self.address), rest=False,
                outcome=REFUSED, outcome_desc=rejection.words, entities=(asked,) if called else (),
            )
        )  # fmt: skip
        telemetry.log().warning(
            "association_rejected", door="dimse", ae_title=self.calling, address=self.address,
            reason_number=rejection.answer.reason,
        )  # fmt: skip
        self._peer.reject(rejection.answer)

    # --- PS3.7 section 8: one message after the other

    def _next(self) -> tuple[int, Command]:
        if self._waiting is not None:
            found, self._waiting = self._waiting, None
            return found
        if len(self._received) >= negotiation.WINDOW or not self._peer.data_arriving:
            self._answer_stores()
        return self._peer.receive_command()

    def _answer_stores(self) -> None:
        """Answers what was received, in its order. What a peer has sent ahead by then is committed with it."""
        assert self._reception is not None
        while self._received:
            request = self._received.pop(0)
            self._peer.send(request.context.id, self._reception.answer(request))

    def _serve(self, context_id: int, command: Command) -> None:
        context = self.contexts[context_id]
        if command.field == CommandField.C_STORE_RQ and context.abstract_syntax not in self._services:
            assert self._reception is not None
            self._needs_message_id(command)
            self._received.append(self._reception.receive(self._peer, context, command))
            return
        self._answer_stores()
        data_set = self._peer.collect_data_set(context_id) if command.has_data_set else b""
        if command.field == CommandField.C_CANCEL_RQ:
            return  # of a request that is answered already
        if command.is_response:
            self._peer.fail(ProtocolError("a response to nothing that was asked (PS3.7 section 8)"))
        self._needs_message_id(command)
        service = self._services.get(context.abstract_syntax)
        handler = service.commands.get(command.field) if service is not None else None
        if handler is None:
            self._fail(context, command, _UNRECOGNIZED_OPERATION, "this operation is not offered for this SOP Class")
            return
        try:
            handler(self, Message(context, command, data_set))
        except Ended:
            raise
        except ImageShareError as error:
            self._failed(command, error)
            self._fail(context, command, error.dimse_status, error.short)
        except Exception as error:  # noqa: BLE001 (answered with a status, and logged)
            self._failed(command, error)
            self._fail(context, command, PROCESSING_FAILURE, SERVER_FAILED)
        self._cancelled.discard(command.message_id or 0)

    def _failed(self, command: Command, error: Exception) -> None:
        telemetry.log().warning(
            "dimse_failed", door="dimse", ae_title=self.calling, method=f"{command.field:04X}", request_id=self.request_id,
            **telemetry.failure(error),
        )  # fmt: skip

    def _fail(self, context: Context, command: Command, status: int, comment: str) -> None:
        response = Command(
            field=command.field | RESPONSE,
            responded_to=command.message_id,
            affected_sop_class_uid=command.affected_sop_class_uid or command.requested_sop_class_uid,
            affected_sop_instance_uid=command.affected_sop_instance_uid or command.requested_sop_instance_uid,
            status=status,
            error_comment=comment,
        )
        self._peer.send(context.id, response)

    def _needs_message_id(self, command: Command) -> None:
        if command.message_id is None:
            self._peer.fail(ProtocolError("a request without Message ID (PS3.7 section 9.3)"))

    # --- service.Association

    def respond(self, context: Context, command: Command, data_set: bytes | Iterable[bytes] | None = None) -> None:
        self._peer.send(context.id, command, data_set)

    def respond_each(self, context: Context, command: Command, data_sets: Iterable[bytes]) -> None:
        self._peer.send_each(context.id, command, data_sets)

    def perform(self, context: Context, command: Command, data_set: bytes | Iterable[bytes] | None = None) -> Command:
        return self.answer(self.invoke(context, command, data_set))

    def invoke(self, context: Context, command: Command, data_set: bytes | Iterable[bytes] | None = None) -> int:
        number = self._peer.next_message_id()
        try:
            self._peer.send(context.id, replace(command, message_id=number), data_set)
        except Ended:
            raise
        except BaseException:
            self._peer.abort()  # in the middle of a message there is no other way out
            raise
        return number

    def answer(self, number: int) -> Command:
        while True:
            found, answer = self._peer.receive_command()
            if answer.is_response and answer.responded_to == number:
                if answer.has_data_set:
                    self._peer.collect_data_set(found)
                return answer
            self._put_by(found, answer)

    def cancelled(self, message_id: int) -> bool:
        while self._waiting is None and (found := self._peer.arrived_command()) is not None:
            self._put_by(*found)
        return message_id in self._cancelled

    def _put_by(self, context_id: int, command: Command) -> None:
        """What arrives while a request is being served: C-CANCEL is noted; one more request may wait, if it is without Data Set or last."""
        if command.field == CommandField.C_CANCEL_RQ and not command.has_data_set:
            if command.responded_to is not None and len(self._cancelled) < negotiation.WINDOW:
                self._cancelled.add(command.responded_to)
        elif self._waiting is None and not command.is_response:
            self._waiting = context_id, command
        else:
            self._peer.fail(ProtocolError("a message that has no place here (PS3.7 annex D.3.3.3)"))

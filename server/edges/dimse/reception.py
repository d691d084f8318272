"""PS3.7 section 9.1.1 and PS3.4 annex B: C-STORE, from the fragments of a message to the status in its answer.

The Data Set goes from the socket into the blob store as it arrives and is never held. Receiving and answering are two steps, so
that the requests which a peer has sent ahead are committed together.
"""

from dataclasses import dataclass

from ihe.dimse import Command, CommandField
from profiles.audit_event import INSTANCES_TRANSFERRED
from profiles.identifiers import InvalidIdentifier, lenient_uid
from server import association, telemetry
from server.edges.dimse.file_meta import part10_head
from server.edges.dimse.service import Context
from server.errors import ImageShareError, MalformedInstance, NotSupported
from server.settings import Device
from server.store.blobs import Writer
from server.work.ingest import Announced, Ingest, Pending, Sender

SUCCESS = 0x0000
PROCESSING_FAILURE = 0x0110
SERVER_FAILED = "the server failed; its log says where"


@dataclass(slots=True)
class StoreRequest:
    """A C-STORE-RQ under way: `writer` until it is submitted or has failed, then `pending` or `failure` (status, comment)."""

    context: Context
    command: Command
    writer: Writer | None = None
    pending: Pending | None = None
    failure: tuple[int, str] | None = None


class Reception:
    """What one association stores. `device` is the configured peer, `calling` and `called` are the AE titles."""

    def __init__(self, ingest: Ingest, device: Device, calling: str, called: str, address: str, request_id: str) -> None:
        self._source, self._receiver = calling, called
        self._request_id = request_id
        self._batch = ingest.batch(
            Sender(INSTANCES_TRANSFERRED, calling, address, authority=device.assigning_authority, request_id=request_id)
        )
        self.instances = self.failures = 0

    def receive(self, peer: association.Association, context: Context, command: Command) -> StoreRequest:
        """PS3.7 section 9.3.1.1: receives the Data Set of a C-STORE-RQ and checks it. What is returned must be answered.

        Raises `Ended`; nothing is left of the instance then.
        """
        request = self._begin(context, command)
        try:
            if not command.has_data_set:
                self._fail(request, MalformedInstance("a C-STORE request without Data Set"), recorded=False)
                return request
            peer.receive_data_set(context.id, lambda data: self._write(request, data))
            if request.writer is not None:
                request.pending, request.writer = self._submitted(request, request.writer), None
            return request
        finally:
            if request.writer is not None:
                request.writer.abort()

    def _begin(self, context: Context, command: Command) -> StoreRequest:
        """PS3.7 section 9.3.1.1: what the command announces, checked before anything of it is used."""
        request = StoreRequest(context, command)
        try:
            for name, value in (
                ("Class", request.command.affected_sop_class_uid),
                ("Instance", request.command.affected_sop_instance_uid),
            ):
                try:
                    lenient_uid(value)
                except InvalidIdentifier as error:
                    raise MalformedInstance(
                        f"Affected SOP {name} UID: {error}", f"Affected SOP {name} UID is not a UID (PS3.5 section 9.1)"
                    ) from None
            if not context.scu:
                raise NotSupported("the requestor is not SCU in this presentation context")
            head = part10_head(
                request.command.affected_sop_class_uid,
                request.command.affected_sop_instance_uid,
                context.transfer_syntax,
                self._source,
                self._receiver,
            )
            request.writer = self._batch.receive()
            request.writer.write(head)
        except Exception as error:  # noqa: BLE001 (answered with a status, and logged)
            self._fail(request, error, recorded=False)
        return request

    def _write(self, request: StoreRequest, data: memoryview) -> None:
        """Appends to the blob; after a failure the rest of the Data Set is read and forgotten, as the answer comes after it."""
        if request.writer is None:
            return
        try:
            request.writer.write(data)
        except Exception as error:  # noqa: BLE001
            self._fail(request, error, recorded=False)

    def _submitted(self, request: StoreRequest, writer: Writer) -> Pending | None:
        try:
            return self._batch.submit(writer, _announced(request))
        except Exception as error:  # noqa: BLE001
            self._fail(request, error, recorded=False)
            return None

    def answer(self, request: StoreRequest) -> Command:
        """PS3.7 section 9.3.1.2: the C-STORE-RSP, after the commit of this and all else that was received."""
        if request.pending is not None:
            try:
                request.pending.receipt()
            except Exception as error:  # noqa: BLE001
                self._fail(request, error, recorded=True)
        status, comment = request.failure or (SUCCESS, "")
        if status == SUCCESS:
            self.instances += 1
        else:
            self.failures += 1
        announced = request.command
        return Command(
            field=CommandField.C_STORE_RSP,
            responded_to=announced.message_id,
            affected_sop_class_uid=announced.affected_sop_class_uid if len(announced.affected_sop_class_uid) <= 64 else "",
            affected_sop_instance_uid=announced.affected_sop_instance_uid
            if len(announced.affected_sop_instance_uid) <= 64
            else "",
            status=status,
            error_comment=comment,
        )

    def _fail(self, request: StoreRequest, error: Exception, *, recorded: bool) -> None:
        """Settles the request's status; the refusal goes into the trail unless the batch has put it there."""
        if request.writer is not None:
            request.writer.abort()
            request.writer = None
        status, comment = PROCESSING_FAILURE, SERVER_FAILED
        if isinstance(error, ImageShareError):
            status, comment = error.dimse_status, error.short
            if not recorded:
                try:
                    self._batch.refused(error, _announced(request))
                except Exception as failure:  # noqa: BLE001 (the refusal stands even where it cannot be recorded)
                    telemetry.log().error("trail_failed", door="dimse", request_id=self._request_id, **telemetry.failure(failure))
        telemetry.log().warning(
            "c_store_refused", door="dimse", ae_title=self._source, status=f"{status:04X}", request_id=self._request_id,
            **telemetry.failure(error),
        )  # fmt: skip
        request.failure = (status, comment)


def _announced(request: StoreRequest) -> Announced:
    return Announced(request.command.affected_sop_class_uid, request.command.affected_sop_instance_uid)

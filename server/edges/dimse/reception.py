"""PS3.7 section 9.1.1 and PS3.4 annex B: C-STORE, from the fragments of a message to the status in its answer.

The Data Set goes from the socket into the blob store as it arrives and is never decoded or held; it is stored and answered in
the thread that reads, so a peer that sends ahead waits in its own socket.
"""

import secrets
from dataclasses import dataclass
from io import BytesIO

from pydicom.dataset import Dataset
from pynetdicom.association import Association
from pynetdicom.dimse import DIMSEServiceProvider
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.dsutils import decode
from pynetdicom.pdu_primitives import P_DATA

from profiles.audit_event import INSTANCES_TRANSFERRED
from profiles.identifiers import InvalidIdentifier, lenient_uid
from server import telemetry
from server.edges.dimse.file_meta import part10_head
from server.edges.dimse.upper_layer import ProtocolError
from server.errors import ImageShareError, MalformedInstance
from server.settings import Device
from server.store.blobs import Writer
from server.work.ingest import Announced, Batch, Ingest, Sender

MAX_COMMAND = 1 << 16
MAX_IDENTIFIER = 1 << 20
"""Of the Data Sets of messages that are not C-STORE."""

_C_STORE_RQ = 0x0001
_NO_DATA_SET = 0x0101
_SUCCESS = 0x0000
_PROCESSING_FAILURE = 0x0110


@dataclass(slots=True)
class _Request:
    """A C-STORE-RQ under way: `writer` until it is stored or has failed, then `failure` (status, comment)."""

    context_id: int
    message_id: int
    sop_class_uid: str
    sop_instance_uid: str
    writer: Writer | None = None
    failure: tuple[int, str] | None = None


class Reception(DIMSEServiceProvider):
    """The DIMSE side of one association that sends to us. C-STORE is done here, all else is pynetdicom's."""

    def __init__(self, assoc: Association, ingest: Ingest) -> None:
        super().__init__(assoc)
        self._ingest = ingest
        self._batch: Batch | None = None
        self._source = self._receiver = ""
        self._context_id: int | None = None
        self._command: bytearray | None = bytearray()
        self._identifier = bytearray()
        self._request: _Request | None = None
        self.request_id = secrets.token_hex(8)
        self.instances = self.failures = 0

    def admit(self, device: Device, calling: str, address: str, called: str) -> None:
        """The association is accepted: its instances come from this device."""
        self._source, self._receiver = calling, called
        self._batch = self._ingest.batch(
            Sender(INSTANCES_TRANSFERRED, calling, address, authority=device.assigning_authority, request_id=self.request_id)
        )

    # --- the fragments of messages, PS3.7 section 6.3.1 and PS3.8 annex E

    @property
    def receiving(self) -> bool:
        return self._context_id is not None

    def fragment_begins(self, context_id: int, *, command: bool) -> None:
        if command != (self._command is not None):
            raise ProtocolError("a Data Set without a Command, or the other way round (PS3.7 section 6.3.1)")
        if self._context_id not in (None, context_id):
            raise ProtocolError("one message in two presentation contexts (PS3.8 annex E.1)")
        self._context_id = context_id

    def fragment_data(self, data: memoryview) -> None:
        if self._command is not None:
            self._command += data
            if len(self._command) > MAX_COMMAND:
                raise ProtocolError("a Command Set that is too long")
        elif self._request is not None:
            self._write(self._request, data)
        else:
            self._identifier += data
            if len(self._identifier) > MAX_IDENTIFIER:
                raise ProtocolError("an Identifier that is too long")

    def fragment_ends(self, *, last: bool) -> None:
        if not last:
            return
        context_id, self._context_id = self._context_id, None
        assert context_id is not None
        if self._command is not None:
            self._commanded(context_id, bytes(self._command))
        else:
            self._command = bytearray()
            if self._request is not None:
                request, self._request = self._request, None
                self._answer(request)
            else:
                self._pass_on(context_id, b"\x02" + bytes(self._identifier))
                self._identifier.clear()

    def end(self) -> None:
        if self._request is not None and self._request.writer is not None:
            self._request.writer.abort()
        self._request = None
        if self._batch is not None:
            telemetry.log().info(
                "association_ended", door="dimse", ae_title=self._source, instances=self.instances, count=self.failures,
                request_id=self.request_id,
            )  # fmt: skip

    def _commanded(self, context_id: int, encoded: bytes) -> None:
        """A Command Set is complete."""
        command = decode(BytesIO(encoded), True, True)
        has_data_set = command.get("CommandDataSetType") != _NO_DATA_SET
        if command.get("CommandField") == _C_STORE_RQ:
            request = self._begin(context_id, command)
            if has_data_set:
                self._request = request
            else:
                self._fail(request, MalformedInstance("a C-STORE request without Data Set"), recorded=False)
                self._answer(request)
        else:
            self._pass_on(context_id, b"\x03" + encoded)
        if has_data_set:
            self._command, self._context_id = None, context_id
        else:
            self._command = bytearray()

    def _pass_on(self, context_id: int, fragment: bytes) -> None:
        message = P_DATA()
        message.presentation_data_value_list.append((context_id, fragment))
        self.receive_primitive(message)

    # --- C-STORE

    def _begin(self, context_id: int, command: Dataset) -> _Request:
        """PS3.7 section 9.3.1.1. Raises `ProtocolError` where it could not be answered."""
        context = next((each for each in self.assoc.accepted_contexts if each.context_id == context_id), None)
        message_id = command.get("MessageID")
        if context is None or not isinstance(message_id, int) or self._batch is None:
            raise ProtocolError("a C-STORE request without Message ID, or in a context that was not accepted")
        request = _Request(
            context_id, message_id, str(command.get("AffectedSOPClassUID", "")), str(command.get("AffectedSOPInstanceUID", ""))
        )
        try:
            for name, value in (("Class", request.sop_class_uid), ("Instance", request.sop_instance_uid)):
                try:
                    lenient_uid(value)
                except InvalidIdentifier as error:
                    raise MalformedInstance(
                        f"Affected SOP {name} UID: {error}", f"Affected SOP {name} UID is not a UID (PS3.5 section 9.1)"
                    ) from None
            head = part10_head(
                request.sop_class_uid, request.sop_instance_uid, context.transfer_syntax[0], self._source, self._receiver
            )
            request.writer = self._batch.receive()
            request.writer.write(head)
        except Exception as error:  # noqa: BLE001 (answered with a status, and logged)
            self._fail(request, error, recorded=False)
        return request

    def _write(self, request: _Request, data: memoryview) -> None:
        """Appends to the blob; after a failure the rest of the Data Set is read and forgotten, as the answer comes after it."""
        if request.writer is None:
            return
        try:
            request.writer.write(data)
        except Exception as error:  # noqa: BLE001
            self._fail(request, error, recorded=False)

    def _answer(self, request: _Request) -> None:
        """PS3.7 section 9.3.1.2: stores what has arrived and sends the C-STORE-RSP, after the commit."""
        if request.writer is not None and self._batch is not None:
            try:
                self._batch.store(request.writer, Announced(request.sop_class_uid, request.sop_instance_uid))
            except Exception as error:  # noqa: BLE001
                self._fail(request, error, recorded=True)
        status, comment = request.failure or (_SUCCESS, "")
        if status == _SUCCESS:
            self.instances += 1
        else:
            self.failures += 1
        response = C_STORE()
        response.MessageIDBeingRespondedTo = request.message_id
        response.Status = status
        if 0 < len(request.sop_class_uid) <= 64:
            response.AffectedSOPClassUID = request.sop_class_uid
        if 0 < len(request.sop_instance_uid) <= 64:
            response.AffectedSOPInstanceUID = request.sop_instance_uid
        if comment:
            setattr(response, "ErrorComment", comment)  # noqa: B010 (declared as None only)
        self.send_msg(response, request.context_id)

    def _fail(self, request: _Request, error: Exception, *, recorded: bool) -> None:
        """Settles the request's status; the refusal goes into the trail unless `Batch.store` has put it there."""
        if request.writer is not None:
            request.writer.abort()
            request.writer = None
        status, comment = _PROCESSING_FAILURE, "the server failed; its log says where"
        if isinstance(error, ImageShareError):
            status, comment = error.dimse_status, error.short
            if not recorded and self._batch is not None:
                try:
                    self._batch.refused(error, Announced(request.sop_class_uid, request.sop_instance_uid))
                except Exception as failure:  # noqa: BLE001 (the refusal stands even where it cannot be recorded)
                    telemetry.log().error("trail_failed", door="dimse", request_id=self.request_id, **telemetry.failure(failure))
        telemetry.log().warning(
            "c_store_refused", door="dimse", ae_title=self._source, status=f"{status:04X}", request_id=self.request_id,
            **telemetry.failure(error),
        )  # fmt: skip
        request.failure = (status, comment)

"""A DICOM peer that keeps no rules: PDUs of its own making over a plain socket (PS3.8 section 9.3)."""

import socket
import struct

from ihe import dimse, pdu
from ihe.dimse import Command, CommandField

_APPLICATION = "1.2.276.0.7230010.3.0.3.6.7"


class Line:
    """One connection. `answer` tells in words what came back, or that nothing came within `patience` seconds."""

    def __init__(self, port: int, patience: float = 10.0) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), patience)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def associate(self, called: str, calling: str, abstract_syntax: str, transfer_syntax: str = "1.2.840.10008.1.2.1") -> bool:
        """Asks for one presentation context; whether it was accepted."""
        request = pdu.AssociateRequest(
            called=called,
            calling=calling,
            contexts=(pdu.ProposedContext(1, abstract_syntax, (transfer_syntax,)),),
            user=pdu.UserInformation(max_length=16384, implementation_class_uid=_APPLICATION),
        )
        self.socket.sendall(pdu.encode(request))
        found = self._pdu()
        if found is None:
            return False
        answer = pdu.decode(*found)
        return isinstance(answer, pdu.AssociateAccept) and all(context.result == 0 for context in answer.contexts)

    def store(self, sop_class: str, sop_instance: str, data_set: bytes) -> None:
        """A C-STORE request, whole."""
        command = Command(
            field=CommandField.C_STORE_RQ,
            message_id=1,
            affected_sop_class_uid=sop_class,
            affected_sop_instance_uid=sop_instance,
            priority=0,
            has_data_set=True,
        )
        self.send(dimse.encode(command), data_set)

    def echo(self) -> None:
        """A C-ECHO request."""
        self.send(
            dimse.encode(Command(field=CommandField.C_ECHO_RQ, message_id=1, affected_sop_class_uid="1.2.840.10008.1.1")), None
        )

    def send(self, command: bytes, data_set: bytes | None, size: int = 16_000) -> None:
        self.socket.sendall(p_data(3, command))
        pieces = [] if data_set is None else [data_set[at : at + size] for at in range(0, len(data_set), size)] or [b""]
        for number, piece in enumerate(pieces, 1):
            self.socket.sendall(p_data(2 if number == len(pieces) else 0, piece))

    def answer(self) -> str:
        try:
            found = self._pdu()
        except TimeoutError:
            return "no answer"
        except (ConnectionError, pdu.PduError, struct.error):
            return "closed"
        if found is None:
            return "closed"
        kind, body = found
        if kind == 4:
            told = dimse.decode(body[6:])
            return f"0x{told.status or 0:04X}" + (f" {told.error_comment}" if told.error_comment else "")
        return {3: "rejected", 6: "released", 7: "aborted"}.get(kind, f"PDU {kind}")

    def close(self) -> None:
        self.socket.close()

    def _pdu(self) -> tuple[int, bytes] | None:
        head = self._read(6)
        if len(head) < 6:
            return None
        kind, length = struct.unpack(">BxL", head)
        return kind, self._read(length)

    def _read(self, size: int) -> bytes:
        have = bytearray()
        while len(have) < size and (got := self.socket.recv(size - len(have))):
            have += got
        return bytes(have)


def p_data(
    control: int, value: bytes, *, context_id: int = 1, claimed: int | None = None, pdu_length: int | None = None
) -> bytes:
    """A P-DATA-TF PDU of one PDV item; `claimed` and `pdu_length` are lengths that lie."""
    item = struct.pack(">LBB", len(value) + 2 if claimed is None else claimed, context_id, control) + value
    return struct.pack(">BxL", 4, len(item) if pdu_length is None else pdu_length) + item

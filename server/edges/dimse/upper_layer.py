"""PS3.8 section 9: PDUs read from the socket piece by piece, so that memory does not grow with what a peer sends.

pynetdicom collects a PDU before it looks at it, whatever length its header claims, and copies it several times. Here the
values of P-DATA-TF go on as they arrive, in pieces of at most `CHUNK` bytes, and every other PDU has a size limit. The
state machine, and all that is sent, stay pynetdicom's.
"""

import contextlib
import queue
import select
import socket
import time
from struct import unpack
from typing import Protocol

from pynetdicom.association import Association
from pynetdicom.dul import DULServiceProvider
from pynetdicom.fsm import InvalidEventError
from pynetdicom.pdu_primitives import A_P_ABORT

from server import telemetry

CHUNK = 1 << 18
MAX_PDU = 1 << 20
"""Of PDUs that are not P-DATA-TF. An A-ASSOCIATE-RQ with 128 contexts of 60 transfer syntaxes has 250 kB."""

_POLL = 0.001
_ARTIM = 30.0
_P_DATA_TF = 0x04
_QUICKACK = getattr(socket, "TCP_QUICKACK", None)


class ProtocolError(Exception):
    """What the peer sent is no DICOM upper layer or DIMSE message: the association is aborted."""


class _Closed(Exception):
    """The peer has closed the connection."""


class Fragments(Protocol):
    """What becomes of P-DATA-TF values. Each of the first three may raise `ProtocolError`."""

    def fragment_begins(self, context_id: int, *, command: bool) -> None: ...
    def fragment_data(self, data: memoryview) -> None: ...
    def fragment_ends(self, *, last: bool) -> None: ...
    def end(self) -> None:
        """The association is over."""

    @property
    def receiving(self) -> bool:
        """Whether a message is incomplete."""


class UpperLayer(DULServiceProvider):
    """One association's upper layer; all of it runs in its own thread. The socket has a timeout: how long it may be silent."""

    def __init__(self, assoc: Association, fragments: Fragments) -> None:
        super().__init__(assoc)
        self._fragments = fragments
        self._memory = memoryview(bytearray(CHUNK))
        self._item = memoryview(bytearray(6))
        self._ending = False
        self._requested_by = time.monotonic() + (assoc.acse_timeout or _ARTIM)

    def end(self) -> None:
        """Called from another thread: lets what is being stored be answered, then aborts."""
        self._ending = True
        if self.socket is not None and self.socket.socket is not None:
            try:
                self.socket.socket.shutdown(socket.SHUT_RD)
            except OSError:
                return

    def run_reactor(self) -> None:
        try:
            super().run_reactor()
        except InvalidEventError as error:
            # Two things ended the association at once, and the state machine knows only one of them.
            telemetry.log().warning("association_aborted", door="dimse", **telemetry.failure(error))
            if self.socket is not None:
                self.socket.close()
            self.to_user_queue.put(A_P_ABORT())
        finally:
            self._fragments.end()
            if self.assoc.requestor.primitive is None:
                # The association's thread still waits for a request, and would do so until ARTIM runs out.
                self.to_user_queue.put(A_P_ABORT())

    def _process_recv_primitive(self) -> bool:
        """PS3.8 table 9-10, state 13: nothing is sent any more. pynetdicom would take the user's late abort for an error."""
        if self.state_machine.current_state == "Sta13":
            with contextlib.suppress(queue.Empty):
                while True:
                    self.to_provider_queue.get_nowait()
        return super()._process_recv_primitive()

    def _is_transport_event(self) -> bool:
        """Waits for the peer in `select` where pynetdicom sleeps, so that a request does not wait for the end of a nap."""
        established = self.state_machine.current_state == "Sta6"
        self._run_loop_delay = 0 if established else _POLL
        if established and self.socket is not None and self.socket.socket is not None:
            with contextlib.suppress(OSError, ValueError):  # the base class tells the state machine
                select.select([self.socket.socket], [], [], _POLL)
        return super()._is_transport_event()

    def _read_pdu_data(self) -> None:
        """PS3.8 section 9.3.1: one PDU, or as many as complete the message that has begun."""
        try:
            if self.state_machine.current_state == "Sta13":
                self._drain()
                return
            while self._read_pdu() and self._fragments.receiving:
                pass
        except _Closed:
            aborting = self._ending and self.state_machine.current_state == "Sta6"
            self.event_queue.put("Evt19" if aborting else "Evt17")
        except ConnectionError:
            self.event_queue.put("Evt17")
        except Exception as error:  # noqa: BLE001 (whatever it was, this association has come to its end, and only this)
            telemetry.log().warning("association_aborted", door="dimse", **telemetry.failure(error))
            self.event_queue.put("Evt19")

    def _drain(self) -> None:
        """PS3.8 table 9-10, state 13: what still arrives after the end is not looked at."""
        if self.socket is None or self.socket.socket is None or not self.socket.socket.recv_into(self._memory):
            raise _Closed

    def _read_pdu(self) -> bool:
        """Reads one PDU. True if it was P-DATA-TF; any other one is put before the state machine."""
        self._fill(self._item, quickly=True)
        header = bytes(self._item)
        kind, length = unpack(">BxL", header)
        if kind == _P_DATA_TF and self.state_machine.current_state == "Sta6":
            self._p_data(length)
            return True
        if not 0x01 <= kind <= 0x07 or length > MAX_PDU:
            raise ProtocolError("no PDU of PS3.8 section 9.3, or one that is too long")
        body = bytearray(length)
        self._fill(memoryview(body))
        pdu, event = self._decode_pdu(bytearray(header) + body)
        self._recv_pdu.put(pdu)
        self.event_queue.put(event)
        return False

    def _p_data(self, length: int) -> None:
        """PS3.8 section 9.3.5: the presentation data value items of one P-DATA-TF PDU."""
        while length:
            if length < 6:
                raise ProtocolError("a PDV item is longer than its PDU (PS3.8 section 9.3.5.1)")
            self._fill(self._item)
            size, context_id, control = unpack(">LBB", self._item)
            if not 2 <= size <= length - 4:
                raise ProtocolError("a PDV item is longer than its PDU (PS3.8 section 9.3.5.1)")
            length -= 4 + size
            self._fragments.fragment_begins(context_id, command=bool(control & 1))
            left = size - 2
            while left:
                part = self._memory[: min(left, CHUNK)]
                self._fill(part)
                self._fragments.fragment_data(part)
                left -= len(part)
            self._fragments.fragment_ends(last=bool(control & 2))

    def _fill(self, view: memoryview, *, quickly: bool = False) -> None:
        """Receives until `view` is full. Raises `_Closed`, or `TimeoutError` after too long a silence.

        An association must be requested within the ARTIM time as a whole (PS3.8 section 9.1.5), however slowly it trickles in.
        """
        connection = self.socket.socket if self.socket is not None else None
        if connection is None:
            raise _Closed
        if quickly and _QUICKACK is not None:
            # A sender with Nagle's algorithm on holds back the end of a message until we acknowledge its beginning.
            connection.setsockopt(socket.IPPROTO_TCP, _QUICKACK, 1)
        # Data that came with the connection are read before the state machine has heard of either.
        requesting = self.state_machine.current_state in ("Sta1", "Sta2")
        silence = connection.gettimeout()
        while view:
            if requesting:
                connection.settimeout(max(0.001, self._requested_by - time.monotonic()))
            count = connection.recv_into(view)
            if not count:
                raise _Closed
            view = view[count:]
        if requesting:
            connection.settimeout(silence)
        self._idle_timer.restart()

"""PS3.8 section 9.2 over a socket: the state machine with a clock, fragments in, PDUs out. All of it blocks."""

import contextlib
import select
import socket
import ssl
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Never

from ihe import pdu
from ihe.pdu import Abort, AssociateReject, Pdu, PduError
from ihe.upper_layer import PDU_EVENTS, Effect, Event, Fragment, Machine, PduReader, State, Whole
from server.association.ended import Aborted, Ended, Lost, ProtocolError, Rejected, Released, TimedOut
from server.association.sending import Chunk, gather

TOLERATED: Final = 1 << 20
"""The longest P-DATA-TF that we do take: as it is not collected it costs nothing, and some peers count wrongly, or not at all."""

_BUFFER = 1 << 18
_QUICKACK: Final = getattr(socket, "TCP_QUICKACK", None)
_spare_buffers: list[memoryview] = []


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How long things may take, in seconds. A message must come at `slowest` bytes a second at least, after a grace of `silence`.

    So neither a PDU nor a message can be drawn out by a byte now and then. `total` is for the association as a whole, None for any.
    """

    artim: float = 30.0
    silence: float = 60.0
    total: float | None = None
    slowest: int = 4096


class Channel:
    """One side of an association over `connection`, which is connected, and through with the opening of TLS."""

    def __init__(self, connection: socket.socket, *, requestor: bool, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        self.ending = False
        """Set from another thread: the association is aborted before the next message."""
        self._machine = Machine(requestor=requestor)
        self._reader = PduReader(TOLERATED)
        self._socket = connection
        self._secure = isinstance(connection, ssl.SSLSocket)
        self._poll = select.poll()
        self._poll.register(connection, select.POLLIN)
        self._buffer = _spare_buffers.pop() if _spare_buffers else memoryview(bytearray(_BUFFER))
        self._answer: Pdu | None = None
        self._timeout = -1.0
        self._until = time.monotonic() + self.limits.total if self.limits.total else float("inf")
        self._message_began = 0.0
        self._message_bytes = -1
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    @property
    def established(self) -> bool:
        return self._machine.state is State.ESTABLISHED

    @property
    def data_arriving(self) -> bool:
        """Whether a further P-DATA-TF has begun to arrive. Waits for nothing; through TLS it looks no further than what was received."""
        found = self._reader.has_data
        if found is not None or self._secure or not self._readable():
            return bool(found)
        with contextlib.suppress(OSError):
            return self._socket.recv(1, socket.MSG_PEEK) == bytes((pdu.P_DATA_TF,))
        return False

    # --- end

    def linger(self, patience: float) -> None:
        """PS3.8 state 13: waits for the peer to close, so that it reads what was sent to it last; then closes."""
        deadline = time.monotonic() + patience
        with contextlib.suppress(OSError):
            while self._machine.state is State.AWAITING_CLOSE and (left := deadline - time.monotonic()) > 0:
                self._socket.settimeout(left)
                if not self._socket.recv_into(self._buffer):
                    break
        self.close()

    def detach(self) -> socket.socket | None:
        """What is left when it is over: the connection whose peer has yet to close it, for somebody else to wait; None if it is closed."""
        waiting = self._machine.state is State.AWAITING_CLOSE
        if not waiting:
            self.close()
            return None
        self._give_back()
        return self._socket

    def close(self) -> None:
        self._machine.state = State.IDLE
        self._socket.close()
        self._give_back()

    def _give_back(self) -> None:
        if len(_spare_buffers) < 8 and len(self._buffer) == _BUFFER:
            _spare_buffers.append(self._buffer)
        self._buffer = memoryview(b"")

    def shut(self) -> None:
        """Called from another thread: wakes the association's own, which then finds that it is ending."""
        self.ending = True
        with contextlib.suppress(OSError):
            socket.socket.shutdown(self._socket, socket.SHUT_RD)  # SSLSocket's own would also end the encryption of what we send

    def fail(self, reason: Ended) -> Never:
        """Aborts an association for what its peer did, and raises `reason`: event 19 of table 9-10."""
        self._event(Event.INVALID_PDU, reason=reason)
        raise reason

    # --- what arrives

    def _fragment(self) -> Fragment:
        while True:
            fragment = self._pull()
            if fragment is not None:
                return fragment

    def _pull(self, deadline: float | None = None) -> Fragment | None:
        """The next piece of what arrives; None if it was no P-DATA-TF but changed the state. Raises `Ended`."""
        while True:
            found = self._next()
            if found is not None:
                break
            self._fill(deadline)
        return self._handled(found)

    def _arrived(self) -> Fragment | None:
        """As `_pull`, but None when what is here is used up."""
        while True:
            found = self._next()
            if found is None:
                if not self._readable():
                    return None
                self._fill(None)
            elif (fragment := self._handled(found)) is not None:
                return fragment

    def _next(self) -> Fragment | Whole | None:
        try:
            return self._reader.next()
        except PduError as error:
            self.fail(ProtocolError(str(error)))

    def _handled(self, found: Fragment | Whole) -> Fragment | None:
        if isinstance(found, Whole):
            try:
                what = pdu.decode(*found)
            except PduError as error:
                self.fail(ProtocolError(str(error)))
            self._event(PDU_EVENTS[found.kind], what)
            return None
        # DT-2 and AR-6 leave the state as it is; in all others data are what ends the association.
        if self._machine.state not in (State.ESTABLISHED, State.AWAITING_RELEASE_RESPONSE):
            self._event(Event.DATA_PDU)
            return None
        return found

    def _readable(self) -> bool:
        return bool((self._secure and self._socket.pending()) or self._poll.poll(0))  # type: ignore[attr-defined]

    def _wait_for(self, deadline: float | None, now: float) -> None:
        """Sets how long the next read may take, and ends what has taken too long altogether."""
        limits = self.limits
        left = min(limits.silence, self._until - now, (deadline or self._until) - now)
        slow = self._message_bytes >= 0 and now - self._message_began > limits.silence + self._message_bytes / limits.slowest
        if left <= 0 or slow:
            self.fail(TimedOut("the peer took too long"))
        if left != self._timeout:
            self._socket.settimeout(left)
            self._timeout = left

    def _fill(self, deadline: float | None) -> None:
        """Receives once."""
        now = time.monotonic()
        self._wait_for(deadline, now)
        if _QUICKACK is not None:
            # A sender with Nagle's algorithm on holds back the end of a message until we acknowledge its beginning.
            self._socket.setsockopt(socket.IPPROTO_TCP, _QUICKACK, 1)
        try:
            count = self._socket.recv_into(self._buffer)
        except TimeoutError:
            self.fail(TimedOut("the peer was silent for too long"))
        except OSError:
            count = 0
        if not count:
            if self.ending and self._machine.state is State.ESTABLISHED:
                self.fail(ProtocolError("the server is ending"))
            self._event(Event.CLOSED)
            raise Lost("the connection is gone")
        if self._message_bytes < 0:
            self._message_began, self._message_bytes = now, 0
        self._message_bytes += count
        self._reader.feed(self._buffer[:count])

    # --- what is sent, and the state machine

    def _event(self, event: Event, what: Pdu | None = None, reason: Ended | None = None) -> None:
        """One step of PS3.8 table 9-10: what is sent, received and indicated. `what` is the PDU of a PDU's event, or that to be sent."""
        for effect in self._machine.step(event):
            if effect is Effect.SEND_USER_ABORT:
                self._say(Abort(0))
            elif effect is Effect.SEND_PROVIDER_ABORT:
                self._say(Abort(2, _provider_reason(event, reason)))
            elif effect in _SENT and what is not None:
                self._write([pdu.encode(what)])
            elif effect is Effect.CLOSE:
                self._socket.close()
            else:
                self._indicate(effect, event, what, reason)

    def _indicate(self, effect: Effect, event: Event, what: Pdu | None, reason: Ended | None) -> None:
        """What PS3.8 calls an indication or a confirmation: the end of an association is an exception."""
        if effect is Effect.CONFIRM_ACCEPTED:
            self._answer = what
        elif effect is Effect.CONFIRM_REJECTED and isinstance(what, AssociateReject):
            self.close()
            raise Rejected(what)
        elif effect is Effect.INDICATE_RELEASE:
            self._released()
        elif effect is Effect.INDICATE_ABORT and isinstance(what, Abort):
            self.close()
            raise Aborted(what)
        elif effect is Effect.INDICATE_PROVIDER_ABORT and event is Event.CLOSED:
            self.close()
            raise Lost("the connection is gone")
        elif effect is Effect.INDICATE_PROVIDER_ABORT:
            raise reason or ProtocolError("a PDU that has no place here (PS3.8 table 9-10)")

    def _released(self) -> None:
        """PS3.8 section 7.2.2: a release is always agreed to; in a collision the requestor answers first."""
        collided = self._machine.state in (State.COLLISION_REQUESTOR_AWAITS_LOCAL, State.COLLISION_ACCEPTOR_AWAITS_PDU)
        if self._machine.state is State.COLLISION_ACCEPTOR_AWAITS_PDU:
            deadline = time.monotonic() + self.limits.artim
            while self._machine.state is State.COLLISION_ACCEPTOR_AWAITS_PDU:
                self._pull(deadline)
        self._event(Event.RELEASE_RESPONSE, pdu.ReleaseResponse())
        if not collided:
            raise Released("the peer released the association")

    def _say(self, last_word: Pdu) -> None:
        """Sends what ends an association; whether it still arrives does not matter."""
        with contextlib.suppress(OSError):
            self._socket.settimeout(2.0)
            self._timeout = 2.0
            self._socket.sendall(pdu.encode(last_word))

    def _write(self, parts: Sequence[Chunk]) -> None:
        """Sends all of `parts`, by as few calls as they take. Raises `Lost` or `TimedOut`."""
        if self._timeout != self.limits.silence:
            self._socket.settimeout(self.limits.silence)
            self._timeout = self.limits.silence
        try:
            if self._secure or len(parts) == 1:
                self._socket.sendall(parts[0] if len(parts) == 1 else b"".join(parts))
            else:
                gather(self._socket, parts)
        except TimeoutError:
            self.fail(TimedOut("the peer does not read"))
        except OSError:
            self._event(Event.CLOSED)
            raise Lost("the connection is gone") from None


_SENT: Final = frozenset(
    {Effect.SEND_ASSOCIATE_RQ, Effect.SEND_ASSOCIATE_AC, Effect.SEND_ASSOCIATE_RJ, Effect.SEND_RELEASE_RQ, Effect.SEND_RELEASE_RP}
)


def _provider_reason(event: Event, reason: Ended | None) -> int:
    """PS3.8 table 9-26: unrecognized or unexpected PDU; nothing of it fits a peer that was too slow."""
    if event is not Event.INVALID_PDU:
        return 2
    return 0 if isinstance(reason, TimedOut) else 1

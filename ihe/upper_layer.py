"""PS3.8 sections 9.2 and 9.3: the upper layer's state machine as its tables, and PDUs cut out of a stream of bytes.

Neither opens a socket nor knows the time. `Machine` says what is to be done about an event; `PduReader` hands on the values
of P-DATA-TF as views of the bytes it was given, so that nothing is collected or copied, however long a PDU or PDV is.
"""

from collections.abc import Mapping
from enum import Enum, IntEnum, auto
from struct import unpack, unpack_from
from typing import Final, NamedTuple

from ihe.pdu import ABORT, ASSOCIATE_AC, ASSOCIATE_RJ, ASSOCIATE_RQ, P_DATA_TF, RELEASE_RP, RELEASE_RQ, PduError

MAX_PDU: Final = 1 << 20
"""Of PDUs that are not P-DATA-TF. An A-ASSOCIATE-RQ with 128 contexts of 60 transfer syntaxes has 250 kB."""


class State(IntEnum):
    """PS3.8 tables 9-1 to 9-5."""

    IDLE = 1
    AWAITING_REQUEST = 2
    AWAITING_LOCAL_ANSWER = 3
    AWAITING_CONNECTION = 4
    AWAITING_ANSWER = 5
    ESTABLISHED = 6
    AWAITING_RELEASE_RESPONSE = 7
    AWAITING_LOCAL_RELEASE_RESPONSE = 8
    COLLISION_REQUESTOR_AWAITS_LOCAL = 9
    COLLISION_ACCEPTOR_AWAITS_PDU = 10
    COLLISION_REQUESTOR_AWAITS_PDU = 11
    COLLISION_ACCEPTOR_AWAITS_LOCAL = 12
    AWAITING_CLOSE = 13


class Event(IntEnum):
    """PS3.8 table 9-10, its rows."""

    ASSOCIATE_REQUEST = 1
    CONNECTED = 2
    ACCEPT_PDU = 3
    REJECT_PDU = 4
    CONNECTION_INDICATION = 5
    REQUEST_PDU = 6
    ACCEPT = 7
    REJECT = 8
    DATA_REQUEST = 9
    DATA_PDU = 10
    RELEASE_REQUEST = 11
    RELEASE_REQUEST_PDU = 12
    RELEASE_RESPONSE_PDU = 13
    RELEASE_RESPONSE = 14
    ABORT_REQUEST = 15
    ABORT_PDU = 16
    CLOSED = 17
    TIMER_EXPIRED = 18
    INVALID_PDU = 19


PDU_EVENTS: Final[Mapping[int, Event]] = {
    ASSOCIATE_RQ: Event.REQUEST_PDU,
    ASSOCIATE_AC: Event.ACCEPT_PDU,
    ASSOCIATE_RJ: Event.REJECT_PDU,
    P_DATA_TF: Event.DATA_PDU,
    RELEASE_RQ: Event.RELEASE_REQUEST_PDU,
    RELEASE_RP: Event.RELEASE_RESPONSE_PDU,
    ABORT: Event.ABORT_PDU,
}


class Effect(Enum):
    """What an action asks of whoever has the socket and the clock."""

    CONNECT = auto()
    SEND_ASSOCIATE_RQ = auto()
    SEND_ASSOCIATE_AC = auto()
    SEND_ASSOCIATE_RJ = auto()
    SEND_DATA = auto()
    SEND_RELEASE_RQ = auto()
    SEND_RELEASE_RP = auto()
    SEND_USER_ABORT = auto()
    SEND_PROVIDER_ABORT = auto()
    INDICATE_ASSOCIATION = auto()
    CONFIRM_ACCEPTED = auto()
    CONFIRM_REJECTED = auto()
    INDICATE_DATA = auto()
    INDICATE_RELEASE = auto()
    CONFIRM_RELEASE = auto()
    INDICATE_ABORT = auto()
    INDICATE_PROVIDER_ABORT = auto()
    START_TIMER = auto()
    STOP_TIMER = auto()
    CLOSE = auto()


# PS3.8 tables 9-6 to 9-9: effects, next state. Of AE-6 and AR-8, which have two next states, the second stands in `Machine.step`.
ACTIONS: Final[Mapping[str, tuple[tuple[Effect, ...], State]]] = {
    "AE-1": ((Effect.CONNECT,), State.AWAITING_CONNECTION),
    "AE-2": ((Effect.SEND_ASSOCIATE_RQ,), State.AWAITING_ANSWER),
    "AE-3": ((Effect.CONFIRM_ACCEPTED,), State.ESTABLISHED),
    "AE-4": ((Effect.CONFIRM_REJECTED, Effect.CLOSE), State.IDLE),
    "AE-5": ((Effect.START_TIMER,), State.AWAITING_REQUEST),
    "AE-6": ((Effect.STOP_TIMER, Effect.INDICATE_ASSOCIATION), State.AWAITING_LOCAL_ANSWER),
    "AE-7": ((Effect.SEND_ASSOCIATE_AC,), State.ESTABLISHED),
    "AE-8": ((Effect.SEND_ASSOCIATE_RJ, Effect.START_TIMER), State.AWAITING_CLOSE),
    "DT-1": ((Effect.SEND_DATA,), State.ESTABLISHED),
    "DT-2": ((Effect.INDICATE_DATA,), State.ESTABLISHED),
    "AR-1": ((Effect.SEND_RELEASE_RQ,), State.AWAITING_RELEASE_RESPONSE),
    "AR-2": ((Effect.INDICATE_RELEASE,), State.AWAITING_LOCAL_RELEASE_RESPONSE),
    "AR-3": ((Effect.CONFIRM_RELEASE, Effect.CLOSE), State.IDLE),
    "AR-4": ((Effect.SEND_RELEASE_RP, Effect.START_TIMER), State.AWAITING_CLOSE),
    "AR-5": ((Effect.STOP_TIMER,), State.IDLE),
    "AR-6": ((Effect.INDICATE_DATA,), State.AWAITING_RELEASE_RESPONSE),
    "AR-7": ((Effect.SEND_DATA,), State.AWAITING_LOCAL_RELEASE_RESPONSE),
    "AR-8": ((Effect.INDICATE_RELEASE,), State.COLLISION_REQUESTOR_AWAITS_LOCAL),
    "AR-9": ((Effect.SEND_RELEASE_RP,), State.COLLISION_REQUESTOR_AWAITS_PDU),
    "AR-10": ((Effect.CONFIRM_RELEASE,), State.COLLISION_ACCEPTOR_AWAITS_LOCAL),
    "AA-1": ((Effect.SEND_USER_ABORT, Effect.START_TIMER), State.AWAITING_CLOSE),
    "AA-2": ((Effect.STOP_TIMER, Effect.CLOSE), State.IDLE),
    "AA-3": ((Effect.INDICATE_ABORT, Effect.CLOSE), State.IDLE),
    "AA-4": ((Effect.INDICATE_PROVIDER_ABORT,), State.IDLE),
    "AA-5": ((Effect.STOP_TIMER,), State.IDLE),
    "AA-6": ((), State.AWAITING_CLOSE),
    "AA-7": ((Effect.SEND_PROVIDER_ABORT,), State.AWAITING_CLOSE),
    "AA-8": ((Effect.SEND_PROVIDER_ABORT, Effect.INDICATE_PROVIDER_ABORT, Effect.START_TIMER), State.AWAITING_CLOSE),
}

# PS3.8 table 9-10: a row for each event, a column for each state from 1 to 13
_TABLE: Final = """
 1  AE-1  .     .     .     .     .     .     .     .     .     .     .     .
 2  .     .     .     AE-2  .     .     .     .     .     .     .     .     .
 3  .     AA-1  AA-8  .     AE-3  AA-8  AA-8  AA-8  AA-8  AA-8  AA-8  AA-8  AA-6
 4  .     AA-1  AA-8  .     AE-4  AA-8  AA-8  AA-8  AA-8  AA-8  AA-8  AA-8  AA-6
 5  AE-5  .     .     .     .     .     .     .     .     .     .     .     .
 6  .     AE-6  AA-8  .     AA-8  AA-8  AA-8  AA-8  AA-8  AA-8  AA-8  AA-8  AA-7
 7  .     .     AE-7  .     .     .     .     .     .     .     .     .     .
 8  .     .     AE-8  .     .     .     .     .     .     .     .     .     .
 9  .     .     .     .     .     DT-1  .     AR-7  .     .     .     .     .
10  .     AA-1  AA-8  .     AA-8  DT-2  AR-6  AA-8  AA-8  AA-8  AA-8  AA-8  AA-6
11  .     .     .     .     .     AR-1  .     .     .     .     .     .     .
12  .     AA-1  AA-8  .     AA-8  AR-2  AR-8  AA-8  AA-8  AA-8  AA-8  AA-8  AA-6
13  .     AA-1  AA-8  .     AA-8  AA-8  AR-3  AA-8  AA-8  AR-10 AR-3  AA-8  AA-6
14  .     .     .     .     .     .     .     AR-4  AR-9  .     .     AR-4  .
15  .     .     AA-1  AA-2  AA-1  AA-1  AA-1  AA-1  AA-1  AA-1  AA-1  AA-1  .
16  .     AA-2  AA-3  .     AA-3  AA-3  AA-3  AA-3  AA-3  AA-3  AA-3  AA-3  AA-2
17  .     AA-5  AA-4  AA-4  AA-4  AA-4  AA-4  AA-4  AA-4  AA-4  AA-4  AA-4  AR-5
18  .     AA-2  .     .     .     .     .     .     .     .     .     .     AA-2
19  .     AA-1  AA-8  .     AA-8  AA-8  AA-8  AA-8  AA-8  AA-8  AA-8  AA-8  AA-7
"""
TABLE: Final[Mapping[tuple[Event, State], str]] = {
    (Event(int(row.split()[0])), State(number)): action
    for row in _TABLE.strip().splitlines()
    for number, action in enumerate(row.split()[1:], 1)
    if action != "."
}


class ImpossibleEvent(Exception):
    """A blank cell of table 9-10: a primitive that has no place in this state. A slip of the program, never of the peer."""


class Machine:
    """One association's state, PS3.8 section 9.2."""

    def __init__(self, *, requestor: bool) -> None:
        self.requestor = requestor
        self.state = State.IDLE

    def step(self, event: Event, *, acceptable: bool = True) -> tuple[Effect, ...]:
        """What is to be done about `event`; the state is the next one already. `acceptable`: AE-6, whether the provider takes the request.

        Raises `ImpossibleEvent`.
        """
        name = TABLE.get((event, self.state))
        if name is None:
            raise ImpossibleEvent(f"{event.name} in {self.state.name} (PS3.8 table 9-10)")
        effects, self.state = ACTIONS[name]
        if name == "AR-8" and not self.requestor:
            self.state = State.COLLISION_ACCEPTOR_AWAITS_PDU
        if name == "AE-6" and not acceptable:
            self.state = State.AWAITING_CLOSE
            return Effect.STOP_TIMER, Effect.SEND_ASSOCIATE_RJ, Effect.START_TIMER
        return effects


class Fragment(NamedTuple):
    """A piece of a message, PS3.8 section 9.3.5.1 and annex E.2. `last` is True for the last piece of the last PDV only.

    `data` is a view of what was fed: it holds until the next `PduReader.feed`.
    """

    context_id: int
    command: bool
    last: bool
    data: memoryview


class Whole(NamedTuple):
    """A PDU that is not P-DATA-TF: its type, and what follows its header."""

    kind: int
    body: bytes


_NOTHING: Final = memoryview(b"")


class PduReader:
    """PS3.8 section 9.3.1: cuts what arrives into fragments and PDUs. `longest` caps the length of a P-DATA-TF PDU.

    Feed it when `next` has given None, and not before. A length that cannot be is told as soon as its header is there.
    """

    def __init__(self, longest: int) -> None:
        self._longest = longest
        self._data = _NOTHING
        self._at = 0
        self._header = bytearray()
        self._pdu_left = 0
        self._value_left = -1
        self._context_id = self._control = 0
        self._kind = self._body_left = 0
        self._body: bytearray | None = None

    def feed(self, data: memoryview) -> None:
        self._data, self._at = data, 0

    @property
    def has_data(self) -> bool | None:
        """Whether what comes next of what was fed is of a P-DATA-TF; None if all of it was looked at."""
        if self._at == len(self._data):
            return None
        return self._pdu_left > 0 or (not self._header and self._data[self._at] == P_DATA_TF)

    def next(self) -> Fragment | Whole | None:
        """The next piece of what was fed, or None when it is used up. Raises `PduError`."""
        while True:
            if self._value_left >= 0:
                return self._fragment()
            if self._body is not None:
                return self._collected(self._body)
            header = self._take_header()
            if header is None:
                return None
            if self._pdu_left:
                self._begin_value(header)
            else:
                self._begin_pdu(header)

    def _take_header(self) -> bytes | memoryview | None:
        """PDUs and PDV items both begin with 6 bytes, which may come in two reads."""
        available = len(self._data) - self._at
        wanted = 6 - len(self._header)
        part = self._data[self._at : self._at + wanted]
        self._at += len(part)
        if available >= 6 and wanted == 6:
            return part
        self._header += part
        if len(self._header) < 6:
            return None
        whole, self._header = bytes(self._header), bytearray()
        return whole

    def _begin_pdu(self, header: bytes | memoryview) -> None:
        kind, length = unpack(">BxL", header)
        if kind == P_DATA_TF:
            if not 6 <= length <= self._longest:
                raise PduError("a P-DATA-TF that is too short for a PDV, or longer than was agreed (PS3.8 section 9.3.5)")
            self._pdu_left = length
        elif kind in PDU_EVENTS and length <= MAX_PDU:
            self._kind, self._body_left, self._body = kind, length, bytearray()
        else:
            raise PduError("no PDU of PS3.8 section 9.3, or one that is too long")

    def _begin_value(self, header: bytes | memoryview) -> None:
        length, self._context_id, self._control = unpack_from(">LBB", header)
        if not 2 <= length <= self._pdu_left - 4:
            raise PduError("a PDV item is longer than its PDU (PS3.8 section 9.3.5.1)")
        self._value_left = length - 2
        self._pdu_left -= 4 + length
        if 0 < self._pdu_left < 6:
            raise PduError("a PDU goes on behind its last PDV item (PS3.8 section 9.3.5)")

    def _fragment(self) -> Fragment | None:
        part = self._data[self._at : self._at + self._value_left]
        if not part and self._value_left:
            return None
        self._at += len(part)
        self._value_left -= len(part)
        control = self._control
        if self._value_left:
            return Fragment(self._context_id, bool(control & 1), False, part)
        self._value_left = -1
        return Fragment(self._context_id, bool(control & 1), bool(control & 2), part)

    def _collected(self, body: bytearray) -> Whole | None:
        part = self._data[self._at : self._at + self._body_left]
        body += part
        self._at += len(part)
        self._body_left -= len(part)
        if self._body_left:
            return None
        self._body = None
        return Whole(self._kind, bytes(body))

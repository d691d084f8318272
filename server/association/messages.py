"""PS3.7 section 8: an association's messages, whole, in either role."""

import contextlib
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Final

from ihe import dimse, pdu
from ihe.dimse import Command, DimseError
from ihe.pdu import AssociateAccept, AssociateReject, AssociateRequest
from ihe.upper_layer import Event, Fragment, State
from server.association.channel import Channel, Limits
from server.association.ended import Ended, Lost, ProtocolError
from server.association.sending import MAX_LENGTH, Chunk, DataSet, longest_sent, pdus

MAX_COMMAND: Final = 1 << 16
MAX_DATA_SET: Final = 8 << 20
"""Of Data Sets that are put together in memory, which those of C-STORE never are."""

_GATHERED = 1 << 20
_MOST_PARTS = 512


@dataclass(frozen=True, slots=True)
class Accepted:
    """PS3.8 section 9.3.3.2: a presentation context that both sides have. `scu`, `scp`: the requestor's roles in it."""

    id: int
    abstract_syntax: str
    transfer_syntax: str
    scu: bool = True
    scp: bool = False


@dataclass(frozen=True, slots=True)
class Received:
    """A message. `data_set` is empty where there is none, or where it went into a sink."""

    context_id: int
    command: Command
    data_set: bytes = b""


class Association(Channel):
    """An association over a connected socket. Of a requestor it begins with `request`.

    `contexts` are those accepted, by id. `peer` is what the other side said when it was made.
    """

    def __init__(self, connection: socket.socket, *, requestor: bool, limits: Limits | None = None) -> None:
        super().__init__(connection, requestor=requestor, limits=limits)
        self.contexts: dict[int, Accepted] = {}
        self.peer: AssociateRequest | AssociateAccept | None = None
        self._longest_sent = MAX_LENGTH
        self._command = bytearray()
        self._command_context: int | None = None
        self._data_set_left = False
        self._last_message_id = 0

    # --- beginning

    @classmethod
    def requested(cls, connection: socket.socket, request: AssociateRequest, limits: Limits) -> "Association":
        """The acceptor's side, for a request that has arrived: state 3, answer it by `accept` or `reject`."""
        made = cls(connection, requestor=False, limits=limits)
        made._machine.step(Event.CONNECTION_INDICATION)
        made._machine.step(Event.REQUEST_PDU)
        made.peer = request
        made._longest_sent = longest_sent(request.user.max_length)
        return made

    def accept(self, answer: AssociateAccept, contexts: Iterable[Accepted]) -> None:
        """PS3.8 section 7.1: A-ASSOCIATE response, accepted."""
        self.contexts = {each.id: each for each in contexts}
        self._event(Event.ACCEPT, answer)

    def reject(self, answer: AssociateReject) -> None:
        """PS3.8 section 7.1: A-ASSOCIATE response, rejected; `linger` until the peer has closed."""
        self._event(Event.REJECT, answer)

    def request(self, request: AssociateRequest) -> AssociateAccept:
        """PS3.8 section 7.1: A-ASSOCIATE request over a new connection. Raises `Rejected` and the other kinds of `Ended`."""
        self._machine.step(Event.ASSOCIATE_REQUEST)
        self._event(Event.CONNECTED, request)
        deadline = time.monotonic() + self.limits.artim
        while self._machine.state is State.AWAITING_ANSWER:
            self._pull(deadline=deadline)
        answer = self._answer
        assert isinstance(answer, AssociateAccept)
        self.peer = answer
        self._longest_sent = longest_sent(answer.user.max_length)
        self.contexts = {each.id: each for each in _agreed(request, answer)}
        return answer

    # --- messages

    def context(self, abstract_syntax: str, transfer_syntax: str | None = None) -> Accepted | None:
        """The accepted presentation context for these, if there is one."""
        for each in self.contexts.values():
            if each.abstract_syntax == abstract_syntax and transfer_syntax in (None, each.transfer_syntax):
                return each
        return None

    def next_message_id(self) -> int:
        """PS3.7 section 9.3: a Message ID for a request of ours."""
        self._last_message_id = self._last_message_id % 0xFFFF + 1
        return self._last_message_id

    def send(self, context_id: int, command: Command, data_set: DataSet | None = None) -> None:
        """PS3.7 section 6.3 and PS3.8 annex E: a message, in PDUs of the length that the peer takes. `has_data_set` is set by `data_set`.

        A Data Set in pieces is sent piece by piece; nothing is joined or copied. Raises `Ended`.
        """
        self.send_each(context_id, command, (data_set,))

    def send_each(self, context_id: int, command: Command, data_sets: Iterable[DataSet | None]) -> None:
        """As `send`, a message for each of the Data Sets; small ones go together. Either each has a Data Set, or none has (None)."""
        waiting: list[Chunk] = []
        size = 0
        encoded = b""
        for data_set in data_sets:
            if command.has_data_set != (data_set is not None):
                command = replace(command, has_data_set=data_set is not None)
            encoded = encoded or dimse.encode(command)
            self._may_send()
            for part in pdus(context_id, encoded, data_set, self._longest_sent):
                waiting.append(part)
                size += len(part)
                if size >= _GATHERED or len(waiting) >= _MOST_PARTS:
                    self._write(waiting)
                    waiting, size = [], 0
        if waiting:
            self._write(waiting)

    def _may_send(self) -> None:
        if self._machine.state is not State.ESTABLISHED:
            raise Lost("the association is over")
        self._machine.step(Event.DATA_REQUEST)

    def receive(self, sink: Callable[[memoryview], object] | None = None) -> Received:
        """The next message whole, its Data Set in `sink` if one is given. Raises `Ended`, also `Released` when that is what came."""
        context_id, command = self.receive_command()
        if not command.has_data_set:
            return Received(context_id, command)
        if sink is not None:
            self.receive_data_set(context_id, sink)
            return Received(context_id, command)
        return Received(context_id, command, self.collect_data_set(context_id))

    def receive_command(self) -> tuple[int, Command]:
        """The next message's presentation context and Command Set; if it has a Data Set, that must be received next."""
        while True:
            if self.ending and self._command_context is None:
                self.fail(ProtocolError("the server is ending"))
            found = self._commanded(self._fragment())
            if found is not None:
                return found

    def arrived_command(self) -> tuple[int, Command] | None:
        """As `receive_command`, of what is here already; None if that is not a whole Command Set. Waits for nothing."""
        while (fragment := self._arrived()) is not None:
            found = self._commanded(fragment)
            if found is not None:
                return found
        return None

    def receive_data_set(self, context_id: int, sink: Callable[[memoryview], object]) -> None:
        """The Data Set of the message whose Command Set came last, in pieces that hold until `sink` returns."""
        last = False
        while not last:
            found, command, last, data = self._fragment()
            if command or found != context_id:
                self.fail(ProtocolError("a Command Set or another context within a Data Set (PS3.8 annex E.1)"))
            sink(data)
        self._data_set_left = False
        self._message_bytes = -1

    def collect_data_set(self, context_id: int) -> bytes:
        """As `receive_data_set`, put together. At most `MAX_DATA_SET` bytes."""
        collected = bytearray()

        def add(data: memoryview) -> None:
            nonlocal collected
            collected += data
            if len(collected) > MAX_DATA_SET:
                self.fail(ProtocolError("an Identifier that is too long"))

        self.receive_data_set(context_id, add)
        return bytes(collected)

    def _commanded(self, fragment: Fragment) -> tuple[int, Command] | None:
        """PS3.7 section 6.3.1: a Command Set once its last fragment is here."""
        context_id, command, last, data = fragment
        if not command or self._data_set_left:
            self.fail(ProtocolError("a Data Set without a Command Set, or the other way round (PS3.7 section 6.3.1)"))
        if self._command_context not in (None, context_id):
            self.fail(ProtocolError("one message in two presentation contexts (PS3.8 annex E.1)"))
        if context_id not in self.contexts:
            self.fail(ProtocolError("a presentation context that was not accepted (PS3.8 section 9.3.5.1)"))
        self._command_context = context_id
        self._command += data
        if len(self._command) > MAX_COMMAND:
            self.fail(ProtocolError("a Command Set that is too long"))
        if not last:
            return None
        try:
            found = dimse.decode(self._command)
        except DimseError as error:
            self.fail(ProtocolError(str(error)))
        self._command.clear()
        self._command_context = None
        self._data_set_left = found.has_data_set
        if not found.has_data_set:
            self._message_bytes = -1
        return context_id, found

    # --- end

    def release(self) -> None:
        """PS3.8 section 7.2: A-RELEASE in order; what still comes from the peer is passed over. Raises nothing but a slip."""
        try:
            self._event(Event.RELEASE_REQUEST, pdu.ReleaseRequest())
            deadline = time.monotonic() + self.limits.artim
            while self._machine.state is not State.IDLE:
                self._pull(deadline=deadline)
        except Ended:
            pass
        self.linger(1.0)

    def abort(self) -> None:
        """PS3.8 section 7.3: A-ABORT by the service user. Without effect on what is over."""
        if self._machine.state not in (State.IDLE, State.AWAITING_REQUEST, State.AWAITING_CLOSE):
            with contextlib.suppress(Ended):
                self._event(Event.ABORT_REQUEST)
        self.linger(1.0)


def _agreed(request: AssociateRequest, answer: AssociateAccept) -> Iterator[Accepted]:
    """PS3.7 annex D.3.3.4: what the acceptor took of what we proposed; a role that it does not answer is the default one."""
    proposed = {each.id: each for each in request.contexts}
    asked = {each.sop_class: each for each in request.user.roles}
    roles = {each.sop_class: each for each in answer.user.roles}
    for each in answer.contexts:
        context = proposed.get(each.id)
        if each.result != pdu.ACCEPTANCE or context is None or each.transfer_syntax not in context.transfer_syntaxes:
            continue
        wanted, given = asked.get(context.abstract_syntax), roles.get(context.abstract_syntax)
        if wanted is None or given is None:
            yield Accepted(each.id, context.abstract_syntax, each.transfer_syntax)
        else:
            scu, scp = wanted.scu and given.scu, wanted.scp and given.scp
            yield Accepted(each.id, context.abstract_syntax, each.transfer_syntax, scu, scp)

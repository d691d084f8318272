"""The seam between the DICOM port and its services: what a service is, and what it sees of an association.

A service is a row of a table: which SOP Classes it negotiates, which requests it answers, and the permission that a peer needs.
The port negotiates, reads messages and calls the handler in the association's thread; C-STORE streams and has its own
way in (`reception`). The conformance statement is written from the same tables.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from ihe.dimse import Command
from server.association import Accepted as Context
from server.association import Ended
from server.edges.context import Node
from server.settings import Device


@dataclass(frozen=True, slots=True)
class Message:
    """A request whose Data Set, if any, is complete; `data_set` is as it was sent, in the context's transfer syntax."""

    context: Context
    command: Command
    data_set: bytes = b""


class Association(Protocol):
    """One accepted association, as services see it. All methods are for the thread that the handler was called in."""

    node: Node
    device: Device
    """The configured peer: what it may do and who assigns its patient ids."""
    calling: str
    called: str
    address: str
    request_id: str
    contexts: Mapping[int, Context]
    extended: Mapping[str, bytes]
    """SOP Class Extended Negotiation (PS3.7 section D.3.3.5): what was agreed, by abstract syntax."""

    def respond(self, context: Context, command: Command, data_set: bytes | Iterable[bytes] | None = None) -> None:
        """Sends a response; `command.has_data_set` is set from `data_set`. Raises `Ended` where the peer is gone."""

    def respond_each(self, context: Context, command: Command, data_sets: Iterable[bytes]) -> None:
        """As `respond`, with the same Command for each of several Data Sets, which go out together. Raises `Ended`."""

    def perform(self, context: Context, command: Command, data_set: bytes | Iterable[bytes] | None = None) -> Command:
        """Sends a request of ours over this association (a C-STORE sub-operation of C-GET, N-EVENT-REPORT); returns the response.

        The association gives it its Message ID. Raises `Ended`.
        """

    def invoke(self, context: Context, command: Command, data_set: bytes | Iterable[bytes] | None = None) -> int:
        """The first half of `perform`: sends the request and returns its Message ID, so that there is time before its `answer`.

        Raises `Ended`, and what the pieces of the Data Set raise; the association is aborted then.
        """

    def answer(self, number: int) -> Command:
        """The second half: waits for the response to the request with this Message ID. Raises `Ended`."""

    def cancelled(self, message_id: int) -> bool:
        """PS3.7 section 9.3.2.3: whether a C-CANCEL-RQ for that request has arrived. Looks at what is there, waits for nothing."""


Handler = Callable[[Association, Message], None]
"""Answers one request: responses, the last of them with a final status. What it raises is answered with 0x0110 and logged."""


@dataclass(frozen=True, slots=True)
class Service:
    """`commands` maps a Command Field (request) to its handler. `permission` is a member of `Device.permissions`,
    or empty for what every device may do.

    `transfer_syntaxes` are those that identifiers may be in, most wanted first. `extended` answers a proposal of Extended
    Negotiation for one of the SOP Classes: the application information that is agreed to, None for none. `requestor_may_be_scp`:
    whether a peer may propose to be SCP (PS3.7 annex D.3.3.4), as those do that report what they have committed to.
    """

    name: str
    permission: str
    abstract_syntaxes: frozenset[str]
    commands: Mapping[int, Handler]
    transfer_syntaxes: tuple[str, ...] = ("1.2.840.10008.1.2.1", "1.2.840.10008.1.2", "1.2.840.10008.1.2.2")
    extended: Callable[[str, bytes], bytes | None] = field(default=lambda _abstract_syntax, _asked: None)
    requestor_may_be_scp: bool = False


__all__ = ["Association", "Context", "Ended", "Handler", "Message", "Service"]

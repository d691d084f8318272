"""Why an association is over: each way is an exception, whose text says it in words fit to be shown, and never what was sent."""

from ihe.pdu import Abort, AssociateReject


class Ended(Exception):
    """The association is over, or never came to be."""


class Released(Ended):
    """In order: the peer asked for the release and has its response."""


class Rejected(Ended):
    """PS3.8 section 7.1.1.9: the peer does not want the association. `rejection` says why."""

    def __init__(self, rejection: AssociateReject) -> None:
        super().__init__(f"association rejected: {rejection.words}")
        self.rejection = rejection


class Aborted(Ended):
    """PS3.8 section 7.3: the peer has aborted."""

    def __init__(self, abort: Abort) -> None:
        super().__init__(f"the peer aborted the association: {abort.words}")
        self.abort = abort


class Lost(Ended):
    """The connection is gone without a word."""


class TimedOut(Ended):
    """The peer was silent, or too slow, for longer than it may; it is aborted."""


class Unreachable(Ended):
    """There is no connection to the peer's address, or no TLS over it."""


class ProtocolError(Ended):
    """What the peer sent is no upper layer PDU or no DIMSE message: it is aborted."""

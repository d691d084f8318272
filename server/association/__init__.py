"""One association over a socket, in either role: PS3.8's state machine with a clock, and whole messages of PS3.7 in and out.

All of it blocks, and is for one thread. What arrives is received into one buffer and handed on as views of it; what is sent is
gathered from where it lies. Whatever ends the association raises a kind of `Ended`; it is over then, and the socket is closed or
only waits for the peer to close it (`linger`).
"""

from server.association.channel import TOLERATED, Limits
from server.association.ended import Aborted, Ended, Lost, ProtocolError, Rejected, Released, TimedOut, Unreachable
from server.association.messages import MAX_COMMAND, MAX_DATA_SET, Accepted, Association, Received
from server.association.requestor import connect
from server.association.sending import MAX_LENGTH

__all__ = [
    "MAX_COMMAND", "MAX_DATA_SET", "MAX_LENGTH", "TOLERATED", "Aborted", "Accepted", "Association", "Ended", "Limits", "Lost",
    "ProtocolError", "Received", "Rejected", "Released", "TimedOut", "Unreachable", "connect",
]  # fmt: skip

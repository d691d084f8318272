"""PS3.8 annex E.2: a message as PDUs, in pieces that are sent from where they lie."""

import socket
from collections.abc import Iterable, Iterator, Sequence
from struct import pack
from typing import Final

from ihe import pdu

MAX_LENGTH: Final = 1 << 18
"""The longest P-DATA-TF that we announce to take (PS3.8 annex D.1), and that we send."""

Chunk = bytes | bytearray | memoryview
DataSet = Chunk | Iterable[Chunk]


def longest_sent(announced: int) -> int:
    """What we send at most in one P-DATA-TF: as the peer announced, but no more than we would take."""
    return min(max(announced, 14), MAX_LENGTH) if announced else MAX_LENGTH


def pdus(context_id: int, command: bytes, data_set: DataSet | None, longest: int) -> Iterator[Chunk]:
    """PS3.8 annex E.2: headers and pieces in turn, one PDV in each PDU, all of even length (dcmtk aborts the association otherwise)."""
    room = (longest - 6) & ~1
    for at in range(0, len(command), room):
        part = command[at : at + room]
        control = 1 if at + room < len(command) else 3
        yield _header(context_id, control, len(part)) + part
    if data_set is None:
        return
    chunks = iter((data_set,)) if isinstance(data_set, bytes | bytearray | memoryview) else iter(data_set)
    held: memoryview | None = None
    full = _header(context_id, 0, room)
    for view in _even(chunks):
        for at in range(0, len(view), room):
            if held is not None:
                yield full if len(held) == room else _header(context_id, 0, len(held))
                yield held
            held = view[at : at + room]
    held = memoryview(b"") if held is None else held
    yield _header(context_id, 2, len(held))
    yield held


def _even(chunks: Iterable[Chunk]) -> Iterator[memoryview]:
    """The same bytes in pieces of even length: the last byte of an odd one goes with the next.

    An odd Data Set gets a NUL at its end: PS3.5 section A.5 wants that of a deflated one, and any other has to be of even length.
    """
    left = b""
    for chunk in chunks:
        view = memoryview(chunk)
        if left and view:
            yield memoryview(left + bytes(view[:1]))
            left, view = b"", view[1:]
        if len(view) % 2:
            left, view = bytes(view[-1:]), view[:-1]
        if view:
            yield view
    if left:
        yield memoryview(left + b"\0")


def _header(context_id: int, control: int, length: int) -> bytes:
    """PS3.8 tables 9-22 and 9-23: of a PDU with one PDV of `length` bytes."""
    return pack(">BxLLBB", pdu.P_DATA_TF, length + 6, length + 2, context_id, control)


def gather(connection: socket.socket, parts: Sequence[Chunk]) -> None:
    """Sends all of `parts` by as few calls as that takes; they are not joined."""
    left = sum(map(len, parts))
    while left:
        sent = connection.sendmsg(parts)
        left -= sent
        if not left:
            return
        skipped = 0
        while sent >= len(parts[skipped]):
            sent -= len(parts[skipped])
            skipped += 1
        parts = [memoryview(parts[skipped])[sent:], *parts[skipped + 1 :]]

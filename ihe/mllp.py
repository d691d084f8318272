"""HL7 Minimal Lower Layer Protocol, release 1: `<VT> message <CR-terminated segments> <FS><CR>` on a stream, both ways.

What stands between blocks is passed over (HL7 2.5 appendix C.4.3), and so is a block that another one begins in: its sender has begun again.
FS ends a block also where the CR behind it is missing.
"""

from dataclasses import dataclass
from typing import Final

VT: Final = b"\x0b"
FS: Final = b"\x1c"
CR: Final = b"\r"
_HEAD: Final = 1024
"""Bytes of a message that is too long which are kept, so that it can be answered."""


def framed(message: bytes) -> bytes:
    """The block of one message. Raises ValueError for one that has a frame's own characters in it."""
    if VT in message or FS in message:
        raise ValueError("an HL7 v2 message has neither VT nor FS in it (HL7 2.5 appendix C.4.3)")
    return VT + message + FS + CR


@dataclass(frozen=True, slots=True)
class Block:
    """What one block holds; of one that is longer than the limit (`is_cut`) the beginning only."""

    content: bytes
    is_cut: bool = False


class Blocks:
    """Bytes of a stream in, blocks out. `limit` is the most that a block may hold, in bytes; no more than that is kept."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._content: bytearray | None = None
        self._is_cut = False
        self.stray = 0
        """Bytes that stood outside of blocks since the last one, without what ends lines."""

    @property
    def is_open(self) -> bool:
        """Whether a block has begun and not ended."""
        return self._content is not None

    def receive(self, data: bytes) -> list[Block]:
        """The blocks that end in `data`, which may begin and end anywhere."""
        found = []
        while data:
            if self._content is None:
                outside, begins, data = data.partition(VT)
                self.stray += len(outside.strip(b"\r\n"))
                if begins:
                    self._begin()
                continue
            inside, ends, rest = data.partition(FS)
            _, begins, again = inside.rpartition(VT)
            if begins:
                self._begin()
            self._keep(again if begins else inside)
            data = rest
            if ends:
                found.append(Block(bytes(self._content), self._is_cut))
                self._content, self.stray = None, 0
        return found

    def _begin(self) -> None:
        self._content, self._is_cut = bytearray(), False

    def _keep(self, data: bytes) -> None:
        assert self._content is not None
        if self._is_cut:
            return
        self._content += data[: self._limit + 1 - len(self._content)]
        if len(self._content) > self._limit:
            self._is_cut = True
            del self._content[_HEAD:]

"""Bodies of requests that are sent compressed: `Content-Encoding: gzip` (RFC 9110 section 8.4)."""

import zlib
from collections.abc import Iterator
from typing import Final

from starlette.requests import Request

from server.errors import MalformedBody, UnsupportedMediaType

_GZIP: Final = ("gzip", "x-gzip")
_PIECE: Final = 1 << 20
_MOST_MEMBERS: Final = 100
"""What comes after a member is copied for the next one: a million empty ones would take hours."""


class UnsupportedCoding(UnsupportedMediaType):
    """RFC 9110 section 15.5.16: its answer says which would be taken."""

    def __init__(self, detail: str, taken: str = "gzip") -> None:
        super().__init__(detail)
        self.headers: Final = {"Accept-Encoding": taken}


def is_packed(request: Request) -> bool:
    """RFC 9110 section 8.4: whether the body is sent as gzip. Raises `UnsupportedCoding` for any other coding."""
    coding = request.headers.get("content-encoding", "").strip().lower()
    if coding not in ("", "identity", *_GZIP):
        raise UnsupportedCoding("this server takes bodies as they are, or with Content-Encoding: gzip")
    return coding in _GZIP


def require_unpacked(request: Request) -> None:
    """For a body whose bytes are kept as they come: raises `UnsupportedCoding` for any coding."""
    if request.headers.get("content-encoding", "").strip().lower() not in ("", "identity"):
        raise UnsupportedCoding("the content of a Binary is stored as it is sent: send it without Content-Encoding", "identity")


def unpacked(packed: bytes) -> Iterator[bytes]:
    """RFC 1952 section 2.2: what is in the members of a gzip file, in pieces of at most 1 MiB. Raises `MalformedBody`."""
    for _ in range(_MOST_MEMBERS):
        if not packed:
            return
        member = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
        while not member.eof:
            try:
                piece = member.decompress(packed, _PIECE)
            except zlib.error:
                raise MalformedBody("the body is no gzip, though its Content-Encoding says so") from None
            packed = member.unconsumed_tail
            if not (piece or packed or member.eof):
                raise MalformedBody("the body was cut off: its gzip has no end")
            yield piece
        packed = member.unused_data
    raise MalformedBody(f"the body's gzip has more than {_MOST_MEMBERS} members")

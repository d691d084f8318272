"""Bodies made of stored files: sent by the kernel from file to socket where the connection can (`server.zero_copy`), else read piece by piece."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from server.edges.context import together
from server.store.blobs import Extent

Piece = bytes | Extent
ZERO_COPY: Final = "imageshare.response.pieces"
"""An ASGI extension, and its message: `pieces` are all that is left of a body whose Content-Length was told."""


def read(pieces: Iterable[Piece]) -> Iterator[bytes]:
    """The bytes of pieces. The file of an extent need be open until the next step only."""
    for piece in pieces:
        if isinstance(piece, Extent):
            yield from piece.read()
        else:
            yield piece


class PiecesResponse(StreamingResponse):
    """An answer in pieces, whose `headers` have its Content-Length."""

    def __init__(self, pieces: Iterator[Piece], headers: Mapping[str, str]) -> None:
        self._pieces = (piece for piece in pieces)
        super().__init__(together(read(self._pieces)), headers=headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if ZERO_COPY not in scope.get("extensions", {}):
            await super().__call__(scope, receive, send)
            return
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        try:
            await send({"type": ZERO_COPY, "pieces": self._pieces})
        finally:
            self._pieces.close()  # and with it the file that is open

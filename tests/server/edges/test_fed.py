"""A body on its way to what reads it: whole and in order, in pieces of 1 MiB, however small those are in which it arrives."""

import asyncio
import os
from collections.abc import Iterator

import pytest
from starlette.requests import Request
from starlette.types import Message

from server.edges import context

MIB = 1 << 20


def arriving(body: bytes, size: int) -> Iterator[Message]:
    for start in range(0, len(body), size):
        yield {"type": "http.request", "body": body[start : start + size], "more_body": start + size < len(body)}


@pytest.mark.parametrize("size", [64, 65_536, 3 * MIB])
def test_a_body_is_fed_whole_and_in_order(size: int) -> None:
    body, fed = os.urandom(3 * MIB + 17), list[bytes]()
    messages = arriving(body, size)

    async def receive() -> Message:
        return next(messages)

    request = Request({"type": "http", "method": "POST", "headers": []}, receive)
    last = asyncio.run(context.fed(request, fed.append, bytes))
    assert b"".join([*fed, last]) == body
    assert all(len(piece) >= MIB for piece in fed)
    assert all(len(piece) < MIB + size for piece in fed)

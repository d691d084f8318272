"""A body of which nothing comes, or hardly anything, is not waited for."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx2
import pytest
from peers import imageshare
from peers.xds import REGISTRY

from server.app import create_app
from server.edges.context import Node

PLAIN = {"Content-Type": "application/soap+xml; charset=UTF-8"}


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Node]:
    with imageshare.node(tmp_path / "data") as node:
        yield node


async def _sent(node: Node, pieces: AsyncIterator[bytes]) -> int:
    transport = httpx2.ASGITransport(app=create_app(node), client=("127.0.0.1", 1234))
    async with httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1:8080") as client:
        return (await client.post(REGISTRY, content=pieces, headers=PLAIN)).status_code


async def _pieces(pause: float, count: int) -> AsyncIterator[bytes]:
    for _ in range(count):
        yield b" "
        await asyncio.sleep(pause)


@pytest.mark.parametrize(("pause", "count"), [(30.0, 2), (0.1, 100)], ids=["nothing", "drops"])
def test_who_sends_hardly_anything_is_not_waited_for(
    opened: Node, monkeypatch: pytest.MonkeyPatch, pause: float, count: int
) -> None:
    monkeypatch.setattr("server.edges.context._PATIENCE", 0.5)
    assert asyncio.run(asyncio.wait_for(_sent(opened, _pieces(pause, count)), 20)) == 408

"""A foreign community, and this server that fetches from it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from peers import imageshare
from peers.fetching import Consumer, Foreign, served
from peers.xds import Archive, instance


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Foreign]:
    with imageshare.node(tmp_path_factory.mktemp("foreign") / "data") as node:
        made = Foreign(Archive(node))
        made.archive.send(
            *(instance(study="2.25.1", series=f"2.25.1.{number % 2}", pixels=128) for number in range(6)),
            *(instance(study="2.25.2", series="2.25.2.1") for _ in range(2)),
        )
        with served(made):
            yield made


@pytest.fixture
def consumer(tmp_path: Path, foreign: Foreign, request: pytest.FixtureRequest) -> Iterator[Consumer]:
    foreign.faults.clear()
    foreign.asked.clear()
    foreign.images.clear()
    foreign.slow, foreign.most_at_once = 0.0, 0
    community = foreign.settings(**getattr(request, "param", {}))
    with imageshare.node(tmp_path / "data", communities=(community,)) as node:
        yield Consumer(Archive(node), foreign, node.settings.communities[0])

"""A node, and what changes studies in it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from peers.imageshare import node

from server.edges.context import Node
from server.work.corrections import Corrector
from server.work.reconcile import Reconciler


@pytest.fixture
def opened(tmp_path: Path, database_url: str) -> Iterator[Node]:
    with node(tmp_path / "data", database_url) as made:
        yield made


@pytest.fixture
def reconciler(opened: Node) -> Reconciler:
    return Reconciler(opened.settings, opened.database, opened.blobs, opened.installation, opened.trail)


@pytest.fixture
def corrector(opened: Node, reconciler: Reconciler) -> Corrector:
    return Corrector(reconciler, opened.database, opened.blobs, opened.installation.patients.oid)

"""People on both engines."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from peers.people import Town, town


@pytest.fixture
def lively(tmp_path: Path, database_url: str) -> Iterator[Town]:
    """A new, empty town."""
    with town(tmp_path, database_url) as made:
        yield made

"""The site that the tests of a module share, and a browser."""

from collections.abc import Iterator

import pytest
from peers.browser import NoBrowser, chromium
from peers.viewed import shown, view
from peers.visitor import Pages, pages
from playwright.sync_api import Browser

__all__ = ["browser", "shown", "town", "view"]


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pages]:
    """Pages in this process. No test of it locks anybody out."""
    with pages(tmp_path_factory.mktemp("site"), sign_in_failures=1000, sign_in_failures_per_address=0) as opened:
        yield opened


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium, or the test is skipped. Not for longer than a module: while it is open no other may be, nor another event loop."""
    try:
        with chromium() as running:
            yield running
    except NoBrowser as reason:
        pytest.skip(str(reason))

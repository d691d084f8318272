"""The toolkit's tests, where they are, and a small registry to run them against."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from peers.small_registry import SmallRegistry, small_registry

from conformance.nist.results import TestResult
from conformance.nist.running import Outputs, run_tests
from conformance.nist.target import target_of
from conformance.nist.testkit import Testkit

SHARED = Path(__file__).resolve().parents[3] / ".." / "shared" / "testdata" / "nist"


@pytest.fixture(scope="session")
def nist() -> Path:
    """The toolkit's material."""
    if not SHARED.exists():
        pytest.skip("../shared/testdata/nist is not here")
    return SHARED


@pytest.fixture
def registry() -> Iterator[SmallRegistry]:
    with small_registry() as found:
        yield found


Run = Callable[..., dict[str, TestResult]]


@pytest.fixture
def run() -> Run:
    """Runs tests of a testkit against the small registry; `more` goes into the endpoints file."""

    def runs(
        folder: Path, found: SmallRegistry, *chosen: str, outputs: Outputs = Outputs(), **more: Any
    ) -> dict[str, TestResult]:
        kit = Testkit(folder)
        given = {
            "registry": {"url": f"{found.url}/registry"},
            "repository": {"url": f"{found.url}/repository"},
            "feed": {"host": "127.0.0.1", "port": found.feed_port},
            **more,
        }
        results = run_tests(kit, target_of({name: each for name, each in given.items() if each}), kit.chosen(chosen), outputs)
        return {each.id: each for each in results}

    return runs

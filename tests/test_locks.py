"""The lock files: one environment, every download checked by its hash, no index named."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LOCKS = ("requirements.lock", "requirements-dev.lock")


def _pins(name: str) -> dict[str, tuple[str, frozenset[str]]]:
    """Each requirement of a lock file with its pin (version and marker) and its hashes."""
    text = re.sub(r"\\\n", " ", (ROOT / name).read_text())
    pins = {}
    for line in text.splitlines():
        if line and not line.lstrip().startswith("#"):
            pin, *hashes = line.split("--hash=")
            requirement, _, version = pin.strip().partition("==")
            pins[requirement] = version, frozenset(h.strip() for h in hashes)
    return pins


@pytest.mark.parametrize("name", LOCKS)
def test_every_requirement_is_pinned_and_hashed(name: str) -> None:
    """A requirement without a version or a hash would be refused by pip, on the user's machine."""
    for requirement, (version, hashes) in _pins(name).items():
        assert version, requirement
        assert hashes, requirement


@pytest.mark.parametrize("name", LOCKS)
def test_no_index_is_named(name: str) -> None:
    """Each site installs from the index that it trusts."""
    text = (ROOT / name).read_text()
    assert "://" not in text
    assert not re.search(r"^\s*--(extra-)?index-url|^\s*--find-links", text, re.MULTILINE)


def test_the_tests_run_what_users_run() -> None:
    """The lock for tests holds the lock for users, version by version."""
    runtime, development = _pins("requirements.lock"), _pins("requirements-dev.lock")
    # A marker is narrower in the lock that fewer packages need the requirement in; the version must be the same.
    different = {
        name: (version, development.get(name))
        for name, (version, _) in runtime.items()
        if name not in development or development[name][0].partition(";")[0].strip() != version.partition(";")[0].strip()
    }
    assert different == {}

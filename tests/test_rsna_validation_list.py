"""docs/rsna-validation.md: the whole list, and what it says of each entry is so."""

import importlib.util
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "docs" / "rsna-validation.md").read_text()
ROWS = re.findall(r"^\| ([\w-]+) \| ([^|]+) \| ([^|]+) \|$", TEXT, re.MULTILINE)[1:]
KIT = {"ids_2018-4802a": "ids_4805", "ids_2018-4802c": "ids_4808", "ids_2018-4803a": "ids_4810", "ids_2018-4811": "ids_4812"}
"""Entries whose plan has another number in the toolkit."""
ENTRIES = [each for each in ROWS if each[0] not in ("entry", "---")]


def passing() -> set[str]:
    """What test_ours asks to pass."""
    spec = importlib.util.spec_from_file_location("nist_ours", ROOT / "tests" / "conformance" / "nist" / "test_ours.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return {*module.REGISTRY, *module.REPOSITORY, *module.IMAGING_SOURCE}


def test_there_are_87_and_none_twice() -> None:
    assert len(ENTRIES) == len({entry for entry, _, _ in ENTRIES}) == 87


def test_what_passes_under_the_kit_is_asked_to() -> None:
    claimed = {KIT.get(entry, entry) for entry, _, state in ENTRIES if state.startswith("kit")}
    assert claimed
    assert claimed <= passing()


@pytest.mark.parametrize(
    ("path", "test"), sorted({(path, test) for test, path in re.findall(r"\[(test_\w+)\]\(\.\./([^)]+)\)", TEXT)})
)
def test_tests_are_there(path: str, test: str) -> None:
    named = (ROOT / path).read_text()
    assert f"def {test}(" in named or path.endswith(f"/{test}.py")


def test_every_entry_has_a_state() -> None:
    for entry, _, state in ENTRIES:
        assert state == "not addressed" or state.startswith(("kit", "[test_", "nothing to run")), entry
    assert {entry[:3] for entry, _, state in ENTRIES if state == "not addressed"} == {"rig", "iig"}

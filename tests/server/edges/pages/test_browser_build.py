"""What browsers run is what its sources make: the built files are part of the program, and nobody can tell by looking whether they are up to date."""

import gzip
import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[4]
SOURCES, BUILT = ROOT / "server" / "browser", ROOT / "server" / "edges" / "pages" / "static"
LARGEST = 15_000
"""Bytes of the first stage of the viewer, packed."""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A build of its own, of a copy of the sources."""
    if shutil.which("npm") is None:
        pytest.skip("npm is not installed (Debian: apt-get install npm)")
    work, out = tmp_path_factory.mktemp("browser") / "browser", tmp_path_factory.mktemp("built")
    shutil.copytree(SOURCES, work, ignore=shutil.ignore_patterns("node_modules"))
    environment = {**os.environ, "IMAGESHARE_BROWSER_OUT": str(out)}
    for command in (["npm", "ci", "--silent"], ["npx", "tsc", "--noEmit"], ["npx", "vite", "build", "--logLevel", "error"]):
        done = subprocess.run(command, check=False, cwd=work, env=environment, capture_output=True, text=True, timeout=600)
        if command[1] == "ci" and done.returncode:
            pytest.skip("npm could not install what the build needs")
        assert done.returncode == 0, done.stdout + done.stderr
    return out


@pytest.mark.peers
@pytest.mark.timeout(900)
def test_the_committed_files_are_what_the_sources_make(made: Path) -> None:
    names = sorted(each.name for each in made.iterdir())
    assert "viewer.js" in names
    assert {name: (made / name).read_bytes() == (BUILT / name).read_bytes() for name in names} == dict.fromkeys(names, True), (
        "run `make browser`"
    )


def test_the_first_stage_is_small() -> None:
    assert len(gzip.compress((BUILT / "viewer.js").read_bytes(), 9)) <= LARGEST


def test_no_address_of_a_registry_is_in_the_lock_file() -> None:
    assert "resolved" not in (SOURCES / "package-lock.json").read_text()

"""FHIR clients for Node.js, as their authors publish them: installed from the lock file beside this virtual environment's packages."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

_HERE: Final = Path(__file__).parent / "node"
_INSTALLED: Final = Path(sys.prefix) / "node-clients"
_INSTALL_SECONDS: Final = 300
_RUN_SECONDS: Final = 120


class NoNode(Exception):
    """They cannot be had here; the message says why."""


def run(script: str, *arguments: str) -> Any:
    """What a script of `tests/peers/node` prints, as JSON. Raises `NoNode`."""
    _install()
    shutil.copy(_HERE / script, _INSTALLED)
    done = subprocess.run(
        ["node", str(_INSTALLED / script), *arguments], capture_output=True, text=True, timeout=_RUN_SECONDS, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def file(path: str) -> str:
    """The text of a file of an installed package, such as `axe-core/axe.min.js`. Raises `NoNode`."""
    _install()
    return (_INSTALLED / "node_modules" / path).read_text()


@contextmanager
def running(script: str, *arguments: str) -> Iterator[Any]:
    """A script that serves until its standard input ends; gives the line of JSON that it prints first. Raises `NoNode`."""
    _install()
    shutil.copy(_HERE / script, _INSTALLED)
    command = ["node", str(_INSTALLED / script), *arguments]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        assert server.stdout is not None
        yield json.loads(server.stdout.readline())
        server.communicate("", timeout=_RUN_SECONDS)


def _install() -> None:
    """Once, and again where the lock file has changed."""
    for program in ("node", "npm"):
        if shutil.which(program) is None:
            raise NoNode(f"{program} is not installed (Debian: apt-get install nodejs npm)")
    lock = (_HERE / "package-lock.json").read_bytes()
    stamp = _INSTALLED / "installed"
    if stamp.exists() and stamp.read_bytes() == lock:
        return
    _INSTALLED.mkdir(exist_ok=True)
    for name in ("package.json", "package-lock.json"):
        shutil.copy(_HERE / name, _INSTALLED)
    command = ["npm", "ci", "--legacy-peer-deps", "--omit=optional", "--ignore-scripts", "--no-audit", "--no-fund"]
    try:
        subprocess.run(command, cwd=_INSTALLED, check=True, capture_output=True, timeout=_INSTALL_SECONDS)
    except (subprocess.SubprocessError, OSError) as error:
        raise NoNode(f"npm could not install the clients: {type(error).__name__}") from None
    stamp.write_bytes(lock)

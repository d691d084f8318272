"""The programs of others that tests talk to."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from peers import postgresql

PEERS = Path(__file__).resolve().parent / "peers"


@pytest.mark.peers
def test_dcmtk_is_dcmtk(dcmtk: Callable[[str], Path]) -> None:
    """Not pynetdicom's program of the same name."""
    ours = Path(sys.executable).parent
    assert dcmtk("echoscu").parent != ours
    assert "$dcmtk: echoscu" in subprocess.run([dcmtk("echoscu"), "--version"], capture_output=True, text=True, check=True).stdout


def test_missing_program_is_a_skip(dcmtk: Callable[[str], Path]) -> None:
    """A program that is not there skips the test with its name and what to do."""
    with pytest.raises(pytest.skip.Exception, match="no-such-scu is not installed"):
        dcmtk("no-such-scu")


def test_free_port(free_port: int) -> None:
    """It can be listened on."""
    with socket.create_server(("127.0.0.1", free_port)):
        pass


def test_postgresql_ends_with_the_run() -> None:
    """A run that is killed leaves no server and no folder behind."""
    try:
        postgresql.programs()
    except postgresql.NoPostgresql as reason:
        pytest.skip(str(reason))
    code = "from peers import postgresql\nwith postgresql.running() as url: print(url, flush=True); input()"
    run = subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(PEERS.parent)},
    )
    assert run.stdin is not None
    assert run.stdout is not None
    home = Path(run.stdout.readline().strip().partition("host=")[2])
    assert (home / "data" / "postmaster.pid").exists()
    run.kill()
    run.wait()
    run.stdin.close()
    run.stdout.close()
    while home.exists():  # pytest's timeout ends the wait
        time.sleep(0.05)

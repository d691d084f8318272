"""`imageshare serve` and the port of HL7 v2: with all others, by itself, with TLS, and where another program has the usual port."""

import os
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from peers import prepared
from peers.authority import Authority
from peers.hl7_sender import adt, code, mrg, pid, sending
from peers.imageshare import running

from server.bcp195 import client_context
from server.edges.mllp import PORT

pytestmark = pytest.mark.timeout(300)


def test_a_server_takes_another_port_where_the_usual_one_is_taken_and_tells_it(tmp_path: Path, free_port: int) -> None:
    authority = Authority(tmp_path / "authority")
    certificate, key = authority.issue("server")
    with socket.socket() as taken:
        with suppress(OSError):  # somebody has it already
            taken.bind(("127.0.0.1", PORT))
            taken.listen()
        secured: dict[str, Any] = {"mllp_tls_port": free_port, "mllp_tls_certificate": certificate, "mllp_tls_key": key}
        with running(tmp_path / "data", mllp_port=None, **secured) as server:
            assert server.mllp_port not in (0, PORT)
            with sending(("127.0.0.1", server.mllp_port)) as sender:
                assert code(sender.send(adt("A01", pid("1")))) == "AA"
            with sending(("127.0.0.1", free_port), client_context("bcp195", authority.path)) as sender:
                assert code(sender.send(adt("A40", pid("2"), mrg("1")))) == "AA"


def test_the_role_runs_by_itself(tmp_path: Path, free_port: int) -> None:
    data = tmp_path / "data"
    prepared.sqlite(data / "imageshare.db")
    environment = {**os.environ, "IMAGESHARE_DATA": str(data), "IMAGESHARE_MLLP_PORT": str(free_port)}
    command = [sys.executable, "-m", "server.cli", "serve", "mllp"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert f"MLLP 127.0.0.1:{free_port}" in process.stdout.readline()
            with sending(("127.0.0.1", free_port)) as sender:
                assert code(sender.send(adt("A01", pid("1")))) == "AA"
        finally:
            process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0


def test_a_port_that_was_asked_for_and_is_taken_is_told(tmp_path: Path, free_port: int) -> None:
    own = {name: value for name, value in os.environ.items() if not name.startswith("IMAGESHARE_")}
    command = ["serve", "--data", str(tmp_path / "data"), "--http-port", "0", "--dicom-port", "0", "--mllp-port", str(free_port)]
    with socket.create_server(("127.0.0.1", free_port)):
        ended = subprocess.run(
            [sys.executable, "-m", "server.cli", *command], env=own, capture_output=True, text=True, timeout=60, check=False
        )
    assert (ended.returncode, ended.stdout) == (1, "")
    assert f"MLLP port {free_port}" in ended.stderr
    assert "Traceback" not in ended.stderr

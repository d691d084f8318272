"""`imageshare serve`: one line when all listen, one process group, a clear word when it cannot start."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import psutil
import pytest
from peers.authority import Authority
from peers.imageshare import Running, running
from pynetdicom.ae import ApplicationEntity
from pynetdicom.association import Association
from pynetdicom.presentation import build_context
from sqlalchemy import func, select, update

from ihe.pdu import ProposedContext
from server.association import connect
from server.bcp195 import client_context
from server.roles import ROLES
from server.store import jobs
from server.store.db import Database, micros
from server.store.tables import Job
from server.work.ingest import PUBLISH

JOB = Job.__table__  # type: ignore[attr-defined]
VERIFICATION = "1.2.840.10008.1.1"
pytestmark = pytest.mark.timeout(300)  # a server is slow to start on a busy machine


def _until(holds: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 90
    while not holds():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def _children(server: Running) -> dict[str, psutil.Process]:
    """The roles' living processes by the role, which `ps` and `top` show (Linux keeps 15 characters of it)."""
    told = {f"imageshare {role}"[:15]: role for role in ROLES}
    return {told.get(c.name(), c.name()): c for c in psutil.Process(server.process.pid).children() if _alive(c)}


def _imageshare(*arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    own = {name: value for name, value in os.environ.items() if not name.startswith("IMAGESHARE_")}
    return subprocess.run(
        [sys.executable, "-m", "server.cli", *arguments], env={**own, **environment}, capture_output=True, text=True, timeout=60,
        check=False,
    )  # fmt: skip


def _attempts(database: Database) -> int:
    with database.read() as connection:
        return int(connection.execute(select(func.max(JOB.c.attempts)).where(JOB.c.kind == PUBLISH)).scalar_one())


def _listens(server: Running) -> bool:
    try:
        return httpx2.get(f"{server.http}/readyz").status_code == 200
    except httpx2.TransportError:
        return False


@pytest.mark.postgresql_is_deep
def test_a_server_from_start_to_end(tmp_path: Path, bare_database_url: str) -> None:
    data = tmp_path / "data"
    with running(data, bare_database_url) as server:
        assert _listens(server), "the line comes when it listens, not before"
        assert set(_children(server)) == set(ROLES)

        # A second server: the folder is taken, and so is the port.
        second = _imageshare("serve", "--data", str(data), "--http-port", "0", "--dicom-port", "0")
        assert (second.returncode, second.stdout) == (1, "")
        assert "another imageshare server uses the data folder" in second.stderr
        assert "Traceback" not in second.stderr
        port = server.http.rpartition(":")[2]
        third = _imageshare("serve", "--data", str(tmp_path / "other"), "--http-port", port, "--dicom-port", "0")
        assert third.returncode == 1
        assert f"cannot listen on 127.0.0.1 port {port}" in third.stderr
        assert "Traceback" not in third.stderr

        # A child that is killed comes back, and stays.
        for role in ("http", "worker"):
            killed = _children(server)[role]
            killed.kill()
            _until(lambda killed=killed, role=role: _children(server).get(role, killed) != killed, f"{role} is not started again")
        _until(lambda: _listens(server), "HTTP does not come back")
        after = _children(server)
        time.sleep(1.5)
        assert {role: child.pid for role, child in _children(server).items()} == {role: c.pid for role, c in after.items()}

        children = list(after.values())
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(20) == 0
        assert not any(child.is_running() for child in children)
        assert "Traceback" not in "".join(server.log)


def test_what_a_killed_worker_had_in_hand_is_free_for_the_next(tmp_path: Path) -> None:
    """On the embedded default, where nobody else works: the next worker need not wait for the lease."""
    with running(tmp_path / "data") as server:
        database = Database(f"sqlite:///{tmp_path / 'data' / 'imageshare.db'}")
        with database.write() as connection:
            jobs.enqueue(connection, PUBLISH, "12345", due=micros() - 1)
            connection.execute(update(JOB).values(leased_until=micros() + 3_600_000_000))
        _children(server)["worker"].kill()
        _until(lambda: _attempts(database) > 0, "the job waits for the dead worker's lease")
        database.close()


def _of_role(server: Running, role: str) -> dict[int, psutil.Process]:
    name = f"imageshare {role}"[:15]
    return {c.pid: c for c in psutil.Process(server.process.pid).children() if _alive(c) and c.name() == name}


def _killed(server: Running, pid: int) -> None:
    _of_role(server, "dicom")[pid].kill()
    _until(lambda: pid not in _of_role(server, "dicom"), "it is not killed")


def _serving(server: Running) -> set[int]:
    """The DICOM processes that have an established association."""
    return {
        pid
        for pid, process in _of_role(server, "dicom").items()
        if any(c.status == psutil.CONN_ESTABLISHED and c.laddr.port == server.dicom_port for c in process.net_connections("tcp"))
    }


def _associated(server: Running) -> Association:
    entity = ApplicationEntity("SCU")
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = 90  # of a busy machine
    made = entity.associate("127.0.0.1", server.dicom_port, contexts=[build_context(VERIFICATION)], ae_title="IMAGESHARE")
    assert made.is_established
    return made


def test_processes_share_the_dicom_port(tmp_path: Path, database_url: str) -> None:
    """Both serve at once; when one is killed the other goes on, and the port is never closed; it is started again."""
    with running(tmp_path / "data", database_url, dicom_processes=2, max_associations=8) as server:
        both = set(_of_role(server, "dicom"))
        assert len(both) == 2
        held: list[Association] = []
        while _serving(server) != both:  # who has less to do is first, as far as the machine lets it
            assert len(held) < 4
            held.append(_associated(server))
        assert [each.send_c_echo().Status for each in held] == [0] * len(held)

        killed = max(both)
        _killed(server, killed)
        later = _associated(server)
        assert later.send_c_echo().Status == 0
        living = [each for each in held if each.is_established and each.send_c_echo().get("Status") == 0]
        assert living, "the association of the other process is served on"
        _until(lambda: len(_of_role(server, "dicom")) == 2, "it is not started again")
        for each in (*living, later):
            each.release()
        again = _of_role(server, "dicom").keys() - both
        assert len(again) == 1


def test_each_process_has_its_part_of_the_associations(tmp_path: Path) -> None:
    """Three of them, for two processes, are two each: the fifth is refused by both.

    On a busy machine who is full may be first to accept, and refuses what the other still has room for: asked again it is let in.
    """
    with running(tmp_path / "data", dicom_processes=2, max_associations=3) as server:
        entity = ApplicationEntity("SCU")
        entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = 90
        held: list[Association] = []

        def another() -> bool:
            made = entity.associate("127.0.0.1", server.dicom_port, contexts=[build_context(VERIFICATION)], ae_title="IMAGESHARE")
            assert made.is_established or made.is_rejected
            held.extend([made] if made.is_established else [])
            return len(held) == 4

        _until(another, "four are never held")
        refused = entity.associate("127.0.0.1", server.dicom_port, contexts=[build_context(VERIFICATION)], ae_title="IMAGESHARE")
        assert refused.is_rejected
        for each in held:
            each.release()


def test_processes_share_the_tls_port(tmp_path: Path, free_port: int) -> None:
    """Each holds it: with one of them killed, whichever, TLS is answered."""
    authority = Authority(tmp_path / "authority")
    certificate, key = authority.issue("server")
    context = client_context("bcp195", authority.path)
    proposed = (ProposedContext(1, VERIFICATION, ("1.2.840.10008.1.2",)),)
    secured: dict[str, Any] = {"dicom_tls_port": free_port, "dicom_tls_certificate": certificate, "dicom_tls_key": key}
    with running(tmp_path / "data", dicom_processes=2, **secured) as server:
        for pid in list(_of_role(server, "dicom")):
            _killed(server, pid)
            connect("127.0.0.1", free_port, calling="US", called="IMAGESHARE", contexts=proposed, tls=context).release()
            _until(lambda: len(_of_role(server, "dicom")) == 2, "it is not started again")


def test_kill_9_of_the_parent_ends_the_children(tmp_path: Path) -> None:
    # On SQLite alone: it is about processes.
    with running(tmp_path / "data") as server:
        children = list(_children(server).values())
        assert len(children) == len(ROLES)
        os.kill(server.process.pid, signal.SIGKILL)
        server.process.wait()
        _until(lambda: not any(_alive(child) for child in children), "a child outlives its parent")


def _alive(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def test_a_dicom_port_that_is_taken_is_told(tmp_path: Path, free_port: int) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", free_port))
        taken.listen()
        ended = _imageshare("serve", "--data", str(tmp_path / "data"), "--http-port", "0", "--dicom-port", str(free_port))
    assert ended.returncode == 1
    assert f"DICOM port {free_port}" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"IMAGESHARE_HTTP_PORT": "x"}, "http_port"),
        ({"IMAGESHARE_DATABASE_URL": "nonsense:s3cret"}, "IMAGESHARE_DATABASE_URL"),
        ({"IMAGESHARE_DATABASE_URL": "postgresql+psycopg://u:s3cret@127.0.0.1:1/db?connect_timeout=1"}, "cannot be reached"),
    ],
)
def test_wrong_settings_are_one_line_and_exit_code_1(tmp_path: Path, environment: dict[str, str], words: str) -> None:
    ended = _imageshare("serve", "--data", str(tmp_path), **environment)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert words in ended.stderr
    assert "Traceback" not in ended.stderr
    assert "s3cret" not in ended.stderr


def test_doctor_and_token(tmp_path: Path) -> None:
    # On SQLite alone: what the commands say; a schema is made on both engines above, and in tests/server/store.
    assert _imageshare("migrate", "--data", str(tmp_path)).returncode == 0
    token = _imageshare("token", "--data", str(tmp_path), "--scope", "system/*.rs")
    assert token.returncode == 0
    assert token.stdout.count("\n") == 1
    assert len(token.stdout.strip().split(".")) == 3
    doctor = _imageshare("doctor", "--data", str(tmp_path), IMAGESHARE_PUBLIC_URL="https://images.example")
    assert doctor.returncode == 0, doctor.stdout
    assert "https://images.example" in doctor.stdout
    masked = _imageshare("doctor", "--data", str(tmp_path), IMAGESHARE_DATABASE_URL="postgresql+psycopg://u:s3cret@127.0.0.1:1/d")
    assert masked.returncode == 1
    assert "s3cret" not in masked.stdout + masked.stderr

"""Several HTTP processes behind one port: connections are spread, and nobody can tell which of them answers."""

import asyncio
import errno
import fcntl
import re
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import NoReturn

import httpx2
import psutil
import pytest
import uvicorn
from peers.dicomweb import Site
from peers.generated import Made
from peers.imageshare import Running, running
from peers.worklist import Client, channel

from ihe.multipart import PartData, Splitter, boundary_of
from profiles.workitem import GLOBAL
from server.http_sharing import Sharing, SharingServer

pytestmark = pytest.mark.timeout(300)  # real servers are slow to start on a busy machine
PARTS = 'multipart/related; type="application/dicom"'
WHOLE = f"{PARTS}; transfer-syntax=*"


@pytest.fixture
def server(tmp_path: Path, database_url: str) -> Iterator[Running]:
    with running(tmp_path / "data", database_url, http_processes=2) as started:
        yield started


@pytest.fixture
def embedded(tmp_path: Path) -> Iterator[Running]:
    """On SQLite alone, for what no database has a part in."""
    with running(tmp_path / "data", http_processes=2) as started:
        yield started


def until(holds: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 90
    while not holds():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def http_processes(server: Running) -> dict[int, psutil.Process]:
    children = psutil.Process(server.process.pid).children()
    return {each.pid: each for each in children if each.name() == "imageshare http" and each.status() != psutil.STATUS_ZOMBIE}


def served(server: Running) -> dict[int, int]:
    """How many connections each process has."""
    return {
        pid: sum(each.status == psutil.CONN_ESTABLISHED for each in process.net_connections("tcp"))
        for pid, process in http_processes(server).items()
    }


@contextmanager
def busy(server: Running, pid: int) -> Iterator[None]:
    """One HTTP process does nothing meanwhile, so that the other accepts; it does not stop while it writes, for which the other would wait."""
    process = http_processes(server)[pid]
    while not _stopped(process, server.data / "imageshare.db-turn"):
        time.sleep(0.02)
    try:
        yield
    finally:
        process.resume()


def _stopped(process: psutil.Process, turn: Path) -> bool:
    process.suspend()
    if turn.exists():
        with turn.open() as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                process.resume()
                return False
    return True


def client(stack: ExitStack, server: Running, token: str) -> httpx2.Client:
    made = httpx2.Client(base_url=server.http, headers={"Authorization": f"Bearer {token}"}, timeout=60)
    return stack.enter_context(made)


def test_eight_connections_are_spread_and_each_is_told_the_same(server: Running) -> None:
    token, studies = server.token(), [Made(number=number, size=1500) for number in (1, 2)]
    body = b"".join(b"--b\r\nContent-Type: application/dicom\r\n\r\n" + each.part10() + b"\r\n" for each in studies) + b"--b--"
    with ExitStack() as stack:
        clients = [client(stack, server, token) for _ in range(8)]
        for each in clients:
            assert each.get("/livez").status_code == 200
        assert min(served(server).values()) >= 2, "who has fewest comes first, as far as the machine lets it"
        stored = clients[0].post("/dicomweb/studies", content=body, headers={"Content-Type": f"{PARTS}; boundary=b"})
        assert stored.status_code == 200
        until(lambda: clients[1].get("/dicomweb/studies").status_code == 200, "it is not published")
        for each in clients:
            answer = each.get(f"/dicomweb/studies/{studies[0].study_uid}", headers={"Accept": WHOLE})
            assert int(answer.headers["content-length"]) == len(answer.content)
            found = Splitter(boundary_of(answer.headers["content-type"])).feed(answer.content)
            sent = b"".join(bytes(event.data) for event in found if isinstance(event, PartData))
            assert sent == b"".join(made.part10() for made in studies)
        trail = clients[0].get("/fhir/AuditEvent?_count=200").json()["entry"]
        told = [event["resource"]["subtype"][-1]["code"] for event in trail]
        assert told.count("RAD-107") == 8


def test_metrics_are_those_of_all(embedded: Running) -> None:
    with ExitStack() as stack:
        clients: list[httpx2.Client] = []
        while not clients or not min(served(embedded).values()):  # both have answered then
            assert len(clients) < 40
            clients.append(client(stack, embedded, "none"))
            assert clients[-1].get("/livez").status_code == 200
        for each in clients:
            text = each.get("/metrics").text
            found = re.search(r'^imageshare_http_requests_total\{route="/livez",status="200"\} (\S+)$', text, re.MULTILINE)
            assert found is not None
            assert float(found[1]) == len(clients)


def test_one_that_dies_is_started_again_and_the_port_stays_open(embedded: Running) -> None:
    before = set(http_processes(embedded))
    assert len(before) == 2
    psutil.Process(max(before)).kill()
    for _ in range(10):
        assert httpx2.get(f"{embedded.http}/readyz", timeout=60).status_code == 200
    until(lambda: len(http_processes(embedded)) == 2, "it is not started again")
    assert len(before & set(http_processes(embedded))) == 1


def test_that_the_server_was_restarted_is_told_once(server: Running) -> None:
    worklist = Client(Site(None, f"{server.http}/dicomweb"), server.token("system/Task.cruds"))  # type: ignore[arg-type]
    titles = ("ONE", "TWO")
    for title in titles:
        assert worklist.subscribe(GLOBAL, title).status_code == 201
    with ExitStack() as stack:
        channels = []
        for title in titles:
            with busy(server, max(served(server), key=served(server).__getitem__)) if channels else nullcontext():
                channels.append(stack.enter_context(channel(f"{server.http}/dicomweb", title, worklist.token)))
            assert channels[-1].next()["00741242"]["Value"] == ["RESTARTED"]
        assert min(served(server).values()) >= 1, "the channels are in one process"
        assert worklist.create("1.2.3").status_code == 201
        for each in channels:
            assert "00741242" not in each.next()


@pytest.mark.parametrize(
    ("number", "waits"), [(errno.EMFILE, True), (errno.ENOBUFS, True), (errno.EAGAIN, False), (errno.ECONNABORTED, False)]
)
def test_without_room_for_a_connection_nobody_spins(number: int, waits: bool) -> None:
    """The listening socket stays readable: to be told so again at once would take a whole core."""

    class Full(socket.socket):
        def accept(self) -> NoReturn:
            raise OSError(number, "")

    async def accepts() -> bool:
        server = SharingServer(uvicorn.Config("nothing"), lambda: None, Sharing(2), 0)
        with Full() as server._listening:
            server._accept()
            waiting = server._waiting is not None
            server._pause()
            return waiting

    assert asyncio.run(accepts()) is waits

"""The servers that are measured, each started on free loopback ports with a folder of its own.

`imageshare`: this project as installed. `Orthanc`: Debian's packages, defaults but for ports, folders and open access on loopback;
TCP_NODELAY set, without which Debian's dcmtk waits 40 ms per instance. `bare pynetdicom`: a receiver that stores nothing, the
ceiling of a storage SCP on that library.
"""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

_BARE = """
import socket
import sys
from pynetdicom import AE, evt, AllStoragePresentationContexts, ALL_TRANSFER_SYNTAXES
def opened(event):
    event.assoc.dul.socket.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
ae = AE('BARE'); ae.maximum_pdu_size = 0
for context in AllStoragePresentationContexts[:120]:
    ae.add_supported_context(context.abstract_syntax, ALL_TRANSFER_SYNTAXES)
handlers = [(evt.EVT_CONN_OPEN, opened), (evt.EVT_C_STORE, lambda event: 0x0000)]
ae.start_server(('127.0.0.1', int(sys.argv[1])), evt_handlers=handlers)
"""


_COMMAND = [sys.executable, "-m", "server.cli"]
_PERMISSIONS = ["store", "query", "retrieve", "worklist", "mpps", "commit"]


@dataclass
class Peer:
    """A running server: where it answers and which process group it is."""

    name: str
    ae_title: str
    dicom_port: int
    process: "subprocess.Popen[str]"
    dicomweb: str = ""
    base: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    client_port: int = 0
    """Where it takes the AE title BENCH to be, as a destination of C-MOVE."""
    database: int = 0
    """The process id of its database server, where it has one."""
    environment: dict[str, str] = field(default_factory=dict, repr=False)
    """Of the commands of this project about it."""
    _peak: float = 0.0

    def __post_init__(self) -> None:
        threading.Thread(target=self._sample, name=f"memory of {self.name}", daemon=True).start()

    def command(self, *arguments: str, said: str = "") -> str:
        """What a command of this project about this server prints; `said` is its standard input."""
        done = subprocess.run(
            [*_COMMAND, *arguments], env=self.environment, input=said, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise RuntimeError(f"imageshare {arguments[0]} ended with {done.returncode}: {done.stderr.strip()}")
        return done.stdout.strip()

    def peak_memory(self) -> float:
        """Highest MB of all its processes together so far, sampled 4 times a second (PSS: a shared page counts once)."""
        now = self.memory()
        self._peak = max(self._peak, now)
        return self._peak

    def forget_peak(self) -> None:
        """From here on `peak_memory` is of what follows."""
        self._peak = 0.0

    def results(self, path: str) -> list[dict[str, Any]]:
        """What a DICOMweb search answers."""
        request = urllib.request.Request(  # noqa: S310 our own loopback URL
            self.base + path, headers={**self.headers, "Accept": "application/dicom+json"}
        )
        with urllib.request.urlopen(request, timeout=300) as answer:  # noqa: S310
            body = answer.read()
        found: list[dict[str, Any]] = json.loads(body) if body else []
        return found

    def await_results(self, path: str, count: int, seconds: float = 600) -> None:
        """Waits until a search has `count` results."""
        ends = time.monotonic() + seconds
        while len(self.results(path)) < count:
            if time.monotonic() > ends:
                raise RuntimeError(f"{self.name} has not listed {count} results within {seconds:.0f} s")
            time.sleep(1)

    def study_id(self, uid: str) -> str:
        """Orthanc's own name for a study."""
        request = urllib.request.Request(f"{self.base}/tools/lookup", uid.encode())  # noqa: S310
        with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
            return next(str(each["ID"]) for each in json.load(answer) if each["Type"] == "Study")

    def _sample(self) -> None:
        while self.process.poll() is None:
            self.peak_memory()
            time.sleep(0.25)

    def memory(self) -> float:
        """MB of all its processes together, now."""
        total = 0
        with contextlib.suppress(OSError, psutil.Error):
            root = psutil.Process(self.process.pid)
            for process in (root, *root.children(recursive=True)):
                rollup = Path(f"/proc/{process.pid}/smaps_rollup").read_text()
                total += next(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:"))
        return total / 1024

    def cpu_seconds(self) -> float:
        """User and system seconds of all its processes."""
        root = psutil.Process(self.process.pid)
        times = [process.cpu_times() for process in (root, *root.children(recursive=True))]
        return float(sum(t.user + t.system for t in times))

    def database_seconds(self) -> float:
        """The same of its database server, with the processes of it that have ended meanwhile; 0 where it has none."""
        if not self.database:
            return 0.0
        root = psutil.Process(self.database)
        ended, times = root.cpu_times(), [process.cpu_times() for process in (root, *root.children(recursive=True))]
        return float(ended.children_user + ended.children_system + sum(t.user + t.system for t in times))


@contextlib.contextmanager
def imageshare(
    folder: Path,
    quiet_period: float = 1.0,
    *,
    durable: bool = True,
    database_url: str | None = None,
    settings: Mapping[str, object] = {},
) -> Iterator[Peer]:
    """This project: `imageshare serve` with its defaults but for the quiet period, the one DICOM peer and `settings`; on SQLite unless told otherwise."""
    folder.mkdir(parents=True, exist_ok=True)
    client = free_port()
    device = {"ae_title": "BENCH", "address": "127.0.0.1", "host": "127.0.0.1", "port": client, "permissions": _PERMISSIONS}
    environment = {
        **os.environ,
        "IMAGESHARE_DATA": str(folder),
        "IMAGESHARE_QUIET_PERIOD": str(quiet_period),
        "IMAGESHARE_DEVICES": json.dumps([device]),
        "IMAGESHARE_DURABLE": str(durable).lower(),
        **({"IMAGESHARE_DATABASE_URL": database_url} if database_url else {}),
        **{f"IMAGESHARE_{name.upper()}": str(value) for name, value in settings.items()},
    }
    with (folder.parent / "imageshare.log").open("w") as log:
        process = subprocess.Popen(
            [*_COMMAND, "serve", "--http-port", "0", "--dicom-port", "0"],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
    try:
        assert process.stdout
        line = process.stdout.readline()
        if "listens:" not in line:
            raise RuntimeError("imageshare did not start; see imageshare.log")
        base = line.split("listens: ")[1].split()[0]
        port = int(line.split("@")[1].split(":")[1].split()[0])
        token = subprocess.run(
            [*_COMMAND, "token", "--scope", "system/*.cruds", "--seconds", "86400"],
            env=environment, capture_output=True, text=True, check=True,
        ).stdout.strip()  # fmt: skip
        peer = Peer(
            "imageshare", "IMAGESHARE", port, process, f"{base}/dicomweb", base, {"Authorization": f"Bearer {token}"}, client,
            environment=environment,
        )  # fmt: skip
        _own(peer)
        yield peer
    finally:
        _end(process)


@contextlib.contextmanager
def orthanc(folder: Path, *, durable: bool = True, nodelay: bool = True, more: Mapping[str, Any] = {}) -> Iterator[Peer | None]:
    """Debian's Orthanc with its DICOMweb plugin and `more` settings, plugins added; None where it is not installed."""
    program = shutil.which("Orthanc", path=f"{os.environ['PATH']}:/usr/sbin")
    if program is None:
        yield None
        return
    http, dicom, client = free_port(), free_port(), free_port()
    settings = {
        "Name": "bench", "StorageDirectory": str(folder), "IndexDirectory": str(folder), "HttpPort": http, "DicomPort": dicom,
        "DicomAet": "ORTHANC", "RemoteAccessAllowed": False, "AuthenticationEnabled": False, "DicomCheckCalledAet": False,
        "Plugins": ["/usr/share/orthanc/plugins/libOrthancDicomWeb.so"], "DicomWeb": {"Enable": True}, "StableAge": 3600,
        "SyncStorageArea": durable, "DicomModalities": {"BENCH": ["BENCH", "127.0.0.1", client]}, "DicomAlwaysAllowGet": True,
        "LimitFindResults": 0, "LimitFindInstances": 0,
    }  # fmt: skip
    settings |= {name: [*settings["Plugins"], *value] if name == "Plugins" else value for name, value in more.items()}  # type: ignore[misc]
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "orthanc.json"
    config.write_text(json.dumps(settings))
    environment = {**os.environ, **({"TCP_NODELAY": "1"} if nodelay else {})}
    with (folder.parent / "orthanc.log").open("w") as log:
        process = subprocess.Popen([program, str(config)], env=environment, stdout=subprocess.DEVNULL, stderr=log, text=True)
    try:
        _await_http(f"http://127.0.0.1:{http}/system")
        base = f"http://127.0.0.1:{http}"
        peer = Peer("Orthanc", "ORTHANC", dicom, process, f"{base}/dicom-web", base, client_port=client)
        _own(peer)
        yield peer
    finally:
        _end(process)


@contextlib.contextmanager
def bare_pynetdicom() -> Iterator[Peer]:
    """A pynetdicom storage SCP whose handler does nothing."""
    port = free_port()
    process = subprocess.Popen([sys.executable, "-c", _BARE, str(port)], text=True)
    try:
        _await_port(port)
        yield Peer("bare pynetdicom", "BARE", port, process)
    finally:
        _end(process)


def _own(peer: Peer) -> None:
    """A server left over from before must not be measured in place of this one."""
    root = psutil.Process(peer.process.pid)
    ports = {
        each.laddr.port
        for process in (root, *root.children(recursive=True))
        for each in process.net_connections("tcp")
        if each.status == psutil.CONN_LISTEN
    }
    if not {peer.dicom_port, int(peer.base.rpartition(":")[2])} <= ports:
        raise RuntimeError(f"another server answers on the ports of {peer.name}")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _await_port(port: int) -> None:
    for _ in range(300):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.1)
    raise RuntimeError(f"nothing listens on port {port}")


def _await_http(url: str) -> None:
    for _ in range(300):
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=1):  # noqa: S310 our own loopback URL
            return
        time.sleep(0.1)
    raise RuntimeError(f"{url} does not answer")


def _end(process: "subprocess.Popen[str]") -> None:
    process.terminate()
    try:
        process.wait(30)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdout:
        process.stdout.close()

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
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

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
    _peak: float = 0.0

    def __post_init__(self) -> None:
        threading.Thread(target=self._sample, name=f"memory of {self.name}", daemon=True).start()

    def peak_memory(self) -> float:
        """Highest MB of all its processes together so far, sampled 4 times a second (PSS: a shared page counts once)."""
        self._peak = max(self._peak, self._memory())
        return self._peak

    def _sample(self) -> None:
        while self.process.poll() is None:
            self.peak_memory()
            time.sleep(0.25)

    def _memory(self) -> float:
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


@contextlib.contextmanager
def imageshare(folder: Path, quiet_period: float = 1.0) -> Iterator[Peer]:
    """This project: `imageshare serve` with its defaults but for the quiet period."""
    folder.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, "IMAGESHARE_DATA": str(folder), "IMAGESHARE_QUIET_PERIOD": str(quiet_period)}
    command = [sys.executable, "-m", "server.cli"]
    process = subprocess.Popen(
        [*command, "serve", "--http-port", "0", "--dicom-port", "0"],
        env=environment, stdout=subprocess.PIPE, stderr=(folder.parent / "imageshare.log").open("w"), text=True,
    )  # fmt: skip
    try:
        assert process.stdout
        line = process.stdout.readline()
        if "listens:" not in line:
            raise RuntimeError("imageshare did not start; see imageshare.log")
        base = line.split("listens: ")[1].split()[0]
        port = int(line.split("@")[1].split(":")[1].split()[0])
        token = subprocess.run(
            [*command, "token", "--scope", "system/*.cruds", "--seconds", "86400"],
            env=environment, capture_output=True, text=True, check=True,
        ).stdout.strip()  # fmt: skip
        yield Peer("imageshare", "IMAGESHARE", port, process, f"{base}/dicomweb", base, {"Authorization": f"Bearer {token}"})
    finally:
        _end(process)


@contextlib.contextmanager
def orthanc(folder: Path) -> Iterator[Peer | None]:
    """Debian's Orthanc with its DICOMweb plugin; None where it is not installed."""
    program = shutil.which("Orthanc", path=f"{os.environ['PATH']}:/usr/sbin")
    if program is None:
        yield None
        return
    http, dicom = free_port(), free_port()
    settings = {
        "Name": "bench", "StorageDirectory": str(folder), "IndexDirectory": str(folder), "HttpPort": http, "DicomPort": dicom,
        "DicomAet": "ORTHANC", "RemoteAccessAllowed": False, "AuthenticationEnabled": False, "DicomCheckCalledAet": False,
        "Plugins": ["/usr/share/orthanc/plugins/libOrthancDicomWeb.so"], "DicomWeb": {"Enable": True}, "StableAge": 3600,
    }  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "orthanc.json"
    config.write_text(json.dumps(settings))
    process = subprocess.Popen(
        [program, str(config)], env={**os.environ, "TCP_NODELAY": "1"}, stdout=subprocess.DEVNULL,
        stderr=(folder.parent / "orthanc.log").open("w"), text=True,
    )  # fmt: skip
    try:
        _await_http(f"http://127.0.0.1:{http}/system")
        yield Peer("Orthanc", "ORTHANC", dicom, process, f"http://127.0.0.1:{http}/dicom-web", f"http://127.0.0.1:{http}")
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

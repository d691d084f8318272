"""Debian's Orthanc as a DICOM peer of a test, on free ports over an empty folder."""

import contextlib
import json
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest


@dataclass(frozen=True)
class Orthanc:
    """Its AE title is ORTHANC. `modalities` of its configuration name the peers that it calls."""

    http: str
    dicom_port: int

    def get(self, path: str) -> Any:
        with urllib.request.urlopen(f"{self.http}{path}", timeout=30) as answer:
            return json.load(answer)

    def post(self, path: str, body: object) -> Any:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        with urllib.request.urlopen(urllib.request.Request(f"{self.http}{path}", data), timeout=30) as answer:
            return json.load(answer)


@contextmanager
def orthanc(folder: Path, modalities: Mapping[str, tuple[str, int]], **settings: object) -> Iterator[Orthanc]:
    """A running Orthanc; `modalities` are names with AE title and port on this machine. Skips the test where it is not installed."""
    program = shutil.which("Orthanc") or shutil.which("Orthanc", path="/usr/sbin")
    if program is None:
        pytest.skip("Orthanc is not installed (Debian: apt-get install orthanc)")
    folder.mkdir(parents=True)
    http, dicom = _free_port(), _free_port()
    configuration = {
        "StorageDirectory": str(folder), "IndexDirectory": str(folder), "HttpPort": http, "DicomPort": dicom, "DicomAet": "ORTHANC",
        "RemoteAccessAllowed": False, "AuthenticationEnabled": False, "DicomCheckCalledAet": False, "DicomAlwaysAllowStore": True,
        "DicomModalities": {name: [title, "127.0.0.1", port] for name, (title, port) in modalities.items()}, **settings,
    }  # fmt: skip
    path = folder / "orthanc.json"
    path.write_text(json.dumps(configuration))
    with (folder / "log").open("w") as log:
        process = subprocess.Popen([program, str(path)], stdout=subprocess.DEVNULL, stderr=log)
    try:
        made = Orthanc(f"http://127.0.0.1:{http}", dicom)
        _await_http(made)
        yield made
    finally:
        process.kill()  # asked to end, it takes seconds for that, and nobody looks at its files again
        process.wait()


def wait_for(port: int, seconds: float = 20) -> None:
    """Returns when somebody listens on that port of this machine."""
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.05)
    raise AssertionError(f"nobody listens on port {port}")


def _await_http(server: Orthanc, seconds: float = 30) -> None:
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        with contextlib.suppress(OSError, urllib.error.URLError):
            server.get("/system")
            return
        time.sleep(0.1)
    raise AssertionError("Orthanc does not answer")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port

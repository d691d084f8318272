"""One process group: HTTP, DICOM and worker as processes of their own under one parent.

The parent opens the HTTP port, so that everyone knows the public URL before anyone starts; each child says when it
listens, and ends when its parent is gone, however it went. A child that dies is started again.
"""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field

from server.errors import SettingsError
from server.settings import Settings
from server.telemetry import log

ROLES = ("http", "dicom", "worker")
_START_SECONDS = 60.0
_STOP_SECONDS = 15.0


@dataclass
class _Child:
    role: str
    process: subprocess.Popen[bytes]
    ready: int
    started: float = field(default_factory=time.monotonic)


class Supervisor:
    """Starts the roles, keeps them running, stops them. `run` returns the exit code."""

    def __init__(self, settings: Settings, environment: dict[str, str], *, held: int) -> None:
        # The lock of the data folder: it stays taken until the last child is gone, too.
        self._held = held
        self._settings = settings
        self._http = listening_socket(settings.http_host, settings.http_port)
        self.http_port = int(self._http.getsockname()[1])
        self.dicom_port = settings.dicom_port or _free_port(settings.dicom_host)
        # The read end stays with the children; when the parent's write end closes, they see the end of it.
        self._alive_read, self._alive_write = os.pipe()
        self._environment = {
            **environment,
            "IMAGESHARE_DATA": str(settings.data.absolute()),
            "IMAGESHARE_HTTP_PORT": str(self.http_port),
            "IMAGESHARE_DICOM_PORT": str(self.dicom_port),
        }
        self._children: list[_Child] = []
        self._stopping = threading.Event()

    def run(self, announce: str) -> int:
        """Prints `announce` with ports filled in when all listen, then waits for SIGTERM or SIGINT."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._stopping.set())
        try:
            for role in ROLES:
                self._children.append(self._start(role))
            for child in self._children:
                self._await(child)
            if not self._stopping.is_set():
                sys.stdout.write(announce.format(http_port=self.http_port, dicom_port=self.dicom_port) + "\n")
                sys.stdout.flush()
            while not self._stopping.wait(0.2):
                self._revive()
            return 0
        except SettingsError as error:
            sys.stderr.write(f"imageshare: {error.detail}\n")
            return 1
        finally:
            self._stop()

    def _start(self, role: str) -> _Child:
        ready_read, ready_write = os.pipe()
        passed = [ready_write, self._alive_read, self._held] + ([self._http.fileno()] if role == "http" else [])
        internal = {"IMAGESHARE_READY_FD": str(ready_write), "IMAGESHARE_ALIVE_FD": str(self._alive_read)}
        if role == "http":
            internal["IMAGESHARE_LISTEN_FD"] = str(self._http.fileno())
        process = subprocess.Popen(
            [sys.executable, "-m", "server.cli", "serve", role],
            env={**self._environment, **internal},
            pass_fds=passed,
            stdin=subprocess.DEVNULL,
        )
        os.close(ready_write)
        return _Child(role, process, ready_read)

    def _await(self, child: _Child) -> None:
        """Waits until the child has said that it listens."""
        os.set_blocking(child.ready, False)
        deadline = time.monotonic() + _START_SECONDS
        while not self._stopping.is_set():
            try:
                said = os.read(child.ready, 16)
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise SettingsError(f"the {child.role} process did not start within {_START_SECONDS:.0f} s") from None
                time.sleep(0.02)
                continue
            os.close(child.ready)
            if not said:
                raise SettingsError(f"the {child.role} process did not start; its log above says why")
            return

    def _revive(self) -> None:
        for place, child in enumerate(self._children):
            status = child.process.poll()
            if status is not None and time.monotonic() - child.started > 1:  # not in a hot loop
                log().error("process ended; starting it again", role=child.role, status=status)
                self._children[place] = self._start(child.role)
                os.close(self._children[place].ready)

    def _stop(self) -> None:
        for child in self._children:
            child.process.terminate()
        deadline = time.monotonic() + _STOP_SECONDS
        for child in self._children:
            try:
                child.process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                child.process.kill()
                child.process.wait()
        self._http.close()


def listening_socket(host: str, port: int) -> socket.socket:
    """A bound, listening TCP socket. Raises `SettingsError` if the port is taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    made = socket.socket(family, socket.SOCK_STREAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        made.bind((host, port))
    except OSError as error:
        made.close()
        raise SettingsError(f"cannot listen on {host} port {port}: {os.strerror(error.errno or 0)}") from None
    made.listen(1024)
    return made


def _free_port(host: str) -> int:
    with listening_socket(host, 0) as probe:
        return int(probe.getsockname()[1])


# --- the child's side


def say_ready() -> None:
    """Tells the parent, if there is one, that this role listens."""
    if descriptor := os.environ.pop("IMAGESHARE_READY_FD", None):
        with contextlib.suppress(BrokenPipeError):  # nobody waits for a child that was started again
            os.write(int(descriptor), b"ready\n")
        os.close(int(descriptor))


def end_with_parent() -> None:
    """Ends this process when its parent is gone, also after the parent's kill -9."""
    if descriptor := os.environ.pop("IMAGESHARE_ALIVE_FD", None):
        threading.Thread(target=_watch, args=(int(descriptor),), name="parent", daemon=True).start()


def inherited_socket() -> socket.socket | None:
    """The listening socket that the parent opened, if it did."""
    descriptor = os.environ.pop("IMAGESHARE_LISTEN_FD", None)
    return socket.socket(fileno=int(descriptor)) if descriptor else None


def _watch(descriptor: int) -> None:
    os.read(descriptor, 1)
    os.kill(os.getpid(), signal.SIGKILL)

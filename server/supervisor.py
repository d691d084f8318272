"""One process group: HTTP, DICOM, MLLP and worker as processes of their own under one parent.

The parent opens the ports, so that everyone knows the public URL before anyone starts and several HTTP or DICOM processes can accept from
one socket, and forks the roles, so that what they have in common is loaded once and kept in memory once. Each child says when it listens, and ends when its
parent is gone, however it went. A child that dies is started again.
"""

import contextlib
import gc
import itertools
import multiprocessing
import os
import signal
import socket
import sys
import threading
import time
from dataclasses import dataclass, field
from multiprocessing.context import ForkProcess

from server import roles, upkeep
from server.edges import dimse, mllp
from server.errors import ImageShareError, SettingsError
from server.http_sharing import Sharing
from server.settings import Settings
from server.telemetry import failure, log

_START_SECONDS = 60.0
_STOP_SECONDS = 15.0
_FORK = multiprocessing.get_context("fork")


@dataclass
class _Child:
    role: str
    place: int
    """Which of the processes of its role it is, from 0."""
    process: ForkProcess
    ready: int
    started: float = field(default_factory=time.monotonic)


_USUAL = 700, 10, 10
"""Python's own: the command collects garbage more rarely while it loads."""


class Supervisor:
    """Starts the roles, keeps them running, stops them. `run` returns the exit code."""

    def __init__(self, settings: Settings) -> None:
        self._sockets = _opened(settings)
        ports = {"http_port": _port(self._sockets["http"][0])}
        for role in ("dicom", "mllp"):
            named = zip((f"{role}_port", f"{role}_tls_port"), self._sockets[role], strict=False)
            ports |= {name: _port(each) for name, each in named}
        self.settings = settings.model_copy(update=ports)
        """What the roles run with: ports that were 0 are known now."""
        self._processes = {"http": settings.http_processes, "dicom": settings.dicom_processes}
        self._sharing = Sharing(settings.http_processes)
        # The read end stays with the children; when the parent's write end closes, they see the end of it.
        self._alive_read, self._alive_write = os.pipe()
        self._children: list[_Child] = []
        self._stopping = threading.Event()

    def run(self, announce: str) -> int:
        """Prints `announce` when all listen, then waits for SIGTERM or SIGINT."""
        gc.freeze()  # what is loaded now stays shared: no collection touches it in a child
        gc.set_threshold(*_USUAL)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._stopping.set())
        try:
            for role in roles.ROLES:
                self._children += [self._start(role, place) for place in range(self._processes.get(role, 1))]
            for child in self._children:
                self._await(child)
            if not self._stopping.is_set():
                sys.stdout.write(f"{announce}\n")
                sys.stdout.flush()
            while not self._stopping.wait(0.2):
                self._revive()
            return 0
        except SettingsError as error:
            sys.stderr.write(f"imageshare: {error.detail}\n")
            return 1
        finally:
            self._stop()

    def _start(self, role: str, place: int) -> _Child:
        ready_read, ready_write = os.pipe()
        process = _FORK.Process(target=self._child, args=(role, place, ready_write), name=role)
        process.start()
        os.close(ready_write)
        return _Child(role, place, process, ready_read)

    def _child(self, role: str, place: int, ready: int) -> None:
        os.close(self._alive_write)
        for other in self._sockets.keys() - {role}:
            for held in self._sockets[other]:
                held.close()
        threading.Thread(target=_end_with_parent, args=(self._alive_read,), name="parent", daemon=True).start()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        try:
            roles.run(role, self.settings, lambda: _say(ready), self._sockets[role], self._sharing, place)
        except SettingsError as error:
            sys.stderr.write(f"imageshare: {error.detail}\n")
            sys.exit(1)

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
                time.sleep(0.01)
                continue
            os.close(child.ready)
            if not said:
                raise SettingsError(f"the {child.role} process did not start; its log above says why")
            return

    def _revive(self) -> None:
        for place, child in enumerate(self._children):
            if child.process.exitcode is not None and time.monotonic() - child.started > 1:  # not in a hot loop
                log().error("process ended; starting it again", role=child.role, status=child.process.exitcode)
                if child.role == "worker" and self.settings.database_url is None:  # nobody else works on this database
                    try:
                        upkeep.take_over(self.settings)
                    except ImageShareError as error:  # its leases will run out by themselves
                        log().error("leases not freed", role=child.role, **failure(error))
                if child.role == "http":
                    self._sharing.renew()
                self._children[place] = self._start(child.role, child.place)
                os.close(self._children[place].ready)

    def _stop(self) -> None:
        for child in self._children:
            child.process.terminate()
        deadline = time.monotonic() + _STOP_SECONDS
        for child in self._children:
            child.process.join(max(0.1, deadline - time.monotonic()))
            if child.process.exitcode is None:
                child.process.kill()
                child.process.join()
        for sockets in self._sockets.values():
            for each in sockets:
                each.close()
        self._sharing.close()


def _opened(settings: Settings) -> dict[str, tuple[socket.socket, ...]]:
    """The sockets of each role. Raises `SettingsError` if a port is taken, and has none then."""
    found: dict[str, tuple[socket.socket, ...]] = {"worker": ()}
    try:
        found["http"] = (roles.listening_socket(settings.http_host, settings.http_port),)
        found["dicom"] = dimse.listening(settings)
        found["mllp"] = mllp.listening(settings)
    except SettingsError:
        for each in itertools.chain(*found.values()):
            each.close()
        raise
    return found


def _port(listening: socket.socket) -> int:
    return int(listening.getsockname()[1])


def _say(ready: int) -> None:
    """Tells the parent that this role listens. Nobody waits for a child that was started again."""
    with contextlib.suppress(BrokenPipeError):
        os.write(ready, b"ready\n")
    os.close(ready)


def _end_with_parent(alive: int) -> None:
    """Ends this process when its parent is gone, also after the parent's kill -9."""
    os.read(alive, 1)
    os.kill(os.getpid(), signal.SIGKILL)

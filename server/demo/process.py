"""A real `imageshare serve` in a session of its own, as a person would start it, and as a power cut would end it."""

import contextlib
import os
import queue
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

from server.demo.story import Failed

_LISTENS = re.compile(r"listens: (?P<http>\S+) .*DICOM (?P<title>[^@]+)@(?P<host>\S+):(?P<port>[0-9]+) ")
_START_SECONDS = 60.0
_COMMAND = [sys.executable, "-m", "server.cli"]


class ServerProcess:
    """One data folder and the server on it. `http` and the DICOM address are the same after every start."""

    def __init__(self, data: Path, log: Path, quiet_period: float) -> None:
        self.data = data
        self.log = log
        self.http = ""
        self.ae_title = ""
        self.dicom_host = ""
        self.dicom_port = 0
        # The reader's own settings stay outside: a demo must never meet a real database.
        self._environment = {name: value for name, value in os.environ.items() if not name.startswith("IMAGESHARE_")} | {
            "IMAGESHARE_DATA": str(data),
            "IMAGESHARE_QUIET_PERIOD": str(quiet_period),
            "IMAGESHARE_MLLP_PORT": "0",
        }
        self._process: subprocess.Popen[str] | None = None

    @property
    def pid(self) -> int:
        return self._process.pid if self._process else 0

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def wait(self, seconds: float) -> bool:
        """Waits, and tells whether the server still runs."""
        if self._process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(seconds)
        return self.running

    def start(self) -> None:
        """Returns when HTTP, DICOM and worker listen. Raises `Failed`."""
        ports = ["--http-port", self.http.rpartition(":")[2] or "0", "--dicom-port", str(self.dicom_port)]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*_COMMAND, "serve", *ports], env=self._environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log,
                text=True, start_new_session=True,
            )  # fmt: skip
        line = self._first_line(self._process)
        found = _LISTENS.search(line)
        if not found:
            self.kill()
            raise Failed(f"the server did not start: {self._last_words()}")
        self.http, self.ae_title = found["http"], found["title"]
        self.dicom_host, self.dicom_port = found["host"], int(found["port"])

    def kill(self) -> None:
        """SIGKILL to the whole process group at once: nobody in it can finish anything."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._reap(self._process)

    def stop(self) -> None:
        """SIGTERM, and SIGKILL for whatever is still there after a while."""
        if self._process is None or self._process.poll() is not None:
            return
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self.kill()
        self._reap(self._process)

    def token(self, scope: str, client: str = "demo") -> str:
        """What `imageshare token` prints."""
        return self.command("token", "--scope", scope, "--client", client)

    def command(self, *arguments: str, said: str = "") -> str:
        """What a command about this server prints; `said` is its standard input. Raises `Failed`."""
        done = subprocess.run(
            [*_COMMAND, *arguments], env=self._environment, input=said, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise Failed(f"`imageshare {arguments[0]}` ended with {done.returncode}: {done.stderr.strip()}")
        return done.stdout.strip()

    def _last_words(self) -> str:
        """What the server told a person, beside its structured log."""
        spoken = [line for line in self.log.read_text(errors="replace").splitlines() if line.startswith("imageshare: ")]
        return spoken[-1].removeprefix("imageshare: ") if spoken else "its log says why"

    @staticmethod
    def _first_line(process: "subprocess.Popen[str]") -> str:
        said: queue.SimpleQueue[str] = queue.SimpleQueue()
        assert process.stdout
        threading.Thread(target=lambda stream: said.put(stream.readline()), args=(process.stdout,), daemon=True).start()
        try:
            return said.get(timeout=_START_SECONDS)
        except queue.Empty:
            return ""

    @staticmethod
    def _reap(process: "subprocess.Popen[str]") -> None:
        process.wait()
        if process.stdout:
            process.stdout.close()

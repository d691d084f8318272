"""rsyslog as an audit repository: syslog over TLS (RFC 5425), with certificates on both sides, into a file."""

import shutil
import socket
import subprocess
import time
from contextlib import suppress
from pathlib import Path

PROGRAM = shutil.which("rsyslogd", path="/usr/sbin:/usr/bin:/usr/local/sbin")
MODULE = next(Path("/usr/lib").glob("*/rsyslog/lmnsd_gtls.so"), None)

_CONFIGURATION = """
global(workDirectory="{folder}" maxMessageSize="1m"
       defaultNetstreamDriver="gtls" defaultNetstreamDriverCAFile="{authority}"
       defaultNetstreamDriverCertFile="{certificate}" defaultNetstreamDriverKeyFile="{key}")
module(load="imtcp" streamDriver.name="gtls" streamDriver.mode="1" streamDriver.authMode="x509/certvalid")
template(name="whole" type="string" string="%rawmsg%\\n")
input(type="imtcp" address="127.0.0.1" port="{port}")
action(type="omfile" file="{folder}/received" template="whole")
"""


class Rsyslog:
    """`messages` are those that it has stored, in the order in which they came. Started again, it goes on in the same file."""

    def __init__(self, folder: Path, certificate: tuple[Path, Path], authority: Path, port: int) -> None:
        self._folder, self._port = folder, port
        named = {"folder": folder, "certificate": certificate[0], "key": certificate[1], "authority": authority, "port": port}
        (folder / "rsyslog.conf").write_text(_CONFIGURATION.format(**named))
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        assert PROGRAM
        command = [PROGRAM, "-n", "-f", str(self._folder / "rsyslog.conf"), "-i", str(self._folder / "pid")]
        self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
        until = time.monotonic() + 20
        while time.monotonic() < until:
            with suppress(OSError), socket.create_connection(("127.0.0.1", self._port), 1):
                return
            time.sleep(0.02)
        raise RuntimeError("rsyslog did not start")

    def stop(self) -> None:
        """In order: what it has read is in its file."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(20)
            self._process = None

    @property
    def messages(self) -> list[bytes]:
        file = self._folder / "received"
        return file.read_bytes().splitlines() if file.exists() else []

    def wait(self, count: int) -> list[bytes]:
        until = time.monotonic() + 30
        while len(self.messages) < count and time.monotonic() < until:
            time.sleep(0.02)
        return self.messages

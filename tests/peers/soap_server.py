"""The SOAP addresses in a process of their own, and how much memory that has."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from server.settings import Settings

_SERVE = """
import sys, uvicorn
from pathlib import Path
from fastapi import FastAPI
from server.composition import open_node
from server.edges import soap
from server.settings import load
from server.zero_copy import ZeroCopyProtocol
app = FastAPI()
app.state.node = open_node(load(data=Path(sys.argv[1]), min_free_bytes=0))
soap.install(app)
uvicorn.run(app, fd=int(sys.argv[2]), log_level="error", proxy_headers=False, http=ZeroCopyProtocol)
"""


@contextmanager
def served(settings: Settings) -> Iterator[tuple[str, psutil.Process]]:
    """A server process over the same data folder and database: its URL and itself."""
    environment = {**os.environ, "IMAGESHARE_DATABASE_URL": settings.database}
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        number = listening.fileno()
        command = [sys.executable, "-c", _SERVE, str(settings.data), str(number)]
        with subprocess.Popen(command, env=environment, pass_fds=[number]) as process:
            try:
                yield f"http://127.0.0.1:{listening.getsockname()[1]}", psutil.Process(process.pid)
            finally:
                process.terminate()
                process.wait(20)


def peak(process: psutil.Process) -> int:
    """The most memory that the process has had, in bytes."""
    (line,) = [line for line in Path(f"/proc/{process.pid}/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) * 1024

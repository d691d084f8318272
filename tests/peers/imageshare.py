"""Our own server as tests meet it: parts in this process (`node`), or a real `imageshare serve` (`running`)."""

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

from peers import prepared
from pydantic import SecretStr

from server.access.grants import named_patient
from server.access.tokens import Tokens
from server.composition import close_node, open_node
from server.edges.context import Node
from server.records.installation import installation
from server.records.results import PREPARE
from server.settings import load
from server.store.db import Database
from server.worker import Worker


def _embedded() -> AbstractContextManager[str | None]:
    return nullcontext()


new_database: Callable[[], AbstractContextManager[str | None]] = _embedded
"""Makes the database of a node that names none: SQLite in its folder, unless the `engine` fixture says PostgreSQL."""


@contextmanager
def node(data: Path, database_url: str | None = None, **settings: object) -> Iterator[Node]:
    """The server's parts over an empty database; publishes without a quiet period unless told otherwise."""
    fresh = nullcontext(database_url) if database_url or (data / "imageshare.db").exists() else new_database()
    with fresh as url, _node(data, url, **settings) as opened:
        yield opened


SCHEMAS = Path(__file__).resolve().parents[2] / ".." / "shared" / "testdata" / "nist" / "schema" / "v3"


def _validated() -> dict[str, object]:
    """Every SOAP answer of every test is held against the schemas, where they are here; requests are wrong often enough on purpose."""
    return {"soap_schemas": SCHEMAS, "soap_validation": "answers"} if SCHEMAS.exists() else {}


@contextmanager
def _node(data: Path, database_url: str | None, **settings: object) -> Iterator[Node]:
    data.mkdir(parents=True, exist_ok=True)
    made = load(
        data=data,
        database_url=SecretStr(database_url) if database_url else None,
        **{"quiet_period": 0, "min_free_bytes": 0, **_validated(), **settings},
    )
    if database_url is None and not (data / "imageshare.db").exists():
        prepared.sqlite(data / "imageshare.db")
    else:
        prepared.migrated(made.database)
    opened = open_node(made)
    try:
        yield opened
    finally:
        close_node(opened)


def publish_all(opened: Node) -> int:
    """Does every job that is due. Returns how many there were, without those that only prepare answers."""
    worker = Worker(opened)
    preparing = {PREPARE: worker.kinds.pop(PREPARE)}
    done = 0
    while taken := worker.once():
        done += taken
    worker.kinds = preparing
    while worker.once():
        pass
    return done


@dataclass
class Running:
    """A real server process group."""

    process: "subprocess.Popen[str]"
    data: Path
    http: str
    dicom_port: int
    environment: dict[str, str] = field(repr=False)
    log: list[str] = field(repr=False)
    mllp_port: int = 0

    def token(self, scope: str = "system/*.cruds", patient: str | None = None) -> str:
        """Signed here, with the key of the server's database: the command `token` would start an interpreter for it."""
        url = self.environment.get("IMAGESHARE_DATABASE_URL")
        database = Database(load(data=self.data, database_url=SecretStr(url) if url else None).database)
        try:
            bound = named_patient(database, patient) if patient else None
            return Tokens(database, installation(database)).issue(client="script", scope=scope, patient=bound)
        finally:
            database.close()

    def kill(self) -> None:
        """SIGKILL to the whole process group, as a power cut would."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@contextmanager
def running(
    data: Path, database_url: str | None = None, *, http_port: int = 0, dicom_port: int = 0, **settings: object
) -> Iterator[Running]:
    """`imageshare serve` on free ports, in a session of its own; SIGTERM at the end. A setting that is None is left to its default."""
    named = {"quiet_period": 0.3, "min_free_bytes": 0, "mllp_port": 0, **_validated(), **settings}
    environment = {
        **os.environ,
        "IMAGESHARE_DATA": str(data),
        **({"IMAGESHARE_DATABASE_URL": database_url} if database_url else {}),
        **{f"IMAGESHARE_{name.upper()}": str(value) for name, value in named.items() if value is not None},
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "server.cli", "serve", "--http-port", str(http_port), "--dicom-port", str(dicom_port)],
        env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    log: list[str] = []
    assert process.stdout
    assert process.stderr
    errors = process.stderr
    reader = threading.Thread(target=lambda: log.extend(errors), daemon=True)
    reader.start()
    try:
        line = process.stdout.readline()
        found = re.search(r"listens: (\S+) .*@[^:]+:(\d+)", line)
        assert found, f"the server did not start: {line} {''.join(log)}"
        mllp = re.search(r"MLLP [^:]+:(\d+)", line)
        yield Running(process, data, found[1], int(found[2]), environment, log, int(mllp[1]) if mllp else 0)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        process.stdout.close()
        reader.join(2)
        errors.close()

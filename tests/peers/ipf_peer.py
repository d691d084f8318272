"""IPF, the Open eHealth Foundation's implementation of XDS in Java, as a process beside the tests: its clients, and its endpoints with a small store.

Values are IPF's own, in the JSON that it makes of them. Its validators look at every request and answer in both directions. Needs Java 17 and Maven,
once a network.
"""

import base64
import fcntl
import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

_HERE: Final = Path(__file__).parent / "ipf"
_LIBRARIES: Final = Path(sys.prefix) / "ipf"
"""In the virtual environment: what is downloaded goes with it."""
_DOWNLOAD_SECONDS: Final = 600

Values = dict[str, Any]


class NoIpf(Exception):
    """It cannot be had here; the message says why."""


class IpfError(Exception):
    """A SOAP fault as IPF reads it, or what its validators refuse, on either side."""


class Ipf:
    """One running IPF, whose endpoints are at `url`/NAME: `xds-iti18`, `xds-iti43`, `xdsi-rad69` and so on."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        assert process.stdin
        assert process.stdout
        self._in, self._out = process.stdin, process.stdout
        self.url = f"http://127.0.0.1:{self._read()['port']}"

    def send(self, transaction: str, url: str, body: Mapping[str, Any]) -> Values:
        """A request by IPF's client: the answer. Raises `IpfError`."""
        answer: Values = self._ask({"send": transaction, "to": url.removeprefix("http://"), "body": body})
        return answer

    def keep(self, document_id: str, path: Path, mime_type: str) -> None:
        """Puts a document into the store behind IPF's endpoints."""
        self._ask({"keep": {"id": document_id, "path": str(path), "mimeType": mime_type}})

    def received(self) -> list[Values]:
        """What its endpoints have understood since they were asked last, each as `transaction` and `body`."""
        found: list[Values] = self._ask({"received": True})
        return found

    def sample(self, method: str) -> Values:
        """One of the values that IPF's own tests use, by the name of the method of its `SampleData`."""
        found: Values = self._ask({"sample": method})
        return found

    def _ask(self, command: Mapping[str, Any]) -> Any:
        self._in.write(json.dumps(command).encode() + b"\n")
        self._in.flush()
        answer = self._read()
        if "error" in answer:
            raise IpfError(answer["error"])
        return answer["answer"]

    def _read(self) -> Values:
        line = self._out.readline()
        if not line:
            raise NoIpf("IPF has died")
        read: Values = json.loads(line)
        return read


def query(name: str, return_type: str = "LeafClass", **values: object) -> Values:
    """A stored query, by its name in ITI TF-2 section 3.18.4.1.2.3.7, as the body of ITI-18 or ITI-51."""
    return {"query": {f"{name[0].lower()}{name[1:]}Query": values}, "returnType": return_type}


def document(entry: Mapping[str, Any], content: bytes) -> Values:
    """A document of ITI-41."""
    return {"documentEntry": entry, "data": base64.b64encode(content).decode()}


def contents(answer: Mapping[str, Any]) -> dict[str, bytes]:
    """The documents of an answer of ITI-43 or RAD-69, by their unique ids."""
    return {id_: base64.b64decode(content) for id_, content in answer["contents"].items()}


def errors(answer: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Code and location of each error of an answer."""
    return [(each["errorCode"], each["location"] or "") for each in answer["error"]]


@contextmanager
def running() -> Iterator[Ipf]:
    """IPF on a free port. Raises `NoIpf`."""
    command: Sequence[str] = [
        "java",
        "-Xmx600m",
        "-XX:TieredStopAtLevel=1",
        "-XX:+UseSerialGC",
        "-cp",
        f"{_downloaded()}/*",
        str(_HERE / "Peer.java"),
    ]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stderr
    words = threading.Thread(target=process.stderr.read, daemon=True)
    words.start()
    try:
        yield Ipf(process)
    finally:
        process.kill()
        process.wait()
        words.join()
        for stream in (process.stdin, process.stdout, process.stderr):
            assert stream
            stream.close()


def _downloaded() -> Path:
    for program in ("java", "mvn"):
        if shutil.which(program) is None:
            raise NoIpf(f"IPF needs {program} (Debian: apt-get install openjdk-17-jdk-headless maven)")
    _LIBRARIES.mkdir(exist_ok=True)
    with (_LIBRARIES / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        _download(_LIBRARIES / "complete", (_HERE / "pom.xml").read_text())
    return _LIBRARIES


def _download(mark: Path, pom: str) -> None:
    """What the pom names, unless `mark` says that it is all there."""
    if mark.exists() and mark.read_text() == pom:
        return
    command = ["mvn", "-q", "-B", "-f", str(_HERE / "pom.xml"), "dependency:copy-dependencies", f"-DoutputDirectory={_LIBRARIES}"]
    try:
        subprocess.run(command, check=True, capture_output=True, timeout=_DOWNLOAD_SECONDS)
    except (subprocess.SubprocessError, OSError) as error:
        raise NoIpf(f"IPF could not be downloaded by Maven: {type(error).__name__}") from None
    mark.write_text(pom)

"""HL7's FHIR validator as a process beside the tests: resources in, what it finds out. Needs Java 17 and Maven, once a network."""

import json
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import orjson

from profiles.fhir.json import serialize
from profiles.structure_definitions import structure_definitions

_HERE: Final = Path(__file__).parent / "hl7"
_LIBRARIES: Final = Path(sys.prefix) / "hl7-validator"
"""In the virtual environment: what is downloaded goes with it."""
_DOWNLOAD_SECONDS: Final = 600


class NoValidator(Exception):
    """It cannot be had here; the message says why."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One message of the validator. `place` is FHIRPath or a line and column."""

    severity: str
    id: str
    place: str
    text: str

    @property
    def is_error(self) -> bool:
        return self.severity in ("error", "fatal")


class Validator:
    """One running validator."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        assert process.stdin
        assert process.stdout
        self._in, self._out = process.stdin, process.stdout

    def findings(self, resource: Mapping[str, Any] | bytes) -> list[Finding]:
        """What the validator says of a resource. Raises `NoValidator` if it has died."""
        line = resource if isinstance(resource, bytes) else serialize(resource)
        if b"\n" in line:
            line = json.dumps(orjson.loads(line), ensure_ascii=False).encode()
        self._in.write(line + b"\n")
        self._in.flush()
        return list(self._read())

    def errors(self, resource: Mapping[str, Any] | bytes) -> list[Finding]:
        return [each for each in self.findings(resource) if each.is_error]

    def _read(self) -> Iterator[Finding]:
        while (line := self._out.readline()) != b"\n":
            if not line:
                raise NoValidator("the validator has died")
            yield Finding(*line.decode().rstrip("\n").split("\t", 3))


@contextmanager
def running(more: Iterable[Mapping[str, Any]] = ()) -> Iterator[Validator]:
    """A validator that knows R4, our own profiles and `more` definitions. Raises `NoValidator`."""
    libraries = _downloaded()
    with tempfile.TemporaryDirectory() as folder:
        for number, definition in enumerate([*structure_definitions().values(), *more]):
            (Path(folder) / f"{number}.json").write_bytes(serialize(definition))
        command = ["java", "-Xmx1500m", "-cp", f"{libraries}/*", str(_HERE / "Validator.java"), folder]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert process.stderr
        errors = threading.Thread(target=process.stderr.read, daemon=True)
        errors.start()
        try:
            yield Validator(process)
        finally:
            process.kill()
            process.wait()
            errors.join()
            for stream in (process.stdin, process.stdout, process.stderr):
                assert stream
                stream.close()


def _downloaded() -> Path:
    for program in ("java", "mvn"):
        if shutil.which(program) is None:
            raise NoValidator(f"HL7's validator needs {program} (Debian: apt-get install openjdk-17-jdk-headless maven)")
    if (_LIBRARIES / "complete").exists():
        return _LIBRARIES
    command = ["mvn", "-q", "-B", "-f", str(_HERE / "pom.xml"), "dependency:copy-dependencies", f"-DoutputDirectory={_LIBRARIES}"]
    try:
        subprocess.run(command, check=True, capture_output=True, timeout=_DOWNLOAD_SECONDS)
    except (subprocess.SubprocessError, OSError) as error:
        raise NoValidator(f"HL7's validator could not be downloaded by Maven: {type(error).__name__}") from None
    (_LIBRARIES / "complete").touch()
    return _LIBRARIES

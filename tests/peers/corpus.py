"""The real files at hand: those that pydicom brings, and others' beside this repository where they are."""

import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pydicom

from profiles import header
from profiles.header import HeaderError, PatientDomains
from profiles.identifiers import AssigningAuthority

PYDICOM: Final = Path(pydicom.__file__).parent / "data"
SHARED: Final = Path(__file__).resolve().parents[2] / ".." / "shared" / "testdata"
_DOMAINS = PatientDomains("2.25.9", AssigningAuthority("2.25.9.1"), AssigningAuthority("2.25.9.6"))


@dataclass(frozen=True)
class File:
    name: str
    body: bytes
    patient: str
    study: str
    series: str
    uid: str
    sop_class: str
    syntax: str
    offset: int

    @property
    def dataset(self) -> bytes:
        """What C-STORE carries: all after the File Meta Information (PS3.10 section 7.1)."""
        return self.body[self.offset :]

    @property
    def sent(self) -> bytes:
        """What is sent back: a preamble may be a program (PS3.10 section 7.5), and is not sent."""
        return bytes(128) + self.body[128:]


def read(body: bytes, name: str = "") -> File:
    """Raises `HeaderError` for what is no instance."""
    dataset, syntax, offset = header.read(io.BytesIO(body))
    study = header.extract(dataset, syntax, _DOMAINS)
    (series,) = study.series
    (instance,) = series.instances
    return File(
        name, body, study.patient.identifier.cx, study.study_instance_uid, series.series_instance_uid,
        instance.sop_instance_uid, instance.sop_class_uid, syntax, offset,
    )  # fmt: skip


def corpus(*folders: Path) -> tuple[list[File], dict[str, str]]:
    """The files that are whole, each content once, and why each of the others is not, by its name and that of its folder."""
    good: dict[bytes, File] = {}
    refused: dict[str, str] = {}
    for path in sorted(path for folder in folders for path in folder.rglob("*") if path.is_file()):
        body, name = path.read_bytes(), "/".join(path.parts[-2:])
        if body[128:132] != b"DICM":
            if path.suffix == ".dcm":
                refused[name] = "no preamble"
            continue
        try:
            good.setdefault(body, read(body, name))
        except HeaderError as error:
            refused[name] = str(error)
    return list(good.values()), refused


def rounds(files: list[File]) -> Iterator[list[File]]:
    """Files without contradictions within a round: no SOP Instance UID with two contents, no study of two patients."""
    left = files
    while left:
        taken: dict[str, File] = {}
        owners: dict[str, str] = {}
        later = []
        for file in left:
            wanted = {file.study: file.patient, file.series: file.study}
            if file.uid in taken or any(owners.get(key, value) != value for key, value in wanted.items()):
                later.append(file)
            else:
                taken[file.uid] = file
                owners.update(wanted)
        yield list(taken.values())
        left = later

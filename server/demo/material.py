"""What the demo sends: the real files that pydicom ships, the reader's own, and a generated CT.

Every file's dataset bytes are remembered by where they are, so that what comes back can be compared byte by byte.
"""

import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import pydicom.data
from pydicom import dcmread
from pydicom.errors import InvalidDicomError

from profiles import header, part10
from profiles.identifiers import InvalidIdentifier
from profiles.phantom import phantom_study

_CHUNK = 1 << 20
_PATIENT = header.PatientDomains


@dataclass(frozen=True, slots=True)
class Image:
    """One file to send: what it is, and where its dataset begins after the File Meta Information."""

    path: Path
    study: str
    series: str
    sop_instance_uid: str
    sop_class_uid: str
    transfer_syntax: str
    modality: str
    size: int
    offset: int

    def is_in(self, received: BinaryIO) -> bool:
        """Whether `received`, a Part 10 file, has the same transfer syntax and the very same dataset bytes."""
        theirs = part10.parse(received)
        if theirs.transfer_syntax_uid != self.transfer_syntax:
            return False
        received.seek(theirs.dataset_offset)
        with self.path.open("rb") as ours:
            ours.seek(self.offset)
            return all(one == other for one, other in _pairs(ours, received))


def _pairs(one: BinaryIO, other: BinaryIO) -> Iterator[tuple[bytes, bytes]]:
    while True:
        a, b = one.read(_CHUNK), other.read(_CHUNK)
        if not a and not b:
            return
        yield a, b

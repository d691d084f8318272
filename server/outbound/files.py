"""DICOM files on the way out: finding them, what their File Meta Information says, and what became of each."""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pydicom.errors import InvalidDicomError
from pydicom.filereader import read_file_meta_info
from pynetdicom.status import GENERAL_STATUS, STORAGE_SERVICE_CLASS_STATUS

from profiles.identifiers import InvalidIdentifier, lenient_uid


class NotSendable(ValueError):
    """A file that cannot be sent; the message says why."""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A DICOM file (PS3.10): what its File Meta Information names. `size` is that of the file in bytes."""

    path: Path
    size: int
    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str


@dataclass(frozen=True, slots=True)
class Sent:
    """What became of one file. `size` in bytes is 0 for a file that was not sent.

    `status` is a DIMSE status or a Failure Reason of STOW-RS, None where the peer gave none. `reason` is empty for a success.
    """

    path: Path
    size: int
    ok: bool
    status: int | None = None
    reason: str = ""


def meaning(status: int) -> str:
    """PS3.4 table B.2-1 and PS3.7 annex C: what a status of C-STORE, or a Failure Reason of STOW-RS, says."""
    known = {**GENERAL_STATUS, **STORAGE_SERVICE_CLASS_STATUS}.get(status)
    return f"0x{status:04X} {known[1]}" if known and known[1] else f"0x{status:04X}"


def dicom_files(paths: Iterable[Path]) -> Iterator[Path]:
    """PS3.10 section 7.1: the files among `paths`, and below those that are folders, that have the prefix DICM; in order of name.

    A path that was named itself is given in any case, so that it can be told why it is not sent. Raises `FileNotFoundError`.
    """
    for path in paths:
        if not path.exists():
            raise FileNotFoundError(f"there is no {path}")
        if not path.is_dir():
            yield path
            continue
        for folder, folders, names in os.walk(path):
            folders.sort()
            yield from (each for each in (Path(folder) / name for name in sorted(names)) if _has_prefix(each))


def _has_prefix(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return path.is_file() and file.read(132)[128:] == b"DICM"
    except OSError:
        return False


def outgoing(path: Path) -> Outgoing:
    """PS3.10 section 7.1: reads the File Meta Information and nothing else. Raises `NotSendable`."""
    try:
        if not _has_prefix(path):
            raise NotSendable("not a DICOM file: it has no preamble with DICM (PS3.10 section 7.1)")
        meta = read_file_meta_info(path)
        found = [
            str(meta.get(name, "")) for name in ("MediaStorageSOPClassUID", "MediaStorageSOPInstanceUID", "TransferSyntaxUID")
        ]
        return Outgoing(path, path.stat().st_size, *(lenient_uid(each) for each in found))
    except InvalidIdentifier:
        raise NotSendable("its File Meta Information lacks the SOP Class, SOP Instance or Transfer Syntax UID") from None
    except (OSError, InvalidDicomError, ValueError, KeyError, NotImplementedError) as error:
        if isinstance(error, NotSendable):
            raise
        raise NotSendable(f"it cannot be read: {type(error).__name__}") from None


def sorted_out(paths: Iterable[Path]) -> tuple[list[Outgoing], list[Sent]]:
    """The files that can be sent, and what is told of the others."""
    files: list[Outgoing] = []
    skipped: list[Sent] = []
    for path in paths:
        try:
            files.append(outgoing(path))
        except NotSendable as error:
            skipped.append(Sent(path, 0, ok=False, reason=str(error)))
    return files, skipped

"""DICOM files on the way out: finding them, what their File Meta Information says, and what became of each."""

import os
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from struct import unpack_from
from typing import Final

from profiles.identifiers import InvalidIdentifier, lenient_uid

_HEAD: Final = 1024
_LONGEST_META: Final = 1 << 20
_NAMED: Final = (0x0002, 0x0003, 0x0010)
"""Media Storage SOP Class UID, Media Storage SOP Instance UID and Transfer Syntax UID, elements of group 0002."""
_LONG: Final = frozenset({b"OB", b"OW", b"UN", b"UT", b"SQ"})


class NotSendable(ValueError):
    """A file that cannot be sent; the message says why."""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A DICOM file (PS3.10): what its File Meta Information names, and where its Data Set begins. `size` is that of the file in bytes."""

    path: Path
    size: int
    sop_class: str
    uid: str
    transfer_syntax: str
    dataset_offset: int


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
        with path.open("rb", buffering=0) as file:
            size = os.fstat(file.fileno()).st_size
            head = file.read(_HEAD)
            if head[128:132] != b"DICM":
                raise NotSendable("not a DICOM file: it has no preamble with DICM (PS3.10 section 7.1)")
            try:
                found, offset = _meta_information(head)
            except struct.error:  # a long one, or a short file
                found, offset = _meta_information(head + file.read(_LONGEST_META))
        sop_class, uid, syntax = (lenient_uid(found.get(number, b"").decode("ascii").rstrip(" \0")) for number in _NAMED)
        return Outgoing(path, size, sop_class, uid, syntax, offset)
    except (InvalidIdentifier, UnicodeDecodeError):
        raise NotSendable("its File Meta Information lacks the SOP Class, SOP Instance or Transfer Syntax UID") from None
    except struct.error:
        raise NotSendable("its File Meta Information is cut off") from None
    except OSError as error:
        raise NotSendable(f"it cannot be read: {(error.strerror or type(error).__name__).lower()}") from None


def _meta_information(head: bytes) -> tuple[dict[int, bytes], int]:
    """PS3.10 table 7.1-1: what of group 0002 is wanted, and where that group ends. Raises `struct.error` where `head` ends before."""
    found: dict[int, bytes] = {}
    at = 132
    while at < len(head) and unpack_from("<H", head, at) == (2,):
        number, code, length = unpack_from("<H2sH", head, at + 2)
        at += 8
        if code in _LONG:
            (length,) = unpack_from("<L", head, at)
            at += 4
        if number in _NAMED:
            (found[number],) = unpack_from(f"{length}s", head, at)
        at += length
    if at > len(head):
        raise struct.error
    return found, at


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

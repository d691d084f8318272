"""Instances as a File-set with its DICOMDIR in a ZIP archive (PS3.12 annex V, PS3.10 section 8.6), streamed.

Instances go in as they are stored. Those of an uncompressed transfer syntax are deflated, the others stored: a second compression costs time and
gains nothing. Where all are stored the length is known before the first byte.
"""

import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import chain
from typing import Final

import orjson
from sqlalchemy import Connection

from ihe import zip_stream
from ihe.zip_stream import Member
from profiles import dicomdir
from profiles.dicomdir import File
from profiles.vocabulary import EXPLICIT_VR_BIG_ENDIAN, EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN
from server.records import catalogue
from server.records.catalogue import StoredInstance
from server.records.packing import unpacked
from server.store.blobs import BlobStore
from server.work.retrieve import part10

MEDIA_TYPE: Final = "application/zip"
_UNCOMPRESSED: Final = frozenset({IMPLICIT_VR_LITTLE_ENDIAN, EXPLICIT_VR_LITTLE_ENDIAN, EXPLICIT_VR_BIG_ENDIAN})


@dataclass(frozen=True, slots=True)
class _Member(Member):
    """An instance's file; None is the DICOMDIR."""

    instance: StoredInstance | None


@dataclass(frozen=True, slots=True)
class Beside(Member):
    """Another file of the archive, which the DICOMDIR does not name (PS3.10 section 8.6 allows such files)."""

    content: bytes

    @classmethod
    def of(cls, name: str, content: bytes, *, deflate: bool = False) -> "Beside":
        """That file."""
        return cls(name, len(content), deflate, content)


@dataclass(frozen=True, slots=True)
class FileSet:
    """What is to be in an archive, and its DICOMDIR."""

    members: tuple[_Member, ...]
    directory: bytes

    @property
    def length(self) -> int | None:
        """Of the archive in bytes; None where it is known only at its end."""
        return zip_stream.content_length(list(self.members))

    def chunks(self, blobs: BlobStore, now: datetime, beside: Iterable[Beside] = ()) -> Iterator[bytes]:
        """The archive, its files dated `now`; behind the File-set what goes `beside` it, each asked for when its turn comes."""

        def body(member: _Member | Beside) -> Iterator[bytes]:
            if isinstance(member, Beside):
                return iter((member.content,))
            return part10(blobs, member.instance) if member.instance else iter((self.directory,))

        when = (now.year, now.month, now.day, now.hour, now.minute, now.second)
        return zip_stream.chunks(chain[_Member | Beside](self.members, beside), body, when)


def of(connection: Connection, instances: Sequence[StoredInstance], *, compress: bool = True) -> FileSet:
    """These instances, in their order."""
    ids = dicomdir.file_ids([instance.series_uid for instance in instances])
    files = [
        File(file_id, instance.sop_class, instance.uid, instance.transfer_syntax, attributes)
        for file_id, instance, attributes in zip(ids, instances, _attributes(connection, instances), strict=True)
    ]
    name = uuid.uuid5(uuid.NAMESPACE_OID, "\n".join(instance.uid for instance in instances))
    directory = dicomdir.dicomdir(files, f"2.25.{name.int}")
    members = (
        _Member("DICOMDIR", len(directory), compress, None),
        *(
            _Member("/".join(file.file_id), instance.size, compress and instance.transfer_syntax in _UNCOMPRESSED, instance)
            for file, instance in zip(files, instances, strict=True)
        ),
    )
    return FileSet(members, directory)


def _attributes(connection: Connection, instances: Sequence[StoredInstance]) -> Iterator[dict[str, object]]:
    """Of each instance's DICOM JSON what a directory names; the rest is let go at once."""
    for body in catalogue.dicom_json(connection, [instance.pk for instance in instances]):
        model: dict[str, object] = orjson.loads(unpacked(body))
        yield {tag: model[tag] for tag in dicomdir.NEEDED & model.keys()}

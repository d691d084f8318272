"""A study or series as a ZIP archive with a DICOMDIR (PS3.18 section 8.7.3.5, PS3.12 annex V), streamed.

Instances go in as they are sent by WADO-RS. Those of an uncompressed transfer syntax are deflated, the others stored: a
second compression costs time and gains nothing. `compress=no` stores all; then the length is known before the first byte.
"""

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import orjson
from sqlalchemy import Connection
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from ihe import zip_stream
from ihe.zip_stream import Member
from profiles import dicomdir
from profiles.audit_event import RAD_107
from profiles.dicomdir import File
from profiles.vocabulary import EXPLICIT_VR_BIG_ENDIAN, EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN
from server.edges import context
from server.edges.dicomweb import accept, retrieve, targets
from server.edges.dicomweb.answers import answering
from server.edges.dicomweb.targets import Target
from server.errors import MalformedQuery, NotAcceptable
from server.records import catalogue
from server.records.catalogue import StoredInstance
from server.records.packing import unpacked
from server.work.retrieve import part10

ZIP: Final = "application/zip"
_UNCOMPRESSED: Final = frozenset({IMPLICIT_VR_LITTLE_ENDIAN, EXPLICIT_VR_LITTLE_ENDIAN, EXPLICIT_VR_BIG_ENDIAN})
_COMPRESS: Final = {"yes": True, "no": False}


def instances(request: Request) -> Response:
    """PS3.18 section 10.4.1.1.1: a study or series, as a ZIP archive where the client would rather have that."""
    for wanted in accept.ranges(request):
        if wanted.type == ZIP:
            return archive(request)
        if wanted.is_multipart or wanted.type == accept.DICOM:
            break
    return retrieve.instances(request)


@answering("read", RAD_107)
def archive(request: Request) -> Response:
    """PS3.12 annex V: one File-set with its DICOMDIR at the root of the archive."""
    node = context.node(request)
    compress = _COMPRESS.get(request.query_params.get("compress", "yes"))
    if compress is None:
        raise MalformedQuery("compress is yes or no")
    with context.reading(request) as connection:
        target = targets.located(request, connection)
        _require_syntax(request, target)
        directory, files = _file_set(connection, target)
    targets.told(request, target)
    members = [
        _Member("DICOMDIR", len(directory), compress, None),
        *(
            _Member("/".join(file.file_id), instance.size, compress and instance.transfer_syntax in _UNCOMPRESSED, instance)
            for file, instance in zip(files, target.instances, strict=True)
        ),
    ]
    now = datetime.now(node.settings.zone)
    pieces = zip_stream.chunks(
        members,
        lambda member: part10(node.blobs, member.instance) if member.instance else iter((directory,)),
        (now.year, now.month, now.day, now.hour, now.minute, now.second),
    )
    return StreamingResponse(context.together(pieces), headers=_headers(request, members), media_type=ZIP)


@dataclass(frozen=True, slots=True)
class _Member(Member):
    """An instance's file; None is the DICOMDIR."""

    instance: StoredInstance | None


def _headers(request: Request, members: list[_Member]) -> dict[str, str]:
    """The name to save it under is the UID that the client asked for: nothing of a patient."""
    uid = request.path_params.get("series") or request.path_params["study"]
    headers = {"Content-Disposition": f'attachment; filename="{uid}.zip"', "Vary": "Accept, Authorization"}
    length = zip_stream.content_length(members)
    return headers if length is None else {**headers, "Content-Length": str(length)}


def _require_syntax(request: Request, target: Target) -> None:
    """PS3.18 section 8.7.3.5.2: archives hold instances as they are stored."""
    wanted = {each.syntax for each in accept.ranges(request) if each.type == ZIP}
    if not (wanted & {"", "*"} or {instance.transfer_syntax for instance in target.instances} <= wanted):
        raise NotAcceptable(f"{ZIP} is offered with instances as they are stored (transfer-syntax=*)")


def _file_set(connection: Connection, target: Target) -> tuple[bytes, list[File]]:
    """The DICOMDIR, and its files in the order of the target's instances."""
    ids = dicomdir.file_ids([instance.series_uid for instance in target.instances])
    files = [
        File(file_id, instance.sop_class, instance.uid, instance.transfer_syntax, attributes)
        for file_id, instance, attributes in zip(ids, target.instances, _attributes(connection, target), strict=True)
    ]
    name = uuid.uuid5(uuid.NAMESPACE_OID, "\n".join(instance.uid for instance in target.instances))
    return dicomdir.dicomdir(files, f"2.25.{name.int}"), files


def _attributes(connection: Connection, target: Target) -> Iterator[dict[str, object]]:
    """Of each instance's DICOM JSON what a directory names; the rest is let go at once."""
    for body in catalogue.dicom_json(connection, [instance.pk for instance in target.instances]):
        model: dict[str, object] = orjson.loads(unpacked(body))
        yield {tag: model[tag] for tag in dicomdir.NEEDED & model.keys()}

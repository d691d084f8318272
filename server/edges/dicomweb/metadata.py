"""WADO-RS metadata (PS3.18 section 10.4.1.1.2): the DICOM JSON that was made when the study was published."""

import hashlib
import re
import zlib
from collections.abc import Iterator

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from profiles.audit_event import RAD_107
from server.edges import context
from server.edges.dicomweb import accept, targets
from server.edges.dicomweb.answers import answering
from server.edges.dicomweb.targets import Target
from server.records import catalogue
from server.records.resources import unpacked

_TOGETHER = 100
_KEY = b'"BulkDataURI":"'


@answering("read", RAD_107)
def metadata(request: Request) -> Response:
    """PS3.18 section 10.4.1.1.2: the metadata of a study, series or instance, as DICOM JSON (annex F)."""
    with context.node(request).database.read() as connection:
        target = targets.located(request, connection)
    media_type = accept.json(request)
    headers = {
        "ETag": _etag(request, target),
        "Cache-Control": "private, no-cache",
        "Vary": "Accept, Accept-Encoding, Authorization",
    }
    if headers["ETag"] in re.findall(r'W/"[0-9a-f]+"', request.headers.get("if-none-match", "")):
        return Response(status_code=304, headers=headers)
    targets.told(request, target)
    body = _array(request, target)
    if _takes_gzip(request.headers.get("accept-encoding", "")):
        headers["Content-Encoding"] = "gzip"
        body = _gzipped(body)
    return StreamingResponse(body, headers=headers, media_type=media_type)


def _etag(request: Request, target: Target) -> str:
    """Weak: an instance never changes, so the members are the content; the URLs inside depend on how this server is called."""
    digest = hashlib.sha256(targets.base(request).encode())
    for instance in target.instances:
        digest.update(b"%d," % instance.pk)
    return f'W/"{digest.hexdigest()[:32]}"'


def _array(request: Request, target: Target) -> Iterator[bytes]:
    """A JSON array, some instances at a time; no transaction stays open while the client reads.

    Stored URIs are relative to the instance, `bulkdata/7FE00010`: what this server is called may change.
    """
    yield b"["
    separator = b""
    for start in range(0, len(target.instances), _TOGETHER):
        some = target.instances[start : start + _TOGETHER]
        with context.node(request).database.read() as connection:
            stored = list(catalogue.dicom_json(connection, [instance.pk for instance in some]))
        for instance, body in zip(some, stored, strict=True):
            # In compact JSON these bytes are nothing else than the key: inside a string the quotes would be escaped.
            yield separator + unpacked(body).replace(_KEY, b"%s%s/" % (_KEY, targets.url(request, instance).encode()))
            separator = b","
    yield b"]"


def _takes_gzip(header: str) -> bool:
    """RFC 9110 section 12.5.3: `gzip` or `*` with a weight that is not 0."""
    for item in header.split(","):
        coding, _, parameters = item.partition(";")
        if coding.strip().lower() in ("gzip", "*"):
            return not re.fullmatch(r"\s*q\s*=\s*0(\.0*)?\s*", parameters)
    return False


def _gzipped(pieces: Iterator[bytes]) -> Iterator[bytes]:
    compressor = zlib.compressobj(1, wbits=31)
    for piece in pieces:
        if data := compressor.compress(piece):
            yield data
    yield compressor.flush()

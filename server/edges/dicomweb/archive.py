"""A study or series as a ZIP archive with a DICOMDIR (PS3.18 section 8.7.3.5, PS3.12 annex V), streamed; `server.work.file_set` makes it.

`compress=no` stores all files as they are; then the length is known before the first byte.
"""

from datetime import datetime
from typing import Final

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from profiles.audit_event import RAD_107
from server.edges import context
from server.edges.dicomweb import accept, retrieve, targets
from server.edges.dicomweb.answers import answering
from server.edges.dicomweb.targets import Target
from server.errors import MalformedQuery, NotAcceptable
from server.work import file_set
from server.work.file_set import FileSet

ZIP: Final = file_set.MEDIA_TYPE
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
        target = targets.located(request, connection, taking=True)
        _require_syntax(request, target)
        found = file_set.of(connection, target.instances, compress=compress)
    targets.told(request, target)
    pieces = found.chunks(node.blobs, datetime.now(node.settings.zone))
    return StreamingResponse(context.together(pieces), headers=_headers(request, found), media_type=ZIP)


def _headers(request: Request, found: FileSet) -> dict[str, str]:
    """The name to save it under is the UID that the client asked for: nothing of a patient."""
    uid = request.path_params.get("series") or request.path_params["study"]
    headers = {"Content-Disposition": f'attachment; filename="{uid}.zip"', "Vary": "Accept, Authorization"}
    return headers if found.length is None else {**headers, "Content-Length": str(found.length)}


def _require_syntax(request: Request, target: Target) -> None:
    """PS3.18 section 8.7.3.5.2: archives hold instances as they are stored."""
    wanted = {each.syntax for each in accept.ranges(request) if each.type == ZIP}
    if not (wanted & {"", "*"} or {instance.transfer_syntax for instance in target.instances} <= wanted):
        raise NotAcceptable(f"{ZIP} is offered with instances as they are stored (transfer-syntax=*)")

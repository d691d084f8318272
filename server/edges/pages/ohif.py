"""OHIF below `/ohif`, where it is installed (`work/ohif`): its page, with the token of whoever looks, and its files.

The page gets what our own viewer's gets: a token of a few minutes in the page, which the script takes out and renews. OHIF asks for the header of each
request, so that it has the newest. No address and no storage has it.
"""

import mimetypes
import re
from typing import Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, Response

from server.edges import context
from server.edges.pages import looking, shared
from server.edges.pages.browser import Visit
from server.edges.pages.showing import root
from server.edges.pages.showing import translated as _
from server.edges.pages.viewer import escaped, ticket_of
from server.errors import NotFound
from server.work import ohif
from server.work.portal import reading, studies
from server.work.portal.reading import Reader
from server.work.portal.studies import NO_STUDY

_CSP: Final = (
    "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self'; "
    "media-src blob:; connect-src 'self' blob: data:; worker-src 'self' blob:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_NAMED_BY_CONTENT: Final = re.compile(r"(.*\.bundle\.)?[0-9a-f]{16}\.\w+")
_MOST: Final = 20


def view(visit: Visit) -> Response:
    """`GET /ohif/viewer?StudyInstanceUIDs=` (OHIF's own address of a study, which its router reads), with `share` where it was shared."""
    script = ohif.script(visit.settings)
    if not script:
        raise NotFound("the advanced viewer is not installed here")
    uids = [each for each in visit.request.query_params.get("StudyInstanceUIDs", "").split(",") if each][:_MOST]
    readers = _readers(visit)
    if not readers:
        return visit.redirect("/claim")
    with visit.node.database.read() as connection:
        seen = next(((each, found) for each in readers if (found := studies.of_uids(connection, each.decision, uids))), None)
        if seen is None:
            raise NotFound(NO_STUDY)
        reader, found = seen
        others = reading.listed(connection, [reader], most=_MOST, patient=found[0].patient)
    mine = [each for each in found if each.patient == found[0].patient]
    ticket = ticket_of(visit, reader, [*mine, *(each for each in others if each not in mine)])
    for each in mine:
        looking.told_study(visit, reader, each, "viewer")
    config = {
        "root": root(visit.settings), "token": ticket.token, "expires": ticket.expires, "handle": ticket.handle,
        "words": {"ended": _("This page has ended: you signed out, or it was closed to you. Open the images again from where you came.")},
    }  # fmt: skip
    response = visit.page("ohif.html", config=escaped(config), script=script)
    response.headers["Content-Security-Policy"] = _CSP
    response.headers["Referrer-Policy"] = "no-referrer"
    return response


def _readers(visit: Visit) -> tuple[Reader, ...]:
    if visit.request.query_params.get("share"):
        return (shared.reader_of(visit, visit.request.query_params["share"]),)
    with visit.node.database.read() as connection:
        return looking.readers(visit, connection)


def file(request: Request) -> Response:
    """`GET /ohif/{name}`: a file of OHIF's, compressed where the browser takes it. The same for everybody. Raises `HTTPException`."""
    name, settings = request.path_params["name"], context.node(request).settings
    path = ohif.file(settings, name)
    if path is None or path.suffix == ".gz":
        raise HTTPException(404)
    headers = {
        "Cache-Control": "public, max-age=31536000, immutable" if _NAMED_BY_CONTENT.fullmatch(name) else "no-cache",
        "Content-Security-Policy": _CSP, "Vary": "Accept-Encoding", "X-Content-Type-Options": "nosniff",
        "X-Request-Id": context.request_id(request),
    }  # fmt: skip
    kind = "text/javascript" if path.suffix == ".js" else mimetypes.guess_type(name)[0] or "application/octet-stream"
    packed = ohif.file(settings, f"{name}.gz")
    if packed is not None and "gzip" in request.headers.get("accept-encoding", ""):
        return FileResponse(packed, headers={**headers, "Content-Encoding": "gzip"}, media_type=kind)
    return FileResponse(path, headers=headers, media_type=kind)

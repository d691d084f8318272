"""Binary: its content as it is, or as a resource; both ways, in pieces, so that none is ever held whole."""

import base64
import re
from collections.abc import Iterator
from typing import Any, Final

from sqlalchemy import Connection
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse

from profiles.audit_event import REST_CREATE, REST_UPDATE, AuditedEntity
from profiles.fhir.issues import Issue
from profiles.fhir.json import serialize
from profiles.fhir.xml import to_xml
from server.edges import context
from server.edges.bodies import PiecesResponse
from server.edges.fhir.answers import answer, caller, is_held
from server.edges.fhir.content_coding import require_unpacked
from server.edges.fhir.negotiation import media_type, negotiate, only, pairs, parsed, wants_resource
from server.edges.fhir.outcome import Handler, guarded
from server.edges.fhir.received import body, received
from server.errors import ImageShareError, Invalid, MalformedBody
from server.store.blobs import Blob, Writer, batch
from server.work.fhir import binary as work
from server.work.fhir.binary import Content
from server.work.fhir.caller import Outcome
from server.work.fhir.reading import FHIR_ID
from server.work.fhir.storing import checked

_RESOURCES: Final = frozenset({"application/fhir+json", "application/fhir+xml", "application/json+fhir", "application/xml+fhir"})
_RANGE: Final = re.compile(r"bytes=(\d{0,18})-(\d{0,18})", re.ASCII)
_PIECE: Final = 1 << 20
_SAFE: Final = {
    # A document of somebody else must never run as a page of this server.
    "Content-Security-Policy": "sandbox",
    "Cache-Control": "private, no-cache",
    "Vary": "Accept, Authorization",
}


# --- out


def binary(request: Request) -> Response:
    """FHIR R4 section 2.44.4, Binary: `GET [base]/Binary/[id]`, also with `/_history/[vid]`.

    The bytes in their own media type, or a Binary resource with them in base64 if the client names a form of FHIR. Both are streamed.
    """
    asking, parameters = caller(request), pairs(request.scope["query_string"])
    only(parameters)
    as_resource = wants_resource(request, parameters)
    with context.reading(request) as connection:
        found = work.read(connection, asking, request.path_params["id"], request.path_params.get("version", ""))
    audited, patients = found.audited[0], [each.patient for each in found.audited if each.patient]
    context.told(request, "read", audited.subtype, patients=patients, entities=(AuditedEntity(reference=audited.reference),))
    headers = {**_SAFE, **Outcome(200, found.stored).headers}
    if is_held(request, found.stored):
        return Response(status_code=304, headers=headers)
    return _resource(request, found, headers) if as_resource else _bytes(request, found, headers)


def _bytes(request: Request, found: Content, headers: dict[str, str]) -> Response:
    """As it is; of a range of it RFC 9110 section 14 that part, where it is one."""
    start, end, status = _range(request, found)
    headers = {
        **headers,
        "Accept-Ranges": "bytes",
        "Content-Disposition": f'attachment; filename="{found.stored.id}"',
        "Content-Type": found.media_type,
    }
    if status == 416:
        return Response(status_code=416, headers={**headers, "Content-Range": f"bytes */{found.size}"})
    if status == 206:
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{found.size}"
    headers["Content-Length"] = str(end - start)
    if request.method == "HEAD" or start == end:
        return Response(status_code=status, headers=headers)
    if not found.blob_id:
        return Response(found.inline[start:end], status, headers=headers)
    response = PiecesResponse(context.node(request).blobs.extent(found.blob_id, start, end - start), headers)
    response.status_code = status
    return response


def _range(request: Request, found: Content) -> tuple[int, int, int]:
    """First byte, the one after the last, and the status. What is no single range of bytes is passed over."""
    asked = _RANGE.fullmatch(request.headers.get("range", "").replace(" ", ""))
    if asked is None or "if-range" in request.headers or not (asked[1] or asked[2]):
        return 0, found.size, 200
    if asked[1] and asked[2] and int(asked[2]) < int(asked[1]):  # section 14.1.1: it is no range
        return 0, found.size, 200
    if not asked[1]:
        start, end = max(found.size - int(asked[2]), 0), found.size
    else:
        start, end = int(asked[1]), min(int(asked[2] or found.size) + 1, found.size)
    return (start, end, 206) if start < end else (0, 0, 416)


def _resource(request: Request, found: Content, headers: dict[str, str]) -> Response:
    wanted = negotiate(request, pairs(request.scope["query_string"]))
    if wanted.is_xml:
        head, before, after, end = to_xml(found.head).removesuffix(b"</Binary>"), b'<data value="', b'"/>', b"</Binary>"
    else:
        head, before, after, end = serialize(found.head)[:-1], b',"data":"', b'"', b"}"
    if not found.size:  # FHIR has no empty data
        before, after = b"", b""
    length = len(head) + len(before) + 4 * -(-found.size // 3) + len(after) + len(end)
    headers["Content-Length"] = str(length)  # RFC 9110 section 8.6: of a HEAD that of the GET
    if request.method == "HEAD" or not found.size:
        return Response(b"" if request.method == "HEAD" else head + end, headers=headers, media_type=wanted.content_type)
    chunks = context.node(request).blobs.stream(found.blob_id) if found.blob_id else iter((found.inline,))
    return StreamingResponse(_joined(head + before, chunks, after + end), headers=headers, media_type=wanted.content_type)


def _joined(before: bytes, chunks: Iterator[bytes], after: bytes) -> Iterator[bytes]:
    """The content in base64, between what stands before and after it."""
    yield before
    rest = b""
    for chunk in chunks:
        whole = rest + chunk
        cut = len(whole) - len(whole) % 3
        yield base64.b64encode(whole[:cut])
        rest = whole[cut:]
    yield base64.b64encode(rest) + after


# --- in


async def store(request: Request) -> Response:
    """FHIR R4 section 2.44.3: `POST [base]/Binary` and `PUT [base]/Binary/[id]`, with content of any media type, or as a Binary resource."""
    if media_type(request) in _RESOURCES:
        return await _WITH_RESOURCE(request)
    begun = await run_in_threadpool(_BEGIN, request)
    writer: Writer | None = getattr(request.state, "writer", None)
    if writer is None:
        return begun
    request.state.failed = await _taken(request, writer)
    return await run_in_threadpool(_FINISH, request)


def delete(request: Request) -> Response:
    """FHIR R4 section 3.1.0.7: `DELETE [base]/Binary/[id]`."""
    asking = caller(request)

    def deleted(connection: Connection) -> Outcome:
        done = work.delete(connection, asking, request.path_params["id"], if_match=request.headers.get("if-match", ""))
        context.recorded(request, connection, done.audited)
        return done

    return answer(request, context.node(request).writes.run(deleted))


async def _taken(request: Request, writer: Writer) -> ImageShareError | None:
    """Writes the body as it comes; returns what went wrong, with nothing left of it."""
    pieces = bytearray()
    try:
        async for chunk in request.stream():
            pieces += chunk
            if len(pieces) >= _PIECE:
                await run_in_threadpool(writer.write, bytes(pieces))
                pieces.clear()
        await run_in_threadpool(writer.write, bytes(pieces))
    except ClientDisconnect:
        writer.abort()
        return MalformedBody("the content was cut off")
    except ImageShareError as error:
        writer.abort()
        return error
    except BaseException:
        writer.abort()
        raise
    return None


def _begin(request: Request) -> Response:
    """Whether this may be written at all is decided before any of it is taken."""
    asking, node = caller(request), context.node(request)
    _require_plain(request)
    require_unpacked(request)
    with context.reading(request) as connection:
        work.require_write(connection, asking, request.path_params.get("id", ""), _with_context(request, _raw(request)))
    request.state.writer = node.blobs.create(batch())
    return Response()


def _finish(request: Request) -> Response:
    if isinstance(request.state.failed, ImageShareError):
        raise request.state.failed
    return _written(request, request.state.writer, _with_context(request, _raw(request)))


def _with_resource(request: Request) -> Response:
    """A Binary as a resource: its data become the content."""
    asking, node = caller(request), context.node(request)
    resource: dict[str, Any] = parsed(request, body(request))
    _require_plain(request)
    checked(resource, "Binary")
    given = _with_context(request, resource)
    with context.reading(request) as connection:
        work.require_write(connection, asking, request.path_params.get("id", ""), given)
    writer = node.blobs.create(batch())
    try:
        writer.write(base64.b64decode(resource.get("data", "")))
    except BaseException:
        writer.abort()
        raise
    return _written(request, writer, given)


def _written(request: Request, writer: Writer, given: dict[str, Any]) -> Response:
    """Content and row, in that order; where the row is refused, the content is nobody's and goes."""
    asking, node, id_ = caller(request), context.node(request), request.path_params.get("id", "")
    (blob,) = node.blobs.commit([writer])
    if not isinstance(blob, Blob):
        raise blob
    made: Outcome | None = None

    def written(connection: Connection) -> Outcome:
        done = work.write(connection, asking, id_, given, blob, if_match=request.headers.get("if-match", ""))
        context.recorded(request, connection, done.audited)
        return done

    try:
        made = node.writes.run(written)
    finally:
        if made is None or not made.location:
            node.blobs.delete(blob.id)
    return answer(request, made)


def _require_plain(request: Request) -> None:
    """That the answer has a form that there is, and that no condition is set."""
    if "if-none-exist" in request.headers:
        why = "a Binary cannot be searched, so not be created by a condition"
        raise Invalid([Issue("error", "invalid", "", why)])
    negotiate(request, pairs(request.scope["query_string"]))


def _raw(request: Request) -> dict[str, Any]:
    """Content that came as it is, as the resource that it becomes."""
    named = {"id": request.path_params["id"]} if "id" in request.path_params else {}
    return {"resourceType": "Binary", **named, "contentType": request.headers.get("content-type", "")}


def _with_context(request: Request, given: dict[str, Any]) -> dict[str, Any]:
    """FHIR R4 section 2.44.3: X-Security-Context is the security context of what does not name one itself."""
    context = request.headers.get("x-security-context", "")
    return {**given, "securityContext": {"reference": context}} if context and "securityContext" not in given else given


def asked_binary(request: Request) -> tuple[AuditedEntity, ...]:
    """What a refused write was after, for the trail."""
    id_ = request.path_params.get("id", "")
    return (AuditedEntity(reference=f"Binary/{id_}"),) if FHIR_ID.fullmatch(id_) else ()


def _guarded(handler: Handler) -> Handler:
    creating = guarded(handler, "create", REST_CREATE, asked_binary)
    updating = guarded(handler, "update", REST_UPDATE, asked_binary)
    return lambda request: (creating if request.method == "POST" else updating)(request)


_BEGIN: Final = _guarded(_begin)
_FINISH: Final = _guarded(_finish)
_WITH_RESOURCE: Final = received(_guarded(_with_resource))

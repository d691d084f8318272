"""The bytes of a document, judged as its DocumentReference."""

import base64
from collections.abc import Iterator

import orjson
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from profiles.audit_event import REST_READ, AuditedEntity
from profiles.vocabulary import FHIR_JSON
from server.access.decisions import Interaction
from server.edges import context
from server.edges.fhir.negotiation import only, pairs, wants_resource
from server.edges.fhir.permission import if_granted
from server.edges.fhir.query import FHIR_ID
from server.edges.fhir.read import READ_PARAMETERS
from server.errors import NotFound
from server.records import documents, resources


def binary(request: Request) -> Response:
    """FHIR R4 section 2.44.4, Binary: `GET [base]/Binary/[id]`, where id is that of a DocumentReference.

    The bytes in their own media type, or a Binary resource with them in base64 if the client names a FHIR format. Both are streamed.
    """
    made = context.decision(request)
    id_ = request.path_params["id"]
    parameters = pairs(request.scope["query_string"])
    only(parameters, READ_PARAMETERS)
    node = context.node(request)
    found = []
    with if_granted(made, "DocumentReference"):
        if FHIR_ID.fullmatch(id_):
            with node.database.read() as connection:
                patient = resources.read(connection, "DocumentReference", id_).patient
                found = documents.by_uuid(connection, [f"urn:uuid:{id_}"])
        if not found:
            raise NotFound("there is no Binary with this id")
    made.require_patient("DocumentReference", Interaction.READ, patient)
    size = node.blobs.size(found[0].blob_id)
    context.told(request, "read", REST_READ, patients=(patient,), entities=(AuditedEntity(reference=f"Binary/{id_}"),))
    chunks = node.blobs.stream(found[0].blob_id)
    kind = found[0].entry.mime_type
    if wants_resource(request, parameters):
        head = orjson.dumps(
            {
                "resourceType": "Binary",
                "id": id_,
                "contentType": kind,
                "securityContext": {"reference": f"DocumentReference/{id_}"},
            }
        )
        return StreamingResponse(_as_resource(head, chunks), media_type=FHIR_JSON)
    # A document of somebody else must never run as a page of this server.
    headers = {
        "Content-Length": str(size),
        "Content-Disposition": f'attachment; filename="{id_}"',
        "Content-Security-Policy": "sandbox",
    }
    return StreamingResponse(chunks, headers=headers, media_type=kind)


def _as_resource(head: bytes, chunks: Iterator[bytes]) -> Iterator[bytes]:
    yield head[:-1] + b',"data":"'
    rest = b""
    for chunk in chunks:
        whole = rest + chunk
        cut = len(whole) - len(whole) % 3
        yield base64.b64encode(whole[:cut])
        rest = whole[cut:]
    yield base64.b64encode(rest) + b'"}'

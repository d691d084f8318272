"""Histories of a resource, a type and the whole system."""

from starlette.requests import Request
from starlette.responses import Response

from profiles.audit_event import REST_HISTORY_INSTANCE, REST_HISTORY_SYSTEM, REST_HISTORY_TYPE, AuditedEntity
from server.edges import context
from server.edges.fhir.answers import caller
from server.edges.fhir.formats import response
from server.edges.fhir.negotiation import negotiate, pairs
from server.edges.fhir.read import asked_resource
from server.records import resources
from server.work.fhir import history as work


def history(request: Request) -> Response:
    """FHIR R4 section 3.1.0.12, history: `GET [base]/[type]/[id]/_history`, `GET [base]/[type]/_history` and `GET [base]/_history`."""
    asking, parameters = caller(request), pairs(request.scope["query_string"])
    wanted = negotiate(request, parameters)
    type_, id_ = request.path_params.get("type", ""), request.path_params.get("id", "")
    node = context.node(request)
    with node.database.read() as connection:
        settled = resources.settled(connection)
    with context.reading(request) as connection:
        found = work.history(connection, asking, type_, id_, parameters, key=node.installation.cursor_key, settled=settled)
    if id_:
        context.told(request, "read", REST_HISTORY_INSTANCE, patients=found.patients, entities=asked_resource(request))
    else:
        subtype = REST_HISTORY_TYPE if type_ else REST_HISTORY_SYSTEM
        context.told(request, "query", subtype, patients=found.patients, entities=asked_history(request))
    return response(request, found.listing, wanted)


def asked_history(request: Request) -> tuple[AuditedEntity, ...]:
    """What was asked, for the trail: the resource, or path and query as the client wrote them."""
    if "id" in request.path_params:
        return asked_resource(request)
    path = "/".join(part for part in (request.path_params.get("type", ""), "_history") if part)
    query: bytes = request.scope["query_string"]
    return (AuditedEntity(query=path.encode() + (b"?" + query if query else b"")),)

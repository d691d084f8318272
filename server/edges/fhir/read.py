"""Read and vread of a resource."""

from dataclasses import replace

from starlette.requests import Request
from starlette.responses import Response

from profiles.audit_event import AuditedEntity
from server.edges import context
from server.edges.fhir.addresses import own
from server.edges.fhir.answers import caller, read_answer
from server.edges.fhir.negotiation import negotiate, pairs
from server.edges.turns import view
from server.work.fhir import offered, reading
from server.work.fhir.caller import Outcome
from server.work.fhir.own_addresses import of_study


def read(request: Request) -> Response:
    """FHIR R4 section 3.1.0.2, read: `GET [base]/[type]/[id]`."""
    asking, parameters = caller(request), pairs(request.scope["query_string"])
    negotiate(request, parameters)
    with view(request, context.reading) as connection:
        found = reading.read(connection, asking, request.path_params["type"], request.path_params["id"], parameters)
    if found.stored is not None and found.stored.type == "ImagingStudy" and (address := own(request)):
        found = replace(found, stored=replace(found.stored, body=of_study(found.stored.body, address)))
    return _told(request, found)


def vread(request: Request) -> Response:
    """FHIR R4 section 3.1.0.3, vread: `GET [base]/[type]/[id]/_history/[vid]`."""
    asking, parameters, path = caller(request), pairs(request.scope["query_string"]), request.path_params
    negotiate(request, parameters)
    with view(request, context.reading) as connection:
        found = reading.vread(connection, asking, path["type"], path["id"], path["version"], parameters)
    return _told(request, found)


def asked_resource(request: Request) -> tuple[AuditedEntity, ...]:
    """What a refused read was after, for the trail: a reference, where the path makes one."""
    type_, id_ = request.path_params.get("type", "Binary"), request.path_params.get("id", "")
    return _reference(type_, id_, request.path_params.get("version", ""))


def asked_otherwise(request: Request) -> tuple[AuditedEntity, ...]:
    """The same for a request that no interaction here takes: the resource that its path begins with."""
    type_, _, rest = request.path_params.get("path", "").partition("/")
    return _reference(type_, rest.partition("/")[0], "")


def _told(request: Request, found: Outcome) -> Response:
    """In the trail before the first byte."""
    for each in found.audited:
        entity = AuditedEntity(reference=each.reference)
        context.told(request, each.kind, each.subtype, patients=[each.patient] if each.patient else (), entities=(entity,))
    return read_answer(request, found)


def _reference(type_: str, id_: str, version: str) -> tuple[AuditedEntity, ...]:
    if type_ not in offered.types() or not reading.FHIR_ID.fullmatch(id_):
        return ()
    history = f"/_history/{version}" if reading.FHIR_ID.fullmatch(version) else ""
    return (AuditedEntity(reference=f"{type_}/{id_}{history}"),)

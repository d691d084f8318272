"""Read and vread of a resource."""

from dataclasses import replace

from starlette.requests import Request
from starlette.responses import Response

from profiles.audit_event import REST_READ, REST_VREAD, AuditedEntity
from profiles.search_parameters import OFFERED
from server.access.decisions import Interaction
from server.edges import context
from server.edges.fhir.negotiation import negotiate, only, pairs, resource_response
from server.edges.fhir.outcome import NotOffered
from server.edges.fhir.permission import if_granted, require_patient
from server.edges.fhir.query import FHIR_ID
from server.errors import NotFound
from server.records import resources
from server.records.resources import Stored
from server.records.trail import Wanted, events, without_queries

READ_PARAMETERS = frozenset({"_format", "_pretty"})


def read(request: Request) -> Response:
    """FHIR R4 section 3.1.0.2, read: `GET [base]/[type]/[id]`."""
    made = context.decision(request)
    type_, id_ = known_type(request), request.path_params["id"]
    parameters = pairs(request.scope["query_string"])
    pretty = negotiate(request, parameters)
    only(parameters, READ_PARAMETERS)
    with if_granted(made, type_), context.node(request).database.read() as connection:
        if not FHIR_ID.fullmatch(id_):
            raise NotFound(f"there is no {type_} with this id")
        if type_ == "AuditEvent":
            found = next(iter(events(connection, wanted=Wanted(ids=((id_,),)), limit=1)), None)
            if found is None:
                raise NotFound("there is no AuditEvent with this id")
            stored = Stored(type_, found.id, 1, found.recorded, found.patient, found.body)
        else:
            stored = resources.read(connection, type_, id_)
    require_patient(made, type_, Interaction.READ, stored.patient)
    if type_ == "AuditEvent" and made.patients(type_, Interaction.READ) is not None:
        stored = replace(stored, body=without_queries(stored.body))
    entity = AuditedEntity(reference=f"{type_}/{id_}")
    context.told(request, "read", REST_READ, patients=_patients(stored), entities=(entity,))
    return resource_response(request, stored, pretty=pretty)


def vread(request: Request) -> Response:
    """FHIR R4 section 3.1.0.3, vread: `GET [base]/[type]/[id]/_history/[vid]`."""
    made = context.decision(request)
    type_, id_, version = known_type(request), request.path_params["id"], request.path_params["version"]
    parameters = pairs(request.scope["query_string"])
    pretty = negotiate(request, parameters)
    only(parameters, READ_PARAMETERS)
    with if_granted(made, type_), context.node(request).database.read() as connection:
        # A version id is a string; ours are numbers without leading zeros, all others name nothing.
        if not (version.isascii() and version.isdigit() and str(int(version[:9])) == version and FHIR_ID.fullmatch(id_)):
            raise NotFound(f"there is no {type_} with this id and version")
        stored = resources.vread(connection, type_, id_, int(version))
    require_patient(made, type_, Interaction.READ, stored.patient)
    entity = AuditedEntity(reference=f"{type_}/{id_}/_history/{version}")
    context.told(request, "read", REST_VREAD, patients=_patients(stored), entities=(entity,))
    return resource_response(request, stored, pretty=pretty)


def known_type(request: Request) -> str:
    """The resource type in the path. Raises `NotOffered`."""
    type_: str = request.path_params["type"]
    if type_ not in OFFERED:
        raise NotOffered(f"this server has no resources of this type; it has {', '.join(sorted(OFFERED))} and Binary")
    return type_


def asked_resource(request: Request) -> tuple[AuditedEntity, ...]:
    """What a refused read was after, for the trail: a reference, where the path makes one."""
    type_, id_ = request.path_params.get("type", "Binary"), request.path_params.get("id", "")
    return _reference(type_, id_, request.path_params.get("version", ""))


def asked_otherwise(request: Request) -> tuple[AuditedEntity, ...]:
    """The same for a request that no interaction here takes, such as a PUT: the resource that its path begins with."""
    type_, _, rest = request.path_params.get("path", "").partition("/")
    return _reference(type_, rest.partition("/")[0], "")


def _reference(type_: str, id_: str, version: str) -> tuple[AuditedEntity, ...]:
    if not (type_ in OFFERED or type_ == "Binary") or not FHIR_ID.fullmatch(id_):
        return ()
    history = f"/_history/{version}" if FHIR_ID.fullmatch(version) else ""
    return (AuditedEntity(reference=f"{type_}/{id_}{history}"),)


def _patients(stored: Stored) -> tuple[str, ...]:
    return (stored.patient,) if stored.patient else ()

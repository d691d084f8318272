"""The routes of `/fhir`: FHIR R4's own table of interactions (section 3.1.0), and one row that refuses everything else."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, request_response
from starlette.types import ASGIApp, Receive, Scope, Send

from profiles.audit_event import (
    ITI_106,
    REST_BATCH,
    REST_CREATE,
    REST_DELETE,
    REST_HISTORY_INSTANCE,
    REST_HISTORY_SYSTEM,
    REST_HISTORY_TYPE,
    REST_OPERATION,
    REST_PATCH,
    REST_READ,
    REST_SEARCH,
    REST_SEARCH_SYSTEM,
    REST_UPDATE,
    REST_VREAD,
    AuditedEntity,
    Kind,
    Subtype,
)
from server.edges import context
from server.edges.fhir import binary
from server.edges.fhir.bundle_request import bundle
from server.edges.fhir.capability import metadata
from server.edges.fhir.dispatch import Dispatch
from server.edges.fhir.history import asked_history, history
from server.edges.fhir.operations import asked_operation, operate
from server.edges.fhir.outcome import guarded, in_turns
from server.edges.fhir.provide_bundle import generate_metadata
from server.edges.fhir.read import asked_otherwise, asked_resource, read, vread
from server.edges.fhir.received import received
from server.edges.fhir.search import asked_query, search
from server.edges.fhir.write import (
    conditional_delete,
    conditional_patch,
    conditional_update,
    create,
    delete,
    patch,
    update,
)
from server.work.fhir.offered import MethodNotOffered, NotOffered

Handler = Callable[[Request], Response]
Asked = Callable[[Request], tuple[AuditedEntity, ...]]
Endpoint = Callable[[Request], Response] | Callable[[Request], Awaitable[Response]]
_METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


@dataclass(frozen=True, slots=True)
class Interaction:
    """One row: who asks this of this path is answered by `handler`, and what is refused stands in the trail as `kind` and `subtype`."""

    method: str
    path: str
    handler: Handler
    kind: Kind
    subtype: Subtype
    asked: Asked

    @property
    def endpoint(self) -> Endpoint:
        made = guarded(self.handler, self.kind, self.subtype, self.asked)
        if self.method == "GET" and self.handler in (read, vread, search):
            return in_turns(made)
        return made if self.method in ("GET", "DELETE") else received(made)


# A path is served by the first row that has it and its method, so that fixed words stand before `{type}` and `{id}`.
INTERACTIONS: Final[tuple[Interaction, ...]] = (
    # 3.1.0.9 capabilities
    Interaction("GET", "/metadata", metadata, "read", REST_READ, asked_resource),
    # 3.1.0.11 batch and transaction, 3.1.0.12 history, 3.1.1.1 search: of the whole system
    Interaction("POST", "", bundle, "create", REST_BATCH, asked_otherwise),
    Interaction("GET", "", search, "query", REST_SEARCH_SYSTEM, asked_query),
    Interaction("POST", "/_search", search, "query", REST_SEARCH_SYSTEM, asked_query),
    Interaction("GET", "/_history", history, "query", REST_HISTORY_SYSTEM, asked_history),
    # 3.2 operations
    Interaction("GET", "/${operation}", operate, "query", REST_OPERATION, asked_operation),
    Interaction("POST", "/${operation}", operate, "query", REST_OPERATION, asked_operation),
    Interaction("POST", "/DocumentReference/$generate-metadata", generate_metadata, "create", ITI_106, asked_otherwise),
    Interaction("GET", "/{type}/${operation}", operate, "query", REST_OPERATION, asked_operation),
    Interaction("POST", "/{type}/${operation}", operate, "query", REST_OPERATION, asked_operation),
    Interaction("GET", "/{type}/{id}/${operation}", operate, "query", REST_OPERATION, asked_operation),
    Interaction("POST", "/{type}/{id}/${operation}", operate, "query", REST_OPERATION, asked_operation),
    # 2.44 Binary, whose content is no resource; its POST and PUT are below
    Interaction("GET", "/Binary/{id}", binary.binary, "read", REST_READ, asked_resource),
    Interaction("GET", "/Binary/{id}/_history/{version}", binary.binary, "read", REST_VREAD, asked_resource),
    Interaction("DELETE", "/Binary/{id}", binary.delete, "delete", REST_DELETE, asked_resource),
    # of a type: 3.1.0.8 create, 3.1.0.9 search, 3.1.0.12 history, and the conditional forms 3.1.0.4.3, 3.1.0.6, 3.1.0.7.1
    Interaction("POST", "/{type}", create, "create", REST_CREATE, asked_resource),
    Interaction("GET", "/{type}", search, "query", REST_SEARCH, asked_query),
    Interaction("PUT", "/{type}", conditional_update, "update", REST_UPDATE, asked_resource),
    Interaction("PATCH", "/{type}", conditional_patch, "update", REST_PATCH, asked_resource),
    Interaction("DELETE", "/{type}", conditional_delete, "delete", REST_DELETE, asked_resource),
    Interaction("POST", "/{type}/_search", search, "query", REST_SEARCH, asked_query),
    Interaction("GET", "/{type}/_history", history, "query", REST_HISTORY_TYPE, asked_history),
    # of a resource: 3.1.0.2 read, 3.1.0.3 vread, 3.1.0.4 update, 3.1.0.6 patch, 3.1.0.7 delete, 3.1.0.12 history
    Interaction("GET", "/{type}/{id}", read, "read", REST_READ, asked_resource),
    Interaction("PUT", "/{type}/{id}", update, "update", REST_UPDATE, asked_resource),
    Interaction("PATCH", "/{type}/{id}", patch, "update", REST_PATCH, asked_resource),
    Interaction("DELETE", "/{type}/{id}", delete, "delete", REST_DELETE, asked_resource),
    Interaction("GET", "/{type}/{id}/_history", history, "read", REST_HISTORY_INSTANCE, asked_resource),
    Interaction("GET", "/{type}/{id}/_history/{version}", vread, "read", REST_VREAD, asked_resource),
    # 3.1.1.1 search in a compartment
    Interaction("POST", "/{compartment}/{id}/{type}/_search", search, "query", REST_SEARCH, asked_query),
    Interaction("GET", "/{compartment}/{id}/{type}", search, "query", REST_SEARCH, asked_query),
)  # fmt: skip


def install(app: FastAPI) -> None:
    """Adds the FHIR API: one entrance, which gives each request to the row of its interaction."""
    app.router.routes.extend([Route("/fhir", _Entrance()), Route("/fhir/{path:path}", _Entrance())])


class _Entrance:
    """The whole of `/fhir` as an ASGI application."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        found = _DISPATCH.find(scope["method"], scope["path"].removeprefix("/fhir"))
        if found is None:
            await _OTHERWISE(scope, receive, send)
            return
        application, scope["path_params"] = found
        await application(scope, receive, send)


def _otherwise(request: Request) -> Response:
    """FHIR R4 section 3.1.0.1.4: what is not offered here, or not by this method. OPTIONS is told what there is."""
    context.decision(request)
    path = request.scope["path"].removeprefix("/fhir")
    there = _DISPATCH.methods(path)
    allowed = ", ".join(method for method in _METHODS if method in there)
    if not allowed and path.endswith("/"):
        raise NotOffered("no FHIR interaction has a slash at the end of its URL; leave it out (FHIR R4 section 3.1.0)")
    if not allowed:
        raise NotOffered("this server has no such FHIR interaction; see [base]/metadata for what it has")
    if request.method == "OPTIONS":
        return Response(status_code=204, headers={"Allow": allowed})
    raise MethodNotOffered(f"this takes {allowed} (FHIR R4 section 3.1.0)", allowed)


_DISPATCH: Final[Dispatch[ASGIApp]] = Dispatch(
    [
        ("POST", "/Binary", request_response(binary.store)),
        ("PUT", "/Binary/{id}", request_response(binary.store)),
        *((each.method, each.path, request_response(each.endpoint)) for each in INTERACTIONS),
    ]
)
_OTHERWISE: Final = request_response(guarded(_otherwise, "read", REST_READ, asked_otherwise))

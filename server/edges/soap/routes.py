"""Where the SOAP actors are: one address each, and the transactions that it answers."""

from fastapi import FastAPI
from starlette.routing import Route

from server.edges.soap.endpoint import SoapEndpoint
from server.edges.soap.imaging_source import RETRIEVE_IMAGING_DOCUMENT_SET
from server.edges.soap.registry import REGISTRY_STORED_QUERY
from server.edges.soap.repository import RETRIEVE_DOCUMENT_SET

ENDPOINTS = {
    "/xds/registry": SoapEndpoint(REGISTRY_STORED_QUERY),
    "/xds/repository": SoapEndpoint(RETRIEVE_DOCUMENT_SET),
    "/xds/imaging-source": SoapEndpoint(RETRIEVE_IMAGING_DOCUMENT_SET),
}


def install(app: FastAPI) -> None:
    """Adds the SOAP addresses to `app`."""
    for path, endpoint in ENDPOINTS.items():
        app.router.routes.append(Route(path, endpoint, name=f"soap:{path}"))

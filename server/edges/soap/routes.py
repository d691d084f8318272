"""Where the SOAP actors are: one address each, and the transactions that it answers."""

from fastapi import FastAPI
from starlette.routing import Route

from server.edges.soap import schemas
from server.edges.soap.endpoint import SoapEndpoint
from server.edges.soap.imaging_source import RETRIEVE_IMAGING_DOCUMENT_SET
from server.edges.soap.provide import PROVIDE_AND_REGISTER
from server.edges.soap.registering import SUBMISSIONS
from server.edges.soap.registry import MULTI_PATIENT_STORED_QUERY, REGISTRY_STORED_QUERY
from server.edges.soap.repository import REMOVE_DOCUMENTS, RETRIEVE_DOCUMENT_SET

ENDPOINTS = {
    "/xds/registry": SoapEndpoint(REGISTRY_STORED_QUERY, MULTI_PATIENT_STORED_QUERY, *SUBMISSIONS),
    "/xds/repository": SoapEndpoint(RETRIEVE_DOCUMENT_SET, PROVIDE_AND_REGISTER, REMOVE_DOCUMENTS),
    "/xds/imaging-source": SoapEndpoint(RETRIEVE_IMAGING_DOCUMENT_SET),
}


def install(app: FastAPI) -> None:
    """Adds the SOAP addresses to `app`. Raises `SettingsError` for schemas that are none."""
    schemas.require(app.state.node.settings)
    for path, endpoint in ENDPOINTS.items():
        app.router.routes.append(Route(path, endpoint, name=f"soap:{path}"))

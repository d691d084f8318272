"""The HTTP application of one process."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from multiprocessing.synchronize import Semaphore

from fastapi import FastAPI

from server.composition import close_node
from server.edges import dicomweb, fhir, operations, pages, smart, soap
from server.edges.context import Node


def create_app(node: Node, first: Semaphore | None = None) -> FastAPI:
    """The HTTP side of one process. FHIR, DICOMweb and SOAP are plain Starlette routes: they are the hot paths.

    Of several processes of one server, `first` is to be acquired by the one that does what is done once for all.
    """

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        close_node(node)

    app = FastAPI(title="imageshare", lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)
    app.state.node = node
    app.state.first = first
    for edge in (smart, pages, fhir, dicomweb, soap, operations):
        edge.install(app)
    return app

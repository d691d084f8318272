"""Liveness, readiness and metrics, in the shapes that Kubernetes and Prometheus expect; every dead end."""

import time
from collections.abc import Sequence
from contextlib import suppress
from itertools import product

from fastapi import FastAPI
from prometheus_client import CONTENT_TYPE_LATEST
from sqlalchemy.exc import SQLAlchemyError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server import telemetry
from server.edges.context import node
from server.edges.operations.elsewhere import elsewhere
from server.records import audit_feed, foreign_entries
from server.store.db import micros, ping
from server.telemetry import AUDIT_OLDEST, AUDIT_WAITING, MANIFESTS, REQUESTS, SECONDS


def install(app: FastAPI) -> None:
    app.add_route("/livez", livez)
    app.add_route("/readyz", readyz)
    app.add_route("/metrics", metrics)
    app.add_exception_handler(HTTPException, elsewhere)
    app.add_middleware(Measured)


def livez(_: Request) -> Response:
    """The process answers."""
    return PlainTextResponse("ok\n")


def readyz(request: Request) -> Response:
    """The database and the blob store can be reached."""
    try:
        ping(node(request).database)
        ready = node(request).settings.blob_folder.is_dir()
    except Exception:  # noqa: BLE001 whatever the driver raises means: not ready
        ready = False
    return PlainTextResponse("ready\n" if ready else "not ready\n", 200 if ready else 503)


def metrics(request: Request) -> Response:
    """Prometheus text format. Labels are route patterns, never paths: a path may carry an identifier."""
    if repository := node(request).settings.audit_repository:
        with suppress(SQLAlchemyError), node(request).database.read() as connection:  # else what was known before is told
            count, oldest = audit_feed.waiting(connection, repository)
            AUDIT_WAITING.labels(repository).set(count)
            AUDIT_OLDEST.labels(repository).set(0 if oldest is None else max(0.0, (micros() - oldest) / 1_000_000))
    if partners := node(request).settings.documents_to:
        with suppress(SQLAlchemyError), node(request).database.read() as connection:
            counts = foreign_entries.counts(connection)
            for partner, state in product((each.name for each in partners), foreign_entries.STATES):
                MANIFESTS.labels(partner, state).set(counts.get((partner, state), 0))
    return Response(telemetry.metrics(), media_type=CONTENT_TYPE_LATEST)


class Measured:
    """Counts requests and times them to the first byte."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()

        async def measured(message: Message) -> None:
            if message["type"] == "http.response.start":
                route = _pattern(scope)
                REQUESTS.labels(route, str(message["status"])).inc()
                SECONDS.labels(route).observe(time.perf_counter() - began)
            await send(message)

        await self._app(scope, receive, measured)


def _pattern(scope: Scope) -> str:
    """The pattern of the route that took the request, `other` where none did. Starlette notes only the endpoint."""
    endpoint = scope.get("endpoint")
    routes: Sequence[BaseRoute] = scope["app"].routes
    return next((route.path for route in routes if isinstance(route, Route) and endpoint in (route.app, route.endpoint)), "other")

"""RFC 9457: what no route answers, and methods that a route does not take, as problem details."""

from collections.abc import Sequence
from http import HTTPStatus

import orjson
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from server.edges.context import request_id
from server.errors import ImageShareError, NotFound, NotSupported, Refused

_DETAIL: dict[int, tuple[str, type[ImageShareError]]] = {
    404: ("nothing is answered at this address; / names what is", NotFound),
    405: ("this address does not take this method; Allow names those that it takes", NotSupported),
}


async def elsewhere(request: Request, error: Exception) -> Response:
    """RFC 9457 section 3. The path is not repeated: it may carry an identifier."""
    assert isinstance(error, HTTPException)
    status = error.status_code
    detail, kind = _DETAIL.get(status, ("the request is not one that this server answers", Refused))
    body = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "number": kind.number,
        "requestId": request_id(request),
    }
    headers = {
        **(error.headers or {}),
        "Cache-Control": "no-store",
        "X-Content-Type-Options": "nosniff",
        "X-Request-Id": request_id(request),
    }
    if status == 405:
        headers["Allow"] = ", ".join(_methods(request))
    return Response(orjson.dumps(body), status, headers, "application/problem+json")


def _methods(request: Request) -> list[str]:
    """RFC 9110 section 10.2.1: those of every route with this path. Starlette tells of the first one only."""
    routes: Sequence[BaseRoute] = request.app.routes
    path = request.url.path
    found = [route.methods for route in routes if isinstance(route, Route) and route.methods and route.path_regex.match(path)]
    return sorted(set().union(*found))

"""What no route answers, and methods that a route does not take: as problem details (RFC 9457), and as a page for who opened it in a browser."""

from collections.abc import Sequence
from http import HTTPStatus

import orjson
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from server.edges.context import problem_page, request_id
from server.errors import ImageShareError, NotFound, NotSupported, Refused

_DETAIL: dict[int, tuple[str, type[ImageShareError]]] = {
    404: ("nothing is answered at this address; / names what is", NotFound),
    405: ("this address does not take this method; Allow names those that it takes", NotSupported),
}


async def elsewhere(request: Request, error: Exception) -> Response:
    """RFC 9457 section 3. The path is not repeated: it may carry an identifier."""
    assert isinstance(error, HTTPException)
    status = error.status_code
    if status in _DETAIL and request.method == "GET" and _is_browser(request):
        return await run_in_threadpool(_page, request, error)
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


def _is_browser(request: Request) -> bool:
    """Whether a person has opened the address: RFC 9110 section 12.5.1, browsers name HTML, and programs do not."""
    return "text/html" in request.headers.get("accept", "")


def _page(request: Request, error: HTTPException) -> Response:
    page = problem_page(request, NotFound("there is no page at this address; check how it is written"))
    page.status_code = error.status_code
    page.headers.update(error.headers or {})
    if error.status_code == 405:
        page.headers["Allow"] = ", ".join(_methods(request))
    return page


def _methods(request: Request) -> list[str]:
    """RFC 9110 section 10.2.1: those of every route with this path. Starlette tells of the first one only."""
    routes: Sequence[BaseRoute] = request.app.routes
    path = request.url.path
    found = [route.methods for route in routes if isinstance(route, Route) and route.methods and route.path_regex.match(path)]
    return sorted(set().union(*found))

"""The endpoints under `/oauth`: RFC 6749, 7009, 7591, 7592, 7662, and the launch API for EHRs."""

import html
from typing import Final

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from server.access.oauth import introspection, launches, registration, revocation
from server.access.oauth.messages import Answer, Message
from server.edges.context import node, request_id
from server.edges.smart.messages import received
from server.errors import ImageShareError
from server.telemetry import failure, log
from server.work.authorizing import Begun

_HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
_FORM: Final = "application/x-www-form-urlencoded"


async def authorize(request: Request) -> Response:
    """RFC 6749 section 4.1.1: the authorization endpoint, by GET and by POST (SMART `authorize-post`)."""
    try:
        message = await received(request, _FORM)
        begun = await run_in_threadpool(
            node(request).authorizing.begin, message.form if request.method == "POST" else message.query
        )
    except ImageShareError as error:
        begun = Begun(error=error.detail)
    except Exception as error:  # noqa: BLE001 no trace may leave, whatever happened
        log().error("request failed", door="oauth", request_id=request_id(request), **failure(error))
        begun = Begun(error="the server could not do it")
    if begun.error:
        return _problem(request, begun.error)
    url = begun.redirect or f"{node(request).settings.base_url}/authorize/{begun.request_id}"
    status = 303 if request.method == "POST" else 302
    return RedirectResponse(url, status, {**_HEADERS, "X-Request-Id": request_id(request)})


def token(request: Request, message: Message) -> Answer:
    return node(request).oauth.token(message)


def introspect(request: Request, message: Message) -> Answer:
    return introspection.introspect(node(request).oauth, message)


def revoke(request: Request, message: Message) -> Answer:
    return revocation.revoke(node(request).oauth, message)


def launch(request: Request, message: Message) -> Answer:
    return launches.launch(node(request).oauth, message)


def register(request: Request, message: Message) -> Answer:
    return registration.register(node(request).oauth, message)


def manage(request: Request, message: Message) -> Answer:
    return registration.manage(node(request).oauth, message, request.path_params["client"])


def _problem(request: Request, detail: str) -> Response:
    """RFC 6749 section 4.1.2.1: nobody is sent anywhere while it is not known that the address is the app's own."""
    page = f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>The app could not be opened</title>
</head>
<body>
<main>
<h1>The app could not be opened</h1>
<p>The app has asked for access in a way that is not taken here: {html.escape(detail)}.</p>
<p>Go back and try again; if it happens again, tell whoever makes the app. Nothing was shared.</p>
<p>Request {html.escape(request_id(request))}</p>
</main>
</body>
</html>
"""
    return HTMLResponse(page, 400, {**_HEADERS, "X-Request-Id": request_id(request)})

"""The endpoints under `/oauth`: RFC 6749, 7009, 7591, 7592, 7662, and the launch API for EHRs."""

from typing import Final

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from server.access.oauth import introspection, launches, registration, revocation
from server.access.oauth.messages import Answer, Message
from server.access.people.throttles import network, rate
from server.edges.context import node, problem_page, request_id
from server.edges.smart.messages import received
from server.errors import ImageShareError, Refused, TooManyAttempts
from server.telemetry import failure, log
from server.work.authorizing import Begun

_HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
_REGISTRATIONS: Final = rate(60, 3600, "registration")
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
        return await run_in_threadpool(_problem, request, begun.error)
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
    """Where anybody may register, so many from one address: every registration is kept."""
    own = node(request)
    if own.settings.client_registration == "open" and not own.people.throttles.take(_REGISTRATIONS, network(message.address)):
        raise TooManyAttempts(own.people.throttles.wait(_REGISTRATIONS, network(message.address)))
    return registration.register(node(request).oauth, message)


def manage(request: Request, message: Message) -> Answer:
    return registration.manage(node(request).oauth, message, request.path_params["client"])


def _problem(request: Request, detail: str) -> Response:
    """RFC 6749 section 4.1.2.1: nobody is sent anywhere while it is not known that the address is the app's own."""
    said = f"the app has asked for access in a way that is not taken here: {detail}. Nothing was shared; tell its makers"
    return problem_page(request, Refused(said), "The app could not be opened")

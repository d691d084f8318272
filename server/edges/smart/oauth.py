"""The endpoints under `/oauth`: RFC 6749, 7009, 7591, 7592, 7662, and the launch API for EHRs."""

from collections.abc import Callable
from typing import Final

import orjson
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from server.access.oauth import introspection, launches, registration, revocation
from server.access.oauth.messages import Answer, Message, claimed
from server.access.oauth.server import OAuthServer
from server.access.people.throttles import counts, network, rate
from server.edges.context import node, problem_page, request_id
from server.edges.smart.messages import received
from server.errors import ImageShareError, Refused, TooManyAttempts
from server.telemetry import failure, log
from server.work.authorizing import REQUEST_SECONDS, Begun

_HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
_REGISTRATIONS: Final = rate(60, 3600, "registration")
_CHANGES: Final = rate(60, 3600, "change of a registration")
_AUTHORIZATIONS: Final = 20
"""Times `sign_in_failures_per_address` within the time that a request waits; any number where that is any number."""
_NAMED: Final = 255
"""Characters of a client's name that it is counted by."""
_FORM: Final = "application/x-www-form-urlencoded"


async def authorize(request: Request) -> Response:
    """RFC 6749 section 4.1.1: the authorization endpoint, by GET and by POST (SMART `authorize-post`)."""
    try:
        begun = await run_in_threadpool(_begun, request, await received(request, _FORM))
    except ImageShareError as error:
        return await run_in_threadpool(_problem, request, error)
    except Exception as error:  # noqa: BLE001 no trace may leave, whatever happened
        log().error("request failed", door="oauth", request_id=request_id(request), **failure(error))
        return await run_in_threadpool(_problem, request, ImageShareError("something went wrong on our side"))
    url = begun.redirect or f"{node(request).settings.base_url}/authorize/{begun.request_id}"
    status = 303 if request.method == "POST" else 302
    return RedirectResponse(url, status, {**_HEADERS, "X-Request-Id": request_id(request)})


def _begun(request: Request, message: Message) -> Begun:
    """What becomes of the request. It is kept, whoever sends it: so many from one address.

    Raises `TooManyAttempts`, and `Refused` for what nobody can be told but the person.
    """
    own = node(request)
    most = _AUTHORIZATIONS * own.settings.sign_in_failures_per_address
    limit, of = rate(most or 1, REQUEST_SECONDS, "authorization"), network(message.address)
    if most and counts(message.address, own.settings) and not own.people.throttles.take(limit, of):
        raise TooManyAttempts(own.people.throttles.wait(limit, of))
    begun = own.authorizing.begin(message.form if request.method == "POST" else message.query)
    if begun.error:
        raise Refused(begun.error)
    return begun


def token(request: Request, message: Message) -> Answer:
    return _authenticating(request, message, OAuthServer.token)


def introspect(request: Request, message: Message) -> Answer:
    return _authenticating(request, message, introspection.introspect)


def revoke(request: Request, message: Message) -> Answer:
    return _authenticating(request, message, revocation.revoke)


def launch(request: Request, message: Message) -> Answer:
    return _authenticating(request, message, launches.launch)


def _authenticating(request: Request, message: Message, answered: Callable[[OAuthServer, Message], Answer]) -> Answer:
    """RFC 6749 section 2.3.1: so many wrong secrets and assertions that are sent in the name of one client, from one network.

    Who is right is never counted, and never waits: anybody may be wrong in an app's name. Raises `TooManyAttempts`.
    """
    own = node(request)
    told = answered(own.oauth, message)
    failed = told.status in (400, 401) and orjson.loads(told.body or b"{}").get("error") == "invalid_client"
    if not failed or not own.settings.client_failures or not counts(message.address, own.settings):
        return told
    limit = rate(own.settings.client_failures, own.settings.sign_in_window, "client")
    of = claimed(message)[:_NAMED], network(message.address)
    if not own.people.throttles.take(limit, *of):
        raise TooManyAttempts(own.people.throttles.wait(limit, *of))
    return told


def register(request: Request, message: Message) -> Answer:
    """Where anybody may register, so many from one address: every registration is kept."""
    own = node(request)
    counted = own.settings.client_registration == "open" and counts(message.address, own.settings)
    if counted and not own.people.throttles.take(_REGISTRATIONS, network(message.address)):
        raise TooManyAttempts(own.people.throttles.wait(_REGISTRATIONS, network(message.address)))
    return registration.register(node(request).oauth, message)


def manage(request: Request, message: Message) -> Answer:
    """So many changes of one client: counted when it has shown its token, so that nobody else uses them up."""
    throttles = node(request).people.throttles

    def count(client: str) -> None:
        if not throttles.take(_CHANGES, client):
            raise TooManyAttempts(throttles.wait(_CHANGES, client))

    return registration.manage(node(request).oauth, message, request.path_params["client"], count)


def _problem(request: Request, error: ImageShareError) -> Response:
    """RFC 6749 section 4.1.2.1: nobody is sent anywhere while it is not known that the address is the app's own."""
    if error.http_status >= 429:
        return problem_page(request, error)
    said = f"what it has sent is not taken: {error.detail.rstrip('.')}. Nothing was shared; tell its makers"
    return problem_page(request, Refused(said), "The app could not be opened")

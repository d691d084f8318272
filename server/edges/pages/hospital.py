"""Signing in through a hospital's OpenID provider, and connecting an account with it (OpenID Connect Core 1.0 section 3.1)."""

from typing import Final

from starlette.responses import RedirectResponse, Response

from server.access.people.hospital import Identity
from server.access.people.passkeys import require_strong
from server.edges.pages.browser import HOME, Visit
from server.edges.pages.entering import enter, sign_in_form
from server.edges.pages.showing import translated as _
from server.errors import SignInRefused
from server.languages import marked
from server.store.db import micros

_COOKIE: Final = "hospital"
_CONNECTING: Final = "connecting"
_REFUSED: Final = marked("Signing in at your hospital did not work. Try again, or sign in another way.")


def begin(visit: Visit) -> Response:
    """`GET /sign-in/hospital/{provider}`: to the hospital. Who is signed in has come here to do so again."""
    begun = visit.node.hospital.begin(visit.request.path_params["provider"], again=visit.session is not None)
    visit.keep(_COOKIE, f"{begun.state}:{visit.goes_to}")
    return RedirectResponse(begun.url, 303)


def back(visit: Visit) -> Response:
    """`GET /sign-in/hospital/{provider}/back`: from the hospital, to sign in or to connect the account of who is signed in."""
    state, _colon, goes_to = visit.kept(_COOKIE).partition(":")
    visit.keep(_COOKIE, "")
    connects = goes_to == _CONNECTING
    session = visit.session.id if connects and visit.session is not None else ""
    provider = visit.request.path_params["provider"]
    try:
        identity = _identity(visit, state, session)
        if connects:
            return _connected(visit, identity)
        account = visit.node.hospital.sign_in(identity, visit.address)
    except SignInRefused as error:
        return sign_in_form(visit, error.http_status, fault=_(_REFUSED))
    if account is None:
        return visit.page("not_connected.html", 403, hospital=dict(visit.node.hospital.providers)[provider])
    return enter(visit, account, "hospital", identity.assurance, visit.own(goes_to), identity.authenticated)


def connect(visit: Visit) -> Response:
    """`POST /account/hospital/{provider}`: to the hospital, by a page that goes on by itself (see `consent`). Raises `StepUpNeeded`."""
    _require_strong(visit)
    provider = visit.request.path_params["provider"]
    begun = visit.node.hospital.begin(provider, visit.person.id)
    visit.keep(_COOKIE, f"{begun.state}:{_CONNECTING}")
    return visit.page("onward.html", client=dict(visit.node.hospital.providers)[provider], onward=begun.url)


def disconnect(visit: Visit) -> Response:
    """`POST /account/hospital/remove`. Raises `StepUpNeeded`."""
    _require_strong(visit)
    visit.node.hospital.unlink(visit.person.account, visit.value("issuer"), visit.value("subject"), visit.address)
    return visit.done(HOME, "unlinked")


def _identity(visit: Visit, state: str, session: str) -> Identity:
    """Who came back. What is refused is in the trail; of whom it was nothing is known."""
    try:
        return visit.node.hospital.finish(
            visit.request.path_params["provider"], visit.request.query_params.multi_items(), state, session
        )
    except SignInRefused:
        visit.node.people.events.failed(None, "hospital", visit.address)
        raise


def _connected(visit: Visit, identity: Identity) -> Response:
    if visit.session is None:
        raise SignInRefused
    _require_strong(visit)
    visit.node.hospital.link(visit.person.account, identity, visit.address)
    return visit.done(HOME, "linked")


def _require_strong(visit: Visit) -> None:
    with visit.node.database.read() as connection:
        require_strong(connection, visit.person, micros())

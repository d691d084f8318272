"""What all ways to sign in have in common: their pages, and what happens once it is known who somebody is."""

from typing import Any

import orjson
from starlette.responses import Response

from server.access.people.accounts import Account
from server.access.people.browsers import SECONDS
from server.edges.pages.browser import KNOWN, Visit
from server.edges.pages.wording import host_of
from server.errors import Refused


def enter(
    visit: Visit, account: Account, method: str, assurance: int, goes_to: str = "", authenticated: int | None = None
) -> Response:
    """The person is known: a session, and on to where they wanted to go. `authenticated` is when they have shown who they are, if not now."""
    sessions, before = visit.node.people.sessions, visit.session
    stronger = None
    if before is not None and before.account.id == account.id:
        stronger = sessions.rotate(before, [method], assurance, authenticated=authenticated)
    elif before is not None:
        visit.node.people.sign_out(before, visit.address)
    _session, cookie = stronger or sessions.open(account, [method], assurance, authenticated=authenticated)
    visit.enter(cookie)
    visit.keep(KNOWN, visit.node.people.browsers.cookie(visit.asking, account.id), SECONDS)
    return visit.redirect(goes_to or visit.goes_to)


def early_page(visit: Visit, template: str, status: int, **values: Any) -> Response:
    """A page by which somebody signs in: its form answers to this browser, not to who was signed in before."""
    known: dict[str, Any] = {
        "faults": {},
        "fault": "",
        "email": visit.value("email").strip(),
        "goes_to": visit.goes_to,
        "person": None,
    }
    return visit.page(template, status, **{**known, "csrf": visit.early_csrf, "again": visit.session is not None, **values})


def sign_in_form(visit: Visit, status: int = 200, **values: Any) -> Response:
    hospitals = visit.node.hospital.providers
    return early_page(visit, "sign_in.html", status, asker=_asker(visit), hospitals=hospitals, **values)


def credential(text: str) -> dict[str, Any]:
    """What a browser says of a passkey (WebAuthn section 5.1), as our script sends it. Raises `Refused`."""
    try:
        found = orjson.loads(text)
    except orjson.JSONDecodeError:
        found = None
    if not isinstance(found, dict):
        raise Refused("the passkey said nothing that can be read; try again")
    return found


def _asker(visit: Visit) -> str:
    """The app on whose behalf somebody signs in, by its name and where it is; empty where that is not why."""
    where, _, request_id = visit.goes_to.rpartition("/")
    asked = visit.node.authorizing.asked(request_id) if where == "/authorize" else None
    return f"{asked.client.name} ({host_of(asked.redirect_uri)})" if asked is not None else ""

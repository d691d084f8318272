"""What is shared with somebody who has an account here: opened without the link, by who signs in with the e-mail address that it is for."""

from typing import Any

from starlette.responses import Response

from profiles.audit_event import REST_SEARCH, AuditedEntity
from server.access.people import accounts
from server.edges import context
from server.edges.pages import shared
from server.edges.pages.browser import Visit
from server.edges.pages.showing import sentence, waiting
from server.edges.pages.wording import browser_of
from server.errors import NotFound, TooManyAttempts
from server.work.portal.sharing import Coming, PasscodeRefused


def overview(visit: Visit) -> Response:
    """`GET /shared`"""
    return _overview(visit)


def open_(visit: Visit) -> Response:
    """`POST /shared/{share}/open`: an opening as by the link, by somebody who is known. What this browser has opened already is none more."""
    id_, person = visit.request.path_params["share"], visit.person
    if shared.is_opened(visit, id_):
        return visit.redirect(f"/share/{id_}/view")
    agent = visit.request.headers.get("user-agent", "")
    coming = Coming(
        (person.account.name or person.account.email)[:80], browser_of(agent), visit.address, context.request_id(visit.request)
    )
    try:
        share, _opening, cookie = visit.node.sharing.open_as(id_, person.account, visit.value("passcode")[:100], coming)
    except PasscodeRefused as error:
        return _overview(visit, error.http_status, faults={id_: sentence(error.detail)})
    except TooManyAttempts as error:
        return _overview(visit, error.http_status, faults={id_: waiting(error)})
    except NotFound as error:
        return _overview(visit, error.http_status, fault=sentence(error.detail))
    return shared.begun(visit, share, cookie)


def _overview(visit: Visit, status: int = 200, **values: Any) -> Response:
    with visit.node.database.read() as connection:
        decision = visit.decided(connection)
        found = visit.node.sharing.addressed(connection, visit.person.account)
        by = {each.account: accounts.find(connection, each.account) for each in found}
    told = [{"share": each, "by": made.name if (made := by[each.account]) is not None else ""} for each in found]
    context.trusted(visit.request, decision)
    context.told(
        visit.request,
        "query",
        REST_SEARCH,
        patients={each.patient for each in found},
        entities=(AuditedEntity(query=b"shares"),),
        rest=False,
    )
    return visit.page("addressed.html", status, shares=told, **{"faults": {}, "fault": "", **values})

"""Deleting one's account: what ends and what stays is said first, and done only by who has just signed in."""

import contextlib

from starlette.responses import Response

from server.access.people import leaving
from server.edges.pages.browser import Visit
from server.edges.pages.showing import translated as _
from server.errors import Conflict
from server.records import brought_in


def leave(visit: Visit) -> Response:
    """`GET` and `POST /account/leave`"""
    account = visit.person.account
    leaving.require_may(account)
    if visit.request.method == "GET" or not visit.value("sure"):
        with visit.node.database.read() as connection:
            ends = leaving.what_ends(connection, account)
        fault = "" if visit.request.method == "GET" else _("Tick the box if you are sure.")
        return visit.page("leave.html", 400 if fault else 200, ends=ends, fault=fault)
    with visit.node.database.read() as connection:
        waiting = [each for each in brought_in.of_account(connection, account.id) if each.state in ("open", "reading", "waiting")]
    visit.node.people.leaving.leave(visit.person, visit.address)
    for each in waiting:
        with contextlib.suppress(Conflict):  # it is being taken in just now: it is the hospital's
            visit.node.bringing_in.cancel(each.id, account, visit.address)
    visit.leave()
    return visit.page("left.html", person=None)

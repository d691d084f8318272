"""Who can sign in, for administrators: finding and adding people, their roles, locking them out and letting them in again."""

from typing import Any, Final

from starlette.responses import Response

from server.access.people import accounts
from server.access.people.administering import require_administrator
from server.access.people.profile import plain_name
from server.edges.pages.browser import Visit
from server.edges.pages.showing import sentence
from server.edges.pages.showing import translated as _
from server.errors import Conflict, NotFound, Refused
from server.languages import marked

ROLES: Final = marked(
    {
        "patient": "Patient", "proxy": "Carer", "practitioner": "Physician", "staff": "Staff of the site", "administrator": "Administrator",
    }
)  # fmt: skip
_MOST: Final = 50


def overview(visit: Visit) -> Response:
    """`GET /staff/people`, with `search`."""
    require_administrator(visit.person.account)
    return _overview(visit)


def add(visit: Visit) -> Response:
    """`POST /staff/people`: the person is invited by e-mail; where no e-mail leaves, a password for once is shown."""
    require_administrator(visit.person.account)
    email, name, role = visit.value("email").strip(), visit.value("full-name").strip(), visit.value("role")
    faults = {}
    try:
        name = plain_name(name)
    except Refused as error:
        faults["full-name"] = sentence(error.detail)
    try:
        email = accounts.plain_email(email)
    except Refused as error:
        faults["email"] = sentence(error.detail)
    if role not in ROLES:
        faults["role"] = _("Choose what the person is here.")
    if faults:
        return _overview(visit, 400, faults=faults)
    try:
        made, once = visit.node.people.administering.add(visit.person, email, name, role, visit.address)
    except (Conflict, Refused) as error:
        return _overview(visit, error.http_status, faults={"email": sentence(error.detail)})
    if once:
        return visit.page("once.html", account=made, once=once)
    return visit.done(f"/staff/people/{made.id}", "added")


def one(visit: Visit) -> Response:
    """`GET /staff/people/{account}`"""
    require_administrator(visit.person.account)
    return _one(visit)


def role(visit: Visit) -> Response:
    """`POST /staff/people/{account}/role`"""
    return _changed(
        visit, "role", lambda id_: visit.node.people.administering.become(visit.person, id_, visit.value("role"), visit.address)
    )


def lock(visit: Visit) -> Response:
    """`POST /staff/people/{account}/lock`"""
    return _changed(visit, "locked", lambda id_: visit.node.people.administering.disable(visit.person, id_, visit.address))


def unlock(visit: Visit) -> Response:
    """`POST /staff/people/{account}/unlock`"""
    return _changed(visit, "unlocked", lambda id_: visit.node.people.administering.enable(visit.person, id_, visit.address))


def reset(visit: Visit) -> Response:
    """`POST /staff/people/{account}/reset`: a password that works once, shown once."""
    require_administrator(visit.person.account)
    try:
        once = visit.node.people.administering.reset(visit.person, _account(visit).id, visit.address)
    except Refused as error:
        return _one(visit, error.http_status, sentence(error.detail))
    return visit.page("once.html", account=_account(visit), once=once)


def _changed(visit: Visit, what: str, change: Any) -> Response:
    require_administrator(visit.person.account)
    id_ = _account(visit).id
    try:
        change(id_)
    except Refused as error:
        return _one(visit, error.http_status, sentence(error.detail))
    return visit.done(f"/staff/people/{id_}", what)


def _account(visit: Visit) -> accounts.Account:
    found = visit.node.people.account(visit.request.path_params["account"])
    if found is None:
        raise NotFound("there is no such account")
    return found


def _overview(visit: Visit, status: int = 200, faults: dict[str, str] | None = None) -> Response:
    search = visit.request.query_params.get("search", "")[:100]
    with visit.node.database.read() as connection:
        found = accounts.search(connection, search, _MOST + 1)
    given = {name: visit.value(name) for name in ("email", "full-name", "role")}
    return visit.page(
        "staff_people.html",
        status,
        people=found[:_MOST],
        more=len(found) > _MOST,
        search=search,
        roles=_roles(),
        faults=faults or {},
        given=given,
    )


def _one(visit: Visit, status: int = 200, fault: str = "") -> Response:
    account = _account(visit)
    return visit.page(
        "staff_person.html", status, account=account, roles=_roles(), is_self=account.id == visit.person.account.id, fault=fault,
        browsers=len(visit.node.people.sessions.of(account.id)), done=visit.take_done(),
    )  # fmt: skip


def _roles() -> dict[str, str]:
    return {kind: _(said) for kind, said in ROLES.items()}
